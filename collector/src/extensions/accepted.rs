//! Extensions that are accepted and not served yet. Their keys and defaults are the Collector's, so a typing mistake in
//! them is found all the same.

use phoenix_pipeline::config::{Settings, Value};
use phoenix_pipeline::{BoxFuture, BuildError, Extension, ExtensionFactory, Site, Stability};
use serde::{Deserialize, Serialize};

/// An extension that does nothing.
struct Accepted;

impl Extension for Accepted {
    fn shutdown(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Checks the settings, says once what is missing, and does nothing.
fn accept<S: Settings>(value: &Value, site: &Site, missing: &str) -> Result<Box<dyn Extension>, BuildError> {
    let _: S = site.settings(value)?;
    tracing::warn!(extension = %site.id, "accepted, but not served yet: {missing}");
    Ok(Box::new(Accepted))
}

/// Debug pages of the pipelines.
pub const ZPAGES: ExtensionFactory = ExtensionFactory::new::<ZPages>(
    "zpages",
    "Debug pages (accepted, not served yet)",
    Stability::Alpha,
    |value, site| accept::<ZPages>(value, site, "there are no debug pages"),
);

/// Settings of `zpages`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZPages {
    /// Where the pages are served.
    pub endpoint: String,
    /// Whether /debug/expvarz is among them.
    pub expvar: Enabled,
}

impl Default for ZPages {
    fn default() -> Self {
        // The Collector's port.
        ZPages { endpoint: "localhost:55679".into(), expvar: Enabled::default() }
    }
}

impl Settings for ZPages {}

/// A switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enabled {
    /// On or off; off as in the Collector.
    pub enabled: bool,
}

/// Profiles of the process.
pub const PPROF: ExtensionFactory =
    ExtensionFactory::new::<PProf>("pprof", "Profiles (accepted, not served yet)", Stability::Alpha, |value, site| {
        accept::<PProf>(value, site, "there are no Go profiles of a Rust program")
    });

/// Settings of `pprof`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PProf {
    /// Where profiles are served.
    pub endpoint: String,
    /// One in this many blocking events is sampled.
    pub block_profile_fraction: i64,
    /// One in this many lock contentions is sampled.
    pub mutex_profile_fraction: i64,
    /// Where a CPU profile of the whole run is written.
    pub save_to_file: String,
}

impl Default for PProf {
    fn default() -> Self {
        // The Collector's values: served on its port, nothing sampled, nothing saved.
        PProf {
            endpoint: "localhost:1777".into(),
            block_profile_fraction: 0,
            mutex_profile_fraction: 0,
            save_to_file: String::new(),
        }
    }
}

impl Settings for PProf {}
