//! What the controller is told once, each default with its reason.
//!
//! Bands are parts of the budget: 1.0 is the budget itself. All of them lie further apart than twice the standard error
//! of the count they are compared with (0.81 %).

use std::time::Duration;

use crate::detect::DetectorSettings;

/// Which of two goals gives way when both cannot be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wins {
    /// The series stay below the budget, whatever it costs in attribution. The default: a budget is a promise.
    #[default]
    Budget,
    /// No profile is chosen that is known to attribute less than the floor.
    Attribution,
}

/// The gains of the PID term, whose error is in parts of the budget and whose output is a pressure from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Pressure per part of the budget. Default 2: 10 % beyond the band asks for a fifth of the pressure at once.
    pub proportional: f64,
    /// Time in which the integral adds the proportional term once more. Default 2 m: slower than a scrape interval, faster
    /// than a backend's window of active series.
    pub integral_time: Duration,
    /// How far ahead the slope is looked at. Default 30 s: about the time a loop at 10 s needs to react.
    pub derivative_time: Duration,
    /// Time constant of the filter on the slope. Default 1 m: the noise of the count stays below 1 % of the pressure.
    pub derivative_filter: Duration,
    /// Time constant of the back-calculation that unwinds the integral. Default 30 s: a saturated integral lets go in
    /// three cycles.
    pub tracking_time: Duration,
}

impl Default for Gains {
    fn default() -> Self {
        Gains {
            proportional: 2.0,
            integral_time: Duration::from_secs(120),
            derivative_time: Duration::from_secs(30),
            derivative_filter: Duration::from_secs(60),
            tracking_time: Duration::from_secs(30),
        }
    }
}

/// What the controller is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Series let out at most. Default 2,000: a host of 150 to 200 processes with nine series each stays untouched.
    pub budget: f64,
    /// See [`Gains`].
    pub gains: Gains,
    /// Where the band ends above, and what a tighter profile must fit under. Default 0.96: five standard errors below the
    /// budget.
    pub band_high: f64,
    /// Where the band ends below, and what a looser profile must stay under to be chosen. Default 0.9: with
    /// the two errors added to a shadow a twelfth of the budget below it, more than a steady load wanders.
    pub band_low: f64,
    /// Observations above the budget before a tighter profile is asked for. Default 2: one may be noise. More than a
    /// tenth above the budget needs no confirmation.
    pub confirmations: u32,
    /// Time from any switch to the next tighter profile. Default 30 s: what the last one did shows first.
    pub tighten_dwell: Duration,
    /// Time from any switch to the next looser profile, which must have fitted for five minutes of it. Default 30 m: what
    /// comes every hour is answered once an hour, and a switch back sooner was for nothing.
    pub relax_dwell: Duration,
    /// Looser profiles within [`switch_window`](Self::switch_window) at most; tighter ones are never held back by it.
    /// Default 4.
    pub max_relaxes: usize,
    /// See [`max_relaxes`](Self::max_relaxes). Default 1 h.
    pub switch_window: Duration,
    /// Changes of direction within [`switch_window`](Self::switch_window) that are called an oscillation. Default 3: up,
    /// down and up again is a load that comes and goes, once more is a loop.
    pub max_reversals: usize,
    /// For how long nothing is relaxed after an oscillation. Default 2 h.
    pub oscillation_lockout: Duration,
    /// Part of the budget beyond which neither dwell nor confirmation is waited for. Default 1.5.
    pub hard_ceiling: f64,
    /// Memory pressure, 0 to 1, from which the tightest profile is chosen. Default 0.9: the limiter refuses soon after.
    pub memory_ceiling: f64,
    /// For how long nothing is relaxed after the last sign of an emergency. Default 10 m.
    pub emergency_lockout: Duration,
    /// Age from which an observation counts as none. Default 1 m: several scrape intervals.
    pub stale_after: Duration,
    /// The most time one step may stand for; what a clock or a pause adds beyond is not believed. Default 1 m.
    pub max_step: Duration,
    /// Share of use that should stay individually attributed, 0 to 1. Default none: the budget is the only goal.
    pub attribution_floor: Option<f64>,
    /// See [`Wins`].
    pub wins: Wins,
    /// What is called an explosion of series, metric by metric and attribute by attribute.
    pub detect: DetectorSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            budget: 2000.0,
            gains: Gains::default(),
            band_high: 0.96,
            band_low: 0.9,
            confirmations: 2,
            tighten_dwell: Duration::from_secs(30),
            relax_dwell: Duration::from_secs(1800),
            max_relaxes: 4,
            switch_window: Duration::from_secs(3600),
            max_reversals: 3,
            oscillation_lockout: Duration::from_secs(7200),
            hard_ceiling: 1.5,
            memory_ceiling: 0.9,
            emergency_lockout: Duration::from_secs(600),
            stale_after: Duration::from_secs(60),
            max_step: Duration::from_secs(60),
            attribution_floor: None,
            wins: Wins::Budget,
            detect: DetectorSettings::default(),
        }
    }
}

impl Settings {
    /// Every mistake, as the setting's path and what is wrong with it.
    pub fn check(&self) -> Vec<(&'static str, &'static str)> {
        let gains = &self.gains;
        let band = |value: f64| (0.0..=1.0).contains(&value);
        let rules = [
            (self.budget.is_finite() && self.budget >= 1.0, "budget", "must be at least one series"),
            ((0.0..=100.0).contains(&gains.proportional), "gains.proportional", "must lie between 0 and 100"),
            (!gains.integral_time.is_zero(), "gains.integral_time", "must be longer than 0"),
            (!gains.derivative_filter.is_zero(), "gains.derivative_filter", "must be longer than 0"),
            (!gains.tracking_time.is_zero(), "gains.tracking_time", "must be longer than 0"),
            (band(self.band_high), "band_high", "must lie between 0 and 1"),
            (
                band(self.band_low) && self.band_low <= self.band_high - 0.02,
                "band_low",
                "must lie between 0 and band_high - 0.02: closer, the noise of the count alone would switch",
            ),
            (self.confirmations >= 1, "confirmations", "must be at least 1"),
            (self.max_relaxes >= 1, "max_relaxes", "must be at least 1"),
            (self.max_reversals >= 1, "max_reversals", "must be at least 1"),
            (self.max_relaxes <= 100, "max_relaxes", "must be at most 100"),
            (self.hard_ceiling.is_finite() && self.hard_ceiling > 1.0, "hard_ceiling", "must be more than 1"),
            (band(self.memory_ceiling) && self.memory_ceiling > 0.0, "memory_ceiling", "must lie between 0 and 1"),
            (!self.max_step.is_zero(), "max_step", "must be longer than 0"),
            (self.attribution_floor.is_none_or(band), "attribution_floor", "must lie between 0 and 1"),
        ];
        let own = rules.into_iter().filter(|(right, ..)| !right).map(|(_, path, why)| (path, why));
        own.chain(self.detect.check()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_every_mistake_is_named() {
        assert_eq!(Settings::default().check(), []);
        let wrong = Settings {
            budget: f64::NAN,
            band_low: 0.955,
            hard_ceiling: 1.0,
            attribution_floor: Some(1.5),
            ..Settings::default()
        };
        let paths: Vec<_> = wrong.check().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["budget", "band_low", "hard_ceiling", "attribution_floor"]);
    }
}
