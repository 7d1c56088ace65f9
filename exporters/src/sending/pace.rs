//! How many requests may be on their way to a destination at a time, and whether any may: one decision for all requests.
//!
//! Three things hold requests back. A *throttle*: the peer asked for time, and that holds for everything sent to it, not
//! only for the request it said it to. A *circuit*: after [`TRIP`] failures in a row nothing is sent for a while that grows
//! as the backoff does; then one request probes, and its success lets the others go. A *limit* found by itself under the
//! configured maximum, by additive increase and multiplicative decrease (Chiu and Jain, 1989): a success adds a part of
//! one, signs of overload halve it, at most once for what was on its way together.
//!
//! A pure state machine: time is an argument, nothing waits here.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the circuit. Five: a restart behind a load balancer rarely costs more in a row.
const TRIP: u32 = 5;

/// What became of a request that was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The peer answered: it is there, whatever it said about the data.
    Answered,
    /// No answer, or one that says that it cannot now. The circuit, if it opens, stays open for the time given.
    Failed(Duration),
    /// As failed, and the peer asked for this long a rest.
    Throttled(Duration),
    /// It was abandoned; nothing was learned.
    Abandoned,
}

/// Whether a request may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may, and its outcome must be told. The number is the turn it belongs to.
    Go(u64),
    /// It may not before this, or before another has ended.
    At(Instant),
    /// It may not before another has ended.
    Later,
}

#[derive(Debug)]
pub(super) struct Pace {
    max: f64,
    limit: f64,
    busy: usize,
    /// Counts decreases: what was let go before the last one does not decrease again.
    turn: u64,
    failures: u32,
    open_until: Option<Instant>,
    probing: bool,
    rest_until: Option<Instant>,
}

impl Pace {
    /// Begins at the maximum: a healthy peer is not slowed down by an agent that has just started.
    pub fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        Pace { max, limit: max, busy: 0, turn: 0, failures: 0, open_until: None, probing: false, rest_until: None }
    }

    /// May a request go?
    pub fn ask(&mut self, now: Instant) -> Answer {
        if let Some(until) = self.rest_until.filter(|until| *until > now) {
            return Answer::At(until);
        }
        self.rest_until = None;
        if let Some(until) = self.open_until {
            if until > now {
                return Answer::At(until);
            }
            if self.probing {
                return Answer::Later;
            }
            self.probing = true;
        } else if self.busy as f64 + 1.0 > self.limit.max(1.0) {
            return Answer::Later;
        }
        self.busy += 1;
        Answer::Go(self.turn)
    }

    /// A request of that turn has ended.
    pub fn end(&mut self, turn: u64, outcome: Outcome, now: Instant) {
        self.busy = self.busy.saturating_sub(1);
        let wait = match outcome {
            Outcome::Answered => {
                self.failures = 0;
                self.open_until = None;
                self.probing = false;
                self.limit = (self.limit + 1.0 / self.limit).min(self.max);
                return;
            }
            Outcome::Abandoned => {
                // Another may probe.
                self.probing = false;
                return;
            }
            Outcome::Failed(wait) => wait,
            Outcome::Throttled(rest) => {
                let until = now.checked_add(rest);
                self.rest_until = self.rest_until.max(until);
                rest
            }
        };
        self.failures = self.failures.saturating_add(1);
        if turn == self.turn {
            self.turn += 1;
            self.limit = (self.limit / 2.0).max(1.0);
        }
        if self.failures >= TRIP && (self.open_until.is_none() || self.probing) {
            self.open_until = now.checked_add(wait).or(Some(now));
            self.probing = false;
        }
    }

    /// The agent ends: waits of our own choice are over, those that the peer asked for are kept.
    pub fn hurry(&mut self) {
        self.open_until = None;
        self.probing = false;
        self.failures = 0;
    }

    /// Whether nothing is sent because of failures.
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// Requests that may be on their way at a time.
    pub fn limit(&self) -> usize {
        if self.is_open() { 1 } else { self.limit.max(1.0) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn go(pace: &mut Pace, now: Instant) -> u64 {
        match pace.ask(now) {
            Answer::Go(turn) => turn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_and_one_probe_closes_it() {
        let (mut pace, start) = (Pace::new(10), Instant::now());
        for _ in 0..TRIP {
            let turn = go(&mut pace, start);
            pace.end(turn, Outcome::Failed(SECOND), start);
        }
        assert!(pace.is_open());
        assert_eq!(pace.ask(start), Answer::At(start + SECOND));
        let later = start + SECOND;
        let probe = go(&mut pace, later);
        assert_eq!(pace.ask(later), Answer::Later, "one probe at a time");
        pace.end(probe, Outcome::Failed(2 * SECOND), later);
        assert_eq!(pace.ask(later), Answer::At(later + 2 * SECOND), "the probe failed: a longer wait");
        let last = later + 2 * SECOND;
        let probe = go(&mut pace, last);
        pace.end(probe, Outcome::Answered, last);
        assert!(!pace.is_open());
        go(&mut pace, last);
    }

    #[test]
    fn an_abandoned_probe_lets_another_probe() {
        let (mut pace, start) = (Pace::new(2), Instant::now());
        for _ in 0..TRIP {
            let turn = go(&mut pace, start);
            pace.end(turn, Outcome::Failed(Duration::ZERO), start);
        }
        let probe = go(&mut pace, start);
        pace.end(probe, Outcome::Abandoned, start);
        go(&mut pace, start);
    }

    #[test]
    fn a_throttle_holds_everything_and_survives_hurry() {
        let (mut pace, start) = (Pace::new(4), Instant::now());
        let (one, two) = (go(&mut pace, start), go(&mut pace, start));
        pace.end(one, Outcome::Throttled(5 * SECOND), start);
        pace.end(two, Outcome::Throttled(SECOND), start);
        pace.hurry();
        assert_eq!(pace.ask(start + 4 * SECOND), Answer::At(start + 5 * SECOND), "the longest counts");
        go(&mut pace, start + 5 * SECOND);
    }

    #[test]
    fn failures_of_requests_that_went_together_halve_the_limit_once() {
        let (mut pace, now) = (Pace::new(8), Instant::now());
        let turns: Vec<_> = (0..4).map(|_| go(&mut pace, now)).collect();
        turns.into_iter().for_each(|turn| pace.end(turn, Outcome::Failed(SECOND), now));
        assert_eq!(pace.limit(), 4);
    }

    /// A peer that serves `capacity` requests at a time and says "later" to more.
    #[test]
    fn it_settles_around_what_a_peer_can_take() {
        for capacity in [1usize, 3, 8, 20] {
            let (mut pace, mut now) = (Pace::new(64), Instant::now());
            let (mut taken, mut refused) = (0usize, 0usize);
            for round in 0..2000 {
                let mut turns = Vec::new();
                while let Answer::Go(turn) = pace.ask(now) {
                    turns.push(turn);
                }
                for (place, turn) in turns.into_iter().enumerate() {
                    let served = place < capacity;
                    if round >= 500 {
                        *(if served { &mut taken } else { &mut refused }) += 1;
                    }
                    pace.end(turn, if served { Outcome::Answered } else { Outcome::Failed(SECOND) }, now);
                }
                now += SECOND;
            }
            assert!(taken * 10 >= 1500 * capacity * 6, "{capacity}: {taken} of {}", 1500 * capacity);
            assert!(refused * 2 <= taken, "{capacity}: {refused} refused, {taken} taken");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_maximum_and_never_stuck(max in 1..20usize, story in prop::collection::vec((0..4u8, 0..3u64), 1..300)) {
            let (mut pace, mut now, mut out) = (Pace::new(max), Instant::now(), Vec::new());
            for (what, wait) in story {
                now += Duration::from_secs(wait);
                if what < 2 && let Answer::Go(turn) = pace.ask(now) { out.push(turn); }
                if what >= 2 && let Some(turn) = out.pop() {
                    let outcome = match (what, wait) { (2, 0) => Outcome::Answered, (2, _) => Outcome::Abandoned, (_, 0) => Outcome::Throttled(SECOND), _ => Outcome::Failed(SECOND) };
                    pace.end(turn, outcome, now);
                }
                prop_assert!(out.len() <= max && pace.limit() <= max);
            }
            for turn in out { pace.end(turn, Outcome::Abandoned, now); }
            prop_assert!(matches!(pace.ask(now + 2 * SECOND), Answer::Go(_)), "{pace:?}");
        }
    }
}
