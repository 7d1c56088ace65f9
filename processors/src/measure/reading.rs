//! One measure of an entity: rates where the data counts, levels where it does not.
//!
//! A cumulative sum is read as what it grew by between its last two readings, a delta as what it brought, both by second;
//! gauges and non-monotonic sums as they are. Several series of a measure (states, directions) are added. A lifetime total
//! is never a reading: a series seen for the first time counts over its own age, or since the scrape before if it is younger.

use phoenix_telemetry::{Metric, MetricKind, Number, Temporality};

/// After so many points in a row that are older than the last one, the sender's clock was set back: its series begin anew.
pub(super) const PATIENCE: u8 = 3;

/// How values of a metric are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cumulative,
    Delta,
    Level,
}

impl Kind {
    /// How to read a metric; `None` for distributions and for deltas of levels, which say neither rate nor level.
    pub(crate) fn of(metric: Metric<'_>) -> Option<Kind> {
        match (metric.kind(), metric.is_monotonic(), metric.temporality()) {
            (MetricKind::Gauge, ..) => Some(Kind::Level),
            (MetricKind::Sum, true, Temporality::Delta) => Some(Kind::Delta),
            (MetricKind::Sum, true, _) => Some(Kind::Cumulative),
            (MetricKind::Sum, false, Temporality::Delta) => None,
            (MetricKind::Sum, false, _) => Some(Kind::Level),
            _ => None,
        }
    }
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It counts.
    Yes,
    /// It counts, and is the first of a new life under an old name: its start lies after the last reading.
    Reborn,
    /// It counts, and needs to know the scrape before: see [`Apart::newcomer`](super::readings::Apart::newcomer).
    First(Newcomer),
    /// It does not, and why.
    Not(&'static str),
}

/// The whole value of a series that was never seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Newcomer {
    pub(super) value: f64,
    pub(super) start: u64,
    pub(super) time: u64,
}

impl Eq for Newcomer {}

/// A series as it was last read: 32 bytes, of which an entity has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) id: u64,
    pub(super) time: u64,
    /// The value's.
    pub(super) bits: u64,
    pub(super) measure: u32,
    pub(super) behind: u8,
    pub(super) is_int: bool,
}

impl Series {
    pub(super) fn new((id, measure): (u64, u32), time: u64, value: Number) -> Self {
        let (bits, is_int) = match value {
            Number::Int(value) => (value as u64, true),
            Number::Double(value) => (value.to_bits(), false),
        };
        Series { id, time, bits, measure, behind: 0, is_int }
    }

    /// What a later reading says; `None` where it does not simply go on.
    #[inline]
    pub(super) fn goes_on(
        &self,
        kind: Kind,
        value: Number,
        (start, time): (u64, u64),
        window: &mut Seconds,
    ) -> Option<f64> {
        let grown = match (kind, value, self.is_int) {
            (Kind::Level, Number::Int(value), _) => return Some(value as f64),
            (Kind::Level, Number::Double(value), _) => return value.is_finite().then_some(value),
            (Kind::Cumulative, Number::Int(value), true) => value.checked_sub(self.bits as i64)? as f64,
            (Kind::Cumulative, Number::Double(value), false) if value.is_finite() => value - f64::from_bits(self.bits),
            _ => return None,
        };
        (start <= self.time && grown >= 0.0).then(|| grown / window.of(time - self.time))
    }

    pub(super) fn value(&self) -> Number {
        if self.is_int { Number::Int(self.bits as i64) } else { Number::Double(f64::from_bits(self.bits)) }
    }
}

/// One measure. Values are by second, or in the metric's own unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// Sum over the series of the newest time.
    pub(super) sum: f64,
    /// Newest time of a point that counted.
    pub(super) time: u64,
    /// Number of the batch the sum was begun or gone on with.
    pub(super) summed: u32,
    /// Number of the batch that last brought a point.
    pub(crate) batch: u32,
    /// Whether anything is in the sum.
    pub(super) known: bool,
    /// Whether a part of the sum is an average over a life, for want of a window.
    pub(super) estimated: bool,
}

impl Reading {
    /// The value, if there is a finite one.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.known && self.sum.is_finite()).then_some(self.sum)
    }

    /// Whether the value is an average over a life that is older than the scrape before.
    pub(crate) fn is_estimated(&self) -> bool {
        self.estimated
    }

    /// Newest time of a point that counted, Unix nanoseconds.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    pub(super) fn add(&mut self, value: f64, estimated: bool, time: u64, batch: u32) {
        self.begin(time, batch);
        self.sum += value;
        self.known = true;
        self.estimated |= estimated;
    }

    /// Points of one batch, and further parts of the same time, add up; a later batch begins anew.
    fn begin(&mut self, time: u64, batch: u32) {
        if self.summed != batch && time > self.time {
            self.sum = 0.0;
            self.known = false;
            self.estimated = false;
        }
        self.time = self.time.max(time);
        self.summed = batch;
        self.batch = batch;
    }

    pub(super) fn first(&mut self, kind: Kind, value: f64, start: u64, time: u64, batch: u32) -> Taken {
        if kind == Kind::Level {
            self.add(value, false, time, batch);
            return Taken::Yes;
        }
        if value < 0.0 {
            return Taken::Not("negative");
        }
        self.begin(time, batch);
        Taken::First(Newcomer { value, start, time })
    }
}

/// The window of the last rate, and how many seconds that is: one scrape has few.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seconds {
    nanos: u64,
    seconds: f64,
}

impl Seconds {
    #[inline]
    pub(super) fn of(&mut self, nanos: u64) -> f64 {
        if nanos != self.nanos {
            *self = Seconds { nanos, seconds: seconds(nanos) };
        }
        self.seconds
    }
}

pub(super) fn is_finite(value: Number) -> bool {
    match value {
        Number::Int(_) => true,
        Number::Double(value) => value.is_finite(),
    }
}

pub(super) fn by_second(value: f64, nanos: u64) -> f64 {
    value / seconds(nanos)
}

fn seconds(nanos: u64) -> f64 {
    nanos.max(1) as f64 / 1e9
}

/// What a counter grew by; all of the new value where it fell.
pub(super) fn increase(old: Number, new: Number) -> f64 {
    let grown = match (old, new) {
        // Exact where a double would not be.
        (Number::Int(old), Number::Int(new)) => match new.checked_sub(old) {
            Some(grown) => grown as f64,
            None => (i128::from(new) - i128::from(old)) as f64,
        },
        (old, new) => new.as_f64() - old.as_f64(),
    };
    if grown < 0.0 { new.as_f64() } else { grown }
}
