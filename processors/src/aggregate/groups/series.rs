//! One series of a group: what it holds, and what it says of that.

use std::sync::Arc;

use phoenix_telemetry::{Number, Temporality};

use crate::aggregate::config::GaugeFunction;
use crate::aggregate::distribution::Distribution;
use crate::aggregate::emit::Pieces;
use crate::aggregate::identity::{Desc, Ident};
use crate::aggregate::number::{Sum, is_finite, zero_of};

/// What a series of a group holds.
#[derive(Clone, Debug)]
pub(crate) enum Holding {
    /// A counter: what was ever added, and with `delta` what was since it last spoke.
    Counter(Sum),
    /// A histogram, and with `delta` what was added since it last spoke.
    Distribution(Box<Distribution>),
    /// The members' current values together.
    Level(Sum),
    /// The members' current values by a function: the sum or extreme so far, how many, and the newest time.
    Gauge(GaugeFunction, Sum, f64, u64, u64),
    /// A utilization, computed from the group's CPU time.
    Share(Option<f64>),
}

/// A series of a group.
#[derive(Debug)]
pub(crate) struct GroupSeries {
    pub(super) ident: Arc<Ident>,
    pub(super) start: u64,
    pub(super) holding: Holding,
    /// Time and value of the last point.
    pub(super) spoken: Option<(u64, Number)>,
    /// A member said something since.
    pub(super) touched: bool,
}

/// What a series says at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Said {
    Nothing,
    /// A number, under that start.
    Number(u64, Number),
    /// A histogram, which is written.
    Histogram,
}

/// How many values a histogram has, as a point would say it.
pub(super) fn number(held: &Distribution) -> Number {
    Number::Int(i64::try_from(held.count).unwrap_or(i64::MAX))
}

impl GroupSeries {
    /// What a counter has gained since it was last written.
    pub(super) fn gain(&self) -> Option<f64> {
        let Holding::Counter(sum) = &self.holding else { return None };
        let written = self.spoken.filter(|_| !self.is_delta()).map_or(0.0, |(_, last)| last.as_f64());
        Some(sum.as_f64() - written)
    }

    /// It is there since `start`, or before, if it has not spoken.
    #[inline(always)]
    pub(super) fn begins(&mut self, start: u64) {
        if self.spoken.is_none() {
            self.start = self.start.min(start);
        }
    }

    pub(super) fn is_delta(&self) -> bool {
        self.ident.desc.temporality == Temporality::Delta
    }

    /// Adds to a counter.
    pub(crate) fn add(&mut self, increment: Number) {
        self.touched = true;
        if let Holding::Counter(sum) = &mut self.holding {
            sum.add(increment);
        }
    }

    /// Adds to a histogram.
    pub(crate) fn add_distribution(&mut self, gain: &Distribution) {
        self.touched = true;
        if let Holding::Distribution(held) = &mut self.holding {
            held.add(gain);
        }
    }

    /// Adds a member's current value to a level, where it is a finite one.
    #[inline]
    pub(super) fn hold_level(&mut self, value: Number) {
        if let Holding::Level(sum) = &mut self.holding
            && is_finite(value)
        {
            sum.add(value);
        }
    }

    /// Adds a member's current value to a level or gauge; a gauge that is no number says nothing.
    pub(crate) fn hold(&mut self, value: Number, at: u64) {
        if !is_finite(value) {
            return;
        }
        match &mut self.holding {
            Holding::Counter(_) | Holding::Distribution(_) | Holding::Share(_) => {}
            Holding::Level(sum) => sum.add(value),
            Holding::Gauge(function, sum, extreme, count, newest) => {
                let value = value.as_f64();
                sum.add(Number::Double(value));
                *extreme = match function {
                    _ if *count == 0 => value,
                    GaugeFunction::Min => extreme.min(value),
                    GaugeFunction::Max => extreme.max(value),
                    GaugeFunction::Last if at > *newest => value,
                    GaugeFunction::Last if at < *newest => *extreme,
                    GaugeFunction::Last | GaugeFunction::Mean => extreme.max(value),
                };
                *count += 1;
                *newest = at.max(*newest);
            }
        }
    }

    /// Says what is due at a time: a number, of which the start is returned with it, or a histogram, which is written. `heard` says
    /// whether its metric was heard of.
    pub(super) fn speak(
        &mut self,
        resource: &Arc<[u8]>,
        time: u64,
        heard: impl Fn(&Desc) -> bool,
        exported: &mut Sum,
        out: &mut Pieces,
    ) -> Said {
        if self.spoken.is_some_and(|(last, _)| last >= time) || self.start > time {
            return Said::Nothing;
        }
        let delta = self.is_delta();
        let value = match &mut self.holding {
            Holding::Counter(sum) => match sum.value() {
                Some(value) => value,
                None if delta => sum.clamped(),
                None => {
                    // Beyond what a point can hold: the counter starts anew where its last point was.
                    let (since, last) = self.spoken.unwrap_or((self.start, Number::Int(0)));
                    sum.subtract(last);
                    (self.start, self.spoken) = (since, None);
                    sum.clamped()
                }
            },
            Holding::Distribution(held) => number(held),
            Holding::Level(sum) => sum.clamped(),
            Holding::Share(share) => match share.take() {
                Some(share) => Number::Double(share),
                None => {
                    self.touched = false;
                    return Said::Nothing;
                }
            },
            Holding::Gauge(_, _, _, 0, _) => return Said::Nothing,
            Holding::Gauge(GaugeFunction::Mean, sum, _, count, _) => Number::Double(sum.as_f64() / *count as f64),
            Holding::Gauge(_, _, extreme, _, _) => Number::Double(*extreme),
        };
        let changed = self.spoken.is_none_or(|(_, last)| last != value);
        let due = if delta {
            self.touched && (self.start < time || value.as_f64() != 0.0)
        } else {
            self.touched || changed || heard(&self.ident.desc)
        };
        if !due {
            return Said::Nothing;
        }
        let start = match self.holding {
            Holding::Gauge(..) | Holding::Share(_) => 0,
            _ => self.start,
        };
        let mut said = Said::Number(start, value);
        if let Holding::Distribution(held) = &self.holding {
            out.distribution(resource, &self.ident, (start, time), held, delta);
            said = Said::Histogram;
        }
        if matches!(self.holding, Holding::Counter(_) | Holding::Distribution(_)) {
            if delta {
                exported.add(value);
                match &mut self.holding {
                    // What a point could not hold stays for the next.
                    Holding::Counter(sum) => sum.subtract(value),
                    Holding::Distribution(held) => **held = held.empty(),
                    Holding::Level(_) | Holding::Gauge(..) | Holding::Share(_) => {}
                }
                self.start = time;
            } else {
                match self.spoken {
                    Some(_) if !changed => {}
                    Some((_, last)) => {
                        exported.add(value);
                        exported.subtract(last);
                    }
                    None if self.start < time => exported.add(value),
                    None => exported.add(zero_of(value)),
                }
            }
        }
        self.spoken = Some((time, value));
        self.touched = false;
        said
    }
}
