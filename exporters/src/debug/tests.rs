//! The text of the debug exporter, against the Collector's.

use super::*;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use phoenix_telemetry::Limits;
use prost::Message;
use std::sync::mpsc;

const START: u64 = 1_581_452_772_000_000_321;
const TIME: u64 = 1_581_452_773_000_000_789;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn text_attribute(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

fn all_kinds() -> Batch {
    let exemplar = Exemplar {
        filtered_attributes: vec![text_attribute("exemplar-attachment", "attached")],
        time_unix_nano: TIME,
        trace_id: (1..17).collect(),
        span_id: (17..25).collect(),
        value: Some(exemplar::Value::AsDouble(15.0)),
    };
    let number = |value, flags| NumberDataPoint {
        attributes: vec![text_attribute("label-1", "value-1")],
        start_time_unix_nano: START,
        time_unix_nano: TIME,
        flags,
        value: Some(value),
        ..Default::default()
    };
    let metric = |name: &str, data| Metric {
        name: name.into(),
        description: format!("a {name}"),
        unit: "1".into(),
        data: Some(data),
        metadata: vec![attribute("meta.id", any_value::Value::IntValue(101))],
    };
    let side = |offset, counts: &[u64]| Some(Buckets { offset, bucket_counts: counts.to_vec() });
    let metrics = vec![
        metric("gauge-int", Data::Gauge(Gauge { data_points: vec![number(number_data_point::Value::AsInt(123), 0)] })),
        metric(
            "sum-double",
            Data::Sum(Sum {
                data_points: vec![number(number_data_point::Value::AsDouble(1.23), 1)],
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
        ),
        metric(
            "histogram",
            Data::Histogram(Histogram {
                data_points: vec![HistogramDataPoint {
                    count: 1,
                    sum: Some(15.0),
                    min: Some(15.0),
                    max: Some(15.0),
                    explicit_bounds: vec![1.0],
                    bucket_counts: vec![0, 1],
                    exemplars: vec![exemplar],
                    ..Default::default()
                }],
                aggregation_temporality: 2,
            }),
        ),
        metric(
            "exponential-histogram",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![ExponentialHistogramDataPoint {
                    count: 5,
                    sum: Some(0.15),
                    scale: 1,
                    zero_count: 1,
                    positive: side(1, &[1, 1]),
                    negative: side(-1, &[1, 1]),
                    ..Default::default()
                }],
                aggregation_temporality: 1,
            }),
        ),
        metric(
            "summary",
            Data::Summary(Summary {
                data_points: vec![SummaryDataPoint {
                    count: 1,
                    sum: 15.0,
                    quantile_values: vec![ValueAtQuantile { quantile: 0.01, value: 15.0 }],
                    ..Default::default()
                }],
            }),
        ),
    ];
    let scope = InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![attribute("on", any_value::Value::BoolValue(true))],
        ..Default::default()
    };
    let resource = Resource { attributes: vec![text_attribute("resource-attr", "r1")], ..Default::default() };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: "https://scope".into() }],
            schema_url: "https://resource".into(),
        }],
    };
    Batch::decode(request.encode_to_vec().into(), &Limits::default()).unwrap()
}

#[test]
fn basic_is_one_line() {
    assert_eq!(
        text(&all_kinds(), Verbosity::Basic, TIME),
        "2020-02-11T20:26:13.000Z\tinfo\tMetrics\t{\"resource metrics\": 1, \"metrics\": 5, \"data points\": 5}\n"
    );
}

#[test]
fn normal_is_one_line_a_point() {
    let text = text(&all_kinds(), Verbosity::Normal, TIME);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "ResourceMetrics #0 [https://resource] resource-attr=r1",
            "ScopeMetrics #0 lib@1.2 [https://scope] on=true",
            "gauge-int{label-1=value-1} 123",
            "sum-double{label-1=value-1} no recorded value",
            "histogram{} count=1 sum=15 min=15 max=15 le1=0 1",
            "exponential-histogram{} count=5 sum=0.15 scale=1 -[-1]=1 -[0]=1 [1]=1 [2]=1 zero_count0=1",
            "summary{} count=1 sum=15 q0.01=15",
        ]
    );
}

#[test]
fn detailed_shows_every_field_of_every_kind() {
    let text = text(&all_kinds(), Verbosity::Detailed, TIME);
    for expected in [
        "ResourceMetrics #0\nResource SchemaURL: https://resource\nResource attributes:\n     -> resource-attr: Str(r1)\nScopeMetrics #0\nScopeMetrics SchemaURL: https://scope\nInstrumentationScope lib 1.2\nInstrumentationScope attributes:\n     -> on: Bool(true)\nMetric #0\n",
        "Descriptor:\n     -> Name: gauge-int\n     -> Description: a gauge-int\n     -> Unit: 1\n     -> DataType: Gauge\n     -> Metadata:\n          -> meta.id: Int(101)\nNumberDataPoints #0\nData point attributes:\n     -> label-1: Str(value-1)\nStartTimestamp: 2020-02-11 20:26:12.000000321 +0000 UTC\nTimestamp: 2020-02-11 20:26:13.000000789 +0000 UTC\nValue: 123\n",
        "     -> IsMonotonic: true\n     -> AggregationTemporality: Cumulative\n",
        "Flags: 1 (no recorded value)\nValue: 1.230000\n",
        "Count: 1\nSum: 15.000000\nMin: 15.000000\nMax: 15.000000\nExplicitBounds #0: 1.000000\nBuckets #0, Count: 0\nBuckets #1, Count: 1\nExemplars:\nExemplar #0\n     -> Trace ID: 0102030405060708090a0b0c0d0e0f10\n     -> Span ID: 1112131415161718\n     -> Timestamp: 2020-02-11 20:26:13.000000789 +0000 UTC\n     -> Value: 15.000000\n     -> FilteredAttributes:\n          -> exemplar-attachment: Str(attached)\n",
        "     -> AggregationTemporality: Delta\nExponentialHistogramDataPoints #0\n",
        "Sum: 0.150000\nScale: 1\nBucket [-1.414214, -1.000000), Count: 1\nBucket [-1.000000, -0.707107), Count: 1\nBucket [0, 0], Count: 1\nBucket (1.414214, 2.000000], Count: 1\nBucket (2.000000, 2.828427], Count: 1\n",
        "SummaryDataPoints #0\nStartTimestamp: 1970-01-01 00:00:00 +0000 UTC\nTimestamp: 1970-01-01 00:00:00 +0000 UTC\nCount: 1\nSum: 15.000000\nQuantileValue #0: Quantile 0.010000, Value 15.000000\n",
    ] {
        assert!(text.contains(expected), "missing:\n{expected}\nin:\n{text}");
    }
}

#[test]
fn a_scale_that_cannot_be_is_shown_as_it_is() {
    let point = ExponentialHistogramDataPoint {
        scale: i32::MIN,
        positive: Some(Buckets { offset: i32::MAX, bucket_counts: vec![1] }),
        ..Default::default()
    };
    let data =
        Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], aggregation_temporality: 1 });
    let scope_metrics =
        vec![ScopeMetrics { metrics: vec![Metric { data: Some(data), ..Default::default() }], ..Default::default() }];
    let request =
        ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }] };
    let batch = Batch::decode(request.encode_to_vec().into(), &Limits::default()).unwrap();
    assert!(text(&batch, Verbosity::Detailed, 0).contains("Scale: -2147483648\nBucket (inf, inf], Count: 1\n"));
}

#[test]
fn sampling_writes_the_first_few_of_a_second_and_every_nth_after() {
    let sample = |thereafter| {
        let mut sampler = Sampler::new(&Config { sampling_thereafter: thereafter, ..Config::default() });
        let start = Instant::now();
        let mut second = |at| (0..8).filter(|_| sampler.wants(start + Duration::from_secs(at))).count();
        (second(0), second(1))
    };
    assert_eq!(sample(1), (8, 8), "the default writes all");
    assert_eq!(sample(3), (4, 4));
    assert_eq!(sample(0), (2, 2));
}

/// A sink that hands on what is written.
struct Wire(mpsc::Sender<Vec<u8>>);

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_was_written_is_delivered_and_a_gone_terminal_refuses() {
    let (sink, written) = mpsc::channel();
    let (told, outcomes) = mpsc::channel();
    let site = Site::for_test("debug");
    let exporter = start(&Config::default(), &site, Wire(sink)).unwrap();
    let delivery = || {
        let told = told.clone();
        Delivery::new(move |outcome| told.send(outcome.is_ok()).unwrap())
    };
    exporter.export(Shipment::new(all_kinds()), delivery());
    assert!(outcomes.recv_timeout(Duration::from_secs(10)).unwrap());
    assert!(String::from_utf8(written.recv().unwrap()).unwrap().contains("\"data points\": 5"));
    drop(written);
    exporter.export(Shipment::new(all_kinds()), delivery());
    assert!(!outcomes.recv_timeout(Duration::from_secs(10)).unwrap());
    exporter.shutdown(Instant::now() + Duration::from_secs(10)).await;
}
