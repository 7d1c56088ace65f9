//! `otlp_grpc`: OTLP over gRPC.
//!
//! A unary call is one HTTP/2 request with a five-byte prefix and an answer whose status stands in the trailers, so it is
//! made here by hand on the shared client: the shipment's bytes go out as they are, the compression level is ours to
//! choose, and no answer of a peer, however odd, is worse than an error.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use phoenix_pipeline::config::{self, Headers, Report, Settings, Value};
use phoenix_pipeline::{BuildError, Exporter, ExporterFactory, Shipment, Site, Stability};
use serde::{Deserialize, Serialize};

use super::client::{Answer, KEPT, Peer, PeerSettings, check_headers, user_agent};
use super::compression::{Compression, CompressionParams, Payload};
use super::message::accepted_proto;
use super::status::Status;
use super::{Auth, Otlp, endpoint, say_without_effect};
use crate::sending::{Accepted, Destination, Failure, QueueSettings, Retry, RetrySettings, Sender};
use phoenix_transport::coding::{Coding, undo};
use phoenix_transport::tls::{Alpn, TlsSettings};

/// The table entry.
pub const FACTORY: ExporterFactory =
    ExporterFactory::new::<Config>("otlp_grpc", "Sends OTLP over gRPC", Stability::Beta, build).alias(&["otlp"]);

/// Settings of `otlp_grpc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port`, `http://` or `https://` in front decide about TLS; `dns:///host:port` and `unix:///path` work too.
    /// Required.
    pub endpoint: String,
    /// TLS; spoken by default.
    pub tls: TlsSettings,
    /// gzip (default: every server must take it), zstd or none.
    pub compression: Compression,
    /// The compression level.
    pub compression_params: CompressionParams,
    /// Sent with every request as metadata.
    pub headers: Headers,
    /// The longest one attempt may take; 0s = without end. Default 5s.
    #[serde(with = "config::duration")]
    pub timeout: Duration,
    /// How failed requests are repeated.
    pub retry_on_failure: RetrySettings,
    /// What waits for the peer.
    pub sending_queue: QueueSettings,
    /// Pings on the connection. Absent by default: requests find a dead connection by their timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// The `:authority` of requests. Default: `tls.server_name_override`, else the endpoint.
    pub authority: String,
    /// The whole user agent. Default: Phoenix and its version.
    pub user_agent: String,
    /// `round_robin` or `pick_first`. Accepted; there is one connection, to the first address that answers.
    pub balancer_name: Option<String>,
    /// Accepted; an attempt that finds no connection fails and is repeated.
    pub wait_for_ready: bool,
    /// Accepted; buffers follow the data.
    pub read_buffer_size: Option<u64>,
    /// Accepted; buffers follow the data.
    pub write_buffer_size: Option<u64>,
    /// An authenticator extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Middleware extensions. Not served.
    pub middlewares: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint: String::new(),
            tls: TlsSettings::default(),
            compression: Compression::default(),
            compression_params: CompressionParams::default(),
            headers: Headers::default(),
            timeout: Duration::from_secs(5),
            retry_on_failure: RetrySettings::default(),
            sending_queue: QueueSettings::default(),
            keepalive: None,
            authority: String::new(),
            user_agent: String::new(),
            balancer_name: None,
            wait_for_ready: false,
            read_buffer_size: None,
            write_buffer_size: None,
            auth: None,
            middlewares: Vec::new(),
        }
    }
}

/// `keepalive`: HTTP/2 pings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// Default true: naming the block turns it on.
    pub enabled: bool,
    /// Silence after which a ping is sent. Default 10s, which is also the least.
    #[serde(with = "config::duration")]
    pub time: Duration,
    /// Silence after a ping that ends the connection. Default 10s.
    #[serde(with = "config::duration")]
    pub timeout: Duration,
    /// Whether to ping while nothing is being sent. Default false: many servers take that for abuse.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Keepalive { enabled: true, time: ten, timeout: ten, permit_without_stream: false }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if let Err(message) = endpoint::grpc(&self.endpoint) {
            report.error("endpoint", message);
        }
        if let Compression::Zlib | Compression::Deflate = self.compression {
            report.error("compression", "is not a compression of gRPC; allowed: gzip, zstd, none");
        }
        self.compression.check(self.compression_params, report);
        check_headers(&self.headers, true, report);
        if HeaderValue::from_str(&self.user_agent).is_err() {
            report.error("user_agent", "holds a character that is not allowed in a header");
        }
        if !self.authority.is_empty() && self.authority.parse::<http::uri::Authority>().is_err() {
            report.error("authority", format!("{:?} is no host or host:port", self.authority));
        }
        if let Some(name) =
            self.balancer_name.as_deref().filter(|name| !["", "round_robin", "pick_first"].contains(name))
        {
            report.unknown("balancer_name", name, ["round_robin", "pick_first"]);
        }
        if self.keepalive.as_ref().is_some_and(|keepalive| keepalive.enabled && keepalive.timeout.is_zero()) {
            report.error("keepalive.timeout", "0s would end every connection: a duration above 0 is allowed");
        }
        super::check_middlewares(&self.middlewares, report);
        report.within("tls", |report| self.tls.check(report));
        report.within("retry_on_failure", |report| self.retry_on_failure.check(report));
        report.within("sending_queue", |report| self.sending_queue.check(report));
    }
}

impl Config {
    fn without_effect(&self) -> Vec<&'static str> {
        let keys = [
            ("balancer_name", self.balancer_name.is_some()),
            ("wait_for_ready", self.wait_for_ready),
            ("read_buffer_size", self.read_buffer_size.is_some()),
            ("write_buffer_size", self.write_buffer_size.is_some()),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).chain(self.tls.without_effect()).collect()
    }
}

/// The least time between pings, as in the Go implementation: less is taken for abuse.
const LEAST_PING: Duration = Duration::from_secs(10);

fn build(value: &Value, site: &Site) -> Result<Arc<dyn Exporter>, BuildError> {
    let config: Config = site.settings(value)?;
    say_without_effect(site, config.without_effect(), &config.sending_queue);
    let grpc = Grpc::new(&config, site)?;
    let sender = Sender::start(grpc, site, &config.sending_queue, &config.retry_on_failure, config.timeout)?;
    Ok(Arc::new(Otlp(sender)))
}

/// The metrics service of one peer.
struct Grpc {
    peer: Peer,
    compression: Compression,
    params: CompressionParams,
}

impl Grpc {
    fn new(config: &Config, site: &Site) -> Result<Self, String> {
        let mut headers = super::configured_headers(&config.headers, true)?;
        let agent = if config.user_agent.is_empty() { user_agent(site) } else { config.user_agent.clone() };
        headers
            .insert(header::USER_AGENT, HeaderValue::try_from(agent).map_err(|error| format!("user_agent: {error}"))?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(token) = config.compression.token() {
            headers.insert("grpc-encoding", HeaderValue::from_static(token));
        }
        if !config.timeout.is_zero() {
            headers.insert("grpc-timeout", timeout_value(config.timeout));
        }
        let overridden = config.tls.server_name_override.as_str();
        let authority = [config.authority.as_str(), overridden].into_iter().find(|name| !name.is_empty());
        let settings = PeerSettings {
            endpoint: endpoint::grpc(&config.endpoint)?,
            tls: &config.tls,
            alpn: Alpn::Http2,
            authority,
            headers,
            auth: config.auth.as_ref(),
        };
        let peer = Peer::new(settings, site, |client| {
            if let Some(keepalive) = config.keepalive.as_ref().filter(|keepalive| keepalive.enabled) {
                client
                    .http2_keep_alive_interval(keepalive.time.max(LEAST_PING))
                    .http2_keep_alive_timeout(keepalive.timeout)
                    .http2_keep_alive_while_idle(keepalive.permit_without_stream);
            }
        })?;
        Ok(Grpc { peer, compression: config.compression, params: config.compression_params })
    }
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout_value(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let (amount, unit) = match timeout.as_millis() {
        millis @ 1..=MOST => (millis, 'm'),
        0 => (timeout.as_micros().max(1), 'u'),
        millis => ((millis / 1000).min(MOST), 'S'),
    };
    // Digits and a letter make a header value.
    HeaderValue::try_from(format!("{amount}{unit}")).unwrap_or(HeaderValue::from_static("99999999S"))
}

/// Compressed flag and length in front of every gRPC message.
const PREFIX: usize = 5;

impl Destination for Grpc {
    type Request = Payload;

    fn prepare(&self, shipment: &Shipment) -> Result<Payload, String> {
        let plain = shipment.bytes();
        let prefix = |compressed: bool, length: usize| {
            let length =
                u32::try_from(length).map_err(|_| "the request is larger than gRPC can carry (4 GiB)".to_owned())?;
            let [a, b, c, d] = length.to_be_bytes();
            Ok::<_, String>([u8::from(compressed), a, b, c, d])
        };
        if self.compression == Compression::None {
            return Ok(Payload::prefixed(Bytes::copy_from_slice(&prefix(false, plain.len())?), plain));
        }
        let mut packed =
            self.compression.compress(self.params, &plain, PREFIX).map_err(|error| format!("compressing: {error}"))?;
        let length = packed.len() - PREFIX;
        if let Some(room) = packed.first_chunk_mut::<PREFIX>() {
            *room = prefix(true, length)?;
        }
        Ok(Payload::whole(packed.into()))
    }

    fn transforms(&self) -> bool {
        self.compression != Compression::None
    }

    fn size(&self, request: &Payload) -> usize {
        request.len()
    }

    async fn attempt(&self, request: Payload) -> Result<Accepted, Failure> {
        judge(&self.peer.post(request).await?)
    }
}

/// What an answer means.
fn judge(answer: &Answer) -> Result<Accepted, Failure> {
    let Some(status) = Status::find(&answer.trailers).or_else(|| Status::find(&answer.head.headers)) else {
        return Err(match answer.head.status {
            // It began as an answer and ended without one.
            StatusCode::OK => Failure {
                cause: Cow::Borrowed("no status"),
                reason: "the peer ended its answer without a gRPC status (is it a gRPC server?)".to_owned(),
                retry: Retry::Backoff,
            },
            http => Status::of_http(http).failure(),
        });
    };
    if !status.is_ok() {
        return Err(status.failure());
    }
    let odd = |what: String| Accepted {
        rejected: 0,
        message: format!("the data was taken, but the answer cannot be read: {what}"),
    };
    if answer.cut {
        return Ok(odd(format!("more than {} bytes", KEPT)));
    }
    Ok(message(answer).and_then(|message| accepted_proto(&message)).unwrap_or_else(odd))
}

/// The one message of an answer, without its compression: servers may answer with the compression of the request.
fn message(answer: &Answer) -> Result<Cow<'_, [u8]>, String> {
    let (compressed, message) = match answer.body.split_first_chunk::<PREFIX>() {
        Some(([flag @ (0 | 1), length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => {
            (*flag == 1, message)
        }
        _ => return Err("it does not hold exactly one message".to_owned()),
    };
    if !compressed {
        return Ok(Cow::Borrowed(message));
    }
    let encoding = answer.head.headers.get("grpc-encoding").map(HeaderValue::as_bytes).unwrap_or_default();
    let encoding = String::from_utf8_lossy(encoding).into_owned();
    let coding = Coding::named(&encoding)
        .ok_or_else(|| format!("it is compressed, grpc-encoding {encoding:?} is not served"))?;
    let plain = undo(coding, message, KEPT, |_| Ok::<_, Infallible>(()));
    plain.map(Cow::Owned).map_err(|error| format!("decompressing: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_transport::answer::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
    use prost::Message;

    #[test]
    fn timeouts_fit_eight_digits() {
        for (timeout, text) in [
            (Duration::from_secs(5), "5000m"),
            (Duration::from_micros(20), "20u"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(timeout_value(timeout), text);
        }
    }
    fn answer(encoding: &str, flag: u8, message: &[u8]) -> Answer {
        let (head, ()) = http::Response::builder().header("grpc-encoding", encoding).body(()).unwrap().into_parts();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[flag], &length[..], message].concat().into();
        let trailers = [(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
        Answer { head, body, cut: false, trailers: trailers.into_iter().collect() }
    }

    #[test]
    fn an_answer_in_the_compression_of_the_request_is_read() {
        let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "old".into() };
        let plain = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let expected = Accepted { rejected: 2, message: "2 data points were rejected: old".into() };
        assert_eq!(judge(&answer("identity", 0, &plain)), Ok(expected.clone()));
        for compression in [Compression::Gzip, Compression::Zstd] {
            let packed = compression.compress(CompressionParams::default(), &plain, 0).unwrap();
            assert_eq!(judge(&answer(compression.token().unwrap(), 1, &packed)), Ok(expected.clone()));
        }
        for (encoding, flag, message, what) in [
            ("br", 1, &plain[..], "it is compressed, grpc-encoding \"br\" is not served"),
            ("gzip", 1, b"<html>", "decompressing: "),
            ("gzip", 2, &plain, "it does not hold exactly one message"),
        ] {
            let accepted = judge(&answer(encoding, flag, message)).unwrap();
            assert_eq!(accepted.rejected, 0);
            let expected = format!("the data was taken, but the answer cannot be read: {what}");
            assert!(accepted.message.starts_with(&expected), "{}", accepted.message);
        }
    }
}
