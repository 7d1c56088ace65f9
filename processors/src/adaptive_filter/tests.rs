use std::collections::BTreeSet;

use super::*;
use crate::measure::sample::{Process, scrape};
use crate::testing::{build as stage_of, counted, mistakes, value};
use phoenix_pipeline::explain::Question;
use phoenix_pipeline::{Delivery, Entity};
use phoenix_telemetry::AnyValue;
use proptest::prelude::*;

fn run(stage: &mut dyn Processor, batch: &mut Batch, marks: &mut Marks) {
    let mut delivery = Delivery::none();
    stage.process(batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks });
}

/// Pid and decision after a batch.
fn decisions(stage: &mut dyn Processor, batch: &mut Batch) -> Vec<(i64, Decision, &'static str)> {
    let mut marks = Marks::default();
    run(stage, batch, &mut marks);
    let of = |resource: phoenix_telemetry::Resource<'_>| {
        let Some(AnyValue::Int(pid)) = resource.attributes().get("process.pid") else { panic!("a pid") };
        let mark = marks.of(Entity::Resource(resource.id()));
        (pid, mark.decision, mark.reason)
    };
    batch.resources().map(of).collect()
}

fn folded(stage: &mut dyn Processor, batch: &mut Batch) -> BTreeSet<i64> {
    let folded = decisions(stage, batch).into_iter().filter(|(_, decision, _)| *decision == Decision::Fold);
    folded.map(|(pid, ..)| pid).collect()
}

fn by_memory(values: &[i64]) -> Vec<Process> {
    (1..).zip(values).map(|(pid, memory)| Process { memory: *memory, ..Process::new(pid, "x", -10) }).collect()
}

#[test]
fn a_quantile_folds_the_part_it_says() {
    let host = by_memory(&(1..=1000).collect::<Vec<_>>());
    let mut last = 0;
    for (pressure, expected) in [(0.0, 500), (0.5, 900), (1.0, 980)] {
        let config = format!(
            "{{ measures: {{ process.memory.usage: {{}} }}, quantile: {{ from: 0.5, to: 0.98 }}, pressure: {pressure} }}"
        );
        let mut stage = stage_of(&FACTORY, "adaptive_filter", &config);
        let folded = folded(stage.as_mut(), &mut scrape("h", 0, &host)).len();
        assert!(folded <= expected && folded * 16 >= expected * 14, "{folded} at {pressure}");
        assert!(folded >= last);
        last = folded;
    }
}

#[test]
fn the_idle_are_small_even_where_most_are_idle_and_any_large_measure_saves() {
    let config = "{ measures: { process.cpu.time: {}, process.memory.usage: {} }, quantile: { from: 0.5, to: 0.9 } }";
    let mut stage = stage_of(&FACTORY, "adaptive_filter", config);
    let mut host = by_memory(&[10; 100]);
    host[7].memory = 1000;
    folded(stage.as_mut(), &mut scrape("h", 0, &host));
    host[3].cpu += 1.0;
    // All have the memory that is the threshold, so nobody is below it.
    assert!(folded(stage.as_mut(), &mut scrape("h", 10, &host)).is_empty());
    let mut stage = stage_of(&FACTORY, "adaptive_filter", "{ measures: { process.cpu.time: {} } }");
    folded(stage.as_mut(), &mut scrape("h", 10, &host));
    host[3].cpu += 1.0;
    let small = folded(stage.as_mut(), &mut scrape("h", 20, &host));
    assert!(small.len() == 99 && !small.contains(&4));
}

#[test]
fn bounds_hold_the_threshold() {
    let host = by_memory(&[1, 10, 100, 1000]);
    let small = |bounds: &str| {
        let config = format!(
            "{{ measures: {{ process.memory.usage: {bounds} }}, pressure: 1, quantile: {{ from: 1, to: 1 }} }}"
        );
        folded(stage_of(&FACTORY, "adaptive_filter", &config).as_mut(), &mut scrape("h", 0, &host))
    };
    assert_eq!(small("{ max: 50 }"), BTreeSet::from([1, 2]));
    assert_eq!(small("{ min: 5000 }"), BTreeSet::from([1, 2, 3, 4]));
    assert_eq!(small("{}").len(), 3);
}

#[test]
fn the_threshold_moves_with_the_data_within_the_window() {
    let config = "{ measures: { process.memory.usage: {} }, pressure: 0, window: 80s, min_stay: 0s, leave: 1, unusual: { factor: 0 } }";
    let mut stage = stage_of(&FACTORY, "adaptive_filter", config);
    let (low, high) = (by_memory(&(1..=99).collect::<Vec<_>>()), by_memory(&(1001..=1099).collect::<Vec<_>>()));
    let watched = |folded: &BTreeSet<i64>| (folded.contains(&5), folded.contains(&95));
    assert_eq!(watched(&folded(stage.as_mut(), &mut scrape("h", 0, &low))), (true, false));
    assert!(folded(stage.as_mut(), &mut scrape("h", 10, &high)).is_empty(), "all are large against what was");
    for second in (20..200).step_by(10) {
        folded(stage.as_mut(), &mut scrape("h", second, &high));
    }
    assert!(folded(stage.as_mut(), &mut scrape("h", 200, &low)).len() > 95, "and small against what is");
}

#[test]
fn what_is_unusual_for_itself_is_kept_for_a_while() {
    let site = Site::for_test("adaptive_filter");
    let config = "{ measures: { process.memory.usage: {} }, pressure: 1, unusual: { hold: 30s, max: 2 } }";
    let mut stage = (FACTORY.build)(&value(config), &site).unwrap();
    let mut host = by_memory(&[1000; 50]);
    host[49].memory = 1_000_000;
    host[48].memory = 1_000_000;
    host[5].memory = 40_000;
    let mut when = Vec::new();
    for second in (0..200).step_by(10) {
        if second == 100 {
            host[3].memory = 300_000;
            host[5].memory = 500;
        }
        for (pid, decision, reason) in decisions(stage.as_mut(), &mut scrape("h", second, &host)) {
            if decision == Decision::Keep {
                assert_eq!(reason, "adaptive_unusual");
                when.push((second, pid));
            }
        }
    }
    assert!(when.contains(&(100, 4)), "a jump: {when:?}");
    assert!(when.iter().all(|(second, pid)| (100..170).contains(second) && [4, 6].contains(pid)), "{when:?}");
    assert!(!when.contains(&(190, 4)));
    let why = site.explain.answer(&Question::Pid(4));
    assert!(why.contains("adaptive_unusual") && why.contains("adaptive_below"), "{why}");
    assert!(counted(&site, "phoenix_marks_total") > 0);
}

#[test]
fn a_host_that_jumps_as_a_whole_does_not_explode() {
    let config = "{ measures: { process.memory.usage: {} }, pressure: 1, unusual: { max: 7 } }";
    let mut stage = stage_of(&FACTORY, "adaptive_filter", config);
    for second in (0..300).step_by(10) {
        let factor = if second < 150 { 1 } else { 50 };
        let host = by_memory(&(1..=200).map(|i| (100 + i) * factor).collect::<Vec<_>>());
        let kept = decisions(stage.as_mut(), &mut scrape("h", second, &host));
        assert!(kept.iter().filter(|(_, decision, _)| *decision == Decision::Keep).count() <= 7);
    }
}

#[test]
fn the_pressure_is_turned_from_outside_and_survives_a_swap() {
    let config = "{ measures: { process.memory.usage: {} }, min_stay: 0s, leave: 1 }";
    let mut stage = stage_of(&FACTORY, "adaptive_filter", config);
    let host = by_memory(&(1..=1000).collect::<Vec<_>>());
    let handle = stage.as_any().downcast_mut::<AdaptiveFilter>().unwrap().pressure();
    let mut count = |pressure: f64, second| {
        handle.set(pressure);
        folded(stage.as_mut(), &mut scrape("h", second, &host)).len()
    };
    let counts = [count(0.0, 0), count(1.0, 10), count(f64::NAN, 20), count(-5.0, 30)];
    assert!(counts[0] < counts[1] && counts[1] == counts[2] && counts[0] == counts[3], "{counts:?}");
    let mut new = stage_of(&FACTORY, "adaptive_filter", config);
    assert_eq!(new.adopt(stage.as_mut()).carried, 1000);
    handle.set(0.75);
    assert_eq!(new.as_any().downcast_mut::<AdaptiveFilter>().unwrap().pressure().get(), 0.75);
    let mut other = stage_of(&FACTORY, "adaptive_filter", "{ pressure: 0.1 }");
    assert_eq!(other.adopt(new.as_mut()), Handover { discarded: 1000, ..Handover::default() });
}

#[test]
fn the_whole_range_of_the_pressure_turns_what_other_stages_left() {
    // Large by one of three measures each, as behind a `topk`; further ones are folded already and do not count.
    let one = |pid: i64| {
        let size = 1.1f64.powi((pid % 100) as i32);
        let mut process = Process::new(pid, "x", -10);
        match pid % 3 {
            0 => process.cpu = size,
            1 => process.memory = (1e3 * size) as i64,
            _ => process.io = (1e3 * size) as i64,
        }
        process
    };
    let host: Vec<Process> = (1..=300).map(one).chain((301..=999).map(|pid| Process::new(pid, "idle", -10))).collect();
    let kept = |pressure: f64| {
        let mut stage = stage_of(&FACTORY, "adaptive_filter", &format!("{{ pressure: {pressure} }}"));
        let mut batch = scrape("h", 0, &host);
        let mut marks = Marks::default();
        let resources: Vec<_> = batch.resources().map(|resource| Entity::Resource(resource.id())).collect();
        resources[300..].iter().for_each(|entity| marks.mark(*entity, Decision::Fold, "topk_rank"));
        run(stage.as_mut(), &mut batch, &mut marks);
        resources.iter().filter(|entity| marks.of(**entity).decision != Decision::Fold).count()
    };
    let counts: Vec<usize> = (0..=8).map(|step| kept(f64::from(step) / 8.0)).collect();
    assert!(counts.windows(2).all(|pair| pair[1] <= pair[0]), "{counts:?}");
    // Each quarter leaves clearly less than the one before.
    assert!(counts.iter().step_by(2).zip(counts.iter().skip(2).step_by(2)).all(|(a, b)| b * 4 <= a * 3), "{counts:?}");
}

#[test]
fn mistakes_name_their_place() {
    let text = mistakes(
        &FACTORY,
        "{ measures: { m: { min: 5, max: 1 } }, quantile: { from: 0.9, to: 0.1 }, pressure: 2, window: 0s, leave: 0, \
         unusual: { factor: 0.5 }, deviations: { from: 3, to: 1 } }",
    );
    for place in ["m::min", "quantile", "pressure", "window", "leave", "unusual::factor", "deviations"] {
        assert!(text.contains(place), "{place} in\n{text}");
    }
    assert!(mistakes(&FACTORY, "measures: {}").contains("at least one metric"));
    assert_eq!(mistakes(&FACTORY, ""), "", "all defaults are right");
}

proptest! {
    #[test]
    fn the_threshold_never_falls_as_the_pressure_grows(
        values in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1e9f64], 1..100),
        pressures in prop::collection::vec(0.0..=1.0f64, 2..8),
        mad in any::<bool>(),
        min in prop::option::of(0.0..1e6f64),
    ) {
        let rule = Rule::new(&Config { method: if mad { Method::Mad } else { Method::Quantile }, ..Config::default() });
        let mut all = Distribution::default();
        values.iter().for_each(|value| all.add(*value));
        let mut recent = Recent::new(100);
        recent.add(1, &all);
        let mut pressures = pressures;
        pressures.sort_by(f64::total_cmp);
        let bounds = Bounds { min, max: None };
        let thresholds: Vec<f64> =
            pressures.iter().map(|pressure| rule.threshold(&recent, *pressure, bounds).unwrap()).collect();
        prop_assert!(thresholds.is_sorted(), "{thresholds:?}");
        prop_assert!(min.is_none_or(|min| thresholds.iter().all(|threshold| *threshold >= min)));
    }
}
