//! The measures of the usual entity as one row of numbers.
//!
//! Most entities report the same series in the same order at one time, scrape after scrape. Of such a one only the values, the
//! sums and the time are kept; what its series are called and of which measure they are is a [`Form`] that all of its kind
//! share. What does not go on as usual is for [`Apart`], into which a row can be turned back whole: a row never knows more or
//! less than that.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use phoenix_telemetry::{Column, Number, Places, RelativeId};

use crate::machine::prefetch;

use super::layouts::Measured;
use super::reading::{Kind, Reading, Seconds, Series};
use super::readings::{Apart, FEW};

/// Forms that are remembered; entities of any further form are kept as series.
const MAX_FORMS: usize = 64;

/// One place of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    series: RelativeId,
    measure: u32,
    read: Read,
    has_start: bool,
    /// Whether it is the first of its measure.
    is_first: bool,
}

/// How the numbers of a place are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Level,
    LevelInt,
    Counter,
    CounterInt,
}

impl Cell {
    fn is_int(&self) -> bool {
        matches!(self.read, Read::LevelInt | Read::CounterInt)
    }
}

/// What rows of one kind have in common: which series their numbers are of.
#[derive(Debug, PartialEq)]
pub(super) struct Form {
    cells: Box<[Cell]>,
    /// The measures that have cells, a bit for each.
    measures: u64,
    /// How many measures there are.
    sums: usize,
    /// Whether any counter has a start.
    begins: bool,
}

impl Form {
    /// The form of a column, if entities can be kept so.
    fn of(points: &Places<'_>, layout: &[Measured], sums: usize) -> Option<Form> {
        if layout.is_empty() || layout.len() > FEW || sums > u64::BITS as usize {
            return None;
        }
        let mut form = Form { cells: Box::default(), measures: 0, sums, begins: false };
        let mut cells: Vec<Cell> = Vec::with_capacity(layout.len());
        for Measured { place, measure, kind } in layout {
            let point = points.get(*place)?;
            let has_start = point.start_time() > 0;
            let series = point.relative();
            let read = match (kind, point.value()?) {
                (Kind::Level, Number::Int(_)) => Read::LevelInt,
                (Kind::Level, Number::Double(_)) => Read::Level,
                (Kind::Cumulative, Number::Int(_)) => Read::CounterInt,
                (Kind::Cumulative, Number::Double(_)) => Read::Counter,
                (Kind::Delta, _) => return None,
            };
            if cells.iter().any(|cell| cell.series == series) {
                return None;
            }
            form.begins |= has_start && *kind == Kind::Cumulative;
            let is_first = form.measures >> measure & 1 == 0;
            form.measures |= 1 << measure;
            cells.push(Cell { series, measure: *measure, read, has_start, is_first });
        }
        form.cells = cells.into();
        Some(form)
    }

    /// Whether it is the form of the column of these points, of which these are the same series as of the one it was made of.
    pub(super) fn is_of(&self, points: &Places<'_>, layout: &[Measured]) -> bool {
        self.cells.len() == layout.len()
            && self.cells.iter().zip(layout).all(|(cell, Measured { place, .. })| {
                points.get(*place).is_some_and(|point| {
                    let is_int = matches!(point.value(), Some(Number::Int(_)));
                    (cell.has_start, cell.is_int()) == (point.start_time() > 0, is_int)
                })
            })
    }

    fn has(&self, measure: usize) -> bool {
        measure < self.sums && self.measures >> measure & 1 == 1
    }
}

/// The forms of the rows there are.
#[derive(Debug, Default)]
pub(super) struct Forms(Vec<Arc<Form>>);

impl Forms {
    /// The form of a column: the same one for all columns that are alike.
    #[cold]
    pub(super) fn of(&mut self, points: &Places<'_>, layout: &[Measured], sums: usize) -> Option<Arc<Form>> {
        let form = Form::of(points, layout, sums)?;
        if let Some(known) = self.0.iter().find(|known| ***known == form) {
            return Some(Arc::clone(known));
        }
        if self.0.len() >= MAX_FORMS {
            self.0.retain(|form| Arc::strong_count(form) > 1);
        }
        (self.0.len() < MAX_FORMS).then(|| {
            self.0.push(Arc::new(form));
            self.0.last().map(Arc::clone)
        })?
    }
}

/// An entity's measures, all read from one column.
#[derive(Debug)]
pub(super) struct Row {
    form: Arc<Form>,
    /// Time of all its values.
    time: u64,
    /// Number of the batch that brought them.
    batch: u32,
    /// The bits of the sum of each measure, then those of each value.
    numbers: Box<[u64]>,
}

impl Row {
    /// The row that says the same as these, where one does.
    pub(super) fn pack(Apart { measures, series }: &Apart, form: &Arc<Form>, time: u64, batch: u32) -> Option<Row> {
        let usual = Reading { sum: 0.0, time, summed: batch, batch, known: true, estimated: false };
        let is_usual = |(measure, reading): (usize, &Reading)| {
            *reading == if form.has(measure) { Reading { sum: reading.sum, ..usual } } else { Reading::default() }
        };
        let whole = series.len() == form.cells.len()
            && series.iter().zip(&form.cells).all(|(series, cell)| {
                (series.time, series.behind, series.is_int, series.measure) == (time, 0, cell.is_int(), cell.measure)
            })
            && measures.len() == form.sums
            && measures.iter().enumerate().all(is_usual);
        whole.then(|| {
            let sums = measures.iter().map(|reading| reading.sum.to_bits());
            let numbers = sums.chain(series.iter().map(|series| series.bits)).collect();
            Row { form: Arc::clone(form), time, batch, numbers }
        })
    }

    /// The row as series, of the resource of that hash; of which so many of the first went on, at that time with that batch.
    pub(super) fn unpack(&self, resource: u64, (taken, time, batch): (usize, u64, u32)) -> Apart {
        let Row { form, numbers, .. } = self;
        let values = numbers.get(form.sums..).unwrap_or_default();
        let mut apart = Apart {
            measures: (0..form.sums).map(|measure| self.get(measure).unwrap_or_default()).collect(),
            series: Vec::with_capacity(form.cells.len()),
        };
        for (place, (cell, bits)) in form.cells.iter().zip(values).enumerate() {
            let went_on = place < taken;
            let time = if went_on { time } else { self.time };
            if let Some(reading) = apart.measures.get_mut(cell.measure as usize).filter(|_| went_on) {
                *reading = Reading { time, summed: batch, batch, ..*reading };
            }
            let id = cell.series.of(resource);
            apart.series.push(Series {
                id,
                time,
                bits: *bits,
                measure: cell.measure,
                behind: 0,
                is_int: cell.is_int(),
            });
        }
        apart
    }

    /// The value of a measure, if there is a finite one.
    #[inline]
    pub(super) fn value(&self, measure: usize) -> Option<f64> {
        let sum = f64::from_bits(*self.numbers.get(measure).filter(|_| self.form.has(measure))?);
        sum.is_finite().then_some(sum)
    }

    /// A measure.
    pub(super) fn get(&self, measure: usize) -> Option<Reading> {
        if !self.form.has(measure) {
            return (measure < self.form.sums).then(Reading::default);
        }
        let sum = f64::from_bits(*self.numbers.get(measure)?);
        Some(Reading { sum, time: self.time, summed: self.batch, batch: self.batch, known: true, estimated: false })
    }

    /// Time of its values, and number of the batch that brought them.
    pub(super) fn newest(&self) -> (u64, u32) {
        (self.time, self.batch)
    }

    /// Has the cache fetch its numbers.
    pub(super) fn fetch(&self) {
        prefetch(&*self.numbers);
    }

    /// How many series it is of.
    pub(super) fn series(&self) -> usize {
        self.form.cells.len()
    }

    /// Takes a later column of the same form as long as its values simply go on. How many did: if not all, the row is one no
    /// more, and has to be unpacked. A process with six such points takes 290 instructions here, and 750 series by series.
    #[inline]
    pub(super) fn go_on(
        &mut self,
        (column, form, layout): (Column<'_>, &Arc<Form>, &[Measured]),
        (batch, window): (u32, &mut Seconds),
    ) -> usize {
        let usual = Arc::ptr_eq(&self.form, form)
            && column.time() > self.time
            && batch != self.batch
            && !(form.begins && column.start() > self.time);
        let Some((sums, values)) = self.numbers.split_at_mut_checked(form.sums).filter(|_| usual) else { return 0 };
        let seconds = window.of(column.time() - self.time);
        let mut taken = 0;
        for ((Measured { place, .. }, cell), old) in layout.iter().zip(&form.cells).zip(values) {
            let (Some(new), Some(sum)) = (column.at(*place), sums.get_mut(cell.measure as usize)) else { return taken };
            let (double, before) = (f64::from_bits(new), f64::from_bits(*old));
            let value = match cell.read {
                // What is no number is not above either.
                Read::Counter if double >= before && double < f64::INFINITY => (double - before) / seconds,
                Read::CounterInt => match (new as i64).checked_sub(*old as i64) {
                    Some(grown) if grown >= 0 => grown as f64 / seconds,
                    _ => return taken,
                },
                Read::Level if double.is_finite() => double,
                Read::LevelInt => new as i64 as f64,
                _ => return taken,
            };
            let others = if cell.is_first { 0.0 } else { f64::from_bits(*sum) };
            (*sum, *old) = ((others + value).to_bits(), new);
            taken += 1;
        }
        (self.time, self.batch) = (column.time(), batch);
        taken
    }
}
