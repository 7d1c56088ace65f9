//! The ledger of one series: who gets the increment since the last point, and what is written now.
//!
//! **A decision at t governs what comes after t.** The increment over (t', t] belongs to whoever held the series at t'. A
//! pure function of what is remembered of the series, the new point, the host's last scrape and the decision; it knows
//! no batch, no group and no clock.

use std::num::NonZeroU32;

use phoenix_telemetry::Number;

use super::number::{falls, less, zero_of};

/// A group of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupId(NonZeroU32);

impl GroupId {
    /// The group at a place in the host's table. It is kept one higher, so that a [`Holder`] is no larger than it.
    pub(crate) const fn at(place: u32) -> GroupId {
        GroupId(NonZeroU32::MIN.saturating_add(place))
    }

    pub(crate) const fn place(self) -> u32 {
        self.0.get() - 1
    }
}

/// Who a series belongs to: what was decided at its last point, or is decided now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The series itself.
    Individual,
    /// A group.
    Group(GroupId),
}

/// A point of a series. Times in Unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) value: Number,
}

/// What is remembered of a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// Its last point.
    pub(crate) last: Reading,
    /// Who the time after that point belongs to.
    pub(crate) holder: Holder,
    /// The start time under which it is written.
    pub(crate) out_start: u64,
    /// What is taken off its values: the value at its return from the fold.
    pub(crate) offset: Number,
    /// Time of the last point that was written of it, closing points included; 0 = none.
    pub(crate) written: u64,
    /// It went into the fold and is not closed yet.
    pub(crate) closing: bool,
    /// Its sender, or its silence, ended it.
    pub(crate) ended: bool,
}

/// What is written of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Write {
    /// The point as it came.
    Untouched,
    /// The point with another start and value.
    As(u64, Number),
    /// Nothing: its group has it.
    Nothing,
    /// The end of the series: a former life was individual, the new one is not.
    Close,
}

/// What follows from a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) write: Write,
    /// What was added since the last point. At least 0, but for deltas of sums that are not monotonic.
    pub(crate) increment: Number,
    /// Whose it is.
    pub(crate) to: Holder,
    /// A group that must be there from now on, and the start time of its series if they begin here.
    pub(crate) opens: Option<(GroupId, u64)>,
    /// The value fell under the same start time.
    pub(crate) reset: bool,
}

impl Life {
    /// A cumulative point of a series never seen. `before` is the host's scrape before.
    pub(crate) fn first(reading: Reading, before: Option<u64>, decided: Holder) -> (Life, Outcome) {
        let newborn = before.is_some_and(|before| reading.start > before) && reading.start < reading.time;
        let increment = if newborn { reading.value } else { zero_of(reading.value) };
        let opens = if newborn { reading.start } else { reading.time };
        Life::begin(reading, increment, opens, decided)
    }

    /// A cumulative point of a series that an earlier run may have written, whose state is lost: what of its value was
    /// written, and by whom, is not known. It opens here, with value 0.
    pub(crate) fn first_anew(reading: Reading, decided: Holder) -> (Life, Outcome) {
        let (mut life, mut outcome) = Life::begin(reading, zero_of(reading.value), reading.time, decided);
        if decided == Holder::Individual {
            (life.out_start, life.offset) = (reading.time, reading.value);
            outcome.write = Write::As(reading.time, zero_of(reading.value));
        }
        (life, outcome)
    }

    /// A delta of a series never seen: all of it counts.
    pub(crate) fn first_delta(reading: Reading, decided: Holder) -> (Life, Outcome) {
        let opens = if reading.start == 0 { reading.time } else { reading.start };
        Life::begin(reading, reading.value, opens, decided)
    }

    /// A level of a series never seen: levels have no increments.
    pub(crate) fn first_level(reading: Reading, decided: Holder) -> (Life, Outcome) {
        Life::begin(reading, zero_of(reading.value), reading.time, decided)
    }

    fn begin(reading: Reading, increment: Number, opens: u64, decided: Holder) -> (Life, Outcome) {
        let (write, written, opens) = match decided {
            Holder::Individual => (Write::Untouched, reading.time, None),
            Holder::Group(group) => (Write::Nothing, 0, Some((group, opens))),
        };
        let life = Life {
            last: reading,
            holder: decided,
            out_start: reading.start,
            offset: zero_of(reading.value),
            written,
            closing: false,
            ended: false,
        };
        (life, Outcome { write, increment, to: decided, opens, reset: false })
    }

    /// A further cumulative point; its time lies after that of the last.
    pub(crate) fn next(&mut self, reading: Reading, before: Option<u64>, decided: Holder) -> Outcome {
        let seen = self.last.time.max(before.unwrap_or(0));
        if reading.start > seen {
            let decided = self.postponed(reading, decided);
            return self.next_life(reading, decided);
        }
        let reset = falls(reading.value, self.last.value);
        let increment = if reset { reading.value } else { less(reading.value, self.last.value) };
        let individual = |life: &mut Life| {
            if reset {
                life.out_start = life.last.time;
                life.offset = zero_of(reading.value);
            }
            if life.out_start == reading.start && life.offset.as_f64() == 0.0 {
                Write::Untouched
            } else {
                Write::As(life.out_start, less(reading.value, life.offset))
            }
        };
        let back = |life: &mut Life| {
            life.out_start = reading.time;
            life.offset = reading.value;
            Write::As(reading.time, zero_of(reading.value))
        };
        let outcome = self.pass(reading, decided, increment, individual, back);
        Outcome { reset, ..outcome }
    }

    /// A further delta. On its return from the fold a series is not opened: its next delta says all that is its own.
    pub(crate) fn next_delta(&mut self, reading: Reading, decided: Holder) -> Outcome {
        self.pass(reading, decided, reading.value, |_| Write::Untouched, |_| Write::Nothing)
    }

    /// A further level. In transition it is written individually, in both directions.
    pub(crate) fn next_level(&mut self, reading: Reading, decided: Holder) -> Outcome {
        self.pass(reading, decided, zero_of(reading.value), |_| Write::Untouched, |_| Write::Untouched)
    }

    /// The rows of the table that all kinds have in common. `individual` writes a point of a series that was held
    /// individually, `back` that of one that comes back from the fold.
    fn pass(
        &mut self,
        reading: Reading,
        decided: Holder,
        increment: Number,
        individual: impl FnOnce(&mut Life) -> Write,
        back: impl FnOnce(&mut Life) -> Write,
    ) -> Outcome {
        let since = self.last.time;
        let decided = self.postponed(reading, decided);
        let to = self.holder;
        let write = match (self.holder, decided) {
            (Holder::Individual, _) => individual(self),
            (Holder::Group(_), Holder::Individual) => back(self),
            (Holder::Group(_), Holder::Group(_)) => Write::Nothing,
        };
        let opens = match (self.holder, decided) {
            (_, Holder::Individual) => None,
            (Holder::Group(group), Holder::Group(next)) if group == next => Some((group, since)),
            (_, Holder::Group(group)) => Some((group, reading.time)),
        };
        if write != Write::Nothing {
            self.written = reading.time;
        }
        match (self.holder, decided) {
            (Holder::Individual, Holder::Group(_)) => self.closing = true,
            (Holder::Group(_), Holder::Individual) => self.closing = false,
            _ => {}
        }
        self.holder = decided;
        self.last = reading;
        self.ended = false;
        Outcome { write, increment, to, opens, reset: false }
    }

    /// The decision, unless a closing point was written at or after this time: then a return waits for the next point.
    fn postponed(&self, reading: Reading, decided: Holder) -> Holder {
        if self.holder != Holder::Individual && reading.time <= self.written { self.holder } else { decided }
    }

    /// A new life under the same identity passes as never seen; only a former individual life must be closed where the new
    /// one is folded.
    fn next_life(&mut self, reading: Reading, decided: Holder) -> Outcome {
        // After the last point and after the scrape before: `first` need not look again.
        let (mut life, mut outcome) = Life::first(reading, Some(0), decided);
        let open = !self.ended && (self.holder == Holder::Individual || self.closing);
        if decided != Holder::Individual {
            life.written = self.written;
            if open {
                outcome.write = Write::Close;
                life.written = reading.time;
            }
        }
        *self = life;
        outcome
    }
}

#[cfg(test)]
mod tests;
