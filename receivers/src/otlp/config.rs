//! The settings of the `otlp` receiver: the Collector's keys, and what keeps strangers in bounds.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use phoenix_pipeline::Ack;
use phoenix_pipeline::config::{self, Report, Settings};
use phoenix_transport::tls::ServerTlsSettings;
use serde::{Deserialize, Serialize};

const MIB: usize = 1 << 20;
/// The largest message in MiB, on both transports.
const LARGEST_MIB: u32 = 20;
/// What the Collector's HTTP server undoes; lz4 is the one that is not served.
const CODINGS: [&str; 8] = ["", "gzip", "zstd", "zlib", "snappy", "deflate", "x-snappy-framed", "lz4"];

/// Settings of the receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The transports that run; each is on when its key is there.
    pub protocols: Protocols,
    /// How safe data is before its sender hears OK. Not set: `on_disk` where every exporter behind the receiver keeps its
    /// queue on disk, else `on_queue`: as safe as it gets without making senders wait for a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// How much strangers may ask of the agent.
    pub admission: Admission,
}

/// `protocols`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protocols {
    /// OTLP over gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// OTLP over HTTP, binary and JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// `admission`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// MiB of data that is on its way in at once, from the wire until it is as safe as `ack` says. Default 0: all of the
    /// agent's room for incoming data, a quarter of the memory it may use, from 32 to 512 MiB.
    pub limit_mib: u32,
    /// Percent of it that one connection may take. Default 50: two greedy peers do not starve each other's first half, and
    /// one message of the largest size fits beside its unpacked form in a small container.
    pub connection_percentage: u32,
    /// Connections at once, per transport. Default 512: several times the SDKs of a full node (110 pods by Kubernetes'
    /// default), and at HTTP/2's least window 32 MiB. All connections together never take more than a quarter of the
    /// descriptors the agent may have, so that its pages and queues have theirs.
    pub max_connections: usize,
    /// How long a connection may take to begin to speak, to finish a TLS handshake and to send the head of a request.
    /// Default 10s: more than any honest network needs.
    #[serde(with = "config::duration")]
    pub handshake_timeout: Duration,
    /// How long a body may stall: fewer than 4 KiB in this time end it. Default 10s, as above.
    #[serde(with = "config::duration")]
    pub stall_timeout: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Admission {
            limit_mib: 0,
            connection_percentage: 50,
            max_connections: 512,
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// `protocols.grpc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// `host:port`, or a path for `transport: unix`. Default localhost:4317: reachable from this host only.
    pub endpoint: String,
    /// tcp (default), tcp4, tcp6 or unix.
    pub transport: Transport,
    /// TLS; plain text where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSettings>,
    /// The largest message in MiB, packed and unpacked; 0 = the default, 20: five times what gRPC libraries take, so that
    /// both transports take the same.
    pub max_recv_msg_size_mib: u32,
    /// Requests at once on one connection; 0 = the default, 100.
    pub max_concurrent_streams: u32,
    /// When connections are probed and closed.
    pub keepalive: Keepalive,
    /// Accepted; buffers follow the data.
    pub read_buffer_size: Option<u64>,
    /// Accepted; buffers follow the data.
    pub write_buffer_size: Option<u64>,
    /// Accepted; nothing here reads a request's headers later.
    pub include_metadata: bool,
    /// An authenticator extension that every request must satisfy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Middleware extensions. Not served.
    pub middlewares: Vec<String>,
}

impl Default for Grpc {
    fn default() -> Self {
        Grpc {
            endpoint: "localhost:4317".to_owned(),
            transport: Transport::Tcp,
            tls: None,
            max_recv_msg_size_mib: LARGEST_MIB,
            max_concurrent_streams: 100,
            keepalive: Keepalive::default(),
            read_buffer_size: None,
            write_buffer_size: None,
            include_metadata: false,
            auth: None,
            middlewares: Vec::new(),
        }
    }
}

/// `protocols.http`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `host:port`, or a path for `transport: unix`. Default localhost:4318: reachable from this host only.
    pub endpoint: String,
    /// tcp (default), tcp4, tcp6 or unix.
    pub transport: Transport,
    /// TLS; plain text where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSettings>,
    /// The path metrics are posted to. Default /v1/metrics.
    pub metrics_url_path: String,
    /// Of another signal. Accepted; answered with 404.
    pub traces_url_path: String,
    /// Of another signal. Accepted; answered with 404.
    pub logs_url_path: String,
    /// The largest body in bytes, packed and unpacked. Default 20 MiB: the Collector's.
    pub max_request_body_size: usize,
    /// Codings that are undone. Default: all but lz4, which no client sends by itself.
    pub compression_algorithms: Vec<String>,
    /// How long a connection without a request is kept; 0s = for ever. Default 5m: five times the usual export interval.
    #[serde(with = "config::duration")]
    pub idle_timeout: Duration,
    /// Whether a connection serves more than one request. Default true.
    pub keep_alives_enabled: bool,
    /// Sent with every answer.
    pub response_headers: config::Headers,
    /// The longest a body may take in all; 0s = as long as it does not stall, the default.
    #[serde(with = "config::duration")]
    pub read_timeout: Duration,
    /// Accepted; `admission.handshake_timeout` limits heads.
    #[serde(with = "config::duration")]
    pub read_header_timeout: Duration,
    /// Accepted; an answer is one packet.
    #[serde(with = "config::duration")]
    pub write_timeout: Duration,
    /// Accepted; nothing here reads a request's headers later.
    pub include_metadata: bool,
    /// Answers to browsers. Not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// An authenticator extension that every request must satisfy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Middleware extensions. Not served.
    pub middlewares: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            endpoint: "localhost:4318".to_owned(),
            transport: Transport::Tcp,
            tls: None,
            metrics_url_path: "/v1/metrics".to_owned(),
            traces_url_path: "/v1/traces".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            max_request_body_size: LARGEST_MIB as usize * MIB,
            compression_algorithms: CODINGS[..6].iter().map(|name| (*name).to_owned()).collect(),
            idle_timeout: Duration::from_secs(300),
            keep_alives_enabled: true,
            response_headers: config::Headers::default(),
            read_timeout: Duration::ZERO,
            read_header_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            include_metadata: false,
            cors: None,
            auth: None,
            middlewares: Vec::new(),
        }
    }
}

/// What the socket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// TCP over IPv4; the endpoint decides.
    Tcp4,
    /// TCP over IPv6; the endpoint decides.
    Tcp6,
    /// A socket file.
    Unix,
}

/// `keepalive`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// What the server does by itself.
    pub server_parameters: ServerParameters,
    /// What it tolerates. Accepted; a flood of pings is ended by the HTTP/2 library.
    pub enforcement_policy: EnforcementPolicy,
}

/// `keepalive.server_parameters`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerParameters {
    /// How long a connection without a request is kept; 0s = for ever. Default 5m: five times the usual export interval.
    #[serde(with = "config::duration")]
    pub max_connection_idle: Duration,
    /// How old a connection may become; 0s = as old as it likes, the default. Useful behind a balancer.
    #[serde(with = "config::duration")]
    pub max_connection_age: Duration,
    /// How long requests under way may then take; 0s = without end, the default.
    #[serde(with = "config::duration")]
    pub max_connection_age_grace: Duration,
    /// Silence after which the peer is pinged; 0s = never. Default 2h: gRPC's.
    #[serde(with = "config::duration")]
    pub time: Duration,
    /// Silence after a ping that ends the connection. Default 20s: gRPC's.
    #[serde(with = "config::duration")]
    pub timeout: Duration,
}

impl Default for ServerParameters {
    fn default() -> Self {
        ServerParameters {
            max_connection_idle: Duration::from_secs(300),
            max_connection_age: Duration::ZERO,
            max_connection_age_grace: Duration::ZERO,
            time: Duration::from_secs(7200),
            timeout: Duration::from_secs(20),
        }
    }
}

/// `keepalive.enforcement_policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnforcementPolicy {
    /// Accepted. Default 5m: gRPC's.
    #[serde(with = "config::duration")]
    pub min_time: Duration,
    /// Accepted.
    pub permit_without_stream: bool,
}

impl Default for EnforcementPolicy {
    fn default() -> Self {
        EnforcementPolicy { min_time: Duration::from_secs(300), permit_without_stream: false }
    }
}

/// `auth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The extension's id (`basicauth`, `bearertokenauth/senders`).
    pub authenticator: String,
}

/// `cors`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Not served.
    pub allowed_origins: Vec<String>,
    /// Not served.
    pub allowed_headers: Vec<String>,
    /// Not served.
    pub exposed_headers: Vec<String>,
    /// Not served.
    pub max_age: u64,
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.protocols.grpc.is_none() && self.protocols.http.is_none() {
            report.error("protocols", "must name at least one of grpc and http");
        }
        if let Some(grpc) = &self.protocols.grpc {
            report.within("protocols::grpc", |report| {
                check_endpoint(&grpc.endpoint, grpc.transport, report);
                check_middlewares(&grpc.middlewares, report);
                if grpc.max_recv_msg_size_mib > 4095 {
                    report.error("max_recv_msg_size_mib", "must be at most 4095: a message is addressed by 32 bits");
                }
                if let Some(tls) = &grpc.tls {
                    report.within("tls", |report| tls.check(report));
                }
            });
        }
        if let Some(http) = &self.protocols.http {
            report.within("protocols::http", |report| http.check(report));
        }
        report.within("admission", |report| self.admission.check(report));
    }
}

impl Http {
    fn check(&self, report: &mut Report<'_>) {
        check_endpoint(&self.endpoint, self.transport, report);
        check_middlewares(&self.middlewares, report);
        if self.max_request_body_size > 4095 * MIB {
            report.error("max_request_body_size", "must be at most 4095 MiB: a request is addressed by 32 bits");
        }
        if !self.metrics_url_path.starts_with('/') {
            report.error("metrics_url_path", "must begin with a slash, as in /v1/metrics");
        }
        if self.cors.is_some() {
            report.error("cors", "browsers are not served: take the block out, or put a proxy in front");
        }
        for (place, name) in self.compression_algorithms.iter().enumerate() {
            let path = format!("compression_algorithms[{place}]");
            match name.as_str() {
                "lz4" => report.error(&path, "lz4 is not served: take it out of the list"),
                name if !CODINGS.contains(&name) => report.unknown(&path, name, CODINGS),
                _ => {}
            }
        }
        for (name, value) in self.response_headers.iter() {
            if HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::try_from(value.reveal()).is_err() {
                report.error(&format!("response_headers.{name}"), "is no header, by its name or its value");
            }
        }
        if let Some(tls) = &self.tls {
            report.within("tls", |report| tls.check(report));
        }
    }
}

impl Admission {
    fn check(&self, report: &mut Report<'_>) {
        if !(1..=100).contains(&self.connection_percentage) {
            report.error("connection_percentage", "must be from 1 to 100");
        }
        if self.max_connections == 0 {
            report.error("max_connections", "must be at least 1");
        }
        for (key, time) in [("handshake_timeout", self.handshake_timeout), ("stall_timeout", self.stall_timeout)] {
            if time.is_zero() {
                report.error(key, "must be greater than zero: a silent peer must not hold a place for ever");
            }
        }
    }
}

fn check_endpoint(endpoint: &str, transport: Transport, report: &mut Report<'_>) {
    match transport {
        Transport::Unix if endpoint.is_empty() => report.error("endpoint", "is required: the path of the socket file"),
        Transport::Unix => {}
        _ => {
            let port = endpoint.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                report.error("endpoint", "must be host:port, as in localhost:4317");
            }
        }
    }
}

fn check_middlewares(middlewares: &[String], report: &mut Report<'_>) {
    if !middlewares.is_empty() {
        report.error("middlewares", "middleware extensions are not served: leave the list empty");
    }
}

impl Grpc {
    /// The largest message, in bytes.
    pub(super) fn largest(&self) -> usize {
        let mib = if self.max_recv_msg_size_mib == 0 { LARGEST_MIB } else { self.max_recv_msg_size_mib };
        mib as usize * MIB
    }

    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let policy = self.keepalive.enforcement_policy != EnforcementPolicy::default();
        let keys = [
            ("read_buffer_size", self.read_buffer_size.is_some()),
            ("write_buffer_size", self.write_buffer_size.is_some()),
            ("include_metadata", self.include_metadata),
            ("keepalive.enforcement_policy", policy),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }
}

impl Http {
    /// The largest body, in bytes; 0 is the default, as in the Collector.
    pub(super) fn largest(&self) -> usize {
        if self.max_request_body_size == 0 { LARGEST_MIB as usize * MIB } else { self.max_request_body_size }
    }

    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let keys = [
            ("read_header_timeout", !self.read_header_timeout.is_zero()),
            ("write_timeout", !self.write_timeout.is_zero()),
            ("include_metadata", self.include_metadata),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }
}
