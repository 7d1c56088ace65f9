//! All measures of one entity, and what of its series they are read from.
//!
//! Points are taken one by one, by the identity of their series; for entities whose series all go on alike there is a shorter
//! way, and less to remember (see [`Row`]).

use std::sync::Arc;

use phoenix_telemetry::{Column, Number, Places, Point};

use super::layouts::Measured;
use super::reading::{Kind, Newcomer, PATIENCE, Reading, Seconds, Series, Taken, by_second, increase, is_finite};
use super::row::{Form, Row};

/// Series of one measure of one entity; whatever has more is no entity.
const MAX_SERIES: usize = 4096;
/// Up to so many are kept as they came, so that most are found where they are expected; more are kept in order, to be searched.
pub(super) const FEW: usize = 16;

/// All measures of an entity.
#[derive(Debug)]
pub(crate) enum Readings {
    /// As all of one column.
    Row(Row),
    /// As any series.
    Apart(Apart),
}

impl Readings {
    pub(super) fn new(measures: usize) -> Self {
        Readings::Apart(Apart { measures: vec![Reading::default(); measures].into(), series: Vec::new() })
    }

    /// A measure.
    #[inline]
    pub(crate) fn get(&self, measure: usize) -> Option<Reading> {
        match self {
            Readings::Row(row) => row.get(measure),
            Readings::Apart(apart) => apart.measures.get(measure).copied(),
        }
    }

    /// How many series are remembered.
    /// Has the cache fetch the numbers of a row.
    #[inline]
    pub(super) fn fetch(&self) {
        if let Readings::Row(row) = self {
            row.fetch();
        }
    }

    pub(super) fn series(&self) -> usize {
        match self {
            Readings::Row(row) => row.series(),
            Readings::Apart(apart) => apart.series.len(),
        }
    }

    /// The series, to take any points: those of the resource of that hash.
    #[inline]
    pub(super) fn apart(&mut self, resource: u64) -> &mut Apart {
        loop {
            match self {
                Readings::Row(row) => {
                    let (time, batch) = row.newest();
                    *self = Readings::Apart(row.unpack(resource, (0, time, batch)));
                }
                Readings::Apart(apart) => return apart,
            }
        }
    }

    /// Takes a column into the row there is, for the resource of that hash: how many of the first points were usual. If not
    /// all, there are series from now on, for the others to be taken one by one.
    #[inline(always)]
    pub(super) fn go_on(
        &mut self,
        resource: u64,
        (column, form, layout): (Column<'_>, &Arc<Form>, &[Measured]),
        (batch, window): (u32, &mut Seconds),
    ) -> usize {
        let Readings::Row(row) = self else { return 0 };
        let taken = row.go_on((column, form, layout), (batch, window));
        if taken < row.series() {
            *self = Readings::Apart(row.unpack(resource, (taken, column.time(), batch)));
        }
        taken
    }

    /// Keeps them as a row from now on, if a column of that form and time brought all there is.
    pub(super) fn pack(&mut self, form: &Arc<Form>, time: u64, batch: u32) {
        if let Readings::Apart(apart) = self
            && let Some(row) = Row::pack(apart, form, time, batch)
        {
            *self = Readings::Row(row);
        }
    }

    /// Forgets series not seen since `time`.
    pub(super) fn sweep(&mut self, time: u64, resource: u64) {
        match self {
            Readings::Row(row) if row.newest().0 >= time => {}
            _ => self.apart(resource).series.retain(|series| series.time >= time),
        }
    }
}

/// The measures, and the series they are read from.
#[derive(Debug)]
pub(crate) struct Apart {
    pub(super) measures: Box<[Reading]>,
    /// Of all measures: one piece of memory an entity.
    pub(super) series: Vec<Series>,
}

impl Apart {
    /// Takes the points of a layout from the first on, as long as they are usual: later ones of series that are known, in the
    /// order they came in, and numbers that go on where they were: one by one each would cost twice as much.
    /// How many there were, and their newest time; what is left is for [`Apart::take`]. `next` is the place of the first one's series.
    pub(super) fn usual(
        &mut self,
        (points, layout): (&Places<'_>, &[Measured]),
        next: usize,
        (batch, window): (u32, &mut Seconds),
    ) -> (usize, u64) {
        let Apart { measures, series } = self;
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
}

/// Where a series is, or where it would have to be.
fn find(series: &[Series], id: u64) -> Result<usize, usize> {
    if series.len() > FEW {
        return series.binary_search_by_key(&id, |series| series.id);
    }
    series.iter().position(|series| series.id == id).ok_or(series.len())
}
