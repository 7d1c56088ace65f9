//! Who is remembered: room for newcomers, and who makes it.

use std::time::Instant;

use phoenix_telemetry::Resource;

use super::readings::Readings;
use super::{EXPIRY, Place, SILENCE, Slot, Tracker};

impl<S: Default> Tracker<S> {
    /// The slot of an entity, made if there is room.
    pub(super) fn slot_for(&mut self, key: u64, resource: Resource<'_>, now: Instant) -> Place {
        if let Some(at) = self.by_key.get(&key) {
            return Place::At(*at);
        }
        if self.by_key.len() >= self.plan.max_entities {
            // Once a batch: what has gone may make room, long before its time.
            if self.made_room != self.batch {
                self.made_room = self.batch;
                self.sweep(0, now);
            }
            if self.by_key.len() >= self.plan.max_entities {
                return Place::Overflow;
            }
        }
        let readings = Readings::new(self.plan.measures.len());
        let scope = self.plan.scope.of(resource.attributes());
        let slot = Slot {
            key,
            scope,
            time: 0,
            scrape: 0,
            batch: 0,
            reborn: 0,
            newest: 0,
            readings,
            told: None,
            state: S::default(),
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                let Ok(at) = u32::try_from(self.slots.len()) else { return Place::Overflow };
                self.slots.push(None);
                at
            }
        };
        if let Some(place) = self.slots.get_mut(at as usize) {
            *place = Some(slot);
        }
        self.order.admit(at);
        self.by_key.insert(key, at);
        Place::At(at)
    }

    /// Forgets entities that their scope has not shown for `expiry` and at least two scrapes, and scopes that are silent.
    pub(super) fn sweep(&mut self, expiry: u64, now: Instant) {
        let Tracker { slots, by_key, free, scopes, batch, forgotten, .. } = self;
        scopes.retain(|_, scope| now.saturating_duration_since(scope.heard) < SILENCE);
        let mut series = 0;
        for (at, place) in (0u32..).zip(slots.iter_mut()) {
            let Some(slot) = place else { continue };
            let gone = slot.batch != *batch
                && scopes
                    .get(&slot.scope)
                    .is_none_or(|scope| scope.now > slot.time.saturating_add(expiry) && scope.scrape > slot.scrape + 1);
            if gone {
                by_key.remove(&slot.key);
                free.push(at);
                *forgotten += 1;
                *place = None;
                continue;
            }
            slot.readings.sweep(slot.time.saturating_sub(EXPIRY), slot.key);
            series += slot.readings.series();
        }
        self.series = series;
        for (key, scope) in scopes {
            scope.swept = scope.now;
            scope
                .members
                .retain(|at| slots.get(*at as usize).and_then(Option::as_ref).is_some_and(|slot| slot.scope == *key));
        }
    }
}
