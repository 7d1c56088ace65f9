//! What every profile's estimate needs to know of a batch, found out once for all of them.
//!
//! For a point: how much of the host's CPU, memory or I/O it stands for. For a resource: its host, whether it is a process,
//! and what it is made of, so that one that comes again need not be looked at point by point.

mod counters;

use std::ops::Range;

use phoenix_sketch::{COMMON_SEED, Ordered};
use phoenix_telemetry::{AnyValue, Batch, MetricKind, Number, PointId, Resource, ResourceId, Scope, Temporality};
use rapidhash::v3::rapidhash_v3;

use crate::entity::{self, host_of, is_process, mix};
use crate::machine::prefetch;
use crate::shapes::{self, Content, Shapes};

use counters::{Counters, Measured, Row};

/// The measures of attribution and their metrics, in the order of [`Shares`].
const MEASURES: [&str; 3] = ["process.cpu.time", "process.memory.usage", "process.disk.io"];
/// One number a measure: CPU, memory, I/O.
pub(super) type Shares = [f64; MEASURES.len()];

/// Resources whose host is remembered, at some 150 bytes each, and contents; further ones are looked at in every batch.
const MAX_RESOURCES: usize = 100_000;
/// A counter or a resource not heard of for so long is forgotten, nanoseconds.
const SILENCE: u64 = 600_000_000_000;

/// What is known of a point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    /// Its place in the batch.
    point: u32,
    /// Place in [`Shares`]; beyond its end for other metrics.
    measure: u8,
    amount: f64,
}

impl Fact {
    /// That of a point of any other metric.
    const OTHER: Fact = Fact { point: 0, measure: u8::MAX, amount: 0.0 };

    /// Whether it has a part in the shares.
    pub(super) fn is_measured(&self) -> bool {
        usize::from(self.measure) < MEASURES.len()
    }

    /// Adds what the point stands for.
    pub(super) fn add_to(&self, shares: &mut Shares) {
        if let Some(share) = shares.get_mut(usize::from(self.measure)) {
            *share += self.amount;
        }
    }
}

/// What is known of a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) host: u64,
    pub(super) is_process: bool,
    /// Hash of the resource and of the series of its points that hold a value, whatever their order.
    pub(super) content: u64,
    /// A small number that this content has for as long as it is remembered; `None` if there was no room.
    pub(super) place: Option<u32>,
    /// What all its points stand for.
    pub(super) all: Shares,
    /// Hash of the resource as it came in.
    pub(super) resource: u64,
    /// A small number of its own for as long as it is remembered; `None` if there was no room.
    pub(super) slot: Option<u32>,
}

impl Of {
    /// That of a resource that was not in the batch.
    const NONE: Of = Of { host: 0, is_process: false, content: 0, place: None, all: [0.0; 3], resource: 0, slot: None };
}

/// What is remembered of a resource.
struct Known {
    host: u64,
    is_process: bool,
    heard: u64,
    /// Its counters, if they came alike twice: those of one scope.
    row: Option<Row>,
    /// [`Made::order`] of the last scope that had some and was no row.
    order: u64,
}

/// What a scope is made of.
#[derive(Clone, Debug)]
struct Made {
    /// Which of [`Facts::measured`] are its.
    measured: Range<usize>,
    content: Content,
    /// Hash of its counters and their places; 0 where it has none.
    order: u64,
}

/// The facts of the newest batch.
pub(super) struct Facts {
    /// Of measured points, in the batch's order.
    points: Vec<Fact>,
    resources: Vec<Of>,
    /// Newest time of the batch, Unix nanoseconds.
    pub(super) time: u64,
    counters: Counters,
    known: Ordered<Known>,
    /// The contents of resources, and in which epoch each was last told.
    contents: Ordered<u64>,
    /// The newest of those.
    epoch: u64,
    /// Of all scopes.
    measured: Vec<Measured>,
    made: Shapes<Made>,
    swept: u64,
}

impl Default for Facts {
    fn default() -> Self {
        Facts {
            points: Vec::new(),
            resources: Vec::new(),
            time: 0,
            counters: Counters::default(),
            known: Ordered::new(COMMON_SEED),
            contents: Ordered::new(COMMON_SEED),
            epoch: 0,
            measured: Vec::new(),
            made: Shapes::default(),
            swept: 0,
        }
    }
}

impl Facts {
    /// Finds out about a batch that came at `now` (nanoseconds since the stage began); `live` is told the series of every
    /// point that holds a value, of a resource that comes again as it was only once in each `epoch`.
    pub(super) fn read(&mut self, batch: &Batch, (now, epoch): (u64, u64), mut live: impl FnMut(u64)) {
        self.points.clear();
        self.resources.clear();
        self.measured.clear();
        self.made.clear();
        self.sweep(now);
        if std::mem::replace(&mut self.epoch, epoch) != epoch {
            self.contents.retain(|_, told| *told + 1 >= epoch);
        }
        for resource in batch.resources() {
            let mut of = self.place(resource, now);
            let mut content = Content::default();
            for scope in resource.scopes() {
                let Facts { made, measured, .. } = self;
                let made = made.of(scope, |scope| look_at(scope, measured)).clone();
                content = content.and(made.content);
                self.measure(scope, made, now, &mut of);
            }
            of.content = content.within(of.resource);
            let told = self.told(&mut of);
            if !told {
                resource.scopes().flat_map(shapes::live).for_each(|point| live(point.series()));
            }
            put(&mut self.resources, resource.id().index(), of);
        }
    }

    /// Whether a content was told in this epoch already; it is now, and has its place.
    fn told(&mut self, of: &mut Of) -> bool {
        let Facts { contents, epoch, .. } = self;
        of.place = contents.find(of.content);
        contents.far().into_iter().for_each(prefetch);
        if let Some(told) = of.place.and_then(|place| contents.get_mut(place)) {
            return std::mem::replace(told, *epoch) == *epoch;
        }
        if contents.len() < MAX_RESOURCES {
            of.place = contents.insert(of.content, *epoch);
        }
        false
    }

    /// Adds up what a scope's measured points stand for.
    fn measure(&mut self, scope: Scope<'_>, made: Made, now: u64, of: &mut Of) {
        let Facts { measured, points, counters, known, time, .. } = self;
        let column = scope.column();
        let newest = || scope.points().flatten().map(|point| point.time()).max();
        *time = (*time).max(column.map_or_else(|| newest().unwrap_or(0), |column| column.time()));
        let measured = measured.get(made.measured).unwrap_or_default();
        let mut note = |point: usize, Measured { measure, .. }: &Measured, amount: f64| {
            if let Some(share) = of.all.get_mut(*measure) {
                *share += amount;
            }
            points.push(Fact { point: point as u32, measure: *measure as u8, amount });
        };
        let column = column.map(|column| (made.order, column));
        let mut known = of.slot.filter(|_| made.order != 0).and_then(|slot| known.get_mut(slot));
        if let Some(known) = &mut known
            && let Some(row) = &mut known.row
        {
            let as_before = column.is_some_and(|(order, column)| {
                let first = column.id(0).map_or(0, PointId::index);
                let note = |measured: &Measured, amount: f64| note(first + measured.place, measured, amount);
                row.go_on((order, &column), measured, now, note)
            });
            if as_before {
                return;
            }
            known.row.take().into_iter().for_each(|row| counters.dissolve(row));
        }
        let places = scope.places();
        for measured in measured {
            let Some(point) = places.get(measured.place) else { continue };
            note(point.id().index(), measured, counters.amount(point, measured.counts, now));
        }
        if let (Some(known), Some((order, column))) = (known, column)
            && std::mem::replace(&mut known.order, order) == order
        {
            known.row = counters.row((order, &column), (&places, measured), now);
        }
    }

    /// What is known of a resource without its points.
    fn place(&mut self, resource: Resource<'_>, now: u64) -> Of {
        let hash = resource.hash();
        let found = self.known.find(hash);
        self.known.far().into_iter().for_each(prefetch);
        self.known.near().and_then(|known| known.row.as_ref()).into_iter().for_each(Row::fetch);
        if let Some(known) = found.and_then(|at| self.known.get_mut(at)) {
            known.heard = now;
            return Of { host: known.host, is_process: known.is_process, resource: hash, slot: found, ..Of::NONE };
        }
        let attributes = resource.attributes();
        let (host, is_process) = (text(host_of(attributes)), is_process(attributes));
        let room = self.known.len() < MAX_RESOURCES;
        let known = Known { host, is_process, heard: now, row: None, order: 0 };
        let slot = if room { self.known.insert(hash, known) } else { None };
        Of { host, is_process, resource: hash, slot, ..Of::NONE }
    }

    /// What is known of a point of that batch.
    pub(super) fn of(&self, point: PointId) -> Fact {
        let found = self.points.binary_search_by_key(&point.index(), |fact| fact.point as usize);
        found.ok().and_then(|at| self.points.get(at)).copied().unwrap_or(Fact::OTHER)
    }

    /// What is known of a resource of that batch.
    pub(super) fn of_resource(&self, resource: ResourceId) -> &Of {
        self.resources.get(resource.index()).unwrap_or(&Of::NONE)
    }

    /// The same of the one that comes so many later.
    pub(super) fn later(&self, resource: ResourceId, by: usize) -> &Of {
        self.resources.get(resource.index() + by).unwrap_or(&Of::NONE)
    }

    /// How many places there are for contents.
    pub(super) fn places(&self) -> usize {
        self.contents.places()
    }

    /// All series are to be told again.
    pub(super) fn forget_told(&mut self) {
        self.contents = Ordered::new(COMMON_SEED);
    }

    fn sweep(&mut self, now: u64) {
        if now >= self.swept.saturating_add(SILENCE / 4) {
            self.swept = now;
            // What came in the beginning counts as heard for as long.
            let Some(since) = now.checked_sub(SILENCE) else { return };
            let Facts { counters, known, .. } = self;
            counters.sweep(since);
            known.retain(|_, known| {
                known.row.take_if(|row| row.is_silent(since)).iter().for_each(|row| counters.forget(row));
                known.heard > since
            });
        }
    }
}

/// What a scope is made of, found point by point; what is of [`MEASURES`] is put behind the others.
fn look_at(scope: Scope<'_>, all: &mut Vec<Measured>) -> Made {
    let (begin, mut order) = (all.len(), 0);
    for (place, point) in scope.points().enumerate() {
        let Some(point) = point else { continue };
        let metric = point.metric();
        let Some(measure) = MEASURES.iter().position(|known| *known == metric.name()) else { continue };
        let sum = metric.kind() == MetricKind::Sum && metric.is_monotonic();
        let counts = sum && metric.temporality() == Temporality::Cumulative;
        if counts {
            order = mix(mix(order, place as u64), mix(metric.hash(), point.hash())).max(1);
        }
        let integer = matches!(point.value(), Some(Number::Int(_)));
        all.push(Measured { place, measure, counts, integer });
    }
    Made { measured: begin..all.len(), content: Content::of(scope), order }
}

fn put(table: &mut Vec<Of>, place: usize, of: Of) {
    if table.len() <= place {
        table.resize(place + 1, Of::NONE);
    }
    if let Some(slot) = table.get_mut(place) {
        *slot = of;
    }
}

fn text(text: &str) -> u64 {
    rapidhash_v3(text.as_bytes())
}

/// One attribute.
pub(super) fn attribute(key: &str, value: AnyValue<'_>) -> u64 {
    match value {
        AnyValue::Str(value) => mix(text(key), text(value)),
        value => mix(text(key), entity::hash_of(value)),
    }
}

#[cfg(test)]
mod tests;
