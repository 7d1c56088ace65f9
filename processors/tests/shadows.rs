//! What `adaptive` foresees of its profiles: against what leaves, over random worlds and profiles, and over a swap.

#![allow(clippy::unwrap_used)] // outside of #[test] functions too, a test fails by panicking

#[path = "../src/measure/sample.rs"]
mod sample;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::{Key, Value, parse};
use phoenix_pipeline::estimates::{ProfileEstimate, Thinning};
use phoenix_pipeline::explain::Question;
use phoenix_pipeline::{ComponentId, Context, Delivery, Marks, Processor, Site};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::Batch;
use proptest::prelude::*;
use sample::{Process, scrape};

/// The processors the profiles are made of.
const MEMBERS: &str = r#"
priority: { rules: [ { class: critical, match: { process.executable.name: [p3] } }, { class: low, match: { process.executable.name: [p1] } } ] }
topk: { k: 5 }
topk/tight: { k: 2, rank_by: [process.cpu.time] }
filter: { metrics: { exclude: { match_type: strict, metric_names: [process.threads] } } }
aggregate: {}
aggregate/all: { fold: all }
aggregate/one: { group_by: [], max_groups: 3 }
aggregate/owner: { group_by: [process.executable.name, process.pid], max_groups: 4 }
"#;

const PROFILES: [(&str, &str); 9] = [
    ("open", "[]"),
    ("few", "[priority, topk, aggregate]"),
    ("fewer", "[priority, topk/tight, adaptive_filter, aggregate/one]"),
    ("small", "[adaptive_filter, aggregate]"),
    ("none", "[aggregate/all]"),
    ("crowded", "[topk/tight, aggregate/owner]"),
    ("edited", "[filter, topk, aggregate]"),
    // These begin as another one does.
    ("plain", "[priority, aggregate]"),
    ("fewest", "[priority, topk, adaptive_filter, aggregate/one]"),
];

fn site() -> Site {
    site_at("")
}

/// With `adaptive_filter` at that pressure, or at the default one.
fn site_at(pressure: &str) -> Site {
    let members = parse("members.yaml", &format!("adaptive_filter: {{ {pressure} }}{MEMBERS}")).unwrap();
    let find = move |id: &ComponentId| -> Value {
        let named = |(key, _): &&(Key, Value)| key.name == id.as_str();
        members.as_map().unwrap().iter().find(named).unwrap().1.clone()
    };
    let mut site = Site::for_test("adaptive");
    site.siblings = Some(Arc::new(move |id, site| {
        let factory = PROCESSORS.iter().find(|factory| factory.answers_to(id.kind())).unwrap();
        (factory.build)(&find(id), &Site { id: id.clone(), siblings: None, ..site.clone() })
    }));
    site
}

/// The stage with all profiles, of which that one is at work.
fn adaptive(site: &Site, active: &str, more: &str) -> Box<dyn Processor> {
    let profiles: Vec<String> = PROFILES.iter().map(|(name, members)| format!("{name}: {members}")).collect();
    let text = format!("{{ profile: {active}, profiles: {{ {} }} {more} }}", profiles.join(", "));
    let factory = PROCESSORS.iter().find(|factory| factory.name == "adaptive").unwrap();
    (factory.build)(&parse("adaptive.yaml", &text).unwrap(), site).unwrap()
}

fn run(stage: &mut dyn Processor, batch: &mut Batch, now: Instant) {
    let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
    stage.process(batch, &mut Context { now, delivery: &mut delivery, marks: &mut marks });
}

fn snapshot(site: &Site) -> Arc<Thinning> {
    Arc::clone(&site.estimates.thinning.list().first().unwrap().snapshot)
}

fn profile<'s>(snapshot: &'s Thinning, name: &str) -> &'s ProfileEstimate {
    snapshot.profiles.iter().find(|profile| &*profile.name == name).unwrap()
}

/// Processes that work in bursts, end and give way to others.
#[derive(Clone, Debug)]
struct World {
    processes: Vec<Process>,
    /// By scrape: a slot, and whether a new process takes it; and what it uses.
    events: Vec<Vec<(prop::sample::Index, bool, u32)>>,
    /// Whether processes send their utilization.
    utilization: bool,
    pressure: f64,
}

fn worlds() -> impl Strategy<Value = World> {
    let event = (any::<prop::sample::Index>(), prop::bool::weighted(0.3), 0u32..1_000_000);
    let events = prop::collection::vec(prop::collection::vec(event, 0..12), 2..10);
    let pressure = prop_oneof![Just(0.0), Just(0.2), Just(1.0), 0.0..1.0f64];
    (1usize..16, events, any::<bool>(), pressure).prop_map(|(count, events, utilization, pressure)| {
        let process = |pid: usize| Process::new(pid as i64, &format!("p{}", pid % 7), -100);
        World { processes: (0..count).map(process).collect(), events, utilization, pressure }
    })
}

impl World {
    /// The scrapes, 10 seconds apart.
    fn scrapes(mut self) -> Vec<Batch> {
        let mut next = 1_000;
        let mut scrapes = Vec::new();
        // One always works: by it `aggregate` knows what utilizations are shares of.
        let mut init = Process::new(999, "init", -100);
        for (i, events) in self.events.iter().enumerate() {
            let second = 10 * i as i64;
            self.processes.iter_mut().for_each(|process| process.utilization = self.utilization.then_some(0.0));
            for (slot, is_new, use_) in events {
                let slot = slot.get_mut(&mut self.processes);
                if *is_new {
                    next += 1;
                    *slot = Process::new(next, &format!("p{}", next % 11), second - 5);
                }
                let used = f64::from(*use_) / 1e5;
                slot.cpu += used;
                // Of four CPUs within ten seconds.
                slot.utilization = self.utilization.then(|| slot.utilization.unwrap_or_default() + used / 40.0);
                slot.memory = i64::from(*use_);
                slot.io += i64::from(*use_) / 3;
            }
            init.cpu += 0.5;
            init.utilization = self.utilization.then_some(0.5 / 40.0);
            scrapes.push(scrape("host", second, self.processes.iter().chain([&init])));
        }
        scrapes
    }
}

/// Series that hold a value.
fn series(batch: &Batch) -> impl Iterator<Item = u64> {
    batch.series().filter(|point| !point.no_recorded_value()).map(|point| point.series())
}

/// As far as a sketch may be off in some ten thousand looks: four standard errors, and two hashes of few that collide.
fn near(estimate: f64, truth: f64) -> bool {
    (estimate - truth).abs() <= 4.0 * 0.0082 * truth + 2.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_foreseen_is_what_leaves(world in worlds()) {
        let pressure = format!("pressure: {}", world.pressure);
        let scrapes = world.scrapes();
        let began = Instant::now();
        let mut foreseen: Vec<Arc<Thinning>> = Vec::new();
        let mut truths = Vec::new();
        for (active, _) in PROFILES {
            let site = site_at(&pressure);
            let mut stage = adaptive(&site, active, "");
            let (mut input, mut output, mut batches) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
            for (i, batch) in scrapes.iter().enumerate() {
                let mut batch = batch.clone();
                input.extend(series(&batch));
                run(stage.as_mut(), &mut batch, began + Duration::from_secs(10 * i as u64));
                output.extend(series(&batch));
                let told = snapshot(&site);
                let own = profile(&told, active);
                batches.push((series(&batch).collect::<BTreeSet<_>>(), own.individual + own.grouped));
            }
            for (i, (series, told)) in batches.iter().enumerate() {
                prop_assert_eq!(series.len() as u64, *told, "{} at {}", active, i);
            }
            let snapshot = snapshot(&site);
            prop_assert!(near(snapshot.input.series, input.len() as f64), "{} for {}", snapshot.input.series, input.len());
            prop_assert!(near(snapshot.output.series, output.len() as f64));
            let own = profile(&snapshot, active).output.series;
            prop_assert!(near(own, output.len() as f64), "{active}: {own} foreseen, {} left", output.len());
            truths.push(output.len() as f64);
            foreseen.push(snapshot);
        }
        // Whichever is at work, it is said of every profile what leaves while that one is.
        for snapshot in &foreseen {
            for ((name, _), truth) in PROFILES.iter().zip(&truths) {
                let told = profile(snapshot, name).output.series;
                prop_assert!(near(told, *truth), "{name} under {}: {told} foreseen, {truth} left", snapshot.active);
            }
        }
    }
}

/// Scrapes over many epochs of a short window, in a new order each time, with processes that end, come back and begin.
fn restless() -> Vec<Batch> {
    let mut next = 100;
    let mut processes: Vec<Process> = (0..40).map(|pid| Process::new(pid, &format!("p{}", pid % 7), -100)).collect();
    let mut away = Vec::new();
    let scrape = |i: usize| {
        let count = processes.len();
        if i.is_multiple_of(4) {
            processes.rotate_left(i % count);
        }
        if i.is_multiple_of(3) {
            away.push(processes.remove(i * 5 % count));
        }
        if i.is_multiple_of(5) && i > 20 {
            processes.insert(i % 10, away.remove(0));
        }
        if i.is_multiple_of(6) {
            next += 1;
            processes.push(Process::new(next, &format!("p{}", next % 11), 10 * i as i64 - 5));
        }
        for process in &mut processes {
            process.cpu += 1.0 / (process.pid + 1) as f64;
            process.utilization = Some(1.0 / (process.pid + 1) as f64 / 40.0);
            process.memory = 1_000_000 / (process.pid + 1);
        }
        scrape("host", 10 * i as i64, &processes)
    };
    (1..=60).map(scrape).collect()
}

/// What is remembered of resources must hold only as long as it is true: a profile that is followed says at every scrape
/// what it says while it is at work, and that is what leaves.
#[test]
fn over_many_epochs_each_profile_is_foreseen_as_it_is() {
    // Two scrapes an epoch.
    const WINDOW: &str = ", estimates: { window: 200s }";
    let (scrapes, began) = (restless(), Instant::now());
    let told = |active: &str| {
        let site = site();
        let mut stage = adaptive(&site, active, WINDOW);
        let mut left: Vec<BTreeSet<u64>> = Vec::new();
        let one = |(i, batch): (usize, &Batch)| {
            let mut batch = batch.clone();
            run(stage.as_mut(), &mut batch, began + Duration::from_secs(10 * i as u64));
            left.push(series(&batch).collect());
            let told = snapshot(&site);
            // What left in the nine epochs before this one, and in this one.
            let within = left.get((i / 2 * 2).saturating_sub(18)..).unwrap();
            let truth = within.iter().flatten().collect::<BTreeSet<_>>().len() as f64;
            let own = profile(&told, active);
            assert!(near(own.output.series, truth), "{active} at {i}: {own:?} foreseen, {truth} left");
            assert_eq!(own.individual + own.grouped, left.last().unwrap().len() as u64, "{active} at {i}");
            told
        };
        scrapes.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    let reference = told("few");
    for (active, _) in PROFILES.iter().filter(|(name, _)| *name != "few") {
        for (i, (own, other)) in told(active).iter().zip(&reference).enumerate() {
            let (own, other) = (profile(own, active), profile(other, active));
            let counts = |of: &ProfileEstimate| (of.individual, of.grouped);
            assert_eq!(counts(own), counts(other), "{active} at {i}");
            assert!(near(own.output.series, other.output.series), "{active} at {i}: {own:?}, {other:?}");
            let shares =
                |of: &ProfileEstimate| [of.attribution.cpu, of.attribution.memory].map(Option::unwrap_or_default);
            let close = shares(own).into_iter().zip(shares(other)).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close, "{active} at {i}: {own:?}, {other:?}");
        }
    }
}

/// A host on which the busy and the idle are the same for long, and what is needed to run it.
struct Host {
    processes: Vec<Process>,
    second: i64,
    began: Instant,
}

impl Host {
    fn new() -> Self {
        let process = |pid: i64| Process::new(pid, &format!("p{}", pid % 7), -100_000);
        Host { processes: (0..60).map(process).collect(), second: 0, began: Instant::now() }
    }

    /// The next scrape through the stage: which processes left it by themselves.
    fn scrape(&mut self, stage: &mut dyn Processor, busy: impl Fn(i64) -> f64) -> BTreeSet<i64> {
        for process in &mut self.processes {
            process.cpu += busy(process.pid);
            process.io += busy(process.pid) as i64;
            process.memory = (busy(process.pid) * 1e6) as i64;
        }
        let mut batch = scrape("host", self.second, &self.processes);
        run(stage, &mut batch, self.began + Duration::from_secs(self.second as u64));
        self.second += 10;
        let live = batch.series().filter(|point| !point.no_recorded_value());
        live.filter_map(|point| match point.metric().resource().attributes().get("process.pid") {
            Some(phoenix_telemetry::AnyValue::Int(pid)) => Some(pid),
            _ => None,
        })
        .collect()
    }
}

/// Puts another profile to work, the way the lane does.
fn choose(site: &Site, stage: &mut dyn Processor, host: &Host, profile: &'static str) {
    let now = host.began + Duration::from_secs(host.second as u64);
    let mut flush = || {
        let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
        stage.flush(&mut Batch::default(), &mut Context { now, delivery: &mut delivery, marks: &mut marks }, false);
    };
    // One that the lane has not run yet is not to be chosen for.
    flush();
    let profiles = site.profiles.clone();
    let asks = std::thread::spawn(move || profiles.set(profile, None));
    let is_at_work = || site.profiles.list().first().is_some_and(|state| &*state.active == profile);
    for _ in 0..10_000 {
        if is_at_work() {
            break;
        }
        flush();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(is_at_work(), "{profile} is not taken up");
    asks.join().unwrap().unwrap();
}

#[test]
fn a_switch_starts_with_the_shadows_state_and_leaves_its_own_behind() {
    let site = site();
    let mut stage = adaptive(&site, "few", "");
    let mut host = Host::new();
    // Old totals mislead whoever begins now: the lifetime's leaders are not today's.
    host.processes.iter_mut().filter(|process| process.pid >= 50).for_each(|process| process.cpu = 90_000.0);
    let today = |pid: i64| if pid < 2 { 9.0 } else { 0.001 };
    let few = (0..5).map(|_| host.scrape(stage.as_mut(), today)).last().unwrap();
    let foreseen = profile(&snapshot(&site), "crowded").individual;
    choose(&site, stage.as_mut(), &host, "crowded");
    // `topk/tight` was never at work, and knows who leads since the last scrape.
    let individual = host.scrape(stage.as_mut(), today);
    assert!(individual.contains(&0) && individual.contains(&1), "{individual:?}");
    assert!(individual.iter().all(|pid| *pid < 50), "{individual:?}");
    let explained = site.explain.answer(&Question::Pid(30));
    assert!(explained.contains("topk/tight"), "what it decided as a shadow is explained now: {explained}");
    assert_eq!(profile(&snapshot(&site), "crowded").individual, foreseen);
    assert!(
        !own_counts(&site, "phoenix_swap_pieces_total", &["topk", "discarded"]),
        "what the other profile knew lives on"
    );
    choose(&site, stage.as_mut(), &host, "few");
    assert_eq!(host.scrape(stage.as_mut(), today), few);
    assert!(!own_counts(&site, "phoenix_swap_pieces_total", &["topk/tight", "discarded"]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Stages that profiles begin with alike are there once, and which of them are at work changes: whatever was chosen
    /// before, every profile is foreseen as if nothing had ever been.
    #[test]
    fn switches_leave_no_trace_in_what_is_foreseen(
        choices in prop::collection::vec(prop::sample::select(vec!["open", "few", "plain", "fewest"]), 1..12),
        reload in 0usize..12,
    ) {
        // The others have members of the same ids behind other stages, and state follows ids.
        let told = |switches: bool| {
            let site = site();
            let (mut stage, mut host) = (adaptive(&site, "few", ""), Host::new());
            let mut counts = Vec::new();
            for (i, choice) in choices.iter().enumerate() {
                if switches {
                    choose(&site, stage.as_mut(), &host, choice);
                    if i == reload {
                        let mut next = adaptive(&site, "few", "");
                        next.adopt(stage.as_mut());
                        stage = next;
                    }
                }
                for round in 0..2 {
                    // Another one is busy each time.
                    let busy = |pid: i64| if pid % 12 == (2 * i as i64 + round) % 12 { 5.0 } else { 1.0 / (pid + 1) as f64 };
                    host.scrape(stage.as_mut(), busy);
                    let told = snapshot(&site);
                    let of = |name| {
                        let profile = profile(&told, name);
                        (name, profile.individual, profile.grouped, profile.attribution.cpu.map(|share| (share * 1e9) as i64))
                    };
                    counts.push((i, round, ["open", "few", "fewer", "plain", "fewest"].map(of)));
                }
            }
            counts
        };
        prop_assert_eq!(told(true), told(false));
    }
}

/// Whether an own counter with these labels is above zero.
fn own_counts(site: &Site, name: &str, labels: &[&'static str]) -> bool {
    let own = site.metrics.gather(1, phoenix_pipeline::Level::Detailed);
    let mut points = own.series().filter(|point| point.metric().name() == name);
    points.any(|point| {
        let has = |label| point.attributes().iter().any(|(_, value)| value == phoenix_telemetry::AnyValue::Str(label));
        labels.iter().all(|label| has(label)) && point.value().is_some_and(|value| value.as_f64() > 0.0)
    })
}

#[test]
fn pressure_from_outside_reaches_every_profile_and_attribution_is_a_share() {
    let site = site();
    let mut stage = adaptive(&site, "few", "");
    let mut host = Host::new();
    let tail = |pid: i64| 100.0 / (pid + 1) as f64;
    let mut told = Vec::new();
    for pressure in [Some(0.0), Some(1.0), None] {
        host.scrape(stage.as_mut(), tail);
        let id = ComponentId::new("adaptive");
        assert!(site.profiles.press("metrics", &id, pressure));
        assert!(!site.profiles.press("metrics", &ComponentId::new("other"), pressure));
        for _ in 0..15 {
            host.scrape(stage.as_mut(), tail);
        }
        told.push(profile(&snapshot(&site), "small").individual);
    }
    assert!(told[1] < told[2] && told[2] < told[0], "{told:?}");
    let snapshot = snapshot(&site);
    let shares = |name| profile(&snapshot, name).attribution;
    assert_eq!((shares("open").cpu, shares("open").memory, shares("open").io), (Some(1.0), Some(1.0), Some(1.0)));
    assert_eq!((shares("none").cpu, shares("none").memory), (Some(0.0), Some(0.0)));
    let total: f64 = (0..60).map(tail).sum();
    // Two who lead by CPU, as `topk/tight` says.
    let two = shares("crowded").cpu.unwrap();
    assert!((two - (tail(0) + tail(1)) / total).abs() < 1e-9, "{two}");
}

#[test]
fn without_shadows_only_the_profile_at_work_is_listed() {
    let site = site();
    let mut stage = adaptive(&site, "few", ", estimates: { shadows: false }");
    Host::new().scrape(stage.as_mut(), |_| 1.0);
    let snapshot = snapshot(&site);
    assert_eq!(snapshot.profiles.iter().map(|profile| &*profile.name).collect::<Vec<_>>(), ["few"]);
    assert_eq!((&*snapshot.active, snapshot.points_in), ("few", 540));
}
