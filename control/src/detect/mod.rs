//! Finds explosions of cardinality: one key (a metric, an attribute) that makes new series faster than it should.
//!
//! Three signs, each for what the others miss: a fast jump, a slow leak, and an absolute ceiling. A deploy renews each
//! series once and ends; an explosion goes on. So neither jump nor leak is called before more new series came than a
//! deploy could explain, or before it has lasted longer than one. Pure: rates and times in, findings out.

mod culprit;
mod forecast;
mod risk;

pub use culprit::{Culprit, culprits};
pub use forecast::{Forecast, forecast};
pub use risk::{Risk, risk};

use std::collections::VecDeque;

/// What is looked for, each default with its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorSettings {
    /// Intervals of the past that say what is usual. Default 60: ten minutes at 10 s.
    pub history: usize,
    /// Intervals before anything but the ceiling is called. Default 30: five minutes; a median of fewer misleads.
    pub warm_up: usize,
    /// Robust z of the log rate that is a jump. Default 6: under normal noise once in a billion intervals.
    pub jump: f64,
    /// CUSUM of robust z, less a slack of one, that is a leak. Default 30: a rate three deviations high shows within
    /// 15 intervals, one within the slack never (Page 1954).
    pub leak: f64,
    /// New series, in parts of the key's series before the rise, that a deploy explains. Default 1.5: each renewed once,
    /// and half of them crash and come again.
    pub deploy: f64,
    /// Seconds for which a rise may be a deploy. Default 900: a rolling one of a host's services ends in less.
    pub deploy_time: f64,
    /// Fewer new series than this since the rise began are no finding. Default 50: not worth an alarm in 2,000.
    pub least: f64,
    /// Series of one key that are too many at any rate. Default 10,000: what one metric of a host never has.
    pub ceiling: f64,
}

impl Default for DetectorSettings {
    fn default() -> Self {
        DetectorSettings {
            history: 60,
            warm_up: 30,
            jump: 6.0,
            leak: 30.0,
            deploy: 1.5,
            deploy_time: 900.0,
            least: 50.0,
            ceiling: 10_000.0,
        }
    }
}

/// Which sign was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The rate jumped.
    Jump,
    /// A rate a little too high went on.
    Leak,
    /// More series than the ceiling.
    Ceiling,
}

/// A sign, and by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// Which sign.
    pub kind: Kind,
    /// Robust z of the newest log rate.
    pub z: f64,
    /// New series beyond the usual since the rise began.
    pub excess: f64,
    /// Seconds since it began.
    pub lasted: f64,
}

/// Watches one key.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: DetectorSettings,
    /// Logs of usual rates, oldest first; what belongs to a rise is not usual.
    history: VecDeque<f64>,
    sum: f64,
    excess: f64,
    lasted: f64,
    before: f64,
}

/// Deviations of a log rate below this are taken as this, so that a perfectly even past does not make all noise a jump.
const LEAST_DEVIATION: f64 = 0.25;

impl Detector {
    /// One that has seen nothing.
    pub fn new(settings: DetectorSettings) -> Self {
        Detector { settings, history: VecDeque::new(), sum: 0.0, excess: 0.0, lasted: 0.0, before: 0.0 }
    }

    /// One interval: `new` series came in `seconds`, `series` are there. What is no number is passed over.
    pub fn step(&mut self, new: f64, series: f64, seconds: f64) -> Option<Finding> {
        if !(new.is_finite() && new >= 0.0 && series.is_finite() && series >= 0.0 && seconds > 0.0 && seconds < 3600.0)
        {
            return None;
        }
        let settings = self.settings;
        let rate = (1.0 + new / seconds * 60.0).ln();
        let usual = (self.history.len() >= settings.warm_up).then(|| median_and_deviation(&self.history));
        let z = usual.map_or(0.0, |(median, deviation)| (rate - median) / deviation);
        self.sum = (self.sum + z - 1.0).clamp(0.0, 1.5 * settings.leak);
        if self.sum > 0.0 {
            if self.lasted == 0.0 {
                self.before = (series - new).max(0.0);
            }
            let expected = usual.map_or(0.0, |(median, _)| median.exp_m1() * seconds / 60.0);
            self.excess = (self.excess + new - expected).max(0.0);
            self.lasted += seconds;
        } else {
            (self.excess, self.lasted) = (0.0, 0.0);
        }
        // A rise does not become the usual while it is one; a step of what is usual does after an hour.
        if self.sum < settings.leak / 3.0 || self.lasted > 3600.0 {
            self.history.push_back(rate);
            if self.history.len() > settings.history.max(1) {
                self.history.pop_front();
            }
        }
        let finding = |kind| Some(Finding { kind, z, excess: self.excess, lasted: self.lasted });
        if series > settings.ceiling {
            return finding(Kind::Ceiling);
        }
        let no_deploy = self.excess > settings.deploy * self.before || self.lasted > settings.deploy_time;
        if self.excess < settings.least || !no_deploy {
            return None;
        }
        if z >= settings.jump {
            finding(Kind::Jump)
        } else if self.sum >= settings.leak {
            finding(Kind::Leak)
        } else {
            None
        }
    }
}

/// Median, and median absolute deviation scaled to a normal's deviation (Rousseeuw and Croux, 1993).
fn median_and_deviation(values: &VecDeque<f64>) -> (f64, f64) {
    let mut sorted: Vec<f64> = values.iter().copied().collect();
    let middle = median(&mut sorted);
    sorted.iter_mut().for_each(|value| *value = (*value - middle).abs());
    (middle, (1.4826 * median(&mut sorted)).max(LEAST_DEVIATION))
}

/// The middle one; of an even number the upper middle one; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
