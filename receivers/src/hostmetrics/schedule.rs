//! When to scrape: a fixed grid on the monotonic clock. No drift, because each time is computed from the first; no burst after
//! a stall, because times that have passed are skipped.

use std::time::{Duration, Instant};

/// The grid of one receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    next: Instant,
    interval: Duration,
}

impl Schedule {
    /// First at `first`, then every `interval` (more than 0).
    pub(super) fn new(first: Instant, interval: Duration) -> Self {
        Self { next: first, interval }
    }

    /// When the next scrape is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Moves on after a scrape; `now` is when it ended. Returns how many times were missed.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        let late = now.saturating_duration_since(self.next).as_nanos();
        let missed = late.checked_div(self.interval.as_nanos()).unwrap_or_default();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX - 1);
        self.next += self.interval * (missed + 1);
        u64::from(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_next_time_is_on_the_grid_and_in_the_future(interval in 1u64..10_000, stalls in prop::collection::vec(0u64..100_000, 1..50)) {
            let start = Instant::now();
            let interval = Duration::from_millis(interval);
            let mut schedule = Schedule::new(start, interval);
            let mut now = start;
            for stall in stalls {
                now = now.max(schedule.next()) + Duration::from_millis(stall);
                schedule.advance(now);
                prop_assert!(schedule.next() > now);
                prop_assert!(schedule.next() <= now + interval);
                prop_assert_eq!((schedule.next() - start).as_nanos() % interval.as_nanos(), 0);
            }
        }
    }
}
