//! Clients and servers over the loopback: who is let in, what is agreed on, and what happens when files change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use phoenix_pipeline::{Health, Level, Site, config};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_service::Service;

use super::reload::Look;
use super::*;

/// An authority; the files it writes lie in a folder of the test's.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, as PEM.
    fn leaf(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The files of a test: `ca.pem`, and certificate and key of a server ("localhost") and a client ("agent").
struct Files {
    folder: TempDir,
    ca: Ca,
}

impl Files {
    fn new() -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap(), ca: Ca::new() };
        files.write("ca.pem", &files.ca.pem);
        files.issue("server", &files.ca.leaf("localhost", |_| ()));
        files.issue("client", &files.ca.leaf("agent", |_| ()));
        files
    }

    fn path(&self, name: &str) -> Option<String> {
        Some(self.folder.path().join(name).display().to_string())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn issue(&self, name: &str, (certificate, key): &(String, String)) {
        self.write(&format!("{name}.pem"), certificate);
        self.write(&format!("{name}.key"), key);
    }

    fn server(&self) -> ServerTlsSettings {
        ServerTlsSettings {
            cert_file: self.path("server.pem"),
            key_file: self.path("server.key"),
            ..ServerTlsSettings::default()
        }
    }

    /// A server that lets in clients of the authority only.
    fn mutual(&self) -> ServerTlsSettings {
        ServerTlsSettings { client_ca_file: self.path("ca.pem"), ..self.server() }
    }

    fn client(&self) -> TlsSettings {
        TlsSettings { ca_file: self.path("ca.pem"), ..TlsSettings::default() }
    }

    fn known_client(&self) -> TlsSettings {
        TlsSettings { cert_file: self.path("client.pem"), key_file: self.path("client.key"), ..self.client() }
    }
}

fn acceptor(settings: &ServerTlsSettings, site: &Site) -> Acceptor {
    Acceptor::new(settings, Alpn::Http2OrHttp1, "tls", site).unwrap()
}

/// An echo behind TLS. Every answer begins with the client's subject and what HTTP version was agreed on.
async fn serve(acceptor: Acceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(Accepted { mut stream, http2, subject }) = acceptor.accept(stream).await else { return };
                let greeting = format!("{}{}", subject.as_deref().unwrap_or("nobody"), u8::from(http2));
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&[&byte[..], greeting.as_bytes(), b"\n"].concat()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    address
}

/// A connection of the exporters' kind.
struct Line(TokioIo<Stream>);

impl Line {
    async fn open(client: &ClientTls, name: &str, address: SocketAddr) -> Result<Line, String> {
        let uri: http::Uri = format!("http://{address}").parse().unwrap();
        let mut connector = Connector::new(Route::Tcp(uri.clone()), Some((client.clone(), server_name(name).unwrap())));
        let stream = connector.call(uri).await.map_err(|error| error.to_string())?;
        Ok(Line(TokioIo::new(stream)))
    }

    /// With TLS 1.3 a server's refusal of a client arrives with the first answer.
    async fn ask(&mut self) -> Result<String, String> {
        let exchange = async {
            self.0.write_all(b"?").await?;
            self.0.flush().await?;
            let mut answer = Vec::new();
            while answer.last() != Some(&b'\n') {
                answer.push(self.0.read_u8().await?);
            }
            Ok(String::from_utf8_lossy(&answer[1..answer.len() - 1]).into_owned())
        };
        let exchange = tokio::time::timeout(Duration::from_secs(10), exchange);
        exchange.await.unwrap().map_err(|error: std::io::Error| error.to_string())
    }
}

/// One connection of a client to a server, each with these settings.
async fn meet(server: &ServerTlsSettings, client: &TlsSettings, name: &str) -> (Result<String, String>, Site) {
    let site = Site::for_test("otlp");
    let address = serve(acceptor(server, &site)).await;
    let client = ClientTls::new(client, Alpn::Http2OrHttp1, "tls", &Site::for_test("client")).unwrap();
    let outcome = match Line::open(&client, name, address).await {
        Ok(mut line) => line.ask().await,
        Err(error) => Err(error),
    };
    (outcome, site)
}

/// An own metric; `label` is a value one of its labels must have.
fn counted(site: &Site, name: &str, label: &str) -> f64 {
    let batch = site.metrics.gather(1, Level::Detailed);
    let points = batch.series().filter(|point| {
        point.metric().name() == name && point.attributes().iter().any(|(_, value)| value == label.into())
    });
    points.filter_map(|point| point.value()).map(|value| value.as_f64()).sum()
}

#[tokio::test]
async fn a_client_of_the_authority_is_let_in_and_known() {
    let files = Files::new();
    let (answer, _) = meet(&files.server(), &files.client(), "localhost").await;
    assert_eq!(answer.unwrap(), "nobody1");
    let (answer, _) = meet(&files.mutual(), &files.known_client(), "localhost").await;
    assert_eq!(answer.unwrap(), "CN=agent1");
}

#[tokio::test]
async fn a_page_is_read_by_whom_the_handshake_lets_in() {
    let (files, site) = (Files::new(), Site::for_test("prometheus"));
    let secured = Acceptor::of_page(Some(&files.mutual()), "tls", &site).unwrap();
    assert!(secured.is_some() && Acceptor::of_page(None, "tls", &site).unwrap().is_none());
    let listener = site.listeners.bind("127.0.0.1:0", "test").unwrap();
    let page = Arc::new(|_: &http::request::Parts| http::Response::new("the page".into()));
    let _server = phoenix_pipeline::serve(&site.runtime, &listener, secured, page).unwrap();
    let read = async |settings: &TlsSettings| {
        let client = ClientTls::new(settings, Alpn::Http2OrHttp1, "tls", &Site::for_test("client")).unwrap();
        let mut line = Line::open(&client, "localhost", listener.address()).await.unwrap();
        let mut answer = String::new();
        let asked = line.0.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        asked.and(line.0.read_to_string(&mut answer).await).map(|_| answer)
    };
    let answer = read(&files.known_client()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the page"), "{answer}");
    assert!(read(&files.client()).await.is_err(), "required means required");
    failed_once(&site, "no_client_certificate").await;
    let plain = tokio::net::TcpStream::connect(listener.address()).await.unwrap();
    plain.writable().await.unwrap();
    plain.try_write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    failed_once(&site, "not_tls").await;
}

/// One handshake failed for this reason; its server may be a moment behind the client that knows it.
async fn failed_once(site: &Site, reason: &str) {
    for _ in 0..1000 {
        if counted(site, "phoenix_tls_handshakes_failed_total", reason) == 1.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no handshake failed because of {reason}");
}

/// A moment long past.
fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
}

#[tokio::test]
async fn required_means_required() {
    let (files, strangers) = (Files::new(), Files::new());
    let stranger = TlsSettings { ca_file: files.path("ca.pem"), ..strangers.known_client() };
    files.issue("late", &files.ca.leaf("agent", expired));
    let late = TlsSettings { cert_file: files.path("late.pem"), key_file: files.path("late.key"), ..files.client() };
    for (client, reason) in [
        (files.client(), "no_client_certificate"),
        (stranger, "bad_client_certificate"),
        (late, "bad_client_certificate"),
    ] {
        for version in ["1.2", "1.3"] {
            let client = TlsSettings { max_version: Some(version.into()), ..client.clone() };
            let (answer, site) = meet(&files.mutual(), &client, "localhost").await;
            assert!(answer.is_err(), "{reason}, {version}");
            failed_once(&site, reason).await;
        }
    }
}

#[tokio::test]
async fn a_server_must_prove_to_be_the_one_that_was_meant() {
    let files = Files::new();
    let strangers = Files::new();
    let (answer, site) = meet(&files.server(), &strangers.client(), "localhost").await;
    assert!(answer.unwrap_err().contains("invalid peer certificate"));
    failed_once(&site, "refused_by_peer").await;
    let (answer, _) = meet(&files.server(), &files.client(), "127.0.0.1").await;
    assert!(answer.unwrap_err().contains("not valid for name"));
    files.issue("server", &files.ca.leaf("localhost", expired));
    let (answer, _) = meet(&files.server(), &files.client(), "localhost").await;
    assert!(answer.unwrap_err().contains("expired"), "a server that starts with an expired certificate is refused");
    let anything = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    assert_eq!(meet(&files.server(), &anything, "127.0.0.1").await.0.unwrap(), "nobody1");
}

#[tokio::test]
async fn versions_below_the_least_are_refused() {
    let files = Files::new();
    let server = ServerTlsSettings { min_version: Some("1.3".into()), ..files.server() };
    let old = TlsSettings { max_version: Some("1.2".into()), ..files.client() };
    let (answer, site) = meet(&server, &old, "localhost").await;
    assert!(answer.unwrap_err().contains("ProtocolVersion"));
    failed_once(&site, "nothing_in_common").await;
    let server = ServerTlsSettings { max_version: Some("1.2".into()), ..files.server() };
    assert_eq!(meet(&server, &old, "localhost").await.0.unwrap(), "nobody1");
    let new = TlsSettings { min_version: Some("1.3".into()), ..files.client() };
    assert!(meet(&server, &new, "localhost").await.0.unwrap_err().contains("ProtocolVersion"));
}

#[tokio::test]
async fn a_silent_peer_and_one_that_speaks_something_else_hold_nothing() {
    let files = Files::new();
    let site = Site::for_test("otlp");
    let address = serve(acceptor(&files.server(), &site).handshake_timeout(Duration::from_millis(50))).await;
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0])).await;
    assert_eq!(end.expect("is closed").unwrap(), 0);
    failed_once(&site, "timeout").await;
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert, and the end; or a reset.
    let _ = tokio::time::timeout(Duration::from_secs(10), plain.read_to_end(&mut answer)).await.expect("is closed");
    failed_once(&site, "not_tls").await;
}

#[tokio::test]
async fn a_server_that_never_finishes_the_handshake_does_not_hold_a_client() {
    let files = Files::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: http::Uri = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let client = ClientTls::new(&files.client(), Alpn::Http2, "tls", &Site::for_test("client")).unwrap();
    let connector = Connector::new(Route::Tcp(uri.clone()), Some((client, server_name("localhost").unwrap())));
    let attempt = connector.handshake_timeout(Duration::from_millis(50)).call(uri);
    let outcome = tokio::time::timeout(Duration::from_secs(10), attempt).await.expect("gives up");
    assert!(outcome.err().unwrap().to_string().contains("did not finish the TLS handshake within 50ms"));
}

/// A server and a client over files that change; nothing is looked at unless the test says so.
struct Pair {
    files: Files,
    acceptor: Acceptor,
    client: ClientTls,
    server_site: Site,
    client_site: Site,
    address: SocketAddr,
}

impl Pair {
    async fn new() -> Pair {
        let files = Files::new();
        let (server_site, client_site) = (Site::for_test("receivers:otlp"), Site::for_test("exporters:otlp"));
        server_site.status.ok();
        client_site.status.ok();
        let acceptor = acceptor(&files.mutual(), &server_site);
        let client = ClientTls::new(&files.known_client(), Alpn::Http2OrHttp1, "tls", &client_site).unwrap();
        let address = serve(acceptor.clone()).await;
        Pair { files, acceptor, client, server_site, client_site, address }
    }

    async fn open(&self) -> Result<Line, String> {
        let mut line = Line::open(&self.client, "localhost", self.address).await?;
        line.ask().await?;
        Ok(line)
    }

    fn health(site: &Site) -> Health {
        site.status.board().snapshot().remove(site.status.component()).unwrap()
    }
}

#[tokio::test]
async fn a_hundred_rotations_of_everything_under_open_connections() {
    let mut pair = Pair::new().await;
    let mut lines = vec![pair.open().await.unwrap()];
    for round in 1..=100 {
        // Another authority every tenth time; server, client and the files of both change together.
        if round % 10 == 0 {
            pair.files.ca = Ca::new();
            pair.files.write("ca.pem", &pair.files.ca.pem);
        }
        pair.files.issue("server", &pair.files.ca.leaf("localhost", |_| ()));
        pair.files.issue("client", &pair.files.ca.leaf(&format!("agent-{round}"), |_| ()));
        assert_eq!((pair.acceptor.look(), pair.client.look()), (Look::Taken, Look::Taken));
        let mut line = Line::open(&pair.client, "localhost", pair.address).await.unwrap();
        assert_eq!(line.ask().await.unwrap(), format!("CN=agent-{round}1"), "who connects now shows the new one");
        if round % 10 == 0 {
            lines.push(line);
        }
        for line in &mut lines {
            line.ask().await.expect("who was connected stays so");
        }
    }
    assert_eq!(counted(&pair.server_site, "phoenix_tls_reloads_total", "taken"), 100.0);
    assert_eq!(counted(&pair.server_site, "phoenix_tls_reloads_total", "refused"), 0.0);
}

#[tokio::test]
async fn an_authority_that_was_taken_out_lets_nobody_in() {
    let pair = Pair::new().await;
    let mut before = pair.open().await.unwrap();
    let strangers = Files::new();
    pair.files.write("ca.pem", &strangers.ca.pem);
    assert_eq!(pair.acceptor.look(), Look::Taken);
    assert!(pair.open().await.is_err(), "not even with a ticket of an earlier session");
    before.ask().await.unwrap();
    let fixed = ServerTlsSettings { client_ca_file_reload: false, ..pair.files.mutual() };
    let fixed = acceptor(&fixed, &pair.server_site);
    pair.files.write("ca.pem", &pair.files.ca.pem);
    assert_eq!(fixed.look(), Look::Same, "unless the settings say that it stays");
}

#[tokio::test]
async fn bad_new_files_keep_the_old_ones_and_say_so_once() {
    let pair = Pair::new().await;
    let Pair { files, acceptor, server_site, .. } = &pair;
    let other = files.ca.leaf("localhost", |_| ());
    let expired = files.ca.leaf("localhost", expired);
    let early = files.ca.leaf("localhost", |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let good =
        ["server.pem", "server.key", "ca.pem"].map(|name| std::fs::read_to_string(files.path(name).unwrap()).unwrap());
    type Spoil<'a> = &'a dyn Fn();
    let cases: [(Spoil<'_>, &str); 8] = [
        (&|| files.write("server.pem", "garbage"), "server.pem: no certificate in PEM form"),
        (&|| files.write("server.pem", ""), "no certificate in PEM form"),
        (&|| files.write("server.key", &good[0]), "no private key in PEM form"),
        (&|| files.write("server.key", &other.1), "does not go with its key"),
        (&|| std::fs::remove_file(files.path("server.pem").unwrap()).unwrap(), "cannot read"),
        (&|| files.issue("server", &expired), "it expired on Tue, 01 Jan 2002"),
        (&|| files.issue("server", &early), "it is not valid before"),
        (
            &|| files.write("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "tls.client_ca_file",
        ),
    ];
    for (place, (spoil, message)) in cases.into_iter().enumerate() {
        spoil();
        assert_eq!(acceptor.look(), Look::Unsettled, "{message}: perhaps the other file is still to come");
        assert_eq!(Pair::health(server_site), Health::Ok);
        assert_eq!(acceptor.look(), Look::Refused, "{message}");
        assert_eq!(acceptor.look(), Look::Refused, "{message}");
        let refused = counted(server_site, "phoenix_tls_reloads_total", "refused");
        assert_eq!(refused, (place + 1) as f64, "{message}: counted once");
        let Health::Recoverable(why) = Pair::health(server_site) else { panic!("{message}") };
        assert!(why.contains(message) && !why.contains("PRIVATE"), "{why}");
        pair.open().await.unwrap_or_else(|error| panic!("{message}: the old ones serve on: {error}"));
        for (name, text) in ["server.pem", "server.key", "ca.pem"].iter().zip(&good) {
            files.write(name, text);
        }
        assert_eq!(acceptor.look(), Look::Same);
        assert_eq!(Pair::health(server_site), Health::Ok, "{message}: the old content is back");
    }
}

#[tokio::test]
async fn a_certificate_and_its_key_may_come_one_after_the_other() {
    let pair = Pair::new().await;
    for (first, second) in [("pem", "key"), ("key", "pem")] {
        let new = pair.files.ca.leaf("agent-2", |_| ());
        let text = |part| if part == "pem" { &new.0 } else { &new.1 };
        pair.files.write(&format!("client.{first}"), text(first));
        assert_eq!(pair.client.look(), Look::Unsettled);
        pair.open().await.unwrap();
        pair.files.write(&format!("client.{second}"), text(second));
        assert_eq!(pair.client.look(), Look::Taken);
        pair.open().await.unwrap();
    }
    assert_eq!(counted(&pair.client_site, "phoenix_tls_reloads_total", "refused"), 0.0, "and nothing was said");
    assert_eq!(Pair::health(&pair.client_site), Health::Ok);
}

#[tokio::test]
async fn files_are_followed_in_the_background_even_through_links() {
    let files = Files::new();
    let link = |to: &str| {
        let new = files.folder.path().join("new");
        std::os::unix::fs::symlink(files.path(to).unwrap(), &new).unwrap();
        std::fs::rename(new, files.folder.path().join("link.pem")).unwrap();
    };
    link("server.pem");
    let settings = ServerTlsSettings {
        cert_file: files.path("link.pem"),
        reload_interval: Duration::from_millis(10),
        ..files.server()
    };
    let site = Site::for_test("otlp");
    let _acceptor = acceptor(&settings, &site);
    assert!(counted(&site, "phoenix_tls_certificate_not_after", "tls") > 1.7e9);
    let new = files.ca.leaf("localhost", |params| params.not_after = rcgen::date_time_ymd(2099, 1, 1));
    files.issue("second", &new);
    files.write("server.key", &new.1);
    link("second.pem");
    for _ in 0..1000 {
        if counted(&site, "phoenix_tls_reloads_total", "taken") == 1.0 {
            assert_eq!(counted(&site, "phoenix_tls_certificate_not_after", "tls"), 4_070_908_800.0);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the new certificate was never taken up");
}

#[tokio::test]
async fn a_server_without_files_that_serve_does_not_start() {
    let files = Files::new();
    let site = Site::for_test("otlp");
    let start = |settings: &ServerTlsSettings| Acceptor::new(settings, Alpn::Http2, "tls", &site).err().unwrap();
    let missing = ServerTlsSettings { client_ca_file: files.path("none.pem"), ..files.server() };
    assert!(start(&missing).starts_with("tls.client_ca_file: cannot read "));
    let mismatch = ServerTlsSettings { key_file: files.path("client.key"), ..files.server() };
    assert!(start(&mismatch).contains("server.pem: does not go with its key"));
    assert!(start(&ServerTlsSettings::default()).contains("a server needs a certificate"));
}

/// A receiver's block with TLS.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Block {
    tls: ServerTlsSettings,
}

impl config::Settings for Block {
    fn check(&self, report: &mut config::Report<'_>) {
        report.within("tls", |report| self.tls.check(report));
    }
}

#[test]
fn settings_of_a_server_that_cannot_work_are_refused() {
    let check = |tls: &str| {
        let value = config::parse("c.yaml", &format!("tls: {{ {tls} }}")).unwrap();
        let mistakes = config::read::<Block>(&value).err().unwrap_or_default();
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(check("cert_file: a, key_file: b, client_ca_file: c, reload_interval: 1h"), "");
    for (tls, part) in [
        ("", "a server needs a certificate and its key"),
        ("client_ca_file: a", "a server needs a certificate and its key"),
        ("cert_file: a", "a certificate and its key go together"),
        ("cert_file: a, cert_pem: hunter2, key_file: b", "tls::cert_pem: cert_file is set too"),
        (
            "cert_file: a, key_file: b, min_version: \"1.3\", max_version: \"1.2\"",
            "max_version: is older than min_version",
        ),
        ("cert_file: a, key_file: b, max_version: \"1.1\"", "TLS older than 1.2 is not spoken"),
        ("cert_file: a, key_file: b, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "is not allowed here"),
        ("cert_file: a, key_file: b, tpm: { enabled: true }", "keys in a TPM are not served"),
        ("cert_file: a, key_file: b, insecure: true", "unknown key"),
    ] {
        let found = check(tls);
        assert!(found.contains(part) && !found.contains("hunter2"), "{tls}: {found}");
    }
}
