//! What a series holds: the last value of its kind, with the sum of deltas where the sender counts in deltas.
//!
//! Reading a point checks what the page must be able to rely on: counters are no negative numbers, bounds ascend,
//! buckets add up. What does not hold is malformed and never reaches the page.

use phoenix_telemetry::{Metric, MetricKind, Number, Point, Temporality};

use super::exponential;
use super::labels::{self, Label, Origin};

/// Most bounds of a histogram: each is a line on the page and a series for whoever reads it.
const MAX_BOUNDS: usize = 1_000;
/// Most characters of an exemplar's labels, by OpenMetrics 1.0.
const EXEMPLAR_CHARACTERS: usize = 128;

/// Why points are not on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// The formats have no such thing: deltas that are not sums that only grow or explicit histograms, sums without a
    /// temporality.
    Unsupported,
    /// The point contradicts itself, has no value, or its labels are beyond all measure.
    Malformed,
    /// Another metric has the same name on the page and another type.
    TypeConflict,
    /// Another series of the metric has the same labels on the page and the same time.
    Collision,
    /// Older than what the page has.
    OutOfOrder,
    /// The page holds `max_series` already.
    Overflow,
}

impl Reason {
    pub(crate) const ALL: [(Reason, &str); 6] = [
        (Reason::Unsupported, "unsupported"),
        (Reason::Malformed, "malformed"),
        (Reason::TypeConflict, "type_conflict"),
        (Reason::Collision, "collision"),
        (Reason::OutOfOrder, "out_of_order"),
        (Reason::Overflow, "overflow"),
    ];
}

/// The type of a family on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Unknown,
    Histogram,
    Summary,
}

impl Kind {
    /// The label samples of this kind need for themselves.
    pub(crate) fn reserved_label(self) -> Option<&'static str> {
        match self {
            Kind::Histogram => Some("le"),
            Kind::Summary => Some("quantile"),
            _ => None,
        }
    }

    /// What the samples of a family of this kind are called, after the family's name.
    pub(crate) fn suffixes(self) -> &'static [&'static str] {
        match self {
            Kind::Counter | Kind::Gauge | Kind::Unknown => &[""],
            Kind::Histogram => &["", "_bucket", "_sum", "_count", "_created"],
            Kind::Summary => &["", "_sum", "_count", "_created"],
        }
    }
}

/// How the points of a metric become samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Treatment {
    pub(crate) kind: Kind,
    /// Points are increments and are added up here.
    pub(crate) delta: bool,
}

impl Treatment {
    /// That of metrics of which nothing is known.
    pub(crate) const UNKNOWN: Treatment = Treatment { kind: Kind::Unknown, delta: false };

    /// How a metric is treated.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] for what the formats cannot say.
    pub(crate) fn of(metric: Metric<'_>) -> Result<Self, Reason> {
        let temporal = |kind| match metric.temporality() {
            Temporality::Cumulative => Ok(Treatment { kind, delta: false }),
            Temporality::Delta => Ok(Treatment { kind, delta: true }),
            Temporality::Unspecified => Err(Reason::Unsupported),
        };
        let level = |kind| Treatment { kind, delta: false };
        match metric.kind() {
            MetricKind::Gauge if metric.metadata().get_str("prometheus.type") == Some("unknown") => {
                Ok(level(Kind::Unknown))
            }
            MetricKind::Gauge => Ok(level(Kind::Gauge)),
            MetricKind::Sum if metric.is_monotonic() => temporal(Kind::Counter),
            MetricKind::Sum if metric.temporality() == Temporality::Cumulative => Ok(level(Kind::Gauge)),
            MetricKind::Histogram => temporal(Kind::Histogram),
            MetricKind::ExponentialHistogram if metric.temporality() == Temporality::Cumulative => {
                Ok(level(Kind::Histogram))
            }
            MetricKind::Summary => Ok(level(Kind::Summary)),
            MetricKind::Sum | MetricKind::ExponentialHistogram | MetricKind::None => Err(Reason::Unsupported),
        }
    }
}

/// The last value of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(Number),
    Histogram(Box<Distribution>),
    Summary(Box<Quantiles>),
}

/// A classic histogram. `counts` are per bucket, one more than `bounds`; both are empty where only the count is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) sum: Option<f64>,
    pub(crate) bounds: Vec<f64>,
    pub(crate) counts: Vec<u64>,
}

/// A summary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) values: Vec<(f64, f64)>,
}

impl Value {
    /// The value of a point.
    ///
    /// # Errors
    /// [`Reason::Malformed`] where it contradicts itself or is not there.
    pub(crate) fn read(point: Point<'_>, kind: Kind) -> Result<Self, Reason> {
        let read = || match kind {
            Kind::Gauge | Kind::Unknown => point.value().map(Value::Number),
            Kind::Counter => point.value().filter(|value| value.as_f64() >= 0.0).map(Value::Number),
            Kind::Histogram => distribution(point).map(|value| Value::Histogram(Box::new(value))),
            Kind::Summary => point.summary().map(|summary| {
                let values =
                    summary.quantiles().filter(|(quantile, _)| (0.0..=1.0).contains(quantile)).take(MAX_BOUNDS);
                Value::Summary(Box::new(Quantiles {
                    count: summary.count,
                    sum: summary.sum,
                    values: ascending(values.collect()),
                }))
            }),
        };
        read().ok_or(Reason::Malformed)
    }

    /// How many lines the value is on the page, each a series for whoever reads it.
    pub(crate) fn lines(&self) -> usize {
        match self {
            Value::Number(_) => 1,
            Value::Histogram(distribution) => distribution.bounds.len() + 3,
            Value::Summary(quantiles) => quantiles.values.len() + 2,
        }
    }

    /// Adds an increment. A histogram whose bounds have changed begins anew: nothing lossless can be said of both.
    pub(crate) fn add(&mut self, increment: Value) {
        match (self, increment) {
            (Value::Number(total), Value::Number(more)) => *total = sum(*total, more),
            (Value::Histogram(total), Value::Histogram(more)) if total.bounds == more.bounds => {
                total.count = total.count.saturating_add(more.count);
                total.sum = total.sum.zip(more.sum).map(|(a, b)| a + b);
                for (total, more) in total.counts.iter_mut().zip(more.counts) {
                    *total = total.saturating_add(more);
                }
            }
            (total, other) => *total = other,
        }
    }
}

fn sum(a: Number, b: Number) -> Number {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.checked_add(b).map_or(Number::Double(a as f64 + b as f64), Number::Int),
        (a, b) => Number::Double(a.as_f64() + b.as_f64()),
    }
}

/// Sorted by quantile, each once.
fn ascending(mut values: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    values.dedup_by(|a, b| a.0 == b.0);
    values
}

fn distribution(point: Point<'_>) -> Option<Distribution> {
    let (count, sum, bounds, counts) = match (point.histogram(), point.exponential_histogram()) {
        (Some(histogram), _) => {
            let bounds: Vec<f64> = histogram.explicit_bounds().take(MAX_BOUNDS + 1).collect();
            let counts: Vec<u64> = histogram.bucket_counts().take(MAX_BOUNDS + 2).collect();
            (histogram.count, histogram.sum, bounds, counts)
        }
        (None, Some(histogram)) => {
            let (bounds, counts) = exponential::explicit(&histogram)?;
            (histogram.count, histogram.sum, bounds, counts)
        }
        (None, None) => return None,
    };
    let total = counts.iter().try_fold(0u64, |total, count| total.checked_add(*count))?;
    let shape = (counts.is_empty() && bounds.is_empty()) || (counts.len() == bounds.len() + 1 && total == count);
    let sound = shape
        && bounds.len() <= MAX_BOUNDS
        && bounds.iter().all(|bound| bound.is_finite())
        && bounds.is_sorted_by(|a, b| a < b);
    sound.then_some(Distribution { count, sum, bounds, counts })
}

/// A sample measurement that stands beside a bucket or a counter in OpenMetrics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) value: f64,
    /// Unix nanoseconds; 0 where not known.
    pub(crate) time: u64,
    /// Canonical text without braces.
    pub(crate) labels: Box<str>,
}

/// The exemplars of a point that the page can show: the latest of each bucket of a histogram, the latest of a counter.
pub(crate) fn exemplars(point: Point<'_>, value: &Value, kind: Kind) -> Vec<Exemplar> {
    let mut places: Vec<(usize, Exemplar)> = Vec::new();
    let bounds = match value {
        Value::Histogram(distribution) => distribution.bounds.as_slice(),
        _ => &[],
    };
    if !matches!(kind, Kind::Counter | Kind::Histogram) {
        return Vec::new();
    }
    for exemplar in point.exemplars() {
        let Some(measured) = exemplar.value.map(Number::as_f64).filter(|value| !value.is_nan()) else { continue };
        let bucket = bounds.partition_point(|bound| *bound < measured);
        let found = Exemplar { value: measured, time: exemplar.time, labels: exemplar_labels(exemplar).into() };
        match places.iter_mut().find(|(place, _)| *place == bucket) {
            Some((_, known)) if known.time <= found.time => *known = found,
            Some(_) => {}
            None => places.push((bucket, found)),
        }
    }
    places.into_iter().map(|(_, exemplar)| exemplar).collect()
}

/// The trace and the span first, then what else there is room for.
fn exemplar_labels(exemplar: phoenix_telemetry::Exemplar<'_>) -> String {
    let mut room = EXEMPLAR_CHARACTERS;
    let mut labels = Vec::new();
    let ids = [("trace_id", hex(exemplar.trace_id)), ("span_id", hex(exemplar.span_id))];
    let attributes = exemplar.attributes();
    let all = ids.into_iter().chain(attributes.iter().map(|(key, value)| (key, value.to_string())));
    for (key, value) in all {
        let label = Label::new(key, value, Origin::Point, false);
        if let Some(rest) = room.checked_sub(label.characters()).filter(|_| !label.is_empty()) {
            room = rest;
            labels.push(label);
        }
    }
    labels::text(labels, None)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
