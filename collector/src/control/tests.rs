//! The loop on a clock that is moved by hand, with a stage that does what it is told.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use phoenix_pipeline::config::parse;
use phoenix_pipeline::estimates::{
    Attribution, Cardinality, Count, MakerEstimate, MemoryUse, ProfileEstimate, Publisher, Share, Thinning,
};
use phoenix_pipeline::{AttributeFold, Level, Publish, Switch};
use serde_json::Value;

use super::*;

/// A stage that takes every profile up at once.
struct Fake {
    names: Vec<Arc<str>>,
    active: Arc<Mutex<Arc<str>>>,
    pressure: Mutex<Option<f64>>,
    folded: Mutex<Vec<Arc<str>>>,
    summed_over: Mutex<Vec<AttributeFold>>,
    broken: Mutex<bool>,
}

impl Switch for Fake {
    fn names(&self) -> Vec<Arc<str>> {
        self.names.clone()
    }
    fn active(&self) -> Arc<str> {
        self.active.lock().unwrap().clone()
    }
    fn press(&self, pressure: Option<f64>) {
        *self.pressure.lock().unwrap() = pressure;
    }
    fn fold(&self, executables: &[Arc<str>], attributes: &[AttributeFold]) {
        *self.summed_over.lock().unwrap() = attributes.to_vec();
        *self.folded.lock().unwrap() = executables.to_vec();
    }
    fn prepare(&self, profile: &str) -> Result<Option<Publish>, String> {
        if *self.broken.lock().unwrap() {
            return Err("no such file".into());
        }
        let (active, name) = (Arc::clone(&self.active), Arc::from(profile));
        Ok(Some(Box::new(move || {
            *active.lock().unwrap() = name;
            let (done, taken) = sync_channel(1);
            done.send(()).unwrap();
            taken
        })))
    }
}

const PLAIN: &str = "budget: { series: 1000 }";

fn place(text: &str, directory: Option<&Path>) -> Place {
    let text = format!("{{ profiles: {{ a: [x], b: [x], c: [x] }}, {text} }}");
    let config: adaptive::Config = read(&parse("adaptive.yaml", &text).unwrap()).unwrap();
    let names: Vec<Arc<str>> = config.profiles.0.iter().map(|(name, _)| name.as_str().into()).collect();
    let saved = directory.and_then(|directory| saved::read(directory, &names));
    Place {
        pipeline: "metrics".into(),
        processor: ComponentId::new("adaptive"),
        config,
        names,
        directory: directory.map(Into::into),
        saved,
    }
}

struct Bench {
    world: World,
    desk: Desk,
    memory: Memory,
    fake: Arc<Fake>,
    publisher: Publisher<Thinning>,
    counted: Publisher<Cardinality>,
    /// New series so far, all of one executable.
    new: f64,
    stage: Steered,
}

impl Bench {
    fn new(place: Place) -> Bench {
        let clock = Clock::manual(1_000_000_000);
        let (estimates, profiles) = (Estimates::default(), Profiles::new(clock.clone()));
        let metrics = Metrics::new(&clock, Vec::new());
        let world = World { clock, metrics, estimates, profiles };
        let names = place.names.clone();
        let active = Arc::new(Mutex::new(Arc::clone(&names[0])));
        let fake = Arc::new(Fake {
            names,
            active,
            pressure: Mutex::default(),
            folded: Mutex::default(),
            summed_over: Mutex::default(),
            broken: Mutex::default(),
        });
        let switch: Arc<dyn Switch> = Arc::clone(&fake) as Arc<dyn Switch>;
        world.profiles.register(&place.pipeline, &place.processor, &place.names[0], &switch);
        let publisher = world.estimates.thinning.publisher(&place.pipeline, &place.processor);
        let counted = world.estimates.cardinality.publisher(&place.pipeline, &ComponentId::new("cardinality"));
        let desk = Desk::default();
        let memory = Memory::of_this_process(world.estimates.clone());
        let stage = Steered::new(place, &world, &desk);
        Bench { world, desk, memory, fake, publisher, counted, new: 0.0, stage }
    }

    /// Ten seconds later the stage has measured this under each profile, and the loop looks.
    fn after(&mut self, series: [f64; 3]) -> String {
        self.world.clock.advance(Duration::from_secs(10));
        let count = |series| Count { series, error: 0.0081 };
        let profile = |(name, series): (&Arc<str>, &f64)| ProfileEstimate {
            name: Arc::clone(name),
            output: count(*series),
            attribution: Attribution { cpu: Some(0.9), ..Attribution::default() },
            ..ProfileEstimate::default()
        };
        self.publisher.publish(Thinning {
            at: self.world.clock.now(),
            time: 0,
            window: 300.0,
            input: count(series[0]),
            output: count(series[0]),
            newest_points: series[0] as u64,
            points_in: self.world.clock.unix_nanos() / 1_000_000,
            bytes_in: self.world.clock.unix_nanos() / 10_000,
            points_out: 0,
            bytes_out: 0,
            active: self.fake.active(),
            profiles: self.fake.names.iter().zip(&series).map(profile).collect(),
        });
        self.look()
    }

    /// The same, with so many new series of one metric by one executable.
    fn leaking(&mut self, new: f64) -> String {
        self.new += new;
        let share = |name: &str| Share { name: name.into(), series: 100.0, new_per_minute: 0.0, new: self.new };
        self.counted.publish(Cardinality {
            // The clock moves on by ten seconds before anybody looks.
            at: self.world.clock.now() + Duration::from_secs(10),
            time: 0,
            series: Count::default(),
            new_per_minute: 0.0,
            gone_per_minute: 0.0,
            sampled: 1,
            metrics: vec![share("m")],
            attributes: Vec::new(),
            keys: Vec::new(),
            makers: vec![MakerEstimate {
                metric: "m".into(),
                name_of: "process.executable.name",
                name: "leaky".into(),
                share: 1.0,
            }],
        });
        self.after(LOW)
    }

    fn look(&mut self) -> String {
        self.stage.step(&self.world, &self.memory, &self.desk);
        self.fake.active().to_string()
    }

    fn silent(&mut self, seconds: u64) -> String {
        self.world.clock.advance(Duration::from_secs(seconds));
        self.look()
    }

    fn newest(&self) -> Value {
        self.desk.decisions(1)["decisions"][0].clone()
    }

    fn total(&self) -> u64 {
        self.desk.decisions(1)["total"].as_u64().unwrap()
    }

    fn state(&self) -> Value {
        self.desk.state(&self.world.clock, &self.world.profiles, "0")["stages"][0].clone()
    }

    fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let batch = self.world.metrics.gather(0, Level::Detailed);
        let has = |point: &phoenix_telemetry::Point<'_>| {
            point.attributes().iter().any(|(_, value)| format!("{value:?}").contains(&format!("{label:?}")))
        };
        let found = batch.series().find(|point| point.metric().name() == name && (label.is_empty() || has(point)))?;
        Some(found.value()?.as_f64())
    }
}

const LOW: [f64; 3] = [500.0, 400.0, 200.0];
const HIGH: [f64; 3] = [3000.0, 900.0, 300.0];

#[test]
fn the_budget_is_held_and_every_decision_is_metric_and_entry() {
    let mut bench = Bench::new(place(PLAIN, None));
    assert_eq!(bench.after(LOW), "a");
    let entries = bench.total();
    assert_eq!((bench.after(LOW).as_str(), bench.total()), ("a", entries), "the same again is no entry");
    // Three times the budget is beyond its ceiling: nothing is waited for.
    assert_eq!(bench.after(HIGH), "b");
    let entry = bench.newest();
    assert_eq!(entry["id"], entries + 1);
    assert_eq!((&entry["kind"], &entry["before"], &entry["after"]), (&"tighten".into(), &"a".into(), &"b".into()));
    assert_eq!((&entry["applied"], &entry["emergency"]), (&true.into(), &"hard_ceiling".into()));
    assert_eq!((entry["series"]["steered"].as_f64(), entry["terms"]["error"].as_f64()), (Some(3000.0), Some(2.04)));
    assert!(entry["text"].as_str().unwrap().contains("a gives way to b: 3000 series for a budget of 1000"), "{entry}");
    assert_eq!(bench.metric("phoenix_control_switches_total", "tighten"), Some(1.0));
    assert_eq!(bench.metric("phoenix_control_budget", ""), Some(1000.0));
    assert_eq!(bench.metric("phoenix_control_emergency", "hard_ceiling"), Some(1.0));
    assert_eq!(bench.after(HIGH), "b", "the looser one would not fit");
    assert_eq!(bench.state()["guards"], serde_json::json!(["shadow_above"]));
    assert!(bench.metric("phoenix_control_held_total", "shadow_above") >= Some(1.0));
    let steps = (0..200).take_while(|_| bench.after(LOW) == "b").count();
    assert!((30..190).contains(&steps), "it relaxes in its time: {steps}");
    assert_eq!(bench.newest()["kind"], "relax");
    let state = bench.state();
    assert_eq!((&state["profile"], &state["wanted"], &state["age_seconds"]), (&"a".into(), &"a".into(), &0.0.into()));
    assert_eq!(state["switches"], serde_json::json!({ "tighten": 1, "relax": 1 }));
    assert!(state["profiles"][1]["cost_per_month"].is_number() && state["memory"].is_number(), "{state}");
    let history = bench.desk.history()["stages"][0].clone();
    let rows = history["rows"].as_array().unwrap();
    assert_eq!((rows.len(), rows[1][5].as_f64(), rows[2][5].as_f64()), (steps + 5, Some(0.0), Some(1.0)));
    assert!(bench.desk.cost()["stages"][0]["before"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_person_is_obeyed_and_it_is_known() {
    let mut bench = Bench::new(place(PLAIN, None));
    bench.after(LOW);
    bench.world.profiles.set("c", Some(Duration::from_secs(60))).unwrap();
    bench.look();
    let entry = bench.newest();
    assert_eq!((&entry["kind"], &entry["after"]), (&"manual".into(), &"c".into()));
    assert_eq!(bench.state()["manual"], serde_json::json!({ "profile": "c", "expires_in_seconds": 60.0 }));
    bench.world.profiles.set("a", None).unwrap();
    assert_eq!(bench.after(HIGH), "a", "even far above the budget");
    assert_eq!(bench.state()["conflict"], "manual_above_budget");
    bench.world.profiles.release().unwrap();
    assert_eq!(bench.look(), "b", "the controller acts at once when it may");
    assert_eq!(bench.state()["manual"], Value::Null);
}

#[test]
fn in_observe_only_nothing_is_changed_and_a_proposal_is_made_once() {
    let mut bench = Bench::new(place("budget: { series: 1000, observe_only: true }", None));
    bench.after(LOW);
    let entries = bench.total();
    (0..30).for_each(|_| assert_eq!(bench.after(HIGH), "a"));
    let entry = bench.newest();
    assert_eq!((&entry["kind"], &entry["applied"], &entry["after"]), (&"tighten".into(), &false.into(), &"b".into()));
    assert!(entry["text"].as_str().unwrap().contains("observed only"), "{entry}");
    assert!(bench.total() <= entries + 2, "{}", bench.desk.decisions(20));
    let state = bench.state();
    assert_eq!((&state["profile"], &state["wanted"]), (&"a".into(), &"b".into()));
    assert_eq!(*bench.fake.pressure.lock().unwrap(), None);
    assert_eq!(bench.metric("phoenix_control_switches_total", ""), None);
}

#[test]
fn without_estimates_all_stays_as_it_is_and_short_memory_is_acted_on() {
    let mut bench = Bench::new(place(PLAIN, None));
    assert_eq!(bench.silent(10), "a");
    assert_eq!(bench.state()["guards"], serde_json::json!(["missing"]));
    bench.after(HIGH);
    assert_eq!(bench.silent(61), "b");
    assert_eq!(bench.state()["guards"], serde_json::json!(["stale"]));
    let limiter = ComponentId::new("memory_limiter");
    let board = bench.world.estimates.memory.publisher(&"metrics".into(), &limiter);
    board.publish(MemoryUse { at: bench.world.clock.now(), used: 0.95 });
    assert_eq!(bench.silent(10), "c");
    let entry = bench.newest();
    assert_eq!((&entry["emergency"], &entry["kind"]), (&"memory".into(), &"tighten".into()));
    assert_eq!(*bench.fake.pressure.lock().unwrap(), Some(1.0));
}

#[test]
fn a_stage_that_measures_once_a_minute_is_not_called_stale_between() {
    let mut bench = Bench::new(place(PLAIN, None));
    let stale = serde_json::json!(["stale"]);
    bench.after(LOW);
    bench.silent(60);
    for minute in 0..6 {
        bench.after(LOW);
        assert_ne!(bench.state()["guards"], stale, "minute {minute}");
        bench.silent(40);
        bench.silent(15);
        assert_ne!(bench.state()["guards"], stale, "minute {minute}");
        // A minute and five seconds: by itself more than `stale_after`.
        bench.silent(10);
        assert!(minute < 3 || bench.state()["guards"] != stale, "minute {minute}");
    }
    bench.silent(180);
    assert_eq!(bench.state()["guards"], stale, "two that are missing are");
    bench.silent(600);
    bench.after(LOW);
    bench.after(LOW);
    bench.silent(70);
    bench.silent(70);
    assert_ne!(bench.state()["guards"], stale, "one gap says nothing of the others");
}

#[test]
fn an_explosion_is_told_and_what_is_permitted_is_done_and_taken_back() {
    let remediation = "remediation: { fold_executable: true, tighten_profile: true, expires_after: 5m }";
    let mut bench = Bench::new(place(&format!("{PLAIN}, {remediation}"), None));
    (0..60).for_each(|_| assert_eq!(bench.leaking(1.0), "a"));
    let steps = (0..30).take_while(|_| bench.leaking(200.0) == "a" && bench.fake.folded.lock().unwrap().is_empty());
    assert!(steps.count() < 12, "within two minutes");
    assert_eq!(*bench.fake.folded.lock().unwrap(), ["leaky".into()]);
    let log = bench.desk.decisions(10);
    let kinds: Vec<&str> = log["decisions"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds[..2], ["remediation", "explosion"], "{log}");
    assert_eq!(log["decisions"][1]["culprits"][0]["name"], "leaky");
    let state = bench.state();
    assert_eq!(
        (&state["explosions"][0]["metric"], &state["remediations"][0]["status"]),
        (&"m".into(), &"active".into())
    );
    assert_eq!(bench.metric("phoenix_explosion_active", ""), Some(1.0));
    assert_eq!(bench.metric("phoenix_remediation_active", "fold_executable"), Some(1.0));
    assert!(bench.metric("phoenix_risk_score", "").is_some() && state["forecast"]["series_per_minute"].is_number());
    // It goes on: a tighter profile, and none looser while that holds, though the looser one would fit.
    (0..13).for_each(|_| drop(bench.leaking(200.0)));
    assert_eq!(bench.leaking(200.0), "b");
    let log = bench.desk.decisions(20);
    let text = log.to_string();
    assert!(text.contains("no profile looser than b") && text.contains("a gives way to b"), "{log}");
    (0..20).for_each(|_| assert_eq!(bench.leaking(0.0), "b"));
    let back = (0..200).take_while(|_| bench.leaking(0.0) == "b").count();
    assert!(back < 199, "it is taken back, and what fits is relaxed to");
    assert!(bench.fake.folded.lock().unwrap().is_empty() && bench.state()["remediations"] == serde_json::json!([]));
    assert_eq!(bench.metric("phoenix_remediation_active", "fold_executable"), Some(0.0));
    assert_eq!(bench.metric("phoenix_explosion_excess_series", "m"), Some(0.0));
}

#[test]
fn one_scrape_is_one_observation() {
    let mut bench = Bench::new(place("budget: { series: 1000 }", None));
    bench.after(LOW);
    // A little above the budget needs confirmation: by another scrape, not by another look.
    assert_eq!(bench.after([1050.0, 900.0, 300.0]), "a");
    (0..5).for_each(|_| assert_eq!(bench.look(), "a"));
    assert_eq!(bench.after([1050.0, 900.0, 300.0]), "b");
}

#[test]
fn what_cannot_be_built_is_said_and_tried_again() {
    let mut bench = Bench::new(place(PLAIN, None));
    bench.after(LOW);
    *bench.fake.broken.lock().unwrap() = true;
    assert_eq!(bench.after(HIGH), "a");
    let entry = bench.newest();
    assert_eq!((&entry["kind"], &entry["applied"]), (&"failed".into(), &false.into()));
    assert!(entry["error"].as_str().unwrap().contains("no such file"));
    assert_eq!(bench.metric("phoenix_control_failures_total", ""), Some(1.0));
    *bench.fake.broken.lock().unwrap() = false;
    assert_eq!(bench.after(HIGH), "b");
}

#[test]
fn the_state_survives_a_restart_and_a_reload_that_does_not_touch_it() {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("control_adaptive");
    let mut bench = Bench::new(place(PLAIN, Some(&directory)));
    bench.after(HIGH);
    let again = place(PLAIN, Some(&directory));
    assert_eq!(again.saved.as_ref().map(|saved| saved.profile.as_str()), Some("b"), "written with the switch");
    let mut next = Bench::new(again);
    *next.fake.active.lock().unwrap() = "b".into();
    assert_eq!(next.after(LOW), "b");
    assert_eq!(next.state()["guards"][0], "emergency_lockout", "it remembers the emergency");
    // A reload with other prices keeps it, one with another budget does not.
    let cost = place("budget: { series: 1000 }, cost: { price: 1 }", None);
    next.stage = next.stage.reconfigured(cost, &next.world, &next.desk);
    next.after(LOW);
    assert_eq!(next.state()["guards"][0], "emergency_lockout");
    next.stage = next.stage.reconfigured(place("budget: { series: 900 }", None), &next.world, &next.desk);
    next.after(LOW);
    assert_ne!(next.state()["guards"][0], "emergency_lockout");
    // Without a budget it lets go, and is still watched.
    next.stage = next.stage.reconfigured(place("profile: a", None), &next.world, &next.desk);
    next.after(HIGH);
    assert_eq!((&next.state()["controlled"], next.state()["series"]["in"].as_f64()), (&false.into(), Some(3000.0)));
    assert_eq!(*next.fake.pressure.lock().unwrap(), None);
    next.stage.let_go(&next.world, &next.desk);
    assert_eq!(next.desk.history()["stages"], serde_json::json!([]));
}
