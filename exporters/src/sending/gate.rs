//! Where requests wait until the [`Pace`] of their destination lets them go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tokio::sync::{Mutex as Turnstile, Notify};
use tokio::time::{Instant, timeout_at};

use super::pace::{Answer, Outcome, Pace};

/// All requests of one exporter pass here.
pub(super) struct Gate {
    pace: Mutex<Pace>,
    /// First come, first served: without it a worker that has just sent one would take its own place again, ahead of all that
    /// wait.
    first: Turnstile<()>,
    changed: Notify,
    back: Notify,
    limit: Gauge,
}

impl Gate {
    /// A gate for at most `max` requests at a time; `limit` shows how many may pass now.
    pub fn new(max: usize, limit: Gauge) -> Self {
        let pace = Pace::new(max);
        limit.set(pace.limit() as f64);
        Gate { pace: Mutex::new(pace), first: Turnstile::default(), changed: Notify::new(), back: Notify::new(), limit }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, in the order of asking.
    pub async fn enter(&self) -> Pass<'_> {
        let _first = self.first.lock().await;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let answer = self.pace().ask(Instant::now());
            match answer {
                Answer::Go(turn) => return Pass { gate: self, turn, ended: false },
                Answer::At(until) => drop(timeout_at(until, changed).await),
                Answer::Later => changed.await,
            }
        }
    }

    /// Resolves when a destination that was given up on for a while answers again: waits for the sake of its rest are over.
    pub async fn back(&self) {
        self.back.notified().await;
    }

    /// The agent ends.
    pub fn hurry(&self) {
        self.pace().hurry();
        self.changed.notify_waiters();
    }

    fn end(&self, turn: u64, outcome: Outcome) {
        let mut pace = self.pace();
        let was_open = pace.is_open();
        pace.end(turn, outcome, Instant::now());
        let is_back = was_open && !pace.is_open();
        self.limit.set(pace.limit() as f64);
        drop(pace);
        self.changed.notify_waiters();
        if is_back {
            self.back.notify_waiters();
        }
    }
}

/// A place among the requests on their way.
pub(super) struct Pass<'g> {
    gate: &'g Gate,
    turn: u64,
    ended: bool,
}

impl Pass<'_> {
    /// Says what became of the request.
    pub fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.gate.end(self.turn, outcome);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.gate.end(self.turn, Outcome::Abandoned);
        }
    }
}
