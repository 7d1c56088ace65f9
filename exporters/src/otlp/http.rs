//! `otlp_http`: OTLP over HTTP/1.1 or HTTP/2, binary or JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use phoenix_pipeline::config::{self, Headers, Report, Settings, Value};
use phoenix_pipeline::{BuildError, Clock, Exporter, ExporterFactory, Shipment, Site, Stability};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::client::{Answer, KEPT, Peer, PeerSettings, check_headers, nonzero, user_agent};
use super::compression::{Compression, CompressionParams, Payload};
use super::endpoint::{self, Endpoint};
use super::message::{RpcStatus, accepted_json, accepted_proto, line};
use super::{Auth, Otlp, say_without_effect};
use crate::sending::{Accepted, Destination, Failure, QueueSettings, Retry, RetrySettings, Sender};
use phoenix_transport::tls::{Alpn, TlsSettings};

/// The table entry.
pub const FACTORY: ExporterFactory =
    ExporterFactory::new::<Config>("otlp_http", "Sends OTLP over HTTP", Stability::Beta, build).alias(&["otlphttp"]);

/// How a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Protobuf: smaller and an order of magnitude cheaper.
    #[default]
    Proto,
    /// OTLP's JSON.
    Json,
}

impl Encoding {
    fn content_type(self) -> &'static str {
        match self {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// Settings of `otlp_http`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The base URL; `/v1/metrics` is appended. This or `metrics_endpoint` is required.
    pub endpoint: String,
    /// The exact URL for metrics.
    pub metrics_endpoint: String,
    /// Of another signal. No effect.
    pub traces_endpoint: String,
    /// Of another signal. No effect.
    pub logs_endpoint: String,
    /// Of another signal. No effect.
    pub profiles_endpoint: String,
    /// proto (default) or json.
    pub encoding: Encoding,
    /// TLS, for `https://`.
    pub tls: TlsSettings,
    /// gzip (default: every server must take it), zstd, zlib, deflate or none.
    pub compression: Compression,
    /// The compression level.
    pub compression_params: CompressionParams,
    /// Sent with every request.
    pub headers: Headers,
    /// The longest one attempt may take; 0s = without end. Default 30s.
    #[serde(with = "config::duration")]
    pub timeout: Duration,
    /// How failed requests are repeated.
    pub retry_on_failure: RetrySettings,
    /// What waits for the peer.
    pub sending_queue: QueueSettings,
    /// Offers HTTP/2 in the TLS handshake. Default true.
    pub force_attempt_http2: bool,
    /// Silence after which an HTTP/2 connection is pinged; 0s = never, the default.
    #[serde(with = "config::duration")]
    pub http2_read_idle_timeout: Duration,
    /// Silence after a ping that ends the connection. Default 15s.
    #[serde(with = "config::duration")]
    pub http2_ping_timeout: Duration,
    /// How long an unused connection is kept; 0s = for ever. Default 90s.
    #[serde(with = "config::duration")]
    pub idle_conn_timeout: Duration,
    /// Unused connections kept; 0 = no limit. Default 100, though there are never more than `num_consumers`.
    pub max_idle_conns: usize,
    /// The same, for one host: this exporter has only one. 0 = no limit, the default.
    pub max_idle_conns_per_host: usize,
    /// Accepted; there are never more than `sending_queue.num_consumers`.
    pub max_conns_per_host: Option<usize>,
    /// A new connection for every request. Default false.
    pub disable_keep_alives: bool,
    /// Accepted; buffers follow the data.
    pub read_buffer_size: Option<u64>,
    /// Accepted; buffers follow the data.
    pub write_buffer_size: Option<u64>,
    /// A proxy. Not served.
    pub proxy_url: String,
    /// Cookies. Accepted; none are kept.
    pub cookies: Cookies,
    /// An authenticator extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Middleware extensions. Not served.
    pub middlewares: Vec<String>,
}

/// `cookies`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// Accepted; no cookies are kept.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint: String::new(),
            metrics_endpoint: String::new(),
            traces_endpoint: String::new(),
            logs_endpoint: String::new(),
            profiles_endpoint: String::new(),
            encoding: Encoding::default(),
            tls: TlsSettings::default(),
            compression: Compression::default(),
            compression_params: CompressionParams::default(),
            headers: Headers::default(),
            timeout: Duration::from_secs(30),
            retry_on_failure: RetrySettings::default(),
            sending_queue: QueueSettings::default(),
            force_attempt_http2: true,
            http2_read_idle_timeout: Duration::ZERO,
            http2_ping_timeout: Duration::from_secs(15),
            idle_conn_timeout: Duration::from_secs(90),
            max_idle_conns: 100,
            max_idle_conns_per_host: 0,
            max_conns_per_host: None,
            disable_keep_alives: false,
            read_buffer_size: None,
            write_buffer_size: None,
            proxy_url: String::new(),
            cookies: Cookies::default(),
            auth: None,
            middlewares: Vec::new(),
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        let key = if self.metrics_endpoint.is_empty() { "endpoint" } else { "metrics_endpoint" };
        if let Err(message) = self.place() {
            report.error(key, message);
        }
        self.compression.check(self.compression_params, report);
        check_headers(&self.headers, false, report);
        if !self.proxy_url.is_empty() {
            report.error("proxy_url", "proxies are not served: remove the key and send directly, or to a gateway");
        }
        super::check_middlewares(&self.middlewares, report);
        report.within("tls", |report| self.tls.check(report));
        report.within("retry_on_failure", |report| self.retry_on_failure.check(report));
        report.within("sending_queue", |report| self.sending_queue.check(report));
    }
}

impl Config {
    fn place(&self) -> Result<Endpoint, String> {
        match (self.metrics_endpoint.as_str(), self.endpoint.as_str()) {
            ("", "") => {
                Err("is required: a base URL, as in https://backend:4318 (or metrics_endpoint with the exact URL)"
                    .to_owned())
            }
            ("", base) => endpoint::http(base, "/v1/metrics"),
            (exact, _) => endpoint::http(exact, ""),
        }
    }

    fn without_effect(&self) -> Vec<&'static str> {
        let keys = [
            ("max_conns_per_host", self.max_conns_per_host.is_some()),
            ("read_buffer_size", self.read_buffer_size.is_some()),
            ("write_buffer_size", self.write_buffer_size.is_some()),
            ("cookies", self.cookies.enabled),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).chain(self.tls.without_effect()).collect()
    }

    fn idle_connections(&self) -> usize {
        let limit = |most: usize| if most == 0 { usize::MAX } else { most };
        match self.disable_keep_alives {
            true => 0,
            false => limit(self.max_idle_conns).min(limit(self.max_idle_conns_per_host)),
        }
    }
}

fn build(value: &Value, site: &Site) -> Result<Arc<dyn Exporter>, BuildError> {
    let config: Config = site.settings(value)?;
    say_without_effect(site, config.without_effect(), &config.sending_queue);
    let http = Http::new(&config, site)?;
    let sender = Sender::start(http, site, &config.sending_queue, &config.retry_on_failure, config.timeout)?;
    Ok(Arc::new(Otlp(sender)))
}

/// The metrics path of one peer.
struct Http {
    peer: Peer,
    encoding: Encoding,
    compression: Compression,
    params: CompressionParams,
    clock: Clock,
}

impl Http {
    fn new(config: &Config, site: &Site) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::try_from(user_agent(site)).map_err(|error| error.to_string())?);
        headers.extend(super::configured_headers(&config.headers, false)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(config.encoding.content_type()));
        if let Some(token) = config.compression.token() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(token));
        }
        let alpn = if config.force_attempt_http2 { Alpn::Http2OrHttp1 } else { Alpn::Http1 };
        let settings = PeerSettings {
            endpoint: config.place()?,
            tls: &config.tls,
            alpn,
            authority: None,
            headers,
            auth: config.auth.as_ref(),
        };
        let peer = Peer::new(settings, site, |client| {
            client
                .pool_idle_timeout(nonzero(config.idle_conn_timeout))
                .pool_max_idle_per_host(config.idle_connections())
                .http2_keep_alive_interval(nonzero(config.http2_read_idle_timeout))
                .http2_keep_alive_timeout(config.http2_ping_timeout);
        })?;
        let Config { encoding, compression, compression_params: params, .. } = *config;
        Ok(Http { peer, encoding, compression, params, clock: site.clock.clone() })
    }
}

impl Destination for Http {
    type Request = Payload;

    fn prepare(&self, shipment: &Shipment) -> Result<Payload, String> {
        let plain = match self.encoding {
            Encoding::Proto => shipment.bytes(),
            Encoding::Json => {
                let (mut json, batch) = (Vec::new(), shipment.batch());
                if batch.points() != shipment.points() {
                    return Err("a record of the queue is no request".to_owned());
                }
                phoenix_telemetry::json::write(batch, &mut json);
                json.into()
            }
        };
        if self.compression == Compression::None {
            return Ok(Payload::whole(plain));
        }
        let packed =
            self.compression.compress(self.params, &plain, 0).map_err(|error| format!("compressing: {error}"))?;
        Ok(Payload::whole(packed.into()))
    }

    fn transforms(&self) -> bool {
        self.compression != Compression::None || self.encoding == Encoding::Json
    }

    fn size(&self, request: &Payload) -> usize {
        request.len()
    }

    async fn attempt(&self, request: Payload) -> Result<Accepted, Failure> {
        let answer = self.peer.post(request).await?;
        judge(&answer, self.clock.unix_nanos())
    }
}

/// What an answer means; `now` (Unix nanoseconds) is what a `Retry-After` date is compared with.
fn judge(answer: &Answer, now: u64) -> Result<Accepted, Failure> {
    let status = answer.head.status;
    if status.is_success() {
        return Ok(accepted(answer));
    }
    let retry = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            retry_after(&answer.head.headers, now).map_or(Retry::Backoff, Retry::After)
        }
        StatusCode::PAYLOAD_TOO_LARGE => Retry::Smaller,
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Retry::Backoff,
        _ => Retry::Never,
    };
    let mut reason = format!("the peer answered {status}");
    let said = match answer.head.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()) {
        Some(to) if status.is_redirection() => format!("redirects are not followed, set the endpoint to {}", line(to)),
        _ => explanation(answer),
    };
    if !said.is_empty() {
        reason = format!("{reason}: {said}");
    }
    Err(Failure { cause: Cow::Owned(status.as_str().to_owned()), reason, retry })
}

/// A body type that is understood.
fn content_type(answer: &Answer) -> Option<Encoding> {
    let kind = answer.head.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    [Encoding::Proto, Encoding::Json].into_iter().find(|encoding| kind.eq_ignore_ascii_case(encoding.content_type()))
}

/// The data was taken: with what remark?
fn accepted(answer: &Answer) -> Accepted {
    // Some backends answer a bare 200 or 202.
    if answer.body.is_empty() {
        return Accepted::default();
    }
    let read = match content_type(answer) {
        _ if answer.cut => Err(format!("more than {KEPT} bytes")),
        Some(Encoding::Proto) => accepted_proto(&answer.body),
        Some(Encoding::Json) => accepted_json(&answer.body),
        None => Err("neither application/x-protobuf nor application/json (is it an OTLP endpoint?)".to_owned()),
    };
    read.unwrap_or_else(|what| Accepted {
        rejected: 0,
        message: format!("the data was taken ({}), but the answer cannot be read: {what}", answer.head.status),
    })
}

/// What the peer says about its refusal, in one line.
fn explanation(answer: &Answer) -> String {
    let said = match content_type(answer) {
        Some(Encoding::Proto) => RpcStatus::decode(&answer.body[..]).ok().map(|status| status.message),
        Some(Encoding::Json) => serde_json::from_slice::<RpcStatus>(&answer.body).ok().map(|status| status.message),
        None => None,
    };
    let said = said
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
    line(&said)
}

/// `Retry-After`, in seconds or as a date. What is neither is no hint; a date in the past is none to wait for.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(UNIX_EPOCH + Duration::from_nanos(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &'static [u8]) -> Answer {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let (head, ()) = response.body(()).unwrap().into_parts();
        Answer { head, body: Bytes::from_static(body), cut: false, trailers: HeaderMap::new() }
    }

    const NOW: u64 = 784_111_777_000_000_000; // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn the_retry_table_of_the_specification() {
        for status in 300..600u16 {
            let retry = judge(&answer(status, &[], b""), NOW).unwrap_err().retry;
            let expected = match status {
                429 | 502 | 503 | 504 => Retry::Backoff,
                413 => Retry::Smaller,
                _ => Retry::Never,
            };
            assert_eq!(retry, expected, "{status}");
        }
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        for (text, retry) in [
            ("7", Retry::After(Duration::from_secs(7))),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Retry::After(Duration::from_secs(60))),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Retry::After(Duration::ZERO)),
            ("soon", Retry::Backoff),
            ("-1", Retry::Backoff),
        ] {
            assert_eq!(judge(&answer(503, &[("retry-after", text)], b""), NOW).unwrap_err().retry, retry, "{text}");
        }
        let failure = judge(&answer(502, &[("retry-after", "7")], b""), NOW).unwrap_err();
        assert_eq!(failure.retry, Retry::Backoff, "only 429 and 503 are throttling");
    }

    #[test]
    fn refusals_are_explained_in_one_line() {
        let json =
            answer(400, &[("content-type", "application/json; charset=utf-8")], br#"{"code":3,"message":"bad\nunit"}"#);
        assert_eq!(judge(&json, NOW).unwrap_err().reason, "the peer answered 400 Bad Request: bad unit");
        let proto = answer(400, &[("content-type", "application/x-protobuf")], b"\x08\x03\x12\x03bad");
        assert_eq!(judge(&proto, NOW).unwrap_err().reason, "the peer answered 400 Bad Request: bad");
        let text = answer(404, &[("content-type", "text/plain")], b"404 page not found\n");
        assert_eq!(judge(&text, NOW).unwrap_err().reason, "the peer answered 404 Not Found: 404 page not found");
        let moved = judge(&answer(308, &[("location", "https://b/")], b""), NOW).unwrap_err();
        assert!(
            moved.reason.ends_with("redirects are not followed, set the endpoint to https://b/"),
            "{}",
            moved.reason
        );
    }

    #[test]
    fn any_success_is_a_success_whatever_its_body() {
        assert_eq!(judge(&answer(202, &[], b""), NOW), Ok(Accepted::default()));
        assert_eq!(judge(&answer(200, &[("content-type", "application/json")], b"{}"), NOW), Ok(Accepted::default()));
        let page = judge(&answer(200, &[("content-type", "text/html")], b"<html>"), NOW).unwrap();
        assert!(page.message.contains("is it an OTLP endpoint?"), "{}", page.message);
    }
}
