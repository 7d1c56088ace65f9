//! The series of one entity, in the order of first sight, which is the order in which they come again.
//!
//! A series is first looked for behind the one before; what lies there is compared, so a guess costs nothing but time. Series
//! that went on alike are kept as a row; whoever looks for one of them by itself has the row turned back into them.

use std::sync::Arc;

use super::row::Row;
use crate::aggregate::identity::Ident;
use crate::aggregate::layouts::Layout;
use crate::aggregate::series::Series;
use crate::machine::prefetch;
use crate::measure::ByKey;

/// Up to so many are looked through one by one; a table of more would cost more than it saves.
const FEW: usize = 32;

/// Series of different identities.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Of layouts that have no series in common.
    rows: Vec<Row>,
    /// Those in no row.
    series: Vec<Series>,
    /// Their places by identity, where they are many.
    places: Option<Box<ByKey<u32>>>,
}

impl Table {
    /// Of an entity that will have so many series at first.
    pub(super) fn with_room(series: usize) -> Table {
        Table { series: Vec::with_capacity(series), ..Table::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.iter().map(Row::len).sum::<usize>() + self.series.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.series.is_empty()
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Has the cache fetch the first row, as far as it does not hold values.
    pub(super) fn fetch_rows(&self) {
        self.rows.first().into_iter().for_each(prefetch);
    }

    /// The row of a layout.
    #[inline]
    pub(super) fn row(&mut self, layout: &Arc<Layout>) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| Arc::ptr_eq(row.layout(), layout))
    }

    /// Makes a row of the series of a layout, if they lie together, are alike, and are folded or not as said.
    pub(super) fn pack(&mut self, layout: &Arc<Layout>, folded: bool) {
        let Some(begin) = layout.series.first().and_then(|(first, _)| self.place(first, 0)) else { return };
        let end = begin + layout.series.len();
        let row = self.series.get(begin..end).and_then(|series| Row::of(layout, series));
        let Some(row) = row.filter(|row| row.is_folded() == folded) else { return };
        self.series.drain(begin..end);
        self.series.shrink_to_fit();
        self.note_places();
        // Most entities have one.
        self.rows.reserve_exact(1);
        self.rows.push(row);
    }

    /// Turns a row back into its series.
    fn unpack(&mut self, row: usize) {
        let row = self.rows.swap_remove(row);
        self.series.reserve_exact(row.len());
        self.series.extend(row.series());
        self.note_places();
    }

    /// Turns back all rows.
    pub(super) fn unpack_all(&mut self) {
        while !self.rows.is_empty() {
            self.unpack(0);
        }
    }

    /// What its series are.
    pub(super) fn idents(&self) -> impl Iterator<Item = &Arc<Ident>> {
        let packed = self.rows.iter().flat_map(|row| row.layout().series.iter().map(|(ident, _)| ident));
        packed.chain(self.series.iter().map(|series| &series.ident))
    }

    /// The series in no row.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Series> {
        self.series.iter()
    }

    /// The series in no row, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        self.series.iter_mut()
    }

    /// The place of a series, which is probably `guess`. If it is in a row, that is turned back.
    #[inline(always)]
    pub(super) fn find(&mut self, ident: &Arc<Ident>, guess: usize) -> Option<usize> {
        let is_it = |series: &Series| Arc::ptr_eq(&series.ident, ident);
        if self.series.get(guess).is_some_and(is_it) { Some(guess) } else { self.search(ident) }
    }

    #[inline(never)]
    fn search(&mut self, ident: &Arc<Ident>) -> Option<usize> {
        if let Some(row) = self.rows.iter().position(|row| row.layout().has(ident)) {
            self.unpack(row);
        }
        self.place(ident, 0)
    }

    /// The place of a series that is in no row.
    pub(super) fn place(&self, ident: &Arc<Ident>, guess: usize) -> Option<usize> {
        let is_it = |series: &Series| Arc::ptr_eq(&series.ident, ident);
        match &self.places {
            _ if self.series.get(guess).is_some_and(is_it) => Some(guess),
            Some(places) => places.get(&ident.id).map(|place| *place as usize),
            None => self.series.iter().position(is_it),
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<&Series> {
        self.series.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Series> {
        self.series.get_mut(place)
    }

    /// Adds a series that is not there; its place is the last one.
    pub(super) fn push(&mut self, series: Series) {
        if self.series.len() == self.series.capacity() {
            // Entities are many, and have few series: a quarter more, not twice as many.
            self.series.reserve_exact(1.max(self.series.len() / 4));
        }
        if let Some(places) = &mut self.places {
            places.insert(series.ident.id, self.series.len() as u32);
        }
        self.series.push(series);
        if self.places.is_none() && self.series.len() > FEW {
            self.note_places();
        }
    }

    /// Takes out the series at a place; the last one moves there.
    pub(super) fn remove(&mut self, place: usize) -> Option<Series> {
        let taken = (place < self.series.len()).then(|| self.series.swap_remove(place))?;
        if let Some(places) = &mut self.places {
            places.remove(&taken.ident.id);
            if let Some(moved) = self.series.get(place) {
                places.insert(moved.ident.id, place as u32);
            }
        }
        Some(taken)
    }

    /// Keeps those in no row that `stays` says so of.
    pub(super) fn retain(&mut self, stays: impl FnMut(&mut Series) -> bool) {
        let before = self.series.len();
        self.series.retain_mut(stays);
        if self.series.len() < before {
            self.note_places();
        }
    }

    fn note_places(&mut self) {
        let of = |(place, series): (u32, &Series)| (series.ident.id, place);
        let many = self.series.len() > FEW;
        self.places = many.then(|| Box::new((0u32..).zip(&self.series).map(of).collect()));
    }
}
