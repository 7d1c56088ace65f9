//! What every exporter counts about its own deliveries, under the Collector's names.
//!
//! One place for the two instruments, so that a dashboard made for the Collector finds them whatever exporter runs. It
//! never decides what a failure is: the exporter says which points were sent and which were given up.

use metrics::Counter;
use phoenix_pipeline::{Instrument, Level, Site};

static SENT: Instrument = Instrument {
    name: "otelcol_exporter_sent_metric_points",
    unit: "{datapoint}",
    description: "Number of metric points successfully sent to destination.",
    level: Level::Basic,
};

static SEND_FAILED: Instrument = Instrument {
    name: "otelcol_exporter_send_failed_metric_points",
    unit: "{datapoint}",
    description: "Number of metric points in failed attempts to send to destination.",
    level: Level::Basic,
};

/// The two delivery counters of one exporter, labelled `exporter` with its component id.
#[derive(Clone)]
pub struct Deliveries {
    sent: Counter,
    failed: Counter,
}

impl Deliveries {
    /// Makes the counters of the exporter being built. Made once: the hot path only adds.
    pub fn new(site: &Site) -> Self {
        let id = site.id.to_string();
        let labels = [("exporter", id.as_str())];
        Self { sent: site.metrics.counter(&SENT, &labels), failed: site.metrics.counter(&SEND_FAILED, &labels) }
    }

    /// Counts `points` data points that reached the destination.
    pub fn sent(&self, points: usize) {
        self.sent.increment(points as u64);
    }

    /// Counts `points` data points that did not reach the destination and are not tried again.
    pub fn failed(&self, points: usize) {
        self.failed.increment(points as u64);
    }
}
