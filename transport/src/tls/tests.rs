//! Clients and servers over the loopback: who is let in, what is agreed on, and what happens when files change.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use phoenix_pipeline::{Health, Level, Site};
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
