use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::measure::sample::{Process, SECOND, at, scrape};
use crate::testing::{build, counted, mistakes, value};
use phoenix_pipeline::explain::Question;
use phoenix_pipeline::{Delivery, Entity};
use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape};
use proptest::prelude::*;

fn run(stage: &mut dyn Processor, batch: &mut Batch, marks: &mut Marks) {
    let mut delivery = Delivery::none();
    stage.process(batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks });
}

/// The pids that stay individual after a batch.
fn kept(stage: &mut dyn Processor, batch: &mut Batch) -> BTreeSet<i64> {
    let mut marks = Marks::default();
    run(stage, batch, &mut marks);
    individual(batch, &marks)
}

fn individual(batch: &Batch, marks: &Marks) -> BTreeSet<i64> {
    let open = batch.resources().filter(|r| marks.of(Entity::Resource(r.id())).decision != Decision::Fold);
    open.filter_map(|resource| match resource.attributes().get("process.pid") {
        Some(AnyValue::Int(pid)) => Some(pid),
        _ => None,
    })
    .collect()
}

/// Processes from pid 1 on that are old and have used much.
fn daemons(count: i64) -> Vec<Process> {
    let daemon = |pid| Process { cpu: 1e6 - pid as f64, ..Process::new(pid, "daemon", -1_000_000) };
    (1..=count).map(daemon).collect()
}

#[test]
fn a_new_hog_among_old_daemons_is_chosen_at_the_end_of_its_first_interval() {
    let mut stage = build(&FACTORY, "topk", "{ k: 3, rank_by: [process.cpu.time] }");
    let mut host = daemons(500);
    for second in [0, 10, 20, 30] {
        for process in &mut host {
            process.cpu += 0.01 / process.pid as f64;
        }
        assert!(kept(stage.as_mut(), &mut scrape("h", second, &host)).len() <= 4);
    }
    // Born after the scrape at 30, and one that was always there and begins to work.
    host.push(Process { cpu: 4.0, ..Process::new(9001, "hog", 33) });
    host[399].cpu += 9.0;
    let chosen = kept(stage.as_mut(), &mut scrape("h", 40, &host));
    assert!(chosen.contains(&9001) && chosen.contains(&400), "{chosen:?}");
    // Its pid is taken over by an idle process: a new life, with nothing of the old one's.
    host[500] = Process { cpu: 0.0, ..Process::new(9001, "hog", 45) };
    for second in [50, 60, 110, 120] {
        host[399].cpu += 9.0;
        host[0].cpu += 1.0;
        host[1].cpu += 1.0;
        host[2].cpu += 1.0;
        kept(stage.as_mut(), &mut scrape("h", second, &host));
    }
    let chosen = kept(stage.as_mut(), &mut scrape("h", 130, &host));
    assert!(!chosen.contains(&9001), "{chosen:?}");
}

#[test]
fn who_leads_is_published_by_name_and_rank() {
    let site = Site::for_test("topk");
    let mut stage =
        (FACTORY.build)(&value("{ k: 30, rank_by: [process.memory.usage, process.cpu.time] }"), &site).unwrap();
    let host: Vec<Process> = (1..=40).map(|pid| Process { memory: pid, ..Process::new(pid, "x", -10) }).collect();
    kept(stage.as_mut(), &mut scrape("h", 0, &host));
    let published = site.estimates.rankings.list();
    let [(memory, of, first), (cpu, none, nobody)] = published[0].snapshot.measures.as_slice() else { panic!() };
    assert_eq!((&**memory, *of, &**cpu, *none), ("process.memory.usage", 30, "process.cpu.time", 0));
    assert_eq!((first.len(), nobody.len()), (phoenix_pipeline::estimates::Ranking::MOST, 0));
    let leads = &first[0];
    assert_eq!((&*leads.entity, leads.host.as_deref(), leads.rank), ("x 40", Some("h"), 1));
    assert_eq!((leads.value, leads.since, first[1].rank), (40.0, at(0), 2));
}

/// A counter's first reading is over its life: that is what is known then.
#[test]
fn a_value_that_is_only_estimated_is_published() {
    let site = Site::for_test("topk");
    let mut stage = (FACTORY.build)(&value("{ k: 1, rank_by: [process.cpu.time] }"), &site).unwrap();
    let mut host: Vec<Process> = (1..=3).map(|pid| Process { cpu: 5.0, ..Process::new(pid, "x", -10 * pid) }).collect();
    let mut publish = |second: i64, host: &[Process]| {
        let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
        let now = Instant::now() + Duration::from_secs(second as u64);
        stage.process(&mut scrape("h", second, host), &mut Context { now, delivery: &mut delivery, marks: &mut marks });
        let published = site.estimates.rankings.list().pop().unwrap();
        let [(_, _, first)] = published.snapshot.measures.as_slice() else { panic!() };
        first.iter().map(|kept| (kept.entity.to_string(), kept.value)).collect::<Vec<_>>()
    };
    assert_eq!(publish(0, &host), [("x 1".to_owned(), 0.5)]);
    host[0].cpu += 2.5;
    assert_eq!(publish(10, &host), [("x 1".to_owned(), 0.25)]);
}

#[test]
fn union_and_score() {
    let host: Vec<Process> = (1..=10)
        .map(|pid| Process { memory: 100 - pid, io: 1000 * pid, cpu: 10.0, ..Process::new(pid, "x", -10) })
        .collect();
    let mut union = build(&FACTORY, "topk", "{ k: 2, rank_by: [process.memory.usage, process.disk.io] }");
    assert_eq!(kept(union.as_mut(), &mut scrape("h", 0, &host)), BTreeSet::from([1, 2, 9, 10]));
    let config = "{ k: 2, rank_by: [process.memory.usage, process.disk.io], combine: weighted, weights: { process.memory.usage: 0 } }";
    let mut score = build(&FACTORY, "topk", config);
    assert_eq!(kept(score.as_mut(), &mut scrape("h", 0, &host)), BTreeSet::from([9, 10]));
}

#[test]
fn what_has_no_measure_stays_and_is_counted_and_the_host_is_not_ranked() {
    let site = Site::for_test("topk");
    let mut stage = (FACTORY.build)(&value("{ k: 1, rank_by: [process.memory.usage] }"), &site).unwrap();
    let mut builder = BatchBuilder::new();
    let desc = Descriptor { name: "other", unit: "1", description: "", shape: Shape::Gauge };
    for pid in [100, 101] {
        builder.resource().attribute("process.pid", pid).scope("s", "").metric(&desc).point(
            0,
            at(0),
            Number::Int(1),
            &[],
        );
    }
    let usage = Descriptor { name: "process.memory.usage", ..desc };
    builder.resource().attribute("host.name", "h").scope("s", "").metric(&usage).point(0, at(0), Number::Int(1), &[]);
    let mut batch = builder.finish();
    let host: Vec<Process> = (1..=3).map(|pid| Process { memory: pid, ..Process::new(pid, "x", -10) }).collect();
    _ = batch.append(scrape("h", 0, &host));
    let mut marks = Marks::default();
    run(stage.as_mut(), &mut batch, &mut marks);
    assert_eq!(individual(&batch, &marks), BTreeSet::from([3, 100, 101]));
    let folded = batch.resources().filter(|r| marks.of(Entity::Resource(r.id())).decision == Decision::Fold).count();
    assert_eq!(folded, 2);
    assert_eq!(counted(&site, "phoenix_unranked_entities"), 2);
    assert_eq!(counted(&site, "phoenix_marks_total"), 5);
    let why = |pid| site.explain.answer(&Question::Pid(pid));
    assert!(why(1).contains("topk_rank") && why(3).contains("topk_process.memory.usage"), "{}", why(3));
}

#[test]
fn what_is_decided_takes_no_place_and_high_wins_ties() {
    let mut stage = build(&FACTORY, "topk", "{ k: 2, rank_by: [process.memory.usage], leave: 1 }");
    let host: Vec<Process> = (1..=6).map(|pid| Process { memory: 5, ..Process::new(pid, "x", -10) }).collect();
    let mut batch = scrape("h", 0, &host);
    let ids: Vec<Entity> = batch.resources().map(|resource| Entity::Resource(resource.id())).collect();
    let mut marks = Marks::default();
    marks.mark(ids[0], Decision::Keep, "priority_critical");
    marks.mark(ids[1], Decision::Fold, "priority_low");
    marks.classify(ids[4], Class::High);
    marks.classify(ids[5], Class::High);
    run(stage.as_mut(), &mut batch, &mut marks);
    assert_eq!(individual(&batch, &marks), BTreeSet::from([1, 5, 6]));
    assert_eq!(marks.of(ids[1]).reason, "priority_low");
}

#[test]
fn hosts_are_ranked_apart_unless_told_otherwise() {
    let quiet: Vec<Process> = (1..=5).map(|pid| Process { memory: pid, ..Process::new(pid, "x", -10) }).collect();
    let busy: Vec<Process> =
        (11..=15).map(|pid| Process { memory: 100 * pid, ..Process::new(pid, "x", -10) }).collect();
    let mut batch = scrape("a", 0, &quiet);
    _ = batch.append(scrape("b", 0, &busy));
    let mut by_host = build(&FACTORY, "topk", "{ k: 1, rank_by: [process.memory.usage] }");
    assert_eq!(kept(by_host.as_mut(), &mut batch), BTreeSet::from([5, 15]));
    let mut all = build(&FACTORY, "topk", "{ k: 1, rank_by: [process.memory.usage], scope: all }");
    assert_eq!(kept(all.as_mut(), &mut batch), BTreeSet::from([15]));
}

#[test]
fn a_list_of_attributes_is_ranked_as_one() {
    let host: Vec<Process> = (1..=9)
        .map(|pid| Process { memory: 10, ..Process::new(pid, if pid < 6 { "worker" } else { "lone" }, -10) })
        .chain([Process { memory: 45, ..Process::new(20, "big", -10) }])
        .collect();
    let config = "{ k: 1, rank_by: [process.memory.usage], entity: [process.executable.name] }";
    let mut stage = build(&FACTORY, "topk", config);
    assert_eq!(kept(stage.as_mut(), &mut scrape("h", 0, &host)), BTreeSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn a_scrape_in_parts_is_ranked_as_a_whole_from_the_second_on() {
    let mut stage = build(&FACTORY, "topk", "{ k: 3, leave: 1, min_stay: 0s, rank_by: [process.memory.usage] }");
    let host: Vec<Process> = (1..=30).map(|pid| Process { memory: pid, ..Process::new(pid, "x", -10) }).collect();
    for second in [0, 10, 20] {
        let mut all = BTreeSet::new();
        for part in host.chunks(10) {
            all.extend(kept(stage.as_mut(), &mut scrape("h", second, part)));
        }
        if second > 0 {
            assert_eq!(all, BTreeSet::from([28, 29, 30]));
        }
    }
}

#[test]
fn no_room_is_a_reason_to_fold() {
    let site = Site::for_test("topk");
    let config = "{ k: 2, rank_by: [process.memory.usage], max_entities: 5 }";
    let mut stage = (FACTORY.build)(&value(config), &site).unwrap();
    let host: Vec<Process> = (1..=50).map(|pid| Process { memory: pid, ..Process::new(pid, "x", -10) }).collect();
    assert_eq!(kept(stage.as_mut(), &mut scrape("h", 0, &host)).len(), 2);
}

#[test]
fn places_cross_a_swap_of_the_same_rankings() {
    let config = "{ k: 2, rank_by: [process.cpu.time] }";
    let mut old = build(&FACTORY, "topk", config);
    let mut host = daemons(9);
    kept(old.as_mut(), &mut scrape("h", 0, &host));
    let mut new = build(&FACTORY, "topk", "{ k: 1, leave: 1, min_stay: 0s, rank_by: [process.cpu.time] }");
    assert_eq!(new.adopt(old.as_mut()), Handover { carried: 9, ..Handover::default() });
    host[6].cpu += 1.0;
    assert_eq!(kept(new.as_mut(), &mut scrape("h", 10, &host)), BTreeSet::from([7]));
    let mut other = build(&FACTORY, "topk", "{ k: 1, rank_by: [process.threads] }");
    assert_eq!(other.adopt(new.as_mut()), Handover { discarded: 9, ..Handover::default() });
}

#[test]
fn mistakes_name_their_place() {
    let text = mistakes(
        &FACTORY,
        "{ k: 0, rank_by: [a, a, \"\"], enter: 0, leave: 3, surge: 0, turnover: 2, weights: { b: -1 }, entity: [], max_entities: 0 }",
    );
    for place in
        ["k:", "rank_by[1]", "rank_by[2]", "enter", "leave", "surge", "turnover", "weights", "entity", "max_entities"]
    {
        assert!(text.contains(place), "{place} in\n{text}");
    }
    assert!(mistakes(&FACTORY, "entity: resources").contains("write resource or a list"));
    assert!(mistakes(&FACTORY, "scope: cluster").contains("host, all or a list"));
    assert_eq!(mistakes(&FACTORY, ""), "", "all defaults are right");
}

/// Bands without a past: the newest values are what is ranked.
fn bands(k: usize, leave: usize) -> Bands {
    Bands { enter: k, leave, most: 2 * k, turnover: k, surge: 4.0, min_stay: 0, half_life: 0 }
}

/// One ranking of entities that are told by number, and what it holds from scrape to scrape.
struct Ranked {
    bands: Bands,
    standings: Vec<Standing>,
    values: Vec<f64>,
    turnover: Turnover,
    rest: Rest,
    time: u64,
}

/// Time between two scrapes of [`Ranked`].
const STEP: u64 = 10;

impl Ranked {
    fn new(bands: Bands, entities: usize) -> Self {
        let standings = vec![Standing::default(); entities];
        let values = vec![0.0; entities];
        Ranked { bands, standings, values, turnover: Turnover::default(), rest: Rest::default(), time: 1000 }
    }

    /// The next scrape, an entity's value each; who is in after it.
    fn step(&mut self, values: &[f64]) -> BTreeSet<usize> {
        self.time += STEP;
        self.read(0, values);
        self.rank();
        self.inside()
    }

    /// Takes the values of the entities from that one on.
    fn read(&mut self, first: usize, values: &[f64]) {
        for (i, value) in (first..).zip(values) {
            self.values[i] = *value;
            self.standings[i].history.take(*value, self.time, &mut Decay::new(self.bands.half_life));
        }
    }

    /// Ranks all.
    fn rank(&mut self) {
        let mut sieve = Sieve::new(self.bands);
        sieve.begin(&self.rest, self.time);
        loop {
            (0..self.values.len()).for_each(|i| self.enter(&mut sieve, i));
            if sieve.is_done(&self.rest) {
                break;
            }
        }
        self.settle(sieve);
    }

    /// Ranks a part, the others as they were left; `false` if that is not enough.
    fn rank_part(&mut self, here: std::ops::Range<usize>) -> bool {
        let mut sieve = Sieve::new(self.bands);
        sieve.go_on(&mut self.rest, self.time, |known| !here.contains(&(known.at as usize)));
        loop {
            here.clone().for_each(|i| self.enter(&mut sieve, i));
            if sieve.is_done(&self.rest) {
                break;
            }
        }
        let enough = sieve.is_enough(&mut self.rest);
        if enough {
            self.settle(sieve);
        }
        enough
    }

    fn enter(&self, sieve: &mut Sieve, i: usize) {
        let Standing { place, history, .. } = &self.standings[i];
        let (value, place, key, at) = (self.values[i], *place, i as u64, i as u32);
        sieve.add(Entrant { value, measured: true, history, place, class: Class::Normal, key, at });
    }

    fn settle(&mut self, mut sieve: Sieve) {
        let first = self.bands.rank(&mut sieve, &self.rest, &mut self.turnover, self.time);
        for candidate in sieve.candidates.iter_mut().filter(|candidate| candidate.is_news) {
            candidate.is_news = false;
            self.standings[candidate.rank.at as usize].place = candidate.place;
        }
        sieve.leave(first, &mut self.rest);
    }

    fn inside(&self) -> BTreeSet<usize> {
        (0..self.standings.len()).filter(|i| self.standings[*i].place.inside).collect()
    }
}

proptest! {
    #[test]
    fn exactly_k_are_kept_without_bands(values in prop::collection::btree_set(1u32..1_000_000, 1..300), k in 1usize..60) {
        let values: Vec<u32> = values.into_iter().collect();
        let mut ranked = Ranked::new(bands(k, k), values.len());
        ranked.values = values.iter().map(|value| f64::from(*value)).collect();
        ranked.rank();
        let inside: Vec<f64> = ranked.inside().into_iter().map(|i| f64::from(values[i])).collect();
        let expected: Vec<f64> = values.iter().rev().take(k).rev().map(|value| f64::from(*value)).collect();
        prop_assert_eq!(inside, expected);
    }

    /// Whoever comes in on a measured value stays for `min_stay`, as long as no more than twice k are in; and nobody goes
    /// while there is room.
    #[test]
    fn nobody_flaps(
        scrapes in prop::collection::vec(prop::collection::vec(1u32..1000, 12), 1..120),
        half_life in prop_oneof![Just(0), 1u64..1000],
        turnover in 0usize..7,
    ) {
        const STAY: u64 = 10 * STEP;
        let (k, steps) = (6, scrapes.len() as u64);
        let mut ranked = Ranked::new(Bands { min_stay: STAY, half_life, turnover, ..bands(k, 9) }, 12);
        let mut switches = [0u64; 12];
        for values in &scrapes {
            let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let before = ranked.standings.clone();
            let inside = ranked.step(&values);
            prop_assert!((k..=2 * k).contains(&inside.len()));
            for (at, standing) in before.iter().enumerate() {
                if standing.place.inside && !inside.contains(&at) {
                    prop_assert!(ranked.time - standing.place.since >= STAY);
                }
                switches[at] += u64::from(standing.place.inside != inside.contains(&at));
            }
        }
        prop_assert!(switches.iter().all(|count| *count <= 2 * (steps / 10) + 2));
    }

    /// What a ranking leaves for the next changes nothing: neither of whole scrapes, nor of those that come in parts.
    #[test]
    fn what_is_left_from_before_changes_nothing(
        scrapes in prop::collection::vec(prop::collection::vec(prop_oneof![2 => 0.0..100.0f64, 1 => Just(0.0), 1 => Just(7.0)], 40), 1..12),
        parts in 1usize..9,
        half_life in prop_oneof![Just(0), 1u64..1000],
        k in 1usize..8,
    ) {
        let settings = Bands { half_life, turnover: 1, min_stay: 3 * STEP, ..bands(k, k + 2) };
        let [mut ours, mut plain] = [(); 2].map(|()| Ranked::new(settings, 40));
        for (scrape, values) in (1..).zip(&scrapes) {
            for ranked in [&mut ours, &mut plain] {
                ranked.time += STEP;
                ranked.rest.scrape = if parts > 1 { scrape } else { 0 };
            }
            let size = values.len().div_ceil(parts);
            for (part, values) in values.chunks(size).enumerate() {
                let here = part * size..part * size + values.len();
                ours.read(here.start, values);
                plain.read(here.start, values);
                if part == 0 || !ours.rank_part(here) {
                    ours.rank();
                }
                plain.rest = Rest::default();
                plain.rank();
                let places = |ranked: &Ranked| ranked.standings.iter().map(|standing| standing.place).collect::<Vec<_>>();
                prop_assert_eq!(places(&ours), places(&plain));
            }
        }
    }

    /// The same of the whole stage, where entities come and go and others take their places.
    #[test]
    fn parts_are_ranked_as_if_all_were_looked_at(
        scrapes in prop::collection::vec(prop::collection::vec((prop::bool::weighted(0.8), 0i64..100, 0i64..1000), 60), 2..9),
        (size, max_entities) in (1usize..20, 40usize..60),
        (k, min_stay) in (1usize..6, 0u64..30),
    ) {
        let config = format!(
            "{{ k: {k}, min_stay: {min_stay}s, max_entities: {max_entities}, rank_by: [process.memory.usage, process.disk.io] }}"
        );
        let [mut ours, mut plain] = [(); 2].map(|()| build(&FACTORY, "topk", &config));
        let mut io = [0; 60];
        for (second, scraped) in (0i64..).step_by(10).zip(&scrapes) {
            let mut host = Vec::new();
            for ((pid, io), (is_here, memory, more)) in (1..).zip(&mut io).zip(scraped) {
                *io += more;
                if *is_here {
                    host.push(Process { memory: *memory, io: *io, ..Process::new(pid, "x", -10) });
                }
            }
            for part in host.chunks(size) {
                let scopes = &mut plain.as_any().downcast_mut::<TopK>().unwrap().scopes;
                scopes.values_mut().flatten().for_each(|(_, rest)| *rest = Rest::default());
                let [ours, plain] = [&mut ours, &mut plain].map(|stage| {
                    let kept = kept(stage.as_mut(), &mut scrape("h", second, part));
                    let tracker = &stage.as_any().downcast_mut::<TopK>().unwrap().tracker;
                    let states = (0..60).filter_map(|at| tracker.at(at).map(|slot| (slot.key, &slot.state)));
                    let in_it = |standing: &Standing| (standing.place, standing.place.inside.then_some(standing.score));
                    let stand = |state: &State| (state.inside, state.standings.iter().map(in_it).collect::<Vec<_>>());
                    (kept, states.map(|(key, state)| (key, stand(state))).collect::<Vec<_>>())
                });
                prop_assert_eq!(ours, plain);
            }
        }
    }

    /// Who does more than `surge` times what anybody has done is in at the end of its first interval, whatever the noise,
    /// and at that of each further one.
    #[test]
    fn a_hog_is_in_at_the_end_of_its_first_interval(
        scrapes in prop::collection::vec(prop::collection::vec(0.0..100.0f64, 40), 1..60),
        k in 1usize..10,
        surge in 1.0..10.0f64,
        half_life in prop_oneof![Just(0), 1u64..10_000],
        turnover in 0usize..3,
    ) {
        let mut ranked = Ranked::new(Bands { half_life, turnover, surge, ..bands(k, k) }, 41);
        for (i, values) in scrapes.iter().enumerate() {
            let mut values = values.clone();
            values.push(if i + 3 >= scrapes.len() { 100.0 * surge + 1.0 } else { 0.0 });
            let inside = ranked.step(&values);
            prop_assert_eq!(inside.contains(&40), i + 3 >= scrapes.len());
        }
    }

    /// Of steady entities under noise within a factor of two, the root of `surge`, no more are ever in within some time than were at its begin, and
    /// those that the turnover lets in.
    #[test]
    fn under_steady_noise_few_others_come_in(
        levels in prop::collection::vec(1.0..1000.0f64, 40..80),
        noise in prop::collection::vec(prop::collection::vec(0.71..1.41f64, 80), 60),
        k in 4usize..30,
        turnover in 0usize..6,
    ) {
        const HALF_LIFE: u64 = 30 * STEP;
        let settings = Bands { half_life: HALF_LIFE, turnover, surge: 4.0, ..bands(k, k + k / 4) };
        let mut ranked = Ranked::new(settings, levels.len());
        let mut ever = BTreeSet::new();
        let mut at_first = 0;
        for (i, noise) in noise.iter().enumerate() {
            let values: Vec<f64> = levels.iter().zip(noise).map(|(level, noise)| level * noise).collect();
            ever.extend(ranked.step(&values));
            // Two readings are no history yet.
            at_first = if i < 2 { ever.len() } else { at_first };
            let half_lives = (i as u64 * STEP) as f64 / HALF_LIFE as f64;
            prop_assert!(ever.len() as f64 <= at_first as f64 + turnover as f64 * (1.0 + half_lives) + 1e-9);
        }
        prop_assert!(at_first <= 2 * k);
    }

    /// The choice does not depend on the order of the resources, nor on the unit of the values.
    #[test]
    fn order_and_scale_do_not_matter(
        values in prop::collection::vec((0i64..50, 0i64..50), 2..60),
        seed in any::<u64>(),
        shift in 0u32..20,
        combine in prop_oneof![Just("union"), Just("weighted")],
    ) {
        let config = format!(
            "{{ k: 4, leave: 1, min_stay: 0s, combine: {combine}, rank_by: [process.memory.usage, process.disk.io] }}"
        );
        let mut straight = build(&FACTORY, "topk", &config);
        let mut shuffled = build(&FACTORY, "topk", &config);
        let mut scaled = build(&FACTORY, "topk", &config);
        for second in [0, 10] {
            let one = |(pid, (memory, io)): (i64, &(i64, i64))| Process {
                memory: *memory,
                io: *io * (second + 10) * (1 + pid * second / 10 % 3),
                ..Process::new(pid, "x", -10)
            };
            let host: Vec<Process> = (1..).zip(&values).map(one).collect();
            let mut mixed = host.clone();
            mixed.sort_by_key(|process| (process.pid as u64).wrapping_mul(seed | 1).rotate_left(17));
            let large: Vec<Process> = host
                .iter()
                .map(|p| Process { memory: p.memory << shift, io: p.io << shift, ..p.clone() })
                .collect();
            let chosen = kept(straight.as_mut(), &mut scrape("h", second, &host));
            prop_assert_eq!(&chosen, &kept(shuffled.as_mut(), &mut scrape("h", second, &mixed)));
            prop_assert_eq!(&chosen, &kept(scaled.as_mut(), &mut scrape("h", second, &large)));
        }
    }
}

#[test]
fn the_minimum_stay_is_in_the_time_of_points() {
    let mut stage = build(&FACTORY, "topk", "{ k: 1, leave: 1, min_stay: 30s, rank_by: [process.memory.usage] }");
    let mut host = [Process::new(1, "a", -10), Process::new(2, "b", -10)];
    let mut seen = Vec::new();
    for second in (0..60).step_by(10) {
        (host[0].memory, host[1].memory) = if second == 0 { (9, 5) } else { (5, 9) };
        seen.push(kept(stage.as_mut(), &mut scrape("h", second, &host)).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(seen, [vec![1], vec![1, 2], vec![1, 2], vec![2], vec![2], vec![2]]);
    assert_eq!(at(1) - at(0), SECOND);
}
