use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape};
use proptest::prelude::*;

use super::*;

/// A resource: its pid, which of its metrics it sends, whether the other way round, in how many scopes, and what ails its
/// counters: nothing, one has no number, one fell, one comes twice, each has a time of its own.
type Sent = (i64, u8, bool, usize, u8);

const NONE: u8 = 0;
const NO_NUMBER: u8 = 1;
const FELL: u8 = 2;
const TWICE: u8 = 3;
const APART: u8 = 4;

fn batch(second: u64, sent: &[Sent]) -> Batch {
    let mut builder = BatchBuilder::new();
    let sum = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
    for (pid, metrics, turned, scopes, flaw) in sent {
        let mut resource = builder.resource();
        resource.attribute("host.name", "h").attribute("process.pid", *pid);
        for scope in 0..*scopes {
            let mut scope = resource.scope(["a", "a", "b"][scope % 3], "");
            let mut kinds = [
                (MEASURES[0], sum),
                ("process.threads", Shape::Gauge),
                (MEASURES[1], Shape::Gauge),
                (MEASURES[2], sum),
            ];
            if *turned {
                kinds.reverse();
            }
            for (bit, (name, shape)) in kinds.into_iter().enumerate().filter(|(bit, _)| metrics & 1 << bit != 0) {
                let mut metric = scope.metric(&Descriptor { name, unit: "1", description: "", shape });
                for state in 0..2 {
                    let number = match name {
                        "process.disk.io" if *flaw == FELL => Number::Int(1),
                        "process.disk.io" => Number::Int(second as i64 * (*pid + state)),
                        _ if *flaw == NO_NUMBER && state == 1 => Number::Double(f64::NAN),
                        _ => Number::Double(second as f64 * 1.1),
                    };
                    let time = second * 1_000_000_000 + if *flaw == APART { bit as u64 } else { 0 };
                    let state = if *flaw == TWICE { 0 } else { state };
                    metric.point(1, time, number, &[("state", AnyValue::Int(state))]);
                }
            }
        }
    }
    builder.finish()
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let metrics = prop_oneof![3 => Just(0b1111u8), 1 => 1u8..16];
    let flaw = prop_oneof![4 => Just(NONE), 1 => NO_NUMBER..=APART];
    let one = (0i64..6, metrics, prop::bool::weighted(0.2), prop_oneof![4 => Just(1usize), 1 => 1usize..4], flaw);
    prop::collection::vec(one, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Entities vanish, come back, come twice, in other order, with other counters and as before, and are forgotten: what each
    /// point stands for does not tell whether rows were kept.
    #[test]
    fn rows_of_counters_count_as_single_ones(
        kinds in prop::collection::vec((sent(), prop::bool::weighted(0.2)), 1..4),
        steps in prop::collection::vec((0usize..4, 1usize..6, prop_oneof![8 => 0u64..30, 1 => 100u64..700]), 1..20),
    ) {
        let mut facts = [Facts::default(), Facts { counters: Counters::plain(), ..Facts::default() }];
        let mut second = 1;
        for (kind, wait) in steps.into_iter().flat_map(|(kind, times, wait)| std::iter::repeat_n((kind, wait), times)) {
            second += wait;
            let (sent, thinned) = &kinds[kind % kinds.len()];
            let mut batch = batch(second, sent);
            if *thinned {
                batch.drop_points(|point| point.series().is_multiple_of(5));
            }
            let mut told = [const { Vec::new() }; 2];
            for (facts, told) in facts.iter_mut().zip(&mut told) {
                facts.read(&batch, (second * 1_000_000_000, second / 60), |series| told.push(series));
            }
            let [ours, plain] = &facts;
            prop_assert_eq!(&told[0], &told[1]);
            prop_assert_eq!(ours.time, plain.time);
            prop_assert_eq!(ours.counters.len(), plain.counters.len());
            for resource in batch.resources() {
                let [of, plainly] = [ours, plain].map(|facts| facts.of_resource(resource.id()));
                prop_assert_eq!(format!("{of:?}"), format!("{plainly:?}"));
                for point in resource.metrics().flat_map(|metric| metric.points()) {
                    let [fact, plainly] = [ours, plain].map(|facts| facts.of(point.id()));
                    prop_assert_eq!((fact.measure, fact.amount), (plainly.measure, plainly.amount));
                }
            }
        }
    }
}

#[test]
fn an_entity_that_goes_on_is_a_row_from_its_second_batch_on() {
    let mut facts = Facts::default();
    let rows = |facts: &mut Facts| facts.known.values_mut().filter(|known| known.row.is_some()).count();
    for (second, expected) in [(10, 0), (20, 3), (30, 3)] {
        let sent = [1, 2, 3].map(|pid| (pid, 0b1111, false, 1, NONE));
        let batch = batch(second, &sent);
        facts.read(&batch, (second * 1_000_000_000, 0), |_| {});
        assert_eq!(rows(&mut facts), expected, "at {second} s");
        assert_eq!(facts.counters.len(), 12);
        let io = facts.of_resource(batch.resources().next().unwrap().id()).all[2];
        assert_eq!(io, if second == 10 { 0.0 } else { 10.0 * (1.0 + 2.0) });
    }
    // One that fell is still in its place; one that is no number has the entity go the long way.
    for (second, flaw, expected) in [(40, FELL, 3), (50, NO_NUMBER, 2)] {
        let sent = [(1, 0b1111, false, 1, flaw), (2, 0b1111, false, 1, NONE)];
        facts.read(&batch(second, &sent), (second * 1_000_000_000, 0), |_| {});
        assert_eq!(rows(&mut facts), expected);
        assert_eq!(facts.counters.len(), 12);
    }
}
