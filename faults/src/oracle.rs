//! Knows every point: which were issued, which the agent acknowledged, and what the backend made of each.
//!
//! It never asks the agent. A point is its number: the value is the number, the time is a hash of it, so a point that was
//! altered on its way is seen.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The agent said OK.
const ACKNOWLEDGED: u8 = 0x80;
/// The backend refused it for good.
const REFUSED: u8 = 0x40;
/// How often the backend took it, up to this many times.
const TAKEN: u8 = 0x3f;

/// The books. One oracle sees one world.
#[derive(Default)]
pub struct Oracle(Mutex<Books>);

#[derive(Default)]
struct Books {
    points: Vec<u8>,
    altered: u64,
}

/// The state of the books at a moment, in points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The agent said OK.
    pub acknowledged: u64,
    /// The backend took them, once or more.
    pub delivered: u64,
    /// Acknowledged, and neither taken nor refused for good.
    pub missing: u64,
    /// Acknowledged, and refused for good by the backend.
    pub refused: u64,
    /// Taken once more than needed, each time counted.
    pub duplicates: u64,
    /// Arrived with another time than they were sent with, or were never sent.
    pub altered: u64,
}

/// The time of a point, in nanoseconds since 1970: within two weeks of November 2023.
pub fn time(number: u64) -> u64 {
    1_700_000_000_000_000_000 + (number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 14)
}

impl Oracle {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers for the next points.
    pub fn issue(&self, points: usize) -> Range<u64> {
        let mut books = self.books();
        let first = books.points.len();
        books.points.resize(first + points, 0);
        first as u64..(first + points) as u64
    }

    /// The agent said OK to these.
    pub fn acknowledged(&self, numbers: Range<u64>) {
        let mut books = self.books();
        for point in &mut books.points[numbers.start as usize..numbers.end as usize] {
            *point |= ACKNOWLEDGED;
        }
    }

    /// The backend took these points, given by number and time.
    pub fn taken(&self, points: impl IntoIterator<Item = (u64, u64)>) {
        self.enter(points, |point| {
            if *point & TAKEN < TAKEN {
                *point += 1;
            }
        });
    }

    /// The backend refused these for good.
    pub fn refused(&self, points: impl IntoIterator<Item = (u64, u64)>) {
        self.enter(points, |point| *point |= REFUSED);
    }

    fn enter(&self, points: impl IntoIterator<Item = (u64, u64)>, enter: impl Fn(&mut u8)) {
        let mut books = self.books();
        for (number, stamp) in points {
            match books.points.get_mut(number as usize) {
                Some(point) if stamp == time(number) => enter(point),
                _ => books.altered += 1,
            }
        }
    }

    /// What has become of all points so far.
    pub fn verdict(&self) -> Verdict {
        let books = self.books();
        let mut verdict = Verdict { altered: books.altered, ..Verdict::default() };
        for point in &books.points {
            let (acknowledged, taken) = (point & ACKNOWLEDGED != 0, u64::from(point & TAKEN));
            verdict.acknowledged += u64::from(acknowledged);
            verdict.delivered += u64::from(taken > 0);
            verdict.duplicates += taken.saturating_sub(1);
            let gone = acknowledged && taken == 0;
            verdict.refused += u64::from(gone && point & REFUSED != 0);
            verdict.missing += u64::from(gone && point & REFUSED == 0);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(numbers: Range<u64>) -> Vec<(u64, u64)> {
        numbers.map(|number| (number, time(number))).collect()
    }

    #[test]
    fn every_acknowledged_point_is_taken_refused_or_missing() {
        let oracle = Oracle::default();
        let numbers = oracle.issue(10);
        assert_eq!(numbers, 0..10);
        oracle.acknowledged(0..8);
        oracle.taken(points(0..4));
        oracle.taken(points(3..5));
        oracle.refused(points(5..6));
        // Taken without an acknowledgement is no fault: the answer may have been lost.
        oracle.taken(points(9..10));
        let expected = Verdict { acknowledged: 8, delivered: 6, missing: 2, refused: 1, duplicates: 1, altered: 0 };
        assert_eq!(oracle.verdict(), expected);
        oracle.taken([(6, time(7)), (10, time(10))]);
        assert_eq!(oracle.verdict(), Verdict { altered: 2, ..expected });
    }
}
