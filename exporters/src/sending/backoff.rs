//! When to try again: exponential backoff with jitter and a budget. A pure function of times and a random number.

use std::time::Duration;

use super::{Retry, RetrySettings};

/// The backoff of one request, from its first failure on.
#[derive(Clone, Debug)]
pub struct Backoff<'s> {
    settings: &'s RetrySettings,
    budget: Duration,
    interval: Duration,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait this long, then try again.
    Wait(Duration),
    /// Stop: retrying is off, cannot help, or the next attempt would start after the budget is spent.
    GiveUp,
}

impl<'s> Backoff<'s> {
    /// A backoff that has not waited yet, with a `budget` for all attempts together (zero = no end).
    pub fn new(settings: &'s RetrySettings, budget: Duration) -> Self {
        Backoff { settings, budget, interval: settings.initial_interval }
    }

    /// The verdict on an attempt that failed `elapsed` after the request was first tried. `random` is uniform in 0..1.
    ///
    /// The wait is `interval * (1 ± randomization_factor)`; the interval then grows by `multiplier` up to
    /// `max_interval`. A longer wait asked for by the peer takes its place. A wait that would end after the budget is not
    /// begun.
    pub fn after(&mut self, retry: Retry, elapsed: Duration, random: f64) -> Verdict {
        let asked = match retry {
            Retry::Never | Retry::Smaller => return Verdict::GiveUp,
            Retry::Backoff => Duration::ZERO,
            Retry::After(wait) => wait,
        };
        if !self.settings.enabled {
            return Verdict::GiveUp;
        }
        let spread = self.settings.randomization_factor;
        let own = times(self.interval, 1.0 - spread + 2.0 * spread * random);
        self.interval = times(self.interval, self.settings.multiplier).min(self.settings.max_interval);
        let wait = own.max(asked);
        if !self.budget.is_zero() && elapsed.saturating_add(wait) > self.budget {
            return Verdict::GiveUp;
        }
        Verdict::Wait(wait)
    }
}

/// `duration * factor`, saturating: settings may hold any numbers.
fn times(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIDDLE: f64 = 0.5;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waits_grow_by_the_multiplier_up_to_the_maximum() {
        let settings = RetrySettings::default();
        let mut backoff = Backoff::new(&settings, secs(300));
        let waits: Vec<_> = (0..7).map(|_| backoff.after(Retry::Backoff, Duration::ZERO, MIDDLE)).collect();
        let expected = [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0];
        assert_eq!(waits, expected.map(|seconds| Verdict::Wait(Duration::from_secs_f64(seconds))));
    }

    #[test]
    fn a_peer_that_asks_for_more_time_gets_it_and_one_that_asks_for_less_waits_the_backoff() {
        let settings = RetrySettings::default();
        let mut backoff = Backoff::new(&settings, secs(300));
        assert_eq!(backoff.after(Retry::After(secs(60)), Duration::ZERO, MIDDLE), Verdict::Wait(secs(60)));
        assert_eq!(
            backoff.after(Retry::After(secs(1)), Duration::ZERO, MIDDLE),
            Verdict::Wait(Duration::from_millis(7500))
        );
    }

    #[test]
    fn the_budget_ends_it_and_zero_is_no_budget() {
        let settings = RetrySettings::default();
        assert_eq!(Backoff::new(&settings, secs(300)).after(Retry::Backoff, secs(295), MIDDLE), Verdict::Wait(secs(5)));
        assert_eq!(Backoff::new(&settings, secs(300)).after(Retry::Backoff, secs(296), MIDDLE), Verdict::GiveUp);
        assert_eq!(
            Backoff::new(&settings, secs(300)).after(Retry::After(secs(301)), Duration::ZERO, MIDDLE),
            Verdict::GiveUp
        );
        assert_eq!(
            Backoff::new(&settings, Duration::ZERO).after(Retry::Backoff, secs(1_000_000), MIDDLE),
            Verdict::Wait(secs(5))
        );
    }

    #[test]
    fn what_cannot_help_is_not_repeated() {
        let mut settings = RetrySettings::default();
        assert_eq!(Backoff::new(&settings, secs(300)).after(Retry::Never, Duration::ZERO, MIDDLE), Verdict::GiveUp);
        settings.enabled = false;
        assert_eq!(Backoff::new(&settings, secs(300)).after(Retry::Backoff, Duration::ZERO, MIDDLE), Verdict::GiveUp);
    }

    proptest! {
        #[test]
        fn every_wait_stays_within_the_jitter_around_the_interval(random in 0.0..1.0f64, attempts in 1..20usize) {
            let settings = RetrySettings::default();
            let mut backoff = Backoff::new(&settings, Duration::ZERO);
            for _ in 0..attempts {
                let interval = backoff.interval.as_secs_f64();
                let Verdict::Wait(wait) = backoff.after(Retry::Backoff, Duration::ZERO, random) else { panic!("no budget") };
                prop_assert!(wait.as_secs_f64() >= interval * 0.5 - 1e-6 && wait.as_secs_f64() <= interval * 1.5 + 1e-6);
            }
        }

        #[test]
        fn no_settings_make_it_panic(initial: u64, factor: f64, multiplier: f64, random in 0.0..1.0f64) {
            let settings = RetrySettings {
                initial_interval: Duration::from_secs(initial), randomization_factor: factor, multiplier, ..RetrySettings::default()
            };
            let mut backoff = Backoff::new(&settings, secs(300));
            for _ in 0..3 { backoff.after(Retry::Backoff, Duration::MAX, random); }
        }
    }
}
