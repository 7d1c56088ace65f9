//! One connection to the peer: TCP or a Unix socket, with TLS or without.

use std::future::Future;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::ClientTls;
use super::server::HANDSHAKE_TIMEOUT;

/// A peer that does not answer a connection attempt for so long is away (what gRPC allows as well).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Sent data that nobody acknowledged for so long means a dead connection. Without this the kernel tries for a quarter of
/// an hour, and every retry would go down the same hole.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// How often an idle connection is probed, so that one whose peer vanished is not used again (Go's value).
const PROBE: Duration = Duration::from_secs(15);

/// Where connections go. An exporter has one peer, so this is settled once and not per request.
#[derive(Clone, Debug)]
pub enum Route {
    /// To host and port of this address; all addresses of a name are tried.
    Tcp(Uri),
    /// To a Unix socket.
    Unix(PathBuf),
}

/// Opens connections for an HTTP client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    tcp: HttpConnector,
    route: Route,
    tls: Option<(ClientTls, ServerName<'static>)>,
    handshake: Duration,
}

impl Connector {
    /// Connections to `route`, encrypted if there is a TLS client; the peer must prove to be the name beside it.
    pub fn new(route: Route, tls: Option<(ClientTls, ServerName<'static>)>) -> Self {
        let mut tcp = HttpConnector::new();
        // Only host and port of the address count here.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        tcp.set_keepalive(Some(PROBE));
        tcp.set_keepalive_interval(Some(PROBE));
        Connector { tcp, route, tls, handshake: HANDSHAKE_TIMEOUT }
    }

    /// The same with another limit on the time of a TLS handshake, in place of 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { mut tcp, route, tls, handshake: limit } = self.clone();
        Box::pin(async move {
            let target = match route {
                Route::Unix(path) => return Ok(Stream::Unix(TokioIo::new(UnixStream::connect(path).await?))),
                Route::Tcp(target) => target,
            };
            let stream = tcp.call(target).await.map_err(io::Error::other)?;
            let Some((tls, name)) = tls else { return Ok(Stream::Tcp(stream)) };
            let handshake = TlsConnector::from(tls.current()).connect(name, stream.into_inner());
            let late = |_| {
                let why = format!("the peer did not finish the TLS handshake within {limit:?}");
                io::Error::new(io::ErrorKind::TimedOut, why)
            };
            let stream = tokio::time::timeout(limit, handshake).await.map_err(late)??;
            Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
        })
    }
}

/// A host (name, IPv4, `[IPv6]`) as a certificate would name it.
///
/// # Errors
/// A sentence that names the host.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host:?} is neither a host name nor an IP address"))
}

/// A connection that was opened.
pub enum Stream {
    /// TCP without TLS.
    Tcp(TokioIo<TcpStream>),
    /// A Unix socket.
    Unix(TokioIo<UnixStream>),
    /// TCP with TLS.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let http2 = matches!(self, Stream::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2"));
        if http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
