//! A point with another start and value, with prost's decoder of `opentelemetry-proto` as the judge.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bytes::Bytes;
use common::{request, same};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric::Data, number_data_point,
};
use phoenix_telemetry::write::{close, open, put_number};
use phoenix_telemetry::{Batch, Limits, Number};
use proptest::prelude::*;
use prost::Message as _;

fn point(start: u64, value: number_data_point::Value) -> NumberDataPoint {
    let text = any_value::Value::StringValue("user".into());
    let state = KeyValue { key: "state".into(), value: Some(AnyValue { value: Some(text) }), ..KeyValue::default() };
    let exemplar = Exemplar { time_unix_nano: 4, value: Some(exemplar::Value::AsDouble(0.5)), ..Exemplar::default() };
    NumberDataPoint {
        attributes: vec![state],
        start_time_unix_nano: start,
        time_unix_nano: 9,
        exemplars: vec![exemplar],
        flags: 2,
        value: Some(value),
    }
}

fn request_of(points: Vec<NumberDataPoint>) -> Request {
    let sum = Sum { data_points: points, aggregation_temporality: 2, is_monotonic: true };
    let metric = Metric { name: "m".into(), data: Some(Data::Sum(sum)), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    Request { resource_metrics: vec![resource] }
}

fn decode(bytes: impl Into<Bytes>) -> Batch {
    Batch::decode(bytes.into(), &Limits::default()).unwrap()
}

#[test]
fn all_but_start_and_value_survives() {
    use number_data_point::Value::{AsDouble, AsInt};
    let mut batch =
        decode(request_of(vec![point(3, AsInt(7)), point(0, AsDouble(0.5)), point(3, AsInt(1))]).encode_to_vec());
    let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
    let others = [(ids[0], 5, Number::Int(-2)), (ids[1], 6, Number::Double(0.25)), (ids[2], 8, Number::Int(3))];
    batch.rewrite_points(&others);
    batch.rewrite_points(&[(ids[2], 0, Number::Double(0.0))]);
    let seen: Vec<_> = batch.series().map(|point| (point.start_time(), point.time(), point.value().unwrap())).collect();
    assert_eq!(seen, [(5, 9, Number::Int(-2)), (6, 9, Number::Double(0.25)), (0, 9, Number::Double(0.0))]);
    let out = batch.encode();
    assert_eq!(out.len(), batch.encoded_len());
    let expected = request_of(vec![point(5, AsInt(-2)), point(6, AsDouble(0.25)), point(0, AsDouble(0.0))]);
    assert_eq!(Request::decode(out).unwrap(), expected);
}

#[test]
fn fields_nobody_knows_survive_and_dropped_points_stay_out() {
    let mut body = point(3, number_data_point::Value::AsInt(7)).encode_to_vec();
    put_number(&mut body, 100, 42);
    let mut bytes = Vec::new();
    let opened = [1, 2, 2, 7].map(|number| open(&mut bytes, number));
    for _ in 0..2 {
        phoenix_telemetry::write::put_bytes(&mut bytes, 1, &body);
    }
    for opened in opened.into_iter().rev() {
        let end = bytes.len();
        close(&mut bytes, opened, end);
    }
    let mut batch = decode(bytes);
    let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
    batch.set_verdict(ids[1], phoenix_telemetry::Verdict::Drop);
    batch.rewrite_points(&[(ids[0], 5, Number::Int(8)), (ids[1], 5, Number::Int(8))]);
    let again = decode(batch.encode());
    let points: Vec<_> = again.series().collect();
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].start_time(), points[0].value()), (5, Some(Number::Int(8))));
    let mut unknown = Vec::new();
    put_number(&mut unknown, 100, 42);
    assert!(points[0].body().ends_with(&unknown));
}

/// What the points of a batch say, in its order.
fn said(batch: &Batch) -> Vec<String> {
    let point = |point: phoenix_telemetry::Point<'_>| {
        let (metric, value) = (point.metric(), point.value());
        let (resource, scope) = (metric.resource().attributes(), metric.scope().name());
        let times = (point.start_time(), point.time());
        format!("{resource:?} {scope} {} {:?} {times:?} {value:?}", metric.name(), point.attributes())
    };
    batch.resources().flat_map(|resource| resource.metrics()).flat_map(|metric| metric.points()).map(point).collect()
}

#[derive(Clone, Debug)]
enum Change {
    /// Of as many points from that one on.
    Rewrite(usize, u64, Number),
    Label,
    Drop,
    Resource,
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Change)>> {
    let number = prop_oneof![any::<i64>().prop_map(Number::Int), (0.0..1e9).prop_map(Number::Double)];
    let change = prop_oneof![
        6 => (1usize..4, 0u64..4, number).prop_map(|(many, start, number)| Change::Rewrite(many, start, number)),
        1 => Just(Change::Label),
        1 => Just(Change::Drop),
        1 => Just(Change::Resource),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), change), 0..24)
}

proptest! {
    #[test]
    fn numbers_are_written_over_among_all_other_changes(
        resources in prop::collection::vec(1usize..4, 1..6),
        (first, second) in (changes(), changes()),
    ) {
        // Resources that report as many points are alike; every third point has no start.
        let points = |count: &usize| {
            let point = |at: usize| point(if at == 2 { 0 } else { 3 }, number_data_point::Value::AsInt(at as i64));
            (0..*count).map(|at| NumberDataPoint { flags: 0, exemplars: Vec::new(), ..point(at) }).collect()
        };
        let all = resources.iter().flat_map(|count| request_of(points(count)).resource_metrics).collect();
        let mut batch = decode(Request { resource_metrics: all }.encode_to_vec());
        for changes in [first, second] {
            let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
            if ids.is_empty() {
                return Ok(());
            }
            for (at, change) in changes {
                let id = *at.get(&ids);
                match change {
                    Change::Rewrite(many, start, value) => {
                        let points = ids.iter().skip_while(|first| **first != id).take(many);
                        let points: Vec<_> = points.map(|id| (*id, start, value)).collect();
                        batch.rewrite_points(&points);
                        for point in points.iter().filter_map(|(id, ..)| batch.point(*id)) {
                            prop_assert_eq!((point.start_time(), point.value()), (start, Some(value)));
                        }
                    }
                    Change::Label => batch.edit_point(id, |attributes| attributes.upsert("state", "other")),
                    Change::Drop => batch.set_verdict(id, phoenix_telemetry::Verdict::Drop),
                    Change::Resource => {
                        let Some(resource) = batch.point(id).map(|point| point.metric().resource().id()) else { continue };
                        batch.edit_resource(resource, |attributes| attributes.upsert("host.name", "h"));
                    }
                }
            }
            let out = batch.encode();
            prop_assert_eq!(out.len(), batch.encoded_len());
            let again = decode(out);
            prop_assert_eq!(said(&batch), said(&again));
            // What is joined lies in the arena.
            prop_assert!(batch.append(again).is_none());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rewrite_touches_no_other_point(
        request in request(),
        rewrites in prop::collection::vec((any::<prop::sample::Index>(), 0..3u64, any::<i64>(), any::<bool>()), 1..5),
    ) {
        let bytes = request.encode_to_vec();
        // What was encoded, not what was meant: prost leaves out -0.0 where 0 is the default.
        let mut wanted = Request::decode(bytes.as_slice()).unwrap();
        let mut batch = decode(bytes);
        let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
        for (at, start, value, is_int) in rewrites {
            if ids.is_empty() { continue }
            let at = at.index(ids.len());
            let value = if is_int { Number::Int(value) } else { Number::Double(value as f64) };
            batch.rewrite_points(&[(ids[at], start, value)]);
            if let Some(point) = common::numbers_of(&mut wanted).remove(at) {
                point.start_time_unix_nano = start;
                point.value = Some(match value {
                    Number::Int(value) => number_data_point::Value::AsInt(value),
                    Number::Double(value) => number_data_point::Value::AsDouble(value),
                });
            }
        }
        same(&batch, &wanted);
        prop_assert_eq!(Request::decode(batch.encode()).unwrap().encode_to_vec(), wanted.encode_to_vec());
        prop_assert_eq!(batch.encode().len(), batch.encoded_len());
    }
}
