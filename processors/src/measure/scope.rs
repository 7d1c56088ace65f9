//! Which scrape of its scope a batch belongs to.
//!
//! A scrape may come in one batch or in parts. Only the points' own times and the coming again of an entity tell where one
//! ends and the next begins; the agent's clock only serves to forget who is silent.

use std::time::Instant;

/// Parts of one scrape lie closer together than this, nanoseconds.
const LEAST_INTERVAL: u64 = 1_000_000_000;

/// What is known of a scope.
#[derive(Debug)]
pub(super) struct Scope {
    /// Newest times of the scrape at hand and of the one before.
    pub(super) now: u64,
    pub(super) before: u64,
    pub(super) scrape: u64,
    /// Whether this scrape, or the one before, came in more than one batch.
    pub(super) in_parts: bool,
    pub(super) was_in_parts: bool,
    pub(super) swept: u64,
    pub(super) heard: Instant,
    /// Places of all its entities.
    pub(super) members: Vec<u32>,
}

impl Scope {
    pub(super) fn new(heard: Instant) -> Self {
        Scope {
            now: 0,
            before: 0,
            scrape: 0,
            in_parts: false,
            was_in_parts: false,
            swept: 0,
            heard,
            members: Vec::new(),
        }
    }

    /// Takes up a batch of that newest time: a new scrape, if something came again that the scrape at hand already had, or if it
    /// is later by more than half of what lay between the last two.
    pub(super) fn advance(&mut self, newest: u64, again: bool) {
        let usual = if self.before == 0 { 0 } else { self.now.saturating_sub(self.before) };
        let later = newest > self.now.saturating_add((usual / 2).max(LEAST_INTERVAL));
        if self.now == 0 || again || later {
            self.before = self.now;
            self.now = newest;
            self.scrape += 1;
            self.was_in_parts = self.in_parts;
            self.in_parts = false;
        } else {
            self.in_parts = true;
            self.now = self.now.max(newest);
        }
    }
}
