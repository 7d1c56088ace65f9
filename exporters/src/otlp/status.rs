//! gRPC statuses as peers send them, and what OTLP makes of each.
//!
//! Read by hand, because a peer may write anything into these headers: what cannot be read is no hint, never a panic.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, StatusCode};
use phoenix_transport::answer::code::{
    INTERNAL, OK, OUT_OF_RANGE, PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNAVAILABLE, UNIMPLEMENTED,
    UNKNOWN,
};
use prost::Message;

use super::message::{RpcStatus, line};
use super::percent_decode;
use crate::sending::{Failure, Retry};

/// Names by code, and whether OTLP repeats a request that ended so (`RESOURCE_EXHAUSTED`: only when told when).
const CODES: [(&str, bool); 17] = [
    ("OK", false),
    ("CANCELLED", true),
    ("UNKNOWN", false),
    ("INVALID_ARGUMENT", false),
    ("DEADLINE_EXCEEDED", true),
    ("NOT_FOUND", false),
    ("ALREADY_EXISTS", false),
    ("PERMISSION_DENIED", false),
    ("RESOURCE_EXHAUSTED", false),
    ("FAILED_PRECONDITION", false),
    ("ABORTED", true),
    ("OUT_OF_RANGE", true),
    ("UNIMPLEMENTED", false),
    ("INTERNAL", false),
    ("UNAVAILABLE", true),
    ("DATA_LOSS", true),
    ("UNAUTHENTICATED", false),
];

/// How servers word that a message is over their limit, in lower case: C++ and Go, Rust and ours, Java, .NET. The codes they
/// take for it (`RESOURCE_EXHAUSTED`, `OUT_OF_RANGE`) stand for much else too.
const TOO_LARGE: [&str; 4] = ["larger than", "too large", "exceeds maximum size", "exceeds the maximum"];

/// gRPC's own table of what an HTTP status stands for, and 413, which is said by what stands in front of a server.
fn code_of(http: StatusCode) -> i32 {
    match http.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        413 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// A status as it stands in headers or trailers.
#[derive(Debug, PartialEq)]
pub struct Status {
    code: i32,
    message: String,
    delay: Option<Duration>,
}

impl Status {
    /// The status in these headers or trailers, if there is one.
    pub fn find(headers: &HeaderMap) -> Option<Self> {
        const LENIENT: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
        let message = headers.get("grpc-message").map(|text| percent_decode(text.as_bytes())).unwrap_or_default();
        // Details that cannot be read are no hint; the status itself stands.
        let delay = headers
            .get("grpc-status-details-bin")
            .and_then(|text| GeneralPurpose::new(&alphabet::STANDARD, LENIENT).decode(text.as_bytes()).ok())
            .and_then(|bytes| RpcStatus::decode(bytes.as_slice()).ok())
            .and_then(|status| status.retry_delay());
        Some(Status { code, message: String::from_utf8_lossy(&message).into_owned(), delay })
    }

    /// What an HTTP status stands for where a gRPC status is missing: something on the way answered.
    pub fn of_http(http: StatusCode) -> Self {
        Status { code: code_of(http), message: format!("HTTP {http}"), delay: None }
    }

    /// True if the call succeeded.
    pub fn is_ok(&self) -> bool {
        self.code == OK
    }

    /// Whether the request was over a limit of the server's: parts of it may be taken.
    fn is_too_large(&self) -> bool {
        let said = || self.message.to_ascii_lowercase();
        matches!(self.code, RESOURCE_EXHAUSTED | OUT_OF_RANGE) && TOO_LARGE.iter().any(|words| said().contains(words))
    }

    /// The status as a failed attempt.
    pub fn failure(self) -> Failure {
        let place = usize::try_from(self.code).ok();
        let (name, retryable) = place.and_then(|place| CODES.get(place)).copied().unwrap_or(("UNKNOWN", false));
        let retry = match (retryable, self.delay) {
            (_, None) if self.is_too_large() => Retry::Smaller,
            (true, None) => Retry::Backoff,
            (true, Some(delay)) => Retry::After(delay),
            (false, Some(delay)) if self.code == RESOURCE_EXHAUSTED => Retry::After(delay),
            (false, _) => Retry::Never,
        };
        let reason = match self.message.is_empty() {
            true => format!("the peer answered {name}"),
            false => format!("the peer answered {name}: {}", line(&self.message)),
        };
        Failure { cause: Cow::Borrowed(name), reason, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_transport::answer::{Any, ProtoDuration, RetryInfo};

    fn details(seconds: i64) -> String {
        let info = RetryInfo { retry_delay: Some(ProtoDuration { seconds, nanos: 0 }) };
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info.encode_to_vec() };
        let status = RpcStatus { code: 8, message: String::new(), details: vec![any] };
        base64::engine::general_purpose::STANDARD.encode(status.encode_to_vec())
    }

    fn failure(code: &str, message: &str, details: Option<&str>) -> Failure {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", code.parse().unwrap());
        headers.insert("grpc-message", message.parse().unwrap());
        if let Some(details) = details {
            headers.insert("grpc-status-details-bin", details.parse().unwrap());
        }
        Status::find(&headers).unwrap().failure()
    }

    #[test]
    fn the_retry_table_of_the_specification() {
        let repeated = [1, 4, 10, 11, 14, 15];
        for code in 1..=16 {
            let retry = failure(&code.to_string(), "", None).retry;
            assert_eq!(retry, if repeated.contains(&code) { Retry::Backoff } else { Retry::Never }, "{code}");
        }
        for odd in ["99", "-1", "x", ""] {
            assert_eq!(failure(odd, "", None).retry, Retry::Never, "{odd}");
        }
    }

    #[test]
    fn hints_and_messages() {
        let hint = details(7);
        assert_eq!(failure("8", "", Some(&hint)).retry, Retry::After(Duration::from_secs(7)));
        assert_eq!(failure("14", "", Some(hint.trim_end_matches('='))).retry, Retry::After(Duration::from_secs(7)));
        assert_eq!(failure("3", "", Some(&hint)).retry, Retry::Never);
        assert_eq!(failure("14", "", Some("!!!")).retry, Retry::Backoff, "details that cannot be read are no hint");
        assert_eq!(failure("8", "", None).retry, Retry::Never);
        assert_eq!(failure("8", "too%20much%", None).reason, "the peer answered RESOURCE_EXHAUSTED: too much%");
    }

    #[test]
    fn a_limit_on_messages_is_told_by_the_words_of_the_servers() {
        for (code, words) in [
            ("8", "grpc: received message larger than max (5000012 vs. 4194304)"),
            ("8", "CLIENT: Received message larger than max (5000012 vs. 4194304)"),
            ("8", "gRPC message exceeds maximum size 4194304: 5000012"),
            ("8", "Received message exceeds the maximum configured message size."),
            ("11", "Error, decoded message length too large: found 5000012 bytes, the limit is: 4194304 bytes"),
        ] {
            assert_eq!(failure(code, words, None).retry, Retry::Smaller, "{words}");
        }
        let hint = details(7);
        assert_eq!(failure("8", "the queue is too large", Some(&hint)).retry, Retry::After(Duration::from_secs(7)));
        assert_eq!(failure("3", "too large", None).retry, Retry::Never);
        assert_eq!(failure("14", "too large", None).retry, Retry::Backoff);
        let proxy = Status::of_http(StatusCode::PAYLOAD_TOO_LARGE).failure();
        assert_eq!((&*proxy.cause, proxy.retry), ("RESOURCE_EXHAUSTED", Retry::Smaller));
    }
}
