//! `basicauth`: a name and a password for exporters to send.
//!
//! The other half of the Collector's extension, `htpasswd` for receivers, is refused: checking a password costs as much
//! time by design as a thousand requests, and anybody could ask for it. Receivers take tokens or client certificates.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use phoenix_pipeline::auth::ClientAuth;
use phoenix_pipeline::config::{Report, Secret, Settings, Value};
use phoenix_pipeline::{BuildError, Extension, ExtensionFactory, Site, Stability};
use serde::{Deserialize, Serialize};

use super::rotating::Rotating;
use super::{Offer, header_value};

/// The `basicauth` extension.
pub const FACTORY: ExtensionFactory =
    ExtensionFactory::new::<Config>("basicauth", "A name and a password that exporters send", Stability::Beta, build);

/// Settings of `basicauth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What exporters send. Required.
    pub client_auth: Client,
    /// What receivers would check; not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<serde_yaml::Value>,
}

/// `client_auth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// The name. This or `username_file` is required; a colon is not allowed in it.
    pub username: String,
    /// A file with the name, read every second; it outweighs `username`.
    pub username_file: String,
    /// The password.
    pub password: Secret,
    /// A file with the password, read every second; it outweighs `password`.
    pub password_file: String,
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.htpasswd.is_some() {
            report.error("htpasswd", "receivers do not check passwords: use bearertokenauth, or tls.client_ca_file");
        }
        let client = &self.client_auth;
        if client.username.is_empty() && client.username_file.is_empty() {
            report.error("client_auth", "there is no name to send: set username or username_file");
        }
        if let Err(why) = name(&client.username) {
            report.error("client_auth.username", why);
        }
    }
}

/// A name that can be told from the password behind it.
fn name(text: &str) -> Result<String, String> {
    if text.contains(':') { Err("a colon is not allowed in the name".into()) } else { Ok(text.to_owned()) }
}

fn build(config: &Value, site: &Site) -> Result<Box<dyn Extension>, BuildError> {
    let Client { username, username_file, password, password_file } = site.settings::<Config>(config)?.client_auth;
    let username = match username_file.as_str() {
        "" => Rotating::fixed(username),
        file => Rotating::file(file, site, Box::new(name))?,
    };
    let password = match password_file.as_str() {
        "" => Rotating::fixed(password),
        file => Rotating::file(file, site, Box::new(|text| Ok(Secret::new(text))))?,
    };
    Ok(Offer::client(Basic { username, password }))
}

struct Basic {
    username: Arc<Rotating<String>>,
    password: Arc<Rotating<Secret>>,
}

impl ClientAuth for Basic {
    fn apply(&self, headers: &mut HeaderMap) {
        let pair = STANDARD.encode(format!("{}:{}", self.username.current(), self.password.current().reveal()));
        // Base64 is always a header value.
        if let Ok(value) = header_value(&format!("Basic {pair}")) {
            headers.insert(header::AUTHORIZATION, value);
        }
    }
}
