//! `headers_setter`: headers for exporters to send, from the configuration or from files that rotate.
//!
//! What the Collector's extension takes from the request that came in (`from_context`, `from_attribute`) is refused:
//! batches of many requests leave here as one.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use phoenix_pipeline::auth::ClientAuth;
use phoenix_pipeline::config::{Report, Secret, Settings, Value};
use phoenix_pipeline::{BuildError, Extension, ExtensionFactory, Site, Stability};
use serde::{Deserialize, Serialize};

use super::rotating::Rotating;
use super::{Offer, header_value};

/// The `headers_setter` extension.
pub const FACTORY: ExtensionFactory = ExtensionFactory::new::<Config>(
    "headers_setter",
    "Headers that exporters send, from files that rotate",
    Stability::Beta,
    build,
);

/// Settings of `headers_setter`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is done to the headers of each request, in this order. At least one.
    pub headers: Vec<Header>,
    /// Another authenticator to be asked as well; not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_auth: Option<String>,
}

/// One of `headers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Header {
    /// The header's name. Required.
    pub key: String,
    /// What is done to it.
    pub action: Action,
    /// The value. This or `value_file` is required, unless the header is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
    /// A file with the value, read every second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_file: Option<String>,
    /// A header of the request that came in; not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_context: Option<String>,
    /// An attribute of the caller's credentials; not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_attribute: Option<String>,
    /// For a header that did not come in; not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Secret>,
}

/// What is done to a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Set, whether it is there or not (default).
    #[default]
    Upsert,
    /// Set if it is not there.
    Insert,
    /// Set if it is there.
    Update,
    /// Taken out.
    Delete,
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.headers.is_empty() {
            report.error("headers", "there is no header to set: name at least one");
        }
        if self.additional_auth.is_some() {
            report.error("additional_auth", "one authenticator cannot call another here: set its header in `headers`");
        }
        for (place, header) in self.headers.iter().enumerate() {
            report.within(&format!("headers[{place}]"), |report| header.check(report));
        }
    }
}

impl Header {
    fn check(&self, report: &mut Report<'_>) {
        if HeaderName::try_from(&self.key).is_err() {
            report.error("key", "is no header name: letters, digits and dashes are allowed");
        }
        let context = [
            ("from_context", self.from_context.is_some()),
            ("from_attribute", self.from_attribute.is_some()),
            ("default_value", self.default_value.is_some()),
        ];
        for (key, set) in context {
            if set {
                report
                    .error(key, "what came in with a request is not known when data is sent: use value or value_file");
            }
        }
        match (&self.value, &self.value_file, self.action) {
            (Some(_), Some(_), _) => report.error("value_file", "value is set too: only one of the two is allowed"),
            (None, None, Action::Upsert | Action::Insert | Action::Update) => {
                report.error("", "there is no value: set value or value_file")
            }
            (Some(value), ..) => {
                if let Err(why) = header_value(value.reveal()) {
                    report.error("value", why);
                }
            }
            _ => {}
        }
    }
}

fn build(config: &Value, site: &Site) -> Result<Box<dyn Extension>, BuildError> {
    let config: Config = site.settings(config)?;
    let steps: Result<Vec<Step>, BuildError> = config.headers.iter().map(|header| step(header, site)).collect();
    Ok(Offer::client(Setter(steps?)))
}

fn step(header: &Header, site: &Site) -> Result<Step, BuildError> {
    let name = HeaderName::try_from(&header.key).map_err(|error| format!("key: {error}"))?;
    let value = match (&header.value, &header.value_file) {
        (_, Some(file)) => Some(Rotating::file(file, site, Box::new(header_value))?),
        (Some(value), None) => Some(Rotating::fixed(header_value(value.reveal())?)),
        (None, None) => None,
    };
    Ok(Step { name, action: header.action, value })
}

struct Step {
    name: HeaderName,
    action: Action,
    value: Option<Arc<Rotating<HeaderValue>>>,
}

struct Setter(Vec<Step>);

impl ClientAuth for Setter {
    fn apply(&self, headers: &mut HeaderMap) {
        for Step { name, action, value } in &self.0 {
            let there = headers.contains_key(name);
            match (action, value) {
                (Action::Delete, _) => drop(headers.remove(name)),
                (Action::Insert, _) if there => {}
                (Action::Update, _) if !there => {}
                (_, Some(value)) => drop(headers.insert(name, HeaderValue::clone(&value.current()))),
                (_, None) => {}
            }
        }
    }
}
