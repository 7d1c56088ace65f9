//! One HTTP client for both transports: how it is made from the settings, and how one request is exchanged for an answer.
//!
//! It keeps at most [`KEPT`] bytes of an answer, whatever the peer sends, and never follows a redirect.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use phoenix_pipeline::Site;
use phoenix_pipeline::auth::ClientAuth;
use phoenix_pipeline::config::{Headers, Report};

use super::Auth;
use super::compression::Payload;
use super::endpoint::Endpoint;
use crate::sending::{Failure, Retry};
use phoenix_transport::tls::{Alpn, ClientTls, Connector, Route, TlsSettings, server_name};
use tracing::warn;

/// The most that is kept of an answer: as much as the Collector reads.
pub const KEPT: usize = 64 * 1024;
/// The most that is read of an answer before the connection is given up: the limit OTLP recommends for responses.
const READ: usize = 4 * 1024 * 1024;

/// Requests to one peer.
pub struct Peer {
    client: Client<Connector, Payload>,
    address: Uri,
    headers: HeaderMap,
    auth: Option<Arc<dyn ClientAuth>>,
}

/// What a peer is made of.
pub struct PeerSettings<'s> {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How it is verified.
    pub tls: &'s TlsSettings,
    /// What is offered in the TLS handshake.
    pub alpn: Alpn,
    /// The name requests are made out to, if not the endpoint's.
    pub authority: Option<&'s str>,
    /// Sent with every request.
    pub headers: HeaderMap,
    /// Adds credentials to every request.
    pub auth: Option<&'s Auth>,
}

/// An answer, as much of it as is kept.
pub struct Answer {
    /// Status and headers.
    pub head: response::Parts,
    /// The first [`KEPT`] bytes of the body.
    pub body: Bytes,
    /// Whether there was more.
    pub cut: bool,
    /// What came after the body.
    pub trailers: HeaderMap,
}

impl Peer {
    /// A client for one peer. Reads certificate files; connects only when something is sent.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the TLS settings or the names.
    pub fn new(settings: PeerSettings<'_>, site: &Site, tune: impl FnOnce(&mut Builder)) -> Result<Self, String> {
        let PeerSettings { endpoint, tls, alpn, authority, headers, auth } = settings;
        let Endpoint { socket, address, secure } = endpoint;
        let secure = secure.unwrap_or(!tls.insecure);
        let auth = auth.map(|auth| auth.authenticator.as_str()).filter(|id| !id.is_empty());
        let auth = auth.map(|id| site.authenticators.client(id)).transpose()?;
        if auth.is_some() && !secure && socket.is_none() {
            warn!(exporter = %site.id, "credentials go out in plain text: whoever is on the way can read them");
        }
        let verified = match tls.server_name_override.as_str() {
            "" => address.host().unwrap_or_default(),
            name => name,
        };
        let tls = match secure {
            true => Some((ClientTls::new(tls, alpn, "tls", site)?, server_name(verified)?)),
            false => None,
        };
        let mut parts = address.clone().into_parts();
        parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        if let Some(authority) = authority {
            parts.authority =
                Some(authority.parse().map_err(|_| format!("authority: {authority:?} is no host or host:port"))?);
        }
        let route = socket.map_or(Route::Tcp(address), Route::Unix);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).http2_only(alpn == Alpn::Http2);
        tune(&mut builder);
        Ok(Peer {
            client: builder.build(Connector::new(route, tls)),
            address: Uri::from_parts(parts).map_err(|error| format!("no valid address: {error}"))?,
            headers,
            auth,
        })
    }

    /// Posts `payload` and reads the answer.
    ///
    /// # Errors
    /// A failure that may pass, when no answer came.
    pub async fn post(&self, payload: Payload) -> Result<Answer, Failure> {
        let mut request =
            Request::post(self.address.clone()).body(payload).map_err(|error| self.unreachable(&error))?;
        *request.headers_mut() = self.headers.clone();
        if let Some(auth) = &self.auth {
            auth.apply(request.headers_mut());
        }
        let response = self.client.request(request).await.map_err(|error| self.unreachable(&error))?;
        let (head, body) = response.into_parts();
        read(head, body).await.map_err(|error| self.unreachable(&error))
    }

    /// No answer came. The peer may have got the request all the same, but nobody said so.
    fn unreachable(&self, error: &dyn Error) -> Failure {
        let host = self.address.authority().map_or("", http::uri::Authority::as_str);
        let mut reason = format!("no answer from {host}: {}", chain(error));
        // What rustls calls bytes that are no TLS record: the commonest mistake of all, and not to be read from its words.
        if reason.contains("InvalidContentType") {
            reason.push_str(" (it does not speak TLS: write http:// in front of the endpoint, if that is meant)");
        }
        Failure { cause: Cow::Borrowed("connection"), reason, retry: Retry::Backoff }
    }
}

async fn read(head: response::Parts, mut body: Incoming) -> Result<Answer, hyper::Error> {
    let mut kept = BytesMut::new();
    let mut seen = 0usize;
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                seen = seen.saturating_add(data.len());
                let room = KEPT.saturating_sub(kept.len()).min(data.len());
                kept.extend_from_slice(data.get(..room).unwrap_or_default());
                if seen > READ {
                    break;
                }
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok(Answer { head, cut: seen > kept.len(), body: kept.freeze(), trailers })
}

/// An error with all its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

/// How this exporter introduces itself, unless the settings say otherwise.
pub fn user_agent(site: &Site) -> String {
    format!("Phoenix/{0} OTel-OTLP-Exporter-Rust/{0}", site.version)
}

/// The configured headers as they go over the wire. gRPC wants names that end in `-bin` in base64.
///
/// # Errors
/// The name of the header and what is wrong with it; never its value.
pub fn header_map(headers: &Headers, grpc: bool) -> Result<HeaderMap, Vec<(String, String)>> {
    let mut map = HeaderMap::new();
    let mut wrong = Vec::new();
    for (name, value) in headers.iter() {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            wrong.push((name.to_owned(), "is no header name: letters, digits and dashes are allowed".to_owned()));
            continue;
        };
        let text = match grpc && header.as_str().ends_with("-bin") {
            true => STANDARD_NO_PAD.encode(value.reveal()),
            false => value.reveal().to_owned(),
        };
        match HeaderValue::try_from(text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                map.insert(header, value);
            }
            Err(_) => wrong.push((
                name.to_owned(),
                "its value holds a character that is not allowed in a header (a line break?)".to_owned(),
            )),
        }
    }
    if wrong.is_empty() { Ok(map) } else { Err(wrong) }
}

/// Reports what is wrong with `headers`.
pub fn check_headers(headers: &Headers, grpc: bool, report: &mut Report<'_>) {
    for (name, message) in header_map(headers, grpc).err().into_iter().flatten() {
        report.error(&format!("headers.{name}"), message);
    }
}

/// A duration of zero means "none" in most of the Collector's settings.
pub fn nonzero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
