//! The measures of one entity: rates where the data counts, levels where it does not.
//!
//! A cumulative sum is read as what it grew by between its last two readings, a delta as what it brought, both by second;
//! gauges and non-monotonic sums as they are. Several series of a measure (states, directions) are added. A lifetime total
//! is never a reading: a series seen for the first time counts over its own age, or since the scrape before if it is younger.

use phoenix_telemetry::{Metric, MetricKind, Number, Places, Point, Temporality};

use super::layouts::Measured;

/// After so many points in a row that are older than the last one, the sender's clock was set back: its series begin anew.
const PATIENCE: u8 = 3;
/// Series of one measure of one entity; whatever has more is no entity.
const MAX_SERIES: usize = 4096;
/// Up to so many are kept as they came, so that most are found where they are expected; more are kept in order, to be searched.
const FEW: usize = 16;

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
    /// It counts, and needs to know the scrape before: see [`Readings::newcomer`].
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

/// A series as it was last read: 32 bytes, of which an entity has some.
#[derive(Clone, Copy, Debug)]
struct Series {
    id: u64,
    time: u64,
    /// The value's.
    bits: u64,
    measure: u32,
    behind: u8,
    is_int: bool,
}

impl Series {
    fn new((id, measure): (u64, u32), time: u64, value: Number) -> Self {
        let (bits, is_int) = match value {
            Number::Int(value) => (value as u64, true),
            Number::Double(value) => (value.to_bits(), false),
        };
        Series { id, time, bits, measure, behind: 0, is_int }
    }

    /// What a later reading says; `None` where it does not simply go on.
    #[inline]
    fn goes_on(&self, kind: Kind, value: Number, (start, time): (u64, u64), window: &mut Seconds) -> Option<f64> {
        let grown = match (kind, value, self.is_int) {
            (Kind::Level, Number::Int(value), _) => return Some(value as f64),
            (Kind::Level, Number::Double(value), _) => return value.is_finite().then_some(value),
            (Kind::Cumulative, Number::Int(value), true) => value.checked_sub(self.bits as i64)? as f64,
            (Kind::Cumulative, Number::Double(value), false) if value.is_finite() => value - f64::from_bits(self.bits),
            _ => return None,
        };
        (start <= self.time && grown >= 0.0).then(|| grown / window.of(time - self.time))
    }

    fn value(&self) -> Number {
        if self.is_int { Number::Int(self.bits as i64) } else { Number::Double(f64::from_bits(self.bits)) }
    }
}

/// One measure. Values are by second, or in the metric's own unit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Sum over the series of the newest time.
    sum: f64,
    /// Newest time of a point that counted.
    time: u64,
    /// Number of the batch the sum was begun or gone on with.
    summed: u32,
    /// Number of the batch that last brought a point.
    pub(crate) batch: u32,
    /// Whether anything is in the sum.
    known: bool,
    /// Whether a part of the sum is an average over a life, for want of a window.
    estimated: bool,
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

    fn first(&mut self, kind: Kind, value: f64, start: u64, time: u64, batch: u32) -> Taken {
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

/// All measures of an entity, and the series they are read from.
#[derive(Debug)]
pub(crate) struct Readings {
    measures: Box<[Reading]>,
    /// Of all measures: one piece of memory an entity.
    series: Vec<Series>,
}

/// The window of the last rate, and how many seconds that is: one scrape has few.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seconds {
    nanos: u64,
    seconds: f64,
}

impl Seconds {
    #[inline]
    fn of(&mut self, nanos: u64) -> f64 {
        if nanos != self.nanos {
            *self = Seconds { nanos, seconds: seconds(nanos) };
        }
        self.seconds
    }
}

impl Readings {
    pub(super) fn new(measures: usize) -> Self {
        Readings { measures: vec![Reading::default(); measures].into(), series: Vec::new() }
    }

    /// A measure.
    pub(crate) fn get(&self, measure: usize) -> Option<&Reading> {
        self.measures.get(measure)
    }

    /// How many series are remembered.
    pub(super) fn series(&self) -> usize {
        self.series.len()
    }

    /// Takes the points of a layout from the first on, as long as they are usual: later ones of series that are known, in the
    /// order they came in, and numbers that go on where they were. Nine of ten points are of this kind, and one by one each
    /// would cost twice as much (1,080 instructions a process with six of them, now 600). How many there were, and their
    /// newest time; what is left is for [`Readings::take`]. `next` is the place of the first one's series.
    pub(super) fn usual(
        &mut self,
        (points, layout): (&Places<'_>, &[Measured]),
        next: usize,
        (batch, window): (u32, &mut Seconds),
    ) -> (usize, u64) {
        let Readings { measures, series } = self;
        let (mut taken, mut newest) = (0, 0);
        for (Measured { place, measure, kind }, series) in
            layout.iter().zip(series.get_mut(next..).into_iter().flatten())
        {
            let Some(point) = points.get(*place).filter(|point| !point.no_recorded_value()) else { break };
            let (Some(value), Some(reading)) = (point.value(), measures.get_mut(*measure as usize)) else { break };
            let time = point.time();
            if point.series() != series.id || time <= series.time {
                break;
            }
            let Some(rate) = series.goes_on(*kind, value, (point.start_time(), time), window) else { break };
            *series = Series::new((series.id, *measure), time, value);
            reading.add(rate, false, time, batch);
            (taken, newest) = (taken + 1, time.max(newest));
        }
        (taken, newest)
    }

    /// Takes a point of a measure and of batch number `batch`. No new series is taken if there is no `room`.
    pub(super) fn take(&mut self, (measure, kind): (u32, Kind), point: Point<'_>, batch: u32, room: bool) -> Taken {
        let Some(value) = point.value().filter(|value| is_finite(*value)) else {
            return Taken::Not(if point.value().is_some() { "not_finite" } else { "no_value" });
        };
        let (start, time) = (point.start_time(), point.time());
        if time == 0 {
            return Taken::Not("no_time");
        }
        let Some(reading) = self.measures.get_mut(measure as usize) else { return Taken::Not("no_value") };
        let id = point.series();
        let Some(series) = find(&self.series, id).ok().and_then(|at| self.series.get_mut(at)) else {
            return match self.admit((id, measure), time, value, room) {
                Ok(reading) => reading.first(kind, value.as_f64(), start, time, batch),
                Err(reason) => Taken::Not(reason),
            };
        };
        let last = std::mem::replace(series, Series::new((id, measure), time, value));
        if time <= last.time {
            let behind = if time == last.time { 0 } else { last.behind + 1 };
            if behind >= PATIENCE {
                reading.time = 0;
                return reading.first(kind, value.as_f64(), start, time, batch);
            }
            *series = Series { behind, ..last };
            if time < last.time {
                return Taken::Not("out_of_order");
            }
            reading.batch = batch;
            return Taken::Not("duplicate");
        }
        let reborn = kind == Kind::Cumulative && start > last.time && start <= time;
        let rate = match kind {
            Kind::Level => value.as_f64(),
            Kind::Delta => {
                let window = if start > 0 && start < time { time - start } else { time - last.time };
                by_second(value.as_f64(), window)
            }
            // A start after the last reading is a new life, and so is a value that fell: all of it is new.
            Kind::Cumulative => {
                let grown = if reborn { value.as_f64() } else { increase(last.value(), value) };
                by_second(grown, time - last.time)
            }
        };
        if rate < 0.0 && kind != Kind::Level {
            return Taken::Not("negative");
        }
        reading.add(rate, false, time, batch);
        if reborn { Taken::Reborn } else { Taken::Yes }
    }

    /// Remembers a series that was never seen; the measure it is of, or why there is no room for it.
    #[cold]
    fn admit(
        &mut self,
        (id, measure): (u64, u32),
        time: u64,
        value: Number,
        room: bool,
    ) -> Result<&mut Reading, &'static str> {
        let full = |of: &[Series]| of.iter().filter(|series| series.measure == measure).count() >= MAX_SERIES;
        let (Some(reading), Err(at)) = (self.measures.get_mut(measure as usize), find(&self.series, id)) else {
            return Err("too_many_series");
        };
        if !room || self.series.len() >= MAX_SERIES && full(&self.series) {
            return Err("too_many_series");
        }
        if self.series.len() == self.series.capacity() {
            // By two at first: most entities have few series, and there are many entities.
            self.series.reserve_exact((self.series.len() / 2).max(2));
        }
        self.series.insert(at, Series::new((id, measure), time, value));
        if self.series.len() == FEW + 1 {
            self.series.sort_unstable_by_key(|series| series.id);
        }
        Ok(reading)
    }

    /// Counts a series of a measure that was never seen, `before` being the time of the scrape before (0 = none): over its
    /// age, or since then if it is younger. Without a start it has no rate until it is seen again.
    pub(super) fn newcomer(&mut self, measure: u32, newcomer: Newcomer, before: u64, batch: u32) {
        let Newcomer { value, start, time } = newcomer;
        let Some(reading) = self.measures.get_mut(measure as usize) else { return };
        if start == 0 || start >= time {
            return;
        }
        let since = if before == 0 { 0 } else { time.saturating_sub(before) };
        let window = since.max(time - start);
        reading.add(by_second(value, window), before == 0 || start <= before, time, batch);
    }

    /// Forgets series not seen since `time`.
    pub(super) fn sweep(&mut self, time: u64) {
        self.series.retain(|series| series.time >= time);
    }
}

/// Where a series is, or where it would have to be.
fn find(series: &[Series], id: u64) -> Result<usize, usize> {
    if series.len() > FEW {
        return series.binary_search_by_key(&id, |series| series.id);
    }
    series.iter().position(|series| series.id == id).ok_or(series.len())
}

fn is_finite(value: Number) -> bool {
    match value {
        Number::Int(_) => true,
        Number::Double(value) => value.is_finite(),
    }
}

fn by_second(value: f64, nanos: u64) -> f64 {
    value / seconds(nanos)
}

fn seconds(nanos: u64) -> f64 {
    nanos.max(1) as f64 / 1e9
}

/// What a counter grew by; all of the new value where it fell.
fn increase(old: Number, new: Number) -> f64 {
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
