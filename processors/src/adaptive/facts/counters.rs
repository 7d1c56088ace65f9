//! By how much counters grew since they came last.
//!
//! The counters of an entity mostly come again as they came before: in one column, at the same places. They are kept as a row
//! then, of 16 bytes each, which is gone through without a search; whatever is not as usual has the row turned back into single
//! counters. The facts of a host of 500 processes take some 88 instructions a point so, where they took 150.

use phoenix_sketch::{COMMON_SEED, Ordered};
use phoenix_telemetry::{Column, Number, Places, Point};

use crate::machine::prefetch;

/// Counters whose last value is remembered: 50,000 processes, at some 80 bytes each 16 MB, in rows a third of that.
const MAX_SERIES: usize = 200_000;
/// Counters in one row.
const MOST_IN_ROW: usize = 16;

/// A point of a scope that is of a measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Its place among the points of its scope.
    pub(super) place: usize,
    pub(super) measure: usize,
    /// Whether it grows for as long as it lives.
    pub(super) counts: bool,
    /// Whether it is an integer, in all columns of a shape.
    pub(super) integer: bool,
}

impl Measured {
    /// The bits of its value in a column.
    #[inline]
    fn bits(&self, column: &Column<'_>) -> u64 {
        column.at(self.place).unwrap_or(u64::MAX)
    }

    /// Whether they are those of a number from 0 on: one comparison, where the number itself takes five.
    #[inline]
    fn is_usual(&self, bits: u64) -> bool {
        bits < if self.integer { 1 << 63 } else { f64::INFINITY.to_bits() }
    }

    #[inline]
    fn value(&self, bits: u64) -> f64 {
        if self.integer { Number::Int(bits as i64) } else { Number::Double(f64::from_bits(bits)) }.as_f64()
    }
}

/// The last value of a counter, its time, and when it came.
struct Last {
    value: f64,
    time: u64,
    heard: u64,
}

/// The counters of one scope, which came together last time.
pub(super) struct Row {
    /// Which they are, and where in their column.
    order: u64,
    time: u64,
    heard: u64,
    /// Series and last value of each.
    values: Box<[(u64, f64)]>,
}

impl Row {
    /// What each of the measured points of a column stands for, if the row's counters are all in it.
    #[inline]
    pub(super) fn go_on(
        &mut self,
        (order, column): (u64, &Column<'_>),
        measured: &[Measured],
        now: u64,
        mut each: impl FnMut(&Measured, f64),
    ) -> bool {
        let mut counters = measured.iter().filter(|measured| measured.counts);
        if order != self.order || counters.any(|counter| !counter.is_usual(counter.bits(column))) {
            return false;
        }
        let later = self.time < column.time();
        (self.time, self.heard) = (column.time(), now);
        let mut values = self.values.iter_mut();
        for measured in measured {
            let value = measured.value(measured.bits(column));
            let amount = match if measured.counts { values.next() } else { None } {
                None => level(value),
                Some((_, last)) => grown(std::mem::replace(last, value), value, later),
            };
            each(measured, amount);
        }
        true
    }

    /// Has the cache fetch its values.
    pub(super) fn fetch(&self) {
        prefetch(&*self.values);
    }

    /// Whether it was not heard of since then.
    pub(super) fn is_silent(&self, since: u64) -> bool {
        self.heard <= since
    }
}

/// All counters.
pub(super) struct Counters {
    last: Ordered<Last>,
    in_rows: usize,
    /// Those of one scope that can be a row.
    most_in_row: usize,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { last: Ordered::new(COMMON_SEED), in_rows: 0, most_in_row: MOST_IN_ROW }
    }
}

impl Counters {
    /// What a point that is in no row stands for: the increment of a counter, the value of a level; 0 while a counter has no past.
    pub(super) fn amount(&mut self, point: Point<'_>, counts: bool, now: u64) -> f64 {
        let value = point.value().map_or(f64::NAN, |value| value.as_f64());
        if !counts || !is_amount(value) {
            return level(value);
        }
        let (series, next) = (point.series(), Last { value, time: point.time(), heard: now });
        match self.last.find(series).and_then(|at| self.last.get_mut(at)) {
            Some(last) => {
                let before = std::mem::replace(last, next);
                grown(before.value, value, before.time < point.time())
            }
            None => {
                if self.len() < MAX_SERIES {
                    self.last.insert(series, next);
                }
                0.0
            }
        }
    }

    /// Makes a row of the counters of a column, which came just `now`.
    pub(super) fn row(
        &mut self,
        (order, column): (u64, &Column<'_>),
        (places, measured): (&Places<'_>, &[Measured]),
        now: u64,
    ) -> Option<Row> {
        let counters = measured.iter().filter(|measured| measured.counts);
        if counters.clone().count() > self.most_in_row {
            return None;
        }
        let last = |counter: &Measured| {
            let series = places.get(counter.place)?.series();
            let last = self.last.find(series).and_then(|at| self.last.get(at))?;
            (last.time == column.time() && last.heard == now).then_some((series, last.value))
        };
        let values: Box<[_]> = counters.map(last).collect::<Option<_>>()?;
        let twice =
            |(at, (series, _)): (usize, &(u64, f64))| values.iter().skip(at + 1).any(|(other, _)| other == series);
        if values.iter().enumerate().any(twice) {
            return None;
        }
        for (series, _) in &values {
            self.last.remove(*series);
        }
        self.in_rows += values.len();
        Some(Row { order, time: column.time(), heard: now, values })
    }

    /// Makes single counters of a row again.
    pub(super) fn dissolve(&mut self, row: Row) {
        let Row { time, heard, values, .. } = row;
        self.in_rows -= values.len();
        for (series, value) in values {
            self.last.insert(series, Last { value, time, heard });
        }
    }

    /// Forgets a row.
    pub(super) fn forget(&mut self, row: &Row) {
        self.in_rows -= row.values.len();
    }

    /// Forgets single counters that were not heard of since then.
    pub(super) fn sweep(&mut self, since: u64) {
        self.last.retain(|_, last| last.heard > since);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.last.len() + self.in_rows
    }

    /// Without rows, as which it must count with them.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Counters { most_in_row: 0, ..Counters::default() }
    }
}

/// Whether a value can be part of a share.
fn is_amount(value: f64) -> bool {
    (0.0..f64::INFINITY).contains(&value)
}

fn level(value: f64) -> f64 {
    if is_amount(value) { value } else { 0.0 }
}

fn grown(before: f64, value: f64, later: bool) -> f64 {
    if later && before <= value { value - before } else { 0.0 }
}
