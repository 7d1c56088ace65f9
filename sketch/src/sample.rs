//! A fair part of all different hashes, each remembered by itself: distinct sampling (Gibbons, 2001).
//!
//! While there is room every hash is admitted and all that is counted of them is exact. When the room is full, half of
//! the hashes, chosen by their own bits, are given up, and one that is admitted stands for two, four, eight. Which ones
//! does not depend on order or on how often they come, so every sum over the sample is fair for every part of the whole.

use crate::Ordered;
use crate::distinct::mixed;

/// Above this nothing is halved any more: no set of 64-bit hashes comes near.
const MOST_LEVELS: u32 = 32;

/// Whether one was met before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Admitted now.
    First,
    /// Admitted before, or to be taken for one that would have been, had there been room.
    Again,
}

#[derive(Clone, Debug)]
struct Seen<T> {
    last: u64,
    value: T,
}

/// At most `room` of all hashes met within `window`, with a value each.
#[derive(Clone, Debug)]
pub struct Sample<T> {
    room: usize,
    window: u64,
    seed: u64,
    level: u32,
    /// Until when those whom the last lowering of the level let in again may be old acquaintances.
    relearns_until: u64,
    all: Ordered<Seen<T>>,
}

impl<T> Sample<T> {
    /// An empty sample; `window` is in the unit of the times.
    pub fn new(room: usize, window: u64, seed: u64) -> Self {
        Sample { room: room.max(1), window, seed, level: 0, relearns_until: 0, all: Ordered::new(seed) }
    }

    /// One of so many hashes is in the sample: 1 = all of them, and what is counted is exact.
    pub fn stands_for(&self) -> u64 {
        1 << self.level
    }

    /// How many are in the sample.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Meets a hash; `None` if it is not in the sample. `forget` is told of everyone who is given up to make room.
    #[inline]
    pub fn meet(
        &mut self,
        hash: u64,
        now: u64,
        make: impl FnOnce() -> T,
        forget: impl FnMut(&T),
    ) -> Option<(Met, &mut T)> {
        let (met, at) = match self.all.expect(hash) {
            Some(at) => (Met::Again, at),
            None => self.search(hash, now, make, forget)?,
        };
        let seen = self.all.get_mut(at)?;
        seen.last = now.max(seen.last);
        Some((met, &mut seen.value))
    }

    /// The place of a hash that is not the one that was expected.
    fn search(
        &mut self,
        hash: u64,
        now: u64,
        make: impl FnOnce() -> T,
        mut forget: impl FnMut(&T),
    ) -> Option<(Met, u32)> {
        let (bits, seed) = (mixed(hash, self.seed), self.seed);
        if !admits(bits, self.level) {
            return None;
        }
        if let Some(at) = self.all.find(hash) {
            return Some((Met::Again, at));
        }
        while self.all.len() >= self.room && self.level < MOST_LEVELS {
            self.level += 1;
            let level = self.level;
            self.all.retain(|hash, seen| {
                let stays = admits(mixed(hash, seed), level);
                if !stays {
                    forget(&seen.value);
                }
                stays
            });
            if !admits(bits, level) {
                return None;
            }
        }
        let again = now < self.relearns_until && !admits(bits, self.level + 1);
        let at = self.all.insert(hash, Seen { last: now, value: make() })?;
        Some((if again { Met::Again } else { Met::First }, at))
    }

    /// Forgets whom nobody met within the window before `now`, and tells of each. `elsewhere` is when one was met for the
    /// last time without this sample being told of it, or 0.
    pub fn expire(&mut self, now: u64, elsewhere: impl Fn(&T) -> u64, mut gone: impl FnMut(&T)) {
        let window = self.window;
        self.all.retain(|_, seen| {
            seen.last = seen.last.max(elsewhere(&seen.value));
            let stays = seen.last.saturating_add(window) > now;
            if !stays {
                gone(&seen.value);
            }
            stays
        });
        // A quarter full: with twice as many admitted there is room enough not to halve again at once.
        if self.level > 0 && self.all.len() < self.room / 4 && now >= self.relearns_until {
            self.level -= 1;
            self.relearns_until = now.saturating_add(window);
        }
    }
}

/// Whether a hash is one of the 2^-level that are admitted: by bits that the table has no use for.
fn admits(hash: u64, level: u32) -> bool {
    (hash >> 24).trailing_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Meets all, returns how many of them for the first time.
    fn meet(sample: &mut Sample<u64>, hashes: impl IntoIterator<Item = u64>, now: u64) -> u64 {
        let first = |hash| matches!(sample.meet(hash, now, || hash, |_| ()), Some((Met::First, _)));
        hashes.into_iter().map(first).filter(|first| *first).count() as u64
    }

    #[test]
    fn it_is_exact_while_there_is_room_and_fair_without() {
        let mut sample = Sample::new(1_000, 10, 5);
        assert_eq!(meet(&mut sample, 0..1_000, 0), 1_000);
        assert_eq!(meet(&mut sample, 0..1_000, 1), 0);
        assert_eq!((sample.len(), sample.stands_for()), (1_000, 1));
        meet(&mut sample, 0..100_000, 2);
        assert!(sample.len() <= 1_000);
        let estimate = sample.len() as f64 * sample.stands_for() as f64;
        assert!((estimate / 100_000.0 - 1.0).abs() < 0.15, "{estimate}");
    }

    #[test]
    fn when_the_flood_is_over_it_becomes_exact_again_and_takes_nobody_known_for_new() {
        let mut sample = Sample::new(1_000, 10, 5);
        meet(&mut sample, 0..100_000, 0);
        let level = sample.stands_for();
        assert!(level >= 128);
        let (mut gone, mut new) = (0, 0);
        for now in 1..300 {
            new += meet(&mut sample, 0..100, now);
            sample.expire(now, |_| 0, |_| gone += 1);
        }
        assert_eq!((sample.len(), sample.stands_for(), new), (100, 1, 0));
        assert!(gone * level > 80_000, "{gone}");
        assert_eq!(meet(&mut sample, 100..200, 300), 100);
    }

    proptest! {
        #[test]
        fn who_is_in_does_not_depend_on_order(mut hashes in prop::collection::vec(any::<u64>(), 0..200), seed: u64) {
            let keys = |hashes: &[u64]| {
                let mut sample = Sample::new(20, 10, seed);
                meet(&mut sample, hashes.iter().copied(), 0);
                let mut keys: Vec<u64> = sample.all.values_mut().map(|seen| seen.value).collect();
                keys.sort_unstable();
                (keys, sample.level)
            };
            let there = keys(&hashes);
            hashes.reverse();
            hashes.dedup();
            prop_assert_eq!(keys(&hashes), there);
        }
    }
}
