//! `sending_queue.batch`: the Collector's keys and defaults, and what they may be.

use std::time::Duration;

use phoenix_pipeline::config::{self, Report};
use serde::{Deserialize, Serialize};

use super::{QueueSettings, Sizer};

/// What the sizes of a batch count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSizer {
    /// Data points.
    Items,
    /// Bytes of the OTLP encoding, before compression.
    Bytes,
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

impl BatchSettings {
    /// Checks what the types cannot, beside the queue that the block stands in. Paths are relative to this block.
    pub fn check(&self, queue: &QueueSettings, report: &mut Report<'_>) {
        if self.flush_timeout.is_zero() {
            report.error("flush_timeout", "0s is not allowed: a duration above 0 is");
        }
        if self.max_size > 0 && self.max_size < self.min_size {
            report.error(
                "max_size",
                format!(
                    "{} is less than min_size ({}): 0 (no maximum) or at least min_size is allowed",
                    self.max_size, self.min_size
                ),
            );
        }
        let same_units = matches!(
            (queue.sizer(), queue.batch_sizer(self)),
            (Sizer::Items, BatchSizer::Items) | (Sizer::Bytes, BatchSizer::Bytes)
        );
        if same_units && self.min_size > queue.capacity() {
            report.error(
                "min_size",
                format!(
                    "{} is more than queue_size ({}): a batch that large could never fill",
                    self.min_size,
                    queue.capacity()
                ),
            );
        }
        if !self.partition.metadata_keys.is_empty() {
            report.error(
                "partition.metadata_keys",
                "batches by the metadata of clients are not served: leave the list empty".to_owned(),
            );
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
