//! The settings of the `hostmetrics` receiver, key for key the Collector's, and what is wrong with a set of them.

use std::time::Duration;

use phoenix_pipeline::config::{self, Report, Settings};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::catalog::{self, MetricsSettings, Naming};
use super::{cpu, disk, filesystem, load, memory, names, network, paging, process, processes, system};

/// Settings of the receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two scrapes. Default 1m: the Collector's.
    #[serde(with = "config::duration")]
    pub collection_interval: Duration,
    /// Time before the first scrape. Default 1s: the Collector's; lets the pipelines behind it start first.
    #[serde(with = "config::duration")]
    pub initial_delay: Duration,
    /// The longest wait for one file system to answer; 0 or more than 1s: 1s. Everything else reads from the kernel's memory and
    /// does not wait. Default 0: the Collector's "no limit of its own".
    #[serde(with = "config::duration")]
    pub timeout: Duration,
    /// The host's root as the agent sees it, `/hostfs` in a container. Default "": the agent's own root.
    pub root_path: String,
    /// The Collector's interval of host entity events, which are logs. Accepted, without effect. Default 5m: the Collector's.
    #[serde(with = "config::duration")]
    pub metadata_collection_interval: Duration,
    /// Names of metrics and attributes. Default v0: what the Collector emits by default, so that dashboards go on working.
    pub naming: Naming,
    /// The scrapers that run; each is on when its key is there, even with an empty block.
    pub scrapers: Scrapers,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            collection_interval: Duration::from_secs(60),
            initial_delay: Duration::from_secs(1),
            timeout: Duration::ZERO,
            root_path: String::new(),
            metadata_collection_interval: Duration::from_secs(300),
            naming: Naming::default(),
            scrapers: Scrapers::default(),
        }
    }
}

/// Which scrapers run. Default: none, one at least must be named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scrapers {
    /// Time and utilization per CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Plain>,
    /// Counters of block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<disk::Config>,
    /// Sizes of mounted file systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<filesystem::Config>,
    /// Load averages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<load::Config>,
    /// Memory of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Plain>,
    /// Counters of interfaces, TCP connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<network::Config>,
    /// Swap and page faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paging: Option<Plain>,
    /// Number of processes by state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Plain>,
    /// Metrics of each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<process::Config>,
    /// Uptime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<Plain>,
    /// The Collector's NFS scraper: accepted with a warning, not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nfs: Option<Unserved>,
    /// The Collector's hardware scraper: accepted with a warning, not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Unserved>,
}

/// Settings of a scraper that has nothing but metrics to switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plain {
    /// Switches per metric.
    pub metrics: MetricsSettings,
}

/// A block of the Collector's that Phoenix does not serve; whatever it holds is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unserved;

impl<'de> Deserialize<'de> for Unserved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Serialize for Unserved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(std::iter::empty::<(&str, &str)>())
    }
}

impl Scrapers {
    /// Whether no scraper that Phoenix serves is on.
    fn is_empty(&self) -> bool {
        let Self {
            cpu,
            disk,
            filesystem,
            load,
            memory,
            network,
            paging,
            processes,
            process,
            system,
            nfs: _,
            hardware: _,
        } = self;
        let plain = [cpu, memory, paging, processes, system];
        plain.iter().all(|scraper| scraper.is_none())
            && disk.is_none()
            && filesystem.is_none()
            && load.is_none()
            && network.is_none()
            && process.is_none()
    }

    /// The blocks that are accepted but not served.
    pub(crate) fn unserved(&self) -> Vec<&'static str> {
        [("nfs", self.nfs), ("hardware", self.hardware)]
            .into_iter()
            .filter_map(|(name, block)| block.map(|_| name))
            .collect()
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.collection_interval.is_zero() {
            report.error("collection_interval", "must be more than 0s");
        }
        let year = Duration::from_secs(365 * 24 * 3600);
        for (key, time) in [("collection_interval", self.collection_interval), ("initial_delay", self.initial_delay)] {
            if time > year {
                report.error(key, "must be at most 8760h");
            }
        }
        if !self.root_path.is_empty() && !self.root_path.starts_with('/') {
            report.error("root_path", "must be an absolute path or empty");
        }
        let scrapers = &self.scrapers;
        if scrapers.is_empty() && scrapers.unserved().is_empty() {
            report.error(
                "scrapers",
                "at least one scraper must be named; allowed: cpu, disk, filesystem, load, memory, network, paging, process, processes, system",
            );
        }
        let plain = [
            (&scrapers.cpu, cpu::ROWS, "scrapers.cpu.metrics"),
            (&scrapers.memory, memory::ROWS, "scrapers.memory.metrics"),
            (&scrapers.paging, paging::ROWS, "scrapers.paging.metrics"),
            (&scrapers.processes, processes::ROWS, "scrapers.processes.metrics"),
            (&scrapers.system, system::ROWS, "scrapers.system.metrics"),
        ];
        for (scraper, rows, path) in plain {
            if let Some(scraper) = scraper {
                catalog::check(rows, &scraper.metrics, path, report);
            }
        }
        if let Some(load) = &scrapers.load {
            catalog::check(load::ROWS, &load.metrics, "scrapers.load.metrics", report);
        }
        if let Some(disk) = &scrapers.disk {
            names::check(&disk.include, "scrapers.disk.include", report);
            names::check(&disk.exclude, "scrapers.disk.exclude", report);
            catalog::check(disk::ROWS, &disk.metrics, "scrapers.disk.metrics", report);
        }
        if let Some(network) = &scrapers.network {
            names::check(&network.include, "scrapers.network.include", report);
            names::check(&network.exclude, "scrapers.network.exclude", report);
            catalog::check(network::ROWS, &network.metrics, "scrapers.network.metrics", report);
        }
        if let Some(filesystem) = &scrapers.filesystem {
            filesystem.check("scrapers.filesystem", report);
            catalog::check(filesystem::ROWS, &filesystem.metrics, "scrapers.filesystem.metrics", report);
        }
        if let Some(process) = &scrapers.process {
            process.check("scrapers.process", report);
        }
    }
}
