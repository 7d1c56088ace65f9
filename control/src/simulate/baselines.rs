//! What the controller is held against: two switches as they are commonly built, with a band and two dwells. They read
//! the same count of the profile at work, and know nothing of the others.
//!
//! Their numbers were chosen by a search on the training seeds ([`Switch::all`], `benches/src/bin/tune.rs`): the fewest
//! breaches and reversals of those that keep at least as much attribution as the controller.

use std::time::Duration;

use super::Decider;
use crate::Observation;

/// One profile tighter above a threshold, one looser below another, each no sooner than a dwell after the last switch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Switch {
    name: &'static str,
    /// Series.
    budget: f64,
    /// How much a new count weighs in the moving average that is compared; 1 for none.
    pub weight: f64,
    /// Part of the budget above which it tightens.
    pub high: f64,
    /// Part of the budget below which it relaxes.
    pub low: f64,
    /// Seconds from any switch to the next tighter profile.
    pub tighten_dwell: f64,
    /// Seconds from any switch to the next looser profile.
    pub relax_dwell: f64,
    /// The pressure at all times: what a config without a controller says.
    pub pressure: f64,
    average: Option<f64>,
    switched: Option<f64>,
}

impl Switch {
    /// Two thresholds on the count itself.
    pub fn thresholds(budget: f64) -> Self {
        Switch {
            name: "thresholds",
            budget,
            weight: 1.0,
            high: 1.0,
            low: 0.7,
            tighten_dwell: 60.0,
            relax_dwell: 1800.0,
            pressure: 0.5,
            average: None,
            switched: None,
        }
    }

    /// Two thresholds on a moving average.
    pub fn ewma(budget: f64) -> Self {
        Switch { name: "ewma", weight: 0.3, relax_dwell: 3600.0, ..Switch::thresholds(budget) }
    }

    /// Every switch of the search, of one kind.
    pub fn all(self) -> impl Iterator<Item = Self> {
        let weights: &[f64] = if self.weight < 1.0 { &[0.1, 0.3] } else { &[1.0] };
        let with = move |weight, high, low, [tighten_dwell, relax_dwell]: [f64; 2]| Switch {
            weight,
            high,
            low,
            tighten_dwell,
            relax_dwell,
            ..self
        };
        let pressed = |switch: Switch| [0.5, 1.0].map(|pressure| Switch { pressure, ..switch });
        let dwells = [0.0, 60.0].into_iter().flat_map(|up| [300.0, 900.0, 1800.0, 3600.0].map(|down| [up, down]));
        let lows = [0.5, 0.6, 0.7, 0.8].into_iter().flat_map(move |low| dwells.clone().map(move |dwell| (low, dwell)));
        let bands =
            [0.95, 1.0].into_iter().flat_map(move |high| lows.clone().map(move |(low, dwell)| (high, low, dwell)));
        let weights = weights.iter().copied();
        weights
            .flat_map(move |weight| bands.clone().map(move |(high, low, dwell)| with(weight, high, low, dwell)))
            .flat_map(pressed)
    }
}

impl Decider for Switch {
    fn name(&self) -> &'static str {
        self.name
    }

    fn decide(&mut self, now: Duration, seen: &Observation) -> (usize, f64) {
        let Some(used) = seen.steered().map(|series| series / self.budget) else { return (seen.active, self.pressure) };
        let average = self.average.map_or(used, |average| average + self.weight * (used - average));
        self.average = Some(average);
        let now = now.as_secs_f64();
        let rested = |dwell: f64| self.switched.is_none_or(|at| now - at >= dwell);
        let next = match seen.active {
            active if average > self.high && rested(self.tighten_dwell) => {
                (active + 1).min(seen.profiles.len().saturating_sub(1))
            }
            active if average < self.low && rested(self.relax_dwell) => active.saturating_sub(1),
            active => active,
        };
        if next != seen.active {
            // The average of one profile is none of another.
            (self.switched, self.average) = (Some(now), None);
        }
        (next, self.pressure)
    }
}
