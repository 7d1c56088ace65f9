//! The usual point: a number of a known series that goes on where it was, individually or in its group.
//!
//! What `point`, the ledger and the books say of it, taken together: nine of ten points of a host are of this kind, and on
//! the long way each would cost four times as much. Whatever is not as usual goes the long way, and nothing was touched before.

use phoenix_telemetry::{MetricKind, Number, Point};

use super::{Host, Slot, Tools, Visit};
use crate::aggregate::identity::Role;
use crate::aggregate::layouts::{Meaning, Rest};
use crate::aggregate::ledger::{Holder, Reading};
use crate::aggregate::number::{falls, is_finite, is_negative, less};
use crate::aggregate::series::{Action, Kind};

impl Host {
    /// Works off a point of the entity at `slot`, if it is a usual one.
    pub(super) fn usual(
        &mut self,
        (point, meaning): (Point<'_>, &Meaning),
        (slot, visit): (Slot, &mut Visit),
        (fold, rest): (bool, Option<&Rest>),
        tools: &mut Tools<'_>,
    ) -> Option<Action> {
        let ident = &meaning.ident;
        let kind = meaning.kind.ok().filter(|kind| matches!(kind, Kind::Counter | Kind::Level))?;
        let reading = Reading { start: point.start_time(), time: point.time(), value: point.value()? };
        let good = ident.desc.kind == MetricKind::Sum && ident.desc.out.is_none() && !point.no_recorded_value();
        if !good || !is_finite(reading.value) || rest.is_some() {
            return None;
        }
        let Host { entities, groups, heard, .. } = self;
        let entity = entities.get_mut(slot)?;
        let place = entity.series.find(ident, visit.guess)?;
        let found = entity.group;
        let series = entity.series.get_mut(place)?;
        let last = series.life.last;
        if reading.time <= last.time || series.kind != kind {
            return None;
        }
        let mut increment = Number::Int(0);
        if kind == Kind::Counter {
            if is_negative(reading.value) || reading.start > last.time || falls(reading.value, last.value) {
                return None;
            }
            increment = less(reading.value, last.value);
        }
        let action = match (series.life.holder, fold) {
            (Holder::Individual, false) => {
                let life = &mut series.life;
                if kind == Kind::Counter {
                    if life.out_start != reading.start || life.offset.as_f64() != 0.0 {
                        return None;
                    }
                    tools.ends.taken.add(increment);
                    tools.ends.exported.add(increment);
                }
                life.written = reading.time;
                (series.in_group, series.shown) = (false, true);
                Action::Pass
            }
            (Holder::Group(id), true) => {
                let found = found.filter(|found| found.is_of(visit.class, groups) && found.group == id)?;
                if entity.is_group {
                    return None;
                }
                let account = series.of_group(groups.get(id)?, last.time);
                if kind == Kind::Counter {
                    account.add(increment);
                    tools.ends.taken.add(increment);
                }
                series.in_group = kind == Kind::Level;
                if found.overflow {
                    tools.counts.overflow();
                }
                Action::Fold
            }
            _ => return None,
        };
        series.life.last = reading;
        series.life.ended = false;
        if ident.desc.role == Role::CpuTime {
            entity.usage.time((last.time, reading.time), increment, fold);
        }
        visit.guess = place + 1;
        if meaning.heard.replace(visit.host) != visit.host {
            heard.insert(ident.desc.id);
        }
        Some(action)
    }
}
