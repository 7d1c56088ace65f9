//! TLS and mTLS on both transports; what TLS itself does is tested in the transport room.

use std::io::{Read, Write};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::support::*;

/// An authority, and one pair of certificate and key for whoever needs one.
struct Pki {
    authority: String,
    certificate: String,
    key: String,
}

fn pki() -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    Pki { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

async fn export(rig: &Rig, tls: ClientTlsConfig) -> Result<(), String> {
    let channel = Channel::from_shared(format!("https://{}", rig.grpc)).unwrap();
    let channel = channel.tls_config(tls).unwrap().connect().await.map_err(|error| format!("{error:?}"))?;
    let answer = MetricsServiceClient::new(channel).export(request(1, 1)).await;
    answer.map(drop).map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn a_client_certificate_that_is_asked_for_is_required() {
    let (ours, theirs) = (pki(), pki());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("cert.pem", &ours.certificate), file("key.pem", &ours.key));
    let authority = file("ca.pem", &ours.authority);
    let tls = format!("tls: {{cert_file: '{certificate}', key_file: '{key}', client_ca_file: '{authority}'}}");
    let rig = Rig::new("admission: {handshake_timeout: 200ms}", &tls, &tls);
    let client =
        || ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(&ours.authority));
    export(&rig, client().identity(Identity::from_pem(&ours.certificate, &ours.key))).await.unwrap();
    assert!(export(&rig, client()).await.is_err(), "none");
    assert!(export(&rig, client().identity(Identity::from_pem(&theirs.certificate, &theirs.key))).await.is_err());
    // Plain text, and nothing at all, at a port that speaks TLS.
    let at = rig.http;
    let plain = tokio::task::spawn_blocking(move || exchange(at, &post("/v1/metrics", &[], b"")).status);
    assert_eq!(plain.await.unwrap(), 0);
    let at = rig.http;
    let silent = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    assert_eq!(silent.await.unwrap().unwrap(), 0, "half-open TLS is closed");
    let failed = |reason| rig.counted("phoenix_tls_handshakes_failed_total", reason);
    assert_eq!((failed("not_tls"), failed("timeout")), (1.0, 1.0));
    assert!(failed("no_client_certificate") + failed("bad_client_certificate") >= 2.0);
    assert_eq!(rig.arrived(), [request(1, 1)]);
    over_http(&rig, &ours).await;
    assert_eq!(rig.arrived().len(), 2);
}

/// One request over HTTP/1.1 and TLS.
async fn over_http(rig: &Rig, pki: &Pki) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (at, mut roots) = (rig.http, rustls::RootCertStore::empty());
    roots.add(CertificateDer::from_pem_slice(pki.authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_client_auth_cert(
        vec![CertificateDer::from_pem_slice(pki.certificate.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(pki.key.as_bytes()).unwrap(),
    );
    let mut session =
        rustls::ClientConnection::new(Arc::new(config.unwrap()), "localhost".try_into().unwrap()).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::Stream::new(&mut session, &mut stream);
        let headers = [("content-type", "application/x-protobuf")];
        stream.write_all(&post("/v1/metrics", &headers, &request(1, 1).encode_to_vec())).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200"));
}
