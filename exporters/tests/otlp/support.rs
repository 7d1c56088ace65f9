//! Servers that record what they get and answer what they are told; an exporter made from YAML.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Read;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, Request, Response, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use phoenix_exporters::otlp;
use phoenix_pipeline::config::parse;
use phoenix_pipeline::{Delivery, Exporter, ExporterFactory, Level, Refusal, Shipment, Site};
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Shape};
use prost::Message;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub type Reply = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> Reply + Send + Sync>;

/// A body of these bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Serves connections on a free port of the loopback for as long as the test's runtime lives.
pub async fn serve(tls: Option<rustls::ServerConfig>, http2: bool, handler: Handler) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept(listener, tls, http2, handler));
    address
}

pub async fn accept(listener: TcpListener, tls: Option<rustls::ServerConfig>, http2: bool, handler: Handler) {
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, handler) = (tls.clone(), Arc::clone(&handler));
        tokio::spawn(async move {
            match tls {
                None => speak(TokioIo::new(stream), http2, handler).await,
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(TokioIo::new(stream), http2, handler).await;
                }
            }
        });
    }
}

pub async fn speak<S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static>(
    stream: S,
    http2: bool,
    handler: Handler,
) {
    let service = service_fn(move |request| {
        let reply = handler(request);
        async move { Ok::<_, std::convert::Infallible>(reply.await) }
    });
    // A peer that goes away is no matter of the test server's.
    if http2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

/// A request as a backend gets it.
pub struct Received {
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
}

impl Received {
    /// The body without its compression.
    pub fn plain(&self) -> Vec<u8> {
        fn all(mut reader: impl Read) -> Vec<u8> {
            let mut plain = Vec::new();
            reader.read_to_end(&mut plain).unwrap();
            plain
        }
        match self.headers.get("content-encoding").map(|token| token.to_str().unwrap()) {
            None => self.body.to_vec(),
            Some("gzip") => all(flate2::read::GzDecoder::new(&self.body[..])),
            Some("zlib" | "deflate") => all(flate2::read::ZlibDecoder::new(&self.body[..])),
            Some("zstd") => zstd::stream::decode_all(&self.body[..]).unwrap(),
            Some(other) => panic!("{other}"),
        }
    }

    /// The message in a protobuf body.
    pub fn message(&self) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest::decode(&self.plain()[..]).unwrap()
    }
}

/// An HTTP backend: answers the replies in order, then the last one again and again.
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// One answer of a [`Backend`].
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub delay: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Bytes::new(), delay: Duration::ZERO }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// Longer than any test: the peer does not answer.
pub const NEVER: Duration = Duration::from_secs(3600);

impl Backend {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_tls(None, answers).await
    }

    pub async fn start_tls(tls: Option<rustls::ServerConfig>, answers: impl IntoIterator<Item = Answer>) -> Self {
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let answers = Arc::new(Mutex::new(VecDeque::from_iter(answers)));
        let log = Arc::clone(&received);
        let handler: Handler = Arc::new(move |request| {
            let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
            Box::pin(async move {
                let (head, incoming) = request.into_parts();
                let bytes = incoming.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let (path, version, headers) = (head.uri.to_string(), head.version, head.headers);
                log.lock().unwrap().push(Received { path, version, headers, body: bytes, at: Instant::now() });
                let answer = {
                    let mut answers = answers.lock().unwrap();
                    if answers.len() > 1 { answers.pop_front().unwrap() } else { answers.front().unwrap().clone() }
                };
                tokio::time::sleep(answer.delay).await;
                let mut response = Response::builder().status(answer.status);
                for (name, value) in answer.headers {
                    response = response.header(name, value);
                }
                response.body(body(answer.body)).unwrap()
            })
        });
        let address = serve(tls, false, handler).await;
        Backend { address, received }
    }

    pub fn received(&self) -> std::sync::MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap()
    }

    pub fn count(&self) -> usize {
        self.received().len()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An exporter under test.
pub struct Subject {
    pub exporter: Arc<dyn Exporter>,
    pub site: Site,
}

impl Subject {
    pub fn new(factory: &ExporterFactory, yaml: &str) -> Self {
        Self::build(factory, yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
    }

    pub fn build(factory: &ExporterFactory, yaml: &str) -> Result<Self, String> {
        Self::named("otlp/test", factory, yaml)
    }

    pub fn named(id: &str, factory: &ExporterFactory, yaml: &str) -> Result<Self, String> {
        Self::at(Site::for_test(id), factory, yaml)
    }

    pub fn at(site: Site, factory: &ExporterFactory, yaml: &str) -> Result<Self, String> {
        let value = parse("test.yaml", yaml).unwrap();
        let exporter = (factory.build)(&value, &site).map_err(|error| error.to_string())?;
        Ok(Subject { exporter, site })
    }

    pub fn http(backend: &Backend, more: &str) -> Self {
        Self::new(&otlp::http::FACTORY, &format!("endpoint: {}\n{more}", backend.url()))
    }

    pub fn export(&self, batch: Batch) -> tokio::sync::oneshot::Receiver<Result<(), Refusal>> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        // A test that does not wait has dropped the other end.
        let delivery = Delivery::new(move |outcome| drop(tx.send(outcome)));
        self.exporter.export(Shipment::new(batch), delivery);
        rx
    }

    /// Exports and waits for the outcome.
    pub async fn send(&self, batch: Batch) -> Result<(), Refusal> {
        let outcome = self.export(batch);
        tokio::time::timeout(Duration::from_secs(20), outcome).await.expect("resolves in time").unwrap()
    }

    pub async fn shutdown(&self, grace: Duration) {
        let end = self.exporter.shutdown(Instant::now() + grace);
        tokio::time::timeout(grace + Duration::from_secs(5), end).await.expect("keeps its deadline");
    }

    /// The value of an own metric, `label` being a value any of its labels must have ("" = any).
    pub fn counted(&self, name: &str, label: &str) -> f64 {
        let batch = self.site.metrics.gather(1, Level::Detailed);
        let matching = batch.series().filter(|point| {
            let mut labels = point.attributes().iter();
            point.metric().name() == name
                && (label.is_empty() || labels.any(|(_, value)| value == AnyValue::from(label)))
        });
        matching.filter_map(|point| point.value()).map(|value| value.as_f64()).sum()
    }
}

/// Settings for tests that wait for the outcome and retry without delay.
pub const EAGER: &str = "sending_queue: { wait_for_result: true }
retry_on_failure: { initial_interval: 10ms, max_interval: 20ms, max_elapsed_time: 10s, randomization_factor: 0 }
";

/// A gauge with this many points.
pub fn batch(points: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    resource.attribute("host.name", "unit-test");
    let mut scope = resource.scope("tests", "1");
    let mut metric =
        scope.metric(&Descriptor { name: "test.gauge", unit: "1", description: "A test.", shape: Shape::Gauge });
    for place in 0..points {
        metric.point(0, 7, Number::Int(place as i64), &[("place", AnyValue::Int(place as i64))]);
    }
    drop(metric);
    drop(scope);
    drop(resource);
    builder.finish()
}

/// The points of a message, as the values of [`batch`].
pub fn values(message: &ExportMetricsServiceRequest) -> Vec<i64> {
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
    let mut values = Vec::new();
    for resource in &message.resource_metrics {
        assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "host.name");
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(Data::Gauge(gauge)) = &metric.data else { panic!("a gauge") };
            values.extend(gauge.data_points.iter().map(|point| match point.value {
                Some(Value::AsInt(value)) => value,
                ref other => panic!("{other:?}"),
            }));
        }
    }
    values
}

/// Waits until `done`, for a bounded time.
pub async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}
