//! The `hostmetrics` receiver: what the Collector's receiver of that name emits, read from `/proc` and `/sys`.
//!
//! This file is the table of contents and the factory. One scraper has one file; `catalog.rs` is the form of their tables of
//! metrics, `schedule.rs` and `receiver.rs` run them. Nothing here writes to the host.

mod capacity;
pub mod catalog;
mod census;
pub mod config;
mod cpu;
pub mod disk;
pub mod filesystem;
pub mod load;
mod memory;
mod mounts;
pub mod names;
pub mod network;
mod paging;
mod plan;
pub mod process;
mod processes;
mod reading;
mod receiver;
mod root;
mod schedule;
mod scraper;
mod sockets;
mod statvfs;
mod system;
#[cfg(test)]
mod tests;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{BuildError, Receiver, ReceiverFactory, Site, Stability};

use catalog::Row;
use census::CensusDesk;
pub use config::Config;
use scraper::{HostScraper, Scraper, Setup};

/// The receiver's row in the table of receivers.
pub const FACTORY: ReceiverFactory = ReceiverFactory::new::<Config>(
    "hostmetrics",
    "Metrics of this host and its processes, from /proc",
    Stability::Beta,
    build,
);

/// Every metric of the receiver, scraper by scraper.
pub fn catalog() -> &'static [Row] {
    static ALL: std::sync::LazyLock<Vec<Row>> = std::sync::LazyLock::new(|| {
        let tables = [
            cpu::ROWS,
            disk::ROWS,
            filesystem::ROWS,
            load::ROWS,
            memory::ROWS,
            network::ROWS,
            paging::ROWS,
            process::ROWS,
            processes::ROWS,
            system::ROWS,
        ];
        tables.concat()
    });
    &ALL
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Receiver>, BuildError> {
    let config: Config = site.settings(value)?;
    let unserved = config.scrapers.unserved();
    if !unserved.is_empty() {
        tracing::warn!(receiver = %site.id, scrapers = unserved.join(", "), "these scrapers of the Collector are not served; the others run");
    }
    let root = root::Root::new(&config.root_path);
    let boot = root.boot_time_seconds().map_err(|error| error.to_string())?;
    let boot_unix_nanos = boot.saturating_mul(1_000_000_000);
    let setup = Setup { root: &root, naming: config.naming, boot_unix_nanos, census: CensusDesk::default() };
    let host = host_scrapers(&config, &setup)?;
    let mut others: Vec<Box<dyn Scraper>> = Vec::new();
    if let Some(config) = &config.scrapers.process {
        others.push(process::build(config, &setup, site)?);
    }
    Ok(Box::new(receiver::HostMetrics::new(&config, site, host, others)))
}

fn host_scrapers(config: &Config, setup: &Setup<'_>) -> Result<Vec<Box<dyn HostScraper>>, String> {
    let scrapers = &config.scrapers;
    let mut all: Vec<Box<dyn HostScraper>> = Vec::new();
    if let Some(config) = &scrapers.cpu {
        all.push(Box::new(cpu::Cpu::new(&config.metrics, setup)));
    }
    if let Some(config) = &scrapers.memory {
        all.push(Box::new(memory::MemoryScraper::new(&config.metrics, setup)));
    }
    if let Some(config) = &scrapers.load {
        all.push(Box::new(load::Load::new(config, setup)));
    }
    if let Some(config) = &scrapers.disk {
        all.push(Box::new(disk::Disk::new(config, setup)?));
    }
    if let Some(settings) = &scrapers.filesystem {
        all.push(Box::new(filesystem::Filesystem::new(settings, config.timeout, setup)?));
    }
    if let Some(config) = &scrapers.network {
        all.push(Box::new(network::Network::new(config, setup)?));
    }
    if let Some(config) = &scrapers.paging {
        all.push(Box::new(paging::Paging::new(&config.metrics, setup)));
    }
    if let Some(config) = &scrapers.processes {
        all.push(Box::new(processes::Processes::new(&config.metrics, setup)));
    }
    if let Some(config) = &scrapers.system {
        all.push(Box::new(system::System::new(&config.metrics, setup)));
    }
    Ok(all)
}
