//! `memory_limiter`: refuses data while the process holds more memory than it should.
//!
//! It stands first in a pipeline, so that the pressure reaches the receivers before anything was spent on the data. The
//! measure is the resident set of the process, read on the lane once per `check_interval` at most (and once more after
//! memory was given back); between two readings a batch costs one comparison of times. The decision itself (`limits`)
//! never reads anything. The stage never drops data silently: what it does not take is refused, and the sender may come
//! again.

mod limits;
mod memory;

use std::any::Any;
use std::path::Path;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::{Report, Settings, Value};
use phoenix_pipeline::estimates::{MemoryUse, Publisher};
use phoenix_pipeline::memory::{MemoryError, available};
use phoenix_pipeline::{BuildError, Context, Instrument, Level, Processor, ProcessorFactory, Refusal, Site, Stability};
use phoenix_telemetry::Batch;
use serde::{Deserialize, Serialize};

use limits::{Gate, Limits};
use memory::{Memory, ProcessMemory};

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "memory_limiter",
    "refuses data while the process holds too much memory",
    Stability::Beta,
    build,
);

static ACCEPTED: Instrument = Instrument {
    name: "otelcol_processor_memory_limiter_accepted_metric_points",
    unit: "{datapoint}",
    description: "Number of metric points that passed the memory limiter.",
    level: Level::Basic,
};
static REFUSED: Instrument = Instrument {
    name: "otelcol_processor_memory_limiter_refused_metric_points",
    unit: "{datapoint}",
    description: "Number of metric points that the memory limiter refused.",
    level: Level::Basic,
};
static USED: Instrument = Instrument {
    name: "phoenix_memory_used_bytes",
    unit: "By",
    description: "Resident memory as the memory limiter read it last.",
    level: Level::Basic,
};
static LIMIT: Instrument = Instrument {
    name: "phoenix_memory_limit_bytes",
    unit: "By",
    description: "Resident memory above which data is refused (soft), and the limit that keeps room above it (hard).",
    level: Level::Basic,
};

/// What a refused sender is told; the Collector's sentence, so that logs and alerts for it keep matching.
const REASON: &str = "data refused due to high memory usage";

const MIB: u64 = 1 << 20;

/// The limit where none is set.
const DEFAULT_PERCENTAGE: u32 = 80;

/// Settings of `memory_limiter`, with the Collector's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings of the memory in use. 0 = not set, an error: as in the Collector there is no default,
    /// because the right one depends on how fast the memory can grow (1s suits most).
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub check_interval: Duration,
    /// Hard limit in MiB. 0 = use `limit_percentage`, because a number that suits every host does not exist.
    pub limit_mib: u32,
    /// MiB between the soft and the hard limit. 0 = 20 % of the limit: room for what arrives between two readings.
    pub spike_limit_mib: u32,
    /// Hard limit in percent of the memory the process may use. 0 = use `limit_mib`, and 80 where that is 0 too: the
    /// limiter follows the container's limit without being told, with room below it for what is not counted.
    pub limit_percentage: u32,
    /// Percent of the same memory between the soft and the hard limit. 0 = 20 % of the limit, as above.
    pub spike_limit_percentage: u32,
    /// Least time between two attempts to give memory back above the soft limit: each costs up to milliseconds.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub min_gc_interval_when_soft_limited: Duration,
    /// The same above the hard limit. 0 = at every reading, because then every byte counts.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub min_gc_interval_when_hard_limited: Duration,
    /// Accepted and without effect: the Collector's longest pause between forced garbage collections, of which there are
    /// none here. The default is the Collector's.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub max_gc_interval_when_soft_limited: Duration,
    /// Accepted and without effect, as above.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub max_gc_interval_when_hard_limited: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            check_interval: Duration::ZERO,
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 0,
            spike_limit_percentage: 0,
            min_gc_interval_when_soft_limited: Duration::from_secs(10),
            min_gc_interval_when_hard_limited: Duration::ZERO,
            max_gc_interval_when_soft_limited: Duration::from_secs(30),
            max_gc_interval_when_hard_limited: Duration::from_secs(30),
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.check_interval.is_zero() {
            report.error("check_interval", "must be set and greater than zero; 1s suits most hosts");
        }
        if self.limit_mib > 0 && self.spike_limit_mib >= self.limit_mib {
            report.error("spike_limit_mib", format!("must be less than limit_mib, which is {}", self.limit_mib));
        }
        if self.limit_mib == 0 && self.spike_limit_mib > 0 {
            report.error("spike_limit_mib", "has no effect without limit_mib; write spike_limit_percentage");
        }
        for (key, percentage) in
            [("limit_percentage", self.limit_percentage), ("spike_limit_percentage", self.spike_limit_percentage)]
        {
            if percentage > 100 {
                report.error(key, format!("must be from 0 to 100, not {percentage}"));
            }
        }
        let by_percentage = self.limit_percentage > 0 || self.limit_mib == 0;
        if by_percentage && self.spike_limit_percentage >= self.percentage() {
            let message = format!("must be less than limit_percentage, which is {}", self.percentage());
            report.error("spike_limit_percentage", message);
        }
        if !by_percentage && self.spike_limit_percentage > 0 {
            report.error("spike_limit_percentage", "has no effect without limit_percentage; write spike_limit_mib");
        }
        if self.min_gc_interval_when_soft_limited < self.min_gc_interval_when_hard_limited {
            let message = "must not be shorter than min_gc_interval_when_hard_limited";
            report.error("min_gc_interval_when_soft_limited", message);
        }
    }
}

impl Config {
    fn percentage(&self) -> u32 {
        if self.limit_percentage == 0 { DEFAULT_PERCENTAGE } else { self.limit_percentage }
    }

    /// The limits in bytes; `total` is asked only when a percentage needs it.
    fn limits(&self, total: impl FnOnce() -> Result<u64, MemoryError>) -> Result<Limits, MemoryError> {
        if self.limit_mib > 0 {
            return Ok(Limits::new(u64::from(self.limit_mib) * MIB, u64::from(self.spike_limit_mib) * MIB));
        }
        let total = total()?;
        Ok(Limits::new(limits::percent(total, self.percentage()), limits::percent(total, self.spike_limit_percentage)))
    }
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let limits = config
        .limits(|| available(Path::new("/")))
        .map_err(|error| format!("{error}; set limit_mib instead of limit_percentage"))?;
    let memory = ProcessMemory::open()
        .map_err(|error| format!("cannot read the process's own memory from /proc/self/statm: {error}"))?;
    let (hard_mib, soft_mib) = (limits.hard() / MIB, limits.soft() / MIB);
    tracing::info!(processor = %site.id, hard_mib, soft_mib, "memory limiter set");
    Ok(Box::new(MemoryLimiter::new(&config, limits, Box::new(memory), site)))
}

/// The stage.
struct MemoryLimiter {
    gate: Gate,
    memory: Box<dyn Memory>,
    check_interval: Duration,
    next_check: Option<Instant>,
    id: String,
    publisher: Publisher<MemoryUse>,
    accepted: metrics::Counter,
    refused: metrics::Counter,
    used: metrics::Gauge,
}

impl MemoryLimiter {
    fn new(config: &Config, limits: Limits, memory: Box<dyn Memory>, site: &Site) -> Self {
        let labels = [("processor", site.id.as_str())];
        let pipeline = site.pipeline.clone().unwrap_or_default();
        for (kind, bytes) in [("soft", limits.soft()), ("hard", limits.hard())] {
            site.metrics.gauge(&LIMIT, &[labels[0], ("limit", kind)]).set(bytes as f64);
        }
        let (soft, hard) = (config.min_gc_interval_when_soft_limited, config.min_gc_interval_when_hard_limited);
        MemoryLimiter {
            gate: Gate::new(limits, soft, hard),
            memory,
            check_interval: config.check_interval,
            next_check: None,
            id: site.id.to_string(),
            publisher: site.estimates.memory.publisher(&pipeline, &site.id),
            accepted: site.metrics.counter(&ACCEPTED, &labels),
            refused: site.metrics.counter(&REFUSED, &labels),
            used: site.metrics.gauge(&USED, &labels),
        }
    }

    /// Reads the memory in use if it is time to, and lets the gate decide.
    fn check(&mut self, now: Instant) {
        if self.next_check.is_some_and(|next| now < next) {
            return;
        }
        self.next_check = Some(now + self.check_interval);
        let was_refusing = self.gate.refuses();
        match self.memory.resident() {
            Ok(resident) => self.gate.decide(resident),
            // The last decision stands: neither opening nor closing the gate would be better founded.
            Err(error) => tracing::warn!(processor = %self.id, %error, "cannot read the memory in use"),
        }
        if self.gate.give_back(now) {
            self.memory.give_back();
            if let Ok(resident) = self.memory.resident() {
                self.gate.decide(resident);
            }
        }
        self.used.set(self.gate.usage() as f64);
        let used = self.gate.usage() as f64 / self.gate.limits().soft().max(1) as f64;
        self.publisher.publish(MemoryUse { at: now, used });
        let (resident_mib, soft_mib) = (self.gate.usage() / MIB, self.gate.limits().soft() / MIB);
        match (was_refusing, self.gate.refuses()) {
            (false, true) => {
                tracing::warn!(processor = %self.id, resident_mib, soft_mib, "memory is above the soft limit: data is refused");
            }
            (true, false) => {
                tracing::info!(processor = %self.id, resident_mib, soft_mib, "memory is below the soft limit again")
            }
            _ => {}
        }
    }
}

impl Processor for MemoryLimiter {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        self.check(cx.now);
        let points = batch.points() as u64;
        if self.gate.refuses() {
            self.refused.increment(points);
            cx.refuse(batch, Refusal::later(REASON));
        } else {
            self.accepted.increment(points);
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
