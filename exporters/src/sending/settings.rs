//! `retry_on_failure`, `sending_queue` and `sending_queue.batch`: the Collector's keys and defaults, and what they may be.

use std::time::Duration;

use phoenix_pipeline::config::{self, Report};
use serde::{Deserialize, Serialize};

/// `retry_on_failure`: how a failed request is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Whether failed requests are repeated at all. Default true: most failures of a backend pass.
    pub enabled: bool,
    /// The first wait. Default 5s: long enough for a restart of the peer to get under way.
    #[serde(with = "config::duration")]
    pub initial_interval: Duration,
    /// The jitter: a wait is spread by this part of itself to both sides. Default 0.5: agents that failed together do
    /// not come back together.
    pub randomization_factor: f64,
    /// The growth of the wait. Default 1.5.
    pub multiplier: f64,
    /// The longest wait. Default 30s: a peer that is back is found within half a minute.
    #[serde(with = "config::duration")]
    pub max_interval: Duration,
    /// How long one request is tried before it is dropped; 0s = without end. Default 5m where the queue is in memory:
    /// older points are of little use and hold memory; 0s where it is on disk: that is what a disk is for.
    #[serde(with = "config::duration::option")]
    pub max_elapsed_time: Option<Duration>,
}

/// The Collector's `max_elapsed_time`.
const MEMORY_BUDGET: Duration = Duration::from_secs(300);

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: None,
        }
    }
}

impl RetrySettings {
    /// How long one request is tried; zero = without end.
    pub fn budget(&self, on_disk: bool) -> Duration {
        self.max_elapsed_time.unwrap_or(if on_disk { Duration::ZERO } else { MEMORY_BUDGET })
    }

    /// Checks what the types cannot. Paths are relative to this block.
    pub fn check(&self, report: &mut Report<'_>) {
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            report.error(
                "randomization_factor",
                format!("{} is not a jitter: a number from 0 to 1 is", self.randomization_factor),
            );
        }
        if !(self.multiplier >= 1.0 && self.multiplier.is_finite()) {
            report.error(
                "multiplier",
                format!("{} would make the waits shrink: a number of at least 1 is allowed", self.multiplier),
            );
        }
        // A default is long enough; only what was written down can be too short.
        let budget = self.max_elapsed_time.unwrap_or_default();
        if self.enabled && !budget.is_zero() {
            for (name, value) in [("initial_interval", self.initial_interval), ("max_interval", self.max_interval)] {
                if value > budget {
                    report.error(
                        name,
                        format!("must not be longer than max_elapsed_time ({budget:?}), or nothing is ever repeated"),
                    );
                }
            }
        }
    }
}

/// What `queue_size` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizer {
    /// Shipments, whatever is in them.
    #[default]
    Requests,
    /// Data points.
    Items,
    /// Bytes of the OTLP encoding, before compression.
    Bytes,
}

/// What the sizes of a batch count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSizer {
    /// Data points.
    Items,
    /// Bytes of the OTLP encoding, before compression.
    Bytes,
}

/// What happens to data that finds the queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It is refused, and who sent it hears "later".
    #[default]
    Refuse,
    /// It takes the place of the oldest, which is counted as lost.
    EvictOldest,
}

/// What a queue in memory holds when nothing else is said: an hour of a host with 1,000 processes.
const MEMORY_BYTES: u64 = 64 << 20;
/// The same of a queue on disk: a day of such a host, and small beside what a disk holds.
const DISK_BYTES: u64 = 1 << 30;
/// The Collector's default, for those who count in requests or items and do not say how many.
const REQUESTS: u64 = 1000;

/// The largest `max_memory_mib`: what waits may be joined to one batch, which addresses less than 4 GiB.
const MAX_MEMORY_MIB: u64 = 2048;

/// `sending_queue`: what waits for the peer, in memory or on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Default true. Off means that nothing waits: `num_consumers` shipments may be on their way, more are refused, and
    /// the sender hears of the outcome.
    pub enabled: bool,
    /// The most requests on their way at a time, those that wait for their next attempt included. Default 10. A peer
    /// that shows signs of overload gets fewer at a time.
    pub num_consumers: usize,
    /// The most the queue holds, what is on its way included, in units of `sizer`. Default 64 MiB in memory and 1 GiB on
    /// disk; 1000 where `sizer` names another unit.
    pub queue_size: Option<u64>,
    /// Default `requests` where `queue_size` is set, as in the Collector, else `bytes`: what a queue costs is bytes.
    pub sizer: Option<Sizer>,
    /// What happens to data that does not fit: `refuse` (the default: who sent it can send it again) or `evict_oldest`,
    /// which always holds for data that nobody could send again, such as scrapes. Phoenix's own key.
    pub on_full: OnFull,
    /// The largest request in bytes as it goes over the wire (after compression); what is larger is sent in halves. 0 = no
    /// limit, the default; New Relic takes 1000000. Phoenix's own key.
    pub max_request_size: u64,
    /// The Collector makes the sender wait for room. A lane never waits, so here the data is refused as retryable either
    /// way and the lane's own channel is what holds back. Default false.
    pub block_on_overflow: bool,
    /// Whether the sender is answered only when the peer has answered (true), or as soon as the data is in the queue
    /// (false, the default, as in the Collector).
    pub wait_for_result: bool,
    /// The id of a storage extension: the queue is on disk and survives the agent's end. Absent by default.
    pub storage: Option<String>,
    /// Memory the waiting data may hold (on its way to the disk, where the queue is there), in MiB, whatever `queue_size` says: 1000 requests of a large host would be more
    /// than a gigabyte. Default 64: the largest request OTLP recommends to accept fits once. Phoenix's own key.
    pub max_memory_mib: u64,
    /// Merging and splitting of what waits. Absent by default: shipments are sent as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchSettings>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings {
            enabled: true,
            num_consumers: 10,
            queue_size: None,
            sizer: None,
            on_full: OnFull::Refuse,
            max_request_size: 0,
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
            max_memory_mib: 64,
            batch: None,
        }
    }
}

impl QueueSettings {
    /// The batch settings, if batching is on.
    pub fn batching(&self) -> Option<&BatchSettings> {
        self.batch.as_ref().filter(|batch| self.enabled && batch.enabled)
    }

    /// The storage extension, where the queue is on disk.
    pub fn on_disk(&self) -> Option<&str> {
        self.storage.as_deref().filter(|_| self.enabled)
    }

    /// What `queue_size` counts.
    pub fn sizer(&self) -> Sizer {
        self.sizer.unwrap_or(if self.queue_size.is_some() { Sizer::Requests } else { Sizer::Bytes })
    }

    /// How much fits, in units of the sizer.
    pub fn capacity(&self) -> u64 {
        self.queue_size.unwrap_or(match (self.sizer(), self.on_disk()) {
            (Sizer::Bytes, None) => MEMORY_BYTES,
            (Sizer::Bytes, Some(_)) => DISK_BYTES,
            (Sizer::Requests | Sizer::Items, _) => REQUESTS,
        })
    }

    /// What a batch's sizes count: its own sizer, else the queue's, else data points.
    pub fn batch_sizer(&self, batch: &BatchSettings) -> BatchSizer {
        batch.sizer.unwrap_or(if self.sizer == Some(Sizer::Bytes) { BatchSizer::Bytes } else { BatchSizer::Items })
    }

    /// Checks what the types cannot. Paths are relative to this block.
    pub fn check(&self, report: &mut Report<'_>) {
        if !(1..=1024).contains(&self.num_consumers) {
            report.error("num_consumers", format!("{} is not allowed: 1 to 1024 are", self.num_consumers));
        }
        if self.queue_size == Some(0) {
            report.error("queue_size", "0 would refuse everything: a number above 0 is allowed");
        }
        if self.max_memory_mib == 0 {
            report.error("max_memory_mib", "0 would refuse everything: a number above 0 is allowed");
        }
        if self.max_memory_mib > MAX_MEMORY_MIB {
            report.error("max_memory_mib", format!("at most {MAX_MEMORY_MIB} is allowed"));
        }
        if self.wait_for_result && self.storage.is_some() {
            report.error("wait_for_result", "cannot be used together with `storage`");
        }
        let Some(batch) = self.batching() else { return };
        if batch.flush_timeout.is_zero() {
            report.error("batch.flush_timeout", "0s is not allowed: a duration above 0 is");
        }
        if batch.max_size > 0 && batch.max_size < batch.min_size {
            report.error(
                "batch.max_size",
                format!(
                    "{} is less than min_size ({}): 0 (no maximum) or at least min_size is allowed",
                    batch.max_size, batch.min_size
                ),
            );
        }
        let same_units = matches!(
            (self.sizer(), self.batch_sizer(batch)),
            (Sizer::Items, BatchSizer::Items) | (Sizer::Bytes, BatchSizer::Bytes)
        );
        if same_units && batch.min_size > self.capacity() {
            report.error(
                "batch.min_size",
                format!(
                    "{} is more than queue_size ({}): a batch that large could never fill",
                    batch.min_size,
                    self.capacity()
                ),
            );
        }
        if !batch.partition.metadata_keys.is_empty() {
            report.error(
                "batch.partition.metadata_keys",
                "batches by the metadata of clients are not served: leave the list empty".to_owned(),
            );
        }
    }
}

/// `sending_queue.batch`: shipments are merged before and split after waiting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Default true: naming the block turns it on.
    pub enabled: bool,
    /// How long data waits for more of it. Default 200ms.
    #[serde(with = "config::duration")]
    pub flush_timeout: Duration,
    /// A batch of this size is sent at once. Default 8192.
    pub min_size: u64,
    /// No request is larger than this, a single data point excepted; 0 = no maximum, the default.
    pub max_size: u64,
    /// What the sizes count. Default: as the queue, or `items` where that counts requests.
    pub sizer: Option<BatchSizer>,
    /// Separate batches by client metadata; only the empty list is served.
    pub partition: Partition,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            enabled: true,
            flush_timeout: Duration::from_millis(200),
            min_size: 8192,
            max_size: 0,
            sizer: None,
            partition: Partition::default(),
        }
    }
}

/// `sending_queue.batch.partition`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partition {
    /// Keys of client metadata; only the empty list is served.
    pub metadata_keys: Vec<String>,
}
