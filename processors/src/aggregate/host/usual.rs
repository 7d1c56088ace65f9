//! The usual points of a scope: numbers of known series that go on where they were, individually or in their group.
//!
//! What `point`, the ledger and the books say of them, taken together, with all that they have in common looked up once: most
//! points of a host that are in no row are of this kind, and on the long way each would cost several times as much. Whatever is
//! not as usual goes the long way, and nothing of it was touched before.

use std::ops::Range;

use phoenix_telemetry::{Number, Places};

use super::{Host, Tools, Visit};
use crate::aggregate::Orders;
use crate::aggregate::identity::Role;
use crate::aggregate::layouts::Meaning;
use crate::aggregate::ledger::{Holder, Reading};
use crate::aggregate::number::{is_finite, is_zero, less};
use crate::aggregate::series::Kind;

/// How the points of a scope are decided on, all alike.
#[derive(Clone, Copy)]
pub(crate) struct Decided {
    /// They are to be folded.
    pub(crate) fold: bool,
    /// Those of them that sum over attributes do.
    pub(crate) sum: bool,
}

impl Host {
    /// Works off points at these places of a scope until one is not a usual one; returns its place. What becomes of
    /// those that do not pass as they came is added to `orders`.
    pub(crate) fn usual(
        &mut self,
        (points, places): (&Places<'_>, Range<usize>),
        meanings: &[Option<Meaning>],
        (visit, decided): (&mut Visit, Decided),
        tools: &mut Tools<'_>,
        orders: &mut Orders,
    ) -> usize {
        let Host { entities, groups, heard, .. } = self;
        let Some(entity) = visit.slot.and_then(|slot| entities.get_mut(slot)) else { return places.start };
        let mut overflow = false;
        let (holder, mut group) = match decided.fold {
            false => (Holder::Individual, None),
            true => {
                let found = entity.group.filter(|found| found.is_of(visit.class, groups) && !entity.is_group);
                let Some(found) = found else { return places.start };
                let Some(group) = groups.get(found.group) else { return places.start };
                overflow = found.overflow;
                (Holder::Group(found.group), Some(group))
            }
        };
        let Some(meanings) = meanings.get(places.clone()) else { return places.start };
        for ((place, point), meaning) in places.clone().zip(points.at(places.clone())).zip(meanings) {
            let Some(point) = point else { continue };
            let Some(meaning) = meaning else { return place };
            let Some(kind) = meaning.usual.filter(|_| meaning.rest.is_none() || !decided.sum) else { return place };
            let Some((start, time, value)) = point.number().filter(|(_, _, value)| is_finite(*value)) else {
                return place;
            };
            let ident = &meaning.ident;
            let Some(at) = entity.series.find(ident, visit.guess) else { return place };
            let Some(series) = entity.series.get_mut(at) else { return place };
            let last = series.life.last;
            if time <= last.time || series.life.holder != holder {
                return place;
            }
            let counter = kind == Kind::Counter;
            let increment = match (value, last.value) {
                _ if !counter => Number::Int(0),
                _ if start > last.time => return place,
                (Number::Int(value), Number::Int(last)) if value >= last && last >= 0 => Number::Int(value - last),
                (Number::Double(value), Number::Double(last)) if value >= last && last >= 0.0 => {
                    Number::Double(value - last)
                }
                _ => return place,
            };
            match &mut group {
                None => {
                    let life = &mut series.life;
                    if counter {
                        let mut read = increment;
                        if life.out_start != start || !is_zero(life.offset) {
                            let written = less(value, life.offset);
                            read = less(written, less(last.value, life.offset));
                            orders.rewritten.push((point.id(), life.out_start, written));
                        }
                        tools.ends.taken.add(increment);
                        tools.ends.exported.add(read);
                    }
                    life.written = time;
                    (series.in_group, series.shown) = (false, true);
                }
                Some(group) => {
                    let account = series.of_group(group, last.time);
                    if counter {
                        account.add(increment);
                        tools.ends.taken.add(increment);
                    }
                    series.in_group = !counter;
                    if overflow {
                        tools.counts.overflow();
                    }
                    orders.folded.push(point.id());
                }
            }
            series.life.last = Reading { start, time, value };
            series.life.ended = false;
            if ident.desc.role == Role::CpuTime {
                entity.usage.time((last.time, time), increment.as_f64(), decided.fold);
            }
            visit.guess = at + 1;
            if meaning.heard.get() != visit.host {
                meaning.heard.set(visit.host);
                heard.insert(ident.desc.id);
            }
        }
        places.end
    }
}
