//! TLS on both transports: who is trusted, who is refused, what is agreed on.

use std::sync::Arc;

use ::http::Version;
use phoenix_exporters::otlp;
use phoenix_pipeline::Refusal;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use super::grpc::Metrics;
use super::support::*;

/// A small public key infrastructure: an authority, a server named localhost, a client; as files.
struct Pki {
    folder: TempDir,
    ca: String,
    server: (String, String),
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let leaf = |name: &str, usage| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let server = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let client = leaf("agent", ExtendedKeyUsagePurpose::ClientAuth);
        for (name, text) in [("ca.pem", &ca), ("client.pem", &client.0), ("client.key", &client.1)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Pki { folder, ca, server }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A server that asks for a client certificate if `mutual`.
    fn server(&self, mutual: bool, alpn: &[&str]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            )
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(self.server.0.as_bytes()).unwrap()];
        let mut config =
            builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(self.server.1.as_bytes()).unwrap()).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

const BOTH: &[&str] = &["h2", "http/1.1"];
const ONCE: &str = "sending_queue: { wait_for_result: true }\nretry_on_failure: { enabled: false }";

async fn https(pki: &Pki, mutual: bool, host: &str, more: &str) -> (Backend, Result<(), Refusal>) {
    let backend = Backend::start_tls(Some(pki.server(mutual, BOTH)), [Answer::status(200)]).await;
    let yaml = format!("endpoint: https://{host}:{}\n{more}\n{ONCE}", backend.address.port());
    let outcome = Subject::new(&otlp::http::FACTORY, &yaml).send(batch(1)).await;
    (backend, outcome)
}

#[tokio::test]
async fn http_versions_are_agreed_on_in_the_handshake() {
    let pki = Pki::new();
    let ca = pki.path("ca.pem");
    for (more, version) in [
        (format!("tls: {{ ca_file: {ca} }}"), Version::HTTP_2),
        (
            format!(
                "tls: {{ ca_file: {ca}, max_version: \"1.2\", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256] }}"
            ),
            Version::HTTP_2,
        ),
        (format!("tls: {{ ca_file: {ca}, min_version: \"1.3\", curve_preferences: [P384] }}"), Version::HTTP_2),
        (format!("tls: {{ ca_file: {ca} }}\nforce_attempt_http2: false"), Version::HTTP_11),
    ] {
        let (backend, outcome) = https(&pki, false, "localhost", &more).await;
        outcome.unwrap_or_else(|refusal| panic!("{more}: {refusal}"));
        assert_eq!(backend.received()[0].version, version, "{more}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_unless_told_otherwise() {
    let pki = Pki::new();
    let (ca, other) = (pki.path("ca.pem"), Pki::new());
    let (backend, outcome) =
        https(&pki, false, "localhost", &format!("tls: {{ ca_file: {} }}", other.path("ca.pem"))).await;
    let why = outcome.unwrap_err().to_string();
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(backend.count(), 0, "nothing was sent");
    let (_, outcome) = https(&pki, false, "127.0.0.1", &format!("tls: {{ ca_file: {ca} }}")).await;
    assert!(outcome.unwrap_err().to_string().contains("not valid for name"));
    let (_, outcome) =
        https(&pki, false, "127.0.0.1", &format!("tls: {{ ca_file: {ca}, server_name_override: localhost }}")).await;
    outcome.unwrap();
    let (_, outcome) = https(&pki, false, "127.0.0.1", "tls: { insecure_skip_verify: true }").await;
    outcome.unwrap();
    let (_, outcome) = https(&pki, false, "127.0.0.1", "tls: { insecure: true, insecure_skip_verify: true }").await;
    outcome.expect("https:// outweighs insecure");
}

#[tokio::test]
async fn a_peer_without_tls_is_told_apart() {
    let address = serve(None, false, Metrics::default().handler()).await;
    let subject = Subject::new(&otlp::http::FACTORY, &format!("endpoint: https://{address}\n{ONCE}"));
    let refusal = subject.send(batch(1)).await.unwrap_err().to_string();
    assert!(
        refusal.ends_with("(it does not speak TLS: write http:// in front of the endpoint, if that is meant)"),
        "{refusal}"
    );
}

#[tokio::test]
async fn mutual_tls() {
    let pki = Pki::new();
    let (ca, cert, key) = (pki.path("ca.pem"), pki.path("client.pem"), pki.path("client.key"));
    let (_, outcome) = https(&pki, true, "localhost", &format!("tls: {{ ca_file: {ca} }}")).await;
    assert!(outcome.is_err(), "no certificate was shown");
    let (_, outcome) =
        https(&pki, true, "localhost", &format!("tls: {{ ca_file: {ca}, cert_file: {cert}, key_file: {key} }}")).await;
    outcome.unwrap();
}

#[tokio::test]
async fn grpc_over_tls_with_an_authority_in_place() {
    let pki = Pki::new();
    let metrics = Metrics::default();
    let address = serve(Some(pki.server(false, &["h2"])), true, metrics.handler()).await;
    let pem = pki.ca.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let yaml = format!("endpoint: localhost:{}\ntls:\n  ca_pem: |\n{pem}\n{ONCE}", address.port());
    Subject::new(&otlp::grpc::FACTORY, &yaml).send(batch(2)).await.unwrap();
    assert_eq!(values(&metrics.calls.lock().unwrap()[0].message), [0, 1]);
}

#[tokio::test]
async fn files_that_do_not_serve_are_named() {
    let pki = Pki::new();
    let (ca, key, missing) = (pki.path("ca.pem"), pki.path("client.key"), pki.path("missing.pem"));
    for (tls, part) in [
        (format!("ca_file: {missing}"), format!("tls.ca_file: cannot read {missing}")),
        (format!("ca_file: {key}"), format!("tls.ca_file {key}: no certificate in PEM form")),
        (format!("ca_file: {ca}, cert_file: {ca}, key_file: {ca}"), format!("tls.key_file {ca}: no private key")),
        (
            format!("ca_file: {ca}, cert_file: {ca}, key_file: {key}"),
            format!("tls.cert_file {ca}: does not go with its key"),
        ),
        ("ca_pem: hunter2".to_owned(), "tls.ca_pem: no certificate in PEM form".to_owned()),
    ] {
        let error =
            Subject::build(&otlp::http::FACTORY, &format!("endpoint: https://a\ntls: {{ {tls} }}")).err().unwrap();
        assert!(error.contains(&part) && !error.contains("hunter2"), "{error}");
    }
}
