//! How full the memory is, by whoever knows: the limiters of the pipelines, and the limit the kernel holds us to.

use std::path::Path;
use std::time::{Duration, Instant};

use phoenix_pipeline::{Estimates, memory};

use crate::own::Usage;

/// A limiter that has not looked for so long has had no batches, and says nothing of now.
const STALE: Duration = Duration::from_secs(30);

/// Reads it.
pub(super) struct Memory {
    estimates: Estimates,
    /// Bytes the process may use, by its cgroup or the machine.
    available: Option<u64>,
}

impl Memory {
    /// Of the agent itself. A limit that cannot be learnt was warned of when the agent started.
    pub(super) fn of_this_process(estimates: Estimates) -> Self {
        Memory { estimates, available: memory::available(Path::new("/")).ok() }
    }

    /// The fullest of what is known, 1 = data is refused or the kernel ends us; `None` if nothing is known.
    pub(super) fn used(&self, now: Instant) -> Option<f64> {
        let limiters = self.estimates.memory.list().into_iter().map(|row| *row.snapshot);
        let limiters = limiters.filter(|read| now.saturating_duration_since(read.at) <= STALE).map(|read| read.used);
        let resident = Usage::read().resident as f64;
        let process = self.available.filter(|bytes| *bytes > 0).map(|bytes| resident / bytes as f64);
        limiters.chain(process).reduce(f64::max)
    }
}
