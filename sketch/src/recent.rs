//! A distribution of what came within a window of time.
//!
//! The window is cut into eight parts, of which the oldest is forgotten as a whole, so that nothing is kept of a single
//! number. Time is an argument.

use std::collections::VecDeque;

use crate::Distribution;

/// Parts of a window: the estimate moves on in steps of an eighth of it.
const PARTS: u64 = 8;

/// The numbers of the last `window`, to within one part of it.
#[derive(Clone, Debug)]
pub struct Recent {
    part: u64,
    /// Number of the part (time divided by its length) and what came in it, oldest first.
    parts: VecDeque<(u64, Distribution)>,
}

impl Recent {
    /// A window of this length, in the unit of the times; at least one part is one unit long.
    pub fn new(window: u64) -> Self {
        Recent { part: (window / PARTS).max(1), parts: VecDeque::new() }
    }

    /// Adds all of `numbers` at `time`. What came in the meantime out of the window is forgotten; a time before the
    /// window belongs to its oldest part.
    pub fn add(&mut self, time: u64, numbers: &Distribution) {
        let now = time / self.part;
        if self.parts.back().is_none_or(|(newest, _)| *newest < now) {
            self.parts.push_back((now, Distribution::default()));
        }
        while self.parts.front().is_some_and(|(oldest, _)| oldest + PARTS <= now) {
            self.parts.pop_front();
        }
        let place = self.parts.iter().rposition(|(part, _)| *part <= now).unwrap_or(0);
        if let Some((_, part)) = self.parts.get_mut(place) {
            part.merge(numbers);
        }
    }

    /// All numbers of the window.
    pub fn all(&self) -> Distribution {
        let mut all = Distribution::default();
        self.parts.iter().for_each(|(_, part)| all.merge(part));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: f64) -> Distribution {
        let mut one = Distribution::default();
        one.add(value);
        one
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut recent = Recent::new(80);
        for time in 0..200 {
            recent.add(time, &one(time as f64));
            assert!(recent.parts.len() <= 8);
        }
        let all = recent.all();
        assert_eq!(all.count(), 80);
        assert_eq!(all.quantile(0.0), Some(120.0));
        recent.add(1, &one(1.0));
        assert_eq!(recent.all().count(), 81, "a late number counts");
        recent.add(100_000, &one(1.0));
        assert_eq!(recent.all().count(), 1);
    }
}
