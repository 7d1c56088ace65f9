//! Bad input: every reason is counted, nothing panics, nothing grows.

use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ScopeMetrics, metric::Data,
};
use std::collections::BTreeMap;

use phoenix_pipeline::config::read;

use super::*;
use crate::edges::{cpu, lines, one};
use crate::readers::{CUMULATIVE, DELTA};

#[test]
fn bad_points_are_counted_by_reason_and_harm_nothing() {
    let mut bench = Bench::new("");
    bench.send(vec![cpu(0, 10, 5)], false);
    let bad = |change: &dyn Fn(&mut NumberDataPoint)| {
        let mut metric = counter("cpu", BEGIN - SECOND, BEGIN + 20 * SECOND, 6);
        if let Some(Data::Sum(sum)) = &mut metric.data {
            change(&mut sum.data_points[0]);
        }
        one(0, true, vec![metric])
    };
    let all = vec![
        bad(&|point| point.time_unix_nano = 0),
        bad(&|point| point.value = None),
        bad(&|point| point.value = Some(Value::AsDouble(f64::NAN))),
        bad(&|point| point.value = Some(Value::AsDouble(f64::INFINITY))),
        bad(&|point| point.value = Some(Value::AsInt(-1))),
        bad(&|point| point.start_time_unix_nano = BEGIN + 30 * SECOND),
        bad(&|point| point.time_unix_nano = BEGIN + SECOND),
        bad(&|_| ()),
        bad(&|_| ()),
    ];
    let mut readers = Readers::default();
    std::mem::swap(&mut bench.input, &mut readers);
    let mut batch =
        Batch::decode(encode(all.into_iter().map(|sent| sent.resource).collect()), &Limits::default()).unwrap();
    let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
    for resource in batch.resources() {
        marks.mark(Entity::Resource(resource.id()), Decision::Fold, "test");
    }
    let mut context = Context { now: bench.now, delivery: &mut delivery, marks: &mut marks };
    bench.stage.process(&mut batch, &mut context);
    assert_eq!(lines(&batch), ["exe-0/ cpu 1", "exe-0/ phoenix.group.entities 1"]);
    let reasons = ["no_time", "no_value", "not_finite", "negative", "start_after_time", "out_of_order", "duplicate"];
    let counts = reasons.map(|reason| bench.own("phoenix_aggregate_dropped_points_total", reason));
    assert_eq!(counts, [1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0]);
    bench.send(Vec::new(), false);
    assert_eq!(bench.own("phoenix_conservation_error", ""), 0.0);
}

#[test]
fn histograms_that_do_not_add_up_and_sums_without_temporality_are_counted() {
    let mut bench = Bench::new("");
    let point = HistogramDataPoint {
        start_time_unix_nano: BEGIN,
        time_unix_nano: BEGIN + SECOND,
        count: 3,
        bucket_counts: vec![3],
        explicit_bounds: vec![1.0, 2.0],
        ..HistogramDataPoint::default()
    };
    let data = Histogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
    let torn = Metric { name: "torn".into(), data: Some(Data::Histogram(data)), ..Metric::default() };
    let mut untold = counter("untold", BEGIN, BEGIN + SECOND, 5);
    if let Some(Data::Sum(sum)) = &mut untold.data {
        sum.aggregation_temporality = 0;
    }
    let batch = bench.send(vec![one(0, true, vec![torn, untold])], false);
    assert_eq!(lines(&batch), ["exe-0/0 untold 5"]);
    assert_eq!(bench.own("phoenix_aggregate_dropped_points_total", "bad_histogram"), 1.0);
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "no_temporality"), 1.0);
}

#[test]
fn empty_messages_are_nothing() {
    let mut bench = Bench::new("fold: all");
    let empty_sum = Metric { data: counter("cpu", 0, 0, 0).data, ..Metric::default() };
    let pointless = |mut metric: Metric| {
        if let Some(Data::Sum(sum)) = &mut metric.data {
            sum.data_points.clear();
        }
        metric
    };
    let bare = Sent { resource: ResourceMetrics::default(), fold: true };
    let scopes = Sent {
        resource: ResourceMetrics { scope_metrics: vec![ScopeMetrics::default(); 3], ..ResourceMetrics::default() },
        fold: true,
    };
    for sent in [vec![], vec![bare], vec![scopes], vec![one(0, true, vec![Metric::default(), pointless(empty_sum)])]] {
        assert_eq!(bench.send(sent, false).points(), 0);
    }
    assert!(bench.flush(true).is_empty());
    assert_eq!((bench.own("phoenix_entities", ""), bench.own("phoenix_groups", "")), (0.0, 0.0));
}

#[test]
fn absurd_limits_are_mistakes() {
    for config in ["max_entities: 1000000000", "max_groups: 1000000000", "max_entities: 0", "max_groups: 0"] {
        let mistakes = read::<phoenix_processors::aggregate::Config>(&parse("test.yaml", config).unwrap()).unwrap_err();
        let said = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.contains("must be between 1 and") && said.contains("test.yaml:1"), "{said}");
    }
}

/// A point of `cpu` as a delta of the last ten seconds.
fn delta(pid: usize, fold: bool, at: u64, value: i64) -> Sent {
    let mut metric = counter("cpu", BEGIN + (at - 10) * SECOND, BEGIN + at * SECOND, value);
    if let Some(Data::Sum(sum)) = &mut metric.data {
        sum.aggregation_temporality = DELTA;
    }
    one(pid, fold, vec![metric])
}

const OUTPUTS: [(&str, Option<i32>); 3] = [
    ("state: {interval: 0s}", None),
    ("{ temporality: delta, state: {interval: 0s} }", Some(DELTA)),
    ("{ temporality: cumulative, state: {interval: 0s} }", Some(CUMULATIVE)),
];

#[test]
fn a_change_of_temporality_is_counted_and_never_counts_twice() {
    for (config, wanted) in OUTPUTS {
        for restart in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let mut bench = Bench::at(restarts::site(directory.path()), config);
            bench.out.wanted = wanted;
            let mut flips = 0.0;
            let change = |bench: &mut Bench, flips: &mut f64| {
                *flips += bench.own("phoenix_aggregate_temporality_flips_total", "");
                if restart {
                    bench.restart(true);
                    assert_eq!(bench.own("phoenix_aggregate_state_found_total", "restored"), 0.0);
                }
            };
            for at in [0, 10, 20] {
                bench.send(
                    vec![
                        one(0, false, vec![counter("cpu", BEGIN - SECOND, BEGIN + at * SECOND, at as i64)]),
                        cpu(1, at, at as i64),
                    ],
                    false,
                );
            }
            change(&mut bench, &mut flips);
            for at in [30, 40] {
                bench.send(vec![delta(0, false, at, 10), delta(1, true, at, 10)], false);
            }
            let between = if restart { 0.0 } else { bench.own("phoenix_aggregate_temporality_flips_total", "") };
            assert!(restart || between == 2.0);
            change(&mut bench, &mut flips);
            for at in [50, 60] {
                bench.send(
                    vec![
                        one(0, false, vec![counter("cpu", BEGIN - SECOND, BEGIN + at * SECOND, at as i64)]),
                        cpu(1, at, at as i64),
                    ],
                    false,
                );
            }
            bench.flush(true);
            let read: BTreeMap<String, i128> =
                bench.out.r1.iter().map(|((_, _, exe), total)| (exe.clone(), total.int)).collect();
            // 20 as a cumulative sum, 20 as deltas, 10 after the second change: the point at 50 is only where it begins.
            assert_eq!(read.into_values().collect::<Vec<_>>(), [50, 50], "{config} {restart}");
            assert_eq!(bench.own("phoenix_conservation_error", ""), 0.0);
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn changes_of_temporality_invent_nothing(
        script in prop::collection::vec(prop::collection::vec((any::<bool>(), any::<bool>(), 0i64..100), 1..4), 1..20), output in 0usize..3
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (config, wanted) = OUTPUTS[output];
        let mut bench = Bench::at(restarts::site(directory.path()), config);
        bench.out.wanted = wanted;
        let mut values = [0; 4];
        let mut truth = 0;
        for (i, steps) in script.iter().enumerate() {
            let at = 10 * (i as u64 + 1);
            let sent = steps.iter().enumerate().map(|(pid, (fold, deltas, added))| {
                values[pid] += added;
                truth += i128::from(*added);
                if *deltas {
                    delta(pid, *fold, at, *added)
                } else {
                    one(pid, *fold, vec![counter("cpu", BEGIN - SECOND, BEGIN + at * SECOND, values[pid])])
                }
            });
            bench.send(sent.collect(), false);
            prop_assert_eq!(bench.own("phoenix_conservation_error", ""), 0.0);
        }
        bench.flush(true);
        let read = bench.out.r1.values().map(|total| total.int).sum::<i128>();
        prop_assert!(read <= truth, "{} of {}", read, truth);
    }
}
