//! The backend: takes everything on one port, gRPC and HTTP, and counts requests, bytes and data points.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use phoenix_telemetry::{Batch, Limits};
use tokio::net::TcpListener;

use crate::Fault;

/// What a backend has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub requests: u64,
    pub points: u64,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    points: AtomicU64,
}

/// A backend at work.
pub struct Sink {
    pub port: u16,
    counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sink {
    /// Listens on a free port of the loopback.
    pub async fn start() -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&counts)));
        Ok(Sink { port, counts, task })
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Taken {
        let Counts { requests, points } = &*self.counts;
        Taken { requests: requests.load(Ordering::Relaxed), points: points.load(Ordering::Relaxed) }
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // To answer late because of Nagle would be the backend's fault, not the contestant's.
        let _ = stream.set_nodelay(true);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().initial_stream_window_size(8 << 20).initial_connection_window_size(32 << 20);
            builder.http2().max_frame_size(256 << 10);
            let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
            // A contestant that ends cuts its connections.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: Arc<Counts>,
) -> Result<Response<UnsyncBoxBody<Bytes, Fault>>, Fault> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let named = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let grpc = named("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    let coding = match grpc {
        true if body.first() == Some(&1) => named("grpc-encoding"),
        true => None,
        false => named("content-encoding"),
    };
    let message = unpack(body.slice(if grpc { 5 } else { 0 }..), coding)?;
    let batch = Batch::decode(message, &Limits::default())?;
    counts.requests.fetch_add(1, Ordering::Relaxed);
    counts.points.fetch_add(batch.points() as u64, Ordering::Relaxed);
    let response = Response::builder();
    if !grpc {
        let response = response.header(header::CONTENT_TYPE, "application/x-protobuf");
        return Ok(response.body(Full::default().map_err(Fault::from).boxed_unsync())?);
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    Ok(response.header(header::CONTENT_TYPE, "application/grpc").body(body.map_err(Fault::from).boxed_unsync())?)
}

/// The plain form of a body in this coding.
pub fn unpack(body: Bytes, coding: Option<&str>) -> Result<Bytes, Fault> {
    let mut plain = Vec::new();
    match coding {
        None | Some("identity") => return Ok(body),
        Some("gzip") => flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut plain)?,
        Some("zstd") => zstd::Decoder::with_buffer(&body[..])?.read_to_end(&mut plain)?,
        Some(other) => return Err(format!("a contestant compresses by {other}, which nobody asked for").into()),
    };
    Ok(plain.into())
}
