//! From TLS settings to a rustls client: whom to trust, who to be, what to speak.

use std::fs;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::TlsSettings;
use super::settings::CURVES;
use phoenix_pipeline::config::Secret;

/// Which HTTP versions are offered in the TLS handshake.
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
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Alpn::Http2 => &[b"h2"],
            Alpn::Http2OrHttp1 => &[b"h2", b"http/1.1"],
            Alpn::Http1 => &[b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The TLS client the settings describe. Reads the files they name.
///
/// # Errors
/// A sentence that names the key, the file and what is wrong with it; never the content.
pub fn client_config(settings: &TlsSettings, alpn: Alpn) -> Result<ClientConfig, String> {
    let provider = Arc::new(provider(settings));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings))
        .map_err(|error| {
            format!("tls: these versions, cipher_suites and curve_preferences do not go together: {error}")
        })?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(settings)?), provider)
            .build()
            .map_err(|error| format!("tls: {error}"))?;
        builder.with_webpki_verifier(verifier)
    };
    let certificate = pem("cert", settings.cert_file.as_deref(), settings.cert_pem.as_ref())?;
    let key = pem("key", settings.key_file.as_deref(), settings.key_pem.as_ref())?;
    let mut config = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(&certificate)?;
            let private = PrivateKeyDer::from_pem_slice(&key.bytes)
                .map_err(|error| format!("{}: no private key in PEM form: {error}", key.place))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| format!("{}: does not go with its key: {error}", certificate.place))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.protocols();
    Ok(config)
}

/// The names of the selectable cipher suites (those of TLS 1.2), as IANA writes them.
pub(super) fn suites() -> impl Iterator<Item = String> {
    ring::default_provider()
        .cipher_suites
        .into_iter()
        .filter(|suite| suite.tls13().is_none())
        .map(|suite| format!("{:?}", suite.suite()))
}

fn provider(settings: &TlsSettings) -> CryptoProvider {
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

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if settings.min_version.as_deref() != Some("1.3") {
        versions.push(&version::TLS12);
    }
    if settings.max_version.as_deref() != Some("1.2") {
        versions.push(&version::TLS13);
    }
    versions
}

fn roots(settings: &TlsSettings) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let own = pem("ca", settings.ca_file.as_deref(), settings.ca_pem.as_ref())?;
    if let Some(own) = &own {
        for authority in certificates(own)? {
            roots
                .add(authority)
                .map_err(|error| format!("{}: a certificate in it cannot be trusted: {error}", own.place))?;
        }
    }
    if own.is_none() || settings.include_system_ca_certs_pool {
        let system = rustls_native_certs::load_native_certs();
        // Stores of systems hold certificates of all ages; those that cannot be read are left out, as browsers do.
        let (added, _) = roots.add_parsable_certificates(system.certs);
        if added == 0 {
            let why = system.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
            return Err(format!(
                "tls: the system has no certificate authorities ({why}): install ca-certificates, or set tls.ca_file"
            ));
        }
    }
    Ok(roots)
}

/// PEM text and where it came from, for messages.
struct Pem {
    place: String,
    bytes: Vec<u8>,
}

fn pem(name: &str, file: Option<&str>, text: Option<&Secret>) -> Result<Option<Pem>, String> {
    match (file, text) {
        (Some(path), _) => {
            let bytes = fs::read(path).map_err(|error| format!("tls.{name}_file: cannot read {path}: {error}"))?;
            Ok(Some(Pem { place: format!("tls.{name}_file {path}"), bytes }))
        }
        (None, Some(text)) => {
            Ok(Some(Pem { place: format!("tls.{name}_pem"), bytes: text.reveal().as_bytes().to_vec() }))
        }
        (None, None) => Ok(None),
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("{}: no certificate in PEM form in it", pem.place)),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{}: {error}", pem.place)),
    }
}

/// `insecure_skip_verify`: any certificate will do, but whoever shows it must hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
