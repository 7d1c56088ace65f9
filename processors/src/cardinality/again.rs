//! Resources that come again with the series they had: one look tells that nothing new came, however many points there are.
//!
//! To be counted twice in an epoch adds nothing to a set, so what is left out is exact. When the series of such a resource
//! were met last is known of the resource alone; each series that is remembered belongs to the one it came with last, and
//! what takes a series from another makes that one be looked at again. For a host of 500 processes that is two fifths of the
//! stage's instructions: 96 a point less.

use phoenix_sketch::{COMMON_SEED, Ordered};

use super::{NEVER, same_half};
use crate::machine::prefetch;

/// Resources that are remembered, at some 90 bytes each 9 MB; further ones are looked at point by point.
const MAX_RESOURCES: usize = 100_000;

/// No resource that is remembered.
pub(super) const NOBODY: u32 = u32::MAX;

/// A resource with certain series.
struct Told {
    /// When its series were last counted; `NEVER` if they must be looked at one by one.
    epoch: u64,
    /// When all of those that belong to it were last counted without a look at each; 0 = never.
    counted: u64,
    /// Whether a look at each found them all, and none twice.
    whole: bool,
    /// When it came last.
    last: u64,
}

/// What is left to do for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Its series are to be counted in the total of the new epoch.
    Total,
    /// The same, and their attributes in the new half; those that are remembered are this place's.
    Half(u32),
    /// All; the series that are remembered become those of this place.
    All(u32),
}

/// All that are remembered.
pub(super) struct Again {
    room: usize,
    all: Ordered<Told>,
}

impl Default for Again {
    fn default() -> Self {
        Again { room: MAX_RESOURCES, all: Ordered::new(COMMON_SEED) }
    }
}

impl Again {
    /// A resource with this content comes at `now`, in this epoch.
    #[inline]
    pub(super) fn meet(&mut self, content: u64, now: u64, epoch: u64) -> Left {
        let found = self.all.find(content);
        self.all.far().into_iter().for_each(prefetch);
        let Some(place) = found else { return self.admit(content, now, epoch) };
        let Some(told) = self.all.get_mut(place) else { return Left::All(NOBODY) };
        told.last = told.last.max(now);
        match std::mem::replace(&mut told.epoch, epoch) {
            before if before == epoch => Left::Nothing,
            before if same_half(before, epoch) => Left::Total,
            before if before != NEVER && told.whole => Left::Half(place),
            _ => Left::All(place),
        }
    }

    /// The series of the resource at this place were looked at one by one: whether all are remembered, and none came twice.
    pub(super) fn found(&mut self, place: u32, whole: bool) {
        if let Some(told) = self.all.get_mut(place) {
            told.whole = whole;
        }
    }

    /// All series that belong to the resource at this place are counted in this epoch.
    pub(super) fn count(&mut self, place: u32, epoch: u64) {
        if let Some(told) = self.all.get_mut(place) {
            told.counted = epoch;
        }
    }

    /// When they last were so; 0 = never.
    pub(super) fn counted(&self, place: u32) -> u64 {
        self.all.get(place).map_or(0, |told| told.counted)
    }

    #[cold]
    fn admit(&mut self, content: u64, now: u64, epoch: u64) -> Left {
        let room = self.all.len() < self.room;
        let place =
            if room { self.all.insert(content, Told { epoch, counted: 0, whole: false, last: now }) } else { None };
        Left::All(place.unwrap_or(NOBODY))
    }

    /// A series of the resource at this place came with another one.
    pub(super) fn lose(&mut self, place: u32) {
        if let Some(told) = self.all.get_mut(place) {
            told.epoch = NEVER;
        }
    }

    /// When the resource at this place came last.
    pub(super) fn last(&self, place: u32) -> u64 {
        self.all.get(place).map_or(0, |told| told.last)
    }

    /// Forgets those that did not come within the window: their series are forgotten at the same time.
    pub(super) fn expire(&mut self, now: u64, window: u64) {
        self.all.retain(|_, told| told.last.saturating_add(window) > now);
    }

    /// All are to be looked at again: series may be remembered now for which there was no room.
    pub(super) fn look_again(&mut self) {
        self.all.values_mut().for_each(|told| told.epoch = NEVER);
    }

    /// One that remembers nobody, as which any other must count.
    #[cfg(test)]
    pub(super) fn without_room() -> Self {
        Again { room: 0, ..Again::default() }
    }
}
