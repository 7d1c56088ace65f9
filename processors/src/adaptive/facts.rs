//! What every profile's estimate needs to know of a batch, found out once for all of them.
//!
//! For a point: its identity without its resource, which is that of the group series it would go into, and how much of
//! the host's CPU, memory or I/O it stands for. For a resource: its host, and whether it is a process.

use std::time::{Duration, Instant};

use phoenix_telemetry::{AnyValue, Attributes, Batch, Metric, MetricKind, Point, PointId, ResourceId, Temporality};
use rapidhash::v3::rapidhash_v3;

use crate::entity::{self, host_of, is_process};
use crate::measure::ByKey;

/// The measures of attribution and their metrics, in the order of [`Shares`].
const MEASURES: [&str; 3] = ["process.cpu.time", "process.memory.usage", "process.disk.io"];
/// One number a measure: CPU, memory, I/O.
pub(super) type Shares = [f64; MEASURES.len()];

/// Series whose last value is remembered: 50,000 processes, at some 40 bytes each 8 MB.
const MAX_SERIES: usize = 200_000;
/// A series not heard of for so long is forgotten.
const SILENCE: Duration = Duration::from_secs(600);

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
}

/// The last value of a counter, its time, and when it came.
struct Last {
    value: f64,
    time: u64,
    heard: Instant,
}

/// The facts of the newest batch.
#[derive(Default)]
pub(super) struct Facts {
    points: Vec<Fact>,
    resources: Vec<Of>,
    /// Newest time of the batch, Unix nanoseconds.
    pub(super) time: u64,
    last: ByKey<Last>,
    swept: Option<Instant>,
}

impl Facts {
    /// Finds out about a batch.
    pub(super) fn read(&mut self, batch: &Batch, now: Instant) {
        self.points.clear();
        self.resources.clear();
        self.sweep(now);
        for resource in batch.resources() {
            let attributes = resource.attributes();
            let of = Of { host: rapidhash_v3(host_of(attributes).as_bytes()), is_process: is_process(attributes) };
            put(&mut self.resources, resource.id().index(), of);
            for scope in resource.scopes() {
                let scope_identity = mix(text(scope.name()), mix(text(scope.version()), sum(scope.attributes())));
                for metric in scope.metrics() {
                    let metric_identity = mix(scope_identity, of_metric(metric));
                    let measure = MEASURES.iter().position(|name| *name == metric.name());
                    for point in metric.points() {
                        self.time = self.time.max(point.time());
                        let amount = measure.map_or(0.0, |_| self.amount(metric, point, now));
                        let measure = measure.unwrap_or(MEASURES.len()) as u8;
                        let identity = mix(metric_identity, sum(point.attributes()));
                        put(&mut self.points, point.id().index(), Fact { identity, measure, amount });
                    }
                }
            }
        }
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
    fn amount(&mut self, metric: Metric<'_>, point: Point<'_>, now: Instant) -> f64 {
        let Some(value) = point.value().map(|value| value.as_f64()).filter(|value| value.is_finite() && *value >= 0.0)
        else {
            return 0.0;
        };
        let counts = metric.kind() == MetricKind::Sum && metric.is_monotonic();
        if !counts || metric.temporality() != Temporality::Cumulative {
            return value;
        }
        let series = point.series();
        if self.last.len() >= MAX_SERIES && !self.last.contains_key(&series) {
            return 0.0;
        }
        let next = Last { value, time: point.time(), heard: now };
        match self.last.insert(series, next) {
            Some(before) if before.time < point.time() && before.value <= value => value - before.value,
            _ => 0.0,
        }
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SILENCE / 4) {
            self.swept = Some(now);
            self.last.retain(|_, last| now.saturating_duration_since(last.heard) < SILENCE);
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

/// Two hashes to one; the order counts.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD1B5_4A32_D192_ED03);
    product as u64 ^ (product >> 64) as u64
}

fn text(text: &str) -> u64 {
    rapidhash_v3(text.as_bytes())
}

fn of_metric(metric: Metric<'_>) -> u64 {
    let shape = metric.kind() as u64 | (metric.temporality() as u64) << 8 | u64::from(metric.is_monotonic()) << 16;
    mix(mix(text(metric.name()), text(metric.unit())), shape)
}

/// A set of attributes, whatever their order.
fn sum(attributes: Attributes<'_>) -> u64 {
    attributes.iter().fold(0, |sum, (key, value)| sum.wrapping_add(attribute(key, value)))
}

/// One attribute.
pub(super) fn attribute(key: &str, value: AnyValue<'_>) -> u64 {
    match value {
        AnyValue::Str(value) => mix(text(key), text(value)),
        value => mix(text(key), entity::hash_of(value)),
    }
}
