//! The host's busy time against the sum of its processes': what no exported process accounts for.
//!
//! The rest is never given to anybody. It is children that lived between two scrapes, what processes used before their end and
//! nobody waited for, and the processes that are left out or may not be read.

use phoenix_pipeline::{Instrument, Level};

pub(super) static UNATTRIBUTED: Instrument = Instrument {
    name: "phoenix_unattributed_ratio",
    unit: "1",
    description: "Share of the CPU time that the host's processes used in the last interval (user, nice and system of /proc/stat) that is in no exported process.cpu.time.",
    level: Level::Basic,
};

/// One interval after the other, in clock ticks.
#[derive(Debug)]
pub(crate) struct Balance {
    gauge: metrics::Gauge,
    /// The host's at the scrape before.
    busy: Option<u64>,
    /// What the processes of this scrape have added.
    counted: f64,
}

impl Balance {
    pub(crate) fn new(gauge: metrics::Gauge) -> Self {
        Self { gauge, busy: None, counted: 0.0 }
    }

    /// A process has used so much since the scrape before.
    pub(crate) fn count(&mut self, ticks: f64) {
        self.counted += ticks;
    }

    /// All of a scrape was counted; `busy` is what the host says. Readings are not of one moment, so the share of a short or idle
    /// interval may lie a little below 0.
    pub(crate) fn close(&mut self, busy: Option<u64>) {
        let counted = std::mem::take(&mut self.counted);
        let before = std::mem::replace(&mut self.busy, busy);
        if let (Some(before), Some(now)) = (before, busy)
            && now > before
        {
            self.gauge.set(1.0 - counted / (now - before) as f64);
        }
    }
}
