//! One series: how its kind is treated, and what its ledger's outcome means for its group and for its point.

use std::sync::Arc;

use phoenix_telemetry::{MetricKind, Number, Point, PointId, Temporality};

use super::config::{Config, GaugeFunction};
use super::convert::{Written, written};
use super::distribution::Distribution;
use super::emit::Pieces;
use super::groups::{Group, GroupSeries, Groups, Hint, Holding};
use super::host::Tools;
use super::identity::{Desc, Ident, Role};
use super::ledger::{Holder, Life, Outcome, Reading, Write};
use super::number::{Sum, less, zero_of};

/// How a series is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Delta,
    Level,
    Gauge(GaugeFunction),
    /// A utilization: a group's is computed from its CPU time.
    Share,
    /// It always stays individual.
    Opaque,
}

/// A series of an entity.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) ident: Arc<Ident>,
    pub(super) life: Life,
    pub(super) kind: Kind,
    /// Its current value is its group's to tell.
    pub(super) in_group: bool,
    /// A reader of the output takes it for alive.
    pub(super) shown: bool,
    /// Where its group's series was last found.
    pub(super) place: Hint,
    /// What few series have.
    pub(super) beside: Option<Box<Beside>>,
}

/// What few series have; there are many series.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// What it is in its group, where that sums over attributes.
    pub(super) rest: Option<Arc<Ident>>,
    /// What was written of it, where deltas leave as a cumulative sum.
    pub(super) total: Option<Sum>,
    /// What it holds, where it is a histogram.
    pub(super) histogram: Option<Histogram>,
}

impl Beside {
    pub(super) fn of(
        rest: Option<Arc<Ident>>,
        total: Option<Sum>,
        histogram: Option<Histogram>,
    ) -> Option<Box<Beside>> {
        let any = rest.is_some() || total.is_some() || histogram.is_some();
        any.then(|| Box::new(Beside { rest, total, histogram }))
    }
}

/// A histogram series: what its life's values are the counts of.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Its last point.
    pub(super) last: Distribution,
    /// What was added by that point.
    pub(super) gain: Distribution,
    /// What is taken off its points: the point at its return from the fold, or where it was opened anew.
    pub(super) offset: Option<Distribution>,
    /// What was written of it, where deltas leave as a cumulative histogram.
    pub(super) total: Option<Distribution>,
}

impl Histogram {
    pub(super) fn new(first: Distribution) -> Self {
        Histogram { gain: first.empty(), last: first, offset: None, total: None }
    }

    /// Takes note of its next point, or of its first; the ledger has said how many values it adds.
    fn moves(&mut self, next: Distribution, increment: Number, kind: Kind) {
        self.gain = match increment {
            _ if kind == Kind::Delta => next.clone(),
            Number::Int(0) => next.empty(),
            added if added.as_f64() == next.count as f64 => next.clone(),
            _ => next.since(&self.last).unwrap_or_else(|| next.clone()),
        };
        self.last = next;
    }
}

/// What is to be done with a point of the batch.
pub(crate) enum Action {
    Pass,
    /// Its group, or nobody, has it.
    Fold,
    Rewrite(u64, Number),
    /// Another point says it, or there is nothing to say.
    Replace,
    /// It is bad; counted with the reason.
    Drop(&'static str),
}

/// A point's place and what is to be done with it.
pub(crate) type Order = (PointId, Action);

impl Kind {
    /// How a metric's series are treated, or why they cannot be folded.
    pub(super) fn of(desc: &Desc, config: &Config) -> Result<Kind, &'static str> {
        match (desc.kind, desc.temporality, desc.monotonic) {
            (MetricKind::Sum, Temporality::Cumulative, true)
            | (MetricKind::Histogram | MetricKind::ExponentialHistogram, Temporality::Cumulative, _) => {
                Ok(Kind::Counter)
            }
            (MetricKind::Sum, Temporality::Cumulative, false) => Ok(Kind::Level),
            (MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram, temporality, _) => {
                match temporality {
                    Temporality::Delta => Ok(Kind::Delta),
                    _ => Err("no_temporality"),
                }
            }
            (MetricKind::Gauge, ..) => match config.gauges.get(&desc.name) {
                Some(function) => Ok(Kind::Gauge(*function)),
                None if desc.role == Role::CpuShare => Ok(Kind::Share),
                None => Err("gauge"),
            },
            (MetricKind::Summary | MetricKind::None, ..) => Err("summary"),
        }
    }

    pub(super) fn first(self, reading: Reading, before: Option<u64>, decided: Holder) -> (Life, Outcome) {
        match self {
            Kind::Counter => Life::first(reading, before, decided),
            Kind::Delta => Life::first_delta(reading, decided),
            Kind::Level | Kind::Gauge(_) | Kind::Share | Kind::Opaque => Life::first_level(reading, decided),
        }
    }

    pub(super) fn next(self, life: &mut Life, reading: Reading, before: Option<u64>, decided: Holder) -> Outcome {
        match self {
            Kind::Counter => life.next(reading, before, decided),
            // The time that it is a share of is its holder's of before, as a delta is.
            Kind::Delta | Kind::Share => life.next_delta(reading, decided),
            Kind::Level | Kind::Gauge(_) | Kind::Opaque => life.next_level(reading, decided),
        }
    }

    fn holding(self) -> Holding {
        match self {
            Kind::Counter | Kind::Delta => Holding::Counter(Sum::default()),
            Kind::Level | Kind::Opaque => Holding::Level(Sum::default()),
            Kind::Gauge(function) => Holding::Gauge(function, Sum::default(), 0.0, 0, 0),
            Kind::Share => Holding::Share(None),
        }
    }
}

impl Series {
    /// What it is in its group, where that sums over attributes.
    pub(super) fn rest(&self) -> Option<&Arc<Ident>> {
        self.beside.as_ref()?.rest.as_ref()
    }

    /// Says what it is in its group; returns what it was.
    pub(super) fn set_rest(&mut self, rest: Option<Arc<Ident>>) -> Option<Arc<Ident>> {
        if rest.is_none() && self.beside.is_none() {
            return None;
        }
        std::mem::replace(&mut self.beside.get_or_insert_default().rest, rest)
    }

    /// What it holds, where it is a histogram.
    pub(super) fn histogram(&self) -> Option<&Histogram> {
        self.beside.as_ref()?.histogram.as_ref()
    }

    /// What a group holds of it.
    fn holding(&self) -> Holding {
        let histogram = self.histogram().map(|histogram| Box::new(histogram.last.empty()));
        histogram.map_or_else(|| self.kind.holding(), Holding::Distribution)
    }

    /// Whether it was exported, and has no point at `time` yet: only such a series can be closed then.
    fn is_open(&self, time: u64) -> bool {
        self.shown && self.life.written < time
    }

    /// Writes its end, if it is open.
    pub(super) fn close(&mut self, resource: &Arc<[u8]>, time: u64, out: &mut Pieces) {
        if !self.is_open(time) {
            return;
        }
        out.closed(resource, self.ident.written(), (self.life.out_start, time));
        (self.life.closing, self.shown) = (false, false);
        self.life.written = time;
    }

    /// Its sender says that it has ended.
    pub(super) fn end(&mut self, resource: &Arc<[u8]>, time: u64, out: &mut Pieces) -> Action {
        let open = self.is_open(time);
        if self.converts() {
            self.close(resource, time, out);
        }
        self.life.last.time = time;
        self.life.ended = true;
        self.life.closing = false;
        (self.in_group, self.shown) = (false, false);
        match (open, self.converts()) {
            (false, _) => Action::Fold,
            (true, true) => Action::Replace,
            (true, false) => {
                self.life.written = time;
                Action::Pass
            }
        }
    }

    /// Whether it leaves in the other temporality.
    pub(super) fn converts(&self) -> bool {
        self.ident.desc.out.is_some()
    }

    /// Adds its current value to its group's.
    pub(super) fn tell(&mut self, group: &mut Group) {
        let Reading { value, time, .. } = self.life.last;
        self.of_group(group, time).hold(value, time);
    }

    /// Its group's series; it begins at `start` if it is new.
    #[inline(always)]
    pub(super) fn of_group<'g>(&mut self, group: &'g mut Group, start: u64) -> &'g mut GroupSeries {
        let mut place = self.place;
        let ident = self.beside.as_ref().and_then(|beside| beside.rest.as_ref()).unwrap_or(&self.ident);
        let found = group.series(ident.written(), &mut place, start, || self.holding());
        self.place = place;
        found
    }

    /// Makes sure that its group's series is there from now on.
    pub(super) fn opens(&mut self, outcome: Outcome, groups: &mut Groups) {
        if let Some((group, start)) = outcome.opens.filter(|_| self.kind != Kind::Opaque)
            && let Some(group) = groups.get(group)
        {
            self.of_group(group, start);
        }
    }
}

/// Books what follows from a point, as long as the series is still what it was in its group; `came` is its resource, the point itself, and what it holds where it is a histogram.
pub(super) fn settle(
    series: &mut Series,
    former: Option<Life>,
    outcome: Outcome,
    (resource, point, next): (&Arc<[u8]>, Point<'_>, Option<Box<Distribution>>),
    groups: &mut Groups,
    tools: &mut Tools<'_>,
) -> Action {
    let kind = series.kind;
    let histogram = series.beside.as_mut().and_then(|beside| beside.histogram.as_mut());
    if let (Some(histogram), Some(next)) = (histogram, next) {
        histogram.moves(*next, outcome.increment, kind);
        if series.life.offset.as_f64() == 0.0 {
            histogram.offset = None;
        } else if former.is_none() || (outcome.to != Holder::Individual && series.life.holder == Holder::Individual) {
            histogram.offset = Some(histogram.last.clone());
        }
    }
    series.in_group = matches!(kind, Kind::Level | Kind::Gauge(_)) && outcome.write == Write::Nothing;
    if matches!(kind, Kind::Counter | Kind::Delta) {
        tools.ends.taken.add(outcome.increment);
        match outcome.to {
            Holder::Individual if series.converts() => tools.ends.exported.add(outcome.increment),
            Holder::Individual => tools.ends.exported.add(read(&series.life, former, kind, outcome)),
            Holder::Group(group) => {
                let start = match outcome.opens {
                    Some((opened, start)) if opened == group => start,
                    _ => former.map_or(series.life.last.time, |former| former.last.time),
                };
                if let Some(group) = groups.get(group) {
                    let account = series.of_group(group, start);
                    match series.histogram() {
                        None => account.add(outcome.increment),
                        Some(histogram) => account.add_distribution(&histogram.gain),
                    }
                }
            }
        }
    }
    if series.converts() {
        return convert(series, former, outcome, (resource, point), tools);
    }
    series.shown |= matches!(outcome.write, Write::Untouched | Write::As(..));
    match outcome.write {
        Write::Untouched => Action::Pass,
        Write::As(start, value) => match series.histogram() {
            None => Action::Rewrite(start, value),
            Some(histogram) => {
                let times = (start, series.life.last.time);
                match histogram.offset.as_ref().and_then(|offset| histogram.last.since(offset)) {
                    Some(rest) => tools.out.distribution(resource, &series.ident, times, &rest, false),
                    None => tools.out.restarted(resource, &series.ident.desc, point.body(), times),
                }
                Action::Replace
            }
        },
        Write::Nothing | Write::Close => Action::Fold,
    }
}

/// Writes what follows from a point in the temporality in which its series leaves.
fn convert(
    series: &mut Series,
    former: Option<Life>,
    outcome: Outcome,
    (resource, point): (&Arc<[u8]>, Point<'_>),
    tools: &mut Tools<'_>,
) -> Action {
    match written(series, former, &outcome) {
        Some((start, said)) => {
            let (ident, times) = (series.ident.written(), (start, series.life.last.time));
            match said {
                Written::Number(value) => tools.out.number(resource, &ident.desc, point.body(), times, value),
                Written::Distribution(value, range) => {
                    tools.out.distribution(resource, ident, times, &value, range);
                }
            }
            series.shown = true;
            Action::Replace
        }
        None if outcome.to == Holder::Individual => Action::Replace,
        None => Action::Fold,
    }
}

/// What a reader of the output adds up on reading this point of an individual series.
fn read(life: &Life, former: Option<Life>, kind: Kind, outcome: Outcome) -> Number {
    let written = match outcome.write {
        Write::Untouched => life.last.value,
        Write::As(_, value) => value,
        Write::Nothing | Write::Close => return zero_of(outcome.increment),
    };
    match former {
        _ if kind == Kind::Delta => written,
        // The reader began to look with us: what is older is not added.
        None => outcome.increment,
        Some(former) if former.out_start == life.out_start => less(written, less(former.last.value, former.offset)),
        Some(_) if life.out_start >= life.last.time => zero_of(written),
        Some(_) => written,
    }
}
