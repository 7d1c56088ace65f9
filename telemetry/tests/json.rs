//! OTLP/JSON in both directions, against what prost reads from the result and against texts written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bytes::Bytes;
use common::mangle::mangle;
use common::{request, same};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use phoenix_telemetry::{Batch, JsonError, Limits, json};
use proptest::prelude::*;
use prost::Message as _;

fn write(batch: &Batch) -> String {
    let mut out = Vec::new();
    json::write(batch, &mut out);
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> Result<Batch, JsonError> {
    let bytes = json::read(text.as_bytes(), &Limits::default())?;
    Ok(Batch::decode(Bytes::from(bytes), &Limits::default()).expect("what was read is well-formed"))
}

fn reason(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_survives_the_round_trip(request in request(), seed: u64) {
        let bytes = mangle(&request.encode_to_vec(), seed);
        let wanted = Request::decode(bytes.as_slice()).unwrap();
        let text = write(&Batch::decode(Bytes::from(bytes), &Limits::default()).unwrap());
        let batch = read(&text).unwrap();
        same(&batch, &wanted);
        let again = Request::decode(batch.encode()).unwrap();
        // NaN has one form in JSON: compare what is written of both.
        let plain = Batch::decode(Bytes::from(wanted.encode_to_vec()), &Limits::default()).unwrap();
        let back = Batch::decode(Bytes::from(again.encode_to_vec()), &Limits::default()).unwrap();
        prop_assert_eq!(write(&back), write(&plain));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(parsed.is_object());
    }

    #[test]
    fn arbitrary_text_is_read_or_refused(text in "[\\[\\]{}:,\"a-z0-9 .-]{0,80}") {
        let _ = json::read(text.as_bytes(), &Limits::default());
    }

    #[test]
    fn damaged_text_is_read_or_refused(
        request in request(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let batch = Batch::decode(Bytes::from(request.encode_to_vec()), &Limits::default()).unwrap();
        let mut text = write(&batch).into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        match json::read(&text, &Limits::default()) {
            Ok(bytes) => drop(Request::decode(bytes.as_slice()).expect("what was read is well-formed")),
            Err(error) => prop_assert!(error.offset <= text.len()),
        }
    }
}

/// The example of the specification's repository, shortened, with a key and an order of its own.
const EXAMPLE: &str = r#"{
  "resourceMetrics": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
    "scopeMetrics": [{
      "scope": {"name": "my.library", "version": "1.0.0"},
      "somethingNew": {"nested": [1, 2, {"x": null}]},
      "metrics": [
        {"name": "my.counter", "unit": "1", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
          "dataPoints": [{"asDouble": 5, "startTimeUnixNano": "1544712660300000000", "timeUnixNano": 1544712660300000000,
            "flags": 1, "attributes": [{"key": "n", "value": {"intValue": "-7"}}],
            "exemplars": [{"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "asInt": "3"}]}]}},
        {"name": "my.gauge", "gauge": {"dataPoints": [{"asDouble": "NaN"}, {"asInt": 10}, {"asDouble": "-Infinity"}]}},
        {"name": "my.histogram", "histogram": {"aggregationTemporality": 2, "dataPoints": [
          {"count": "2", "sum": 2.5, "bucketCounts": ["1", 1], "explicitBounds": [1.5], "min": 0, "max": 2}]}},
        {"name": "my.exponential", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
          {"count": 3, "scale": -1, "zeroCount": 1, "positive": {"offset": -2, "bucketCounts": [0, "2"]}}]}}
      ]
    }]
  }]
}"#;

#[test]
fn the_specifications_example_is_read() {
    let batch = read(EXAMPLE).unwrap();
    let wanted = Request::decode(batch.encode()).unwrap();
    same(&batch, &wanted);
    let points: Vec<_> = batch.series().collect();
    assert_eq!(points.len(), 6);
    assert_eq!(points[0].value(), Some(phoenix_telemetry::Number::Double(5.0)));
    assert_eq!((points[0].start_time(), points[0].time()), (1_544_712_660_300_000_000, 1_544_712_660_300_000_000));
    assert_eq!(points[0].attributes().get("n"), Some(phoenix_telemetry::AnyValue::Int(-7)));
    let exemplar = points[0].exemplars().next().unwrap();
    assert_eq!(exemplar.span_id, [0xEE, 0xE1, 0x9B, 0x7E, 0xC3, 0xC1, 0xB1, 0x74]);
    assert_eq!(exemplar.trace_id.len(), 16);
    assert!(points[0].no_recorded_value());
    assert!(points[0].metric().is_monotonic());
    assert_eq!(points[4].histogram().unwrap().bucket_counts().collect::<Vec<_>>(), [1, 1]);
    let exponential = points[5].exponential_histogram().unwrap();
    assert_eq!((exponential.scale, exponential.positive().offset), (-1, -2));
    assert_eq!(exponential.positive().counts().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_is_written_follows_the_mapping() {
    let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"dataPoints":[{"timeUnixNano":"7","attributes":[{"key":"k","value":{"bytesValue":"AP8="}},{"key":"q","value":{"stringValue":"\"\n"}}],"exemplars":[{"spanId":"00ff","asDouble":1.5}],"asInt":"-1"}],"aggregationTemporality":2,"isMonotonic":true}}]}]}]}"#;
    let batch = read(text).unwrap();
    let again = write(&batch);
    let (a, b): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(text).unwrap(), serde_json::from_str(&again).unwrap());
    assert_eq!(a, b);
}

#[test]
fn snake_case_is_an_unknown_key() {
    assert!(read(r#"{"resource_metrics": [{"scope_metrics": 7}]}"#).unwrap().is_empty());
}

#[test]
fn null_is_absent() {
    let batch = read(r#"{"resourceMetrics": [{"resource": null, "scopeMetrics": null, "schemaUrl": null}]}"#).unwrap();
    assert_eq!(batch.resources().count(), 1);
}

#[test]
fn faults_say_what_and_where() {
    let sum =
        |inner: &str| format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"sum":{{{inner}}}}}]}}]}}]}}"#);
    let found = reason(&sum(r#""aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA""#));
    assert!(found.contains("names of enum values are no part of OTLP"), "{found}");
    let found = reason(&sum(r#""dataPoints":[{"timeUnixNano":"18446744073709551616"}]"#));
    assert!(found.contains("out of range for timeUnixNano"), "{found}");
    let found = reason(&sum(r#""dataPoints":[{"timeUnixNano":1.5}]"#));
    assert!(found.contains("a 64-bit integer"), "{found}");
    let found = reason(&sum(r#""dataPoints":[{"asInt":1,"asDouble":2}]"#));
    assert!(found.contains("asInt and asDouble exclude each other"), "{found}");
    let found = reason(&sum(r#""isMonotonic":1"#));
    assert!(found.contains("true or false for isMonotonic"), "{found}");
    let found = reason(&sum(r#""dataPoints":[{"exemplars":[{"traceId":"xyz"}]}]"#));
    assert!(found.contains("hexadecimal"), "{found}");
    let found = reason(&sum(r#""dataPoints":[{"flags":1,"flags":1}]"#));
    assert!(found.contains("flags occurs twice"), "{found}");
    let text = "{\n  \"resourceMetrics\": 7}";
    let error = read(text).unwrap_err();
    assert_eq!(&text[error.offset..], "7}", "{error}");
    assert!(read("").is_err() && read("[]").is_err() && read("{} {}").is_err());
}

#[test]
fn nesting_is_limited() {
    let deep = |n: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(n);
        let close = "]}}".repeat(n);
        let value = format!(r#"{open}{{"intValue":1}}{close}"#);
        format!(r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"k","value":{value}}}]}}}}]}}"#)
    };
    let limits = Limits { max_depth: 8, ..Limits::default() };
    assert!(json::read(deep(7).as_bytes(), &limits).is_ok());
    let error = json::read(deep(8).as_bytes(), &limits).unwrap_err();
    assert!(error.reason.contains("nest too deep"), "{error}");
    assert!(json::read(deep(10_000).as_bytes(), &Limits { max_depth: usize::MAX, ..limits }).is_err());
    let small = Limits { max_bytes: 10, ..limits };
    assert_eq!(json::read(deep(1).as_bytes(), &small).unwrap_err().offset, 10);
}
