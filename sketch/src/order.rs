//! In which order entities come: mostly in that in which they came before, as a host's scrapes list the same processes again.
//!
//! Entities are known here by their place in somebody's table. Who came behind the last one is looked at before any search,
//! which costs three times as much; and the memory of those that come later can be fetched. Places are used again, so after
//! some thousand scrapes they lie in no order that a processor could foresee: the list of who comes behind whom is kept
//! apart from the entities, four bytes each, so that to look ahead is not itself to wait.

use std::cell::Cell;

/// How far ahead the memory is fetched that is found by the place.
const FAR: usize = 8;
/// How far ahead that is which is found in it.
const NEAR: usize = 4;

/// Who came behind whom the last time.
#[derive(Clone, Debug, Default)]
pub struct Order {
    behind: Vec<Cell<u32>>,
    last: Cell<u32>,
    near: Cell<u32>,
    far: Cell<u32>,
}

impl Order {
    /// Makes room for an entity at a place.
    pub fn admit(&mut self, at: u32) {
        let least = self.behind.len().max(at as usize + 1);
        self.behind.resize(least, Cell::new(at));
    }

    /// Gives back the memory of the places from `places` on, which are no more.
    pub fn shrink(&mut self, places: usize) {
        self.behind.truncate(places);
        self.behind.shrink_to(2 * places);
    }

    /// Who probably comes next. It is for the caller to see whether it did.
    #[inline]
    pub fn next(&self) -> u32 {
        self.behind(self.last.get())
    }

    /// Takes note of who came.
    #[inline]
    pub fn came(&self, at: u32) {
        let last = self.last.replace(at);
        if self.behind(last) == at {
            self.near.set(self.behind(self.near.get()));
            self.far.set(self.behind(self.far.get()));
        } else {
            self.came_otherwise(last, at);
        }
    }

    #[cold]
    fn came_otherwise(&self, last: u32, at: u32) {
        if let Some(behind) = self.behind.get(last as usize) {
            behind.set(at);
        }
        let later = |from: u32, by: usize| (0..by).fold(from, |at, _| self.behind(at));
        self.near.set(later(at, NEAR));
        self.far.set(later(self.near.get(), FAR - NEAR));
    }

    /// Who probably comes eight later: time enough to fetch what lies at its place.
    #[inline]
    pub fn far(&self) -> u32 {
        self.far.get()
    }

    /// Who probably comes four later: what lies at its place is there now, and what that leads to can be fetched.
    #[inline]
    pub fn near(&self) -> u32 {
        self.near.get()
    }

    #[inline]
    fn behind(&self, at: u32) -> u32 {
        self.behind.get(at as usize).map_or(0, Cell::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(of: u32) -> Order {
        let mut order = Order::default();
        (0..of).for_each(|at| order.admit(at));
        order
    }

    fn later(order: &Order) -> [u32; 3] {
        [order.next(), order.near(), order.far()]
    }

    #[test]
    fn who_came_behind_one_is_foreseen_and_so_are_those_that_follow() {
        let order = order(20);
        let scrape: Vec<u32> = (0..20).map(|at| at * 7 % 20).collect();
        scrape.iter().chain(&scrape).for_each(|at| order.came(*at));
        for (place, at) in scrape.iter().enumerate() {
            assert_eq!(order.next(), *at);
            order.came(*at);
            assert_eq!(later(&order), [1, NEAR, FAR].map(|by| scrape[(place + by) % 20]), "behind {at}");
        }
    }

    #[test]
    fn one_that_ended_and_a_newcomer_are_noted_where_they_were() {
        let mut order = order(20);
        (0..20).chain(0..5).for_each(|at| order.came(at));
        // Instead of 5 comes 20.
        order.admit(20);
        order.came(20);
        order.came(6);
        order.came(7);
        assert_eq!(later(&order), [8, 11, 15]);
        (8..20).chain(0..5).for_each(|at| order.came(at));
        assert_eq!(order.next(), 20);
        order.shrink(0);
        order.came(3);
        assert_eq!(later(&order), [0; 3], "of places that are no more it knows nothing");
    }
}
