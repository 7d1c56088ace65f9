//! Small numbers for long identities: equal bytes share an id, and the id is free again when nobody uses it.
//!
//! Identities are compared by their bytes, never by a hash alone, so two of them can never be taken for one.

use std::collections::HashMap;
use std::sync::Arc;

use rapidhash::quality::RandomState;

/// A map by a hash that is several times as fast as the standard one, with a key of its own that no sender knows.
pub(crate) type FastMap<K, V> = HashMap<K, V, RandomState>;

/// Ids for byte strings, with what is known about each.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    ids: FastMap<Arc<[u8]>, u32>,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    key: Arc<[u8]>,
    users: usize,
    value: T,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: FastMap::default(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Interner<T> {
    /// The id of `key`, and one more user of it; `make` says what is known about a new one.
    pub(crate) fn acquire(&mut self, key: &[u8], make: impl FnOnce() -> T) -> u32 {
        if let Some(&id) = self.ids.get(key) {
            self.retain(id);
            return id;
        }
        let key: Arc<[u8]> = key.into();
        let slot = Slot { key: Arc::clone(&key), users: 1, value: make() };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id as usize) {
                    *place = Some(slot);
                }
                id
            }
            None => {
                self.slots.push(Some(slot));
                // The store holds far fewer than 2^32 series, and there is no id without a series.
                (self.slots.len() - 1) as u32
            }
        };
        self.ids.insert(key, id);
        id
    }

    /// One more user of an id in use.
    pub(crate) fn retain(&mut self, id: u32) {
        if let Some(Some(slot)) = self.slots.get_mut(id as usize) {
            slot.users += 1;
        }
    }

    /// One user less. Returns what was known about the id when it was the last one.
    pub(crate) fn release(&mut self, id: u32) -> Option<T> {
        let place = self.slots.get_mut(id as usize)?;
        let slot = place.as_mut()?;
        slot.users -= 1;
        if slot.users > 0 {
            return None;
        }
        let slot = place.take()?;
        self.ids.remove(&slot.key);
        self.free.push(id);
        Some(slot.value)
    }

    /// What is known about an id in use.
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref().map(|slot| &slot.value)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut().map(|slot| &mut slot.value)
    }

    /// How long the bytes of an id in use are; 0 of any other.
    pub(crate) fn key_len(&self, id: u32) -> usize {
        self.slots.get(id as usize).and_then(Option::as_ref).map_or(0, |slot| slot.key.len())
    }

    /// Everything known, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|slot| &slot.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_share_an_id_until_the_last_user_is_gone() {
        let mut interner = Interner::default();
        let a = interner.acquire(b"a", || 1);
        assert_eq!(interner.acquire(b"a", || 2), a);
        let b = interner.acquire(b"b", || 3);
        assert_ne!(a, b);
        assert_eq!((interner.get(a), interner.get(b)), (Some(&1), Some(&3)));
        assert_eq!(interner.release(a), None);
        assert_eq!(interner.release(a), Some(1));
        assert_eq!(interner.get(a), None);
        assert_eq!(interner.acquire(b"c", || 4), a, "ids are used again");
        assert_eq!(interner.values().sum::<i32>(), 7);
    }
}
