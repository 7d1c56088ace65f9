//! Time as a value that is handed in, so that everything which decides can be replayed.
//!
//! A clock has two faces: a monotonic one for waiting and for rates, and the wall clock for the times of points. It
//! never moves by itself in a test: see [`Clock::manual`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where components read the time. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Manual>>);

#[derive(Debug)]
struct Manual {
    origin: Instant,
    start_unix_nanos: u64,
    elapsed: Mutex<Duration>,
}

impl Manual {
    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Clock(None)
    }

    /// A clock that stands at `start_unix_nanos` (wall time) until [`Clock::advance`] moves it.
    pub fn manual(start_unix_nanos: u64) -> Self {
        Clock(Some(Arc::new(Manual { origin: Instant::now(), start_unix_nanos, elapsed: Mutex::new(Duration::ZERO) })))
    }

    /// Moves a manual clock on; the machine's clock cannot be moved and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            *manual.elapsed.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }

    /// Monotonic time: for deadlines, intervals and rates.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => manual.origin + manual.elapsed(),
        }
    }

    /// Wall-clock time in nanoseconds since the Unix epoch (0 for a clock set before it).
    pub fn unix_nanos(&self) -> u64 {
        match &self.0 {
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos),
            Some(manual) => manual.start_unix_nanos.saturating_add(nanos(manual.elapsed())),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_clones_move_together() {
        let clock = Clock::manual(5_000_000_000);
        let twin = clock.clone();
        let before = twin.now();
        assert_eq!(twin.unix_nanos(), 5_000_000_000);
        clock.advance(Duration::from_secs(2));
        assert_eq!(twin.unix_nanos(), 7_000_000_000);
        assert_eq!(twin.now() - before, Duration::from_secs(2));
    }
}
