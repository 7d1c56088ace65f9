//! The `cpu` scraper: `/proc/stat`, `/proc/cpuinfo` and the topology under `/sys`.
//!
//! Guest time is already inside user and nice, so it is not counted again. The kernel lets iowait, and idle with it, fall a
//! little between two readings: then the last value stands. A large fall is a CPU that was taken out and put back: its
//! counters begin anew, with a start time of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use phoenix_telemetry::{Number, ScopeBuilder};

use super::catalog::{
    Attribute, COUNTER, Form, GAUGE, Label, Member, MetricsSettings, Naming, Plan, Row, UP_DOWN, ValueType,
};
use super::reading::{ReadError, Reading, Text};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "cpu";

const CPU: Attribute = Attribute { v0: Some("cpu"), v1: Some("cpu.logical_number"), members: &[] };
const MODES: usize = 8;
/// In the order of the columns of `/proc/stat`.
const MODE: Attribute = Attribute {
    v0: Some("state"),
    v1: Some("cpu.mode"),
    members: &[
        Member::same("user"),
        Member::same("nice"),
        Member::same("system"),
        Member::same("idle"),
        Member::renamed("wait", "iowait"),
        Member::same("interrupt"),
        Member::v0_only("softirq"),
        Member::same("steal"),
    ],
};
const IOWAIT: usize = 4;
const INTERRUPT: usize = 5;
const SOFTIRQ: usize = 6;

const TIME: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.cpu.time", unit: "s" }),
    v1: Form { name: "system.cpu.time", unit: "s" },
    description: "Total seconds each logical CPU spent on each mode.",
    shape: COUNTER,
    value: ValueType::Double,
    enabled: true,
    attributes: &[CPU, MODE],
};
const UTILIZATION: Row = Row {
    v0: Some(Form { name: "system.cpu.utilization", unit: "1" }),
    v1: Form { name: "system.cpu.utilization", unit: "1" },
    description: "Difference in system.cpu.time since the last measurement per logical CPU, divided by the elapsed time (value in interval [0,1]).",
    shape: GAUGE,
    enabled: false,
    ..TIME
};
const LOGICAL: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.cpu.logical.count", unit: "{cpu}" }),
    v1: Form { name: "system.cpu.logical.count", unit: "{cpu}" },
    description: "Number of available logical CPUs.",
    shape: UP_DOWN,
    value: ValueType::Int,
    enabled: false,
    attributes: &[],
};
const PHYSICAL: Row = Row {
    v0: Some(Form { name: "system.cpu.physical.count", unit: "{cpu}" }),
    v1: Form { name: "system.cpu.physical.count", unit: "{cpu}" },
    description: "Number of available physical CPUs.",
    ..LOGICAL
};
const FREQUENCY: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.cpu.frequency", unit: "Hz" }),
    v1: Form { name: "system.cpu.frequency", unit: "Hz" },
    description: "Current frequency of the CPU core in Hz.",
    shape: GAUGE,
    value: ValueType::Double,
    enabled: false,
    attributes: &[CPU],
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[TIME, UTILIZATION, LOGICAL, PHYSICAL, FREQUENCY];

/// Ticks of one CPU per mode.
type Ticks = [u64; MODES];

/// A counter that falls by more than this many seconds has begun anew; a smaller fall is the kernel's inexact bookkeeping.
const RESET_SECONDS: u64 = 3;

/// What was last written of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    ticks: Ticks,
    /// Since when its counters count, nanoseconds since the Unix epoch.
    since: u64,
}

impl Seen {
    /// What to write next: counters never fall, unless they begin anew at `reset_at`.
    fn next(self, now: Ticks, reset: u64, reset_at: u64) -> Self {
        let pairs = || now.into_iter().zip(self.ticks);
        if pairs().any(|(now, before)| before.saturating_sub(now) > reset) {
            return Self { ticks: now, since: reset_at };
        }
        let mut ticks = now;
        for (slot, (now, before)) in ticks.iter_mut().zip(pairs()) {
            *slot = now.max(before);
        }
        Self { ticks, since: self.since }
    }
}

pub(crate) struct Cpu {
    stat: Reading,
    cpuinfo: Reading,
    cpus: PathBuf,
    boot: u64,
    naming: Naming,
    ticks_per_second: f64,
    previous: BTreeMap<u32, Seen>,
    previous_scrape: u64,
    time: Option<Plan>,
    utilization: Option<Plan>,
    logical: Option<Plan>,
    physical: Option<Plan>,
    frequency: Option<Plan>,
}

impl Cpu {
    pub(crate) fn new(settings: &MetricsSettings, setup: &Setup<'_>) -> Self {
        let plan = |row: &Row| row.plan(setup.naming, settings);
        Self {
            stat: Reading::new(setup.root.proc.join("stat")),
            cpuinfo: Reading::new(setup.root.proc.join("cpuinfo")),
            cpus: setup.root.sys.join("devices/system/cpu"),
            boot: setup.boot_unix_nanos,
            naming: setup.naming,
            ticks_per_second: procfs::ticks_per_second() as f64,
            previous: BTreeMap::new(),
            previous_scrape: setup.boot_unix_nanos,
            time: plan(&TIME),
            utilization: plan(&UTILIZATION),
            logical: plan(&LOGICAL),
            physical: plan(&PHYSICAL),
            frequency: plan(&FREQUENCY),
        }
    }

    fn times(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if self.time.is_none() && self.utilization.is_none() {
            return Ok(());
        }
        let reset = RESET_SECONDS * self.ticks_per_second as u64;
        let mut now = BTreeMap::new();
        for (cpu, ticks) in ticks(self.stat.text()?)? {
            let first = Seen { ticks, since: self.boot };
            let seen = self.previous.get(&cpu).map_or(first, |seen| seen.next(ticks, reset, self.previous_scrape));
            now.insert(cpu, seen);
        }
        if let Some(plan) = &self.time {
            let mut metric = plan.open(scope);
            for (&cpu, seen) in &now {
                let seconds = seen.ticks.map(|ticks| ticks as f64 / self.ticks_per_second);
                modes(self.naming, cpu, seconds, |value, labels| {
                    metric.point(seen.since, at.unix_nanos, value, labels)
                });
            }
            tally.wrote(metric.finish());
        }
        if let Some(plan) = &self.utilization {
            let mut metric = plan.open(scope);
            for (&cpu, seen) in &now {
                let before = self.previous.get(&cpu).filter(|before| before.since == seen.since);
                let Some(shares) = before.and_then(|before| shares(&before.ticks, &seen.ticks)) else { continue };
                modes(self.naming, cpu, shares, |value, labels| metric.point(self.boot, at.unix_nanos, value, labels));
            }
            tally.wrote(metric.finish());
        }
        self.previous_scrape = at.unix_nanos;
        // A CPU that is offline keeps its place, for when it comes back.
        self.previous.extend(now);
        Ok(())
    }

    fn counts(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if let Some(plan) = &self.logical {
            let count = match logical_count(self.cpuinfo.text()?) {
                0 => count(self.stat.text()?)?,
                count => count,
            };
            let mut metric = plan.open(scope);
            metric.point(self.boot, at.unix_nanos, Number::Int(count as i64), &[]);
            tally.wrote(metric.finish());
        }
        if let Some(plan) = &self.physical {
            let count = match distinct_cores(&self.cpus) {
                0 => physical_count(self.cpuinfo.text()?)?,
                count => count as u64,
            };
            let mut metric = plan.open(scope);
            metric.point(self.boot, at.unix_nanos, Number::Int(count as i64), &[]);
            tally.wrote(metric.finish());
        }
        Ok(())
    }

    fn frequencies(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        let Some(plan) = &self.frequency else { return Ok(()) };
        let text = self.cpuinfo.text()?;
        let mut found = megahertz(text)?;
        if found.is_empty() {
            found = scaling_frequencies(&self.cpus)?;
        }
        if found.is_empty() {
            return Err(text.malformed("no \"cpu MHz\" here and no cpufreq under /sys: this host does not tell its frequencies; disable system.cpu.frequency"));
        }
        let mut metric = plan.open(scope);
        for (cpu, hertz) in found {
            let name = format!("cpu{cpu}");
            metric.point(self.boot, at.unix_nanos, Number::Double(hertz), &[label(self.naming, cpu, &name)]);
        }
        tally.wrote(metric.finish());
        Ok(())
    }
}

impl HostScraper for Cpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        if let Err(error) = self.times(at, scope, tally) {
            tally.missed(usize::from(self.time.is_some()) + usize::from(self.utilization.is_some()), error);
        }
        if let Err(error) = self.counts(at, scope, tally) {
            tally.missed(1, error);
        }
        if let Err(error) = self.frequencies(at, scope, tally) {
            tally.missed(1, error);
        }
    }
}

fn label(naming: Naming, cpu: u32, name: &str) -> Label<'_> {
    match naming {
        Naming::V0 => Label::Text(name),
        Naming::V1 => Label::Int(i64::from(cpu)),
    }
}

/// Writes one CPU's values; the newer naming has no softirq, it belongs to `interrupt` there.
fn modes(naming: Naming, cpu: u32, mut values: [f64; MODES], mut write: impl FnMut(Number, &[Label<'_>])) {
    if naming == Naming::V1 {
        values[INTERRUPT] += values[SOFTIRQ];
    }
    let name = format!("cpu{cpu}");
    for (mode, value) in values.into_iter().enumerate() {
        write(Number::Double(value), &[label(naming, cpu, &name), Label::Member(mode)]);
    }
}

/// The `cpuN` lines of `/proc/stat`. Kernels before 2.6.11 lack the last columns; they count as 0.
fn ticks(text: Text<'_>) -> Result<BTreeMap<u32, Ticks>, ReadError> {
    let mut cpus = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.text.split_ascii_whitespace();
        let Some(cpu) = words.next().and_then(|word| word.strip_prefix("cpu")).filter(|number| !number.is_empty())
        else {
            continue;
        };
        let cpu: u32 = line.number(Some(cpu), "expected a CPU number after \"cpu\"")?;
        let mut ticks = Ticks::default();
        for (i, slot) in ticks.iter_mut().enumerate() {
            match words.next() {
                Some(word) => *slot = line.number(Some(word), "expected a number of clock ticks")?,
                None if i >= IOWAIT => break,
                None => return Err(line.malformed("expected at least 4 numbers of clock ticks")),
            }
        }
        cpus.insert(cpu, ticks);
    }
    if cpus.is_empty() {
        return Err(text.malformed("no line \"cpu0\""));
    }
    Ok(cpus)
}

/// The number of CPUs that are online, from `/proc/stat`; at least 1.
pub(crate) fn count(text: Text<'_>) -> Result<usize, ReadError> {
    ticks(text).map(|cpus| cpus.len())
}

/// Ticks in which processes ran on any CPU, from `/proc/stat`: user, nice and system, guests included. Interrupts and stolen
/// time are no process's.
pub(crate) fn busy(text: Text<'_>) -> Result<u64, ReadError> {
    let line = text.lines().find(|line| line.text.starts_with("cpu ")).ok_or(text.malformed("no line \"cpu\""))?;
    let mut words = line.text.split_ascii_whitespace().skip(1);
    let mut ticks = 0_u64;
    for _ in 0..3 {
        ticks = ticks.saturating_add(line.number(words.next(), "expected a number of clock ticks")?);
    }
    Ok(ticks)
}

/// Each mode's share of the time between two readings; `None` if no time passed.
fn shares(before: &Ticks, now: &Ticks) -> Option<[f64; MODES]> {
    let mut passed = [0.0; MODES];
    for ((slot, now), before) in passed.iter_mut().zip(now).zip(before) {
        *slot = now.saturating_sub(*before) as f64;
    }
    let total: f64 = passed.iter().sum();
    (total > 0.0).then(|| passed.map(|ticks| ticks / total))
}

fn logical_count(cpuinfo: Text<'_>) -> usize {
    fields(cpuinfo).filter(|(key, value)| key == "processor" && value.parse::<u32>().is_ok()).count()
}

/// `key : value` lines, keys in lower case.
fn fields(cpuinfo: Text<'_>) -> impl Iterator<Item = (String, &str)> {
    cpuinfo.lines().filter_map(|line| {
        let (key, value) = line.text.split_once(':')?;
        Some((key.trim().to_ascii_lowercase(), value.trim()))
    })
}

/// Cores are told apart by the list of CPUs that share them.
fn distinct_cores(cpus: &std::path::Path) -> usize {
    ["topology/core_cpus_list", "topology/thread_siblings_list"]
        .into_iter()
        .map(|file| {
            let lists: BTreeSet<String> = cpu_folders(cpus)
                .into_values()
                .filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok())
                .collect();
            lists.len()
        })
        .find(|count| *count > 0)
        .unwrap_or_default()
}

/// The folders `cpu0`, `cpu1`, ... under `/sys/devices/system/cpu`; none if there is no such place.
fn cpu_folders(cpus: &std::path::Path) -> BTreeMap<u32, PathBuf> {
    let entries = std::fs::read_dir(cpus).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect()
}

/// Cores per socket as `cpuinfo` tells them, for hosts without topology files.
fn physical_count(cpuinfo: Text<'_>) -> Result<u64, ReadError> {
    let mut cores_of: BTreeMap<u64, u64> = BTreeMap::new();
    let mut socket = None;
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.text.split_once(':') else {
            socket = None;
            continue;
        };
        match key.trim() {
            "physical id" => socket = Some(line.number(Some(value.trim()), "expected a number after \"physical id\"")?),
            "cpu cores" => {
                if let Some(socket) = socket {
                    cores_of.insert(socket, line.number(Some(value.trim()), "expected a number after \"cpu cores\"")?);
                }
            }
            _ => {}
        }
    }
    if cores_of.is_empty() {
        return Err(cpuinfo
            .malformed("neither /sys nor this file tells which CPUs share a core; disable system.cpu.physical.count"));
    }
    Ok(cores_of.values().sum())
}

/// `cpu MHz` of every processor in Hz; empty where the architecture has no such line.
fn megahertz(cpuinfo: Text<'_>) -> Result<BTreeMap<u32, f64>, ReadError> {
    let mut found = BTreeMap::new();
    let mut processor = None;
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.text.split_once(':') else { continue };
        match key.trim() {
            "processor" => processor = Some(line.number(Some(value.trim()), "expected a number after \"processor\"")?),
            "cpu MHz" => {
                let processor = processor.ok_or_else(|| line.malformed("\"cpu MHz\" before any \"processor\""))?;
                let megahertz: f64 = line.number(Some(value.trim()), "expected a number after \"cpu MHz\"")?;
                found.insert(processor, megahertz * 1e6);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The current frequency by cpufreq (kHz) in Hz; empty where the host has no cpufreq.
fn scaling_frequencies(cpus: &std::path::Path) -> Result<BTreeMap<u32, f64>, ReadError> {
    let mut found = BTreeMap::new();
    for (cpu, folder) in cpu_folders(cpus) {
        let mut file = Reading::new(folder.join("cpufreq/scaling_cur_freq"));
        match file.text() {
            Ok(text) => {
                let kilohertz: f64 =
                    text.as_str().trim().parse().map_err(|_| text.malformed("expected a frequency in kHz"))?;
                found.insert(cpu, kilohertz * 1e3);
            }
            Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_falling_iowait_counts_as_no_time() {
        let before = [100, 0, 50, 800, 40, 0, 0, 0];
        let now = [110, 0, 60, 820, 35, 0, 0, 0];
        let shares = shares(&before, &now).unwrap();
        assert_eq!(shares[IOWAIT], 0.0);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(super::shares(&now, &now).is_none());
    }

    #[test]
    fn a_small_fall_is_held_and_a_large_one_begins_anew() {
        let before = Seen { ticks: [100, 0, 50, 8000, 40, 0, 0, 0], since: 7 };
        let held = before.next([110, 0, 50, 8100, 35, 0, 0, 0], 300, 9);
        assert_eq!(held, Seen { ticks: [110, 0, 50, 8100, 40, 0, 0, 0], since: 7 });
        let reset = before.next([110, 0, 50, 20, 0, 0, 0, 0], 300, 9);
        assert_eq!(reset, Seen { ticks: [110, 0, 50, 20, 0, 0, 0, 0], since: 9 });
    }

    proptest! {
        #[test]
        fn shares_are_fractions_of_one(before in prop::array::uniform8(0u64..1 << 40), now in prop::array::uniform8(0u64..1 << 40)) {
            if let Some(shares) = shares(&before, &now) {
                prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
        }
    }
}
