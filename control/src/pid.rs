//! A PID term with a dead band, for an actuator that goes from 0 to 1.
//!
//! Tightening shows only when the window of the count has passed, letting go at once: so the proportional term acts above
//! the band alone, and below it the demand falls slowly, whatever the terms, until the count is in the band again.
//! The derivative acts on the measurement and is filtered; the integral rests inside the band and is unwound by
//! back-calculation while the output is at an end (Åström and Hägglund, *Advanced PID Control*, 2006, chapter 3).
//! It knows no profiles.

use crate::{Gains, Settings};
use serde::{Deserialize, Serialize};

/// Seconds in which all of the pressure is let go at most: in steps of 10 s a sixtieth each, so that the band is not passed
/// in one.
const LET_GO: f64 = 600.0;

/// The terms of one step; `demand` is their sum before it is cut to 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Distance from the band in parts of the budget, positive above it; 0 inside.
    pub error: f64,
    /// Proportional; 0 below the band.
    pub p: f64,
    /// Integral.
    pub i: f64,
    /// Derivative.
    pub d: f64,
    /// Their sum, or more where it would let go faster than it may.
    pub demand: f64,
}

/// What is remembered from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pid {
    integral: f64,
    /// What was asked for last, cut to 0..1.
    asked: f64,
    /// The last measurement, in parts of the budget.
    last: Option<f64>,
    /// Filtered slope, parts of the budget per second.
    slope: f64,
}

impl Pid {
    /// One step of `dt` seconds at `used` parts of the budget.
    pub(crate) fn step(&mut self, used: f64, dt: f64, settings: &Settings) -> Terms {
        let Gains { proportional, integral_time, derivative_time, derivative_filter, tracking_time } = settings.gains;
        // Far outside, the distance says no more than that it is far; a bound keeps every term finite.
        let used = used.min(10.0);
        let error = used - used.clamp(settings.band_low, settings.band_high);
        if dt > 0.0 {
            if let Some(last) = self.last {
                let weight = dt / (derivative_filter.as_secs_f64() + dt);
                self.slope += weight * ((used - last) / dt - self.slope);
            }
            self.last = Some(used);
        }
        let p = proportional * error.max(0.0);
        let d = proportional * derivative_time.as_secs_f64() * self.slope;
        self.integral += proportional * error * dt / integral_time.as_secs_f64();
        let free = p + self.integral + d;
        let unwind = (dt / tracking_time.as_secs_f64()).min(1.0);
        self.integral += (free.clamp(0.0, 1.0) - free) * unwind;
        let least = self.asked - dt / LET_GO;
        self.integral = self.integral.max(least - p - d).clamp(-1.0, 1.0);
        // The bounds of the integral do not reach as far as a steep fall does.
        let demand = (p + self.integral + d).max(least);
        self.asked = demand.clamp(0.0, 1.0);
        Terms { error, p, i: self.integral, d, demand }
    }

    /// Goes on from `pressure`, without a jump: another profile's measurements are no slope of this one's.
    pub(crate) fn transfer(&mut self, pressure: f64) {
        *self = Pid { integral: pressure, asked: pressure, ..Pid::default() };
    }

    /// Whether its numbers can be reckoned with.
    pub(crate) fn is_sound(&self) -> bool {
        [self.integral, self.asked, self.slope].into_iter().chain(self.last).all(|number| number.abs() <= 1e6)
    }

    /// Forgets the slope: there was a gap.
    pub(crate) fn gap(&mut self) {
        self.last = None;
        self.slope = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_integral_rests_inside_the_band() {
        let (settings, mut pid) = (Settings::default(), Pid::default());
        pid.transfer(0.4);
        for _ in 0..1000 {
            let terms = pid.step(0.9, 10.0, &settings);
            assert_eq!((terms.p, terms.i, terms.d), (0.0, 0.4, 0.0));
        }
    }

    proptest! {
        /// Whatever has been, and for however long: below the band all is let go within the time that takes at most, and
        /// far above the budget most is asked for within two cycles, though it was ten times as far above the cycle
        /// before, and all within five minutes.
        #[test]
        fn nothing_winds_up(past in proptest::collection::vec((0.0..20.0f64, 0.0..60.0f64, 1usize..60), 0..12)) {
            let (settings, mut pid) = (Settings::default(), Pid::default());
            for (used, dt, times) in past {
                for _ in 0..times {
                    pid.step(used, dt, &settings);
                }
            }
            let mut up = pid;
            let asked: Vec<f64> = (0..30).map(|_| up.step(1.5, 10.0, &settings).demand).collect();
            prop_assert!(asked.iter().skip(1).all(|demand| *demand >= 0.7), "{:?} from {:?}", asked, pid);
            prop_assert!(asked.last().is_some_and(|demand| *demand >= 1.0), "{:?} from {:?}", asked, pid);
            let mut down = pid;
            let steps = (LET_GO / 10.0) as usize + 2;
            let let_go = (1..1000).find(|_| down.step(0.5, 10.0, &settings).demand <= 0.0);
            prop_assert!(let_go.is_some_and(|took| took <= steps), "{:?} from {:?}", let_go, pid);
        }
    }
}
