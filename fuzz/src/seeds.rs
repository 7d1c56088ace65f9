//! Writes the seed corpus: a handful of small requests that together hold every message and field.
//!
//! `cargo run --bin seeds` in this folder, whenever the protocol gains a field.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::*;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::*;
use opentelemetry_proto::tonic::resource::v1::Resource;
use phoenix_telemetry::{Batch, Limits, json};
use prost::Message as _;
use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let seeds = [
        ("gauge", data(Data::Gauge(Gauge { data_points: numbers() }))),
        ("sum", data(Data::Sum(Sum { data_points: numbers(), aggregation_temporality: 2, is_monotonic: true }))),
        ("histogram", data(Data::Histogram(Histogram { data_points: vec![histogram()], aggregation_temporality: 1 }))),
        (
            "exponential",
            data(Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential()],
                aggregation_temporality: 2,
            })),
        ),
        ("summary", data(Data::Summary(Summary { data_points: vec![summary()] }))),
    ];
    for (name, request) in seeds {
        let bytes = request.encode_to_vec();
        fs::create_dir_all(root.join("decode"))?;
        fs::write(root.join("decode").join(name), &bytes)?;
        // The same sent twice in one: two resources, and a stream that has to be joined.
        fs::write(root.join("decode").join(format!("{name}-twice")), bytes.repeat(2))?;
        let batch = Batch::decode(Bytes::from(bytes), &Limits::default()).map_err(std::io::Error::other)?;
        let mut text = Vec::new();
        json::write(&batch, &mut text);
        fs::create_dir_all(root.join("json"))?;
        fs::write(root.join("json").join(name), text)?;
    }
    Ok(())
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn attributes() -> Vec<KeyValue> {
    let list = vec![AnyValue { value: Some(Value::IntValue(-1)) }, AnyValue::default()];
    vec![
        pair("state", Value::StringValue("user".into())),
        pair("ok", Value::BoolValue(true)),
        pair("pid", Value::IntValue(4711)),
        pair("share", Value::DoubleValue(0.5)),
        pair("bytes", Value::BytesValue(vec![0, 255])),
        pair("list", Value::ArrayValue(ArrayValue { values: list })),
        pair("map", Value::KvlistValue(KeyValueList { values: vec![pair("k", Value::StringValue("v".into()))] })),
    ]
}

fn exemplars() -> Vec<Exemplar> {
    vec![Exemplar {
        filtered_attributes: attributes(),
        time_unix_nano: 7,
        span_id: vec![1; 8],
        trace_id: vec![2; 16],
        value: Some(exemplar::Value::AsInt(3)),
    }]
}

fn numbers() -> Vec<NumberDataPoint> {
    let point = |value| NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        exemplars: exemplars(),
        flags: 1,
        value: Some(value),
    };
    vec![point(number_data_point::Value::AsInt(-7)), point(number_data_point::Value::AsDouble(1.5))]
}

fn histogram() -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(4.5),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.5],
        exemplars: exemplars(),
        flags: 1,
        min: Some(0.0),
        max: Some(9.0),
    }
}

fn exponential() -> ExponentialHistogramDataPoint {
    let buckets = Buckets { offset: -3, bucket_counts: vec![1, 300] };
    ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(4.5),
        scale: -2,
        zero_count: 1,
        positive: Some(buckets.clone()),
        negative: Some(buckets),
        flags: 1,
        exemplars: exemplars(),
        min: Some(0.0),
        max: Some(9.0),
        zero_threshold: 0.25,
    }
}

fn summary() -> SummaryDataPoint {
    SummaryDataPoint {
        attributes: attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: 4.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 7.0 }],
        flags: 1,
    }
}

fn data(data: Data) -> Request {
    let metric = Metric {
        name: "process.cpu.time".into(),
        description: "CPU seconds".into(),
        unit: "s".into(),
        metadata: attributes(),
        data: Some(data),
    };
    let scope = InstrumentationScope {
        name: "scope".into(),
        version: "1.0".into(),
        attributes: attributes(),
        dropped_attributes_count: 1,
    };
    let entity = EntityRef {
        schema_url: "url".into(),
        r#type: "process".into(),
        id_keys: vec!["pid".into()],
        description_keys: vec!["state".into()],
    };
    let resource = Resource { attributes: attributes(), dropped_attributes_count: 1, entity_refs: vec![entity] };
    Request {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics: vec![metric], schema_url: "url".into() }],
            schema_url: "url".into(),
        }],
    }
}
