//! Pages over TLS: a real Prometheus scrapes with a client certificate, and renewed files are taken while the agent runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::harness::{PATIENCE, Room, free_port, required, runs, until};
use crate::prometheus::Server;

/// An authority, and a certificate of it for `localhost` with its key.
fn pki() -> [String; 3] {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of the same name as the leaf, OpenSSL takes the leaf for its own issuer.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    [authority.pem(), leaf.pem(), key.serialize_pem()]
}

/// Whether the page is read by a client that trusts this authority and shows nothing of its own.
fn reads(port: u16, path: &str, authority: &Path) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--max-time", "5", "--output", "/dev/null", "--noproxy", "*", "--cacert"]);
    curl.arg(authority).arg(format!("https://localhost:{port}{path}")).status().unwrap().success()
}

#[test]
fn pages_are_served_over_tls_and_renewed_certificates_are_taken() {
    let tools = runs("prometheus", &["--version"]) && runs("curl", &["--version"]);
    if !required("Prometheus and curl", tools) {
        return;
    }
    let room = Room::new();
    let (metrics, health) = (free_port(), free_port());
    let [authority, leaf, key] = pki();
    let (ca, cert, key) = (room.file("ca.pem", &authority), room.file("cert.pem", &leaf), room.file("key.pem", &key));
    // Prometheus shows what the agent began with.
    let (client, client_key) = (room.file("client.pem", &leaf), room.path("client.key"));
    fs::copy(&key, &client_key).unwrap();
    let ask = room.file("ask.pem", &authority);
    let tls = format!("cert_file: '{}', key_file: '{}', reload_interval: 1s", cert.display(), key.display());
    let mut phoenix = room.phoenix(&format!(
        "extensions: {{health_check: {{endpoint: \"localhost:{health}\", tls: {{{tls}}}}}}}
receivers: {{hostmetrics: {{collection_interval: 1s, initial_delay: 0s, scrapers: {{load: }}}}}}
exporters: {{prometheus: {{endpoint: \"localhost:{metrics}\", tls: {{{tls}, client_ca_file: '{}'}}}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [prometheus]}}}}
",
        ask.display()
    ));
    let server = Server::of(
        &room,
        &format!(
            "  - {{job_name: host, scheme: https, static_configs: [{{targets: [\"localhost:{metrics}\"]}}],
      tls_config: {{ca_file: '{}', cert_file: '{}', key_file: '{}'}}}}\n",
            ca.display(),
            client.display(),
            client_key.display()
        ),
    );
    assert_eq!(server.wait_for("system_cpu_load_average_1m{job=\"host\"}").len(), 1);
    until("readiness", PATIENCE, || reads(health, "/", &ca).then_some(()));
    assert!(!reads(metrics, "/metrics", &ca), "a client certificate that is asked for is required");

    let [second, leaf, new_key] = pki();
    let second = room.file("second.pem", &second);
    assert!(!reads(health, "/", &second));
    fs::write(&cert, leaf).unwrap();
    fs::write(&key, new_key).unwrap();
    until("the renewed certificate", PATIENCE, || reads(health, "/", &second).then_some(()));

    fs::write(&cert, "no certificate").unwrap();
    until("word of the bad file", PATIENCE, || phoenix.stderr().contains("cert.pem").then_some(()));
    assert!(reads(health, "/", &second), "the last good one stays");
    phoenix.end();
}
