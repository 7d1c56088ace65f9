//! What peers answer: the response of an export, `google.rpc.Status` and the retry hint in it, binary and JSON.

use std::time::Duration;

use prost::Message;
use serde::Deserialize;

use crate::sending::Accepted;

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
#[derive(Clone, PartialEq, Message, Deserialize)]
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

/// The JSON form of [`ExportMetricsServiceResponse`]; unknown keys are ignored, as OTLP asks.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonResponse {
    partial_success: Option<JsonPartialSuccess>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPartialSuccess {
    rejected_data_points: serde_json::Value,
    error_message: String,
}

/// Reads the protobuf answer to a request that was taken.
///
/// # Errors
/// What is wrong with it. The data was taken all the same.
pub fn accepted_proto(body: &[u8]) -> Result<Accepted, String> {
    let response = ExportMetricsServiceResponse::decode(body).map_err(|error| error.to_string())?;
    let partial = response.partial_success.unwrap_or_default();
    Ok(accepted(partial.rejected_data_points, partial.error_message))
}

/// The same for a JSON answer.
///
/// # Errors
/// What is wrong with it. The data was taken all the same.
pub fn accepted_json(body: &[u8]) -> Result<Accepted, String> {
    let response: JsonResponse = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let partial = response.partial_success.unwrap_or_default();
    let rejected = match &partial.rejected_data_points {
        serde_json::Value::Null => 0,
        serde_json::Value::String(text) => text.parse().map_err(|_| format!("rejectedDataPoints is {text:?}"))?,
        number => number.as_i64().ok_or_else(|| format!("rejectedDataPoints is {number}"))?,
    };
    Ok(accepted(rejected, partial.error_message))
}

fn accepted(rejected: i64, message: String) -> Accepted {
    let rejected = u64::try_from(rejected).unwrap_or(0);
    let message = match (rejected, message.is_empty()) {
        (0, true) => String::new(),
        (0, false) => format!("a warning: {}", line(&message)),
        (_, true) => format!("{rejected} data points were rejected"),
        (_, false) => format!("{rejected} data points were rejected: {}", line(&message)),
    };
    Accepted { rejected, message }
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

    #[test]
    fn answers_are_read_in_both_encodings() {
        let partial = ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "too\nold".into() };
        let proto = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let expected = Accepted { rejected: 3, message: "3 data points were rejected: too old".into() };
        assert_eq!(accepted_proto(&proto), Ok(expected.clone()));
        for json in [
            r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}"#,
            r#"{"partialSuccess":{"rejectedDataPoints":3,"errorMessage":"too old"},"new":1}"#,
        ] {
            assert_eq!(accepted_json(json.as_bytes()), Ok(expected.clone()));
        }
        assert_eq!(accepted_json(b"{}"), Ok(Accepted::default()));
        assert_eq!(accepted_proto(b""), Ok(Accepted::default()));
        let warning = accepted_json(br#"{"partialSuccess":{"errorMessage":"slow down"}}"#).unwrap();
        assert_eq!(warning, Accepted { rejected: 0, message: "a warning: slow down".into() });
        assert!(accepted_json(br#"{"partialSuccess":{"rejectedDataPoints":"x"}}"#).is_err());
        assert!(accepted_json(b"<html>").is_err());
        assert!(accepted_proto(b"<html>").is_err());
    }

    #[test]
    fn the_retry_hint_is_found_among_the_details() {
        let info = RetryInfo { retry_delay: Some(ProtoDuration { seconds: 2, nanos: 500_000_000 }) };
        let other = Any { type_url: "type.googleapis.com/google.rpc.Help".into(), value: vec![1] };
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info.encode_to_vec() };
        let status = RpcStatus { code: 14, message: String::new(), details: vec![other.clone(), any] };
        assert_eq!(status.retry_delay(), Some(Duration::from_millis(2500)));
        assert_eq!(RpcStatus { details: vec![other], ..status }.retry_delay(), None);
    }

    #[test]
    fn a_strangers_text_stays_one_line() {
        assert_eq!(line(" a\u{1b}[31m\nb "), "a [31m b");
        assert_eq!(line(&"x".repeat(1000)).chars().count(), 301);
    }
}
