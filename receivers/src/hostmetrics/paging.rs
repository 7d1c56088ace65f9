//! The `paging` scraper: `/proc/swaps` and `/proc/vmstat`.
//!
//! The counters are the kernel's own. The library behind the Collector multiplies them by 4096 as if all were pages of
//! bytes; a count of faults times 4096 is neither faults nor bytes, so that is not repeated here.

use phoenix_telemetry::{Number, ScopeBuilder};

use super::catalog::{
    Attribute, COUNTER, Form, GAUGE, Label, Member, MetricsSettings, Plan, Row, UP_DOWN, ValueType, int,
};
use super::mounts;
use super::reading::{ReadError, Reading, Text};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "paging";

const DEVICE: Attribute = Attribute { v0: Some("device"), v1: Some("system.device"), members: &[] };
const STATE: Attribute = Attribute {
    v0: Some("state"),
    v1: Some("system.paging.state"),
    members: &[Member::same("used"), Member::same("free")],
};
const DIRECTION: Attribute = Attribute {
    v0: Some("direction"),
    v1: Some("system.paging.direction"),
    members: &[Member::renamed("page_in", "in"), Member::renamed("page_out", "out")],
};
const TYPE: Attribute = Attribute {
    v0: Some("type"),
    v1: Some("system.paging.fault.type"),
    members: &[Member::same("major"), Member::same("minor")],
};
const IN: Label<'static> = Label::Member(0);
const OUT: Label<'static> = Label::Member(1);
const MAJOR: Label<'static> = Label::Member(0);
const MINOR: Label<'static> = Label::Member(1);

const FAULTS: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.paging.faults", unit: "{faults}" }),
    v1: Form { name: "system.paging.faults", unit: "{fault}" },
    description: "The number of page faults.",
    shape: COUNTER,
    value: ValueType::Int,
    enabled: true,
    attributes: &[TYPE],
};
const OPERATIONS: Row = Row {
    v0: Some(Form { name: "system.paging.operations", unit: "{operations}" }),
    v1: Form { name: "system.paging.operations", unit: "{operation}" },
    description: "The number of paging operations.",
    attributes: &[DIRECTION, TYPE],
    ..FAULTS
};
const USAGE: Row = Row {
    v0: Some(Form { name: "system.paging.usage", unit: "By" }),
    v1: Form { name: "system.paging.usage", unit: "By" },
    description: "Swap (unix) or pagefile (windows) usage.",
    shape: UP_DOWN,
    attributes: &[DEVICE, STATE],
    ..FAULTS
};
const UTILIZATION: Row = Row {
    v0: Some(Form { name: "system.paging.utilization", unit: "1" }),
    v1: Form { name: "system.paging.utilization", unit: "1" },
    description: "Swap (unix) or pagefile (windows) utilization.",
    shape: GAUGE,
    value: ValueType::Double,
    enabled: false,
    ..USAGE
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[FAULTS, OPERATIONS, USAGE, UTILIZATION];

pub(crate) struct Paging {
    swaps: Reading,
    vmstat: Reading,
    boot: u64,
    faults: Option<Plan>,
    operations: Option<Plan>,
    usage: Option<Plan>,
    utilization: Option<Plan>,
}

/// One swap device.
struct Swap {
    device: String,
    size: u64,
    used: u64,
}

impl Paging {
    pub(crate) fn new(settings: &MetricsSettings, setup: &Setup<'_>) -> Self {
        let plan = |row: &Row| row.plan(setup.naming, settings);
        Self {
            swaps: Reading::new(setup.root.proc.join("swaps")),
            vmstat: Reading::new(setup.root.proc.join("vmstat")),
            boot: setup.boot_unix_nanos,
            faults: plan(&FAULTS),
            operations: plan(&OPERATIONS),
            usage: plan(&USAGE),
            utilization: plan(&UTILIZATION),
        }
    }

    fn swap(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if self.usage.is_none() && self.utilization.is_none() {
            return Ok(());
        }
        let swaps = match self.swaps.text() {
            Ok(text) => swaps(text)?,
            // A kernel without swap has no such file.
            Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(plan) = &self.usage {
            let mut metric = plan.open(scope);
            for swap in &swaps {
                for (state, value) in [swap.used, swap.size.saturating_sub(swap.used)].into_iter().enumerate() {
                    let labels = [Label::Text(&swap.device), Label::Member(state)];
                    metric.point(self.boot, at.unix_nanos, int(value), &labels);
                }
            }
            tally.wrote(metric.finish());
        }
        if let Some(plan) = &self.utilization {
            let mut metric = plan.open(scope);
            for swap in swaps.iter().filter(|swap| swap.size > 0) {
                for (state, value) in [swap.used, swap.size.saturating_sub(swap.used)].into_iter().enumerate() {
                    let labels = [Label::Text(&swap.device), Label::Member(state)];
                    metric.point(self.boot, at.unix_nanos, Number::Double(value as f64 / swap.size as f64), &labels);
                }
            }
            tally.wrote(metric.finish());
        }
        Ok(())
    }

    fn counters(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if self.faults.is_none() && self.operations.is_none() {
            return Ok(());
        }
        let text = self.vmstat.text()?;
        let major = text.required("pgmajfault")?;
        let minor = text.required("pgfault")?.saturating_sub(major);
        let (swapped_in, swapped_out) = (text.required("pswpin")?, text.required("pswpout")?);
        let (paged_in, paged_out) = (text.required("pgpgin")?, text.required("pgpgout")?);
        if let Some(plan) = &self.faults {
            let mut metric = plan.open(scope);
            metric.point(self.boot, at.unix_nanos, int(major), &[MAJOR]);
            metric.point(self.boot, at.unix_nanos, int(minor), &[MINOR]);
            tally.wrote(metric.finish());
        }
        if let Some(plan) = &self.operations {
            let mut metric = plan.open(scope);
            metric.point(self.boot, at.unix_nanos, int(swapped_in), &[IN, MAJOR]);
            metric.point(self.boot, at.unix_nanos, int(swapped_out), &[OUT, MAJOR]);
            metric.point(self.boot, at.unix_nanos, int(paged_in), &[IN, MINOR]);
            metric.point(self.boot, at.unix_nanos, int(paged_out), &[OUT, MINOR]);
            tally.wrote(metric.finish());
        }
        Ok(())
    }
}

impl HostScraper for Paging {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        if let Err(error) = self.counters(at, scope, tally) {
            tally.missed(usize::from(self.faults.is_some()) + usize::from(self.operations.is_some()), error);
        }
        if let Err(error) = self.swap(at, scope, tally) {
            tally.missed(usize::from(self.usage.is_some()) + usize::from(self.utilization.is_some()), error);
        }
    }
}

fn swaps(text: Text<'_>) -> Result<Vec<Swap>, ReadError> {
    let mut swaps = Vec::new();
    for line in text.lines().skip(1) {
        let mut words = line.text.split_ascii_whitespace();
        let (Some(device), Some(_type)) = (words.next(), words.next()) else {
            return Err(line.malformed("expected a swap device and its type"));
        };
        let size: u64 = line.number(words.next(), "expected the size in KiB in the third column")?;
        let used: u64 = line.number(words.next(), "expected the used KiB in the fourth column")?;
        let device = String::from_utf8_lossy(&mounts::unescape(device.as_bytes())).into_owned();
        swaps.push(Swap { device, size: size.saturating_mul(1024), used: used.saturating_mul(1024) });
    }
    Ok(swaps)
}
