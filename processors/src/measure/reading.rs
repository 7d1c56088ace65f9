//! One measure of one entity: a rate where the data counts, a level where it does not.
//!
//! A cumulative sum is read as what it grew by between its last two readings, a delta as what it brought, both by second;
//! gauges and non-monotonic sums as they are. Several series of a measure (states, directions) are added. A lifetime total
//! is never a reading: a series seen for the first time counts over its own age, or since the scrape before if it is younger.

use phoenix_telemetry::{Metric, MetricKind, Number, Point, Temporality};

/// After so many points in a row that are older than the last one, the sender's clock was set back: its series begin anew.
const PATIENCE: u8 = 3;
/// Series of one measure of one entity; whatever has more is no entity.
const MAX_SERIES: usize = 4096;

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
    /// It counts, and needs to know the scrape before: see [`Reading::newcomer`].
    First(Newcomer),
    /// It does not, and why.
    Not(&'static str),
}

/// The whole value of a series that was never seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Newcomer {
    value: f64,
    start: u64,
    time: u64,
}

impl Eq for Newcomer {}

#[derive(Debug)]
struct Series {
    id: u64,
    time: u64,
    value: Number,
    behind: u8,
}

/// The measure. Values are by second, or in the metric's own unit.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    series: Vec<Series>,
    /// Sum over the series of the newest time.
    sum: f64,
    /// Whether anything is in the sum.
    known: bool,
    /// Whether a part of the sum is an average over a life, for want of a window.
    estimated: bool,
    /// Newest time of a point that counted.
    time: u64,
    /// Number of the batch the sum was begun or gone on with.
    summed: u32,
    /// Number of the batch that last brought a point.
    pub(crate) batch: u32,
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

    /// How many series it remembers.
    pub(crate) fn series(&self) -> usize {
        self.series.len()
    }

    /// Takes a point of batch number `batch`. No new series is taken if there is no `room`.
    pub(crate) fn take(&mut self, kind: Kind, point: Point<'_>, batch: u32, room: bool) -> Taken {
        let Some(value) = point.value().filter(|value| value.as_f64().is_finite()) else {
            return Taken::Not(if point.value().is_some() { "not_finite" } else { "no_value" });
        };
        let (start, time) = (point.start_time(), point.time());
        if time == 0 {
            return Taken::Not("no_time");
        }
        let id = point.series();
        let found = match self.series.binary_search_by_key(&id, |series| series.id) {
            Ok(at) => at,
            Err(at) => {
                if !room || self.series.len() >= MAX_SERIES {
                    return Taken::Not("too_many_series");
                }
                if self.series.len() == self.series.capacity() {
                    // One, two, four: most measures have one series, and there are many readings.
                    self.series.reserve_exact(self.series.len().max(1));
                }
                self.series.insert(at, Series { id, time, value, behind: 0 });
                return self.take_first(kind, value.as_f64(), start, time, batch);
            }
        };
        let Some(series) = self.series.get_mut(found) else { return Taken::Not("too_many_series") };
        if time <= series.time {
            let reason = if time == series.time { "duplicate" } else { "out_of_order" };
            series.behind = if time == series.time { 0 } else { series.behind + 1 };
            if series.behind < PATIENCE {
                if time == series.time {
                    self.batch = batch;
                }
                return Taken::Not(reason);
            }
            *series = Series { id, time, value, behind: 0 };
            self.time = 0;
            return self.take_first(kind, value.as_f64(), start, time, batch);
        }
        let reborn = kind == Kind::Cumulative && start > series.time && start <= time;
        let rate = match kind {
            Kind::Level => value.as_f64(),
            Kind::Delta => {
                let window = if start > 0 && start < time { time - start } else { time - series.time };
                by_second(value.as_f64(), window)
            }
            // A start after the last reading is a new life, and so is a value that fell: all of it is new.
            Kind::Cumulative => {
                let grown = if reborn { value.as_f64() } else { increase(series.value, value) };
                by_second(grown, time - series.time)
            }
        };
        *series = Series { id, time, value, behind: 0 };
        if rate < 0.0 && kind != Kind::Level {
            return Taken::Not("negative");
        }
        self.add(rate, false, time, batch);
        if reborn { Taken::Reborn } else { Taken::Yes }
    }

    fn take_first(&mut self, kind: Kind, value: f64, start: u64, time: u64, batch: u32) -> Taken {
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

    /// Counts a series that was never seen, `before` being the time of the scrape before (0 = none): over its age, or
    /// since then if it is younger. Without a start it has no rate until it is seen again.
    pub(crate) fn newcomer(&mut self, newcomer: Newcomer, before: u64, batch: u32) {
        let Newcomer { value, start, time } = newcomer;
        if start == 0 || start >= time {
            return;
        }
        let since = if before == 0 { 0 } else { time.saturating_sub(before) };
        let window = since.max(time - start);
        self.add(by_second(value, window), before == 0 || start <= before, time, batch);
    }

    fn add(&mut self, value: f64, estimated: bool, time: u64, batch: u32) {
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

    /// Forgets series not seen since `time`.
    pub(crate) fn sweep(&mut self, time: u64) {
        self.series.retain(|series| series.time >= time);
    }
}

fn by_second(value: f64, nanos: u64) -> f64 {
    value / (nanos.max(1) as f64 / 1e9)
}

/// What a counter grew by; all of the new value where it fell.
fn increase(old: Number, new: Number) -> f64 {
    let grown = match (old, new) {
        // Exact where a double would not be.
        (Number::Int(old), Number::Int(new)) => (i128::from(new) - i128::from(old)) as f64,
        (old, new) => new.as_f64() - old.as_f64(),
    };
    if grown < 0.0 { new.as_f64() } else { grown }
}
