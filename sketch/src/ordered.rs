//! Values by hash, found without a search where hashes come in the order in which they came before.
//!
//! The guess of their [`Order`] is looked at first, and is right for a host whose scrapes list the same series again, whatever
//! other hosts' batches lie between. A guess is proved by the whole hash before it is believed: one that has gone stale
//! costs a search, and never a wrong value.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use crate::distinct::mixed;
use crate::order::Order;

/// A value and its hash.
#[derive(Clone, Debug)]
struct Place<T> {
    hash: u64,
    /// `None` while the place is free.
    value: Option<T>,
}

/// A table by 64-bit hashes.
#[derive(Clone, Debug)]
pub struct Ordered<T> {
    places: Vec<Place<T>>,
    by_hash: HashMap<u64, u32, Seeded>,
    free: Vec<u32>,
    order: Order,
}

impl<T> Ordered<T> {
    /// An empty table. Whoever does not know the seed cannot choose hashes that crowd one part of it.
    pub fn new(seed: u64) -> Self {
        Ordered {
            places: Vec::new(),
            by_hash: HashMap::with_hasher(Seeded(seed)),
            free: Vec::new(),
            order: Order::default(),
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// How many places there are, those that are free too: all that are given out are below.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// The place of a hash, if it comes when it is expected.
    #[inline]
    pub fn expect(&mut self, hash: u64) -> Option<u32> {
        let next = self.order.next();
        let place = self.places.get(next as usize)?;
        if place.hash != hash || place.value.is_none() {
            return None;
        }
        self.order.came(next);
        Some(next)
    }

    /// The place of a hash, whenever it comes.
    #[inline]
    pub fn find(&mut self, hash: u64) -> Option<u32> {
        self.expect(hash).or_else(|| {
            let at = *self.by_hash.get(&hash)?;
            self.order.came(at);
            Some(at)
        })
    }

    /// Puts a value in a place of its own and returns that; `None` if there are 2^32 of them.
    pub fn insert(&mut self, hash: u64, value: T) -> Option<u32> {
        let place = Place { hash, value: Some(value) };
        let at = match (self.by_hash.get(&hash).copied(), self.free.pop()) {
            (Some(at), free) => {
                self.free.extend(free);
                at
            }
            (None, Some(at)) => at,
            (None, None) => u32::try_from(self.places.len()).ok()?,
        };
        match self.places.get_mut(at as usize) {
            Some(old) => *old = place,
            None => self.places.push(place),
        }
        self.by_hash.insert(hash, at);
        self.order.admit(at);
        self.order.came(at);
        Some(at)
    }

    /// What is in a place.
    #[inline]
    pub fn get(&self, at: u32) -> Option<&T> {
        self.places.get(at as usize)?.value.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.places.get_mut(at as usize)?.value.as_mut()
    }

    /// Takes out the value of a hash.
    pub fn remove(&mut self, hash: u64) -> Option<T> {
        let at = self.by_hash.remove(&hash)?;
        self.free.push(at);
        self.places.get_mut(at as usize)?.value.take()
    }

    /// Keeps those for which `stays` says so, and their places.
    pub fn retain(&mut self, mut stays: impl FnMut(u64, &mut T) -> bool) {
        for (at, place) in (0u32..).zip(&mut self.places) {
            let Some(value) = &mut place.value else { continue };
            if !stays(place.hash, value) {
                place.value = None;
                self.by_hash.remove(&place.hash);
                self.free.push(at);
            }
        }
        // After a flood the memory is given back, as far as the places still in use allow.
        while self.places.last().is_some_and(|place| place.value.is_none()) {
            self.places.pop();
        }
        let rest = self.places.len();
        self.free.retain(|at| (*at as usize) < rest);
        if self.by_hash.capacity() > 4 * self.by_hash.len() + 1024 {
            self.by_hash.shrink_to(2 * self.by_hash.len());
            self.places.shrink_to(2 * rest);
            self.order.shrink(rest);
        }
    }

    /// All values, in no particular order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|place| place.value.as_mut())
    }

    /// The memory of the one that probably comes some later, to be fetched.
    #[inline]
    pub fn far(&self) -> Option<&impl Sized> {
        self.places.get(self.order.far() as usize)
    }

    /// What probably comes a little later, and is fetched already: what it leads to can be fetched.
    #[inline]
    pub fn near(&self) -> Option<&T> {
        self.get(self.order.near())
    }
}

/// Makes the hashers of a table.
#[derive(Clone, Copy, Debug)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

/// The hasher of one hash.
#[derive(Debug)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = mixed(hash, self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn who_comes_in_order_is_expected_and_who_went_is_not() {
        let mut table = Ordered::new(1);
        (0..9u64).for_each(|hash| assert!(table.find(hash).is_none() && table.insert(hash, hash).is_some()));
        assert!(table.expect(5).is_none());
        // The first of a round is expected from the second round on.
        (0..9).for_each(|hash| assert!(table.find(hash).is_some()));
        for _ in 0..3 {
            (0..9).for_each(|hash| assert!(table.expect(hash).is_some(), "{hash}"));
        }
        table.retain(|hash, _| hash != 3);
        (0..3).for_each(|hash| assert!(table.expect(hash).is_some()));
        assert!(table.find(3).is_none(), "it stood where it is expected, and is gone");
        let other = table.insert(99, 99);
        assert!(table.find(3).is_none(), "another one has its place");
        assert_eq!(table.find(4).and_then(|at| table.get_mut(at).copied()), Some(4));
        assert_eq!(other.and_then(|at| table.get_mut(at).copied()), Some(99));
        table.retain(|_, _| false);
        assert!((0..100).all(|hash| table.find(hash).is_none()));
        assert!(table.is_empty() && table.values_mut().next().is_none());
    }

    proptest! {
        /// Against a plain table, for hashes that come, go, come back, and change order.
        #[test]
        fn it_is_a_table(steps in prop::collection::vec((0u64..40, 0u8..10), 0..400)) {
            let (mut table, mut truth) = (Ordered::new(3), BTreeMap::new());
            for (step, (hash, what)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        table.retain(|known, _| known % 5 != hash % 5);
                        truth.retain(|known, _| known % 5 != hash % 5);
                    }
                    1 | 2 => {
                        let at = table.insert(hash, step).unwrap();
                        truth.insert(hash, step);
                        prop_assert_eq!(table.get_mut(at).copied(), Some(step));
                    }
                    3 | 4 => prop_assert_eq!(table.remove(hash), truth.remove(&hash)),
                    _ => {
                        let found = table.find(hash).and_then(|at| table.get_mut(at).copied());
                        prop_assert_eq!(found, truth.get(&hash).copied());
                    }
                }
                prop_assert_eq!(table.len(), truth.len());
            }
        }
    }
}
