//! `phoenix health`: whether a running agent is ready, for a container that has no shell and no `curl`.
//!
//! Status 0 if the page of `health_check` says 200, else 1. What a component complains about is said either way.

use std::time::Duration;

use serde_json::Value;

use super::client::Call;

/// Where `health_check` is by default.
pub(super) const DEFAULT_ENDPOINT: &str = "localhost:13133";
/// A probe gives up after a few seconds; so does this one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the agent at `endpoint` (`[http://]host:port[/path]`).
///
/// # Errors
/// Nobody answers, or the agent is not ready.
pub(super) fn ask(endpoint: Option<&str>) -> Result<String, String> {
    let endpoint = endpoint.unwrap_or(DEFAULT_ENDPOINT);
    let plain = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    if plain.starts_with("https://") {
        return Err("phoenix health does not speak TLS; ask a page without it, on a loopback address".to_owned());
    }
    let (address, path) = match plain.find('/') {
        Some(at) => plain.split_at(at),
        None => (plain, "/"),
    };
    let answer = Call::get(address, path, PATIENCE).ask();
    let answer = answer.map_err(|why| {
        format!("{why}; is the agent running, and is its health_check at another endpoint? --endpoint names it")
    })?;
    let text = worded(&answer.body);
    if answer.status == 200 { Ok(text) } else { Err(text) }
}

/// The page in words: the state, and every component that is not at work or has an error.
fn worded(body: &str) -> String {
    let Ok(page) = serde_json::from_str::<Value>(body) else {
        // A fixed body for probes (`response_body`).
        return format!("{}\n", body.trim());
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut out = format!("{}\n", text(&page, "status"));
    for (name, component) in page.get("components").and_then(Value::as_object).into_iter().flatten() {
        let (state, error) = (text(component, "status"), text(component, "error"));
        if state != "ok" {
            let colon = if error.is_empty() { "" } else { ": " };
            out.push_str(&format!("  {name} {state}{colon}{error}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_worded_and_a_fixed_body_is_shown_as_it_is() {
        let page = r#"{"status":"degraded","components":{
            "exporters:otlp":{"status":"recoverable error","error":"connection refused"},
            "receivers:hostmetrics":{"status":"ok"},"receivers:otlp":{"status":"starting"}}}"#;
        let expected = "degraded\n  exporters:otlp recoverable error: connection refused\n  receivers:otlp starting\n";
        assert_eq!(worded(page), expected);
        assert_eq!(worded(" good\n"), "good\n");
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_flag() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ask(Some(&format!("http://{free}/x"))).unwrap_err();
        assert!(error.contains("nobody answers") && error.contains("--endpoint"), "{error}");
        assert!(ask(Some("https://localhost:1")).unwrap_err().contains("TLS"));
    }
}
