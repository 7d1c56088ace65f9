//! Extensions that are accepted and not served yet. Their keys and defaults are the Collector's, so a typing mistake in
//! them is found all the same.

use std::time::Duration;

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

/// Queues on disk.
pub const FILE_STORAGE: ExtensionFactory = ExtensionFactory::new::<FileStorage>(
    "file_storage",
    "Queues on disk (accepted, not served yet)",
    Stability::Alpha,
    |value, site| accept::<FileStorage>(value, site, "queues that name it are kept in memory"),
);

/// Settings of `file_storage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileStorage {
    /// Where the files lie.
    pub directory: String,
    /// How long to wait for a file's lock.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub timeout: Duration,
    /// Whether each write is forced to the medium.
    pub fsync: bool,
    /// Whether a missing directory is made.
    pub create_directory: bool,
    /// With which mode, in octal.
    pub directory_permissions: String,
    /// Whether a damaged file is set aside and begun anew.
    pub recreate: bool,
    /// When files are made smaller.
    pub compaction: Compaction,
}

impl Default for FileStorage {
    fn default() -> Self {
        // The Collector's values.
        FileStorage {
            directory: "/var/lib/otelcol/file_storage".into(),
            timeout: Duration::from_secs(1),
            fsync: false,
            create_directory: false,
            directory_permissions: "0750".into(),
            recreate: false,
            compaction: Compaction::default(),
        }
    }
}

impl Settings for FileStorage {}

/// Settings of `file_storage.compaction`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// At the start.
    pub on_start: bool,
    /// When a file has emptied again.
    pub on_rebound: bool,
    /// Where the smaller copy is written first.
    pub directory: String,
    /// Entries copied in one transaction.
    pub max_transaction_size: i64,
    /// A file must have grown beyond this many MiB.
    pub rebound_needed_threshold_mib: i64,
    /// And hold less than this many MiB now.
    pub rebound_trigger_threshold_mib: i64,
    /// How often that is looked at.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub check_interval: Duration,
    /// Whether copies that a crash left behind are removed.
    pub cleanup_on_start: bool,
}

impl Default for Compaction {
    fn default() -> Self {
        // The Collector's values.
        Compaction {
            on_start: false,
            on_rebound: false,
            directory: String::new(),
            max_transaction_size: 65_536,
            rebound_needed_threshold_mib: 100,
            rebound_trigger_threshold_mib: 10,
            check_interval: Duration::from_secs(5),
            cleanup_on_start: false,
        }
    }
}
