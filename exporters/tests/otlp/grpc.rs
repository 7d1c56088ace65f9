//! `otlp_grpc` on the wire, against tonic's server and against peers that misbehave.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderValue, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use phoenix_exporters::otlp;
use phoenix_pipeline::Refusal;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::support::*;

type Outcome = Result<ExportMetricsServiceResponse, Status>;

/// What a call brought, and when.
pub struct Call {
    pub message: ExportMetricsServiceRequest,
    pub metadata: MetadataMap,
    pub at: Instant,
}

/// A metrics service by tonic: answers the outcomes in order, then OK.
#[derive(Clone, Default)]
pub struct Metrics {
    pub calls: Arc<Mutex<Vec<Call>>>,
    outcomes: Arc<Mutex<VecDeque<Outcome>>>,
}

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.calls.lock().unwrap().push(Call { message, metadata, at: Instant::now() });
        let outcome =
            self.outcomes.lock().unwrap().pop_front().unwrap_or_else(|| Ok(ExportMetricsServiceResponse::default()));
        outcome.map(tonic::Response::new)
    }
}

impl Metrics {
    pub fn answering(outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        Metrics { outcomes: Arc::new(Mutex::new(outcomes.into_iter().collect())), ..Metrics::default() }
    }

    pub fn handler(&self) -> Handler {
        let server = MetricsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        handler_of(server)
    }
}

fn handler_of(server: MetricsServiceServer<Metrics>) -> Handler {
    Arc::new(move |request| {
        let mut server = server.clone();
        Box::pin(async move {
            // Infallible: the service answers with a status.
            let response = server.call(request).await.unwrap();
            response.map(|body| body.map_err(std::io::Error::other).boxed_unsync())
        })
    })
}

async fn start(metrics: &Metrics, more: &str) -> Subject {
    let address = serve(None, true, metrics.handler()).await;
    Subject::new(&otlp::grpc::FACTORY, &format!("endpoint: http://{address}\n{more}\n{EAGER}"))
}

#[tokio::test]
async fn every_compression_reaches_a_tonic_server() {
    for compression in ["gzip", "zstd", "none"] {
        let metrics = Metrics::default();
        let subject = start(&metrics, &format!("compression: {compression}")).await;
        subject.send(batch(500)).await.unwrap();
        subject.send(batch(1)).await.unwrap();
        let calls = metrics.calls.lock().unwrap();
        assert_eq!(values(&calls[0].message), (0..500).collect::<Vec<_>>());
        assert_eq!(values(&calls[1].message), [0]);
        assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 501.0);
    }
}

#[tokio::test]
async fn a_request_larger_than_the_flow_control_windows() {
    let metrics = Metrics::default();
    let subject = start(&metrics, "compression: none").await;
    subject.send(batch(40_000)).await.unwrap();
    assert_eq!(values(&metrics.calls.lock().unwrap()[0].message).len(), 40_000);
}

#[tokio::test]
async fn headers_travel_as_metadata() {
    let metrics = Metrics::default();
    let subject = start(
        &metrics,
        "headers: { api-key: hunter2, trace-bin: \"\\u00ff\" }\nuser_agent: mine/1\nauthority: elsewhere:1",
    )
    .await;
    subject.send(batch(1)).await.unwrap();
    let calls = metrics.calls.lock().unwrap();
    let metadata = &calls[0].metadata;
    assert_eq!(metadata.get("api-key").unwrap(), "hunter2");
    assert_eq!(metadata.get_bin("trace-bin").unwrap().to_bytes().unwrap(), "\u{ff}".as_bytes());
    assert_eq!(metadata.get("user-agent").unwrap(), "mine/1");
    assert_eq!(metadata.get("grpc-timeout").unwrap(), "5000m");
}

fn retry_info(seconds: u8) -> Bytes {
    // google.rpc.Status { code: 8, details: [Any { RetryInfo { retry_delay { seconds } } }] }, by hand.
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let info = [0x0a, 2, 0x08, seconds];
    let mut any = vec![0x0a, url.len() as u8];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, info.len() as u8]);
    any.extend_from_slice(&info);
    let mut status = vec![0x08, 8, 0x1a, any.len() as u8];
    status.extend_from_slice(&any);
    status.into()
}

#[tokio::test]
async fn resource_exhausted_is_repeated_only_when_told_when() {
    let told = Status::with_details(Code::ResourceExhausted, "slow down", retry_info(1));
    let metrics = Metrics::answering([Err(told)]);
    let subject = start(&metrics, "").await;
    subject.send(batch(1)).await.unwrap();
    {
        let calls = metrics.calls.lock().unwrap();
        assert_eq!(calls.len(), 2);
        assert!(calls[1].at - calls[0].at >= Duration::from_secs(1));
    }
    let metrics = Metrics::answering([Err(Status::new(Code::ResourceExhausted, "too large"))]);
    let subject = start(&metrics, "").await;
    let refusal = subject.send(batch(1)).await.unwrap_err();
    assert_eq!(refusal, Refusal::last("the peer answered RESOURCE_EXHAUSTED: too large"));
    assert_eq!(metrics.calls.lock().unwrap().len(), 1);
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "RESOURCE_EXHAUSTED"), 1.0);
}

#[tokio::test]
async fn a_message_over_a_servers_limit_is_sent_in_halves() {
    // tonic's own limit and words.
    let metrics = Metrics::default();
    let server = MetricsServiceServer::new(metrics.clone()).max_decoding_message_size(2000);
    let address = serve(None, true, handler_of(server)).await;
    let yaml = format!("endpoint: http://{address}\ncompression: none\n{EAGER}");
    let subject = Subject::new(&otlp::grpc::FACTORY, &yaml);
    subject.send(batch(400)).await.unwrap();
    let sent: Vec<i64> = metrics.calls.lock().unwrap().iter().flat_map(|call| values(&call.message)).collect();
    assert_eq!(sent, (0..400).collect::<Vec<_>>());
    assert!(subject.counted("phoenix_exporter_split_requests_total", "") >= 7.0);
    assert_eq!(subject.counted("phoenix_exporter_retries_total", ""), 0.0);
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", ""), 0.0);
    // Go's code and words.
    let larger = Status::resource_exhausted("grpc: received message larger than max (5000 vs. 4000)");
    let metrics = Metrics::answering([Err(larger.clone()), Ok(ExportMetricsServiceResponse::default()), Err(larger)]);
    let subject = start(&metrics, "").await;
    subject.send(batch(40)).await.unwrap();
    let sizes: Vec<usize> = metrics.calls.lock().unwrap().iter().map(|call| values(&call.message).len()).collect();
    assert_eq!(sizes, [40, 20, 20, 10, 10]);
}

#[tokio::test]
async fn unavailable_is_repeated_and_invalid_argument_is_not() {
    let metrics = Metrics::answering([Err(Status::unavailable("restart")), Err(Status::unavailable("restart"))]);
    let subject = start(&metrics, "").await;
    subject.send(batch(1)).await.unwrap();
    assert_eq!(metrics.calls.lock().unwrap().len(), 3);
    assert_eq!(subject.counted("phoenix_exporter_retries_total", "UNAVAILABLE"), 2.0);
    let metrics = Metrics::answering([Err(Status::invalid_argument("no %unit"))]);
    let refusal = start(&metrics, "").await.send(batch(1)).await.unwrap_err();
    assert_eq!(refusal, Refusal::last("the peer answered INVALID_ARGUMENT: no %unit"));
}

#[tokio::test]
async fn a_partial_success_is_counted_and_not_repeated() {
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "too old".into() };
    let metrics = Metrics::answering([Ok(ExportMetricsServiceResponse { partial_success: Some(partial) })]);
    let subject = start(&metrics, "").await;
    subject.send(batch(5)).await.unwrap();
    assert_eq!(metrics.calls.lock().unwrap().len(), 1);
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 3.0);
    assert_eq!(subject.counted("phoenix_exporter_rejected_metric_points_total", ""), 2.0);
}

#[tokio::test]
async fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otel.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let metrics = Metrics::default();
    let handler = metrics.handler();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(hyper_util::rt::TokioIo::new(stream), true, Arc::clone(&handler)));
        }
    });
    let subject = Subject::new(&otlp::grpc::FACTORY, &format!("endpoint: unix://{}\n{EAGER}", path.display()));
    subject.send(batch(1)).await.unwrap();
    assert_eq!(metrics.calls.lock().unwrap().len(), 1);
}

/// An answer made of a body and trailers, whatever they are.
async fn odd(status: u16, bytes: Vec<u8>, trailers: &[(&'static str, &str)]) -> Subject {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        map.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let bytes = Bytes::from(bytes);
    let handler: Handler = Arc::new(move |_| {
        let body = Frames(VecDeque::from([Frame::data(bytes.clone()), Frame::trailers(map.clone())])).boxed_unsync();
        let response =
            Response::builder().status(status).header("content-type", "application/grpc").body(body).unwrap();
        Box::pin(std::future::ready(response))
    });
    let address = serve(None, true, handler).await;
    let yaml = "sending_queue: { wait_for_result: true }\nretry_on_failure: { enabled: false }";
    Subject::new(&otlp::grpc::FACTORY, &format!("endpoint: http://{address}\n{yaml}"))
}

struct Frames(VecDeque<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn a_giant_answer_is_cut_and_its_status_counts() {
    let subject = odd(200, vec![0; 1 << 20], &[("grpc-status", "0")]).await;
    subject.send(batch(1)).await.unwrap();
    let subject = odd(200, vec![0; 16 << 20], &[("grpc-status", "3"), ("grpc-message", "no")]).await;
    let refusal = subject.send(batch(1)).await.unwrap_err();
    assert!(refusal.to_string().contains("without a gRPC status"), "past 4 MiB nobody reads on: {refusal}");
}

#[tokio::test]
async fn odd_answers_are_errors_and_nothing_worse() {
    let bad = [("grpc-status", "8"), ("grpc-status-details-bin", "!not base64!"), ("grpc-message", "%zz")];
    let refusal = odd(200, vec![], &bad).await.send(batch(1)).await.unwrap_err();
    assert_eq!(refusal, Refusal::last("the peer answered RESOURCE_EXHAUSTED: %zz"));
    let garbage = STANDARD.encode([0xff; 7]);
    let bad = [("grpc-status", "14"), ("grpc-status-details-bin", garbage.as_str())];
    let refusal = odd(200, vec![], &bad).await.send(batch(1)).await.unwrap_err();
    assert_eq!(refusal, Refusal::later("the peer answered UNAVAILABLE"));
    let refusal = odd(404, b"<html>".to_vec(), &[]).await.send(batch(1)).await.unwrap_err();
    assert_eq!(refusal, Refusal::last("the peer answered UNIMPLEMENTED: HTTP 404 Not Found"));
    let refusal = odd(200, b"<html>".to_vec(), &[]).await.send(batch(1)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Later { .. }), "{refusal}");
    for message in [vec![], vec![0, 0, 0, 0, 9], vec![1, 0, 0, 0, 0], vec![0, 0, 0, 0, 1, 0xff]] {
        odd(200, message, &[("grpc-status", "0")]).await.send(batch(1)).await.unwrap();
    }
}

#[test]
fn wrong_settings_say_what_and_where() {
    let check = |yaml: &str| {
        let value = phoenix_pipeline::config::parse("c.yaml", yaml).unwrap();
        (otlp::grpc::FACTORY.validate)(&value).into_iter().map(|mistake| mistake.to_string()).collect::<Vec<_>>()
    };
    let collector = "endpoint: backend:4317
tls: { insecure: true, insecure_skip_verify: false }
compression: zstd
headers: [ { name: api-key, value: x } ]
timeout: 10s
balancer_name: pick_first
keepalive: { time: 30s, timeout: 5s, permit_without_stream: true }
read_buffer_size: 1024
write_buffer_size: 524288
wait_for_ready: true
sending_queue: { enabled: true, storage: file_storage/q, batch: { flush_timeout: 1s, sizer: bytes } }
";
    assert_eq!(check(collector), Vec::<String>::new());
    for (yaml, part) in [
        ("{}", "is required: host:port"),
        ("endpoint: backend", "\"backend\" has no port: write backend:4317"),
        ("endpoint: a:1\ncompression: deflate", "is not a compression of gRPC; allowed: gzip, zstd, none"),
        ("endpoint: a:1\nbalancer_name: best", "\"best\" is not allowed here"),
        ("endpoint: a:1\nauthority: \"a b\"", "is no host or host:port"),
        ("endpoint: a:1\nmiddlewares: [x]", "middleware extensions are not served"),
        ("endpoint: a:1\nkeepalive: { timeout: 0s }", "0s would end every connection"),
    ] {
        let mistakes = check(yaml);
        assert!(mistakes.len() == 1 && mistakes[0].contains(part), "{yaml}: {mistakes:?}");
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let defaults = serde_yaml::to_string(&(otlp::grpc::FACTORY.defaults)()).unwrap();
    for line in [
        "compression: gzip",
        "timeout: 5s",
        "num_consumers: 10",
        "queue_size: null",
        "max_elapsed_time: null",
        "sizer: null",
    ] {
        assert!(defaults.lines().any(|found| found.trim() == line), "{line}\n{defaults}");
    }
    assert!(!defaults.contains("batch:"), "off unless named\n{defaults}");
}
