//! What an exporter that sends can be told: `retry_on_failure`, `sending_queue` and `sending_queue.batch`, a file each.

mod batch;
mod queue;
mod retry;

pub use batch::{BatchSettings, BatchSizer};
pub use queue::{OnFull, QueueSettings, Sizer};
pub use retry::RetrySettings;
