//! OTLP's answers: the messages a server writes and a client reads, and which code says what.
//!
//! Both sides use one set of messages, so they cannot come to differ. Writing stands here as well: a [`Rejection`] is said
//! once and comes out as a gRPC status or an HTTP answer in the request's encoding. Nothing here decides whether a request
//! is taken or repeated.
//!
//! Source: OTLP specification, "OTLP/gRPC Response", "OTLP/HTTP Response"; google/rpc/status.proto, error_details.proto.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prost::Message;
use serde::{Deserialize, Serialize};

/// gRPC's status codes, as far as either side names them.
pub mod code {
    /// Taken.
    pub const OK: i32 = 0;
    /// Nothing is known.
    pub const UNKNOWN: i32 = 2;
    /// The request can never be taken as it is.
    pub const INVALID_ARGUMENT: i32 = 3;
    /// It took too long.
    pub const DEADLINE_EXCEEDED: i32 = 4;
    /// The sender is known and may not.
    pub const PERMISSION_DENIED: i32 = 7;
    /// Too large for good, or, with a retry hint, too much for now.
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    /// Over a limit, in Rust's gRPC servers.
    pub const OUT_OF_RANGE: i32 = 11;
    /// No such method, or no such coding.
    pub const UNIMPLEMENTED: i32 = 12;
    /// A fault on this side, or of the framing.
    pub const INTERNAL: i32 = 13;
    /// Come again later.
    pub const UNAVAILABLE: i32 = 14;
    /// The sender is not known.
    pub const UNAUTHENTICATED: i32 = 16;
}

/// What a retry hint is called among the details of a status.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportMetricsServiceResponse {
    /// Set when something is to be said about a request that was taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportMetricsPartialSuccess>,
}

/// `ExportMetricsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportMetricsPartialSuccess {
    /// How many points were not taken.
    #[prost(int64, tag = "1")]
    pub rejected_data_points: i64,
    /// Why, or a warning where none was rejected.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RpcStatus {
    /// A gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For developers.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Typed details.
    #[prost(message, repeated, tag = "3")]
    #[serde(skip)]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// Which message `value` holds.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// How long to wait at least.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub struct ProtoDuration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl RpcStatus {
    /// The wait the peer asks for, if it does; a negative one is none at all.
    pub fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
        let seconds = u64::try_from(delay.seconds).unwrap_or(0);
        Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::try_from(delay.nanos).unwrap_or(0))))
    }
}

/// How the body of an HTTP request is written, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf.
    Proto,
    /// OTLP's JSON.
    Json,
}

impl Encoding {
    /// What a `Content-Type` names, parameters aside; none where OTLP knows no such type.
    pub fn of(content_type: &HeaderValue) -> Option<Self> {
        let text = content_type.to_str().ok()?;
        let kind = text.split(';').next().unwrap_or_default().trim();
        [Encoding::Proto, Encoding::Json]
            .into_iter()
            .find(|encoding| kind.eq_ignore_ascii_case(encoding.content_type()))
    }

    /// The `Content-Type` of it.
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// How many points of a request that was taken could not be used, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// Points that were left out.
    pub rejected: u64,
    /// Why, for people.
    pub message: String,
}

impl ExportMetricsServiceResponse {
    /// The answer to a request that was taken, all of it or in part.
    pub fn taken(partial: Option<Partial>) -> Self {
        let partial_success = partial.map(|partial| ExportMetricsPartialSuccess {
            rejected_data_points: i64::try_from(partial.rejected).unwrap_or(i64::MAX),
            error_message: partial.message,
        });
        ExportMetricsServiceResponse { partial_success }
    }

    /// The message's bytes in `encoding`.
    pub fn write(&self, encoding: Encoding) -> Bytes {
        match (encoding, &self.partial_success) {
            (Encoding::Proto, _) => self.encode_to_vec().into(),
            (Encoding::Json, None) => Bytes::from_static(b"{}"),
            (Encoding::Json, Some(partial)) => serde_json::json!({ "partialSuccess": {
                "rejectedDataPoints": partial.rejected_data_points.to_string(),
                "errorMessage": partial.error_message,
            }})
            .to_string()
            .into(),
        }
    }
}

/// Why a request was not taken, for either transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The gRPC code, one of [`code`].
    pub code: i32,
    /// The HTTP status.
    pub status: StatusCode,
    /// For people; one sentence without a full stop.
    pub message: String,
    /// When to come back. Without it a sender takes `RESOURCE_EXHAUSTED` for final.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    /// A refusal that is final.
    pub fn last(code: i32, status: StatusCode, message: impl Into<String>) -> Self {
        Rejection { code, status, message: message.into(), retry_after: None }
    }

    /// A refusal that passes: 429 and `RESOURCE_EXHAUSTED`, 503 and `UNAVAILABLE`.
    pub fn later(code: i32, status: StatusCode, message: impl Into<String>, after: Duration) -> Self {
        Rejection { code, status, message: message.into(), retry_after: Some(after) }
    }

    /// The same as `google.rpc.Status`, with the hint among its details.
    pub fn rpc_status(&self) -> RpcStatus {
        let hint = self.retry_after.map(|after| {
            let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
            let delay = ProtoDuration { seconds, nanos: i32::try_from(after.subsec_nanos()).unwrap_or(0) };
            Any { type_url: RETRY_INFO.into(), value: RetryInfo { retry_delay: Some(delay) }.encode_to_vec() }
        });
        RpcStatus { code: self.code, message: self.message.clone(), details: hint.into_iter().collect() }
    }

    /// The headers that say it over gRPC: `grpc-status`, `grpc-message`, and the details where there are any.
    pub fn grpc(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from(self.code));
        if let Ok(message) = HeaderValue::try_from(percent_encode(&self.message)) {
            headers.insert("grpc-message", message);
        }
        if self.retry_after.is_some()
            && let Ok(details) = HeaderValue::try_from(STANDARD_NO_PAD.encode(self.rpc_status().encode_to_vec()))
        {
            headers.insert("grpc-status-details-bin", details);
        }
        headers
    }

    /// The answer over HTTP: `google.rpc.Status` in the request's encoding, or plain text where it had none.
    pub fn http(&self, encoding: Option<Encoding>) -> Response<Bytes> {
        let status = self.rpc_status();
        let (kind, body) = match encoding {
            Some(Encoding::Proto) => (Encoding::Proto.content_type(), status.encode_to_vec()),
            // The details have no JSON form that all clients read; the hint stands in Retry-After.
            Some(Encoding::Json) => {
                (Encoding::Json.content_type(), serde_json::to_vec(&status).unwrap_or_else(|_| b"{}".to_vec()))
            }
            None => ("text/plain; charset=utf-8", format!("{}\n", self.message).into_bytes()),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: 0 would mean at once.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// gRPC's encoding of a message in a header: printable ASCII but `%` as it is, everything else as `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |nibble: u8| char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out
}

/// A stranger's text as part of one log line: no control characters, not too long.
pub fn line(text: &str) -> String {
    const LONGEST: usize = 300;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.trim().chars().take(LONGEST).map(clean).collect();
    if text.trim().chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later() -> Rejection {
        Rejection::later(
            code::RESOURCE_EXHAUSTED,
            StatusCode::TOO_MANY_REQUESTS,
            "100 % full: größer",
            Duration::from_millis(1500),
        )
    }

    #[test]
    fn the_retry_hint_is_found_among_the_details() {
        let mut status = later().rpc_status();
        let other = Any { type_url: "type.googleapis.com/google.rpc.Help".into(), value: vec![1] };
        status.details.insert(0, other.clone());
        assert_eq!(status.retry_delay(), Some(Duration::from_millis(1500)));
        assert_eq!(RpcStatus { details: vec![other], ..status }.retry_delay(), None);
    }

    #[test]
    fn a_rejection_over_grpc() {
        let headers = later().grpc();
        assert_eq!(headers["grpc-status"], "8");
        assert_eq!(headers["grpc-message"], "100 %25 full: gr%C3%B6%C3%9Fer");
        let details = STANDARD_NO_PAD.decode(headers["grpc-status-details-bin"].as_bytes()).unwrap();
        let status = RpcStatus::decode(details.as_slice()).unwrap();
        assert_eq!((status.code, status.retry_delay()), (8, Some(Duration::from_millis(1500))));
        let last = Rejection { retry_after: None, ..later() }.grpc();
        assert!(!last.contains_key("grpc-status-details-bin"), "without a hint it is final");
    }

    #[test]
    fn a_rejection_over_http_speaks_the_requests_encoding() {
        let proto = later().http(Some(Encoding::Proto));
        assert_eq!((proto.status().as_u16(), &proto.headers()["retry-after"]), (429, &HeaderValue::from(2)));
        assert_eq!(RpcStatus::decode(proto.body().clone()).unwrap(), later().rpc_status());
        let json = later().http(Some(Encoding::Json));
        assert_eq!(json.body(), r#"{"code":8,"message":"100 % full: größer"}"#.as_bytes());
        assert_eq!(json.headers()["content-type"], "application/json");
        let plain = Rejection::last(code::INVALID_ARGUMENT, StatusCode::UNSUPPORTED_MEDIA_TYPE, "no").http(None);
        assert_eq!((plain.body().as_ref(), plain.headers().contains_key("retry-after")), (b"no\n".as_ref(), false));
    }

    #[test]
    fn what_was_taken_in_both_encodings() {
        let partial = Partial { rejected: 3, message: "no name".into() };
        let response = ExportMetricsServiceResponse::taken(Some(partial));
        let json = response.write(Encoding::Json);
        assert_eq!(json, r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"no name"}}"#);
        assert_eq!(ExportMetricsServiceResponse::decode(response.write(Encoding::Proto)).unwrap(), response);
        let all = ExportMetricsServiceResponse::taken(None);
        assert_eq!((all.write(Encoding::Proto).len(), all.write(Encoding::Json).as_ref()), (0, b"{}".as_ref()));
    }

    #[test]
    fn content_types_are_read_without_their_parameters() {
        let of = |text: &'static str| Encoding::of(&HeaderValue::from_static(text));
        assert_eq!(of("application/json; charset=utf-8"), Some(Encoding::Json));
        assert_eq!(of("Application/X-Protobuf"), Some(Encoding::Proto));
        assert_eq!((of("text/plain"), of("application/jsonp")), (None, None));
    }

    #[test]
    fn a_strangers_text_stays_one_line() {
        assert_eq!(line(" a\u{1b}[31m\nb "), "a [31m b");
        assert_eq!(line(&"x".repeat(1000)).chars().count(), 301);
    }
}
