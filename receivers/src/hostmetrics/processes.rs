//! The `processes` scraper: how many processes are in which state, and how many were ever created.
//!
//! States come from every `/proc/PID/stat`; running and blocked are then replaced by the kernel's own counts of one moment in
//! `/proc/stat`, and what the total has left over is `unknown`, all as in the Collector. A process that vanishes meanwhile is
//! not counted.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use phoenix_telemetry::ScopeBuilder;

use super::catalog::{Attribute, COUNTER, Form, Label, Member, MetricsSettings, Plan, Row, UP_DOWN, ValueType, int};
use super::reading::{ReadError, Reading};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "processes";

const STATUS: Attribute = Attribute {
    v0: Some("status"),
    v1: Some("process.state"),
    members: &[
        Member::same("blocked"),
        Member::same("daemon"),
        Member::same("detached"),
        Member::same("idle"),
        Member::same("locked"),
        Member::same("orphan"),
        Member::same("paging"),
        Member::same("running"),
        Member::same("sleeping"),
        Member::same("stopped"),
        Member::same("system"),
        Member::same("unknown"),
        Member::renamed("zombies", "defunct"),
    ],
};
const BLOCKED: usize = 0;
const RUNNING: usize = 7;
const UNKNOWN: usize = 11;

/// The member of [`STATUS`] for a state letter of `/proc/PID/stat`.
fn status(letter: u8) -> usize {
    match letter {
        b'A' => 1,
        b'D' | b'U' => BLOCKED,
        b'E' => 2,
        b'I' => 3,
        b'L' => 4,
        b'O' => 5,
        b'W' => 6,
        b'R' => RUNNING,
        b'S' => 8,
        b'T' | b't' => 9,
        b'Y' => 10,
        b'Z' => 12,
        _ => UNKNOWN,
    }
}

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
    count: Option<Plan>,
    created: Option<Plan>,
}

impl Processes {
    pub(crate) fn new(settings: &MetricsSettings, setup: &Setup<'_>) -> Self {
        Self {
            proc: setup.root.proc.clone(),
            stat: Reading::new(setup.root.proc.join("stat")),
            boot: setup.boot_unix_nanos,
            count: COUNT.plan(setup.naming, settings),
            created: CREATED.plan(setup.naming, settings),
        }
    }

    /// Processes per status, in the order of the members of [`STATUS`], and how many there are in all.
    fn statuses(&self) -> Result<([u64; 13], u64), ReadError> {
        let mut counts = [0; 13];
        let mut total = 0;
        let mut buffer = [0; 512];
        let entries =
            std::fs::read_dir(&self.proc).map_err(|source| ReadError::Io { path: self.proc.clone(), source })?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            match read_state(entry.path().join("stat"), &mut buffer) {
                Ok(Some(letter)) => {
                    if let Some(count) = counts.get_mut(status(letter)) {
                        *count += 1;
                    }
                    total += 1;
                }
                // Not readable, or not what the kernel writes: it exists, its state is unknown.
                Ok(None) => total += 1,
                Err(error) if is_gone(&error) => {}
                Err(_) => total += 1,
            }
        }
        Ok((counts, total))
    }

    fn read(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if self.count.is_none() && self.created.is_none() {
            return Ok(());
        }
        let statuses = if self.count.is_some() { Some(self.statuses()?) } else { None };
        let text = self.stat.text()?;
        let (running, blocked) = (text.required("procs_running")?, text.required("procs_blocked")?);
        let created = text.required("processes")?;
        if let (Some(plan), Some((mut counts, total))) = (&self.count, statuses) {
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
