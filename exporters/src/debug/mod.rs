//! The `debug` exporter: what passes, in words, on the terminal.
//!
//! The text is the Collector's, so what one has learnt to read there reads here. It is written by a thread of its own to
//! standard error (`use_internal_logger`, where the agent's log is) or standard output, as it is: a log level, the log's
//! rate limit and its JSON form do not apply to it.

mod detailed;
mod normal;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::{Report, Settings, Value};
use phoenix_pipeline::{
    BoxFuture, BuildError, Clock, Delivery, Exporter, ExporterFactory, Refusal, Shipment, Site, Stability,
};
use phoenix_telemetry::Batch;
use serde::{Deserialize, Serialize};

use crate::counts::Deliveries;
use crate::worker::{Work, Worker};

/// The exporter's row in the table.
pub const FACTORY: ExporterFactory = ExporterFactory::new::<Config>(
    "debug",
    "Writes what passes to the terminal, in as much detail as asked",
    Stability::Beta,
    build,
);

/// Settings of the `debug` exporter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How much is written. `basic`, as with the Collector: one line a batch.
    pub verbosity: Verbosity,
    /// Batches written in full each second before sampling begins. 2, as with the Collector.
    pub sampling_initial: u64,
    /// Of the further batches of that second every how many-th is written; 0 means none. 1, as with the Collector: all.
    pub sampling_thereafter: u64,
    /// Standard error, where the log goes, or with `false` standard output. On, as with the Collector.
    pub use_internal_logger: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { verbosity: Verbosity::Basic, sampling_initial: 2, sampling_thereafter: 1, use_internal_logger: true }
    }
}

impl Settings for Config {
    fn check(&self, _: &mut Report<'_>) {}
}

/// How much is written about a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verbosity {
    /// One line with counts.
    Basic,
    /// And one line a data point.
    Normal,
    /// And every field of every data point.
    Detailed,
}

/// The text of a batch at a verbosity; `time` is Unix nanoseconds.
pub fn text(batch: &Batch, verbosity: Verbosity, time: u64) -> String {
    let metrics = || batch.resources().flat_map(|resource| resource.metrics());
    let mut out = format!(
        "{}\tinfo\tMetrics\t{{\"resource metrics\": {}, \"metrics\": {}, \"data points\": {}}}\n",
        crate::time::rfc3339(time),
        batch.resources().count(),
        metrics().count(),
        batch.points(),
    );
    match verbosity {
        Verbosity::Basic => {}
        Verbosity::Normal => normal::write(&mut out, batch),
        Verbosity::Detailed => detailed::write(&mut out, batch),
    }
    out
}

/// Which batches of a second are written.
#[derive(Debug)]
struct Sampler {
    initial: u64,
    thereafter: u64,
    second: Option<Instant>,
    seen: u64,
}

impl Sampler {
    fn new(config: &Config) -> Self {
        Self { initial: config.sampling_initial, thereafter: config.sampling_thereafter, second: None, seen: 0 }
    }

    fn wants(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.seen = 0;
        }
        self.seen += 1;
        let further = self.seen.saturating_sub(self.initial);
        further == 0 || (self.thereafter > 0 && further.is_multiple_of(self.thereafter))
    }
}

struct Writer<W> {
    sink: W,
    verbosity: Verbosity,
    sampler: Sampler,
    clock: Clock,
    deliveries: Deliveries,
}

impl<W: Write + Send + 'static> Work for Writer<W> {
    fn take(&mut self, shipment: Shipment, delivery: Delivery) {
        let mut written = Ok(());
        if self.sampler.wants(self.clock.now()) {
            let text = text(shipment.batch(), self.verbosity, self.clock.unix_nanos());
            written = self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush());
        }
        match written {
            Ok(()) => {
                self.deliveries.sent(shipment.points());
                delivery.delivered();
            }
            // A terminal that is gone does not come back.
            Err(error) => {
                self.deliveries.failed(shipment.points());
                delivery.refused(Refusal::last(format!("cannot write to the terminal: {error}")));
            }
        }
    }
}

struct Debug {
    worker: Worker,
    deliveries: Deliveries,
}

fn build(value: &Value, site: &Site) -> Result<Arc<dyn Exporter>, BuildError> {
    let config: Config = site.settings(value)?;
    if config.use_internal_logger {
        start(&config, site, std::io::stderr())
    } else {
        start(&config, site, std::io::stdout())
    }
}

fn start(config: &Config, site: &Site, sink: impl Write + Send + 'static) -> Result<Arc<dyn Exporter>, BuildError> {
    let deliveries = Deliveries::new(site);
    let writer = Writer {
        sink,
        verbosity: config.verbosity,
        sampler: Sampler::new(config),
        clock: site.clock.clone(),
        deliveries: deliveries.clone(),
    };
    let worker = Worker::start(site.id.as_str(), writer).map_err(|error| format!("cannot start a thread: {error}"))?;
    site.status.ok();
    Ok(Arc::new(Debug { worker, deliveries }))
}

impl Exporter for Debug {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        let points = shipment.points();
        if !self.worker.send(shipment, delivery) {
            self.deliveries.failed(points);
        }
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.worker.shutdown(deadline).await;
        })
    }
}
