//! Utilization: what share of the host's CPUs a process used, and what the sender takes for the whole.
//!
//! A group's utilization is computed from its CPU time, never summed: its increment, divided by the time that passed and by
//! the number of CPUs. That number is the sender's own: what a member's CPU time is to its utilization. So it does not matter
//! whether a sender divides by the CPUs of the host, by those it may use, or not at all.

use phoenix_telemetry::Number;

const NANOS: f64 = 1e9;

/// The CPU time of an entity since the point before, and the utilization that its sender made of it, over all attributes.
#[derive(Debug, Default)]
pub(super) struct Usage {
    at: u64,
    since: u64,
    used: f64,
    share: f64,
    /// The time was a group's.
    folded: bool,
}

impl Usage {
    fn at(&mut self, time: u64) {
        if self.at != time {
            *self = Usage { at: time, ..Usage::default() };
        }
    }

    /// A CPU time grew by so many seconds in (since, time], for itself or for its group.
    pub(super) fn time(&mut self, (since, time): (u64, u64), seconds: f64, folded: bool) {
        self.at(time);
        (self.since, self.folded) = (since, folded);
        self.used += seconds;
    }

    /// Whether what grew up to that time was a group's.
    pub(super) fn is_folded(&self, time: u64) -> bool {
        self.at == time && self.folded
    }

    /// A utilization at a time.
    pub(super) fn share(&mut self, time: u64, value: Number) {
        self.at(time);
        if value.as_f64().is_finite() {
            self.share += value.as_f64();
        }
    }
}

/// What a host's utilizations are shares of, as last learnt.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::aggregate) struct Cpus {
    number: Option<f64>,
    /// CPU time of the entity that it was learnt from.
    from: f64,
}

impl Cpus {
    /// A time is looked at.
    pub(super) fn begin(&mut self) {
        self.from = 0.0;
    }

    /// Learns from an entity; the one that used the most says it most exactly.
    pub(super) fn learn(&mut self, usage: &Usage, time: u64) {
        // Most have no utilization.
        if usage.share <= 0.0 || usage.at != time || usage.since == 0 || usage.used <= self.from {
            return;
        }
        let passed = usage.at.saturating_sub(usage.since) as f64 / NANOS;
        if passed > 0.0 {
            *self = Cpus { number: Some(usage.used / (usage.share * passed)), from: usage.used };
        }
    }

    /// The utilization of so much CPU time in (since, time]; `None` where the number of CPUs is not known yet.
    pub(in crate::aggregate) fn share(self, increment: f64, (since, time): (u64, u64)) -> Option<f64> {
        let passed = time.checked_sub(since).filter(|_| 0 < since && since < time)? as f64 / NANOS;
        if increment == 0.0 { Some(0.0) } else { Some(increment / (passed * self.number?)) }
    }
}
