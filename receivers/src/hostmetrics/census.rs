//! How many processes are in which state, counted where each of them is read anyway.
//!
//! The `process` scraper reads every `stat`, and the `processes` scraper needs a letter of each. The one leaves its count for
//! the other, which opens a thousand files only where the first is off or could not list the processes: with the embedded
//! config and 1,095 processes 16.6 µs a process and scrape instead of 23.4 (docs/performance.md).

use std::sync::{Arc, Mutex, PoisonError};

use super::catalog::{Attribute, Member};
use super::scraper::Moment;

/// The states of a process as points show them.
pub(super) const STATUS: Attribute = Attribute {
    v0: Some("status"),
    v1: Some("process.state"),
    members: &[
        Member::same("blocked"),
        Member::same("daemon"),
        Member::same("detached"),
        Member::same("idle"),
        Member::same("locked"),
        Member::same("orphan"),
        Member::same("paging"),
        Member::same("running"),
        Member::same("sleeping"),
        Member::same("stopped"),
        Member::same("system"),
        Member::same("unknown"),
        Member::renamed("zombies", "defunct"),
    ],
};
pub(super) const BLOCKED: usize = 0;
pub(super) const RUNNING: usize = 7;
pub(super) const UNKNOWN: usize = 11;

/// The member of [`STATUS`] for a state letter of `/proc/PID/stat`.
fn status(letter: u8) -> usize {
    match letter {
        b'A' => 1,
        b'D' | b'U' => BLOCKED,
        b'E' => 2,
        b'I' => 3,
        b'L' => 4,
        b'O' => 5,
        b'W' => 6,
        b'R' => RUNNING,
        b'S' => 8,
        b'T' | b't' => 9,
        b'Y' => 10,
        b'Z' => 12,
        _ => UNKNOWN,
    }
}

/// The processes of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// By the members of [`STATUS`].
    pub(super) counts: [u64; 13],
    /// All, with those whose state is not known.
    pub(super) total: u64,
}

impl Census {
    /// Counts a process by the letter of its state; `None` where that cannot be read.
    pub(crate) fn add(&mut self, letter: Option<u8>) {
        self.total += 1;
        if let Some(count) = letter.and_then(|letter| self.counts.get_mut(status(letter))) {
            *count += 1;
        }
    }
}

/// Where the count of a scrape is left.
#[derive(Clone, Debug, Default)]
pub(crate) struct CensusDesk(Arc<Mutex<Option<(u64, Census)>>>);

impl CensusDesk {
    /// Leaves the count of this moment.
    pub(crate) fn leave(&self, at: &Moment, census: Census) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at.unix_nanos, census));
    }

    /// The count of this very moment, if somebody counted.
    pub(super) fn take(&self, at: &Moment) -> Option<Census> {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        left.filter(|(counted, _)| *counted == at.unix_nanos).map(|(_, census)| census)
    }
}
