//! What every profile's estimate needs to know of a batch, found out once for all of them.
//!
//! For a point: how much of the host's CPU, memory or I/O it stands for. For a resource: its host, whether it is a process,
//! and what it is made of, so that one that comes again need not be looked at point by point.

use std::ops::Range;

use phoenix_sketch::{COMMON_SEED, Ordered};
use phoenix_telemetry::{AnyValue, Batch, MetricKind, Point, PointId, Resource, ResourceId, Scope, Temporality};
use rapidhash::v3::rapidhash_v3;

use crate::entity::{self, host_of, is_process, mix};

/// The measures of attribution and their metrics, in the order of [`Shares`].
const MEASURES: [&str; 3] = ["process.cpu.time", "process.memory.usage", "process.disk.io"];
/// One number a measure: CPU, memory, I/O.
pub(super) type Shares = [f64; MEASURES.len()];

/// Counters whose last value is remembered: 50,000 processes, at some 80 bytes each 16 MB.
const MAX_SERIES: usize = 200_000;
/// Resources whose host is remembered, at some 60 bytes each; of further ones it is looked for in every batch.
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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Of {
    pub(super) host: u64,
    pub(super) is_process: bool,
    /// Points that hold a value.
    pub(super) live: u64,
    /// Hash of the resource and of the series of those, in order.
    pub(super) content: u64,
    /// What all its points stand for.
    pub(super) all: Shares,
    /// Hash of the resource as it came in.
    pub(super) resource: u64,
    /// A small number of its own for as long as it is remembered; `None` if there was no room.
    pub(super) slot: Option<u32>,
}

/// The last value of a counter, its time, and when it came.
struct Last {
    value: f64,
    time: u64,
    heard: u64,
}

/// What is remembered of a resource.
struct Known {
    host: u64,
    is_process: bool,
    heard: u64,
    /// The content that was last told, and in which epoch.
    told: (u64, u64),
}

/// A content that was never told.
const NOTHING: (u64, u64) = (0, u64::MAX);

/// A point of a scope that is of one of [`MEASURES`].
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Its place among the points of its scope.
    place: usize,
    measure: usize,
    /// Whether it grows for as long as it lives.
    counts: bool,
}

/// What a scope is made of. Those of one shape have it in common, so that it is found once for all of them.
#[derive(Clone, Debug, Default)]
struct Made {
    /// Which of [`Facts::measured`] are its.
    measured: Range<usize>,
    /// Points, and of those how many hold a value.
    points: usize,
    live: u64,
    /// Hash of the series of the latter, in order and without the resource.
    content: u64,
}

/// The facts of the newest batch.
pub(super) struct Facts {
    /// Of measured points, in the batch's order.
    points: Vec<Fact>,
    resources: Vec<Of>,
    /// Newest time of the batch, Unix nanoseconds.
    pub(super) time: u64,
    last: Ordered<Last>,
    known: Ordered<Known>,
    /// Of all scopes. To look at all points of every one would cost more than all else here.
    measured: Vec<Measured>,
    of_shapes: Vec<Option<Made>>,
    swept: u64,
}

impl Default for Facts {
    fn default() -> Self {
        Facts {
            points: Vec::new(),
            resources: Vec::new(),
            time: 0,
            last: Ordered::new(COMMON_SEED),
            known: Ordered::new(COMMON_SEED),
            measured: Vec::new(),
            of_shapes: Vec::new(),
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
        self.of_shapes.clear();
        self.sweep(now);
        for resource in batch.resources() {
            let mut of = self.place(resource, now);
            let points: usize = resource.scopes().map(|scope| self.made(scope).points).sum();
            let whole = points == resource.live_points();
            of.content = of.resource;
            for scope in resource.scopes() {
                let made = if whole { self.made(scope) } else { self.look_at(scope) };
                of.content = mix(of.content, made.content);
                of.live += made.live;
                self.measure(scope, made.measured, now, &mut of.all);
            }
            let known = of.slot.and_then(|slot| self.known.get_mut(slot));
            let again = known.is_some_and(|known| {
                let told = (of.content, epoch);
                std::mem::replace(&mut known.told, told) == told
            });
            if !again {
                let points = resource.metrics().flat_map(|metric| metric.points());
                points.filter(|point| !point.no_recorded_value()).for_each(|point| live(point.series()));
            }
            put(&mut self.resources, resource.id().index(), of);
        }
    }

    /// Adds up what a scope's measured points stand for.
    fn measure(&mut self, scope: Scope<'_>, measured: Range<usize>, now: u64, shares: &mut Shares) {
        let Facts { measured: all, points, last, time, .. } = self;
        *time = scope.points().flatten().map(|point| point.time()).fold(*time, u64::max);
        let places = scope.places();
        for Measured { place, measure, counts } in all.get(measured).unwrap_or_default() {
            let (Some(point), Some(share)) = (places.get(*place), shares.get_mut(*measure)) else { continue };
            let amount = amount(last, point, *counts, now);
            *share += amount;
            points.push(Fact { point: point.id().index() as u32, measure: *measure as u8, amount });
        }
    }

    /// What a scope is made of, if it has lost no points.
    fn made(&mut self, scope: Scope<'_>) -> Made {
        let Some(shape) = scope.shape() else { return self.look_at(scope) };
        if let Some(Some(known)) = self.of_shapes.get(shape) {
            return known.clone();
        }
        let made = self.look_at(scope);
        if scope.points().all(|point| point.is_some()) {
            put(&mut self.of_shapes, shape, Some(made.clone()));
        }
        made
    }

    /// What a scope is made of, found point by point.
    fn look_at(&mut self, scope: Scope<'_>) -> Made {
        let begin = self.measured.len();
        let mut made = Made::default();
        for (place, point) in scope.points().enumerate() {
            let Some(point) = point else { continue };
            let metric = point.metric();
            made.points += 1;
            if !point.no_recorded_value() {
                made.live += 1;
                made.content = mix(made.content, mix(metric.hash(), point.hash()));
            }
            if let Some(measure) = MEASURES.iter().position(|known| *known == metric.name()) {
                let sum = metric.kind() == MetricKind::Sum && metric.is_monotonic();
                let counts = sum && metric.temporality() == Temporality::Cumulative;
                self.measured.push(Measured { place, measure, counts });
            }
        }
        Made { measured: begin..self.measured.len(), ..made }
    }

    /// What is known of a resource without its points.
    fn place(&mut self, resource: Resource<'_>, now: u64) -> Of {
        let hash = resource.hash();
        let found = self.known.find(hash);
        if let Some(known) = found.and_then(|at| self.known.get_mut(at)) {
            known.heard = now;
            return Of { host: known.host, is_process: known.is_process, resource: hash, slot: found, ..Of::default() };
        }
        let attributes = resource.attributes();
        let (host, is_process) = (text(host_of(attributes)), is_process(attributes));
        let room = self.known.len() < MAX_RESOURCES;
        let known = Known { host, is_process, heard: now, told: NOTHING };
        let slot = if room { self.known.insert(hash, known) } else { None };
        Of { host, is_process, resource: hash, slot, ..Of::default() }
    }

    /// What is known of a point of that batch.
    pub(super) fn of(&self, point: PointId) -> Fact {
        let found = self.points.binary_search_by_key(&point.index(), |fact| fact.point as usize);
        found.ok().and_then(|at| self.points.get(at)).copied().unwrap_or(Fact::OTHER)
    }

    /// What is known of a resource of that batch.
    pub(super) fn of_resource(&self, resource: ResourceId) -> Of {
        self.resources.get(resource.index()).copied().unwrap_or_default()
    }

    /// All series are to be told again.
    pub(super) fn forget_told(&mut self) {
        self.known.retain(|_, known| {
            known.told = NOTHING;
            true
        });
    }

    fn sweep(&mut self, now: u64) {
        if now >= self.swept.saturating_add(SILENCE / 4) {
            self.swept = now;
            let silent = |heard: u64| now.saturating_sub(heard) >= SILENCE;
            self.last.retain(|_, last| !silent(last.heard));
            self.known.retain(|_, known| !silent(known.heard));
        }
    }
}

/// What a point stands for: the increment of a counter, the value of a level; 0 while a counter has no past.
fn amount(last: &mut Ordered<Last>, point: Point<'_>, counts: bool, now: u64) -> f64 {
    let value = point.value().map_or(f64::NAN, |value| value.as_f64());
    if !(0.0..f64::INFINITY).contains(&value) {
        return 0.0;
    }
    if !counts {
        return value;
    }
    let (series, next) = (point.series(), Last { value, time: point.time(), heard: now });
    match last.find(series).and_then(|at| last.get_mut(at)) {
        Some(last) => {
            let before = std::mem::replace(last, next);
            if before.time < point.time() && before.value <= value { value - before.value } else { 0.0 }
        }
        None => {
            if last.len() < MAX_SERIES {
                last.insert(series, next);
            }
            0.0
        }
    }
}

fn put<T: Clone + Default>(table: &mut Vec<T>, place: usize, value: T) {
    if table.len() <= place {
        table.resize(place + 1, T::default());
    }
    if let Some(slot) = table.get_mut(place) {
        *slot = value;
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
