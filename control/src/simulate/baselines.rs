//! What the controller is held against: two switches as they are commonly built. They read the same counts.

use std::time::Duration;

use super::Decider;
use crate::Observation;

/// One profile tighter above the budget, one looser below 80 % of it.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Series.
    pub budget: f64,
}

/// The same on a moving average (weight 0.3), tighter above 97 % and looser below 70 % of the budget.
#[derive(Clone, Copy, Debug)]
pub struct Ewma {
    /// Series.
    pub budget: f64,
    average: Option<f64>,
}

impl Ewma {
    /// One that has seen nothing.
    pub fn new(budget: f64) -> Self {
        Ewma { budget, average: None }
    }
}

fn switched(seen: &Observation, used: f64, low: f64, high: f64) -> usize {
    match seen.active {
        active if used > high => (active + 1).min(seen.profiles.len().saturating_sub(1)),
        active if used < low => active.saturating_sub(1),
        active => active,
    }
}

impl Decider for Thresholds {
    fn name(&self) -> &'static str {
        "thresholds"
    }

    fn decide(&mut self, _: Duration, seen: &Observation) -> (usize, f64) {
        let used = seen.steered().map(|series| series / self.budget);
        (used.map_or(seen.active, |used| switched(seen, used, 0.8, 1.0)), 0.0)
    }
}

impl Decider for Ewma {
    fn name(&self) -> &'static str {
        "ewma"
    }

    fn decide(&mut self, _: Duration, seen: &Observation) -> (usize, f64) {
        let Some(used) = seen.steered().map(|series| series / self.budget) else { return (seen.active, 0.0) };
        let average = self.average.map_or(used, |average| average + 0.3 * (used - average));
        self.average = Some(average);
        (switched(seen, average, 0.7, 0.97), 0.0)
    }
}
