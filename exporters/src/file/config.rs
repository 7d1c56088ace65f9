//! The settings of the `file` exporter: the Collector's keys, each default with its reason.

use std::path::PathBuf;
use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

/// Settings of the `file` exporter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file. Required. Created with mode 0600: metrics of processes are nobody else's business.
    pub path: PathBuf,
    /// How a batch is written. `json`, as with the Collector: readable.
    pub format: Format,
    /// Whether each batch is compressed by itself. `none`, as with the Collector: readable.
    pub compression: Compression,
    /// Adds to a file that is there. Off, as with the Collector: the file is emptied at the start, unless it rotates.
    pub append: bool,
    /// Keeps older parts of the file. Not set, as with the Collector: one file that grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// How long written data may wait in memory. 1s, as with the Collector; data counts as delivered only when it has
    /// been written to the file.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub flush_interval: Duration,
    /// Creates the directory of the file. Off, as with the Collector: a mistyped path is then an error.
    pub create_directory: bool,
    /// Octal mode of a directory that is created, before the umask. 0755 where it is created, as with the Collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory_permissions: Option<String>,
    /// Not served: a file for every value of a resource attribute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<GroupBy>,
    /// Not served: an encoding extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            format: Format::Json,
            compression: Compression::None,
            append: false,
            rotation: None,
            flush_interval: Duration::from_secs(1),
            create_directory: false,
            directory_permissions: None,
            group_by: None,
            encoding: None,
        }
    }
}

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// OTLP JSON, a line each; with compression length-prefixed.
    Json,
    /// OTLP protobuf, each after its length as four bytes, most significant first.
    Proto,
}

/// How a batch is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[serde(alias = "")]
    None,
    /// Each batch as a zstd frame, after its length as four bytes, most significant first.
    Zstd,
}

/// When the file is set aside, and how much is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// Size at which the file is set aside, in MiB. 100, as with the Collector.
    pub max_megabytes: u64,
    /// Days after which a file set aside is deleted; 0 means never. 0, as with the Collector.
    pub max_days: u64,
    /// Most files set aside that are kept; 0 means all. 100, as with the Collector.
    pub max_backups: usize,
    /// Not served: names of files set aside are in UTC, the Collector's default.
    pub localtime: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_megabytes: 100, max_days: 0, max_backups: 100, localtime: false }
    }
}

/// The Collector's settings for a file per resource attribute; only switched off here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupBy {
    /// Must be false.
    pub enabled: bool,
    /// Without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_attribute: Option<String>,
    /// Without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_open_files: Option<u64>,
}

impl Config {
    /// The mode of a directory that is created.
    ///
    /// # Errors
    /// What the text is instead of an octal mode.
    pub(crate) fn directory_mode(&self) -> Result<u32, String> {
        let text = self.directory_permissions.as_deref().unwrap_or("0755");
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => Ok(mode),
            _ => Err(format!("{text:?} is no octal mode up to \"0777\"")),
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.path.as_os_str().is_empty() {
            report.error("path", "is required: the file to write to");
        }
        if self.append && self.rotation.is_some() {
            report.error("append", "goes without rotation: a file that rotates is always added to");
        }
        if self.append && self.compression != Compression::None {
            report.error("append", "goes without compression");
        }
        if self.flush_interval.is_zero() {
            report.error("flush_interval", "must be more than 0s");
        }
        if self.directory_permissions.is_some() && !self.create_directory {
            report.error("directory_permissions", "needs create_directory: true");
        }
        if let Err(why) = self.directory_mode() {
            report.error("directory_permissions", why);
        }
        if let Some(rotation) = &self.rotation {
            if rotation.max_megabytes == 0 {
                report.error("rotation.max_megabytes", "must be more than 0");
            }
            if rotation.localtime {
                report.error("rotation.localtime", "is not served: names of rotated files are in UTC; remove the key");
            }
        }
        if self.group_by.as_ref().is_some_and(|group_by| group_by.enabled) {
            report.error("group_by", "is not served: use an exporter per file, with a filter before each");
        }
        if self.encoding.is_some() {
            report.error("encoding", "is not served: use format, which is json or proto");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Config, String> {
        crate::testing::read(yaml)
    }

    #[test]
    fn the_collectors_examples_are_read() {
        assert_eq!(
            read("path: ./foo\nrotation:\n").unwrap().rotation,
            Some(Rotation::default()),
            "an empty block is there"
        );
        let full = read("path: ./foo\nrotation: {max_megabytes: 10, max_days: 3, max_backups: 3}\nformat: proto\ncompression: zstd\n").unwrap();
        assert_eq!((full.format, full.compression), (Format::Proto, Compression::Zstd));
        let made =
            read("path: ./foo\ncreate_directory: true\ndirectory_permissions: \"0700\"\nflush_interval: 5s\n").unwrap();
        assert_eq!((made.directory_mode(), made.flush_interval), (Ok(0o700), Duration::from_secs(5)));
    }

    #[test]
    fn what_cannot_be_is_said_all_at_once() {
        let mistakes = read(
            "append: true\ncompression: zstd\nrotation: {max_megabytes: 0, localtime: true}\nflush_interval: 0s\ndirectory_permissions: \"0999\"\ngroup_by: {enabled: true}\nencoding: otlp_json\n",
        )
        .unwrap_err();
        for word in [
            "path",
            "without rotation",
            "without compression",
            "max_megabytes",
            "localtime",
            "flush_interval",
            "create_directory",
            "octal",
            "group_by",
            "encoding",
        ] {
            assert!(mistakes.contains(word), "{word}: {mistakes}");
        }
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let yaml =
            "path: \"\"\nformat: json\ncompression: none\nappend: false\nflush_interval: 1s\ncreate_directory: false\n";
        assert_eq!(serde_yaml::from_str::<Config>(yaml).unwrap(), Config::default());
    }
}
