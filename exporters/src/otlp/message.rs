//! What a peer that took a request says about it, binary and JSON. The messages are the transport room's.

pub use phoenix_transport::answer::{ExportMetricsServiceResponse, RpcStatus, line};
use prost::Message;
use serde::Deserialize;

use crate::sending::Accepted;

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

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_transport::answer::ExportMetricsPartialSuccess;

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
}
