//! What the page says about batches of every kind; `life` is about what becomes of series over time.

mod life;

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use phoenix_telemetry::{Batch, Limits};
use prost::Message;

use super::store::{Absorbed, Bounds, Store};
use super::text::{Format, page};
use super::value::Reason;
use super::{ResourceLabels, TextOptions};

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let value = |value: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    pairs
        .iter()
        .map(|(key, text)| KeyValue { key: (*key).to_owned(), value: value(text), ..Default::default() })
        .collect()
}

fn number(time: u64, value: f64, labels: &[(&str, &str)]) -> NumberDataPoint {
    let value = if value.fract() == 0.0 {
        number_data_point::Value::AsInt(value as i64)
    } else {
        number_data_point::Value::AsDouble(value)
    };
    NumberDataPoint { time_unix_nano: time, value: Some(value), attributes: attributes(labels), ..Default::default() }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        unit: unit.into(),
        description: format!("About {name}."),
        data: Some(data),
        ..Default::default()
    }
}

fn gauge(name: &str, unit: &str, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, unit, Data::Gauge(Gauge { data_points: points }))
}

fn sum(name: &str, unit: &str, temporality: i32, monotonic: bool, points: Vec<NumberDataPoint>) -> Metric {
    metric(
        name,
        unit,
        Data::Sum(Sum { data_points: points, aggregation_temporality: temporality, is_monotonic: monotonic }),
    )
}

fn counter(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    sum(name, "", CUMULATIVE, true, points)
}

fn histogram(temporality: i32, points: Vec<HistogramDataPoint>) -> Metric {
    metric("latency", "s", Data::Histogram(Histogram { data_points: points, aggregation_temporality: temporality }))
}

fn buckets(time: u64, bounds: &[f64], counts: &[u64], sum: f64) -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: time,
        count: counts.iter().sum(),
        sum: Some(sum),
        bucket_counts: counts.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..Default::default()
    }
}

fn of_resource(resource: &[(&str, &str)], metrics: Vec<Metric>) -> ResourceMetrics {
    ResourceMetrics {
        resource: Some(Resource { attributes: attributes(resource), ..Default::default() }),
        scope_metrics: vec![ScopeMetrics { metrics, ..Default::default() }],
        ..Default::default()
    }
}

fn request(resource_metrics: Vec<ResourceMetrics>) -> Batch {
    let bytes = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    Batch::decode(bytes.into(), &Limits::default()).unwrap()
}

fn batch(metrics: Vec<Metric>) -> Batch {
    request(vec![of_resource(&[], metrics)])
}

fn bounds() -> Bounds {
    Bounds { series: 1000, expiration: Duration::from_secs(300), exemplars: true }
}

fn store() -> Store {
    Store::new(TextOptions::default(), bounds())
}

fn absorb(store: &mut Store, metrics: Vec<Metric>) -> Absorbed {
    store.absorb(&batch(metrics), Instant::now())
}

fn text(store: &Store) -> String {
    page(store, Format::Text)
}

fn open_metrics(store: &Store) -> String {
    page(store, Format::OpenMetrics)
}

fn of(metrics: Vec<Metric>) -> Store {
    let mut store = store();
    let absorbed = absorb(&mut store, metrics);
    assert_eq!(absorbed, Absorbed::default());
    store
}

#[test]
fn counters_and_gauges_in_both_formats() {
    let store = of(vec![
        sum(
            "process.cpu.time",
            "s",
            CUMULATIVE,
            true,
            vec![number(1, 12.5, &[("state", "user")]), number(1, 3.0, &[("state", "wait")])],
        ),
        sum("process.memory.usage", "By", CUMULATIVE, false, vec![number(1, 4096.0, &[])]),
        gauge("load", "1", vec![number(1, 0.25, &[])]),
    ]);
    assert_eq!(
        text(&store),
        "# HELP load_ratio About load.\n# TYPE load_ratio gauge\nload_ratio 0.25\n\
         # HELP process_cpu_time_seconds_total About process.cpu.time.\n# TYPE process_cpu_time_seconds_total counter\n\
         process_cpu_time_seconds_total{state=\"user\"} 12.5\nprocess_cpu_time_seconds_total{state=\"wait\"} 3\n\
         # HELP process_memory_usage_bytes About process.memory.usage.\n# TYPE process_memory_usage_bytes gauge\nprocess_memory_usage_bytes 4096\n"
    );
    assert_eq!(
        open_metrics(&store),
        "# HELP load_ratio About load.\n# TYPE load_ratio gauge\nload_ratio 0.25\n\
         # HELP process_cpu_time_seconds About process.cpu.time.\n# TYPE process_cpu_time_seconds counter\n# UNIT process_cpu_time_seconds seconds\n\
         process_cpu_time_seconds_total{state=\"user\"} 12.5\nprocess_cpu_time_seconds_total{state=\"wait\"} 3\n\
         # HELP process_memory_usage_bytes About process.memory.usage.\n# TYPE process_memory_usage_bytes gauge\n# UNIT process_memory_usage_bytes bytes\n\
         process_memory_usage_bytes 4096\n# EOF\n"
    );
}

#[test]
fn histograms_are_cumulative_and_bounds_look_as_each_format_wants() {
    let store = of(vec![histogram(CUMULATIVE, vec![buckets(1, &[0.5, 1.0], &[1, 2, 3], 7.5)])]);
    let lines =
        |page: String| page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines(text(&store)),
        [
            "latency_seconds_bucket{le=\"0.5\"} 1",
            "latency_seconds_bucket{le=\"1\"} 3",
            "latency_seconds_bucket{le=\"+Inf\"} 6",
            "latency_seconds_sum 7.5",
            "latency_seconds_count 6"
        ]
    );
    assert!(lines(open_metrics(&store)).contains(&"latency_seconds_bucket{le=\"1.0\"} 3".to_owned()));

    let negative = of(vec![histogram(CUMULATIVE, vec![buckets(1, &[-1.0], &[1, 2], -7.5)])]);
    assert!(text(&negative).contains("latency_seconds_sum -7.5\nlatency_seconds_count 3"));
    assert!(!open_metrics(&negative).contains("_sum"), "no counter can be negative");

    let only_count = of(vec![histogram(CUMULATIVE, vec![HistogramDataPoint { count: 4, ..Default::default() }])]);
    assert_eq!(lines(text(&only_count)), ["latency_seconds_bucket{le=\"+Inf\"} 4", "latency_seconds_count 4"]);
}

#[test]
fn summaries_have_quantiles() {
    let quantile = |quantile, value| ValueAtQuantile { quantile, value };
    let point = SummaryDataPoint {
        count: 3,
        sum: 6.0,
        quantile_values: vec![quantile(0.99, 3.0), quantile(0.5, 2.0), quantile(7.0, 1.0)],
        ..Default::default()
    };
    let store = of(vec![metric("wait", "s", Data::Summary(Summary { data_points: vec![point] }))]);
    assert!(text(&store).ends_with("wait_seconds{quantile=\"0.5\"} 2\nwait_seconds{quantile=\"0.99\"} 3\nwait_seconds_sum 6\nwait_seconds_count 3\n"));
}

fn exponential(scale: i32, zero: u64, positive: (i32, Vec<u64>), negative: (i32, Vec<u64>)) -> Metric {
    let side = |(offset, bucket_counts): (i32, Vec<u64>)| Some(Buckets { offset, bucket_counts });
    let count = zero + positive.1.iter().sum::<u64>() + negative.1.iter().sum::<u64>();
    let point = ExponentialHistogramDataPoint {
        count,
        sum: Some(1.0),
        scale,
        zero_count: zero,
        positive: side(positive),
        negative: side(negative),
        ..Default::default()
    };
    metric(
        "size",
        "",
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![point],
            aggregation_temporality: CUMULATIVE,
        }),
    )
}

#[test]
fn exponential_histograms_become_classic_ones() {
    let page = text(&of(vec![exponential(0, 5, (1, vec![1, 0, 2]), (0, vec![4]))]));
    // (2,4] 1, (4,8] 0, (8,16] 2, zero 5, [-2,-1) 4
    for line in [
        "{le=\"-1\"} 4",
        "{le=\"0\"} 9",
        "{le=\"2\"} 9",
        "{le=\"4\"} 10",
        "{le=\"8\"} 10",
        "{le=\"16\"} 12",
        "{le=\"+Inf\"} 12",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let wide = text(&of(vec![exponential(5, 0, (-300, vec![1; 700]), (0, vec![]))]));
    let bounds: Vec<&str> = wide.lines().filter_map(|line| line.split("le=\"").nth(1)?.split('"').next()).collect();
    assert!(bounds.len() <= 21 && bounds.len() > 8, "{bounds:?}");
    assert!(bounds.contains(&"1") && wide.contains("le=\"+Inf\"} 700"), "{wide}");

    let huge = text(&of(vec![exponential(0, 0, (1023, vec![7]), (0, vec![]))]));
    assert!(huge.contains("le=\"8.98846567431158e+307\"} 0") && huge.contains("le=\"+Inf\"} 7"), "{huge}");
    for hostile in [
        exponential(-11, 0, (i32::MIN, vec![1]), (i32::MAX - 1, vec![1])),
        exponential(i32::MIN, 0, (0, vec![1]), (0, vec![])),
        exponential(i32::MAX, 0, (i32::MAX, vec![1, 1]), (0, vec![])),
    ] {
        let absorbed = absorb(&mut self::store(), vec![hostile]);
        assert_eq!(absorbed.dropped.get(&Reason::Malformed), Some(&1));
    }
}

#[test]
fn what_the_formats_cannot_say_is_counted() {
    let absorbed = absorb(
        &mut store(),
        vec![
            sum("level", "", DELTA, false, vec![number(1, 1.0, &[])]),
            sum("unspecified", "", 0, true, vec![number(1, 1.0, &[])]),
            counter("negative", vec![number(1, -1.0, &[])]),
            gauge("empty", "", vec![NumberDataPoint::default()]),
            gauge("...", "", vec![number(1, 1.0, &[])]),
            histogram(
                CUMULATIVE,
                vec![
                    buckets(1, &[2.0, 1.0], &[1, 2, 3], 7.5),
                    HistogramDataPoint { count: 9, ..buckets(1, &[2.0], &[1, 2], 7.5) },
                ],
            ),
        ],
    );
    assert_eq!((absorbed.dropped[&Reason::Unsupported], absorbed.dropped[&Reason::Malformed]), (2, 5));
    assert_eq!(absorbed.complaints.len(), 6, "once for a metric: {:?}", absorbed.complaints);
}

#[test]
fn services_have_job_instance_and_one_row_of_what_they_agree_on() {
    let service = |version| {
        [
            ("service.name", "shop"),
            ("service.namespace", "eu"),
            ("service.instance.id", "i1"),
            ("service.version", version),
            ("process.runtime.name", "jvm"),
        ]
    };
    let mut store = store();
    let two = vec![
        of_resource(&service("1"), vec![counter("a", vec![number(1, 1.0, &[])])]),
        of_resource(&service("2"), vec![counter("b", vec![number(1, 1.0, &[])])]),
    ];
    store.absorb(&request(two), Instant::now());
    let page = text(&store);
    assert!(page.contains("a_total{instance=\"i1\",job=\"eu/shop\"} 1\n"), "{page}");
    assert!(page.ends_with("target_info{instance=\"i1\",job=\"eu/shop\",process_runtime_name=\"jvm\"} 1\n"), "{page}");

    let own = TextOptions { service_labels: false, scope_info: false, ..TextOptions::default() };
    let mut sdk = Store::new(own, bounds());
    sdk.absorb(
        &request(vec![of_resource(&service("1"), vec![counter("a", vec![number(1, 1.0, &[])])])]),
        Instant::now(),
    );
    let page = text(&sdk);
    assert!(page.contains("a_total 1\n") && page.contains("service_name=\"shop\"") && !page.contains("job="), "{page}");
}

#[test]
fn scopes_and_constant_labels_are_on_every_sample() {
    let scope = InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: attributes(&[("name", "hidden"), ("a.b", "c")]),
        ..Default::default()
    };
    let metrics = vec![gauge("g", "", vec![number(1, 1.0, &[("zone", "point")])])];
    let scoped = ScopeMetrics { scope: Some(scope), metrics, schema_url: "https://x".into() };
    let batch = request(vec![ResourceMetrics { scope_metrics: vec![scoped], ..Default::default() }]);
    let options = TextOptions { const_labels: vec![("zone".into(), "eu".into())], ..TextOptions::default() };
    assert!(super::render(&batch, &options, Format::Text).contains(
        "g{otel_scope_a_b=\"c\",otel_scope_name=\"lib\",otel_scope_schema_url=\"https://x\",otel_scope_version=\"1.2\",zone=\"eu\"} 1\n"
    ));
    let bare = TextOptions { scope_info: false, ..TextOptions::default() };
    assert!(super::render(&batch, &bare, Format::Text).contains("g{zone=\"point\"} 1\n"));
}

#[test]
fn exemplars_stand_beside_their_bucket_within_their_limit() {
    let exemplar = |value, trace: u8, extra: &str| Exemplar {
        filtered_attributes: attributes(&[("user", extra), ("long", &"x".repeat(100))]),
        time_unix_nano: 1_500_000_000,
        trace_id: vec![trace; 16],
        span_id: vec![2; 8],
        value: Some(exemplar::Value::AsDouble(value)),
    };
    let point = HistogramDataPoint {
        exemplars: vec![exemplar(0.2, 1, "u"), exemplar(9.0, 3, "v")],
        ..buckets(1, &[0.5, 1.0], &[1, 0, 1], 9.2)
    };
    let store = of(vec![
        histogram(CUMULATIVE, vec![point]),
        counter("c", vec![NumberDataPoint { exemplars: vec![exemplar(1.0, 4, "w")], ..number(1, 1.0, &[]) }]),
    ]);
    let page = open_metrics(&store);
    let ids = |trace: &str| format!("span_id=\"0202020202020202\",trace_id=\"{}\"", trace.repeat(16));
    assert!(page.contains(&format!("le=\"0.5\"}} 1 # {{{},user=\"u\"}} 0.2 1.500\n", ids("01"))), "{page}");
    assert!(page.contains("le=\"1.0\"} 1\n"), "{page}");
    assert!(page.contains(&format!("le=\"+Inf\"}} 2 # {{{},user=\"v\"}} 9.0 1.500\n", ids("03"))), "{page}");
    assert!(page.contains(&format!("c_total 1 # {{{},user=\"w\"}} 1.0 1.500\n", ids("04"))), "{page}");
    assert!(!text(&store).contains("trace_id"));
}

#[test]
fn timestamps_are_milliseconds_or_seconds() {
    let options = TextOptions { send_timestamps: true, ..TextOptions::default() };
    let batch = batch(vec![gauge("g", "", vec![number(1_700_000_000_123_456_789, 1.0, &[])])]);
    assert!(super::render(&batch, &options, Format::Text).ends_with("g 1 1700000000123\n"));
    assert!(super::render(&batch, &options, Format::OpenMetrics).contains("g 1 1700000000.123\n"));
}

#[test]
fn open_metrics_counters_without_their_suffix_or_with_a_taken_name_are_unknown() {
    let mut options = TextOptions::default();
    options.naming.type_suffix = false;
    options.naming.units = false;
    let page = super::render(&batch(vec![counter("hits", vec![number(1, 1.0, &[])])]), &options, Format::OpenMetrics);
    assert!(page.contains("# TYPE hits unknown\nhits 1\n"), "{page}");
    let clash = of(vec![gauge("hits", "", vec![number(1, 1.0, &[])]), counter("hits", vec![number(1, 2.0, &[])])]);
    assert!(open_metrics(&clash).contains(
        "# TYPE hits gauge\nhits 1\n# HELP hits_total About hits.\n# TYPE hits_total unknown\nhits_total 2\n"
    ));
    assert!(text(&clash).contains("# TYPE hits_total counter\n"));
}

#[test]
fn utf8_names_are_quoted() {
    let mut options = TextOptions::default();
    options.naming.utf8 = true;
    let batch = batch(vec![
        counter("foo.bar", vec![number(1, 1.0, &[("a.b", "c")])]),
        histogram(CUMULATIVE, vec![buckets(1, &[1.0], &[1, 0], 1.0)]),
    ]);
    let page = super::render(&batch, &options, Format::OpenMetrics);
    assert!(page.contains("# TYPE \"foo.bar\" counter\n{\"foo.bar_total\",\"a.b\"=\"c\"} 1\n"), "{page}");
    assert!(page.contains("latency_seconds_bucket{le=\"1.0\"} 1\n"), "{page}");
}
