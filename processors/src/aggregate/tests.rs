//! Where a short cut could take one thing for another: hashes made to collide, other orders, other settings.

use std::time::Instant;

use phoenix_pipeline::{Context, Decision, Delivery, Entity, Marks, Processor, Site};
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Shape, Temporality};

use super::FACTORY;
use crate::testing::{build, run, value};

const SECOND: u64 = 1_000_000_000;
const CPU: Descriptor<'_> = Descriptor {
    name: "cpu",
    unit: "s",
    description: "",
    shape: Shape::Sum { monotonic: true, temporality: Temporality::Cumulative },
};

/// A resource's attributes, and the values of its series by their own attribute.
type Sent<'a> = (&'a [(&'a str, i64)], &'a [(i64, i64)]);

fn batch(second: u64, all: &[Sent<'_>]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (attributes, values) in all {
        let mut resource = builder.resource();
        attributes.iter().for_each(|(key, value)| {
            resource.attribute(key, *value);
        });
        let mut scope = resource.scope("s", "");
        let mut metric = scope.metric(&CPU);
        for (state, value) in *values {
            metric.point(SECOND, second * SECOND, Number::Int(*value), &[("state", AnyValue::Int(*state))]);
        }
    }
    builder.finish()
}

/// What the groups say after a scrape: the value of `key`, the state and the sum.
fn groups(stage: &mut dyn Processor, key: &str, second: u64, all: &[Sent<'_>]) -> Vec<(i64, i64, f64)> {
    let int = |value: Option<AnyValue<'_>>| match value {
        Some(AnyValue::Int(value)) => value,
        _ => -1,
    };
    let mut batch = batch(second, all);
    run(stage, &mut batch);
    let mut said: Vec<_> = batch
        .series()
        .filter(|point| {
            point.metric().name() == "cpu" && point.metric().resource().attributes().get("process.pid").is_none()
        })
        .map(|point| {
            let of = int(point.metric().resource().attributes().get(key));
            (of, int(point.attributes().get("state")), point.value().map_or(-1.0, |value| value.as_f64()))
        })
        .collect();
    said.sort_by_key(|(of, state, _)| (*of, *state));
    said
}

/// Two sets of attributes with the same sum of hashes, found by a birthday search over eight lists.
const ONE: [(&str, i64); 5] = [("k0", 102_659), ("k1", 127_910), ("k2", 43_242), ("k3", 17_407), ("process.pid", 7)];
const OTHER: [(&str, i64); 5] =
    [("k0", 1_108_098), ("k1", 1_020_324), ("k2", 1_062_723), ("k3", 1_001_430), ("process.pid", 7)];

#[test]
fn resources_of_one_hash_are_two_entities() {
    let hashes: Vec<u64> =
        batch(1, &[(&ONE, &[(0, 1)]), (&OTHER, &[(0, 1)])]).resources().map(|resource| resource.hash()).collect();
    assert_eq!(hashes[0], hashes[1]);
    let mut stage = build(&FACTORY, "aggregate", "{fold: all, group_by: [k0]}");
    groups(stage.as_mut(), "k0", 10, &[(&ONE, &[(0, 100)]), (&OTHER, &[(0, 50)])]);
    let said = groups(stage.as_mut(), "k0", 20, &[(&OTHER, &[(0, 57)]), (&ONE, &[(0, 105)])]);
    assert_eq!(said, [(102_659, 0, 5.0), (1_108_098, 0, 7.0)]);
    let said = groups(stage.as_mut(), "k0", 30, &[(&ONE, &[(0, 106)]), (&OTHER, &[(0, 59)])]);
    assert_eq!(said, [(102_659, 0, 6.0), (1_108_098, 0, 9.0)]);
}

#[test]
fn any_order_of_attributes_and_points_is_the_same_series() {
    let mut stage = build(&FACTORY, "aggregate", "{fold: all, group_by: [app]}");
    let states: Vec<(i64, i64)> = (0..40).map(|state| (state, 100 * state)).collect();
    let more = |by: i64| -> Vec<(i64, i64)> {
        states.iter().rev().map(|(state, value)| (*state, value + by + state)).collect()
    };
    groups(stage.as_mut(), "app", 10, &[(&[("app", 1), ("process.pid", 7)], &states)]);
    let said = groups(stage.as_mut(), "app", 20, &[(&[("process.pid", 7), ("app", 1)], &more(1))]);
    assert_eq!(said, (0..40).map(|state| (1, state, (1 + state) as f64)).collect::<Vec<_>>());
    // Half of them, and a new one between.
    let mut half: Vec<(i64, i64)> = more(3).into_iter().step_by(2).collect();
    half.insert(5, (99, 1_000));
    let said = groups(stage.as_mut(), "app", 30, &[(&[("app", 1), ("process.pid", 7)], &half)]);
    let sum = |(state, _): &(i64, i64)| {
        if state % 2 == 1 { (1, *state, (3 + state) as f64) } else { (1, *state, (1 + state) as f64) }
    };
    let mut expected: Vec<_> = states.iter().map(sum).collect();
    expected.push((1, 99, 0.0));
    assert_eq!(said, expected);
}

#[test]
fn other_settings_make_other_groups_at_once() {
    let sent: &[(&str, i64)] = &[("app", 1), ("user", 2), ("process.pid", 7)];
    let mut stage = build(&FACTORY, "aggregate", "{fold: all, group_by: [app]}");
    groups(stage.as_mut(), "app", 10, &[(sent, &[(0, 100)])]);
    assert_eq!(groups(stage.as_mut(), "app", 20, &[(sent, &[(0, 103)])]), [(1, 0, 3.0)]);
    let mut next = build(&FACTORY, "aggregate", "{fold: all, group_by: [user]}");
    next.adopt(stage.as_mut());
    // Its last increment is the old group's; from then on it is the new one's.
    assert_eq!(groups(next.as_mut(), "user", 30, &[(sent, &[(0, 104)])]), [(-1, 0, 4.0), (2, 0, 0.0)]);
    let said = groups(next.as_mut(), "user", 40, &[(sent, &[(0, 109)])]);
    assert!(said.contains(&(2, 0, 5.0)), "{said:?}");
}

#[test]
fn who_asks_is_told_which_processes_are_folded() {
    let site = Site::for_test("aggregate");
    let mut stage = (FACTORY.build)(&value("{group_by: [k0]}"), &site).unwrap();
    let mut run = |second: u64, decisions: [Decision; 2]| {
        let mut batch = batch(
            second,
            &[(&[("k0", 1), ("process.pid", 1)], &[(0, 5)]), (&[("k0", 1), ("process.pid", 2)], &[(0, 6)])],
        );
        let mut marks = Marks::default();
        for (resource, decision) in batch.resources().zip(decisions) {
            marks.mark(Entity::Resource(resource.id()), decision, "test");
        }
        let mut delivery = Delivery::none();
        stage.process(&mut batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks: &mut marks });
    };
    let (open, fold, keep) = (Decision::Open, Decision::Fold, Decision::Keep);
    let question = site.folded.ask(10 * SECOND);
    run(9, [fold, fold]);
    assert!(!question.is_folded(1, 1), "another scrape");
    run(10, [fold, keep]);
    assert!(question.is_folded(1, 1) && !question.is_folded(2, 1));
    // The one opens anew, the other is closed; both take their time.
    [20, 30, 40, 50].into_iter().for_each(|second| run(second, [open, fold]));
    let question = site.folded.ask(60 * SECOND);
    run(60, [open, fold]);
    assert!(question.is_folded(2, 1) && !question.is_folded(1, 1), "it left the fold");
}
