//! The decision of the memory limiter as pure numbers: no clock, no file, no memory.
//!
//! Above the soft limit data is refused; there is no hysteresis, because the distance between the two limits is the room
//! for what is still under way, not a band. Above a limit, memory that the allocator keeps is given back from time to
//! time: without that a process that was large once would refuse for ever, since freed memory stays resident.

use std::time::{Duration, Instant};

/// Soft and hard limit in bytes, soft < hard unless both are tiny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    soft: u64,
    hard: u64,
}

impl Limits {
    /// `hard` bytes, with `spike` bytes between soft and hard; a spike of 0 is 20 % of the hard limit.
    pub(super) fn new(hard: u64, spike: u64) -> Self {
        let spike = if spike == 0 { hard / 5 } else { spike };
        Limits { soft: hard.saturating_sub(spike), hard }
    }

    pub(super) fn soft(self) -> u64 {
        self.soft
    }

    pub(super) fn hard(self) -> u64 {
        self.hard
    }
}

/// `percentage` of `total`, rounded down, exact for any size.
pub(super) fn percent(total: u64, percentage: u32) -> u64 {
    let percentage = u64::from(percentage);
    (total / 100).saturating_mul(percentage) + total % 100 * percentage / 100
}

/// Open or closed, and when memory was given back last.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    pause_soft: Duration,
    pause_hard: Duration,
    usage: u64,
    gave_back: Option<Instant>,
}

impl Gate {
    /// An open gate. The pauses are the least times between two returns of memory above the soft and the hard limit.
    pub(super) fn new(limits: Limits, pause_soft: Duration, pause_hard: Duration) -> Self {
        Gate { limits, pause_soft, pause_hard, usage: 0, gave_back: None }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes note of the bytes in use.
    pub(super) fn decide(&mut self, usage: u64) {
        self.usage = usage;
    }

    /// Bytes in use when last read; 0 = not read yet.
    pub(super) fn usage(&self) -> u64 {
        self.usage
    }

    /// Whether data is refused: the soft limit is reached.
    pub(super) fn refuses(&self) -> bool {
        self.usage >= self.limits.soft
    }

    /// Whether memory should be given back now; if so, the pause begins.
    pub(super) fn give_back(&mut self, now: Instant) -> bool {
        let pause = match self.usage {
            usage if usage >= self.limits.hard => self.pause_hard,
            usage if usage >= self.limits.soft => self.pause_soft,
            _ => return false,
        };
        let due = self.gave_back.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if due {
            self.gave_back = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_spike_of_zero_is_a_fifth() {
        assert_eq!(Limits::new(100, 0), Limits { soft: 80, hard: 100 });
        assert_eq!(Limits::new(100, 25), Limits { soft: 75, hard: 100 });
    }

    #[test]
    fn percentages_are_exact_and_do_not_overflow() {
        assert_eq!(percent(1 << 30, 75), 805_306_368);
        assert_eq!(percent(u64::MAX, 100), u64::MAX);
        assert_eq!(percent(99, 50), 49);
    }

    #[test]
    fn memory_is_given_back_no_more_often_than_the_pause_allows() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gate = Gate::new(Limits::new(100, 20), Duration::from_secs(10), Duration::from_secs(2));
        gate.decide(79);
        assert!(!gate.give_back(at(0)), "below both limits");
        gate.decide(80);
        assert!(gate.give_back(at(0)));
        assert!(!gate.give_back(at(9)), "soft: ten seconds");
        gate.decide(100);
        assert!(gate.give_back(at(9)), "hard: two seconds");
        assert!(!gate.give_back(at(10)));
        assert!(gate.give_back(at(11)));
    }

    proptest! {
        #[test]
        fn the_gate_refuses_if_and_only_if_the_soft_limit_is_reached(
            hard in 1u64..1 << 40, spike in 0u64..1 << 40, usages in prop::collection::vec(0u64..1 << 41, 1..50),
        ) {
            let limits = Limits::new(hard, spike);
            prop_assert!(limits.soft() <= limits.hard());
            let mut gate = Gate::new(limits, Duration::ZERO, Duration::ZERO);
            for usage in usages {
                gate.decide(usage);
                prop_assert_eq!(gate.refuses(), usage >= limits.soft());
            }
        }
    }
}
