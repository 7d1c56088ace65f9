//! Sockets and connections: who may connect, how long a connection lives, and how it ends.
//!
//! Every connection has a place among a limited number, a share of the receiver's room, and a limit on each kind of
//! waiting. In the end no new connection is taken, those that are open are told to go, and requests under way are answered
//! for a while. A request that is on its way when its connection is told to go is answered, too: HTTP/2 has GOAWAY for it;
//! an HTTP/1 connection is not closed while it is silent but after its next answer, which says `connection: close`.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use phoenix_pipeline::admission::Budget;
use phoenix_pipeline::auth::ServerAuth;
use phoenix_pipeline::{Listener, UnixSocket};
use phoenix_transport::tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::counts::{Counts, Reason};
use super::watch::{Activity, Patience, Watched};
use super::{grpc, http as plain};

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// HTTP/2 windows of a stream and of a connection, where the connection's share allows: a large request then never waits
/// for leave to go on. Measured: docs/decisions.md.
const STREAM_WINDOW: usize = 8 << 20;
const CONNECTION_WINDOW: usize = 32 << 20;
/// Parts of a connection's share that a stream's and the connection's window may be. What a window lets in may lie in memory
/// before it is counted, on all connections at the same time.
const STREAM_PART: usize = 16;
const CONNECTION_PART: usize = 4;
/// The least window, HTTP/2's own default.
const LEAST_WINDOW: usize = 64 << 10;
/// How long requests under way are waited for in the end: exporters and queues want the rest of the 25 s.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a silent connection that is to go may begin one more request: a sender that is busy has begun it by then, and
/// one that sends every few seconds hardly ever begins in the moment of the close.
const ONE_MORE: Duration = Duration::from_secs(1);
/// How long a socket must have been silent to be closed: the runtime looks at it at least once in this time.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// Who answers.
pub(super) enum Service {
    Grpc(grpc::Service),
    Http(plain::Service),
}

/// A transport that listens.
pub(super) struct Front {
    pub(super) service: Service,
    pub(super) tls: Option<Acceptor>,
    /// Whom a request must satisfy before its body is read.
    pub(super) auth: Option<Arc<dyn ServerAuth>>,
    /// The receiver's room, and how much of it one connection may take.
    pub(super) room: Budget,
    pub(super) share: usize,
    /// Places for connections.
    pub(super) places: Budget,
    pub(super) patience: Patience,
    pub(super) http1_keep_alive: bool,
    pub(super) http2: Http2,
    pub(super) counts: Counts,
}

impl Front {
    async fn answer(&self, request: Request<Incoming>, room: &Budget, activity: &Activity) -> Response<Answer> {
        if matches!(self.service, Service::Grpc(_)) && !grpc::is_call(&request) {
            self.counts.refused(Reason::Unsupported);
            let mut response = Response::new(Answer::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let encoding = plain::encoding(request.headers());
        let allowed = self.auth.as_ref().map_or(Ok(()), |auth| auth.check(request.headers()));
        let outcome = match (&self.service, allowed) {
            (_, Err(why)) => Err(why.into()),
            (Service::Grpc(service), Ok(())) => service.take(request, room, activity).await,
            (Service::Http(service), Ok(())) => service.take(request, room, activity).await,
        };
        let response = match &self.service {
            Service::Grpc(_) => grpc::answer(&outcome),
            Service::Http(service) => service.answer(encoding, &outcome),
        };
        if let Err(refused) = &outcome {
            self.counts.refused(refused.reason);
            tracing::debug!(status = refused.rejection.code, why = %refused.rejection.message, "a request was refused");
        }
        response
    }
}

/// What is special about HTTP/2.
pub(super) struct Http2 {
    pub(super) max_streams: u32,
    /// Silence until a ping, none for never, and then until the end.
    pub(super) ping: Option<Duration>,
    pub(super) pong: Duration,
    /// How old a connection may become, and how long requests may then take.
    pub(super) age: Option<Duration>,
    pub(super) grace: Option<Duration>,
}

/// A socket to listen on.
pub(super) enum Socket {
    Tcp(Listener),
    Unix(UnixSocket),
}

enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Bytes both ways.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Accepting {
    async fn accept(&self) -> io::Result<Box<dyn Io>> {
        match self {
            Accepting::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // An answer is one small packet and must not wait for another.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Accepting::Unix(socket) => Ok(Box::new(socket.accept().await?.0)),
        }
    }
}

/// What connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Draining,
    Over,
}

/// Transports at work.
pub(super) struct Server {
    phase: watch::Sender<Phase>,
}

impl Server {
    pub(super) fn new() -> Self {
        Server { phase: watch::Sender::new(Phase::Open) }
    }

    /// Takes connections on `socket` from now on.
    pub(super) fn listen(&self, runtime: &tokio::runtime::Handle, front: Front, socket: Socket) -> io::Result<()> {
        let _runtime = runtime.enter();
        let accepting = match &socket {
            Socket::Tcp(listener) => Accepting::Tcp(listener.accepting()?),
            Socket::Unix(socket) => Accepting::Unix(socket.accepting()?),
        };
        let phase = self.phase.subscribe();
        runtime.spawn(async move {
            accept(Arc::new(front), accepting, phase).await;
            // Open until here, so that a reload finds it.
            drop(socket);
        });
        Ok(())
    }

    /// Ends: nothing new is taken, what is under way is answered as far as time allows.
    pub(super) async fn stop(&self) {
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(DRAIN, self.phase.closed()).await.is_err() {
            self.phase.send_replace(Phase::Over);
            self.phase.closed().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
    }
}

async fn accept(front: Arc<Front>, socket: Accepting, mut phase: watch::Receiver<Phase>) {
    while *phase.borrow() != Phase::Over {
        let accepted = tokio::select! {
            // First, so that in the end nobody is left waiting in the kernel's backlog.
            biased;
            accepted = socket.accept() => accepted,
            () = after(&mut phase, LAST_LOOK) => return,
        };
        match accepted {
            Ok(stream) => match front.places.take(1) {
                Ok(place) => {
                    let (front, phase) = (Arc::clone(&front), phase.clone());
                    tokio::spawn(async move {
                        front.counts.connections.increment(1.0);
                        connection(&front, stream, phase).await;
                        front.counts.connections.decrement(1.0);
                        drop(place);
                    });
                }
                // Closed at once: a peer that is made to wait would not know why.
                Err(_) => front.counts.closed("too_many"),
            },
            // Out of descriptors, or a connection that was gone before it was taken: neither ends the server.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(front: &Arc<Front>, stream: Box<dyn Io>, mut phase: watch::Receiver<Phase>) {
    let stream: Box<dyn Io> = match &front.tls {
        None => stream,
        Some(tls) => tokio::select! {
            accepted = tls.accept(stream) => match accepted {
                Ok(accepted) => Box::new(accepted.stream),
                Err(error) => return tracing::debug!(%error, "a connection was not accepted"),
            },
            () = after(&mut phase, ONE_MORE) => return,
        },
    };
    let activity = Activity::new();
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let room = front.room.share(front.share);
    let service = hyper::service::service_fn(|request| {
        let (front, room, under_way) = (Arc::clone(front), room.clone(), activity.request());
        let activity = Arc::clone(&activity);
        async move {
            let http1 = request.version() < Version::HTTP_2;
            let mut response = front.answer(request, &room, &activity).await;
            if http1 && activity.leaving() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            drop(under_way);
            Ok::<_, Infallible>(response)
        }
    });
    let builder = builder(front);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut age = pin!(sleep(front.http2.age.unwrap_or(Duration::MAX / 4)));
    let mut told = false;
    let (mut farewell, mut end) = (None, None);
    loop {
        tokio::select! {
            // The end comes first: a request that is read after it began may be answered in the same moment, and its answer
            // must say that it is the last. So it is with all of a connection that is taken in the end.
            biased;
            now = changed(&mut phase, told) => {
                if now == Phase::Over {
                    return;
                }
                told = true;
                let wait = if activity.leave() { Duration::ZERO } else { ONE_MORE };
                farewell = Some(Instant::now() + wait);
            }
            // How a peer breaks off is its own affair.
            _ = connection.as_mut() => return,
            () = at(end) => return,
            () = at(farewell) => {
                farewell = if activity.may_close() {
                    connection.as_mut().graceful_shutdown();
                    None
                } else {
                    Some(Instant::now() + ONE_MORE)
                };
            }
            () = sleep(look_again(front.patience)) => {
                // Where places are short, a connection that does nothing makes room sooner.
                let short = front.places.full();
                let idle = if short { front.patience.first } else { front.patience.idle };
                if let Some(overdue) = activity.overdue(Patience { idle, ..front.patience }, Instant::now()) {
                    front.counts.closed(overdue.reason());
                    connection.as_mut().graceful_shutdown();
                    // A peer that is silent does not answer a farewell either.
                    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
                    return;
                }
            }
            () = age.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
                end = front.http2.grace.map(|grace| Instant::now() + grace);
            }
        }
    }
}

/// Until `time`; for ever where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Until so long after the end began.
async fn after(phase: &mut watch::Receiver<Phase>, time: Duration) {
    if phase.wait_for(|phase| *phase != Phase::Open).await.is_ok() {
        sleep(time).await;
    }
}

/// Waits until connections are to end: to be told to go, unless this one was, or at once.
async fn changed(phase: &mut watch::Receiver<Phase>, told: bool) -> Phase {
    let ended = phase.wait_for(|phase| *phase == Phase::Over || (!told && *phase == Phase::Draining)).await;
    ended.map_or(Phase::Over, |phase| *phase)
}

/// How often a connection is looked at.
fn look_again(patience: Patience) -> Duration {
    let least = if patience.idle.is_zero() { patience.first } else { patience.first.min(patience.idle) };
    (least / 2).max(Duration::from_millis(10))
}

fn builder(front: &Front) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).keep_alive(front.http1_keep_alive);
    let window = |part: usize, most: usize| (front.share / part).clamp(LEAST_WINDOW, most) as u32;
    let stream = window(STREAM_PART, STREAM_WINDOW);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(stream)
        .initial_connection_window_size(window(CONNECTION_PART, CONNECTION_WINDOW))
        // A sender that uses it sends a message in one frame, which is read into one buffer and kept as it is: with frames of
        // 256 KiB, reading in pieces and joining them took a tenth of the time of a request of 1.3 MB. The window bounds what
        // is on its way all the same.
        .max_frame_size(stream)
        .max_concurrent_streams(front.http2.max_streams)
        .keep_alive_interval(front.http2.ping)
        .keep_alive_timeout(front.http2.pong);
    match front.service {
        Service::Grpc(_) => builder.http2_only(),
        Service::Http(_) => builder,
    }
}
