//! Who is remembered: room for newcomers, and who makes it.

use std::time::Instant;

use phoenix_telemetry::Resource;

use super::readings::Readings;
use super::scope::Scope;
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
        self.scopes.entry(scope).or_insert_with(|| Scope::new(now)).members.push(at);
        self.by_key.insert(key, at);
        Place::At(at)
    }

    /// Forgets entities that their scope has not shown for `expiry` and at least two scrapes, and scopes that are silent.
    fn sweep(&mut self, expiry: u64, now: Instant) {
        let all: Vec<u64> = self.scopes.keys().copied().collect();
        self.sweep_scopes(&all, expiry, now);
    }

    /// The same of these scopes alone: to look at every entity of many hosts whenever one of them is due took a sixth of the
    /// time of a million series.
    pub(super) fn sweep_scopes(&mut self, scopes: &[u64], expiry: u64, now: Instant) {
        let silent = |scope: &Scope| now.saturating_duration_since(scope.heard) >= SILENCE;
        let ended: Vec<u64> = self.scopes.iter().filter(|(_, scope)| silent(scope)).map(|(key, _)| *key).collect();
        for key in scopes {
            self.sweep_scope(*key, |scope, slot| {
                let long_ago = scope.now > slot.time.saturating_add(expiry) && scope.scrape > slot.scrape + 1;
                slot.time == 0 || long_ago
            });
        }
        for key in &ended {
            self.sweep_scope(*key, |_, _| true);
            self.scopes.remove(key);
        }
    }

    /// Forgets those of a scope of which `ended` says so, but for those that are here.
    fn sweep_scope(&mut self, key: u64, ended: impl Fn(&Scope, &Slot<S>) -> bool) {
        let Tracker { slots, by_key, free, scopes, batch, forgotten, series, .. } = self;
        let Some(scope) = scopes.get_mut(&key) else { return };
        scope.swept = scope.now;
        let mut members = std::mem::take(&mut scope.members);
        members.retain(|at| {
            let Some(place) = slots.get_mut(*at as usize) else { return false };
            let Some(slot) = place else { return false };
            let before = slot.readings.series();
            if slot.batch != *batch && ended(scope, slot) {
                by_key.remove(&slot.key);
                free.push(*at);
                *forgotten += 1;
                *place = None;
                *series -= before;
                return false;
            }
            slot.readings.sweep(slot.time.saturating_sub(EXPIRY), slot.key);
            *series -= before - slot.readings.series();
            true
        });
        scope.members = members;
    }
}
