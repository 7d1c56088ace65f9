//! Finds explosions of cardinality: one key (a metric, an attribute) that makes new series faster than it should.
//!
//! Three signs, each for what the others miss: a fast jump, a slow leak, and an absolute ceiling. A deploy renews each
//! series once and ends; an explosion goes on. So neither jump nor leak is called before more new series came than a
//! deploy could explain, or before it has lasted longer than one. Pure: rates and times in, findings out.

mod bursts;
mod culprit;
mod forecast;
mod risk;

pub use culprit::{Culprit, Maker, culprits};
pub use forecast::{Forecast, forecast};
pub use risk::{Risk, outlook, risk};

use bursts::Bursts;
use std::collections::VecDeque;
use std::time::Duration;

/// What is looked for, each default with its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorSettings {
    /// Intervals of the past that say what is usual. Default 60: ten minutes at 10 s.
    pub history: usize,
    /// Intervals before anything but the ceiling is called. Default 30: five minutes; a median of fewer misleads.
    pub warm_up: usize,
    /// Robust z, of the log rate and of the count both, that is a jump. Default 6: under normal noise once in a billion
    /// intervals. Few new series have large logs, and many a large z of the count: one alone misleads.
    pub jump: f64,
    /// CUSUM of the count's robust z, less a slack of three quarters, that is a leak (Page 1954). Default 12: a rate two
    /// deviations high shows within ten intervals; of an even one, about one interval in e^18 is called.
    pub leak: f64,
    /// New series, in parts of the key's series before the rise, that a deploy explains. Default 1.5: each renewed once,
    /// and half of them crash and come again.
    pub deploy: f64,
    /// For how long a rise may be a deploy. Default 20 m: a rolling one of a host's services ends in less.
    pub deploy_time: Duration,
    /// Fewer new series than this since the rise began are no finding. Default 50: not worth an alarm in 2,000.
    pub least: f64,
    /// Rate of the last minute, in parts of what its own bursts reach: no less is a jump or a leak. Default 1.75: what comes
    /// by the clock or with people comes at that rate again.
    pub burst: f64,
    /// Series of one key that are too many at any rate. Default 10,000: what one metric of a host never has.
    pub ceiling: f64,
}

impl Default for DetectorSettings {
    fn default() -> Self {
        DetectorSettings {
            history: 60,
            warm_up: 30,
            jump: 6.0,
            leak: 12.0,
            deploy: 1.5,
            deploy_time: Duration::from_secs(1200),
            least: 50.0,
            burst: 1.75,
            ceiling: 10_000.0,
        }
    }
}

impl DetectorSettings {
    /// Every mistake, as the setting's path and what is wrong with it.
    pub(crate) fn check(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        let rules = [
            ((5..=1000).contains(&self.history), "detect.history", "must lie between 5 and 1000"),
            (
                (2..=self.history).contains(&self.warm_up),
                "detect.warm_up",
                "must lie between 2 and history: no more is remembered",
            ),
            (amount(self.jump) && self.jump >= 1.0, "detect.jump", "must be at least 1"),
            (amount(self.leak) && self.leak >= 1.0, "detect.leak", "must be at least 1"),
            (amount(self.deploy), "detect.deploy", "must be a number from 0"),
            (amount(self.least) && self.least >= 1.0, "detect.least", "must be at least 1"),
            (amount(self.burst), "detect.burst", "must be a number from 0"),
            (amount(self.ceiling) && self.ceiling >= 1.0, "detect.ceiling", "must be at least 1"),
        ];
        rules.into_iter().filter(|(right, ..)| !right).map(|(_, path, why)| (path, why))
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
    /// Robust z of the newest count.
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
    /// Usual rates, series a second, oldest first; what belongs to a rise is not usual.
    history: VecDeque<f64>,
    sum: f64,
    excess: f64,
    lasted: f64,
    before: f64,
    bursts: Bursts,
}

/// Part of the CUSUM that each interval takes away, in deviations.
const SLACK: f64 = 0.75;
/// One interval adds this much at most: a single wild one is no leak.
const MOST: f64 = 4.0;
/// Deviations of a log rate below this are taken as this, so that a perfectly even past does not make all noise a jump.
const LEAST_DEVIATION: f64 = 0.25;

impl Detector {
    /// One that has seen nothing.
    pub fn new(settings: DetectorSettings) -> Self {
        Detector {
            settings,
            history: VecDeque::new(),
            sum: 0.0,
            excess: 0.0,
            lasted: 0.0,
            before: 0.0,
            bursts: Bursts::default(),
        }
    }

    /// One interval: `new` series came in `seconds`, `series` are there. What is no number is passed over.
    pub fn step(&mut self, new: f64, series: f64, seconds: f64) -> Option<Finding> {
        if !(new.is_finite() && new >= 0.0 && series.is_finite() && series >= 0.0 && seconds > 0.0 && seconds < 3600.0)
        {
            return None;
        }
        let settings = self.settings;
        let rate = new / seconds;
        let (mut expected, mut z) = (0.0, 0.0);
        if self.history.len() >= settings.warm_up {
            let (median, deviation) = median_and_deviation(self.history.iter().copied());
            expected = median * seconds;
            // Counts scatter at least as those of independent births (Poisson).
            z = (new - expected) / (deviation * seconds).max((1.0 + expected).sqrt());
        }
        // Held at what is called, so that it falls as soon as the rise ends.
        self.sum = (self.sum + z.min(MOST) - SLACK).clamp(0.0, settings.leak);
        if self.sum > 0.0 {
            if self.lasted == 0.0 {
                self.before = (series - new).max(0.0);
            }
            self.excess = (self.excess + new - expected).max(0.0);
            self.lasted += seconds;
        } else {
            (self.excess, self.lasted) = (0.0, 0.0);
        }
        // A rise does not become the usual while it is one; a step of what is usual does after an hour.
        let rises = self.sum >= settings.leak / 3.0 && self.lasted <= 3600.0;
        if self.history.len() >= settings.warm_up {
            // Before that all is new, and nothing is called.
            self.bursts.passes(new, seconds, rises);
        }
        if !rises {
            self.history.push_back(rate);
            if self.history.len() > settings.history.max(1) {
                self.history.pop_front();
            }
        }
        let finding = |kind| Some(Finding { kind, z, excess: self.excess, lasted: self.lasted });
        if series > settings.ceiling {
            return finding(Kind::Ceiling);
        }
        let no_deploy = self.excess > settings.deploy * self.before || self.lasted > settings.deploy_time.as_secs_f64();
        let jump = z >= settings.jump && self.log_z(rate) >= settings.jump;
        if self.excess >= settings.least && no_deploy && (jump || self.sum >= settings.leak) {
            let limit = settings.burst * self.bursts.usual();
            if self.bursts.now() > limit {
                self.bursts.called(limit);
                return finding(if jump { Kind::Jump } else { Kind::Leak });
            }
        }
        None
    }

    /// Robust z of the log of a rate.
    fn log_z(&self, rate: f64) -> f64 {
        let log = |rate: f64| (60.0 * rate).ln_1p();
        let (median, deviation) = median_and_deviation(self.history.iter().copied().map(log));
        (log(rate) - median) / deviation.max(LEAST_DEVIATION)
    }
}

/// Median, and median absolute deviation scaled to a normal's deviation (Rousseeuw and Croux, 1993).
fn median_and_deviation(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    let middle = median(&mut values);
    values.iter_mut().for_each(|value| *value = (*value - middle).abs());
    (middle, 1.4826 * median(&mut values))
}

/// The middle one; of an even number the upper middle one; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod quiet;
#[cfg(test)]
mod tests;
