//! The backend: decodes with OpenTelemetry's own types, enters every point into the oracle's books, and answers as told.
//!
//! gRPC and HTTP on one port. A point counts as taken when OK is decided upon, before the answer is written: what gets lost
//! of the answer makes duplicates, never a point that the books do not know.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message;
use tokio::net::TcpListener;

use crate::Fault;
use crate::load::METRIC;
use crate::oracle::Oracle;

/// What the backend does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Take,
    /// Takes it after a while.
    Late(Duration),
    /// Answers this HTTP status, or what it is called in gRPC, and takes nothing.
    Refuse(u16),
    /// 413 for more than so many bytes; takes what is smaller.
    TooLarge(usize),
    /// Takes all but this many points, and says so.
    Partial(usize),
    /// Takes it and says so in a body that never ends.
    Endless,
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What all requests share.
struct Shared {
    oracle: Arc<Oracle>,
    moods: Mutex<Vec<Mood>>,
    requests: AtomicUsize,
    unreadable: AtomicUsize,
}

/// A backend at work.
pub struct Sink {
    pub port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sink {
    /// Listens on a free port of the loopback and takes everything.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(oracle: &Arc<Oracle>) -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (requests, unreadable) = Default::default();
        let moods = Mutex::new(vec![Mood::Take]);
        let shared = Arc::new(Shared { oracle: Arc::clone(oracle), moods, requests, unreadable });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Sink { port, shared, task })
    }

    /// From now on requests meet these moods in turn.
    pub fn moods(&self, moods: impl Into<Vec<Mood>>) {
        *self.shared.moods.lock().unwrap_or_else(PoisonError::into_inner) = moods.into();
    }

    /// Requests that came in whole.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Requests that OpenTelemetry's own types cannot read.
    pub fn unreadable(&self) -> usize {
        self.shared.unreadable.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            // A peer that goes away is part of the game.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let grpc = kind.starts_with(b"application/grpc");
    // A request that is cut on its way is none.
    let body = request.into_body().collect().await?.to_bytes();
    let message = if grpc { body.get(5..).ok_or("no gRPC message")? } else { &body[..] };
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let mood = {
        let moods = shared.moods.lock().unwrap_or_else(PoisonError::into_inner);
        moods[number % moods.len()]
    };
    let points = match points(message) {
        Ok(points) => points,
        Err(_) => {
            shared.unreadable.fetch_add(1, Ordering::Relaxed);
            return refuse(grpc, 400);
        }
    };
    let mut rejected = 0;
    match mood {
        Mood::Refuse(status) => {
            if !matches!(status, 429 | 502 | 503 | 504) {
                shared.oracle.refused(points);
            }
            return refuse(grpc, status);
        }
        Mood::TooLarge(limit) if body.len() > limit => return refuse(grpc, 413),
        Mood::Take | Mood::Endless | Mood::TooLarge(_) => shared.oracle.taken(points),
        Mood::Late(time) => {
            tokio::time::sleep(time).await;
            shared.oracle.taken(points);
        }
        Mood::Partial(count) => {
            let (not, taken) = points.split_at(count.min(points.len()));
            rejected = not.len();
            shared.oracle.refused(not.iter().copied());
            shared.oracle.taken(taken.iter().copied());
        }
    }
    let partial_success = (rejected > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: rejected as i64,
        error_message: "as the test asked".to_owned(),
    });
    let message = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    accepted(grpc, &message, mood == Mood::Endless)
}

/// An OK, or one that never ends.
fn accepted(grpc: bool, message: &[u8], endless: bool) -> Result<Response<Body>, Fault> {
    let kind = if grpc { "application/grpc" } else { "application/x-protobuf" };
    let response = Response::builder().header(header::CONTENT_TYPE, kind);
    if endless {
        return Ok(response.body(Zeros.boxed_unsync())?);
    }
    if !grpc {
        return Ok(response.body(Full::new(Bytes::copy_from_slice(message)).boxed_unsync())?);
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let trailers =
        HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    Ok(response.body(body.boxed_unsync())?)
}

fn refuse(grpc: bool, status: u16) -> Result<Response<Body>, Fault> {
    let empty = Empty::new().boxed_unsync();
    if !grpc {
        return Ok(Response::builder().status(status).body(empty)?);
    }
    let code = match status {
        400 => "3",
        401 => "16",
        // What servers say of a message over their limit.
        413 => "8",
        429 | 502 | 503 | 504 => "14",
        _ => "13",
    };
    let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc").header("grpc-status", code);
    let message = if status == 413 { "grpc: received message larger than max (2 vs. 1)" } else { "as the test asked" };
    Ok(response.header("grpc-message", message).body(empty)?)
}

/// The numbers and times in a request.
fn points(message: &[u8]) -> Result<Vec<(u64, u64)>, Fault> {
    let request = ExportMetricsServiceRequest::decode(message)?;
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let mut points = Vec::new();
    for metric in scopes.flat_map(|scope| scope.metrics) {
        // Metrics of another name are none of the oracle's.
        let Some(metric::Data::Gauge(gauge)) = metric.data.filter(|_| metric.name == METRIC) else { continue };
        for point in gauge.data_points {
            let Some(number_data_point::Value::AsInt(number)) = point.value else { continue };
            points.push((number as u64, point.time_unix_nano));
        }
    }
    Ok(points)
}

/// A body without end.
struct Zeros;

impl http_body::Body for Zeros {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 4096])))))
    }
}
