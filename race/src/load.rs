//! The generator: senders that post ready requests as fast as they are answered.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::payload::{Coding, Message, Payload};
use crate::sink::unpack;
use crate::{Fault, Protocol};

/// The longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// What the senders heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Answers other than OK, with their numbers.
    pub refused: BTreeMap<String, u64>,
    /// Seconds until each OK, sorted.
    pub latencies: Vec<f64>,
    /// Points that were acknowledged.
    pub points: u64,
    pub seconds: f64,
}

enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// A connection, and what is sent over it.
pub struct Sender {
    connection: Connection,
    messages: Vec<Message>,
    port: u16,
    coding: Coding,
}

/// Connects a sender for each part of the payload.
pub async fn connect(payload: &Payload, port: u16, protocol: Protocol, coding: Coding) -> Result<Vec<Sender>, Fault> {
    let mut senders = Vec::new();
    for messages in &payload.senders {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let connection = match protocol {
            Protocol::Http => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Connection::One(sender)
            }
            Protocol::Grpc => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_send_buf_size(4 << 20);
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Connection::Two(sender)
            }
        };
        senders.push(Sender { connection, messages: messages.clone(), port, coding });
    }
    Ok(senders)
}

/// Lets each sender send this part of its requests, all at the same time.
pub async fn send(senders: &mut Vec<Sender>, part: impl Fn(usize) -> Range<usize>) -> Result<Heard, Fault> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut sender in senders.drain(..) {
        let range = part(sender.messages.len());
        tasks.spawn(async move {
            let mut heard = Heard::default();
            for at in range {
                let Some(message) = sender.messages.get(at).cloned() else { break };
                let asked = Instant::now();
                let answer = match tokio::time::timeout(ANSWER, sender.post(message.body)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer in time".to_owned(),
                };
                if answer == "ok" {
                    heard.latencies.push(asked.elapsed().as_secs_f64());
                    heard.points += message.points;
                } else {
                    *heard.refused.entry(answer).or_default() += 1;
                }
            }
            (sender, heard)
        });
    }
    let mut all = Heard::default();
    while let Some(done) = tasks.join_next().await {
        let (sender, heard) = done?;
        senders.push(sender);
        all.points += heard.points;
        all.latencies.extend(heard.latencies);
        for (answer, count) in heard.refused {
            *all.refused.entry(answer).or_default() += count;
        }
    }
    all.seconds = began.elapsed().as_secs_f64();
    all.latencies.sort_by(f64::total_cmp);
    Ok(all)
}

impl Sender {
    /// Posts a request; `ok`, or what was answered instead.
    async fn post(&mut self, body: Bytes) -> Result<String, Fault> {
        let grpc = matches!(self.connection, Connection::Two(_));
        let host = format!("127.0.0.1:{}", self.port);
        let request = if grpc {
            let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
            let request = Request::post(format!("http://{host}{path}"));
            let request = request.header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
            self.coding.name().into_iter().fold(request, |request, name| request.header("grpc-encoding", name))
        } else {
            let request = Request::post("/v1/metrics").header(header::HOST, host);
            let request = request.header(header::CONTENT_TYPE, "application/x-protobuf");
            self.coding.name().into_iter().fold(request, |request, name| request.header(header::CONTENT_ENCODING, name))
        };
        let request = request.body(Full::new(body))?;
        let response = match &mut self.connection {
            Connection::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Connection::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let status =
            body.trailers().and_then(|trailers| trailers.get("grpc-status")).or(head.headers.get("grpc-status"));
        let status = status.and_then(|status| status.to_str().ok()).map(str::to_owned);
        // An OK of either kind without anything in it: nothing was rejected. `08 00` says the same in more words.
        let mut said = body.to_bytes();
        if grpc && !said.is_empty() {
            // A server may answer in the coding that it was asked in.
            let packed = said.first() == Some(&1);
            let coding = head.headers.get("grpc-encoding").filter(|_| packed).and_then(|coding| coding.to_str().ok());
            said = unpack(said.slice(said.len().min(5)..), coding)?;
        }
        Ok(match (grpc, status.as_deref(), head.status.as_u16()) {
            (true, Some("0"), _) | (false, _, 200) if matches!(&*said, [] | [10, 0]) => "ok".to_owned(),
            (true, Some("0"), _) | (false, _, 200) => "partial success".to_owned(),
            (true, Some(status), _) => format!("grpc-status {status}"),
            (_, _, status) => format!("HTTP {status}"),
        })
    }
}
