//! Settings of the `process` scraper: the Collector's keys, and the few of our own that guard secrets and memory.

use std::collections::BTreeMap;
use std::time::Duration;

use phoenix_pipeline::config::Report;
use serde::{Deserialize, Serialize};

use super::metrics::ROWS;
use crate::hostmetrics::catalog::{self, MetricsSettings, Naming};
use crate::hostmetrics::names::{self, name_list};

name_list!(
    /// Names of processes, as in `process.executable.name`.
    Names,
    names
);

/// What becomes of the arguments of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandLine {
    /// `process.command_line` and `process.command` without secrets. The default: command lines leave the host.
    #[default]
    Scrubbed,
    /// Both as they are, secrets included.
    Raw,
    /// No `process.command_line`; `process.command` without secrets.
    Off,
}

/// The switch of one resource attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttributeSettings {
    /// On or off; absent: the attribute's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Settings of the scraper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Switches per metric.
    pub metrics: MetricsSettings,
    /// Switches per resource attribute.
    pub resource_attributes: BTreeMap<String, AttributeSettings>,
    /// Only these processes. Default: all, as in the Collector.
    pub include: Names,
    /// Not these processes. Default: none is left out.
    pub exclude: Names,
    /// Processes younger than this are left out. Default: 0s, as in the Collector.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub scrape_process_delay: Duration,
    /// Says nothing of processes whose `stat` cannot be read. Default: false, as in the Collector: said once per cause.
    pub mute_process_name_error: bool,
    /// The same of `exe`.
    pub mute_process_exe_error: bool,
    /// The same of `io`.
    pub mute_process_io_error: bool,
    /// The same of the user in `status`.
    pub mute_process_user_error: bool,
    /// The same of `cgroup`.
    pub mute_process_cgroup_error: bool,
    /// The same of every file of a process.
    pub mute_process_all_errors: bool,
    /// What becomes of the arguments of a process. Default: scrubbed.
    pub command_line: CommandLine,
    /// No more processes than this are followed. Default: 100000, about 100 MB with ordinary command lines and three times the usual
    /// limit of process ids, so that only a runaway host meets it.
    pub max_processes: usize,
    /// So many files of processes stay open between scrapes, two for each process, four where it runs: a scrape then costs a fifth less.
    /// 0: none. Default: 4500, 2,250 processes at rest; each takes some 4 KB of kernel memory. Never more than half of RLIMIT_NOFILE.
    pub max_open_files: usize,
    /// Of processes that the pipeline folds and that do nothing, `io`, `status` and `fd` are read no more often than this; 0s: at
    /// every scrape, like those of all others. At most 2m, so that groups do not take a process for gone. Default: 0s, as the I/O
    /// that such a process does with less than a clock tick of CPU time is lost if it ends before it is read again.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub folded_interval: Duration,
}

/// Longest `folded_interval`.
const MAX_FOLDED_INTERVAL: Duration = Duration::from_secs(120);

impl Default for Config {
    fn default() -> Self {
        Self {
            metrics: MetricsSettings::new(),
            resource_attributes: BTreeMap::new(),
            include: Names::default(),
            exclude: Names::default(),
            scrape_process_delay: Duration::ZERO,
            mute_process_name_error: false,
            mute_process_exe_error: false,
            mute_process_io_error: false,
            mute_process_user_error: false,
            mute_process_cgroup_error: false,
            mute_process_all_errors: false,
            command_line: CommandLine::Scrubbed,
            max_processes: 100_000,
            max_open_files: 4_500,
            folded_interval: Duration::ZERO,
        }
    }
}

impl Config {
    /// Reports what types cannot say; `path` is the place of these settings.
    pub(crate) fn check(&self, path: &str, report: &mut Report<'_>) {
        catalog::check(ROWS, &self.metrics, &format!("{path}.metrics"), report);
        names::check(&self.include, &format!("{path}.include"), report);
        names::check(&self.exclude, &format!("{path}.exclude"), report);
        for name in self.resource_attributes.keys() {
            if !Attribute::ALL.iter().any(|attribute| attribute.is_called(name)) {
                let known = Attribute::ALL.iter().map(|attribute| attribute.key(Naming::V0));
                report.unknown(&format!("{path}.resource_attributes.{name}"), name, known);
            }
        }
        if self.folded_interval > MAX_FOLDED_INTERVAL {
            report.error(&format!("{path}.folded_interval"), "must be from 0s to 2m");
        }
        if self.max_processes == 0 {
            report.error(&format!("{path}.max_processes"), "0 would follow no process; allowed: 1 and more");
        }
    }

    /// Whether an attribute is wanted.
    pub(crate) fn wants(&self, attribute: Attribute) -> bool {
        let said = self
            .resource_attributes
            .iter()
            .find(|(name, _)| attribute.is_called(name))
            .and_then(|(_, settings)| settings.enabled);
        said.unwrap_or(attribute.default_on())
            && !(attribute == Attribute::CommandLine && self.command_line == CommandLine::Off)
    }
}

/// The resource attributes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Pid,
    ParentPid,
    ExecutableName,
    ExecutablePath,
    Command,
    CommandLine,
    Owner,
    Cgroup,
    CreationTime,
    ContainerId,
    PodUid,
}

impl Attribute {
    /// All of them, in the order in which they are written.
    pub(crate) const ALL: [Attribute; 11] = [
        Attribute::Pid,
        Attribute::ParentPid,
        Attribute::ExecutableName,
        Attribute::ExecutablePath,
        Attribute::Command,
        Attribute::CommandLine,
        Attribute::Owner,
        Attribute::Cgroup,
        Attribute::CreationTime,
        Attribute::ContainerId,
        Attribute::PodUid,
    ];

    /// The attribute's key.
    pub(crate) fn key(self, naming: Naming) -> &'static str {
        match (self, naming) {
            (Attribute::Pid, _) => "process.pid",
            (Attribute::ParentPid, _) => "process.parent_pid",
            (Attribute::ExecutableName, _) => "process.executable.name",
            (Attribute::ExecutablePath, _) => "process.executable.path",
            (Attribute::Command, _) => "process.command",
            (Attribute::CommandLine, _) => "process.command_line",
            (Attribute::Owner, _) => "process.owner",
            (Attribute::Cgroup, Naming::V0) => "process.cgroup",
            (Attribute::Cgroup, Naming::V1) => "process.linux.cgroup",
            (Attribute::CreationTime, _) => "process.creation.time",
            (Attribute::ContainerId, _) => "container.id",
            (Attribute::PodUid, _) => "k8s.pod.uid",
        }
    }

    fn is_called(self, name: &str) -> bool {
        name == self.key(Naming::V0) || name == self.key(Naming::V1)
    }

    /// The Collector's defaults; the container and the pod are on because without them its processes cannot be told apart by name.
    fn default_on(self) -> bool {
        !matches!(self, Attribute::Cgroup | Attribute::CreationTime)
    }
}
