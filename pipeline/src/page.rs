//! One small HTTP server for the pages a person or a scraper reads: metrics, health.
//!
//! A page is served to GET and HEAD from a function of the request's head ([`serve`]); what also takes small orders gets
//! whole requests ([`serve_requests`]). Both on few connections, each bounded in time, bodies bounded in size: a page
//! must never be the way to hold the agent up. TLS is handed in ([`Handshake`]). Data comes in elsewhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::{BoxFuture, Listener};

/// Connections served at once; further ones wait in the kernel's backlog. A node has a handful of scrapers.
const CONNECTIONS: usize = 64;
/// How long a connection may take to send a request's head, which is also how long an idle one is kept: longer than
/// the usual scrape interval of 60 s, so that a scraper keeps its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long one connection lives in all, so that no peer holds a place for good.
const CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// Bytes of the longest body that is read: orders are a line of JSON.
pub const MAX_BODY: usize = 64 << 10;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request from its head. Runs on the runtime: must be quick.
pub type Page = Arc<dyn Fn(&Parts) -> Response<Bytes> + Send + Sync>;

/// Answers a whole request of any method but HEAD, which arrives as GET. Runs on the runtime: must not block.
pub type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// Bytes both ways: a socket, or what a handshake makes of one.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What comes before HTTP on a connection. TLS is one; it lives in another room, which is why this is a trait.
pub trait Handshake: Send + Sync {
    /// What HTTP may be spoken on; `None` if the peer was not let in. Must be bounded in time.
    fn shake(&self, stream: TcpStream) -> BoxFuture<'_, Option<Box<dyn Wire>>>;
}

/// The handshake of a page; `None` = plain text.
pub type Secured = Option<Arc<dyn Handshake>>;

/// How requests are answered.
#[derive(Clone)]
enum Answers {
    Page(Page),
    Handler(Handler),
}

/// A page server at work; it stops when this is dropped.
#[derive(Debug)]
pub struct PageServer {
    stop: watch::Sender<bool>,
}

impl Drop for PageServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// Serves `page` on `listener` until the returned server is dropped; answers under way are finished.
pub fn serve(
    runtime: &tokio::runtime::Handle,
    listener: &Listener,
    secured: Secured,
    page: Page,
) -> std::io::Result<PageServer> {
    start(runtime, listener, secured, Answers::Page(page))
}

/// Serves whole requests, with bodies of at most 64 KiB, until the returned server is dropped.
pub fn serve_requests(
    runtime: &tokio::runtime::Handle,
    listener: &Listener,
    secured: Secured,
    handler: Handler,
) -> std::io::Result<PageServer> {
    start(runtime, listener, secured, Answers::Handler(handler))
}

fn start(
    runtime: &tokio::runtime::Handle,
    listener: &Listener,
    secured: Secured,
    answers: Answers,
) -> std::io::Result<PageServer> {
    let _runtime = runtime.enter();
    let socket = listener.accepting()?;
    let (stop, stopped) = watch::channel(false);
    let keep_open = listener.clone();
    runtime.spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut stop = stopped.clone();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (secured, answers, stopped) = (secured.clone(), answers.clone(), stopped.clone());
                    tokio::spawn(async move {
                        let wire: Option<Box<dyn Wire>> = match secured {
                            Some(handshake) => handshake.shake(stream).await,
                            None => Some(Box::new(stream)),
                        };
                        if let Some(wire) = wire {
                            connection(TokioIo::new(wire), answers, stopped).await;
                        }
                        drop(place);
                    });
                }
                // Out of descriptors, or a connection that was gone before it was taken: neither ends the server.
                Err(error) => {
                    tracing::warn!(%error, address = %keep_open.address(), "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(PageServer { stop })
}

async fn connection(stream: TokioIo<Box<dyn Wire>>, answers: Answers, mut stopped: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request| {
        let answers = answers.clone();
        async move {
            Ok::<_, Infallible>(match answers {
                Answers::Page(page) => answer(&page, request),
                Answers::Handler(handler) => handle(&handler, request).await,
            })
        }
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(stream, service)
    );
    let finish = tokio::select! {
        // How a peer breaks off is its own affair.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => Duration::from_secs(5),
        () = tokio::time::sleep(CONNECTION_AGE) => Duration::from_secs(30),
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(finish, connection).await;
}

fn answer(page: &Page, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, _body) = request.into_parts();
    match head.method {
        Method::GET => page(&head).map(Full::new),
        Method::HEAD => without_body(page(&head)),
        _ => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            response
        }
    }
}

async fn handle(handler: &Handler, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    if is_head {
        head.method = Method::GET;
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than anything that is understood here\n");
        }
        Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body could not be read\n"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
    };
    let response = handler(Request::from_parts(head, body)).await;
    if is_head { without_body(response) } else { response.map(Full::new) }
}

/// What HEAD gets: everything but the body.
fn without_body(response: Response<Bytes>) -> Response<Full<Bytes>> {
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(parts, Full::new(Bytes::new()))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listeners;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn exchange(address: std::net::SocketAddr, request: &str) -> std::io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await??;
        Ok(answer)
    }

    #[tokio::test]
    async fn serves_get_and_head_refuses_others_and_stops_when_dropped() {
        let listener = Listeners::default().bind("127.0.0.1:0", "test").unwrap();
        let address = listener.address();
        let page: Page = Arc::new(|head| Response::new(Bytes::from(format!("path {}", head.uri.path()))));
        let server = serve(&tokio::runtime::Handle::current(), &listener, None, page).unwrap();
        drop(listener);
        let get = exchange(address, "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(get.starts_with("HTTP/1.1 200") && get.ends_with("path /x"), "{get}");
        let head = exchange(address, "HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(head.contains("content-length: 7") && head.ends_with("\r\n\r\n"), "{head}");
        let post = exchange(address, "POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        drop(server);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is free again");
    }

    #[tokio::test]
    async fn requests_are_whole_and_their_bodies_bounded() {
        let listener = Listeners::default().bind("127.0.0.1:0", "test").unwrap();
        let address = listener.address();
        let handler: Handler = Arc::new(|request| {
            let text = format!("{} {} bytes", request.method(), request.body().len());
            Box::pin(async move { Response::new(Bytes::from(text)) })
        });
        let _server = serve_requests(&tokio::runtime::Handle::current(), &listener, None, handler).unwrap();
        let ask = async |method: &str, body: &str| {
            let length = body.len();
            let head =
                format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            exchange(address, &(head + body)).await.unwrap()
        };
        assert!(ask("POST", "12345").await.ends_with("POST 5 bytes"));
        let head = ask("HEAD", "").await;
        assert!(head.contains("content-length: 11") && head.ends_with("\r\n\r\n"), "{head}");
        let huge = "x".repeat(MAX_BODY + 1);
        assert!(ask("POST", &huge[1..]).await.ends_with(&format!("POST {MAX_BODY} bytes")));
        assert!(ask("POST", &huge).await.starts_with("HTTP/1.1 413"));
    }
}
