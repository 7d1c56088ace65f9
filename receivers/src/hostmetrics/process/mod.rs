//! The `process` scraper: CPU, memory, I/O and identity of every process of the host.
//!
//! `reading` parses, `files` opens, `facts` and `owner` know who a process is, `measure` knows its numbers, `table`
//! follows the processes from scrape to scrape, `rest` says who need not be read and `rotation` whose costly files wait, and
//! `project` writes them down. `exits` finds what a process used up to its end, `balance` compares the sum with the host. Where the Collector's scraper is known to be
//! wrong this one is not: disk I/O is that of block devices, signals are counted, shares lie between 0 and 1.

mod balance;
mod config;
mod exits;
mod facts;
mod files;
mod measure;
mod metrics;
mod owner;
mod project;
mod reading;
mod rest;
mod rotation;
mod table;
#[cfg(test)]
mod tests;
mod trouble;

pub use config::{AttributeSettings, CommandLine, Config, Names};
pub use metrics::ROWS;
pub(crate) use rotation::Rotation;

use phoenix_pipeline::Site;
use phoenix_telemetry::BatchBuilder;

use super::names::Filter;
use super::scraper::{Moment, Outcome, Scraper, Setup};
use balance::Balance;
use facts::FactReader;
use files::Files;
use measure::Measure;
use owner::Owners;
use project::Projection;
use table::{Parts, Table};
use trouble::Troubles;

/// Builds the scraper.
///
/// # Errors
/// A pattern that does not compile, which the config check has reported before.
pub(super) fn build(config: &Config, setup: &Setup<'_>, site: &Site) -> Result<Box<dyn Scraper>, String> {
    let balance = Balance::new(site.metrics.gauge(&balance::UNATTRIBUTED, &[("receiver", site.id.as_str())]));
    let deferred = site.metrics.counter(&rotation::DEFERRED, &[("receiver", site.id.as_str())]);
    let rotation = Rotation::new(config.folded_interval, &site.folded, deferred);
    Ok(Box::new(Process::new(config, setup, balance, rotation)?))
}

struct Process {
    table: Table,
}

impl Process {
    fn new(config: &Config, setup: &Setup<'_>, balance: Balance, rotation: Option<Rotation>) -> Result<Self, String> {
        let Setup { root, naming, boot_unix_nanos, ref census } = *setup;
        let projection = Projection::new(config, naming);
        let owners = Owners::new(root.etc.join("passwd"), root.foreign);
        let table = Table::new(Parts {
            max: config.max_processes,
            delay: config.scrape_process_delay,
            files: Files::new(&root.proc, open_files(config.max_open_files)),
            facts: FactReader::new(config, Filter::new(&config.include, &config.exclude)?, owners),
            measure: Measure::new(&projection, root, boot_unix_nanos, !config.scrape_process_delay.is_zero()),
            projection,
            troubles: Troubles::new(config),
            balance,
            rotation,
            census: census.clone(),
        });
        Ok(Self { table })
    }
}

/// How many files may stay open: half of what this process may open at most, so that there is room for all else.
fn open_files(wanted: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX));
    if most < wanted {
        tracing::info!(
            scraper = "process",
            max_open_files = wanted,
            open = most,
            "the limit of open files (RLIMIT_NOFILE) is low: files of processes beyond half of it are opened at every scrape"
        );
    }
    wanted.min(most)
}

impl Scraper for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn scrape(&mut self, at: &Moment, out: &mut BatchBuilder) -> Outcome {
        self.table.scrape(at, out)
    }

    fn rotation(&mut self) -> Option<&mut Rotation> {
        self.table.rotation()
    }
}
