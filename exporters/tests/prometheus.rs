//! The `prometheus` exporter from outside: laws of the page over arbitrary batches, the judgement of Prometheus' own
//! tools, and the exporter behind its socket.

// Helpers of a test may fail it, and say what they skip.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod prometheus_support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue as ProtoValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use phoenix_exporters::EXPORTERS;
use phoenix_exporters::prometheus::{Format, ResourceLabels, TextOptions, render};
use phoenix_pipeline::{Clock, Delivery, Exporter, Shipment, Site, config};
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Limits, Number, Shape, Temporality};
use prometheus_support::read;
use proptest::prelude::*;
use prost::Message;

const SUM: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
const LEVEL: Shape = Shape::Sum { monotonic: false, temporality: Temporality::Cumulative };

fn descriptor(name: &'static str, unit: &'static str, shape: Shape) -> Descriptor<'static> {
    Descriptor { name, unit, description: "What the host says about itself.", shape }
}

/// What a scrape of a host with `processes` processes looks like, `round` scrapes after the first.
fn host(processes: i64, round: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    let time = 1_700_000_000_000_000_000 + round as u64 * 10_000_000_000;
    let state = |state: &'static str| [("state", AnyValue::from(state))];
    {
        let mut resource = builder.resource();
        resource.attribute("host.name", "node-1").attribute("os.type", "linux");
        let mut scope = resource.scope("hostmetrics/system", "0.1.0");
        let mut metric = scope.metric(&descriptor("system.cpu.time", "s", SUM));
        for cpu in ["cpu0", "cpu1"] {
            for mode in ["user", "system", "idle"] {
                metric.point(
                    1,
                    time,
                    Number::Double(round as f64 * 1.5),
                    &[("cpu", cpu.into()), ("state", mode.into())],
                );
            }
        }
        drop(metric);
        scope.metric(&descriptor("system.memory.usage", "By", LEVEL)).point(
            1,
            time,
            Number::Int(1 << 33),
            &state("used"),
        );
        scope.metric(&descriptor("system.memory.utilization", "1", Shape::Gauge)).point(
            0,
            time,
            Number::Double(0.5),
            &state("used"),
        );
        scope.metric(&descriptor("system.cpu.load_average.1m", "{thread}", Shape::Gauge)).point(
            0,
            time,
            Number::Double(0.25),
            &[],
        );
        scope.metric(&descriptor("system.disk.io_time", "s", SUM)).point(
            1,
            time,
            Number::Double(0.125),
            &[("device", "sda".into())],
        );
        scope.metric(&descriptor("system.network.packets", "{packets}", SUM)).point(
            1,
            time,
            Number::Int(9),
            &[("device", "eth0".into()), ("direction", "receive".into())],
        );
        let durations = Shape::Histogram { temporality: Temporality::Cumulative };
        scope.metric(&descriptor("scrape.duration", "s", durations)).histogram(
            1,
            time,
            3,
            0.75,
            &[0.1, 1.0],
            &[1, 2, 0],
            &[],
        );
    }
    for pid in 1..=processes {
        let mut resource = builder.resource();
        resource.attribute("host.name", "node-1").attribute("os.type", "linux");
        resource
            .attribute("process.pid", pid)
            .attribute("process.parent_pid", 1i64)
            .attribute("process.executable.name", "worker \"x\"\\n");
        resource.attribute("process.owner", "root").attribute("process.command_line", "worker --token=hunter2");
        let mut scope = resource.scope("hostmetrics/process", "0.1.0");
        let mut metric = scope.metric(&descriptor("process.cpu.time", "s", SUM));
        for mode in ["user", "system", "wait"] {
            metric.point(1, time, Number::Double(pid as f64 + round as f64), &state(mode));
        }
        drop(metric);
        scope.metric(&descriptor("process.memory.usage", "By", LEVEL)).point(1, time, Number::Int(pid * 4096), &[]);
        scope.metric(&descriptor("process.threads", "{threads}", LEVEL)).point(1, time, Number::Int(pid), &[]);
        scope.metric(&descriptor("process.disk.io", "By", SUM)).point(
            1,
            time,
            Number::Int(pid),
            &[("direction", "read".into())],
        );
    }
    builder.finish()
}

/// Series on the page of a host: its histogram is one point and five lines.
fn series(processes: i64) -> i64 {
    host(processes, 1).points() as i64 + 4
}

fn text(batch: &Batch, format: Format) -> String {
    render(batch, &TextOptions::default(), format)
}

/// Runs a tool over a page. `None` where the tool is not there.
fn judge(program: &str, arguments: &[&str], page: &str) -> Option<(bool, String)> {
    let mut child = match Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: {program} cannot be run here: {error}");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    ))
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if let Some((clean, words)) = judge("promtool", &["check", "metrics"], &text(&host(50, 1), Format::Text)) {
        assert!(clean && words.trim().is_empty(), "{words}");
    }
}

#[test]
fn pythons_reader_takes_the_open_metrics_page() {
    const READ: &str = "import sys\ntry:\n from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\nexcept ImportError:\n sys.exit(3)\nprint(sum(len(f.samples) for f in read(sys.stdin.read())))";
    let python = std::env::var("PHOENIX_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let batch = host(50, 1);
    if let Some((clean, words)) = judge(&python, &["-c", READ], &text(&batch, Format::OpenMetrics)) {
        if words.is_empty() {
            eprintln!("skipped: {python} has no prometheus_client; PHOENIX_TEST_PYTHON names one that has");
            return;
        }
        // A histogram of three buckets has a sum and a count; target_info is one more.
        assert!(clean && words.trim() == (batch.points() + 4 + 1).to_string(), "{words}");
    }
}

#[test]
fn a_host_has_every_process_and_no_command_line() {
    for (format, open_metrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
        let page = text(&host(50, 1), format);
        let parsed = read(&page, open_metrics).unwrap();
        let cpu: Vec<_> =
            parsed.samples.iter().filter(|sample| sample.name == "process_cpu_time_seconds_total").collect();
        assert_eq!(cpu.len(), 150);
        assert!(cpu.iter().all(|sample| sample.labels["process_executable_name"] == "worker \"x\"\\n"
            && sample.labels["process_owner"] == "root"));
        assert!(!page.contains("hunter2") && !page.contains("command_line"));
        let targets: Vec<_> = parsed.samples.iter().filter(|sample| sample.name == "target_info").collect();
        assert_eq!(targets.len(), 1);
        assert_eq!(
            targets[0].labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            ["host_name=node-1", "os_type=linux"]
        );
    }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        "[a-c]",
        "[a._-]{1,3}",
        Just("le".to_owned()),
        Just("quantile".to_owned()),
        Just("job".to_owned()),
        Just("__name__".to_owned()),
        ".{0,3}"
    ];
    let value = prop_oneof![
        "[ab\"\\\\\n]{0,3}".prop_map(any_value::Value::StringValue),
        (0..2i64).prop_map(any_value::Value::IntValue),
        any::<bool>().prop_map(any_value::Value::BoolValue),
    ];
    prop::collection::btree_map(key, value, 0..4).prop_map(|map| {
        map.into_iter()
            .map(|(key, value)| KeyValue { key, value: Some(ProtoValue { value: Some(value) }), ..Default::default() })
            .collect()
    })
}

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    let one = (attributes(), any::<f64>(), 0..3u64).prop_map(|(filtered_attributes, value, time)| Exemplar {
        filtered_attributes,
        time_unix_nano: time,
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        value: Some(exemplar::Value::AsDouble(value)),
    });
    prop::collection::vec(one, 0..3)
}

fn number_points() -> impl Strategy<Value = Vec<NumberDataPoint>> {
    let value = prop_oneof![
        any::<f64>().prop_map(number_data_point::Value::AsDouble),
        any::<i64>().prop_map(number_data_point::Value::AsInt)
    ];
    let one = (attributes(), prop::option::weighted(0.95, value), 0..3u64, prop::bool::weighted(0.1), exemplars())
        .prop_map(|(attributes, value, time, ended, exemplars)| NumberDataPoint {
            attributes,
            value,
            time_unix_nano: time,
            flags: u32::from(ended),
            exemplars,
            ..Default::default()
        });
    prop::collection::vec(one, 1..5)
}

fn data() -> impl Strategy<Value = Data> {
    let histogram = (
        attributes(),
        prop::collection::btree_set(-5..5i32, 0..4),
        prop::collection::vec(0..3u64, 5),
        prop::option::of(-1.0..9.0f64),
        exemplars(),
        0..3u64,
    )
        .prop_map(|(attributes, bounds, counts, sum, exemplars, time_unix_nano)| {
            let explicit_bounds: Vec<f64> = bounds.into_iter().map(|bound| f64::from(bound) / 2.0).collect();
            let bucket_counts = counts[..=explicit_bounds.len()].to_vec();
            HistogramDataPoint {
                attributes,
                count: bucket_counts.iter().sum(),
                bucket_counts,
                explicit_bounds,
                sum,
                exemplars,
                time_unix_nano,
                ..Default::default()
            }
        });
    let side = || {
        (-400..400i32, prop::collection::vec(0..3u64, 0..200))
            .prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts })
    };
    let exponential = (attributes(), -11..21i32, 0..3u64, side(), side()).prop_map(
        |(attributes, scale, zero_count, positive, negative)| {
            let count = zero_count + positive.bucket_counts.iter().chain(&negative.bucket_counts).sum::<u64>();
            ExponentialHistogramDataPoint {
                attributes,
                scale,
                zero_count,
                count,
                sum: Some(1.5),
                positive: Some(positive),
                negative: Some(negative),
                ..Default::default()
            }
        },
    );
    prop_oneof![
        number_points().prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (number_points(), 0..3i32, any::<bool>()).prop_map(|(data_points, aggregation_temporality, is_monotonic)| {
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
        }),
        (prop::collection::vec(histogram, 1..3), 0..3i32).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }),
        prop::collection::vec(exponential, 1..3).prop_map(|data_points| Data::ExponentialHistogram(
            ExponentialHistogram { data_points, aggregation_temporality: 2 }
        )),
    ]
}

fn batches() -> impl Strategy<Value = Batch> {
    let name = prop_oneof![
        "[ab]([._](sum|count|total|bucket|created)){0,2}",
        "target([._](info|total)){0,2}",
        "[0-9é._]{0,3}"
    ];
    let unit = prop_oneof![Just(""), Just("1"), Just("s"), Just("By"), Just("{x}/s")];
    let metric = (name, unit, "[a\\\\\n\"]{0,3}", data()).prop_map(|(name, unit, description, data)| Metric {
        name,
        unit: unit.into(),
        description,
        data: Some(data),
        ..Default::default()
    });
    let resource =
        (attributes(), prop::collection::vec(metric, 0..5)).prop_map(|(attributes, metrics)| ResourceMetrics {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..Default::default() }],
            ..Default::default()
        });
    prop::collection::vec(resource, 0..4).prop_map(|resource_metrics| {
        let bytes = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        Batch::decode(bytes.into(), &Limits::default()).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_page_reads_and_holds_no_series_twice(batch in batches(), everything: bool, suffixes: bool, times: bool) {
        let mut options = TextOptions { send_timestamps: times, ..TextOptions::default() };
        options.naming.units = suffixes;
        options.naming.type_suffix = suffixes;
        if everything {
            options.resource_labels = ResourceLabels::new(&["*"], &[]).unwrap();
        }
        for (format, open_metrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
            let page = render(&batch, &options, format);
            prop_assert!(read(&page, open_metrics).is_ok(), "{:?}\n{page}", read(&page, open_metrics).err());
        }
    }
}

/// A runtime on a thread of its own, for as long as the tests run.
fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: LazyLock<tokio::runtime::Handle> = LazyLock::new(|| {
        let (told, handle) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            told.send(runtime.handle().clone()).unwrap();
            runtime.block_on(std::future::pending::<()>());
        });
        handle.recv().unwrap()
    });
    RUNTIME.clone()
}

/// The exporter behind its socket.
struct Served {
    exporter: Arc<dyn Exporter>,
    site: Site,
    address: String,
}

impl Served {
    fn start(more: &str) -> Self {
        // A port that was free a moment ago; the exporter is to name it in its settings.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let yaml = format!("endpoint: \"{free}\"\n{more}");
        let runtime = runtime();
        let _here = runtime.enter();
        let site = Site { clock: Clock::manual(0), ..Site::for_test("prometheus") };
        let factory = EXPORTERS.iter().find(|factory| factory.answers_to("prometheus")).unwrap();
        let exporter = (factory.build)(&config::parse("test.yaml", &yaml).unwrap(), &site).unwrap();
        Self { exporter, site, address: free.to_string() }
    }

    fn export(&self, batch: Batch) {
        let (told, outcome) = std::sync::mpsc::channel();
        self.exporter.export(Shipment::new(batch), Delivery::new(move |result| told.send(result).unwrap()));
        outcome.try_recv().unwrap().unwrap();
    }

    /// Head and body of the answer.
    fn get(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        (String::from_utf8(answer).unwrap().to_ascii_lowercase(), body)
    }

    fn page(&self) -> String {
        String::from_utf8(self.get("/metrics", "").1).unwrap()
    }

    fn own(&self, name: &str) -> i64 {
        let batch = self.site.metrics.gather(1, phoenix_pipeline::Level::Detailed);
        batch
            .series()
            .filter(|point| point.metric().name() == name)
            .map(|point| point.value().unwrap().as_f64() as i64)
            .sum()
    }
}

#[test]
fn the_page_is_served_as_the_client_wishes() {
    let served = Served::start("const_labels: {zone: eu}\n");
    assert_eq!(served.page(), "");
    served.export(host(3, 1));
    let plain = served.page();
    read(&plain, false).unwrap();
    assert!(plain.contains("zone=\"eu\""));
    let (head, body) =
        served.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: gzip\r\n");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0")
            && head.contains("content-encoding: gzip"),
        "{head}"
    );
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut unpacked).unwrap();
    read(&unpacked, true).unwrap();
    assert!(served.get("/", "").0.starts_with("http/1.1 404"));

    served.export(host(3, 2));
    assert_eq!(served.page().lines().count(), plain.lines().count(), "values change, series do not");
    assert_eq!(served.own("phoenix_prometheus_series"), series(3));
    assert_eq!(served.own("otelcol_exporter_sent_metric_points"), 2 * host(3, 1).points() as i64);
    runtime().block_on(served.exporter.shutdown(Instant::now() + Duration::from_secs(5)));
}

#[test]
fn series_expire_whether_somebody_scrapes_or_not() {
    let served = Served::start("metric_expiration: 400ms\n");
    served.export(host(3, 1));
    served.site.clock.advance(Duration::from_millis(300));
    served.export(host(1, 2));
    served.site.clock.advance(Duration::from_millis(200));
    let deadline = Instant::now() + Duration::from_secs(10);
    // Nobody scrapes: what is held shrinks all the same.
    while served.own("phoenix_prometheus_series") > series(1) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(served.own("phoenix_prometheus_series"), series(1));
    served.site.clock.advance(Duration::from_millis(300));
    assert_eq!(served.page(), "");
}

#[test]
fn text_only_and_utf8_names_by_settings() {
    let wish = "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5\r\n";
    let served = Served::start("enable_open_metrics: false\ntranslation_strategy: NoTranslation\n");
    served.export(host(1, 1));
    let (head, body) = served.get("/metrics", wish);
    assert!(head.contains("content-type: text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"), "{head}");
    assert!(
        String::from_utf8(body).unwrap().contains("\n{\"process.threads\",otel_scope_name=\"hostmetrics/process\"")
    );
    let classic = served.page();
    read(&classic, false).unwrap();
    assert!(classic.contains("process_threads{"));
}

#[test]
fn a_taken_port_is_an_error_that_names_the_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = runtime();
    let _here = runtime.enter();
    let site = Site::for_test("prometheus/x");
    let factory = EXPORTERS.iter().find(|factory| factory.answers_to("prometheus")).unwrap();
    let yaml = format!("endpoint: \"{}\"\n", taken.local_addr().unwrap());
    let error = (factory.build)(&config::parse("test.yaml", &yaml).unwrap(), &site).err().unwrap().to_string();
    assert!(error.contains("exporters::prometheus/x::endpoint"), "{error}");
}
