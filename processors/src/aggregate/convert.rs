//! Individual series in the other temporality: what is written of a point where `temporality` is set and its sender uses
//! the other one.
//!
//! The ledger is untouched by it: who gets an increment is decided first, and only then how it is written. A delta says
//! the increment since the last point; what is before our time, or the group's, it does not say. A cumulative series adds
//! up what was its own, and begins anew (start = now, value 0) when it comes back from the fold. It never concerns sums
//! that may fall.

use phoenix_telemetry::Number;

use super::distribution::Distribution;
use super::ledger::{Holder, Life, Outcome, Reading};
use super::number::{Sum, zero_of};
use super::series::{Beside, Kind, Series};

/// The first delta of a series as the beginning of a cumulative one: not before the host's last scrape, or where an earlier run
/// may have got to, since a former series of that identity may have ended there; and before its own time even where it has no start.
pub(super) fn opening(reading: Reading, before: Option<u64>) -> Reading {
    let known = reading.start.max(before.unwrap_or(0));
    let start = if known == 0 || known >= reading.time { reading.time.saturating_sub(1) } else { known };
    Reading { start, ..reading }
}

/// What is written of the last point of a series.
pub(super) enum Written {
    Number(Number),
    /// A histogram, and whether its smallest and largest value are known.
    Distribution(Distribution, bool),
}

/// Start and value that are written of the last point of a series; `None` where it says nothing.
pub(super) fn written(series: &mut Series, former: Option<Life>, outcome: &Outcome) -> Option<(u64, Written)> {
    match series.kind {
        Kind::Delta => cumulative(series, former, outcome),
        _ => delta(series, former, outcome),
    }
}

fn delta(series: &Series, former: Option<Life>, outcome: &Outcome) -> Option<(u64, Written)> {
    if outcome.to != Holder::Individual {
        return None;
    }
    let life = &series.life;
    let start = match former.map(|former| former.last.time) {
        Some(since) if life.last.start <= since => since,
        // A life that began since; nothing is added before our time.
        _ if outcome.increment.as_f64() > 0.0 => life.last.start,
        _ => return None,
    };
    let gained = match series.histogram() {
        None => Written::Number(outcome.increment),
        Some(histogram) => Written::Distribution(histogram.gain.clone(), true),
    };
    Some((start, gained))
}

fn cumulative(series: &mut Series, former: Option<Life>, outcome: &Outcome) -> Option<(u64, Written)> {
    let Series { life, beside, .. } = series;
    match (outcome.to, life.holder) {
        (Holder::Individual, _) => {
            let Beside { total, histogram, .. } = &mut **beside.get_or_insert_default();
            // Beyond what a point can hold, it starts anew where its last point was.
            let since = former.map_or(life.out_start, |former| former.last.time);
            let held = match histogram {
                None => {
                    let total = total.get_or_insert_default();
                    total.add(outcome.increment);
                    Written::Number(total.value().unwrap_or_else(|| {
                        life.out_start = since;
                        *total = Sum::default();
                        total.add(outcome.increment);
                        total.clamped()
                    }))
                }
                Some(histogram) => {
                    let total = histogram.total.get_or_insert_with(|| histogram.gain.empty());
                    total.add(&histogram.gain);
                    if !total.is_countable() {
                        life.out_start = since;
                        *total = histogram.gain.clone();
                    }
                    Written::Distribution(total.clone(), true)
                }
            };
            Some((life.out_start, held))
        }
        (Holder::Group(_), Holder::Individual) => {
            (life.out_start, life.written) = (life.last.time, life.last.time);
            let nothing = match beside.as_mut().and_then(|beside| {
                beside.total = None;
                beside.histogram.as_mut()
            }) {
                None => Written::Number(zero_of(outcome.increment)),
                Some(histogram) => {
                    histogram.total = None;
                    Written::Distribution(histogram.last.empty(), false)
                }
            };
            Some((life.last.time, nothing))
        }
        (Holder::Group(_), Holder::Group(_)) => None,
    }
}
