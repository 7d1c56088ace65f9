//! What is not in the table: limits, silence, the wire, gauges, and input that is bad.

use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, metric::Data};

use super::*;
use crate::world::string;

/// The lines of a batch: executable, process, metric, and the value or `closed`.
pub(crate) fn lines(batch: &Batch) -> Vec<String> {
    let mut lines: Vec<String> = batch
        .series()
        .map(|point| {
            let own = point.metric().resource().attributes();
            let of = |key| own.get(key).map_or(String::new(), |value| value.to_string());
            let value = match point.value() {
                _ if point.no_recorded_value() => "closed".to_owned(),
                Some(value) => value.as_f64().to_string(),
                None => "nothing".to_owned(),
            };
            format!("{}/{} {} {value}", of("process.executable.name"), of("process.pid"), point.metric().name())
        })
        .collect();
    lines.sort();
    lines
}

pub(crate) fn one(pid: usize, fold: bool, metrics: Vec<Metric>) -> Sent {
    Sent { resource: wrap(pid, metrics), fold }
}

pub(crate) fn cpu(pid: usize, at: u64, value: i64) -> Sent {
    one(pid, true, vec![counter("cpu", BEGIN - SECOND, BEGIN + at * SECOND, value)])
}

#[test]
fn what_finds_no_room_folds_into_other() {
    let mut bench = Bench::new("max_groups: 2");
    for at in [0, 10] {
        let batch = bench.send((0..3).map(|pid| cpu(pid, at, at as i64)).collect(), false);
        let groups: Vec<String> = lines(&batch).into_iter().filter(|line| line.contains(" cpu ")).collect();
        let expected = [format!("exe-0/ cpu {at}"), format!("other/ cpu {}", 2 * at)];
        assert_eq!(groups, expected);
        let other =
            batch.resources().find(|r| r.attributes().get_str("process.executable.name") == Some("other")).unwrap();
        assert!(other.attributes().get("otel.metric.overflow").is_some());
    }
    assert_eq!(bench.own("phoenix_aggregate_overflow_points_total", ""), 4.0);
    assert_eq!(bench.own("phoenix_groups", ""), 2.0);
    bench.swap();
    assert_eq!(bench.own("phoenix_groups", ""), 2.0, "the old stage's last word does not count");
}

#[test]
fn entities_beyond_the_limit_pass_untouched() {
    let mut bench = Bench::new("max_entities: 2");
    for at in [0, 10] {
        let batch = bench.send((0..4).map(|pid| cpu(pid, at, 5)).collect(), false);
        let passed = lines(&batch).into_iter().filter(|line| !line.contains("/ ")).count();
        assert_eq!(passed, 2);
    }
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "entity_limit"), 4.0);
    assert_eq!(bench.own("phoenix_entities", "fold"), 2.0);
}

#[test]
fn over_the_wire_a_group_waits_for_the_rest_of_its_scrape() {
    let mut bench = Bench::new("");
    assert!(bench.send(vec![cpu(0, 0, 1)], true).is_empty(), "delivered, but nothing is said yet");
    assert!(bench.send(vec![cpu(3, 0, 1)], true).is_empty());
    assert!(bench.flush(false).is_empty(), "200 ms are not over");
    bench.now += Duration::from_millis(200);
    assert_eq!(bench.stage.deadline(), Some(bench.now));
    assert_eq!(lines(&bench.flush(false)), ["exe-0/ cpu 0", "exe-0/ phoenix.group.entities 2"]);
    assert_eq!(bench.stage.deadline(), None);
    assert!(bench.send(vec![cpu(0, 10, 3)], true).is_empty());
    let moved_on = bench.send(vec![cpu(0, 20, 4)], true);
    assert_eq!(lines(&moved_on), ["exe-0/ cpu 2", "exe-0/ phoenix.group.entities 2"]);
    assert_eq!(lines(&bench.flush(true)), ["exe-0/ cpu 3", "exe-0/ phoenix.group.entities 2"]);
}

#[test]
fn many_hosts_in_one_group_are_paced_by_the_time_of_their_points() {
    let mut bench = Bench::new("");
    let nameless = |at, value| {
        let mut sent = cpu(0, at, value);
        sent.resource.resource.as_mut().unwrap().attributes.remove(0);
        sent
    };
    let mut spoken = 0;
    for at in 0..=30 {
        spoken += bench.send(vec![nameless(at, at as i64)], true).points();
        bench.now += Duration::from_secs(1);
        spoken += bench.flush(false).points();
    }
    assert_eq!(spoken, 2 * 4, "at 0, 10, 20 and 30 seconds: a counter and the number of entities");
}

#[test]
fn silence_ends_members_and_at_last_the_group() {
    let mut bench = Bench::new("{ member_expiry: 1m, group_expiry: 10m }");
    let level = |at: u64| {
        let mut metric = counter("memory", 0, BEGIN + at * SECOND, 7);
        if let Some(Data::Sum(sum)) = &mut metric.data {
            sum.is_monotonic = false;
        }
        one(0, true, vec![metric, counter("cpu", BEGIN, BEGIN + at * SECOND, at as i64)])
    };
    let other = |at: u64| one(1, false, vec![counter("cpu", BEGIN, BEGIN + at * SECOND, 1)]);
    bench.send(vec![level(0)], false);
    assert_eq!(
        lines(&bench.send(vec![level(10), other(10)], false)),
        ["exe-0/ cpu 10", "exe-0/ memory 7", "exe-0/ phoenix.group.entities 1", "exe-1/1 cpu 1"]
    );
    let batch = bench.send(vec![other(120)], false);
    assert_eq!(
        lines(&batch),
        ["exe-0/ cpu 10", "exe-0/ memory 0", "exe-0/ phoenix.group.entities 0", "exe-1/1 cpu 1", "exe-1/1 cpu closed"]
            .into_iter()
            .filter(|line| !line.contains("/1 cpu closed"))
            .collect::<Vec<_>>(),
        "the level is empty, the counter stays"
    );
    let batch = bench.send(vec![other(1000)], false);
    assert_eq!(
        lines(&batch),
        ["exe-0/ cpu closed", "exe-0/ memory closed", "exe-0/ phoenix.group.entities closed", "exe-1/1 cpu 1"]
    );
    assert_eq!(bench.own("phoenix_groups", ""), 0.0);
}

#[test]
fn gauges_fold_only_by_a_function() {
    let gauge = |pid: usize, at: u64, value: f64| {
        let metric = |name: &str| {
            let point = NumberDataPoint {
                time_unix_nano: BEGIN + at * SECOND,
                value: Some(Value::AsDouble(value)),
                ..NumberDataPoint::default()
            };
            let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
            Metric { name: name.into(), data, ..Metric::default() }
        };
        one(pid, true, ["a.min", "b.max", "c.mean", "d.last", "e.none"].map(metric).into())
    };
    let mut bench = Bench::new("gauges: { a.min: min, b.max: max, c.mean: mean, d.last: last }");
    let batch = bench.send(vec![gauge(0, 0, 2.0), gauge(3, 0, 6.0), gauge(6, 0, 1.0)], false);
    assert_eq!(
        lines(&batch),
        [
            "exe-0/ a.min 1",
            "exe-0/ b.max 6",
            "exe-0/ c.mean 3",
            "exe-0/ d.last 6",
            "exe-0/ phoenix.group.entities 3",
            "exe-0/0 e.none 2",
            "exe-0/3 e.none 6",
            "exe-0/6 e.none 1",
        ]
    );
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "gauge"), 3.0);
}

#[test]
fn what_nobody_marked_keeps_its_bytes() {
    let mut bench = Bench::new("");
    for at in [0, 10] {
        let metric = counter("cpu", BEGIN, BEGIN + at * SECOND, at as i64);
        let bytes = encode(vec![wrap(0, vec![metric.clone()])]);
        assert_eq!(bench.send(vec![one(0, false, vec![metric])], false).encode(), bytes);
    }
}

#[test]
fn all_folds_processes_and_nothing_else() {
    let mut bench = Bench::new("fold: all");
    let mut host = one(0, false, vec![counter("system.cpu", BEGIN, BEGIN, 5)]);
    host.resource.resource.as_mut().unwrap().attributes = vec![string("host.name", "h")];
    let mut keyless = cpu(1, 0, 1);
    keyless.resource.resource.as_mut().unwrap().attributes.truncate(2);
    keyless.fold = false;
    let process = Sent { fold: false, ..cpu(0, 0, 1) };
    let batch = bench.send(vec![host, keyless, process], false);
    assert_eq!(lines(&batch), ["/ system.cpu 5", "/1 cpu 1", "exe-0/ cpu 0", "exe-0/ phoenix.group.entities 1"]);
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "no_group_key"), 1.0);
}

#[test]
fn a_group_of_another_agent_is_not_folded_into_itself() {
    let mut bench = Bench::new("");
    let mut group = cpu(0, 0, 5);
    group.resource.resource.as_mut().unwrap().attributes.remove(1);
    assert_eq!(lines(&bench.send(vec![group, cpu(1, 0, 1)], false)).len(), 3);
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "is_group"), 1.0);
}

#[test]
fn integers_and_doubles_of_one_series_add_up() {
    let mut bench = Bench::new("");
    for (at, value) in [(0, Value::AsInt(5)), (10, Value::AsInt(7)), (20, Value::AsDouble(7.5)), (30, Value::AsInt(9))]
    {
        let mut metric = counter("cpu", BEGIN - SECOND, BEGIN + at * SECOND, 0);
        if let Some(Data::Sum(sum)) = &mut metric.data {
            sum.data_points[0].value = Some(value);
        }
        bench.send(vec![one(0, at != 20, vec![metric])], false);
    }
    let total: f64 = bench.out.r1.values().map(|total| total.sum()).sum();
    assert_eq!((total, bench.own("phoenix_conservation_error", "")), (4.0, 0.0));
}

#[test]
fn the_wild_clock_of_one_host_moves_no_other() {
    let mut bench = Bench::new("");
    let of = |host: &str, at: u64, value: i64| {
        let mut sent = one(0, true, vec![counter("cpu", BEGIN + 3 * SECOND, BEGIN + at * SECOND, value)]);
        sent.resource.resource.as_mut().unwrap().attributes[0] = string("host.name", host);
        sent
    };
    bench.send(vec![of("wild", 1_000_000, 1), one(1, true, vec![counter("cpu", BEGIN, BEGIN, 1)])], false);
    let batch = bench.send(vec![of("wild", 2_000_000, 1), of("h", 10, 5)], false);
    let newborn = batch.series().find(|point| {
        let own = point.metric().resource().attributes();
        let cpu = point.metric().name() == "cpu";
        cpu && own.get_str("host.name") == Some("h") && own.get_str("process.executable.name") == Some("exe-0")
    });
    let newborn = newborn.unwrap();
    assert_eq!(newborn.value(), Some(phoenix_telemetry::Number::Int(5)), "created since its own host's last scrape");
    assert_eq!(newborn.start_time(), BEGIN + 3 * SECOND);
}

#[test]
fn one_point_from_the_future_does_not_hide_the_scrape_before() {
    let mut bench = Bench::new("");
    bench.send(vec![cpu(1, 0, 1)], false);
    bench.send(vec![cpu(2, 1_000_000, 1)], true);
    bench.send(vec![cpu(1, 10, 2)], true);
    let born = one(0, false, vec![counter("cpu", BEGIN + 15 * SECOND, BEGIN + 20 * SECOND, 4)]);
    bench.send(vec![born], true);
    let older = one(3, true, vec![counter("cpu", BEGIN + 5 * SECOND, BEGIN + 20 * SECOND, 4)]);
    bench.send(vec![older], true);
    bench.flush(true);
    let of = |exe: &str| {
        let totals = bench.out.r1.iter().filter(|(account, _)| account.2 == exe);
        totals.map(|(_, total)| total.int).sum::<i128>()
    };
    assert_eq!((of("exe-0"), of("exe-1")), (4, 1), "the newborn whole, the older one from now on");
}

#[test]
fn a_class_or_nothing_at_all_can_name_the_group() {
    for (config, key, value) in
        [("group_by: [phoenix.class]", "phoenix.class", "normal"), ("group_by: []", "phoenix.group", "other")]
    {
        let mut bench = Bench::new(config);
        let batch = bench.send((0..3).map(|pid| cpu(pid, 0, 1)).collect(), false);
        let group = batch.resources().next().unwrap();
        assert_eq!((batch.points(), group.attributes().get_str(key)), (2, Some(value)));
    }
}

/// A point of any shape: times, values and flags from the edges of their ranges.
fn any_point() -> impl Strategy<Value = NumberDataPoint> {
    let time = || {
        prop::sample::select(vec![0, 1, BEGIN, BEGIN + 1, BEGIN + SECOND, BEGIN + 9 * SECOND, u64::MAX - 1, u64::MAX])
    };
    let value = prop::sample::select(vec![
        None,
        Some(Value::AsInt(i64::MIN)),
        Some(Value::AsInt(0)),
        Some(Value::AsInt(7)),
        Some(Value::AsInt(i64::MAX)),
        Some(Value::AsDouble(f64::NAN)),
        Some(Value::AsDouble(f64::NEG_INFINITY)),
        Some(Value::AsDouble(-0.0)),
        Some(Value::AsDouble(0.5)),
        Some(Value::AsDouble(f64::MAX)),
    ]);
    (time(), time(), value, prop::sample::select(vec![0, 0, 0, 1])).prop_map(|(start, time, value, flags)| {
        NumberDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: time,
            value,
            flags,
            ..NumberDataPoint::default()
        }
    })
}

fn any_metric() -> impl Strategy<Value = Metric> {
    (prop::collection::vec(any_point(), 0..4), -1i32..4, any::<bool>(), any::<bool>()).prop_map(
        |(points, temporality, monotonic, gauge)| {
            let data = if gauge {
                Data::Gauge(Gauge { data_points: points })
            } else {
                Data::Sum(opentelemetry_proto::tonic::metrics::v1::Sum {
                    data_points: points,
                    aggregation_temporality: temporality,
                    is_monotonic: monotonic,
                })
            };
            Metric { name: "m".into(), data: Some(data), ..Metric::default() }
        },
    )
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn no_input_brings_it_down(
        batches in prop::collection::vec(
            (prop::collection::vec((0usize..3, any::<bool>(), prop::collection::vec(any_metric(), 0..3)), 0..4), any::<bool>(), any::<bool>()),
            1..12,
        )
    ) {
        let mut configs = [
            "{ gauges: { m: mean }, max_entities: 2, max_groups: 2, member_expiry: 2s, group_expiry: 3s }",
            "{ temporality: delta, max_entities: 2, max_groups: 2, member_expiry: 2s, group_expiry: 3s }",
            "{ temporality: cumulative, max_entities: 2, max_groups: 2, member_expiry: 2s, group_expiry: 3s }",
        ].into_iter().cycle();
        let mut bench = Bench::new(configs.next().unwrap());
        for (resources, wire, swap) in batches {
            if swap {
                bench.config = configs.next().unwrap();
                bench.swap();
            }
            let mut batch = Batch::decode(
                encode(resources.iter().map(|(pid, _, metrics)| wrap(*pid, metrics.clone())).collect()),
                &Limits::default(),
            ).unwrap();
            let mut marks = Marks::default();
            for (resource, (_, fold, _)) in batch.resources().zip(&resources) {
                if *fold {
                    marks.mark(Entity::Resource(resource.id()), Decision::Fold, "test");
                }
            }
            let mut delivery = if wire { Delivery::new(|_| ()) } else { Delivery::none() };
            let mut context = Context { now: bench.now, delivery: &mut delivery, marks: &mut marks };
            bench.stage.process(&mut batch, &mut context);
            delivery.delivered();
            Batch::decode(batch.encode(), &Limits::default()).unwrap();
            prop_assert!(bench.own("phoenix_entities", "") <= 2.0);
            prop_assert!(bench.own("phoenix_groups", "") <= 2.0);
            prop_assert!(!bench.own("phoenix_conservation_error", "").is_nan());
        }
        let (mut batch, mut delivery, mut marks) = (Batch::default(), Delivery::none(), Marks::default());
        bench.stage.flush(&mut batch, &mut Context { now: bench.now, delivery: &mut delivery, marks: &mut marks }, true);
        delivery.delivered();
    }
}
