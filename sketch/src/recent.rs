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
    /// All but the newest part, together.
    older: Distribution,
}

impl Recent {
    /// A window of this length, in the unit of the times; at least one part is one unit long.
    pub fn new(window: u64) -> Self {
        Recent { part: (window / PARTS).max(1), parts: VecDeque::new(), older: Distribution::default() }
    }

    /// Adds all of `numbers` at `time`. What came in the meantime out of the window is forgotten; a time before the
    /// window belongs to its oldest part.
    pub fn add(&mut self, time: u64, numbers: &Distribution) {
        let Recent { part, parts, older } = self;
        let now = time / *part;
        if parts.back().is_none_or(|(newest, _)| *newest < now) {
            parts.retain(|(part, _)| part + PARTS > now);
            *older = Distribution::default();
            parts.iter().for_each(|(_, part)| older.merge(part));
            parts.push_back((now, Distribution::default()));
        }
        let place = parts.iter().rposition(|(part, _)| *part <= now).unwrap_or(0);
        if place + 1 < parts.len() {
            older.merge(numbers);
        }
        if let Some((_, part)) = parts.get_mut(place) {
            part.merge(numbers);
        }
    }

    /// All numbers of the window.
    pub fn all(&self) -> Distribution {
        let mut all = self.older.clone();
        self.parts.back().into_iter().for_each(|(_, newest)| all.merge(newest));
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
