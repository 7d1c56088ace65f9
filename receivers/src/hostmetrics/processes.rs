//! The `processes` scraper: how many processes are in which state, and how many were ever created.
//!
//! States come from every `/proc/PID/stat`, as the `process` scraper has read them or else by reading; running and blocked are then replaced by the kernel's own counts of one moment in
//! `/proc/stat`, and what the total has left over is `unknown`, all as in the Collector. A process that vanishes meanwhile is
//! not counted.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use phoenix_telemetry::ScopeBuilder;

use super::catalog::{COUNTER, Form, Label, MetricsSettings, Plan, Row, UP_DOWN, ValueType, int};
use super::census::{BLOCKED, Census, CensusDesk, RUNNING, STATUS, UNKNOWN};
use super::reading::{ReadError, Reading};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "processes";

const COUNT: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.processes.count", unit: "{processes}" }),
    v1: Form { name: "system.process.count", unit: "{process}" },
    description: "Total number of processes in each state.",
    shape: UP_DOWN,
    value: ValueType::Int,
    enabled: true,
    attributes: &[STATUS],
};
const CREATED: Row = Row {
    v0: Some(Form { name: "system.processes.created", unit: "{processes}" }),
    v1: Form { name: "system.process.created", unit: "{process}" },
    description: "Total number of created processes.",
    shape: COUNTER,
    attributes: &[],
    ..COUNT
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[COUNT, CREATED];

pub(crate) struct Processes {
    proc: PathBuf,
    stat: Reading,
    boot: u64,
    census: CensusDesk,
    count: Option<Plan>,
    created: Option<Plan>,
}

impl Processes {
    pub(crate) fn new(settings: &MetricsSettings, setup: &Setup<'_>) -> Self {
        Self {
            proc: setup.root.proc.clone(),
            stat: Reading::new(setup.root.proc.join("stat")),
            boot: setup.boot_unix_nanos,
            census: setup.census.clone(),
            count: COUNT.plan(setup.naming, settings),
            created: CREATED.plan(setup.naming, settings),
        }
    }

    /// Reads the state of every process.
    fn count(&self) -> Result<Census, ReadError> {
        let mut census = Census::default();
        let mut buffer = [0; 512];
        let entries =
            std::fs::read_dir(&self.proc).map_err(|source| ReadError::Io { path: self.proc.clone(), source })?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            match read_state(entry.path().join("stat"), &mut buffer) {
                Ok(letter) => census.add(letter),
                Err(error) if is_gone(&error) => {}
                // Not readable: it exists, its state is unknown.
                Err(_) => census.add(None),
            }
        }
        Ok(census)
    }

    fn read(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if self.count.is_none() && self.created.is_none() {
            return Ok(());
        }
        let census = match self.count {
            Some(_) => Some(self.census.take(at).map_or_else(|| self.count(), Ok)?),
            None => None,
        };
        let text = self.stat.text()?;
        let (running, blocked) = (text.required("procs_running")?, text.required("procs_blocked")?);
        let created = text.required("processes")?;
        if let (Some(plan), Some(Census { mut counts, total })) = (&self.count, census) {
            counts[BLOCKED] = blocked;
            counts[RUNNING] = running;
            let known: u64 = counts.iter().sum();
            if total > known {
                counts[UNKNOWN] += total - known;
            }
            let mut metric = plan.open(scope);
            for (status, count) in counts.into_iter().enumerate() {
                if count > 0 || matches!(status, BLOCKED | RUNNING) {
                    metric.point(self.boot, at.unix_nanos, int(count), &[Label::Member(status)]);
                }
            }
            tally.wrote(metric.finish());
        }
        if let Some(plan) = &self.created {
            let mut metric = plan.open(scope);
            metric.point(self.boot, at.unix_nanos, int(created), &[]);
            tally.wrote(metric.finish());
        }
        Ok(())
    }
}

/// The state letter stands after the last `)`: the name before it may hold anything.
fn read_state(path: PathBuf, buffer: &mut [u8]) -> io::Result<Option<u8>> {
    let length = File::open(path)?.read(buffer)?;
    let text = buffer.get(..length).unwrap_or_default();
    let after = text.iter().rposition(|byte| *byte == b')').and_then(|end| text.get(end + 1..));
    Ok(after.and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace())).copied())
}

/// The process ended between the listing and the reading.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

impl HostScraper for Processes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        if let Err(error) = self.read(at, scope, tally) {
            tally.missed(usize::from(self.count.is_some()) + usize::from(self.created.is_some()), error);
        }
    }
}
