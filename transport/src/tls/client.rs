//! TLS as a client: whom to trust, who to be.

use std::sync::Arc;

use phoenix_pipeline::Site;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::crypto::{Alpn, provider, unspeakable, versions};
use super::material::{Files, authorities, identity};
use super::reload::{Built, Reloading};
use super::settings::TlsSettings;

/// A TLS client that follows its files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<Reloading<ClientConfig>>);

impl ClientTls {
    /// The client the settings describe. Reads the files they name, and goes on reading them every `reload_interval`.
    /// `key` is the path of the settings in their component's block ("tls").
    ///
    /// # Errors
    /// A sentence that names the key, the file and what is wrong with it; never the content.
    pub fn new(settings: &TlsSettings, alpn: Alpn, key: &str, site: &Site) -> Result<Self, String> {
        let common = settings.common();
        let paths = common.files();
        let interval = settings.reload_interval;
        let settings = settings.clone();
        let build = Box::new(move |files: &Files| client_config(&settings, alpn, files));
        Reloading::new(paths, interval, key, site, build).map(ClientTls)
    }

    #[cfg(test)]
    pub(super) fn look(&self) -> super::reload::Look {
        self.0.look()
    }

    /// What the next handshake uses.
    pub(super) fn current(&self) -> Arc<ClientConfig> {
        self.0.current()
    }
}

fn client_config(settings: &TlsSettings, alpn: Alpn, files: &Files) -> Result<Built<ClientConfig>, String> {
    let common = settings.common();
    let provider = Arc::new(provider(&common));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&common))
        .map_err(|error| unspeakable(&error))?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(settings, files)?), provider)
            .build()
            .map_err(|error| format!("tls: {error}"))?;
        builder.with_webpki_verifier(verifier)
    };
    let (mut config, validity, place) = match identity(&common.cert, &common.key, files)? {
        Some(who) => {
            let config = builder
                .with_client_auth_cert(who.chain, who.key)
                .map_err(|error| format!("{}: does not go with its key: {error}", who.place))?;
            (config, Some(who.validity), who.place)
        }
        None => (builder.with_no_client_auth(), None, String::new()),
    };
    config.alpn_protocols = alpn.protocols();
    Ok(Built { config, validity, place })
}

fn roots(settings: &TlsSettings, files: &Files) -> Result<RootCertStore, String> {
    let own = authorities(&settings.common().ca, files)?;
    let system = own.is_none() || settings.include_system_ca_certs_pool;
    let mut roots = own.unwrap_or_else(RootCertStore::empty);
    if system {
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
