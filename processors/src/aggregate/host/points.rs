//! One point of a host: whether it is good, whose series it is of, and who that is to belong to.

use std::sync::Arc;

use phoenix_pipeline::Class;
use phoenix_telemetry::{MetricKind, Number, Point, Resource};

use super::{Entity, Found, Host, SERIES_PER_ENTITY, Slot, Tools, Visit, nanos};
use crate::aggregate::config::Config;
use crate::aggregate::convert::opening;
use crate::aggregate::distribution::Distribution;
use crate::aggregate::groups::Groups;
use crate::aggregate::identity::{Ident, Role};
use crate::aggregate::layouts::{Meaning, Rest};
use crate::aggregate::ledger::{GroupId, Holder, Life, Reading, Write};
use crate::aggregate::number::{is_finite, is_negative};
use crate::aggregate::series::{Action, Beside, Histogram, Kind, Series, settle};

/// In entities of more series than this none is compared with all others.
const COMPARED: usize = 1_000;

impl Host {
    /// Works off one point. `fold` is what the stages before decided, `rest` what it is summed up to.
    pub(crate) fn point(
        &mut self,
        (point, meaning): (Point<'_>, &Meaning),
        visit: &mut Visit,
        (fold, rest): (bool, Option<&Rest>),
        tools: &mut Tools<'_>,
    ) -> Action {
        let Some(slot) = visit.slot else {
            if fold || rest.is_some() {
                tools.counts.unfolded("entity_limit");
            }
            return Action::Pass;
        };
        let Meaning { ident, kind, heard: heard_by, .. } = meaning;
        let desc = &ident.desc;
        let kind = match *kind {
            Ok(kind) => kind,
            Err(reason) => {
                if fold || rest.is_some() {
                    tools.counts.unfolded(reason);
                }
                Kind::Opaque
            }
        };
        let is_number = matches!(desc.kind, MetricKind::Sum | MetricKind::Gauge);
        let opaque = kind == Kind::Opaque || point.no_recorded_value();
        let histogram = if is_number || opaque { None } else { Distribution::of(point).map(Box::new) };
        let count = histogram.as_ref().map(|histogram| Number::Int(i64::try_from(histogram.count).unwrap_or(i64::MAX)));
        let value = match (kind, point.value().or(count)) {
            _ if point.time() == 0 && kind == Kind::Opaque => return Action::Pass,
            _ if point.time() == 0 => return Action::Drop("no_time"),
            (Kind::Opaque, _) => Number::Int(0),
            _ if point.no_recorded_value() => Number::Int(0),
            (_, None) if !is_number => return Action::Drop("bad_histogram"),
            (_, None) => return Action::Drop("no_value"),
            (Kind::Counter | Kind::Delta, _) if point.start_time() > point.time() => {
                return Action::Drop("start_after_time");
            }
            (_, Some(value)) if !is_finite(value) && !matches!(kind, Kind::Gauge(_) | Kind::Share) => {
                return Action::Drop("not_finite");
            }
            (Kind::Counter | Kind::Delta, Some(value)) if desc.monotonic && is_negative(value) => {
                return Action::Drop("negative");
            }
            (_, Some(value)) => value,
        };
        let reading = Reading { start: point.start_time(), time: point.time(), value };
        let before = match visit.before {
            Some((time, before)) if time == reading.time => before,
            _ => self.before(reading.time),
        };
        visit.before = Some((reading.time, before));
        let mut decided = self.decide(point, kind, (slot, visit), fold, tools);
        let mut into = None;
        if let Some(rest) = rest
            && let Some(sum) = self.sum(rest, (ident, kind), slot, decided, tools)
        {
            (decided, into) = (Holder::Group(sum), Some(&rest.ident));
        }
        if let Some(histogram) = &histogram {
            let series = (ident, into.unwrap_or(ident), reading.time);
            decided = self.histogram(histogram, (slot, visit.guess), series, decided, tools);
        }
        let Host { entities, groups, series: count, closing, heard, refused, reopens, .. } = self;
        let Some(entity) = entities.get_mut(slot) else { return Action::Pass };
        if heard_by.replace(visit.host) != visit.host {
            heard.insert(desc.written().id);
        }
        let found = entity.series.find(ident, visit.guess);
        visit.guess = found.unwrap_or(entity.series.len()) + 1;
        if kind == Kind::Share {
            entity.usage.share(reading.time, value);
            if decided != Holder::Individual && !entity.has_time_of(ident) {
                tools.counts.unfolded("gauge");
                decided = Holder::Individual;
            }
        }
        let Some(series) = found.and_then(|place| entity.series.get_mut(place)) else {
            let newborn = before.is_some_and(|before| reading.start > before);
            if point.no_recorded_value() {
                // What began after the scrape before and is not known was never exported: its first point was bad.
                return if decided == Holder::Individual && !newborn { Action::Pass } else { Action::Fold };
            }
            if *count >= tools.config.max_entities.saturating_mul(SERIES_PER_ENTITY) {
                *refused = Some(reading.time);
                tools.counts.unfolded("series_limit");
                return Action::Pass;
            }
            // What may have passed while there was no room is not folded before its own account is settled.
            let expiry = nanos(tools.config.member_expiry);
            let unsure = refused.is_some_and(|at| at.saturating_add(expiry) > reading.time);
            let Ok(flipped) = entity.flip(ident, reading.time, count, tools) else {
                return Action::Drop("out_of_order");
            };
            let decided = if unsure && !newborn { Holder::Individual } else { decided };
            let unknown = flipped || reopens.is_some_and(|since| reading.start <= since);
            let lost = kind == Kind::Counter && !newborn && unknown;
            let converts = kind == Kind::Delta && desc.out.is_some();
            let reading = if converts { opening(reading, before.max(*reopens)) } else { reading };
            let (mut life, mut outcome) =
                if lost { Life::first_anew(reading, decided) } else { kind.first(reading, before, decided) };
            if kind == Kind::Share && entity.usage.is_folded(reading.time) {
                // The time that it is a share of was the group's.
                (life.written, outcome.write) = (0, Write::Nothing);
            }
            let mut series = Series {
                ident: Arc::clone(ident),
                life,
                kind,
                in_group: false,
                shown: false,
                place: 0,
                beside: Beside::of(
                    into.filter(|_| decided != Holder::Individual).cloned(),
                    None,
                    histogram.clone().map(|first| Histogram::new(*first)),
                ),
            };
            let action = settle(&mut series, None, outcome, (&entity.resource, point, histogram), groups, tools);
            series.opens(outcome, groups);
            entity.series.push(series);
            *count += 1;
            return action;
        };
        if reading.time <= series.life.last.time {
            return Action::Drop(if reading.time == series.life.last.time { "duplicate" } else { "out_of_order" });
        }
        if point.no_recorded_value() {
            return series.end(&entity.resource, reading.time, tools.out);
        }
        let former = series.life;
        let falls = |known: &Histogram| histogram.as_ref().is_some_and(|next| next.since(&known.last).is_none());
        if kind == Kind::Counter && series.histogram().is_some_and(falls) {
            // Any bucket that falls is a reset, though there may be more values together.
            series.life.last.value = Number::Int(i64::MAX);
        }
        let outcome = kind.next(&mut series.life, reading, before, decided);
        if outcome.reset {
            tools.counts.reset();
        }
        if outcome.write == Write::Close && series.shown {
            series.shown = false;
            let times = (former.out_start, reading.time);
            tools.out.closed(&entity.resource, ident.written(), times);
        }
        if series.life.closing && !former.closing {
            closing.push((slot, Arc::clone(ident)));
        }
        if desc.role == Role::CpuTime {
            let folded = outcome.to != Holder::Individual;
            entity.usage.time((former.last.time, reading.time), outcome.increment.as_f64(), folded);
        }
        // A return may have to wait for the next point.
        let rest = match series.life.holder == decided {
            true => into.filter(|_| decided != Holder::Individual).cloned(),
            false => series.rest().cloned(),
        };
        let former_rest = series.set_rest(rest.clone());
        if outcome.to != series.life.holder {
            // The increment is the former holder's.
            series.set_rest(former_rest);
        }
        let action = settle(series, Some(former), outcome, (&entity.resource, point, histogram), groups, tools);
        series.set_rest(rest);
        series.opens(outcome, groups);
        action
    }

    /// The group that sums up what is left of a series, on its own or in its group; `None` where that cannot be.
    fn sum(
        &mut self,
        rest: &Rest,
        (ident, kind): (&Ident, Kind),
        slot: Slot,
        decided: Holder,
        tools: &mut Tools<'_>,
    ) -> Option<GroupId> {
        if kind == Kind::Opaque {
            return None;
        }
        if kind == Kind::Share || ident.desc.role == Role::CpuTime {
            // A share is of the time with the same attributes.
            tools.counts.unfolded("cpu_time");
            return None;
        }
        let groups = &mut self.groups;
        let resource = match decided {
            Holder::Individual => Arc::clone(&self.entities.get_mut(slot)?.resource),
            Holder::Group(group) => groups.get(group)?.resource(),
        };
        let sum = groups.rest_of(&resource, &rest.without, tools.config.max_groups);
        if sum.is_none() {
            tools.counts.unfolded("group_limit");
        }
        sum
    }

    /// Who a histogram is to belong to: itself, where the group's has other bounds. Where its own bounds changed, it passes as
    /// never seen, and individually: what was written of it goes on.
    fn histogram(
        &mut self,
        next: &Distribution,
        (slot, guess): (Slot, usize),
        (ident, into, time): (&Arc<Ident>, &Arc<Ident>, u64),
        decided: Holder,
        tools: &mut Tools<'_>,
    ) -> Holder {
        if let Some(entity) = self.entities.get_mut(slot)
            && let Some(place) = entity.series.find(ident, guess)
            && let Some(series) = entity.series.get(place)
            && series.life.last.time < time
            && series.histogram().is_some_and(|known| !known.last.fits(next))
        {
            entity.series.remove(place);
            self.series -= 1;
            return Holder::Individual;
        }
        let Holder::Group(id) = decided else { return decided };
        if self.groups.get(id).is_none_or(|group| group.takes(into.written(), next)) {
            return decided;
        }
        tools.counts.unfolded("bounds");
        Holder::Individual
    }

    /// Who the series is to belong to.
    fn decide(
        &mut self,
        point: Point<'_>,
        kind: Kind,
        (slot, visit): (Slot, &mut Visit),
        fold: bool,
        tools: &mut Tools<'_>,
    ) -> Holder {
        if !fold || kind == Kind::Opaque {
            return Holder::Individual;
        }
        let Some(entity) = self.entities.get_mut(slot) else { return Holder::Individual };
        if entity.is_group {
            tools.counts.unfolded("is_group");
            return Holder::Individual;
        }
        let groups = &mut self.groups;
        let class = visit.class;
        let own = || Found::of(&mut entity.group, (point.metric().resource(), class), groups, tools);
        match *visit.group.get_or_insert_with(own) {
            None => {
                tools.counts.unfolded("no_group_key");
                Holder::Individual
            }
            Some((group, overflow)) => {
                if overflow {
                    tools.counts.overflow();
                }
                Holder::Group(group)
            }
        }
    }
}

/// The series has a newer point in the other temporality.
struct Newer;

impl Found {
    /// The group of an entity and whether that is `other`; looked for only if it may have become another one.
    #[inline]
    pub(super) fn of(
        last: &mut Option<Found>,
        (resource, class): (Resource<'_>, Class),
        groups: &mut Groups,
        tools: &mut Tools<'_>,
    ) -> Option<(GroupId, bool)> {
        match last {
            Some(found) if found.is_of(class, groups) => Some((found.group, found.overflow)),
            _ => Found::anew(last, (resource, class), groups, tools),
        }
    }

    #[cold]
    fn anew(
        last: &mut Option<Found>,
        (resource, class): (Resource<'_>, Class),
        groups: &mut Groups,
        tools: &mut Tools<'_>,
    ) -> Option<(GroupId, bool)> {
        let Config { group_by, max_groups, .. } = tools.config;
        let (group, overflow) = groups.of((resource, class), group_by, *max_groups, tools.interner)?;
        *last = Some(Found { group, overflow, class, changes: groups.changes });
        Some((group, overflow))
    }
}

impl Entity {
    /// Whether it has the CPU time that a utilization is of, by the same attributes.
    fn has_time_of(&self, share: &Ident) -> bool {
        let is_it = |ident: &Arc<Ident>| {
            Arc::ptr_eq(&ident.attributes, &share.attributes) && ident.desc.is_time_of(&share.desc)
        };
        self.series.len() <= COMPARED && self.series.idents().any(is_it)
    }

    /// A series begins at `time`: if it was there in the other temporality, that one ends, as neither says what the other has
    /// counted. Whether it was; an error where the other is newer.
    fn flip(&mut self, ident: &Ident, time: u64, count: &mut usize, tools: &mut Tools<'_>) -> Result<bool, Newer> {
        if self.series.len() > COMPARED {
            return Ok(false);
        }
        let is_it = |former: &&Arc<Ident>| {
            Arc::ptr_eq(&former.attributes, &ident.attributes) && former.desc.is_flip_of(&ident.desc)
        };
        let former = self.series.idents().find(is_it).map(Arc::clone);
        let place = former.and_then(|former| self.series.find(&former, 0));
        let Some((place, former)) = place.and_then(|place| Some((place, self.series.get(place)?))) else {
            return Ok(false);
        };
        match former.life.last.time {
            last if last > time => return Err(Newer),
            // Both at one time: two senders.
            last if last == time => return Ok(false),
            _ => {}
        }
        let Some(mut former) = self.series.remove(place) else { return Ok(false) };
        *count -= 1;
        tools.counts.flip();
        // Where both leave in one temporality, they are one series to a reader, and it goes on.
        let ends = former.ident.desc.written().id != ident.desc.written().id;
        if ends {
            former.close(&self.resource, time, tools.out);
        }
        Ok(true)
    }
}
