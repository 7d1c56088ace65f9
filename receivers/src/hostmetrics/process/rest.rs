//! Who rests: a process that has not run since its last reading is not read again.
//!
//! What `stat` and `io` say of a process comes of what its threads do: CPU time, faults, waiting, I/O, threads, children waited
//! for. A process of one thread that had no turn on a CPU in between has done none of it. `schedstat` says so, to the turn
//! and the nanosecond, for less than a third of what the two cost: 1.6 µs against 5.8, and the whole agent takes 12.5 µs a
//! process and scrape instead of 15.1 (docs/performance.md). It is read before them, so a turn in between shows at the next
//! look. The one thing that others change is its parent, when that ends: who has lost its parent is read. Memory others
//! change, too (reclaim, truncated files), so `statm` is read of everybody; and so are `status` and `fd`, which a signal changes.
//!
//! A process of several threads is always read: the file speaks of the first alone. So is everything where the kernel
//! does not count turns.

use super::reading::{Io, Ran, Stat};

/// What was read while a process rested, and how long that is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    /// How it had run before the last reading; `None`: not known, or it has several threads.
    ran: Option<Ran>,
    /// Its `io` as read since.
    pub(super) io: Option<Io>,
    /// Scrapes since it ran.
    scrapes: u8,
}

/// After so many scrapes at rest the files that are not read stay open no longer; who wakes now and then is spared the opening.
const CLOSED_AFTER: u8 = 10;

impl Rest {
    /// Whether the process has not run since its last reading, by what its `schedstat` says now.
    pub(super) fn goes_on(&self, ran: Option<Ran>) -> bool {
        ran.is_some() && self.ran == ran
    }

    /// Whether the process was read at the scrape before. The files of one that runs but once need not stay open.
    pub(super) fn was_read(&self) -> bool {
        self.scrapes == 0
    }

    /// The process was not read. Returns whether what is not read of it should be closed.
    pub(super) fn spared(&mut self) -> bool {
        self.scrapes = self.scrapes.saturating_add(1);
        self.scrapes == CLOSED_AFTER
    }

    /// The process was read; `ran` is what its `schedstat` said before.
    pub(super) fn read(&mut self, stat: &Stat, ran: Option<Ran>) {
        *self = Self { ran: ran.filter(|_| stat.threads == 1), ..Self::default() };
    }

    /// Whether one look at `schedstat` can tell.
    pub(super) fn is_told(stat: &Stat) -> bool {
        stat.threads <= 1
    }
}
