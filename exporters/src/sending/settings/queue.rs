//! `sending_queue`: the Collector's keys, our defaults, and what they may be.

use phoenix_pipeline::config::Report;
use serde::{Deserialize, Serialize};

use super::{BatchSettings, BatchSizer};

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
    /// Memory the waiting data may hold, in MiB, whatever `queue_size` says: 1000 requests of a large host would be more than a
    /// gigabyte. Where the queue is on disk: what is on its way there, and what was written and may be sent soon. Default 64:
    /// the largest request OTLP recommends to accept fits once. Phoenix's own key.
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
        if let Some(batch) = self.batching() {
            report.within("batch", |report| batch.check(self, report));
        }
    }
}
