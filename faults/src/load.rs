//! The load: senders that export numbered points over gRPC or HTTP and remember what the agent said.
//!
//! What is refused is not sent again: its numbers were not acknowledged, and new ones follow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use prost::Message;
use tokio::task::JoinSet;

use crate::Fault;
use crate::oracle::{self, Oracle};

/// The path of a gRPC export.
pub const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// The name of the metric that holds the numbered points.
pub const METRIC: &str = "faults.point";

/// Longest wait for an answer; after it the sender does not know, and nothing counts as acknowledged.
const ANSWER: Duration = Duration::from_secs(30);

/// Which of OTLP's transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    Http,
}

/// Who sends what.
#[derive(Clone, Debug)]
pub struct Plan {
    pub protocol: Protocol,
    /// Senders, each with a connection of its own and one request at a time.
    pub senders: usize,
    /// Points of a request.
    pub points: usize,
    /// Bytes of an attribute of each point.
    pub padding: usize,
    /// Pause of a sender after an answer; after a refusal it is at least 10 ms.
    pub pause: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { protocol: Protocol::Http, senders: 4, points: 50, padding: 20, pause: Duration::from_millis(2) }
    }
}

/// A request in OTLP's encoding, into which numbers are written.
pub struct Template {
    bytes: Bytes,
    /// Where the time and the value of each point lie.
    places: Vec<(usize, usize)>,
}

/// A request of these points.
pub fn request(numbers: impl Iterator<Item = (u64, u64)>, padding: usize) -> ExportMetricsServiceRequest {
    let attribute = KeyValue {
        key: "padding".to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue("x".repeat(padding))) }),
        ..KeyValue::default()
    };
    let point = |(number, time): (u64, u64)| NumberDataPoint {
        attributes: vec![attribute.clone()],
        time_unix_nano: time,
        value: Some(number_data_point::Value::AsInt(number as i64)),
        ..NumberDataPoint::default()
    };
    let data = metric::Data::Gauge(Gauge { data_points: numbers.map(point).collect() });
    let metric = Metric { name: METRIC.to_owned(), data: Some(data), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

impl Template {
    /// For requests of so many points.
    ///
    /// # Errors
    /// The marks were not found where they must be.
    pub fn new(points: usize, padding: usize) -> Result<Self, Fault> {
        // Both fields have eight bytes whatever they hold, so marks can be found and replaced.
        let mark = |i: usize| (0xA1B2_C3D4_0000_0000 | i as u64, 0x0A1B_2C3D_0000_0000 | i as u64);
        let bytes = Bytes::from(request((0..points).map(mark), padding).encode_to_vec());
        let mut from = 0;
        let mut places = Vec::with_capacity(points);
        for (number, time) in (0..points).map(mark) {
            let find = |what: u64| {
                let found = bytes[from..].windows(8).position(|window| window == what.to_le_bytes());
                found.map(|at| from + at).ok_or("a mark is not in the encoded request")
            };
            let place = (find(time)?, find(number)?);
            from = place.0.max(place.1) + 8;
            places.push(place);
        }
        Ok(Template { bytes, places })
    }

    /// The request with these numbers, behind `room` empty bytes.
    fn fill(&self, first: u64, room: usize) -> BytesMut {
        let mut all = BytesMut::with_capacity(room + self.bytes.len());
        all.put_bytes(0, room);
        all.extend_from_slice(&self.bytes);
        for (number, (time, value)) in (first..).zip(&self.places) {
            all[room + time..room + time + 8].copy_from_slice(&oracle::time(number).to_le_bytes());
            all[room + value..room + value + 8].copy_from_slice(&number.to_le_bytes());
        }
        all
    }
}

/// What the senders heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Requests that were acknowledged, and what others were answered.
    pub answers: BTreeMap<String, u64>,
    /// Time until an OK, in seconds, sorted when read by [`Heard::quantile`].
    pub latencies: Vec<f32>,
    /// Points acknowledged.
    pub points: u64,
    /// How long the load lasted, in seconds.
    pub seconds: f64,
}

impl Heard {
    /// Requests that were acknowledged.
    pub fn ok(&self) -> u64 {
        self.answers.get("ok").copied().unwrap_or_default()
    }

    /// The time until an OK, in milliseconds, that this part of the requests did not exceed.
    pub fn quantile(&mut self, part: f64) -> f64 {
        self.latencies.sort_by(f32::total_cmp);
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((part * last as f64) as usize).map_or(f64::NAN, |seconds| f64::from(*seconds) * 1e3)
    }

    /// All answers in a line.
    pub fn summary(&self) -> String {
        let all: Vec<String> = self.answers.iter().map(|(answer, count)| format!("{count} {answer}")).collect();
        all.join(", ")
    }
}

/// Senders at work.
pub struct Load {
    senders: JoinSet<()>,
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    began: Instant,
}

impl Load {
    /// Begins to send to these ports of the loopback.
    ///
    /// # Errors
    /// See [`Template::new`].
    pub fn start(oracle: &Arc<Oracle>, port: u16, plan: &Plan) -> Result<Self, Fault> {
        let template = Arc::new(Template::new(plan.points, plan.padding)?);
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Heard::default())));
        let mut senders = JoinSet::new();
        for _ in 0..plan.senders {
            let (oracle, template, plan) = (Arc::clone(oracle), Arc::clone(&template), plan.clone());
            let (stop, heard) = (Arc::clone(&stop), Arc::clone(&heard));
            senders.spawn(async move {
                let sender = Sender::new(plan.protocol, port);
                while !stop.load(Ordering::Relaxed) {
                    let numbers = oracle.issue(plan.points);
                    let began = Instant::now();
                    let answer = sender.export(&template, numbers.start).await;
                    let ok = answer == "ok";
                    if ok {
                        oracle.acknowledged(numbers);
                    }
                    {
                        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                        *heard.answers.entry(answer).or_default() += 1;
                        if ok {
                            heard.latencies.push(began.elapsed().as_secs_f32());
                            heard.points += plan.points as u64;
                        }
                    }
                    let pause = if ok { plan.pause } else { plan.pause.max(Duration::from_millis(10)) };
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            });
        }
        Ok(Load { senders, stop, heard, began: Instant::now() })
    }

    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        heard.seconds = self.began.elapsed().as_secs_f64();
        heard
    }

    /// Lets every sender hear its last answer, and ends.
    pub async fn stop(mut self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        while self.senders.join_next().await.is_some() {}
        Heard { seconds, ..self.heard() }
    }
}

/// Whether a request was given up before any of it was sent, or was begun after the GOAWAY of a connection: it was not
/// taken, and clients send it again by themselves (gRPC A6, transparent retries).
fn was_not_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let turned_away =
            |error: &h2::Error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        cause.downcast_ref().is_some_and(hyper::Error::is_canceled) || cause.downcast_ref().is_some_and(turned_away)
    })
}

/// One sender with its connection.
pub struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    protocol: Protocol,
    port: u16,
}

impl Sender {
    pub fn new(protocol: Protocol, port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .http2_only(protocol == Protocol::Grpc)
            .retry_canceled_requests(false)
            .build(connector);
        Sender { client, protocol, port }
    }

    /// Sends points from this number on; `ok`, or what was answered instead.
    pub async fn export(&self, template: &Template, first: u64) -> String {
        let body = match self.protocol {
            Protocol::Http => template.fill(first, 0),
            Protocol::Grpc => {
                let mut body = template.fill(first, 5);
                let length = (body.len() - 5) as u32;
                body[1..5].copy_from_slice(&length.to_be_bytes());
                body
            }
        };
        self.post(body.freeze()).await
    }

    /// Sends a body as it is.
    pub async fn post(&self, body: Bytes) -> String {
        match tokio::time::timeout(ANSWER, self.exchange(body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if was_not_sent(&*error) => "not sent".to_owned(),
            Ok(Err(_)) => "no answer".to_owned(),
            Err(_) => "no answer in time".to_owned(),
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<String, Fault> {
        let (path, kind) = match self.protocol {
            Protocol::Grpc => (GRPC_PATH, "application/grpc"),
            Protocol::Http => ("/v1/metrics", "application/x-protobuf"),
        };
        let request = Request::post(format!("http://127.0.0.1:{}{path}", self.port)).header(header::CONTENT_TYPE, kind);
        let response = self.client.request(request.header(header::TE, "trailers").body(Full::new(body))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let bytes = body.to_bytes();
        let message = match self.protocol {
            Protocol::Http if head.status == 200 => &bytes[..],
            Protocol::Http => return Ok(head.status.as_u16().to_string()),
            Protocol::Grpc => {
                let status = trailers.get("grpc-status").or(head.headers.get("grpc-status"));
                match status.and_then(|status| status.to_str().ok()) {
                    Some("0") => bytes.get(5..).ok_or("an OK without a message")?,
                    Some(status) => return Ok(format!("grpc {status}")),
                    None => return Ok(format!("no grpc-status, {}", head.status)),
                }
            }
        };
        let response = ExportMetricsServiceResponse::decode(message)?;
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_data_points);
        Ok(if rejected == 0 { "ok".to_owned() } else { "partial success".to_owned() })
    }
}
