//! The entities of one host, found by their resource.
//!
//! A resource is first looked for by the stable hash that it came with; what is found is compared byte by byte. Only where
//! that fails (it is new, its attributes came in another order, or somebody made two resources of one hash) does its key
//! decide.

use std::collections::HashMap;

use phoenix_sketch::Order;
use phoenix_telemetry::Resource;

use super::Entity;
use crate::aggregate::identity::{Interner, Key, Keyed};
use crate::machine::prefetch;
use crate::measure::ByKey;

/// Where an entity is, until it is forgotten.
pub(super) type Slot = u32;

/// Where the entity of a resource was found, and its key: if it was forgotten since, the slot may be another's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    slot: Slot,
    key: Key,
}

#[derive(Debug, Default)]
pub(super) struct Entities {
    slots: Vec<Option<Entity>>,
    free: Vec<Slot>,
    by_key: HashMap<Key, Slot>,
    order: Order,
    /// The last one found of that hash, if it is still there.
    hints: ByKey<Slot>,
}

impl Entities {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Where a resource of these very bytes is; the memory of some that probably come later is fetched.
    pub(super) fn sight(&self, resource: Resource<'_>) -> Option<Sighting> {
        let seen = self.at(self.order.next(), resource).or_else(|| self.by_bytes(resource))?;
        self.order.came(seen.slot);
        self.slots.get(self.order.far() as usize).into_iter().for_each(prefetch);
        self.get(self.order.near()).into_iter().for_each(|entity| prefetch(&*entity.resource));
        Some(seen)
    }

    /// What was found, or another one where that was forgotten since.
    pub(super) fn seen(&self, seen: Sighting) -> Option<&Entity> {
        self.get(seen.slot)
    }

    /// The entity in a slot, if its resource is of these very bytes.
    fn at(&self, slot: Slot, resource: Resource<'_>) -> Option<Sighting> {
        let entity = self.get(slot).filter(|entity| entity.key.0 == resource.hash() && entity.is_of(resource))?;
        Some(Sighting { slot, key: entity.key })
    }

    fn by_bytes(&self, resource: Resource<'_>) -> Option<Sighting> {
        self.at(*self.hints.get(&resource.hash())?, resource)
    }

    /// The entity of a resource that may have been seen already, or the key of one that is not there.
    #[inline]
    pub(super) fn find(
        &mut self,
        resource: Resource<'_>,
        seen: Option<Sighting>,
        interner: &Interner,
    ) -> Result<Slot, Keyed> {
        let is_there = |seen: &Sighting| self.get(seen.slot).is_some_and(|entity| entity.key == seen.key);
        match seen.filter(is_there) {
            Some(seen) => Ok(seen.slot),
            None => self.look_for(resource, interner),
        }
    }

    #[cold]
    fn look_for(&mut self, resource: Resource<'_>, interner: &Interner) -> Result<Slot, Keyed> {
        if let Some(seen) = self.by_bytes(resource) {
            return Ok(seen.slot);
        }
        let keyed = interner.resource(resource);
        let Some(&slot) = self.by_key.get(&keyed.key) else { return Err(keyed) };
        self.hints.insert(keyed.key.0, slot);
        Ok(slot)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entity> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entity> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Adds an entity of a key that is not there.
    pub(super) fn insert(&mut self, entity: Entity) -> Slot {
        let key = entity.key;
        let slot = self.free.pop().unwrap_or(self.slots.len() as Slot);
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = Some(entity),
            None => self.slots.push(Some(entity)),
        }
        self.order.admit(slot);
        self.by_key.insert(key, slot);
        self.hints.insert(key.0, slot);
        slot
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entity> {
        self.slots.iter().flatten()
    }

    /// Keeps those that `stays` says so of.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&mut Entity) -> bool) {
        let Entities { slots, free, by_key, hints, .. } = self;
        for (slot, place) in (0..).zip(slots.iter_mut()) {
            if let Some(gone) = place.take_if(|entity| !stays(entity)) {
                by_key.remove(&gone.key);
                hints.remove(&gone.key.0);
                free.push(slot);
            }
        }
    }
}
