//! The numbers of a process: reads only the files that an enabled metric needs, and turns ticks and pages into seconds and bytes.
//!
//! Start times come from the boot time that was read once, so they do not move when the clock is set. Ages come from the
//! kernel's uptime for the same reason.

use phoenix_telemetry::Number;

use super::exits::{Ticks, Times};
use super::files::{Failure, Files, Source, Text};
use super::metrics::{METRICS, Metric, Values, arity};
use super::project::Projection;
use super::reading::{self, Io, Malformed, Stat};
use super::trouble::{Cause, Troubles};
use crate::hostmetrics::catalog::int;
use crate::hostmetrics::reading::Reading;
use crate::hostmetrics::root::Root;
use crate::hostmetrics::scraper::Moment;
use crate::hostmetrics::{cpu, reading as host};

const NANOS: u64 = 1_000_000_000;

/// What `io`, `status` and `fd` hold.
const COSTLY: [Metric; 5] = [
    Metric::DiskIo,
    Metric::DiskOperations,
    Metric::ContextSwitches,
    Metric::SignalsPending,
    Metric::OpenFileDescriptors,
];

/// What the host says once per scrape.
#[derive(Debug)]
struct Host {
    uptime: Option<Reading>,
    cpus: Option<Reading>,
    meminfo: Option<Reading>,
    seconds: Option<f64>,
    cpu_count: Option<f64>,
    busy: Option<u64>,
    mem_total: Option<f64>,
    /// The host's files were complained about, so it is not done again.
    said: bool,
    errored: usize,
}

#[derive(Debug)]
pub(crate) struct Measure {
    wanted: [bool; METRICS],
    host: Host,
    boot: u64,
    ticks_per_second: u64,
    page: u64,
}

impl Measure {
    /// `delayed`: ages are needed even if no metric shows them.
    pub(crate) fn new(projection: &Projection, root: &Root, boot_unix_nanos: u64, delayed: bool) -> Self {
        let wanted: [bool; METRICS] = std::array::from_fn(|index| projection.has(index));
        let wants = |metric: Metric| wanted.get(metric as usize) == Some(&true);
        let reading = |needed: bool, name: &str| needed.then(|| Reading::new(root.proc.join(name)));
        let host = Host {
            uptime: reading(wants(Metric::Uptime) || delayed, "uptime"),
            cpus: reading(wants(Metric::CpuUtilization) || wants(Metric::CpuTime), "stat"),
            meminfo: reading(wants(Metric::MemoryUtilization), "meminfo"),
            seconds: None,
            cpu_count: None,
            busy: None,
            mem_total: None,
            said: false,
            errored: 0,
        };
        Self {
            wanted,
            host,
            boot: boot_unix_nanos,
            ticks_per_second: procfs::ticks_per_second().max(1),
            page: procfs::page_size(),
        }
    }

    fn wants(&self, metric: Metric) -> bool {
        self.wanted.get(metric as usize) == Some(&true)
    }

    /// Reads what the host says once per scrape.
    pub(crate) fn begin(&mut self) {
        let uptime = |reading: &mut Reading| {
            let text = reading.text()?;
            let line = text.lines().next().ok_or(text.malformed("expected seconds since boot"))?;
            line.number::<f64>(line.text.split_ascii_whitespace().next(), "expected seconds since boot")
        };
        self.host.seconds =
            self.host.uptime.as_mut().map(uptime).transpose().unwrap_or_else(|error| self.host.complain(&error));
        let cpus = |reading: &mut Reading| {
            let text = reading.text()?;
            Ok((cpu::count(text)? as f64, cpu::busy(text)?))
        };
        let cpus = self.host.cpus.as_mut().map(cpus).transpose().unwrap_or_else(|error| self.host.complain(&error));
        (self.host.cpu_count, self.host.busy) = cpus.unzip();
        let total = |reading: &mut Reading| reading.text()?.required("MemTotal").map(|bytes| bytes as f64);
        self.host.mem_total =
            self.host.meminfo.as_mut().map(total).transpose().unwrap_or_else(|error| self.host.complain(&error));
    }

    /// The number of the host's CPUs, and in how many clock ticks processes ran on them since boot.
    pub(crate) fn cpus(&self) -> Option<(f64, u64)> {
        self.host.cpu_count.zip(self.host.busy)
    }

    /// Points that are missing because of the host's own files, since the last call.
    pub(crate) fn take_errored(&mut self) -> usize {
        std::mem::take(&mut self.host.errored)
    }

    /// Nanoseconds since the Unix epoch for a start in ticks after boot.
    pub(crate) fn start(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * u128::from(NANOS) / u128::from(self.ticks_per_second);
        self.boot.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Seconds since the process was created; `None` if that is not wanted or the host does not say.
    pub(crate) fn age(&self, stat: &Stat) -> Option<f64> {
        Some((self.host.seconds? - self.seconds(stat.start)).max(0.0))
    }

    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second as f64
    }

    /// How many clock ticks a second has.
    pub(crate) fn ticks_per_second(&self) -> f64 {
        self.ticks_per_second as f64
    }

    /// The CPU times in a reading; `before` is the one before it.
    pub(crate) fn times(&self, stat: &Stat, before: Option<&Times>, at: &Moment) -> Times {
        let own = [stat.user, stat.system];
        let (used, seconds) = match before {
            Some(before) => (grown(own, before.own), at.now.saturating_duration_since(before.at).as_secs_f64()),
            None => (own, at.unix_nanos.saturating_sub(self.start(stat.start)) as f64 / NANOS as f64),
        };
        let used = self.seconds(used.iter().sum());
        Times {
            at: at.now,
            own,
            waited: stat.waited,
            wait: stat.wait,
            // The first thread of one that ended runs no more.
            threads: stat.threads.saturating_sub(u64::from(stat.ended())),
            rate: if seconds > 0.0 { used / seconds } else { 0.0 },
        }
    }

    /// The last values of a process that is gone: its CPU times, and nothing else.
    pub(crate) fn last(&self, times: &Times, tail: [f64; 2]) -> Values {
        let second = |ticks: u64, tail: f64| Number::Double((ticks as f64 + tail) / self.ticks_per_second());
        let mut values = Values::NONE;
        values.set(
            Metric::CpuTime,
            &[second(times.own[0], tail[0]), second(times.own[1], tail[1]), second(times.wait, 0.0)],
        );
        values
    }

    /// Everything that is wanted of one process; of its costly files nothing if they are `deferred`. `io` is what that file holds,
    /// if it is known, and is set when it was read. What cannot be read is left out and noted.
    #[allow(clippy::too_many_arguments)] // the process, its times and the two things that are written to
    pub(crate) fn read(
        &self,
        pid: u32,
        stat: &Stat,
        age: Option<f64>,
        times: (&Times, Option<&Times>),
        deferred: bool,
        io: &mut Option<Io>,
        files: &mut Files,
        troubles: &mut Troubles,
    ) -> Values {
        let mut values = Values::NONE;
        let ticks = [stat.user, stat.system, stat.wait];
        values.set(Metric::CpuTime, &ticks.map(|ticks| Number::Double(self.seconds(ticks))));
        if self.wants(Metric::CpuUtilization)
            && let (now, Some(before)) = times
        {
            self.utilization(now, before, &mut values);
        }
        values.set(Metric::PagingFaults, &[int(stat.major_faults), int(stat.minor_faults)]);
        values.set(Metric::Threads, &[int(stat.threads)]);
        if let Some(age) = age {
            values.set(Metric::Uptime, &[Number::Double(age)]);
        }
        let memory = [Metric::MemoryUsage, Metric::MemoryVirtual, Metric::MemoryUtilization];
        if let Some(statm) = self.file(pid, Source::Statm, &memory, reading::statm, files, troubles) {
            let resident = statm.resident.saturating_mul(self.page);
            values.set(Metric::MemoryUsage, &[int(resident)]);
            values.set(Metric::MemoryVirtual, &[int(statm.size.saturating_mul(self.page))]);
            if let Some(total) = self.host.mem_total.filter(|total| *total > 0.0) {
                values.set(Metric::MemoryUtilization, &[Number::Double(resident as f64 / total)]);
            }
        }
        if deferred {
            values.leave(&COSTLY);
            return values;
        }
        if io.is_none() {
            let disk = [Metric::DiskIo, Metric::DiskOperations];
            *io = self.file(pid, Source::Io, &disk, reading::io, files, troubles);
        }
        if let Some(io) = io {
            values.set(Metric::DiskIo, &[int(io.read_bytes), int(io.write_bytes)]);
            values.set(Metric::DiskOperations, &[int(io.read_calls), int(io.write_calls)]);
        }
        let status = [Metric::ContextSwitches, Metric::SignalsPending];
        let both = |text: &[u8]| Ok((reading::switches(text), reading::signals(text)));
        if let Some((switches, signals)) = self.file(pid, Source::Status, &status, both, files, troubles) {
            // Not every kernel writes all lines (gVisor), so one metric does not wait for the other's.
            match switches {
                Ok(counts) => values.set(Metric::ContextSwitches, &counts.map(int)),
                Err(cause) => self.note(Metric::ContextSwitches, Source::Status, cause, pid, troubles),
            }
            match signals {
                Ok(count) => values.set(Metric::SignalsPending, &[int(count)]),
                Err(cause) => self.note(Metric::SignalsPending, Source::Status, cause, pid, troubles),
            }
        }
        if self.wants(Metric::OpenFileDescriptors) {
            match files.descriptors(pid) {
                Ok(count) => values.set(Metric::OpenFileDescriptors, &[int(count)]),
                Err(Failure::Gone) => {}
                Err(Failure::Failed(error)) => troubles.note(Source::Fd, &Cause::Io(error), pid, 1),
            }
        }
        values
    }

    /// Reads a file if one of the metrics that it holds is wanted.
    fn file<T>(
        &self,
        pid: u32,
        source: Source,
        holds: &[Metric],
        parse: fn(&[u8]) -> Result<T, Malformed>,
        files: &mut Files,
        troubles: &mut Troubles,
    ) -> Option<T> {
        let points: usize =
            holds.iter().filter(|metric| self.wants(**metric)).map(|metric| arity(*metric as usize)).sum();
        if points == 0 {
            return None;
        }
        let parsed = match files.read(pid, source) {
            Ok(Text { bytes, .. }) => parse(bytes).map_err(Cause::from),
            Err(Failure::Gone) => return None,
            Err(Failure::Failed(error)) => Err(error.into()),
        };
        parsed.map_err(|cause| troubles.note(source, &cause, pid, points)).ok()
    }

    /// Notes that a metric has no value, if it is wanted.
    fn note(&self, metric: Metric, source: Source, cause: Malformed, pid: u32, troubles: &mut Troubles) {
        if self.wants(metric) {
            troubles.note(source, &cause.into(), pid, arity(metric as usize));
        }
    }

    /// The share of all CPUs between two readings.
    fn utilization(&self, now: &Times, before: &Times, values: &mut Values) {
        let Some(cpus) = self.host.cpu_count else { return };
        let available = now.at.saturating_duration_since(before.at).as_secs_f64() * cpus;
        if available > 0.0 {
            let [user, system] = grown(now.own, before.own);
            let used = [user, system, now.wait.saturating_sub(before.wait)];
            values.set(Metric::CpuUtilization, &used.map(|ticks| Number::Double(self.seconds(ticks) / available)));
        }
    }
}

/// How much two times grew.
pub(crate) fn grown(now: Ticks, before: Ticks) -> Ticks {
    [now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1])]
}

impl Host {
    fn complain<T>(&mut self, error: &host::ReadError) -> Option<T> {
        self.errored += 1;
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(scraper = "process", "{error}; the metrics that need it are left out");
        }
        None
    }
}
