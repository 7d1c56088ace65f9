//! Series that all went on alike, kept as one row: their layout, times and values.
//!
//! The series of a process come in one scope, are of one time, and are folded or not together. Kept one by one they take 96
//! bytes each, and each point is found and compared by itself; in a row they take 8, and what they have in common is looked at
//! once. A row is turned back into its series for whatever is not as usual.

use std::cell::Cell;
use std::sync::Arc;

use phoenix_telemetry::{Column, Number, Scope};

use super::{Entity, Found, Host, Tools, Visit};
use crate::aggregate::Orders;
use crate::aggregate::groups::Group;
use crate::aggregate::identity::Ident;
use crate::aggregate::layouts::{Form, Layout, Place, number};
use crate::aggregate::ledger::{Holder, Life, Reading};
use crate::aggregate::number::{LARGEST, is_finite, is_zero, less, zero_of};
use crate::aggregate::series::{Kind, Series};
use crate::machine::prefetch;

/// Series of an entity, all individual or all of one group. Folded ones have nothing left to be closed.
#[derive(Debug)]
pub(super) struct Row {
    layout: Arc<Layout>,
    /// Of the last points that have one.
    start: u64,
    /// Of the last points.
    time: u64,
    holder: Holder,
    /// Time of the last points that were written; 0 = none.
    written: u64,
    /// The bits of the last values.
    values: Box<[u64]>,
    /// Where the counters are individual, and do not leave as they came.
    opened: Option<Box<Opened>>,
}

/// How counters are written that began anew here, mostly on their return from the fold.
#[derive(Debug)]
struct Opened {
    /// The start time.
    start: u64,
    /// The bits of what is taken off the values, counter by counter.
    offsets: Box<[u64]>,
}

fn is_double(value: Number) -> bool {
    matches!(value, Number::Double(_))
}

impl Row {
    /// The row that these series make, if they are those of a layout and went on alike.
    pub(super) fn of(layout: &Arc<Layout>, series: &[Series]) -> Option<Row> {
        let first = &series.first()?.life;
        let (time, holder, written) = (first.last.time, first.holder, first.written);
        let start = series.iter().map(|series| series.life.last.start).max()?;
        let folded = holder != Holder::Individual;
        let as_it_came = |life: &Life| life.out_start == life.last.start && is_zero(life.offset);
        let opened = series.iter().map(|series| &series.life).find(|life| !folded && !as_it_came(life));
        let opened = opened.map(|life| life.out_start);
        let value = |(series, (ident, form)): (&Series, &(Arc<Ident>, Form))| {
            let Series { kind, life, in_group, shown, beside, .. } = series;
            let Life { last, out_start, offset, closing, ended, .. } = life;
            let its_kind = if form.counter { Kind::Counter } else { Kind::Level };
            let its_start = if form.has_start { start } else { 0 };
            // Of a folded series that has been closed nobody asks how it was written.
            let is_written_alike = match opened.filter(|_| form.counter) {
                _ if folded => true,
                _ if written != time => false,
                Some(opened) => *out_start == opened && is_double(*offset) == form.double,
                None => as_it_came(life),
            };
            let alike = Arc::ptr_eq(&series.ident, ident)
                && (*kind, is_double(last.value), last.start) == (its_kind, form.double, its_start)
                && (last.time, life.holder, life.written) == (time, holder, written)
                && (*closing, *ended, *shown, *in_group) == (false, false, !folded, folded && !form.counter)
                && beside.is_none()
                && is_written_alike;
            alike.then(|| last.value.bits())
        };
        let values = series.iter().zip(&layout.series).map(value).collect::<Option<_>>()?;
        let opened = opened.map(|start| {
            let offset = |place: &Place| series.get(place.at).map_or(0, |series| series.life.offset.bits());
            Box::new(Opened { start, offsets: layout.counters.iter().map(offset).collect() })
        });
        Some(Row { layout: Arc::clone(layout), start, time, holder, written, values, opened })
    }

    /// Its series, one by one.
    pub(super) fn series(&self) -> impl Iterator<Item = Series> {
        let Row { layout, start, time, holder, written, values, opened } = self;
        let mut opened = opened.iter().flat_map(|opened| opened.offsets.iter().map(|offset| (opened.start, *offset)));
        layout.series.iter().zip(values).map(move |((ident, form), bits)| {
            let (start, value) = (if form.has_start { *start } else { 0 }, number(form.double, *bits));
            let opened = if form.counter { opened.next() } else { None };
            let (out_start, offset) = match opened {
                Some((start, offset)) => (start, number(form.double, offset)),
                None => (start, zero_of(value)),
            };
            let folded = self.is_folded();
            Series {
                ident: Arc::clone(ident),
                life: Life {
                    last: Reading { start, time: *time, value },
                    holder: *holder,
                    out_start,
                    offset,
                    written: *written,
                    closing: false,
                    ended: false,
                },
                kind: if form.counter { Kind::Counter } else { Kind::Level },
                in_group: folded && !form.counter,
                shown: !folded,
                place: 0,
                beside: None,
            }
        })
    }

    /// Has the cache fetch the values.
    pub(super) fn fetch(&self) {
        prefetch(&*self.values);
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(super) fn holder(&self) -> Holder {
        self.holder
    }

    pub(super) fn is_folded(&self) -> bool {
        self.holder != Holder::Individual
    }

    pub(super) fn time(&self) -> u64 {
        self.time
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Adds the levels to those of its group.
    pub(super) fn tell(&self, group: &mut Group) {
        let Row { layout, values, .. } = self;
        let value = |place: &Place| number(place.double, values.get(place.at).copied().unwrap_or_default());
        group.hold_row(layout, self.time, layout.levels.iter().map(value));
    }

    /// How a column goes on where the row is: later, and no counter fell or began anew; else `None`. By how much each counter grew
    /// is written to `grown`.
    #[inline]
    fn goes_on(&self, column: Column<'_>, grown: &mut Vec<Number>) -> Option<Growth> {
        let Row { layout, values, .. } = self;
        let (start, time, bits) = (column.start(), column.time(), column.bits());
        let written_alike = self.is_folded() || start == self.start;
        let later = time > self.time && start <= self.time;
        if !later || !written_alike || bits.len() != values.len() {
            return None;
        }
        let is_good = |at: &usize| bits.get(*at).is_some_and(|bits| is_finite(number(true, *bits)));
        if !layout.double_levels.iter().all(is_good) {
            return None;
        }
        grown.resize(layout.counters.len(), Number::Int(0));
        let mut growth = Growth::default();
        for (Place { at, double, cpu_time }, grown) in layout.counters.iter().zip(grown) {
            let (bits, last) = (*bits.get(*at)?, *values.get(*at)?);
            if *double {
                let (value, last) = (f64::from_bits(bits), f64::from_bits(last));
                if !(value >= last && last >= 0.0 && value <= LARGEST) {
                    return None;
                }
                *growth.doubles.get_or_insert(0.0) += value - last;
                *grown = Number::Double(value - last);
            } else {
                let (value, last) = (bits as i64, last as i64);
                if !(value >= last && last >= 0) {
                    return None;
                }
                growth.ints += i128::from(value - last);
                *grown = Number::Int(value - last);
            }
            if *cpu_time {
                *growth.cpu_time.get_or_insert(0.0) += grown.as_f64();
            }
        }
        Some(growth)
    }
}

/// What the counters of a row grew by, together.
#[derive(Default)]
struct Growth {
    ints: i128,
    doubles: Option<f64>,
    cpu_time: Option<f64>,
}

impl Host {
    /// Works off all points of a scope at once, if they are a column that goes on where a row of the entity is; whether they are. It
    /// does what [`Host::usual`] does with each of them, all decided on alike; but where they are folded, the caller takes note.
    pub(crate) fn row(
        &mut self,
        (scope, column): (Scope<'_>, Column<'_>),
        (layout, heard_by): (&Arc<Layout>, &Cell<usize>),
        (visit, fold): (&Visit, bool),
        tools: &mut Tools<'_>,
        orders: &mut Orders,
    ) -> bool {
        let Host { entities, groups, heard, .. } = self;
        let Some(entity) = visit.slot.and_then(|slot| entities.get_mut(slot)) else { return false };
        let Entity { series, usage, group, is_group, .. } = entity;
        let Some(row) = series.row(layout) else { return false };
        let (holder, mut overflow) = (row.holder, false);
        if fold {
            let found = if *is_group { None } else { Found::of(group, (scope.resource(), visit.class), groups, tools) };
            let Some((group, other)) = found else { return false };
            if holder != Holder::Group(group) {
                return false;
            }
            overflow = other;
        } else if holder != Holder::Individual {
            return false;
        }
        let Some(growth) = row.goes_on(column, &mut orders.grown) else { return false };
        let Growth { ints, doubles, cpu_time } = growth;
        let (since, time) = (row.time, column.time());
        cpu_time.into_iter().for_each(|seconds| usage.time((since, time), seconds, fold));
        tools.ends.taken.grow(ints, doubles);
        match holder {
            Holder::Individual => {
                tools.ends.exported.grow(ints, doubles);
                row.written = time;
                if let Some(opened) = &row.opened {
                    let points =
                        layout.counters.iter().zip(&opened.offsets).filter_map(|(Place { at, double, .. }, offset)| {
                            let value = less(number(*double, column.at(*at)?), number(*double, *offset));
                            Some((column.id(*at)?, opened.start, value))
                        });
                    orders.rewritten.extend(points);
                }
            }
            Holder::Group(id) => {
                if let Some(group) = groups.get(id) {
                    group.add_row(&row.layout, since, &orders.grown);
                }
                if overflow {
                    column.ids().for_each(|_| tools.counts.overflow());
                }
            }
        }
        row.values.iter_mut().zip(column.bits()).for_each(|(value, bits)| *value = *bits);
        (row.start, row.time) = (column.start(), time);
        if heard_by.replace(visit.host) != visit.host {
            heard.extend(layout.series.iter().map(|(ident, _)| ident.desc.id));
        }
        true
    }

    /// Keeps the series of a scope as a row from now on, if they are alike, and folded as was decided.
    pub(crate) fn pack(&mut self, visit: &Visit, layout: &Arc<Layout>, fold: bool) {
        if let Some(entity) = visit.slot.and_then(|slot| self.entities.get_mut(slot)) {
            entity.series.pack(layout, fold);
        }
    }
}
