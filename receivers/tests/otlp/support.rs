//! A receiver in front of a lane whose exporter does what the test says, and clients that write what they like.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point::Value,
};
use phoenix_pipeline::config;
use phoenix_pipeline::{
    BoxFuture, Chain, Delivery, Exporter, Lane, Level, Outlet, Receiver, Refusal, Shipment, Site, Target,
};
use phoenix_receivers::otlp::FACTORY;
use phoenix_telemetry::{AnyValue as TelemetryValue, Batch};
use prost::Message;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the exporter does with a delivery.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    #[default]
    Take,
    Hold,
    Refuse(Refusal),
}

/// The end of the lane.
#[derive(Default)]
pub struct Sink {
    pub batches: Mutex<Vec<Batch>>,
    pub held: Mutex<Vec<Delivery>>,
    pub mood: Mutex<Mood>,
}

impl Exporter for Sink {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        self.batches.lock().unwrap().push(shipment.batch().clone());
        match self.mood.lock().unwrap().clone() {
            Mood::Take => delivery.delivered(),
            Mood::Hold => self.held.lock().unwrap().push(delivery),
            Mood::Refuse(refusal) => delivery.refused(refusal),
        }
    }

    fn shutdown(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A receiver at work.
pub struct Rig {
    pub receiver: Box<dyn Receiver>,
    pub sink: Arc<Sink>,
    pub site: Site,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    lane: Lane,
    /// What it was built from.
    text: String,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Rig {
    /// Both transports in plain text; `more` is put beside `protocols`, `grpc` and `http` into their blocks.
    pub fn new(more: &str, grpc: &str, http: &str) -> Rig {
        Rig::on(Site::for_test("otlp"), more, grpc, http)
    }

    /// The same on a site that was prepared.
    pub fn on(site: Site, more: &str, grpc: &str, http: &str) -> Rig {
        let (grpc_at, http_at) = (free_port(), free_port());
        let at = if http.contains("endpoint") { String::new() } else { format!("endpoint: '{http_at}', ") };
        let text = format!("{{protocols: {{grpc: {{endpoint: '{grpc_at}', {grpc}}}, http: {{{at}{http}}}}}, {more}}}");
        let sink = Arc::new(Sink::default());
        let chain = Chain::new("metrics", Vec::new(), vec![Arc::clone(&sink) as Arc<dyn Exporter>], &site.metrics);
        let lane =
            Lane::start("lane", vec![chain], site.clock.clone(), site.metrics.clone(), |panic| panic!("{panic}"));
        let lane = lane.unwrap();
        let receiver = started(&text, &site, &lane);
        Rig { receiver, sink, site, grpc: grpc_at, http: http_at, lane, text }
    }

    /// Puts a receiver of the same settings in the place of the one at work, as a reload does.
    pub async fn replace(&mut self) {
        let new = started(&self.text, &self.site, &self.lane);
        std::mem::replace(&mut self.receiver, new).shutdown().await;
    }

    pub fn mood(&self, mood: Mood) {
        *self.sink.mood.lock().unwrap() = mood;
    }

    /// What arrived, decoded by somebody else.
    pub fn arrived(&self) -> Vec<ExportMetricsServiceRequest> {
        let batches = self.sink.batches.lock().unwrap();
        batches.iter().map(|batch| ExportMetricsServiceRequest::decode(batch.encode()).unwrap()).collect()
    }

    /// The sum of an own metric over all points with this label's value.
    pub fn counted(&self, name: &str, value: &str) -> f64 {
        let batch = self.site.metrics.gather(1, Level::Detailed);
        let points = batch.series().filter(|point| point.metric().name() == name);
        let points =
            points.filter(|point| point.attributes().iter().any(|(_, found)| found == TelemetryValue::Str(value)));
        points.filter_map(|point| point.value().map(|value| value.as_f64())).sum()
    }

    /// Waits until `done`.
    pub async fn until(&self, what: &str, done: impl Fn(&Rig) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Bytes that are on their way in.
    pub fn held(&self) -> f64 {
        self.counted("phoenix_receiver_held_bytes", "otlp")
    }
}

fn started(text: &str, site: &Site, lane: &Lane) -> Box<dyn Receiver> {
    let mut receiver = (FACTORY.build)(&config::parse("test", text).unwrap(), site).unwrap();
    let targets = vec![Target { lane: lane.handle(), pipeline: "metrics".into(), durable: false }];
    receiver.start(Outlet::new(&site.metrics, "otlp", "", targets)).unwrap();
    receiver
}

/// A request of `points` gauge points, each with an attribute of `size` bytes.
pub fn request(points: usize, size: usize) -> ExportMetricsServiceRequest {
    let point = |i: usize| NumberDataPoint {
        time_unix_nano: 1_700_000_000_000_000_000,
        value: Some(Value::AsInt(i as i64)),
        attributes: vec![KeyValue {
            key: "k".into(),
            value: Some(AnyValue { value: Some(Any::StringValue("x".repeat(size))) }),
            ..KeyValue::default()
        }],
        ..NumberDataPoint::default()
    };
    let data = metric::Data::Gauge(Gauge { data_points: (0..points).map(point).collect() });
    of(vec![Metric { name: "m".into(), data: Some(data), ..Metric::default() }])
}

/// A request of these metrics.
pub fn of(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() }],
    }
}

/// A sum that does not say what it counts from.
pub fn without_temporality() -> Metric {
    let point = NumberDataPoint { time_unix_nano: 1, value: Some(Value::AsInt(1)), ..NumberDataPoint::default() };
    let data = metric::Data::Sum(Sum { data_points: vec![point], ..Sum::default() });
    Metric { name: "bad".into(), data: Some(data), ..Metric::default() }
}

/// An HTTP/1 answer.
#[derive(Debug)]
pub struct Heard {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Sends bytes and reads the answer to the end of the connection; blocking, for a thread of its own.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Heard {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has answered already may not read the rest.
    let _ = stream.write_all(bytes);
    heard(&mut stream)
}

/// Reads an answer to the end of the connection.
pub fn heard(stream: &mut TcpStream) -> Heard {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let at = all.windows(4).position(|window| window == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    Heard { status, head: head.to_ascii_lowercase(), body: all[at..].to_vec() }
}

/// A request that leaves its connection open, and what must be heard of it: whether the answer is 200, and whether it
/// ends the connection. Blocking, for a thread of its own.
pub fn ask(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<(bool, bool)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    answered(stream)
}

/// The answer to a request that was sent.
pub fn answered(stream: &mut TcpStream) -> std::io::Result<(bool, bool)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head.starts_with("http/1.1 200"), head.contains("connection: close")))
}

/// A POST with these headers, `Connection: close` and the body.
pub fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    bytes.extend(body);
    bytes
}

/// Headers of a request.
pub type Headers = &'static [(&'static str, &'static str)];

/// A request in protobuf to the usual path, on a thread.
pub async fn export(address: SocketAddr, headers: Headers, body: Vec<u8>) -> Heard {
    tokio::task::spawn_blocking(move || {
        let mut all = vec![("content-type", "application/x-protobuf")];
        all.extend(headers);
        exchange(address, &post("/v1/metrics", &all, &body))
    })
    .await
    .unwrap()
}
