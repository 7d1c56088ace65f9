//! `batch`: joins small batches into larger ones, so that fewer and better compressed requests leave the agent.
//!
//! Data is held together with the promise of delivery that came with it; a request counts as delivered only when every
//! part of it was. What is held is bounded by `send_batch_size` and, for batches whose bytes are mostly filtered away, by
//! `MAX_HELD_BYTES`; beyond that it is sent at once. Nothing is reordered, lost or doubled.

use std::any::Any;
use std::mem;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::{Report, Settings, Value};
use phoenix_pipeline::{
    BuildError, Context, Delivery, Handover, Histogram, Instrument, Level, Observed, Processor, ProcessorFactory, Site,
    Stability,
};
use phoenix_telemetry::{Batch, Number};
use serde::{Deserialize, Serialize};

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory =
    ProcessorFactory::new::<Config>("batch", "joins small batches into larger ones", Stability::Beta, build);

static SEND_SIZE: Instrument = Instrument {
    name: "otelcol_processor_batch_batch_send_size",
    unit: "{units}",
    description: "Number of units in the batch.",
    level: Level::Normal,
};
static SEND_SIZE_BYTES: Instrument = Instrument {
    name: "otelcol_processor_batch_batch_send_size_bytes",
    unit: "By",
    description: "Number of bytes in batch that was sent.",
    level: Level::Detailed,
};
static SIZE_TRIGGER: Instrument = Instrument {
    name: "otelcol_processor_batch_batch_size_trigger_send",
    unit: "{times}",
    description: "Number of times the batch was sent due to a size trigger.",
    level: Level::Normal,
};
static TIMEOUT_TRIGGER: Instrument = Instrument {
    name: "otelcol_processor_batch_timeout_trigger_send",
    unit: "{times}",
    description: "Number of times the batch was sent due to a timeout trigger.",
    level: Level::Normal,
};
static CARDINALITY: Instrument = Instrument {
    name: "otelcol_processor_batch_metadata_cardinality",
    unit: "{combinations}",
    description: "Number of distinct metadata value combinations being processed.",
    level: Level::Normal,
};

/// Bounds of the histogram of data points a batch: around the default of 8192 and a decade below and above.
const POINTS: &[f64] = &[10.0, 100.0, 500.0, 1e3, 2e3, 4e3, 8e3, 9e3, 1e4, 2e4, 5e4, 1e5];
/// Bounds of the histogram of bytes a batch: from one small scrape to beyond what a gRPC server takes by default.
const BYTES: &[f64] = &[1e3, 1e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 4e6, 1e7];

/// Held memory at which a batch is sent whatever its size: the largest request the agent takes in.
const MAX_HELD_BYTES: usize = 64 << 20;

/// Settings of `batch`, with the Collector's keys and defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time after which held data is sent whatever its size; 0 = nothing is held. 200ms: long enough to join what one
    /// scrape yields, short enough not to be noticed.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub timeout: Duration,
    /// Data points at which a batch is sent; 0 = nothing is held. 8192: beyond it compression gains little.
    pub send_batch_size: u32,
    /// Data points a batch may have at most; larger ones are split. 0 = no limit, as most backends need none.
    pub send_batch_max_size: u32,
    /// Must be empty: client metadata is not kept with the data. The default is the Collector's.
    pub metadata_keys: Vec<String>,
    /// Accepted and without effect while there are no `metadata_keys`. The default is the Collector's.
    pub metadata_cardinality_limit: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            timeout: Duration::from_millis(200),
            send_batch_size: 8192,
            send_batch_max_size: 0,
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 1000,
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.send_batch_max_size > 0 && self.send_batch_max_size < self.send_batch_size {
            let message = format!("must be 0 or at least send_batch_size, which is {}", self.send_batch_size);
            report.error("send_batch_max_size", message);
        }
        if !self.metadata_keys.is_empty() {
            report.error("metadata_keys", "must be empty: client metadata is not kept with the data");
        }
    }
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    Ok(Box::new(Batcher::new(&config, site)))
}

/// The stage.
struct Batcher {
    timeout: Duration,
    size: usize,
    max_size: usize,
    held: Batch,
    promise: Delivery,
    deadline: Option<Instant>,
    points: Histogram,
    bytes: Histogram,
    by_size: metrics::Counter,
    by_timeout: metrics::Counter,
}

impl Batcher {
    fn new(config: &Config, site: &Site) -> Self {
        let labels = [("processor", site.id.as_str())];
        let metrics = &site.metrics;
        metrics.observe(&CARDINALITY, &labels, Observed::Gauge, || Number::Int(1));
        Batcher {
            timeout: config.timeout,
            size: config.send_batch_size as usize,
            max_size: config.send_batch_max_size as usize,
            held: Batch::default(),
            promise: Delivery::none(),
            deadline: None,
            points: metrics.histogram(&SEND_SIZE, &labels, POINTS),
            bytes: metrics.histogram(&SEND_SIZE_BYTES, &labels, BYTES),
            by_size: metrics.counter(&SIZE_TRIGGER, &labels),
            by_timeout: metrics.counter(&TIMEOUT_TRIGGER, &labels),
        }
    }

    /// Whether what is held must not wait any longer.
    fn full(&self) -> bool {
        self.timeout.is_zero() || self.held.points() >= self.size || self.held.retained_bytes() >= MAX_HELD_BYTES
    }

    /// Writes what is held, or as much of it as one batch may have, into `batch` and its promise into `cx`.
    fn send(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        let split = self.max_size > 0 && self.held.points() > self.max_size;
        let rest = if split { self.held.split_off(self.max_size) } else { Batch::default() };
        *batch = mem::replace(&mut self.held, rest);
        *cx.delivery = if split { self.promise.fork() } else { self.promise.take() };
        self.deadline = match (split, self.full()) {
            (false, _) => None,
            (true, true) => Some(cx.now),
            (true, false) => Some(cx.now + self.timeout),
        };
        self.points.record(batch.points() as f64);
        self.bytes.record(batch.encoded_len() as f64);
    }
}

impl Processor for Batcher {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        if batch.is_empty() {
            return;
        }
        let arrived = mem::take(batch);
        if self.held.is_empty() {
            // Not appended to nothing: a batch that nobody touched goes out as the bytes it came in as.
            self.held = arrived;
        } else {
            let left = self.held.append(arrived);
            debug_assert!(left.is_none(), "what is held stays below MAX_HELD_BYTES, so a request always fits");
        }
        self.promise.join(cx.delivery.take());
        self.deadline.get_or_insert(cx.now + self.timeout);
        if self.full() {
            self.by_size.increment(1);
            self.send(batch, cx);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
        if self.held.is_empty() || !(all || self.deadline.is_some_and(|deadline| deadline <= cx.now)) {
            return;
        }
        if self.full() { &self.by_size } else { &self.by_timeout }.increment(1);
        self.send(batch, cx);
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Batcher>() else { return Handover::default() };
        self.held = mem::take(&mut previous.held);
        self.promise = previous.promise.take();
        self.deadline = previous.deadline.take();
        Handover { carried: self.held.points(), ..Handover::default() }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
