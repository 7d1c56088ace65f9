//! Individual series in the other temporality: what is written of a point where `temporality` is set and its sender uses
//! the other one.
//!
//! The ledger is untouched by it: who gets an increment is decided first, and only then how it is written. A delta says
//! the increment since the last point; what is before our time, or the group's, it does not say. A cumulative series adds
//! up what was its own, and begins anew (start = now, value 0) when it comes back from the fold. It never concerns sums
//! that may fall.

use phoenix_telemetry::Number;

use super::ledger::{Holder, Life, Outcome, Reading};
use super::number::{Sum, zero_of};
use super::series::{Kind, Series};

/// The first delta of a series as the beginning of a cumulative one: not before the host's last scrape, where a former
/// series of that identity may have ended, and before its own time even where it has no start.
pub(super) fn opening(reading: Reading, before: Option<u64>) -> Reading {
    let known = reading.start.max(before.unwrap_or(0));
    let start = if known == 0 || known >= reading.time { reading.time.saturating_sub(1) } else { known };
    Reading { start, ..reading }
}

/// Start and value that are written of the last point of a series; `None` where it says nothing.
pub(super) fn written(series: &mut Series, former: Option<Life>, outcome: &Outcome) -> Option<(u64, Number)> {
    if series.kind == Kind::Delta { cumulative(series, former, outcome) } else { delta(&series.life, former, outcome) }
}

fn delta(life: &Life, former: Option<Life>, outcome: &Outcome) -> Option<(u64, Number)> {
    if outcome.to != Holder::Individual {
        return None;
    }
    match former.map(|former| former.last.time) {
        Some(since) if life.last.start <= since => Some((since, outcome.increment)),
        // A life that began since; nothing is added before our time.
        _ => (outcome.increment.as_f64() > 0.0).then_some((life.last.start, outcome.increment)),
    }
}

fn cumulative(series: &mut Series, former: Option<Life>, outcome: &Outcome) -> Option<(u64, Number)> {
    let Series { life, total, .. } = series;
    match (outcome.to, life.holder) {
        (Holder::Individual, _) => {
            let total = total.get_or_insert_default();
            total.add(outcome.increment);
            let value = total.value().unwrap_or_else(|| {
                // Beyond what a point can hold: it starts anew where its last point was.
                life.out_start = former.map_or(life.out_start, |former| former.last.time);
                **total = Sum::default();
                total.add(outcome.increment);
                total.clamped()
            });
            Some((life.out_start, value))
        }
        (Holder::Group(_), Holder::Individual) => {
            (*total, life.out_start, life.written) = (None, life.last.time, life.last.time);
            Some((life.last.time, zero_of(outcome.increment)))
        }
        (Holder::Group(_), Holder::Group(_)) => None,
    }
}
