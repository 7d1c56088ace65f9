//! The admin endpoint: shows why an entity is or is not there, shows the profile at work, and changes it; for browsers
//! there is a page.
//!
//! It is there without being asked for, on loopback. What it may do for whom is decided in [`guard`]; what it does is
//! done elsewhere: here are only the questions and the answers, which are JSON.

mod entities;
mod guard;
mod page;
mod routes;

use std::sync::Arc;

use phoenix_pipeline::config::{Report, Secret, Settings};
use phoenix_pipeline::{BuildError, PageServer, serve_requests};
use phoenix_transport::tls::{Acceptor, ServerTlsSettings};
use serde::{Deserialize, Serialize};

use crate::service::Shared;
use guard::Guard;

/// The address without being asked: the port where the Collector has its own debugging pages.
pub const DEFAULT_ENDPOINT: &str = "localhost:55679";
/// The configuration key that moves the endpoint.
const KEY: &str = "service::admin::endpoint";

/// `service.admin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it is served. On, so that an agent can be asked when something is odd.
    pub enabled: bool,
    /// `host:port`; "" = not served. Loopback unless asked otherwise.
    pub endpoint: String,
    /// TLS; plain text where it is not set. The agent's own commands (`phoenix top`) then do not reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSettings>,
    /// What requests must carry (`Authorization: Bearer TOKEN`). None by default: on loopback whoever is on the host may
    /// ask; beyond it nothing is changed without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Whether somebody wrote the endpoint down, so that a taken port is an error and no warning.
    #[serde(skip)]
    pub named: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, endpoint: DEFAULT_ENDPOINT.into(), tls: None, token: None, named: false }
    }
}

impl Config {
    /// Whether there is to be an endpoint.
    pub fn wanted(&self) -> bool {
        self.enabled && !self.endpoint.is_empty()
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if !self.endpoint.is_empty() && !self.endpoint.contains(':') {
            report.error("endpoint", format!("must be host:port, such as {DEFAULT_ENDPOINT}, or empty to turn it off"));
        }
        if let Some(tls) = &self.tls {
            report.within("tls", |report| tls.check(report));
        }
        if self.token.as_ref().is_some_and(Secret::is_empty) {
            report.error("token", "is empty; set it, or take the key out");
        }
    }
}

/// Serves the endpoint; `None` if nobody named it and its port is taken, which is warned of.
///
/// # Errors
/// An endpoint that was named cannot be listened on, or the TLS files cannot be used.
pub fn serve(config: &Config, shared: &Shared) -> Result<Option<PageServer>, BuildError> {
    let listener = match shared.listeners.bind(&config.endpoint, KEY) {
        Ok(listener) => listener,
        Err(error) if config.named => return Err(error),
        Err(error) => {
            tracing::warn!("there is no admin endpoint: {error}");
            return Ok(None);
        }
    };
    let secured = Acceptor::of_page(config.tls.as_ref(), "tls", &shared.site_of_page("service:admin"))?;
    let host = config.endpoint.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let scheme = if secured.is_some() { "https" } else { "http" };
    let guard = Guard { address: listener.address(), host, scheme, token: config.token.clone() };
    let routes = Arc::new(routes::Routes {
        guard,
        profiles: shared.profiles.clone(),
        explain: shared.explain.clone(),
        control: shared.control.clone(),
        clock: shared.clock.clone(),
        metrics: shared.metrics.clone(),
        estimates: shared.estimates.clone(),
        version: shared.version,
    });
    let handler = Arc::new(move |request| routes::answer(Arc::clone(&routes), request));
    let server = serve_requests(&shared.runtime, &listener, secured, handler);
    server.map(Some).map_err(|error| BuildError::Failed(format!("the admin endpoint: {error}")))
}
