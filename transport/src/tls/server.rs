//! TLS as a server: one acceptor per listening socket.
//!
//! A handshake has a time limit, so a peer that opens a connection and says nothing holds it for ten seconds and no
//! longer. Handshakes that fail are counted by reason and never end the server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use phoenix_pipeline::{BoxFuture, Handshake, Instrument, Level, Metrics, Secured, Site, Wire};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::crypto::{Alpn, provider, unspeakable, versions};
use super::material::{Files, authorities, identity, subject};
use super::reload::{Built, Reloading};
use super::settings::ServerTlsSettings;

static FAILED: Instrument = Instrument {
    name: "phoenix_tls_handshakes_failed_total",
    unit: "{handshake}",
    description: "TLS handshakes of peers that failed, by reason.",
    level: Level::Normal,
};

/// The longest a handshake may take, on either side: two round trips across the world take one second, and more is a
/// peer that wants to hold a place.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the TLS handshakes of one listening socket. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    current: Arc<Reloading<ServerConfig>>,
    timeout: Duration,
    metrics: Metrics,
    labels: [(&'static str, Arc<str>); 2],
}

/// A connection whose handshake is done.
pub struct Accepted<S> {
    /// Encrypts and decrypts.
    pub stream: TlsStream<S>,
    /// Whether HTTP/2 was agreed on.
    pub http2: bool,
    /// The subject of the client's certificate ("CN=agent"), which was verified; none if none was asked for.
    pub subject: Option<String>,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("TLS handshake: {error}")]
pub struct HandshakeError {
    /// The reason as it is counted.
    pub reason: &'static str,
    #[source]
    error: io::Error,
}

impl Acceptor {
    /// The server the settings describe. Reads the files they name, and goes on reading them every `reload_interval`.
    /// `key` is the path of the settings in their component's block ("protocols.grpc.tls"), for labels and messages.
    ///
    /// # Errors
    /// A sentence that names the key, the file and what is wrong with it; never the content.
    pub fn new(settings: &ServerTlsSettings, alpn: Alpn, key: &str, site: &Site) -> Result<Self, String> {
        let mut paths = settings.common().files();
        let client_ca = settings.client_ca();
        // Not followed if the settings say so: then what was read first stays.
        let first = (!settings.client_ca_file_reload).then(|| Files::read(&client_ca.files()));
        if first.is_none() {
            paths.extend(client_ca.files());
        }
        let owned = settings.clone();
        let build = Box::new(move |files: &Files| server_config(&owned, alpn, files, first.as_ref().unwrap_or(files)));
        Ok(Acceptor {
            current: Reloading::new(paths, settings.reload_interval, key, site, build)?,
            timeout: HANDSHAKE_TIMEOUT,
            metrics: site.metrics.clone(),
            labels: [("component", site.status.component().into()), ("key", key.into())],
        })
    }

    /// The handshake of a page ([`phoenix_pipeline::serve`]), where its settings ask for TLS. Pages speak HTTP/1.1.
    ///
    /// # Errors
    /// As [`Acceptor::new`].
    pub fn of_page(settings: Option<&ServerTlsSettings>, key: &str, site: &Site) -> Result<Secured, String> {
        let Some(settings) = settings else { return Ok(None) };
        let idle = settings.without_effect();
        if !idle.is_empty() {
            tracing::info!(component = %site.status.component(), "accepted, without effect here: {}", idle.join(", "));
        }
        Ok(Some(Arc::new(Acceptor::new(settings, Alpn::Http1, key, site)?)))
    }

    /// The same acceptor with another limit on the time of a handshake, in place of 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[cfg(test)]
    pub(super) fn look(&self) -> super::reload::Look {
        self.current.look()
    }

    /// Takes one handshake.
    ///
    /// # Errors
    /// Why there is no connection; it was counted.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<Accepted<S>, HandshakeError> {
        let handshake = TlsAcceptor::from(self.current.current()).accept(stream);
        let error = match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                let http2 = session.alpn_protocol() == Some(b"h2");
                let subject = session.peer_certificates().and_then(<[_]>::first).and_then(subject);
                return Ok(Accepted { stream, http2, subject });
            }
            Ok(Err(error)) => HandshakeError { reason: reason(&error), error },
            Err(_) => HandshakeError { reason: "timeout", error: io::ErrorKind::TimedOut.into() },
        };
        let [component, key] = &self.labels;
        // Failures are rare, or an attack that pays for a handshake each: a look-up is not what costs here.
        let labels = [(component.0, &*component.1), (key.0, &*key.1), ("reason", error.reason)];
        self.metrics.counter(&FAILED, &labels).increment(1);
        Err(error)
    }
}

impl Handshake for Acceptor {
    fn shake(&self, stream: TcpStream) -> BoxFuture<'_, Option<Box<dyn Wire>>> {
        Box::pin(async move {
            match self.accept(stream).await {
                Ok(accepted) => Some(Box::new(accepted.stream) as Box<dyn Wire>),
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    None
                }
            }
        })
    }
}

fn reason(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return "connection";
    };
    match error {
        rustls::Error::NoCertificatesPresented => "no_client_certificate",
        rustls::Error::InvalidCertificate(_) => "bad_client_certificate",
        rustls::Error::InvalidMessage(_) => "not_tls",
        rustls::Error::PeerIncompatible(_) => "nothing_in_common",
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => "nothing_in_common",
        rustls::Error::AlertReceived(_) => "refused_by_peer",
        _ => "protocol",
    }
}

fn server_config(
    settings: &ServerTlsSettings,
    alpn: Alpn,
    files: &Files,
    client_files: &Files,
) -> Result<Built<ServerConfig>, String> {
    let common = settings.common();
    let provider = Arc::new(provider(&common));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&common))
        .map_err(|error| unspeakable(&error))?;
    let builder = match authorities(&settings.client_ca(), client_files)? {
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("tls.client_ca_file: {error}"))?,
        ),
        None => builder.with_no_client_auth(),
    };
    let who = identity(&common.cert, &common.key, files)?
        .ok_or("tls: a server needs a certificate and its key: set cert_file and key_file")?;
    let mut config = builder
        .with_single_cert(who.chain, who.key)
        .map_err(|error| format!("{}: does not go with its key: {error}", who.place))?;
    config.alpn_protocols = alpn.protocols();
    Ok(Built { config, validity: Some(who.validity), place: who.place })
}
