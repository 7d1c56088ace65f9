//! How many different hashes were seen lately.
//!
//! The window is a ring of epochs with a sketch each; the oldest is forgotten as a whole, so what is counted was seen
//! within the last window or an epoch less. Time is an argument and may not be trusted: what comes from before is
//! counted as now.

use std::collections::VecDeque;

use crate::distinct::{Distinct, Put};

/// The distinct hashes of the last `length`, to within one epoch.
#[derive(Clone, Debug)]
pub struct Window {
    /// Length of an epoch.
    span: u64,
    epochs: u64,
    newest: Distinct,
    /// Number of the newest epoch.
    epoch: u64,
    /// Older epochs and their numbers, oldest first. They are only joined, so they are kept small.
    older: VecDeque<(u64, Put)>,
    /// The union of all, the newest too: to join them at every estimate costs more than all else here.
    all: Distinct,
    /// The last estimate, while it holds: a host that sends the same series again changes no register.
    known: Option<f64>,
}

impl Window {
    /// An empty window of `epochs` parts (at least one) in the unit of the times; `like` says of which seed and form its
    /// sketches are.
    pub fn new(length: u64, epochs: u64, like: &Distinct) -> Self {
        let epochs = epochs.max(1);
        Window {
            span: (length / epochs).max(1),
            epochs,
            newest: like.empty(),
            epoch: 0,
            older: VecDeque::new(),
            all: like.empty(),
            known: None,
        }
    }

    /// Moves on to `time`. What is older than the window is forgotten.
    pub fn advance(&mut self, time: u64) {
        let epoch = time / self.span;
        if epoch <= self.epoch {
            return;
        }
        self.older.push_back((self.epoch, self.newest.put()));
        self.epoch = epoch;
        self.known = None;
        self.older.retain(|(old, _)| old + self.epochs > epoch);
        self.all.clear();
        self.older.iter().for_each(|(_, old)| old.join(&mut self.all));
    }

    /// The epoch that began with the last [`Window::advance`], in order: a hash that was inserted in it needs no second
    /// insert until the number changes, or the window is cleared.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes in a hash, as of the last [`Window::advance`].
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        let hash = self.newest.mixed(hash);
        if self.newest.raise(hash) && self.all.raise(hash) {
            self.known = None;
        }
    }

    /// How many different hashes there are in the window.
    pub fn estimate(&mut self) -> f64 {
        if let Some(known) = self.known {
            return known;
        }
        let estimate = self.all.estimate();
        self.known = Some(estimate);
        estimate
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.newest.clear();
        self.older.clear();
        self.all.clear();
        self.known = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        for like in [Distinct::dense(3), Distinct::sparse(3)] {
            let mut window = Window::new(100, 10, &like);
            for time in 0..1_000 {
                window.advance(time);
                window.insert(time);
                window.insert(7_777_777);
                assert!(window.older.len() <= 9);
            }
            let estimate = window.estimate();
            assert!((estimate - 101.0).abs() < 3.0, "the last 100 times and what always came: {estimate}");
            window.advance(5);
            window.insert(1);
            assert!((window.estimate() - 102.0).abs() < 3.0, "a clock that goes back forgets nothing");
            window.advance(10_000);
            assert_eq!(window.estimate(), 0.0);
            window.insert(1);
            window.clear();
            assert_eq!(window.estimate(), 0.0);
        }
    }
}
