//! What an exporter says about its deliveries: counters, one log line per change of condition, its health.
//!
//! A peer that is away for an hour is two lines (it failed, it works again), not one per attempt. Everything else is in
//! the counters.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge};
use phoenix_pipeline::{Instrument, Level, Site};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Accepted, Failure};
use crate::counts::Deliveries;

static ENQUEUE_FAILED: Instrument = Instrument {
    name: "otelcol_exporter_enqueue_failed_metric_points",
    unit: "{datapoint}",
    description: "Number of metric points refused at the sending queue.",
    level: Level::Basic,
};
static QUEUE_SIZE: Instrument = Instrument {
    name: "otelcol_exporter_queue_size",
    unit: "{batch}",
    description: "Load of the sending queue, what is on its way included, in units of its sizer.",
    level: Level::Basic,
};
static QUEUE_CAPACITY: Instrument = Instrument {
    name: "otelcol_exporter_queue_capacity",
    unit: "{batch}",
    description: "Capacity of the sending queue, in units of its sizer.",
    level: Level::Basic,
};
static IN_FLIGHT: Instrument = Instrument {
    name: "otelcol_exporter_in_flight_requests",
    unit: "{request}",
    description: "Number of requests that are being sent now.",
    level: Level::Basic,
};
static REJECTED: Instrument = Instrument {
    name: "phoenix_exporter_rejected_metric_points_total",
    unit: "{datapoint}",
    description: "Number of metric points the destination rejected in an answer that took the rest (partial success).",
    level: Level::Basic,
};
static DROPPED: Instrument = Instrument {
    name: "phoenix_exporter_dropped_metric_points_total",
    unit: "{datapoint}",
    description: "Number of metric points given up, by cause.",
    level: Level::Basic,
};
static RETRIES: Instrument = Instrument {
    name: "phoenix_exporter_retries_total",
    unit: "{request}",
    description: "Number of attempts that failed and are repeated, by cause.",
    level: Level::Normal,
};

static SPLIT: Instrument = Instrument {
    name: "phoenix_exporter_split_requests_total",
    unit: "{request}",
    description: "Number of requests that were too large for the destination and are sent in halves.",
    level: Level::Normal,
};
static CONCURRENCY: Instrument = Instrument {
    name: "phoenix_exporter_concurrency_limit",
    unit: "{request}",
    description: "Number of requests that may be on their way at a time, as found by the destination's answers.",
    level: Level::Basic,
};
static DAMAGED: Instrument = Instrument {
    name: "phoenix_exporter_damaged_metric_points_total",
    unit: "{datapoint}",
    description: "Number of metric points that a damaged medium took out of the queue on disk, as far as that is known.",
    level: Level::Basic,
};
static DISK_ERRORS: Instrument = Instrument {
    name: "phoenix_exporter_queue_disk_errors_total",
    unit: "{error}",
    description: "Number of failed reads and syncs of the queue on disk.",
    level: Level::Basic,
};

/// Between two log lines about evictions.
const SILENCE: Duration = Duration::from_secs(60);

/// How it goes with the peer, as far as it has been said.
#[derive(Default)]
struct Condition {
    failing: Option<Failing>,
    refusing: bool,
    evicting: Option<Instant>,
    warning: String,
}

struct Failing {
    cause: String,
    since: Instant,
    attempts: u64,
    dropped: u64,
}

/// The account of one exporter.
pub(super) struct Journal {
    site: Site,
    deliveries: Deliveries,
    enqueue_failed: Counter,
    rejected: Counter,
    in_flight: Gauge,
    damaged: Counter,
    split: Counter,
    disk_errors: Counter,
    condition: Mutex<Condition>,
}

impl Journal {
    /// Opens the account: every counter shows 0 from now on.
    pub fn new(site: &Site) -> Self {
        let id = site.id.as_str();
        Journal {
            deliveries: Deliveries::new(site),
            enqueue_failed: site.metrics.counter(&ENQUEUE_FAILED, &[("exporter", id)]),
            rejected: site.metrics.counter(&REJECTED, &[("exporter", id)]),
            in_flight: site.metrics.gauge(&IN_FLIGHT, &[("data_type", "metrics"), ("exporter", id)]),
            split: site.metrics.counter(&SPLIT, &[("exporter", id)]),
            damaged: site.metrics.counter(&DAMAGED, &[("exporter", id)]),
            disk_errors: site.metrics.counter(&DISK_ERRORS, &[("exporter", id)]),
            condition: Mutex::default(),
            site: site.clone(),
        }
    }

    /// The gauge of the queue's load. Old and new exporter of one id share it during a reload, so it is only ever added
    /// to and taken from.
    pub fn queue_size(site: &Site) -> Gauge {
        site.metrics.gauge(&QUEUE_SIZE, &[("data_type", "metrics"), ("exporter", site.id.as_str())])
    }

    /// The gauge of the concurrency that was found.
    pub fn concurrency(site: &Site) -> Gauge {
        site.metrics.gauge(&CONCURRENCY, &[("exporter", site.id.as_str())])
    }

    /// Shows the queue's capacity.
    pub fn show_capacity(site: &Site, capacity: u64) {
        let labels = [("data_type", "metrics"), ("exporter", site.id.as_str())];
        site.metrics.gauge(&QUEUE_CAPACITY, &labels).set(capacity as f64);
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is on its way until the guard is dropped.
    pub fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.increment(1.0);
        InFlight(&self.in_flight)
    }

    /// The peer has taken a request of `points`.
    pub fn sent(&self, points: usize, accepted: Accepted) {
        let rejected = usize::try_from(accepted.rejected).unwrap_or(usize::MAX).min(points);
        self.deliveries.sent(points - rejected);
        self.deliveries.failed(rejected);
        self.rejected.increment(rejected as u64);
        let mut condition = self.condition();
        if let Some(failing) = condition.failing.take() {
            let Failing { attempts, dropped, since, .. } = failing;
            let after = since.elapsed().as_secs();
            info!(exporter = %self.site.id, failed_attempts = attempts, dropped_points = dropped, "the destination takes data again after {after}s");
        }
        if condition.warning != accepted.message && !accepted.message.is_empty() {
            warn!(exporter = %self.site.id, rejected_points = rejected, "the destination answered: {}", accepted.message);
        }
        condition.warning = accepted.message;
        drop(condition);
        self.site.status.ok();
    }

    /// An attempt failed and is repeated after `wait`.
    pub fn retried(&self, failure: &Failure, wait: Duration) {
        let labels = [("cause", &*failure.cause), ("exporter", self.site.id.as_str())];
        self.site.metrics.counter(&RETRIES, &labels).increment(1);
        let seconds = wait.as_secs_f64();
        self.fail(&failure.cause, 0, || format!("{}; trying again in {seconds:.1}s", failure.reason));
    }

    /// `points` are given up for `cause`.
    pub fn dropped(&self, points: u64, cause: &str, reason: &str) {
        self.deliveries.failed(usize::try_from(points).unwrap_or(usize::MAX));
        let labels = [("cause", cause), ("exporter", self.site.id.as_str())];
        self.site.metrics.counter(&DROPPED, &labels).increment(points);
        self.fail(cause, points, || format!("{reason}; {points} data points are dropped"));
    }

    fn fail(&self, cause: &str, dropped: u64, say: impl FnOnce() -> String) {
        let mut condition = self.condition();
        let known = condition.failing.as_ref().is_some_and(|failing| failing.cause == cause);
        let failing = condition.failing.get_or_insert_with(|| Failing {
            cause: cause.to_owned(),
            since: Instant::now(),
            attempts: 0,
            dropped: 0,
        });
        failing.attempts += 1;
        failing.dropped += dropped;
        if !known {
            failing.cause = cause.to_owned();
        }
        // The first loss is news even when its cause is not.
        let first_loss = dropped > 0 && failing.dropped == dropped;
        drop(condition);
        if !known || first_loss {
            let what = say();
            warn!(exporter = %self.site.id, "{what}");
            self.site.status.recoverable(what);
        }
    }

    /// `points` were evicted by a limit of the queue; how it goes with the peer is told by others.
    pub fn evicted(&self, points: u64, cause: &str) {
        self.deliveries.failed(usize::try_from(points).unwrap_or(usize::MAX));
        let labels = [("cause", cause), ("exporter", self.site.id.as_str())];
        self.site.metrics.counter(&DROPPED, &labels).increment(points);
        // A queue that is full evicts with every scrape.
        let now = Instant::now();
        let mut condition = self.condition();
        if condition.evicting.is_none_or(|said| now.saturating_duration_since(said) >= SILENCE) {
            condition.evicting = Some(now);
            warn!(exporter = %self.site.id, "the sending queue is at its limit ({cause}): its oldest data is given up");
        }
    }

    /// A request is sent in halves.
    pub fn split(&self) {
        self.split.increment(1);
    }

    /// A damaged medium took at least `points` out of the queue.
    pub fn damaged(&self, points: u64) {
        self.damaged.increment(points);
        warn!(exporter = %self.site.id, points, "a part of the queue on disk is damaged; it is set aside and the rest is sent");
    }

    /// The queue's disk failed.
    pub fn disk(&self, reason: &str) {
        self.disk_errors.increment(1);
        self.site.status.recoverable(format!("the queue on disk: {reason}"));
    }

    /// `points` were refused at the queue.
    pub fn refused(&self, points: usize, reason: &str) {
        self.enqueue_failed.increment(points as u64);
        if !std::mem::replace(&mut self.condition().refusing, true) {
            warn!(exporter = %self.site.id, "{reason}; data is refused until there is room");
        }
    }

    /// The queue took something in.
    pub fn enqueued(&self) {
        if std::mem::replace(&mut self.condition().refusing, false) {
            info!(exporter = %self.site.id, "the sending queue has room again");
        }
    }
}

/// Counts a request as being sent while it lives.
pub(super) struct InFlight<'j>(&'j Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
