//! `health_check`: one page that says whether the agent is ready, and which component is not.
//!
//! 200 only when every component is at work; 503 while one is starting or stopping. A backend that is away does not
//! make the agent unready (restarting it would lose what it holds): the body says what is degraded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use phoenix_pipeline::config::{Report, Settings, Value};
use phoenix_pipeline::{
    BoxFuture, BuildError, Extension, ExtensionFactory, Health, PageServer, Site, Stability, StatusBoard, serve,
};
use phoenix_transport::tls::{Acceptor, ServerTlsSettings};
use serde::{Deserialize, Serialize};

/// The `health_check` extension.
pub const FACTORY: ExtensionFactory = ExtensionFactory::new::<Config>(
    "health_check",
    "Readiness of the agent and its components",
    Stability::Beta,
    build,
);

/// Settings of `health_check`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the page is served; loopback unless asked otherwise.
    pub endpoint: String,
    /// The page's path.
    pub path: String,
    /// Fixed bodies instead of the component list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<Bodies>,
    /// Without effect here as in the Collector: every component's state is on the page anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_collector_pipeline: Option<serde_yaml::Value>,
    /// TLS; plain text where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSettings>,
    /// Not served yet: whoever reaches the address may read the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<serde_yaml::Value>,
    /// Not served yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<serde_yaml::Value>,
    /// Not served yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<serde_yaml::Value>,
    /// Not served: the page takes no body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body_size: Option<serde_yaml::Value>,
    /// Not served: the page takes no body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_algorithms: Option<serde_yaml::Value>,
    /// Not served: nothing of a request is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_metadata: Option<serde_yaml::Value>,
    /// Not served: the page has bounds of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_header_timeout: Option<serde_yaml::Value>,
    /// Not served: the page has bounds of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<serde_yaml::Value>,
    /// Not served: the page has bounds of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout: Option<serde_yaml::Value>,
    /// Not served: the page has bounds of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<serde_yaml::Value>,
}

impl Config {
    /// The keys of the Collector that are written and not served.
    fn unserved(&self) -> Vec<&'static str> {
        let keys = [
            ("check_collector_pipeline", &self.check_collector_pipeline),
            ("auth", &self.auth),
            ("cors", &self.cors),
            ("response_headers", &self.response_headers),
            ("max_request_body_size", &self.max_request_body_size),
            ("compression_algorithms", &self.compression_algorithms),
            ("include_metadata", &self.include_metadata),
            ("read_header_timeout", &self.read_header_timeout),
            ("read_timeout", &self.read_timeout),
            ("write_timeout", &self.write_timeout),
            ("idle_timeout", &self.idle_timeout),
        ];
        keys.into_iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key).collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        // The Collector's values, so that existing probes work.
        Config {
            endpoint: "localhost:13133".into(),
            path: "/".into(),
            response_body: None,
            check_collector_pipeline: None,
            tls: None,
            auth: None,
            cors: None,
            response_headers: None,
            max_request_body_size: None,
            compression_algorithms: None,
            include_metadata: None,
            read_header_timeout: None,
            read_timeout: None,
            write_timeout: None,
            idle_timeout: None,
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if !self.path.starts_with('/') {
            report.error("path", format!("must start with /, found {:?}", self.path));
        }
        if self.endpoint.is_empty() {
            report.error("endpoint", "must be host:port, such as localhost:13133");
        }
        if let Some(tls) = &self.tls {
            report.within("tls", |report| tls.check(report));
        }
    }
}

/// Fixed bodies, for probes that look for a word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bodies {
    /// With status 200.
    pub healthy: String,
    /// With status 503.
    pub unhealthy: String,
}

struct HealthCheck {
    server: Option<PageServer>,
}

impl Extension for HealthCheck {
    fn shutdown(&mut self) -> BoxFuture<'_, ()> {
        self.server = None;
        Box::pin(async {})
    }
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Extension>, BuildError> {
    let config: Config = site.settings(value)?;
    let unserved = config.unserved();
    if !unserved.is_empty() {
        tracing::warn!(extension = %site.id, keys = unserved.join(", "), "these keys are accepted and not served");
    }
    let listener = site.listeners.bind(&config.endpoint, &format!("extensions::{}::endpoint", site.id))?;
    let secured = Acceptor::of_page(config.tls.as_ref(), "tls", site)?;
    let board = site.status.board().clone();
    let page = move |head: &http::request::Parts| answer(&config, &board, head.uri.path());
    let server = serve(&site.runtime, &listener, secured, Arc::new(page)).map_err(|error| error.to_string())?;
    Ok(Box::new(HealthCheck { server: Some(server) }))
}

/// What the page says.
#[derive(Serialize)]
struct Body {
    status: &'static str,
    components: BTreeMap<String, Line>,
}

#[derive(Serialize)]
struct Line {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn answer(config: &Config, board: &StatusBoard, path: &str) -> Response<Bytes> {
    if path != config.path {
        return response(StatusCode::NOT_FOUND, "text/plain", format!("the health page is at {}\n", config.path));
    }
    let snapshot = board.snapshot();
    let (status, ready) = verdict(snapshot.values());
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if let Some(bodies) = &config.response_body {
        let body = if ready { &bodies.healthy } else { &bodies.unhealthy };
        return response(code, "text/plain", body.clone());
    }
    let components = snapshot.into_iter().map(|(component, health)| (component, line(health))).collect();
    // A map of strings always serialises.
    let body = serde_json::to_string_pretty(&Body { status, components }).unwrap_or_default();
    response(code, "application/json", body + "\n")
}

/// The whole in one word, and whether that is "ready".
fn verdict<'a>(all: impl Iterator<Item = &'a Health>) -> (&'static str, bool) {
    let (mut starting, mut stopping, mut degraded) = (false, false, false);
    for health in all {
        match health {
            Health::Starting => starting = true,
            Health::Stopping => stopping = true,
            Health::Recoverable(_) | Health::Permanent(_) => degraded = true,
            Health::Ok => {}
        }
    }
    match (stopping, starting, degraded) {
        (true, _, _) => ("stopping", false),
        (_, true, _) => ("starting", false),
        (_, _, true) => ("degraded", true),
        _ => ("ready", true),
    }
}

fn line(health: Health) -> Line {
    let (status, error) = match health {
        Health::Starting => ("starting", None),
        Health::Ok => ("ok", None),
        Health::Recoverable(why) => ("recoverable error", Some(why)),
        Health::Permanent(why) => ("permanent error", Some(why)),
        Health::Stopping => ("stopping", None),
    };
    Line { status, error }
}

fn response(code: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(board: &StatusBoard) -> (u16, serde_json::Value) {
        let response = answer(&Config::default(), board, "/");
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    #[test]
    fn ready_only_when_all_are_at_work_and_the_body_says_who_is_not() {
        let board = StatusBoard::default();
        let (scrape, send) = (board.status("receivers:hostmetrics"), board.status("exporters:otlp"));
        send.ok();
        let (code, body) = page(&board);
        assert_eq!((code, body["status"].as_str()), (503, Some("starting")));
        assert_eq!(body["components"]["receivers:hostmetrics"]["status"], "starting");
        scrape.ok();
        assert_eq!(page(&board).0, 200);
        send.recoverable("connection refused");
        let (code, body) = page(&board);
        assert_eq!((code, body["status"].as_str()), (200, Some("degraded")));
        assert_eq!(body["components"]["exporters:otlp"]["error"], "connection refused");
        scrape.stopping();
        assert_eq!(page(&board).0, 503);
    }

    #[test]
    fn fixed_bodies_and_other_paths() {
        let bodies = Bodies { healthy: "good".into(), unhealthy: "bad".into() };
        let config = Config { path: "/health".into(), response_body: Some(bodies), ..Config::default() };
        let board = StatusBoard::default();
        assert_eq!(answer(&config, &board, "/health").body(), "good");
        board.status("x").starting();
        assert_eq!(answer(&config, &board, "/health").body(), "bad");
        assert_eq!(answer(&config, &board, "/").status(), 404);
    }
}
