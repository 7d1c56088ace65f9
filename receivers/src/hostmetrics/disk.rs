//! The `disk` scraper: `/proc/diskstats`.
//!
//! A sector of that file is 512 bytes whatever the device's own sector size is. Rows whose numbers are all 0 (unused loop
//! devices) are left out, as in the Collector.

use phoenix_telemetry::{Number, ScopeBuilder};
use procfs::DiskStat;
use serde::{Deserialize, Serialize};

use super::catalog::{Attribute, COUNTER, Form, Label, Member, MetricsSettings, Plan, Row, UP_DOWN, ValueType, int};
use super::names::{Filter, name_list};
use super::reading::Reading;
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "disk";
const SECTOR: u64 = 512;

name_list!(
    /// Names of block devices as in `/proc/diskstats`: `sda`, `nvme0n1p1`.
    Devices,
    devices
);

/// Settings of the scraper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Only these devices. Default: all, as in the Collector.
    pub include: Devices,
    /// Not these devices. Default: none is left out.
    pub exclude: Devices,
    /// Switches per metric.
    pub metrics: MetricsSettings,
}

const DEVICE: Attribute = Attribute { v0: Some("device"), v1: Some("system.device"), members: &[] };
const DIRECTION: Attribute = Attribute {
    v0: Some("direction"),
    v1: Some("disk.io.direction"),
    members: &[Member::same("read"), Member::same("write")],
};

const fn row(name: &'static str, unit: &'static str, v1_unit: &'static str, description: &'static str) -> Row {
    Row {
        scraper: NAME,
        v0: Some(Form { name, unit }),
        v1: Form { name, unit: v1_unit },
        description,
        shape: COUNTER,
        value: ValueType::Int,
        enabled: true,
        attributes: &[DEVICE, DIRECTION],
    }
}

const IO: Row = row("system.disk.io", "By", "By", "Disk bytes transferred.");
const OPERATIONS: Row = row("system.disk.operations", "{operations}", "{operation}", "Disk operations count.");
const MERGED: Row = row(
    "system.disk.merged",
    "{operations}",
    "{operation}",
    "The number of disk reads/writes merged into single physical disk access operations.",
);
const OPERATION_TIME: Row =
    Row { value: ValueType::Double, ..row("system.disk.operation_time", "s", "s", "Time spent in disk operations.") };
const IO_TIME: Row = Row {
    value: ValueType::Double,
    attributes: &[DEVICE],
    ..row(
        "system.disk.io_time",
        "s",
        "s",
        "Time disk spent activated. On Windows, this is calculated as the inverse of disk idle time.",
    )
};
const WEIGHTED_IO_TIME: Row = Row {
    value: ValueType::Double,
    attributes: &[DEVICE],
    ..row("system.disk.weighted_io_time", "s", "s", "Time disk spent activated multiplied by the queue length.")
};
const PENDING: Row = Row {
    shape: UP_DOWN,
    attributes: &[DEVICE],
    ..row("system.disk.pending_operations", "{operations}", "{operations}", "The queue size of pending I/O operations.")
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[IO, OPERATIONS, MERGED, OPERATION_TIME, IO_TIME, WEIGHTED_IO_TIME, PENDING];

/// What one metric says of a device: one number, or read and written.
enum Values {
    One(Number),
    ReadWrite([Number; 2]),
}

type Of = fn(&DiskStat) -> Values;

pub(crate) struct Disk {
    diskstats: Reading,
    boot: u64,
    filter: Filter,
    plans: Vec<(Of, Plan)>,
}

fn seconds(milliseconds: u64) -> Number {
    Number::Double(milliseconds as f64 / 1000.0)
}

impl Disk {
    pub(crate) fn new(config: &Config, setup: &Setup<'_>) -> Result<Self, String> {
        let rows: [(&Row, Of); 7] = [
            (&IO, |d| {
                Values::ReadWrite([
                    int(d.sectors_read.saturating_mul(SECTOR)),
                    int(d.sectors_written.saturating_mul(SECTOR)),
                ])
            }),
            (&OPERATIONS, |d| Values::ReadWrite([int(d.reads), int(d.writes)])),
            (&MERGED, |d| Values::ReadWrite([int(d.merged), int(d.writes_merged)])),
            (&OPERATION_TIME, |d| Values::ReadWrite([seconds(d.time_reading), seconds(d.time_writing)])),
            (&IO_TIME, |d| Values::One(seconds(d.time_in_progress))),
            (&WEIGHTED_IO_TIME, |d| Values::One(seconds(d.weighted_time_in_progress))),
            (&PENDING, |d| Values::One(int(d.in_progress))),
        ];
        Ok(Self {
            diskstats: Reading::new(setup.root.proc.join("diskstats")),
            boot: setup.boot_unix_nanos,
            filter: Filter::new(&config.include, &config.exclude)?,
            plans: rows
                .iter()
                .filter_map(|(row, values)| Some((*values, row.plan(setup.naming, &config.metrics)?)))
                .collect(),
        })
    }

    /// The devices of interest; a row that cannot be read is noted and the others are kept.
    fn devices(&mut self, tally: &mut Tally) -> Vec<DiskStat> {
        let text = match self.diskstats.text() {
            Ok(text) => text,
            Err(error) => {
                tally.missed(self.plans.len(), error);
                return Vec::new();
            }
        };
        let mut devices = Vec::new();
        for line in text.lines() {
            match DiskStat::from_line(line.text) {
                Ok(device) if is_used(&device) && self.filter.admits(&device.name) => devices.push(device),
                Ok(_) => {}
                Err(_) => tally.missed(self.plans.len(), line.malformed("expected a device's name and 11 numbers")),
            }
        }
        devices
    }
}

fn is_used(d: &DiskStat) -> bool {
    let counters = [
        d.reads,
        d.merged,
        d.sectors_read,
        d.time_reading,
        d.writes,
        d.writes_merged,
        d.sectors_written,
        d.time_writing,
        d.in_progress,
        d.time_in_progress,
        d.weighted_time_in_progress,
    ];
    counters.iter().any(|counter| *counter != 0)
}

impl HostScraper for Disk {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        let devices = self.devices(tally);
        for (values, plan) in &self.plans {
            let mut metric = plan.open(scope);
            for device in &devices {
                let name = Label::Text(&device.name);
                match values(device) {
                    Values::One(value) => metric.point(self.boot, at.unix_nanos, value, &[name]),
                    Values::ReadWrite(values) => {
                        for (direction, value) in values.into_iter().enumerate() {
                            metric.point(self.boot, at.unix_nanos, value, &[name, Label::Member(direction)]);
                        }
                    }
                }
            }
            tally.wrote(metric.finish());
        }
    }
}
