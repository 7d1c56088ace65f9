//! Peers that mean harm, or are slow, or change their certificates.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{DRAIN, Form};
use crate::Fault;
use crate::agent::PATIENCE;
use crate::load::{self, Protocol, Sender};
use crate::oracle;
use crate::world::{Outcome, Queue, Setup, World};

const WINDOW: Option<Duration> = Some(Duration::from_millis(100));

/// Requests that nobody should send, with the headers they come with.
fn attacks(packed_bomb: bool) -> Result<Vec<(&'static str, Vec<u8>)>, Fault> {
    let valid = other(4, 20);
    let nest = |open: &str, inner: &str, close: &str, depth: usize| {
        let value = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        format!(r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"a","value":{value}}}]}}}}]}}"#)
            .into_bytes()
    };
    let mut deep = vec![];
    for _ in 0..5000 {
        // AnyValue.array_value { values }, each around the one before.
        for tag in [0x0a, 0x2a] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(deep.len() as u64, &mut outer);
            outer.append(&mut deep);
            deep = outer;
        }
    }
    let mut packed = Vec::new();
    for tag in [0x12, 0x0a, 0x0a, 0x0a] {
        let mut outer = vec![tag];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.append(&mut deep);
        deep = outer;
    }
    packed.append(&mut deep);
    let mut all = vec![
        ("content-type: application/x-protobuf", packed),
        ("content-type: application/x-protobuf", other(1, 64 << 20)),
        ("content-type: application/x-protobuf", [0x0a, 0x00].repeat(4 << 20)),
        ("content-type: application/x-protobuf", valid[..valid.len() - 3].to_vec()),
        ("content-type: application/x-protobuf", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ("content-type: application/x-protobuf\r\ncontent-encoding: gzip", valid),
        ("content-type: application/json", nest(r#"{"arrayValue":{"values":["#, "1", "]}}", 100_000)),
        ("content-type: application/json", nest("", r#"{"doubleValue":1e99999}"#, "", 1)),
        ("content-type: application/json", b"{\"resourceMetrics\":".to_vec()),
        ("content-type: application/json", [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat()),
        ("content-type: text/plain", b"hello".to_vec()),
        ("content-type: application/json\r\ncontent-encoding: br", b"{}".to_vec()),
    ];
    if packed_bomb {
        // An agent that is not optimized takes many seconds to unpack what the limit allows.
        all.push(("content-type: application/x-protobuf\r\ncontent-encoding: gzip", bomb("gzip", 100 << 20)?));
    }
    Ok(all)
}

/// A request whose points are none of the oracle's.
fn other(points: usize, padding: usize) -> Vec<u8> {
    let mut request = load::request((0..points as u64).map(|number| (number, oracle::time(number))), padding);
    let metrics = request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
    metrics.flat_map(|scope| &mut scope.metrics).for_each(|metric| metric.name = "other".to_owned());
    request.encode_to_vec()
}

/// Zeros by a program of the host, which every host has.
fn bomb(program: &str, size: u64) -> Result<Vec<u8>, Fault> {
    let script = format!("head -c {size} /dev/zero | {program} -9");
    Ok(std::process::Command::new("sh").args(["-c", &script]).output()?.stdout)
}

/// Sends bytes to the HTTP port and reads what comes back, for a while.
async fn throw(port: u16, bytes: &[u8]) -> Result<u16, Fault> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        // It may answer and close before it has heard everything.
        let _ = stream.write_all(bytes).await;
        let mut head = [0; 12];
        let read = stream.read_exact(&mut head).await;
        Ok::<_, Fault>(read.ok().and_then(|_| std::str::from_utf8(&head[9..]).ok()?.parse().ok()).unwrap_or(0))
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Everything hostile at once with an honest load.
pub async fn hostile(form: Form) -> Result<Outcome, Fault> {
    let setup = Setup { queue: Queue::Disk(WINDOW), ..Setup::default() };
    let mut world = World::start(&form.agent, setup).await?;
    let load = world.load(&load::Plan::default())?;
    let http = world.agent.ports.http;
    let grpc = Sender::new(Protocol::Grpc, world.agent.ports.grpc);
    let (mut thrown, mut taken) = (0_u64, 0_u64);
    for _ in 0..form.pick(1, 20) {
        for (headers, body) in attacks(form.long)? {
            let asked = Instant::now();
            taken += u64::from(throw(http, &post(headers, &body)).await? == 200);
            let by_http = asked.elapsed();
            let mut framed = vec![0];
            framed.extend((body.len() as u32).to_be_bytes());
            framed.extend(&body);
            let answer = grpc.post(framed.into()).await;
            taken += u64::from(answer == "ok");
            thrown += 2;
            if asked.elapsed() > Duration::from_secs(3) {
                world.notes.push(format!(
                    "{} bytes, {headers:?}: {by_http:?} by HTTP, {:?} by both, gRPC {answer}",
                    body.len(),
                    asked.elapsed()
                ));
            }
        }
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\xff",
            b"GET\r\n\r\n",
            &[0; 100_000],
        ] {
            // No answer is an answer here.
            let _ = tokio::time::timeout(Duration::from_millis(200), throw(http, garbage)).await;
            thrown += 1;
        }
    }
    // Requests with a few bytes changed: most are refused, and what is taken must be readable for the backend.
    let valid = other(3, 10);
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let sender = Sender::new(Protocol::Http, http);
    for _ in 0..form.pick(1000, 100_000) {
        let mut bytes = valid.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        taken += u64::from(sender.post(bytes.into()).await == "ok");
        thrown += 1;
    }
    let heard = load.stop().await;
    world.notes.push(format!(
        "{thrown} hostile requests, {taken} of them taken; resident at most {} MiB; honest senders heard {}",
        world.agent.resident()?.1 >> 20,
        heard.summary()
    ));
    world.close(DRAIN).await
}

/// Idle sockets, heads and bodies that never end, beside an honest load.
pub async fn slow(form: Form) -> Result<Outcome, Fault> {
    let setup = Setup {
        queue: Queue::Disk(WINDOW),
        receiver: "admission: {handshake_timeout: 1s, stall_timeout: 1s}".to_owned(),
        ..Setup::default()
    };
    let mut world = World::start(&form.agent, setup).await?;
    let ports = world.agent.ports;
    let load = world.load(&load::Plan::default())?;
    let mut idle = Vec::new();
    for number in 0..form.pick(2000, 10_000) {
        let port = if number % 2 == 0 { ports.http } else { ports.grpc };
        idle.push(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?);
    }
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..100 {
        slow.spawn(async move {
            let head = "POST /v1/metrics HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n";
            let head = if number % 2 == 0 { head.to_owned() } else { format!("{head}content-length: 100000\r\n\r\n") };
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.http)).await?;
            stream.write_all(head.as_bytes()).await?;
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            Ok::<(), Fault>(())
        });
    }
    let mut waits = Vec::new();
    let began = Instant::now();
    // Newcomers beside the crowd: how long until one is heard?
    while began.elapsed() < form.seconds(4.0, 60.0) {
        let asked = Instant::now();
        let newcomer = Sender::new(Protocol::Http, ports.http);
        while newcomer.post(Bytes::new()).await != "ok" {
            sleep(Duration::from_millis(50)).await;
            if asked.elapsed() > PATIENCE {
                world.wrong.push("a newcomer is not heard".to_owned());
                break;
            }
        }
        waits.push(asked.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    let health = world.agent.health().await?;
    let heard = load.stop().await;
    let closed = world.agent.page().await?.by("phoenix_receiver_closed_connections_total", "reason");
    world.notes.push(format!(
        "{} idle, 100 slow; closed {closed:?}; health {} in {:.0} ms; a newcomer waits at most {:.0} ms; resident at most {} MiB; senders heard {}",
        idle.len(),
        health.0,
        health.2.as_secs_f64() * 1e3,
        waits.iter().max().map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3),
        world.agent.resident()?.1 >> 20,
        heard.summary()
    ));
    slow.abort_all();
    drop(idle);
    world.close(DRAIN).await
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// An authority that the clients of the test trust.
fn authority() -> Result<(Issuer, Arc<rustls::ClientConfig>), Fault> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issuer.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok((issuer, Arc::new(client.with_root_certificates(roots).with_no_client_auth())))
}

/// A new certificate and its key, in place of the old, each file replaced at once.
fn renew(issuer: &Issuer, directory: &Path) -> Result<(), Fault> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, issuer)?;
    replace(&directory.join("server.key"), key.serialize_pem().as_bytes())?;
    replace(&directory.join("server.pem"), certificate.pem().as_bytes())
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let new = path.with_extension("new");
    fs::File::create(&new)?.write_all(bytes)?;
    Ok(fs::rename(new, path)?)
}

/// One connection with TLS, by which points are exported.
struct Line(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Line {
    async fn open(config: &Arc<rustls::ClientConfig>, port: u16) -> Result<Line, Fault> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Line(sender))
    }

    /// Exports points and enters what was said.
    async fn export(&mut self, world: &World) -> Result<(), Fault> {
        let numbers = world.oracle.issue(20);
        let body = load::request(numbers.clone().map(|number| (number, oracle::time(number))), 20).encode_to_vec();
        let request =
            Request::post("/v1/metrics").header("host", "localhost").header("content-type", "application/x-protobuf");
        let response = self.0.send_request(request.body(Full::new(body.into()))?).await?;
        let status = response.status();
        response.into_body().collect().await?;
        if status != 200 {
            return Err(format!("an export was answered {status}").into());
        }
        world.oracle.acknowledged(numbers);
        Ok(())
    }
}

/// The server's certificate and key are replaced, every third time by something that does not serve.
pub async fn certificates(form: Form) -> Result<Outcome, Fault> {
    let (issuer, client) = authority()?;
    let files = tempfile::tempdir()?;
    renew(&issuer, files.path())?;
    let setup = Setup { queue: Queue::Disk(WINDOW), tls: Some(files.path().to_owned()), ..Setup::default() };
    let mut world = World::start(&form.agent, setup).await?;
    let port = world.agent.ports.http;
    let mut old = Line::open(&client, port).await?;
    let rounds = form.pick(9, 300);
    for round in 0..rounds {
        match round % 3 {
            0 => replace(&files.path().join("server.pem"), b"no certificate")?,
            1 => replace(&files.path().join("server.key"), KeyPair::generate()?.serialize_pem().as_bytes())?,
            _ => renew(&issuer, files.path())?,
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(250) {
            old.export(&world).await?;
            Line::open(&client, port).await?.export(&world).await?;
            sleep(Duration::from_millis(20)).await;
        }
    }
    let reloads = world.agent.page().await?.by("phoenix_tls_reloads_total", "outcome");
    world.notes.push(format!(
        "{rounds} changes, two of three bad; every handshake and the oldest connection served; {reloads:?}"
    ));
    if reloads.is_empty() {
        world.wrong.push("nothing was renewed".to_owned());
    }
    world.close(DRAIN).await
}
