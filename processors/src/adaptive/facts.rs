//! What every profile's estimate needs to know of a batch, found out once for all of them.
//!
//! For a point: its identity without its resource, which is that of the group series it would go into, and how much of
//! the host's CPU, memory or I/O it stands for. For a resource: its host, and whether it is a process.

use phoenix_sketch::{COMMON_SEED, Ordered};
use phoenix_telemetry::{AnyValue, Batch, Metric, MetricKind, Point, PointId, Resource, ResourceId, Temporality};
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
/// Metrics of which it is remembered whether they are measured; then all is forgotten and learned again.
const MAX_METRICS: usize = 10_000;
/// A counter or a resource not heard of for so long is forgotten, nanoseconds.
const SILENCE: u64 = 600_000_000_000;

/// What is known of a point.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fact {
    /// Metric, scope and attributes, without the resource.
    pub(super) identity: u64,
    /// Place in [`Shares`]; beyond its end for other metrics.
    measure: u8,
    amount: f64,
}

impl Fact {
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
    /// Hash of the series of those, in order.
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
}

/// The facts of the newest batch.
pub(super) struct Facts {
    points: Vec<Fact>,
    resources: Vec<Of>,
    /// Newest time of the batch, Unix nanoseconds.
    pub(super) time: u64,
    last: Ordered<Last>,
    known: Ordered<Known>,
    /// Places in [`MEASURES`] by the metric's hash: comparing names costs more than all else here.
    measures: Ordered<u8>,
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
            measures: Ordered::new(COMMON_SEED),
            swept: 0,
        }
    }
}

impl Facts {
    /// Finds out about a batch that came at `now` (nanoseconds since the stage began); `live` is told the series of every
    /// point that holds a value.
    pub(super) fn read(&mut self, batch: &Batch, now: u64, mut live: impl FnMut(u64)) {
        self.points.clear();
        self.resources.clear();
        self.sweep(now);
        for resource in batch.resources() {
            let mut of = self.place(resource, now);
            for scope in resource.scopes() {
                for metric in scope.metrics() {
                    let shared = metric.hash();
                    let measure = self.measure(metric, shared);
                    let is_measured = usize::from(measure) < MEASURES.len();
                    for point in metric.points() {
                        self.time = self.time.max(point.time());
                        let series = point.series();
                        if !point.no_recorded_value() {
                            of.live += 1;
                            of.content = mix(of.content, series);
                            live(series);
                        }
                        let amount = if is_measured { self.amount(metric, point, series, now) } else { 0.0 };
                        let fact = Fact { identity: mix(shared, point.hash()), measure, amount };
                        fact.add_to(&mut of.all);
                        put(&mut self.points, point.id().index(), fact);
                    }
                }
            }
            put(&mut self.resources, resource.id().index(), of);
        }
    }

    /// A metric's place in [`MEASURES`], or beyond their end.
    fn measure(&mut self, metric: Metric<'_>, hash: u64) -> u8 {
        if let Some(measure) = self.measures.find(hash).and_then(|at| self.measures.get_mut(at)) {
            return *measure;
        }
        let name = metric.name();
        let measure = MEASURES.iter().position(|known| *known == name).unwrap_or(MEASURES.len()) as u8;
        if self.measures.len() >= MAX_METRICS {
            self.measures.retain(|_, _| false);
        }
        self.measures.insert(hash, measure);
        measure
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
        let known = Known { host, is_process, heard: now };
        let slot = if room { self.known.insert(hash, known) } else { None };
        Of { host, is_process, resource: hash, slot, ..Of::default() }
    }

    /// What is known of a point of that batch.
    pub(super) fn of(&self, point: PointId) -> Fact {
        self.points.get(point.index()).copied().unwrap_or_default()
    }

    /// What is known of a resource of that batch.
    pub(super) fn of_resource(&self, resource: ResourceId) -> Of {
        self.resources.get(resource.index()).copied().unwrap_or_default()
    }

    /// What a point stands for: the increment of a counter, the value of a level; 0 while a counter has no past.
    fn amount(&mut self, metric: Metric<'_>, point: Point<'_>, series: u64, now: u64) -> f64 {
        let Some(value) = point.value().map(|value| value.as_f64()).filter(|value| value.is_finite() && *value >= 0.0)
        else {
            return 0.0;
        };
        let counts = metric.kind() == MetricKind::Sum && metric.is_monotonic();
        if !counts || metric.temporality() != Temporality::Cumulative {
            return value;
        }
        let next = Last { value, time: point.time(), heard: now };
        match self.last.find(series).and_then(|at| self.last.get_mut(at)) {
            Some(last) => {
                let before = std::mem::replace(last, next);
                if before.time < point.time() && before.value <= value { value - before.value } else { 0.0 }
            }
            None => {
                if self.last.len() < MAX_SERIES {
                    self.last.insert(series, next);
                }
                0.0
            }
        }
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

fn put<T: Copy + Default>(table: &mut Vec<T>, place: usize, value: T) {
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
