//! What marking stages know of every entity: its measures, when it was last seen, and a state of the stage's own.
//!
//! Time is the points' own. Memory is bounded by `max_entities` and eight series each; what was not seen for a while is
//! forgotten. An entity that finds no room is told to the stage, which must not leave it without a mark.

mod by_key;
mod layouts;
mod marking;
mod memory;
mod reading;
mod readings;
mod report;
mod row;
#[cfg(test)]
pub(crate) mod sample;
mod scope;
mod slot;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use phoenix_pipeline::Entity;
use phoenix_sketch::Order;
use phoenix_telemetry::{self as telemetry, Batch, Point, Resource};

use crate::entity::{self, EntityBy, ScopeBy};
use crate::machine::prefetch;
pub(crate) use by_key::{ByKey, Seeded};
use layouts::{Layout, Layouts, Measured, measured};
use reading::{Kind, Newcomer, Seconds, Taken};
use report::Ignored;
pub(crate) use report::{Report, interned};
use scope::Scope;
pub(crate) use slot::{Place, Slot, Target};

/// An entity not seen for so long is forgotten: as long as a silent member counts in a group.
const EXPIRY: u64 = 300_000_000_000;
/// A host not heard of for so long is forgotten with all it had, whatever the time of its points.
const SILENCE: Duration = Duration::from_secs(3600);
/// Series remembered by entity on average: states of a few measures.
const SERIES_BY_ENTITY: usize = 8;

/// What entities are and which measures are read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) measures: Vec<String>,
    pub(crate) entity: EntityBy,
    pub(crate) scope: ScopeBy,
    pub(crate) max_entities: usize,
}

/// The entities of all scopes.
#[derive(Debug)]
pub(crate) struct Tracker<S> {
    plan: Plan,
    by_key: ByKey<u32>,
    slots: Vec<Option<Slot<S>>>,
    free: Vec<u32>,
    scopes: ByKey<Scope>,
    series: usize,
    /// How many entities were forgotten.
    forgotten: u64,
    batch: u32,
    made_room: u32,
    newcomers: Vec<(u32, u32, Newcomer)>,
    order: Order,
    window: Seconds,
    seen: Vec<(u64, u32)>,
    targets: Vec<Target>,
    /// Whether any of those came before its entity was known.
    early: bool,
    layouts: Layouts,
    ignored: Ignored,
}

/// The entity something belongs to.
#[inline]
fn slot_of<'s, S>(slots: &'s mut [Option<Slot<S>>], target: &Target) -> Option<&'s mut Slot<S>> {
    let Place::At(at) = target.place else { return None };
    // Room that was made meanwhile may have gone to another.
    slots.get_mut(at as usize).and_then(Option::as_mut).filter(|slot| slot.key == target.key)
}

impl<S: Default> Tracker<S> {
    pub(crate) fn new(plan: Plan) -> Self {
        Tracker {
            plan,
            by_key: ByKey::default(),
            slots: Vec::new(),
            free: Vec::new(),
            scopes: ByKey::default(),
            series: 0,
            forgotten: 0,
            batch: 0,
            made_room: 0,
            newcomers: Vec::new(),
            order: Order::default(),
            window: Seconds::default(),
            seen: Vec::new(),
            targets: Vec::new(),
            early: false,
            layouts: Layouts::default(),
            ignored: Ignored::default(),
        }
    }

    /// How many entities are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many scopes are remembered.
    pub(crate) fn scopes(&self) -> usize {
        self.scopes.len()
    }

    /// Takes over what another tracker knows, if both read the same; says whether it did.
    pub(crate) fn adopt(&mut self, previous: &mut Tracker<S>) -> bool {
        let same = self.plan == previous.plan;
        if same {
            *self = std::mem::replace(previous, Tracker::new(previous.plan.clone()));
            // The other one may have told nobody: a stage that was not at work explains nothing.
            self.slots.iter_mut().flatten().for_each(|slot| slot.told = None);
        }
        same
    }

    /// Reads a batch: updates every entity that has one of the measures, and lists what belongs to which entity.
    pub(crate) fn read(&mut self, batch: &Batch, now: Instant) {
        self.batch = self.batch.wrapping_add(1).max(1);
        self.targets.clear();
        self.early = false;
        self.layouts.begin();
        self.seen.clear();
        self.newcomers.clear();
        // Lent out while the slots are written to.
        let (entity, mut layouts) = (std::mem::take(&mut self.plan.entity), std::mem::take(&mut self.layouts));
        for resource in batch.resources() {
            match &entity {
                EntityBy::Resource => self.read_process(resource, &mut layouts, now),
                EntityBy::Attributes(keys) => self.read_attributes(resource, keys, now),
            }
        }
        (self.plan.entity, self.layouts) = (entity, layouts);
        self.settle(now);
    }

    /// A resource that is an entity, if it is a process.
    fn read_process(&mut self, resource: Resource<'_>, layouts: &mut Layouts, now: Instant) {
        let key = resource.hash();
        let mut place = self.find(key).map_or(Place::None, Place::At);
        if place == Place::None && !entity::is_process(resource.attributes()) {
            return;
        }
        let (mut sample, mut next) = (None, 0);
        for scope in resource.scopes() {
            let layout = layouts.of(scope, &self.plan.measures);
            let Some(first) = layout.measured.first() else { continue };
            sample = sample.or_else(|| match layout.row {
                Some((column, _)) => column.ids().nth(first.place),
                None => scope.places().get(first.place).map(Point::id),
            });
            let usual = match place {
                Place::At(slot) => self.take_usual(slot, scope, &layout, next),
                Place::None | Place::Overflow => 0,
            };
            next += layout.measured.len();
            if usual == layout.measured.len() {
                continue;
            }
            let points = scope.places();
            for Measured { place: at, measure, kind } in layout.measured.get(usual..).unwrap_or_default() {
                let Some(point) = points.get(*at).filter(|point| !point.no_recorded_value()) else { continue };
                if place == Place::None {
                    place = self.slot_for(key, resource, now);
                }
                if let Place::At(slot) = place {
                    self.take(slot, (*measure, *kind), point);
                }
            }
        }
        let any = || resource.metrics().flat_map(|metric| metric.points()).next().map(Point::id);
        if let Some(sample) = sample.or_else(any) {
            let target = Target { key, entity: Entity::Resource(resource.id()), sample, place };
            self.early |= place == Place::None;
            self.targets.push(target);
        }
    }

    /// The place of an entity; the memory of some that probably come later is fetched.
    fn find(&mut self, key: u64) -> Option<u32> {
        let guess = self.order.next();
        let place = match self.at(guess) {
            Some(slot) if slot.key == key => guess,
            _ => self.by_key.get(&key).copied()?,
        };
        self.order.came(place);
        self.slots.get(self.order.far() as usize).into_iter().for_each(prefetch);
        self.at(self.order.near()).into_iter().for_each(|slot| slot.readings.fetch());
        Some(place)
    }

    /// A resource of which all, or single points, belong to the entities of some attributes.
    fn read_attributes(&mut self, resource: Resource<'_>, keys: &[String], now: Instant) {
        let own = resource.attributes();
        let scope = self.plan.scope.of(own);
        let whole = entity::identity(scope, keys, |key| own.get(key));
        let mut told = false;
        for metric in resource.metrics() {
            let measured = measured(metric, &self.plan.measures);
            for point in metric.points() {
                let key = whole.or_else(|| {
                    let attributes = point.attributes();
                    entity::identity(scope, keys, |key| attributes.get(key).or_else(|| own.get(key)))
                });
                let Some(key) = key else { continue };
                let mut place = Place::None;
                if let Some(measured) = measured.filter(|_| !point.no_recorded_value()) {
                    place = self.slot_for(key, resource, now);
                    if let Place::At(slot) = place {
                        self.take(slot, measured, point);
                    }
                }
                let entity = match whole {
                    None => Entity::Point(point.id()),
                    Some(_) if told && place != Place::Overflow => continue,
                    Some(_) => Entity::Resource(resource.id()),
                };
                told = true;
                self.early |= place == Place::None;
                self.targets.push(Target { key, entity, sample: point.id(), place });
            }
        }
    }

    /// Takes the points of a scope that are as usual, and says how many of the first of the layout those were; `next` is the
    /// place of the first one's series.
    fn take_usual(&mut self, at: u32, scope: telemetry::Scope<'_>, layout: &Layout<'_>, next: usize) -> usize {
        let Tracker { slots, batch, window, seen, .. } = self;
        let (Some(Some(slot)), Layout { measured, row }) = (slots.get_mut(at as usize), layout) else { return 0 };
        let (mut taken, mut newest) = (0, 0);
        if let Some((column, form)) = row {
            taken = slot.readings.go_on(slot.key, (*column, form, measured), (*batch, window));
            newest = column.time();
        }
        if taken == 0 {
            let apart = slot.readings.apart(slot.key);
            (taken, newest) = apart.usual((&scope.places(), measured), next, (*batch, window));
            if let Some((column, form)) = row.filter(|_| taken == measured.len()) {
                slot.readings.pack(form, column.time(), *batch);
            }
        }
        if taken > 0 && slot.show(*batch, newest) {
            seen.push((slot.scope, at));
        }
        taken
    }

    /// Takes any point of an entity.
    fn take(&mut self, at: u32, measured: (u32, Kind), point: Point<'_>) {
        let Some(Some(slot)) = self.slots.get_mut(at as usize) else { return };
        let before = slot.readings.series();
        let room = self.series < self.plan.max_entities.saturating_mul(SERIES_BY_ENTITY);
        let taken = slot.readings.apart(slot.key).take(measured, point, self.batch, room);
        self.series += slot.readings.series() - before;
        match taken {
            Taken::Not(reason) => {
                self.ignored.count(reason);
                if reason != "duplicate" {
                    return;
                }
            }
            Taken::First(newcomer) => self.newcomers.push((at, measured.0, newcomer)),
            Taken::Reborn => slot.reborn = self.batch,
            Taken::Yes => {}
        }
        if slot.show(self.batch, point.time()) {
            self.seen.push((slot.scope, at));
        }
    }

    /// After the last point: which scrape this is, what newcomers count, and who is forgotten.
    fn settle(&mut self, now: Instant) {
        if !self.seen.is_sorted_by_key(|(scope, _)| *scope) {
            self.seen.sort_unstable();
        }
        let Tracker { seen, scopes, slots, .. } = self;
        let mut due = Vec::new();
        for group in seen.chunk_by(|a, b| a.0 == b.0) {
            let Some((key, _)) = group.first() else { continue };
            let scope = scopes.entry(*key).or_insert_with(|| Scope::new(now));
            let shown = || group.iter().filter_map(|(_, at)| slots.get(*at as usize)?.as_ref());
            // Of a whole scrape the first says so.
            let again = shown().any(|slot| slot.time > 0 && slot.newest > slot.time && slot.scrape == scope.scrape);
            let newest = shown().map(|slot| slot.newest).max().unwrap_or(0);
            scope.heard = now;
            scope.advance(newest, again);
            if scope.now > scope.swept + EXPIRY / 4 {
                due.push(*key);
            }
            for (_, at) in group {
                let Some(Some(slot)) = slots.get_mut(*at as usize) else { continue };
                (slot.time, slot.scrape) = (slot.newest, scope.scrape);
            }
        }
        let batch = self.batch;
        for (at, measure, newcomer) in self.newcomers.drain(..) {
            let Some(Some(slot)) = self.slots.get_mut(at as usize) else { continue };
            let before = self.scopes.get(&slot.scope).map_or(0, |scope| scope.before);
            slot.readings.apart(slot.key).newcomer(measure, newcomer, before, batch);
        }
        if !due.is_empty() {
            self.sweep_scopes(&due, EXPIRY, now);
        }
        if !self.early {
            return;
        }
        // Parts of an entity that came before its first measure.
        for target in &mut self.targets {
            if target.place == Place::None
                && let Some(at) = self.by_key.get(&target.key)
            {
                target.place = Place::At(*at);
            }
        }
    }

    /// The entity something belongs to.
    #[cfg(test)]
    pub(crate) fn of(&self, target: &Target) -> Option<&Slot<S>> {
        match target.place {
            // Room that was made meanwhile may have gone to another.
            Place::At(at) => self.at(at).filter(|slot| slot.key == target.key),
            Place::None | Place::Overflow => None,
        }
    }

    /// The entity at a place.
    pub(crate) fn at(&self, at: u32) -> Option<&Slot<S>> {
        self.slots.get(at as usize).and_then(Option::as_ref)
    }

    /// The entity at a place, to change its state.
    pub(crate) fn at_mut(&mut self, at: u32) -> Option<&mut Slot<S>> {
        self.slots.get_mut(at as usize).and_then(Option::as_mut)
    }

    /// Whether the newest batch measured an entity.
    pub(crate) fn is_here(&self, slot: &Slot<S>) -> bool {
        slot.batch == self.batch
    }

    /// How many entities were ever forgotten: while that stays as it is, so do the places of all others.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Number of the newest batch.
    pub(crate) fn batch(&self) -> u32 {
        self.batch
    }

    /// Shows all that of the newest batch belongs to an entity, each with the entity.
    pub(crate) fn each_target(&mut self, mut show: impl FnMut(&Target, &mut Slot<S>)) {
        let Tracker { targets, slots, .. } = self;
        for target in targets {
            if let Some(slot) = slot_of(slots, target) {
                show(target, slot);
            }
        }
    }

    /// What of the newest batch belongs to which entity.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Scope and place of the entities the newest batch measured, by scope.
    pub(crate) fn seen(&self) -> &[(u64, u32)] {
        &self.seen
    }

    /// Newest time of a scope, Unix nanoseconds.
    pub(crate) fn time_of(&self, scope: u64) -> u64 {
        self.scopes.get(&scope).map_or(0, |scope| scope.now)
    }

    /// The number of the scrape at hand, from 1, if the scope's scrapes come in parts.
    pub(crate) fn in_parts(&self, scope: u64) -> Option<u64> {
        let known = self.scopes.get(&scope).filter(|scope| scope.in_parts || scope.was_in_parts);
        known.map(|scope| scope.scrape)
    }

    /// Those of a scope that the newest batch did not show, but another part of the scrape did or is going to.
    pub(crate) fn elsewhere(&self, scope: u64) -> impl Iterator<Item = u32> {
        let known = self.in_parts(scope).and_then(|scrape| Some((scrape, &self.scopes.get(&scope)?.members)));
        let (since, members) = known.map_or((0, &[][..]), |(scrape, members)| (scrape.saturating_sub(1), members));
        members.iter().copied().filter(move |at| self.at(*at).is_some_and(|slot| slot.is_elsewhere(self.batch, since)))
    }

    /// Points that did not count, by reason, since this was last asked.
    pub(crate) fn take_ignored(&mut self) -> Ignored {
        std::mem::take(&mut self.ignored)
    }
}
