//! `file_storage`: where the sending queues of exporters lie on disk, and how safely.
//!
//! The keys are the Collector's. It opens nothing itself: each exporter that names it in `sending_queue.storage` has a
//! directory of its own below this one. What lies there of exporters that are gone is never deleted.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use phoenix_pipeline::config::{self, Report, Settings, Value};
use phoenix_pipeline::storage::Storage;
use phoenix_pipeline::{BoxFuture, BuildError, Extension, ExtensionFactory, Site, Stability};
use serde::{Deserialize, Serialize};

/// The table entry.
pub const FACTORY: ExtensionFactory =
    ExtensionFactory::new::<FileStorage>("file_storage", "Sending queues on disk", Stability::Beta, build);

/// Settings of `file_storage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileStorage {
    /// Where the queues lie. Default: below the agent's state directory.
    pub directory: Option<PathBuf>,
    /// How long the Collector waits for a file's lock. No effect: a queue that is held is tried again until it is free.
    #[serde(with = "config::duration")]
    pub timeout: Duration,
    /// Whether each write is on the medium before it is acknowledged. Default false, as in the Collector:
    /// `fsync_interval` bounds what power loss may cost.
    pub fsync: bool,
    /// Without `fsync`, the longest that written data may wait for the medium. Default 100ms: a disk that is asked ten times
    /// a second is hardly slower than one that is never asked. A killed agent loses nothing either way. Phoenix's own key.
    #[serde(with = "config::duration")]
    pub fsync_interval: Duration,
    /// Age at which data that could not be sent is given up; 0s = never, the default: the queue's size is the limit.
    /// Phoenix's own key.
    #[serde(with = "config::duration")]
    pub max_age: Duration,
    /// Whether a missing directory is made. Default false, as in the Collector. The default directory is always made.
    pub create_directory: bool,
    /// With which mode, in octal. Default 0750, as in the Collector. Queues in it are 0700, their files 0600.
    pub directory_permissions: String,
    /// Whether the Collector begins anew when its file is damaged. No effect: damage is set aside and the rest is kept.
    pub recreate: bool,
    /// When the Collector makes its file smaller. No effect: space is freed by the segment.
    pub compaction: Compaction,
}

impl Default for FileStorage {
    fn default() -> Self {
        FileStorage {
            directory: None,
            timeout: Duration::from_secs(1),
            fsync: false,
            fsync_interval: Duration::from_millis(100),
            max_age: Duration::ZERO,
            create_directory: false,
            directory_permissions: "0750".into(),
            recreate: false,
            compaction: Compaction::default(),
        }
    }
}

impl FileStorage {
    fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.directory_permissions, 8).ok().filter(|mode| *mode <= 0o777)
    }

    /// Keys that say something and change nothing.
    fn without_effect(&self) -> Vec<&'static str> {
        let default = FileStorage::default();
        let keys = [
            ("timeout", self.timeout != default.timeout),
            ("recreate", self.recreate),
            ("compaction", self.compaction != default.compaction),
        ];
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }
}

impl Settings for FileStorage {
    fn check(&self, report: &mut Report<'_>) {
        if self.directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty()) {
            report.error("directory", "must not be empty: leave it out for a place in the state directory");
        }
        if self.mode().is_none() {
            report.error("directory_permissions", "must be a mode in octal, such as 0750");
        }
    }
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Extension>, BuildError> {
    let settings: FileStorage = site.settings(value)?;
    let unused = settings.without_effect();
    if !unused.is_empty() {
        tracing::info!(extension = %site.id, "accepted, without effect here: {}", unused.join(", "));
    }
    let (directory, make, mode) = match &settings.directory {
        Some(directory) => (directory.clone(), settings.create_directory, settings.mode().unwrap_or(0o700)),
        None => match &site.state {
            Some(state) => (state.to_path_buf(), true, 0o700),
            None => {
                return Err(
                    "file_storage.directory: the agent has no state directory, so a directory must be named".into()
                );
            }
        },
    };
    let shown = directory.display();
    if make {
        let made = DirBuilder::new().recursive(true).mode(mode).create(&directory);
        made.map_err(|error| format!("file_storage.directory: {shown} cannot be made: {error}"))?;
    } else if !directory.is_dir() {
        return Err(format!("file_storage.directory: {shown} is no directory; create_directory: true makes it").into());
    }
    let fsync = if settings.fsync { Duration::ZERO } else { settings.fsync_interval };
    let max_age = Some(settings.max_age).filter(|age| !age.is_zero());
    Ok(Box::new(Offered(Storage { directory, fsync: Some(fsync), max_age })))
}

/// The extension: what it offers.
struct Offered(Storage);

impl Extension for Offered {
    fn storage(&self) -> Option<Storage> {
        Some(self.0.clone())
    }

    fn shutdown(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

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
    #[serde(with = "config::duration")]
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

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_pipeline::config::parse;
    use std::os::unix::fs::PermissionsExt;

    fn built(yaml: &str, state: Option<PathBuf>) -> Result<Storage, String> {
        let site = Site { state: state.map(|state| state.as_path().into()), ..Site::for_test("file_storage") };
        let extension =
            (FACTORY.build)(&parse("test.yaml", yaml).unwrap(), &site).map_err(|error| error.to_string())?;
        Ok(extension.storage().unwrap())
    }

    #[test]
    fn without_a_directory_it_lies_below_the_state() {
        let room = tempfile::tempdir().unwrap();
        let place = room.path().join("extension_file_storage");
        let storage = built("{}", Some(place.clone())).unwrap();
        let expected = Storage { directory: place.clone(), fsync: Some(Duration::from_millis(100)), max_age: None };
        assert_eq!(storage, expected);
        assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(built("{}", None).unwrap_err().contains("no state directory"));
    }

    #[test]
    fn a_named_directory_is_made_only_if_asked_and_fsync_means_at_once() {
        let room = tempfile::tempdir().unwrap();
        let place = room.path().join("a/b");
        let yaml = |more: &str| format!("directory: {}\n{more}", place.display());
        assert!(built(&yaml(""), None).unwrap_err().contains("is no directory"));
        let storage = built(&yaml("create_directory: true\nfsync: true\nmax_age: 1h"), None).unwrap();
        assert_eq!((storage.fsync, storage.max_age), (Some(Duration::ZERO), Some(Duration::from_secs(3600))));
        assert!(place.is_dir());
        assert!(built(&yaml("directory_permissions: rwx"), None).unwrap_err().contains("a mode in octal"));
    }
}
