//! Pages over TLS: a real Prometheus and curl read them, and certificates are renewed under a running agent.

use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::harness::{PATIENCE, Room, free_port, required, runs, until};
use crate::prometheus::Server;

/// An authority whose certificates lie in the test's folder.
struct Ca<'r>(&'r Room, Issuer<'static, KeyPair>);

impl<'r> Ca<'r> {
    fn new(room: &'r Room) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        room.file("ca.pem", &params.self_signed(&key).unwrap().pem());
        Ca(room, Issuer::new(params, key))
    }

    /// Writes NAME.key and NAME.pem, good for localhost from 2020 until a year begins.
    fn issue(&self, name: &str, year: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(year, 1, 1));
        self.0.file(&format!("{name}.key"), &key.serialize_pem());
        self.0.file(&format!("{name}.pem"), &params.signed_by(&key, &self.1).unwrap().pem());
    }
}

/// Reads a page over a connection of its own; `who` names the client's certificate.
fn curl(room: &Room, port: u16, path: &str, who: Option<&str>) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "10", "--cacert"]).arg(room.path("ca.pem"));
    if let Some(who) = who {
        let file = |kind: &str| room.path(&format!("{who}.{kind}"));
        command.arg("--cert").arg(file("pem")).arg("--key").arg(file("key"));
    }
    command.arg(format!("https://localhost:{port}{path}")).output().expect("curl runs")
}

#[test]
fn pages_are_scraped_over_tls_while_certificates_are_renewed() {
    if !required("Prometheus", runs("prometheus", &["--version"])) || !required("curl", runs("curl", &["--version"])) {
        return;
    }
    let room = Room::new();
    let ca = Ca::new(&room);
    ca.issue("server", 2100);
    ca.issue("scraper", 2100);
    let at = |file: &str| room.path(file).display().to_string();
    let (metrics, own, health, admin) = (free_port(), free_port(), free_port(), free_port());
    let (certificate, key, authority) = (at("server.pem"), at("server.key"), at("ca.pem"));
    let tls =
        format!("{{cert_file: {certificate}, key_file: {key}, client_ca_file: {authority}, reload_interval: 200ms}}");
    let mut phoenix = room.phoenix(&format!(
        "receivers: {{hostmetrics: {{collection_interval: 1s, initial_delay: 100ms, scrapers: {{load: }}}}}}
exporters: {{prometheus: {{endpoint: \"localhost:{metrics}\", tls: {tls}}}}}
extensions: {{health_check: {{endpoint: \"localhost:{health}\", tls: {tls}}}}}
service:
  extensions: [health_check]
  admin: {{endpoint: \"localhost:{admin}\", tls: {tls}}}
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: localhost, port: {own}, tls: {tls}}}}}}}}}]}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [prometheus]}}}}
"
    ));
    until("the agent to be ready", PATIENCE, || {
        curl(&room, health, "/", Some("scraper")).status.success().then_some(())
    });
    let (certificate, key) = (at("scraper.pem"), at("scraper.key"));
    let tls = format!("{{ca_file: {authority}, cert_file: {certificate}, key_file: {key}}}");
    let job = |name: &str, port: u16| {
        format!(
            "  - {{job_name: {name}, scheme: https, tls_config: {tls}, static_configs: [{{targets: [\"localhost:{port}\"]}}]}}\n"
        )
    };
    let jobs = job("host", metrics) + &job("own", own);
    let server = Server::with(&room, &format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"));
    server.wait_for("up{job=\"host\"} == 1");
    server.wait_for("up{job=\"own\"} == 1");
    server.wait_for("system_cpu_load_average_1m{job=\"host\"}");

    // Every page takes who has a certificate, and nobody else.
    for (port, path) in [(metrics, "/metrics"), (own, "/metrics"), (health, "/"), (admin, "/control/state")] {
        let known = curl(&room, port, path, Some("scraper"));
        assert!(known.status.success(), "{path}: {known:?}");
        let stranger = curl(&room, port, path, None);
        assert!(!stranger.status.success() && stranger.stdout.is_empty(), "{path}: {stranger:?}");
    }

    // A renewed certificate is shown to whoever comes next.
    let before = server.query("min(phoenix_tls_certificate_not_after_seconds)");
    ca.issue("server", 2090);
    let renewed = "min(phoenix_tls_certificate_not_after_seconds) == max(phoenix_tls_certificate_not_after_seconds)";
    until("every page to have the renewed certificate", PATIENCE, || {
        let taken = server.query("sum(phoenix_tls_reloads_total{outcome=\"taken\"}) == 4");
        (!taken.is_empty() && !server.query(renewed).is_empty()).then_some(())
    });
    assert_ne!(before[0]["value"][1], server.query("min(phoenix_tls_certificate_not_after_seconds)")[0]["value"][1]);
    assert!(curl(&room, health, "/", Some("scraper")).status.success());

    // A bad one is not.
    room.file("server.pem", "no certificate");
    server.wait_for("sum(phoenix_tls_reloads_total{outcome=\"refused\"}) == 4");
    let page = curl(&room, health, "/", Some("scraper"));
    let text = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.status.success() && text.contains("the new TLS files are not used"), "{page:?}");
    assert!(server.query("min_over_time(up[1m]) == 1").len() == 2, "no scrape failed");
    phoenix.end();
}
