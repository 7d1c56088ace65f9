//! What is spoken: versions, cipher suites, key exchange groups, and the names HTTP versions have in the handshake.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{SupportedProtocolVersion, version};

use super::settings::{CURVES, Common};

/// Which HTTP versions are offered, or taken, in the TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2 only (gRPC).
    Http2,
    /// HTTP/2, else HTTP/1.1.
    Http2OrHttp1,
    /// HTTP/1.1 only.
    Http1,
}

impl Alpn {
    pub(super) fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Alpn::Http2 => &[b"h2"],
            Alpn::Http2OrHttp1 => &[b"h2", b"http/1.1"],
            Alpn::Http1 => &[b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The names of the selectable cipher suites (those of TLS 1.2), as IANA writes them.
pub(super) fn suites() -> impl Iterator<Item = String> {
    ring::default_provider()
        .cipher_suites
        .into_iter()
        .filter(|suite| suite.tls13().is_none())
        .map(|suite| format!("{:?}", suite.suite()))
}

pub(super) fn provider(settings: &Common<'_>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || settings.cipher_suites.contains(&format!("{:?}", suite.suite()))
        });
    }
    if !settings.curve_preferences.is_empty() {
        let groups = [ring::kx_group::X25519, ring::kx_group::SECP256R1, ring::kx_group::SECP384R1];
        let named = |curve: &String| CURVES.iter().zip(groups).find(|(name, _)| *name == curve).map(|(_, group)| group);
        provider.kx_groups = settings.curve_preferences.iter().filter_map(named).collect();
    }
    provider
}

pub(super) fn versions(settings: &Common<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if settings.min_version != Some("1.3") {
        versions.push(&version::TLS12);
    }
    if settings.max_version != Some("1.2") {
        versions.push(&version::TLS13);
    }
    versions
}

/// Versions, suites and groups were each allowed, and leave nothing to speak together.
pub(super) fn unspeakable(error: &rustls::Error) -> String {
    format!("tls: these versions, cipher_suites and curve_preferences do not go together: {error}")
}
