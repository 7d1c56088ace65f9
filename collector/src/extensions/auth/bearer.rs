//! `bearertokenauth`: a token in a header, for exporters to send and for receivers to ask for.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use phoenix_pipeline::auth::{Authenticator, ClientAuth, ServerAuth, Unauthenticated};
use phoenix_pipeline::config::{Report, Secret, Settings, Value};
use phoenix_pipeline::{BuildError, Extension, ExtensionFactory, Site, Stability};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::rotating::Rotating;
use super::{Offer, header_value};

/// The `bearertokenauth` extension.
pub const FACTORY: ExtensionFactory = ExtensionFactory::new::<Config>(
    "bearertokenauth",
    "A token that exporters send and receivers ask for",
    Stability::Beta,
    build,
);

/// Settings of `bearertokenauth`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The header the token stands in. Default Authorization.
    pub header: String,
    /// What stands before the token. Default Bearer; "" = nothing, as in `api-key: TOKEN`.
    pub scheme: String,
    /// The token.
    pub token: Secret,
    /// Several tokens: receivers take each of them, exporters send the first.
    pub tokens: Vec<Secret>,
    /// A file with a token on each line, read every second; it outweighs `token` and `tokens`.
    pub filename: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            header: "Authorization".into(),
            scheme: "Bearer".into(),
            token: Secret::default(),
            tokens: Vec::new(),
            filename: String::new(),
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if HeaderName::try_from(&self.header).is_err() {
            report.error("header", "is no header name: letters, digits and dashes are allowed");
        }
        if !self.token.is_empty() && !self.tokens.is_empty() {
            report.error("tokens", "token is set too: only one of the two is allowed");
        }
        if self.filename.is_empty() && self.token.is_empty() && self.tokens.is_empty() {
            report.error("", "there is no token: set token, tokens or filename");
        }
        let lone = ("token", &self.token);
        for (key, token) in self.tokens.iter().map(|token| ("tokens", token)).chain([lone]) {
            if let Err(why) = self.value(token) {
                report.error(key, why);
            }
        }
        if self.tokens.iter().any(Secret::is_empty) {
            report.error("tokens", "one of them is empty");
        }
    }
}

impl Config {
    fn value(&self, token: &Secret) -> Result<HeaderValue, String> {
        value(&self.scheme, token.reveal())
    }
}

fn value(scheme: &str, token: &str) -> Result<HeaderValue, String> {
    match scheme {
        "" => header_value(token),
        scheme => header_value(&format!("{scheme} {token}")),
    }
}

fn build(config: &Value, site: &Site) -> Result<Box<dyn Extension>, BuildError> {
    let config: Config = site.settings(config)?;
    let header = HeaderName::try_from(&config.header).map_err(|error| format!("header: {error}"))?;
    let tokens = if config.filename.is_empty() {
        let one = (!config.token.is_empty()).then_some(&config.token);
        let all: Result<Vec<_>, _> = config.tokens.iter().chain(one).map(|token| config.value(token)).collect();
        Rotating::fixed(all?)
    } else {
        let scheme = config.scheme;
        let lines = move |text: &str| {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(|line| value(&scheme, line)).collect::<Result<Vec<_>, _>>()
        };
        Rotating::file(&config.filename, site, Box::new(lines))?
    };
    let bearer = Arc::new(Bearer { header, tokens });
    Ok(Box::new(Offer(Authenticator { client: Some(Arc::clone(&bearer) as _), server: Some(bearer) })))
}

/// The values the header may have.
pub(super) struct Bearer {
    pub(super) header: HeaderName,
    pub(super) tokens: Arc<Rotating<Vec<HeaderValue>>>,
}

impl ClientAuth for Bearer {
    fn apply(&self, headers: &mut HeaderMap) {
        if let Some(first) = self.tokens.current().first() {
            headers.insert(self.header.clone(), first.clone());
        }
    }
}

impl ServerAuth for Bearer {
    fn check(&self, headers: &HeaderMap) -> Result<(), Unauthenticated> {
        let sent = headers.get(&self.header).ok_or(Unauthenticated("the request carries no token"))?;
        // All are compared, so that the time does not tell which one was near.
        let tokens = self.tokens.current();
        let right =
            tokens.iter().fold(subtle::Choice::from(0), |right, token| right | token.as_bytes().ct_eq(sent.as_bytes()));
        if bool::from(right) { Ok(()) } else { Err(Unauthenticated("the request's token is not known here")) }
    }
}
