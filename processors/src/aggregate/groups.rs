//! The groups of one host: their accumulators, what they say, and when they end.
//!
//! A counter's accumulator only ever adds increments; a level is summed anew from the members each time. Groups are
//! bounded: what finds no room goes to the group `other`, which says so by `otel.metric.overflow`.

mod saved;
mod series;

use std::collections::HashMap;
use std::sync::Arc;

use phoenix_pipeline::Class;
use phoenix_telemetry::write::{put_attribute, put_bytes};
use phoenix_telemetry::{AnyValue, Head, Number, Resource, Temporality};

use super::distribution::Distribution;
use super::emit::{Pieces, Templates};
use super::host::Cpus;
use super::identity::{CLASS, Desc, GROUP, Ident, Interner, is_of_host};
use super::layouts::{Layout, Place};
use super::ledger::GroupId;
use super::number::Sum;
use crate::measure::ByKey;
pub(crate) use series::{GroupSeries, Holding};
use series::{Said, number};

/// Where a member last found its series in a group; what is found there is compared, so it may be of another group.
pub(crate) type Hint = u32;

/// What series say: the place of each, and the start and number.
pub(crate) type Numbers = Vec<(usize, (u64, Number))>;

/// Layouts that a group remembers: its members mostly have one or two.
const LAYOUTS: usize = 8;

/// Where the series of a layout are among those of a group.
#[derive(Debug)]
struct OfLayout {
    id: u64,
    counters: Box<[Hint]>,
    levels: Box<[Hint]>,
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    key: Vec<u8>,
    resource: Arc<[u8]>,
    /// The same, to be written again and again; once it was.
    head: Option<Box<Head>>,
    series: Vec<GroupSeries>,
    /// Their places, by what they are.
    places: ByKey<u32>,
    /// Where the series of its members' layouts are; the last one that was asked for comes first.
    layouts: Vec<OfLayout>,
    /// It sums up series of one resource without some of their attributes, and holds no entities.
    rest: bool,
    /// Entities folded into it.
    entities: u64,
    /// A series that is remembered names it, be it one that has ended.
    named: bool,
    /// When it last had a member.
    inhabited: u64,
    /// Time of the last point about its entities.
    counted: u64,
}

/// All groups of a host.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Option<Group>>,
    free: Vec<u32>,
    by_key: HashMap<Vec<u8>, GroupId>,
    overflow: Option<GroupId>,
    /// Counts what may change whose group is which: groups that were closed, and other settings.
    pub(crate) changes: u64,
}

impl Groups {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len() - self.free.len()
    }

    /// The group of a resource, made if it is new; `None` where the resource lacks an attribute of `group_by`. The flag
    /// says that there was no room and the group is `other`.
    pub(crate) fn of(
        &mut self,
        (resource, class): (Resource<'_>, Class),
        group_by: &[String],
        max: usize,
        interner: &mut Interner,
    ) -> Option<(GroupId, bool)> {
        let attributes = resource.attributes();
        let mut key = Vec::with_capacity(64);
        for name in group_by {
            let value = if name == CLASS { Some(AnyValue::Str(class_name(class))) } else { attributes.get(name) };
            put_attribute(&mut key, 1, name, value?);
        }
        if let Some(&known) = self.by_key.get(&key) {
            return Some((known, false));
        }
        // One place is kept for `other`.
        if self.len() + usize::from(self.overflow.is_none()) >= max {
            if let Some(overflow) = self.overflow {
                return Some((overflow, true));
            }
            let id = self.put(Vec::new(), encoded(&overflow_resource(resource, group_by), interner), false);
            self.overflow = Some(id);
            return Some((id, true));
        }
        let mut own = host_attributes(resource, group_by);
        own.extend_from_slice(&key);
        if group_by.is_empty() {
            put_attribute(&mut own, 1, GROUP, AnyValue::Str("other"));
        }
        let id = self.put(key.clone(), encoded(&own, interner), false);
        self.by_key.insert(key, id);
        Some((id, false))
    }

    /// The group that sums up what is left of a resource's series without the attributes named, made if it is new; `None`
    /// where there is no room.
    pub(crate) fn rest_of(&mut self, resource: &Arc<[u8]>, without: &str, max: usize) -> Option<GroupId> {
        let mut key = Vec::with_capacity(resource.len() + without.len() + 4);
        // No key of a group of entities begins with this field.
        put_bytes(&mut key, 2, without.as_bytes());
        key.extend_from_slice(resource);
        if let Some(&known) = self.by_key.get(&key) {
            return Some(known);
        }
        if self.len() + usize::from(self.overflow.is_none()) >= max {
            return None;
        }
        let id = self.put(key.clone(), Arc::clone(resource), true);
        self.by_key.insert(key, id);
        Some(id)
    }

    fn put(&mut self, key: Vec<u8>, resource: Arc<[u8]>, rest: bool) -> GroupId {
        let group = Group {
            key,
            resource,
            head: None,
            rest,
            series: Vec::new(),
            places: ByKey::default(),
            layouts: Vec::new(),
            entities: 0,
            named: false,
            inhabited: 0,
            counted: 0,
        };
        match self.free.pop() {
            Some(id) => {
                if let Some(slot) = self.groups.get_mut(id as usize) {
                    *slot = Some(group);
                }
                GroupId::at(id)
            }
            None => {
                self.groups.push(Some(group));
                GroupId::at(self.groups.len() as u32 - 1)
            }
        }
    }

    /// A group by its id.
    pub(crate) fn get(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(id.place() as usize)?.as_mut()
    }

    /// All groups.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.groups.iter_mut().flatten()
    }

    /// All groups, to be read.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().flatten()
    }

    /// Closes the groups that had no member for longer than `expiry` (nanoseconds) and have nothing left to say; those that
    /// sum up series after `rest_expiry`, as they are of one resource and come back with it alone.
    pub(crate) fn close_idle(
        &mut self,
        time: u64,
        (expiry, rest_expiry): (u64, u64),
        entities: &Arc<Desc>,
        out: &mut Pieces,
    ) {
        for (id, slot) in (0u32..).zip(&mut self.groups) {
            let Some(group) = slot.take_if(|group| group.is_idle(time, if group.rest { rest_expiry } else { expiry }))
            else {
                continue;
            };
            for series in group.series.iter().filter(|series| series.spoken.is_some()) {
                out.closed(&group.resource, &series.ident, (series.start, time));
            }
            if group.counted > 0 {
                out.closed_as(&group.resource, entities, &[], (0, time));
            }
            self.free.push(id);
            self.changes += 1;
            if self.overflow == Some(GroupId::at(id)) {
                self.overflow = None;
            } else {
                self.by_key.remove(&group.key);
            }
        }
    }
}

/// A resource of these attributes.
fn encoded(attributes: &[u8], interner: &mut Interner) -> Arc<[u8]> {
    let mut resource = Vec::with_capacity(attributes.len() + 4);
    put_bytes(&mut resource, 1, attributes);
    interner.share(resource)
}

/// The word for a class in `group_by`.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Low => "low",
        Class::Normal => "normal",
        Class::High => "high",
        Class::Critical => "critical",
    }
}

/// The host's attributes of a resource that `group_by` does not name, encoded.
fn host_attributes(resource: Resource<'_>, group_by: &[String]) -> Vec<u8> {
    let mut own = Vec::with_capacity(64);
    for (name, value) in resource.attributes().iter() {
        if is_of_host(name) && group_by.iter().all(|key| key != name) {
            put_attribute(&mut own, 1, name, value);
        }
    }
    own
}

fn overflow_resource(resource: Resource<'_>, group_by: &[String]) -> Vec<u8> {
    let mut own = host_attributes(resource, group_by);
    for key in group_by {
        put_attribute(&mut own, 1, key, AnyValue::Str("other"));
    }
    if group_by.is_empty() {
        put_attribute(&mut own, 1, GROUP, AnyValue::Str("other"));
    }
    put_attribute(&mut own, 1, "otel.metric.overflow", AnyValue::Bool(true));
    own
}

impl Group {
    /// The resource its series are written of.
    pub(crate) fn resource(&self) -> Arc<[u8]> {
        Arc::clone(&self.resource)
    }

    /// Whether it sums up series of one resource.
    pub(crate) fn is_rest(&self) -> bool {
        self.rest
    }

    /// Whether it may be closed now; takes note of when it had members.
    fn is_idle(&mut self, time: u64, expiry: u64) -> bool {
        if self.entities > 0 || self.rest && self.named || self.inhabited == 0 {
            self.inhabited = time;
        }
        let silent = |series: &GroupSeries| !series.touched && series.spoken.is_none_or(|(last, _)| last < time);
        !self.named
            && self.inhabited.saturating_add(expiry) < time
            && self.counted < time
            && self.series.iter().all(silent)
    }

    /// A series names it, of an entity that may be counted; whether it was.
    pub(crate) fn named_by(&mut self, counts: bool) -> bool {
        self.named = true;
        let counted = counts && !self.rest;
        self.entities += u64::from(counted);
        counted
    }

    /// Its series that is `ident`; it begins at `start` if it is new, or was and has not spoken.
    #[inline(always)]
    pub(crate) fn series(
        &mut self,
        ident: &Arc<Ident>,
        hint: &mut Hint,
        start: u64,
        holding: impl FnOnce() -> Holding,
    ) -> &mut GroupSeries {
        let is_it = |series: &GroupSeries| Arc::ptr_eq(&series.ident, ident);
        if !self.series.get(*hint as usize).is_some_and(is_it) {
            *hint = self.place_of(ident, start, holding);
        }
        let series = &mut self.series[*hint as usize];
        series.begins(start);
        series
    }

    /// Where the series lies, made if it is new.
    #[inline(never)]
    fn place_of(&mut self, ident: &Arc<Ident>, start: u64, holding: impl FnOnce() -> Holding) -> Hint {
        let place = *self.places.entry(ident.id).or_insert(self.series.len() as Hint);
        if place as usize == self.series.len() {
            self.series.push(GroupSeries {
                ident: Arc::clone(ident),
                start,
                holding: holding(),
                spoken: None,
                touched: ident.desc.temporality != Temporality::Delta,
            });
        }
        place
    }

    /// Adds what the counters of a member's row grew by since a time.
    pub(crate) fn add_row(&mut self, layout: &Arc<Layout>, since: u64, grown: &[Number]) {
        let (of_layout, series) = self.of_layout(layout, since);
        for (place, increment) in of_layout.counters.iter().zip(grown) {
            if let Some(series) = series.get_mut(*place as usize) {
                series.begins(since);
                series.add(*increment);
            }
        }
    }

    /// Adds the levels of a member's row, as of a time.
    pub(crate) fn hold_row(&mut self, layout: &Arc<Layout>, time: u64, values: impl Iterator<Item = Number>) {
        let (of_layout, series) = self.of_layout(layout, time);
        for (place, value) in of_layout.levels.iter().zip(values) {
            if let Some(series) = series.get_mut(*place as usize) {
                series.begins(time);
                series.hold_level(value);
            }
        }
    }

    /// Where the series of a layout are, and all series. Those that are not there are made, and begin at `start`.
    #[inline(always)]
    fn of_layout(&mut self, layout: &Arc<Layout>, start: u64) -> (&OfLayout, &mut [GroupSeries]) {
        if self.layouts.first().is_none_or(|known| known.id != layout.id) {
            self.find_layout(layout, start);
        }
        let Group { layouts, series, .. } = self;
        (&layouts[0], series)
    }

    /// Puts what is known of a layout first.
    #[inline(never)]
    fn find_layout(&mut self, layout: &Arc<Layout>, start: u64) {
        let known = self.layouts.iter().position(|known| known.id == layout.id);
        let place = known.unwrap_or_else(|| {
            let mut find = |places: &[Place], holding: fn(Sum) -> Holding| -> Box<[Hint]> {
                let idents = layout.at(places);
                idents.map(|ident| self.place_of(ident.written(), start, || holding(Sum::default()))).collect()
            };
            let counters = find(&layout.counters, Holding::Counter);
            let levels = find(&layout.levels, Holding::Level);
            self.layouts.truncate(LAYOUTS - 1);
            self.layouts.push(OfLayout { id: layout.id, counters, levels });
            self.layouts.len() - 1
        });
        self.layouts.swap(0, place);
    }

    /// Whether a histogram can be added to that series.
    pub(crate) fn takes(&self, ident: &Ident, value: &Distribution) -> bool {
        let place = self.places.get(&ident.id);
        match place.and_then(|place| self.series.get(*place as usize)).map(|series| &series.holding) {
            Some(Holding::Distribution(held)) => held.fits(value),
            _ => true,
        }
    }

    /// Forgets the levels, which are summed anew.
    pub(crate) fn clear_levels(&mut self) {
        (self.entities, self.named) = (0, false);
        for series in &mut self.series {
            match &mut series.holding {
                Holding::Counter(_) | Holding::Distribution(_) | Holding::Share(_) => {}
                Holding::Level(sum) => *sum = Sum::default(),
                Holding::Gauge(_, sum, extreme, count, newest) => {
                    (*sum, *extreme, *count, *newest) = (Sum::default(), 0.0, 0, 0);
                }
            }
        }
    }

    /// What was added and has not been written yet.
    pub(crate) fn pending(&self, pending: &mut Sum) {
        for series in &self.series {
            match &series.holding {
                Holding::Counter(sum) => pending.join(sum),
                Holding::Distribution(held) => pending.add(number(held)),
                Holding::Level(_) | Holding::Gauge(..) | Holding::Share(_) => continue,
            }
            if let (Some((_, value)), false) = (series.spoken, series.is_delta()) {
                pending.subtract(value);
            }
        }
    }

    /// Computes the utilizations of (since, time] from what the CPU times have gained since groups spoke last.
    pub(crate) fn use_cpus(&mut self, span: (u64, u64), cpus: Cpus) {
        for place in 0..self.series.len() {
            let Some(share) = self.series.get(place).filter(|series| matches!(series.holding, Holding::Share(_)))
            else {
                continue;
            };
            let is_its = |series: &&GroupSeries| {
                Arc::ptr_eq(&series.ident.attributes, &share.ident.attributes)
                    && series.ident.desc.is_time_of(&share.ident.desc)
            };
            let gain = self.series.iter().find(is_its).and_then(GroupSeries::gain);
            let used = gain.and_then(|increment| cpus.share(increment, span));
            if let Some(GroupSeries { holding: Holding::Share(share), .. }) = self.series.get_mut(place) {
                *share = used;
            }
        }
    }

    /// Writes the points that are due. `heard` says whether a metric was heard of since the last time, `alone` that nothing
    /// else is written of the group's resource; `exported` is given the increments a reader sees. `said` is for its memory.
    pub(crate) fn speak(
        &mut self,
        (time, alone): (u64, bool),
        entities: &Arc<Desc>,
        heard: impl Fn(&Desc) -> bool,
        exported: &mut Sum,
        (templates, said, out): (&mut Templates, &mut Numbers, &mut Pieces),
    ) {
        said.clear();
        templates.begin();
        let mut histogram = false;
        for (place, series) in self.series.iter_mut().enumerate() {
            match series.speak(&self.resource, time, &heard, exported, out) {
                Said::Nothing => {}
                Said::Number(start, value) => {
                    templates.name(series.ident.id, start, value);
                    said.push((place, (start, value)));
                }
                Said::Histogram => histogram = true,
            }
        }
        if said.is_empty() && !histogram {
            return;
        }
        let mut count = None;
        if !self.rest && self.counted < time {
            let (start, entities) = (0, Number::Int(i64::try_from(self.entities).unwrap_or(i64::MAX)));
            templates.name(0, start, entities);
            count = Some((start, entities));
            self.counted = time;
        }
        let series = &self.series;
        let numbers = said.iter().filter_map(|(place, number)| {
            let ident = &series.get(*place)?.ident;
            Some((&ident.desc, &*ident.attributes, *number))
        });
        let numbers = numbers.chain(count.map(|count| (entities, &[][..], count)));
        let mut template = None;
        if alone && !histogram {
            template = templates.of(numbers.clone());
            if self.head.is_none() {
                self.head = Head::parse(&self.resource).map(Box::new);
            }
        }
        if let (Some(head), Some(template)) = (&self.head, template) {
            out.resource(head, &template, time, said.iter().map(|(_, number)| *number).chain(count));
        } else {
            for (desc, attributes, (start, value)) in numbers {
                out.number(&self.resource, desc, attributes, (start, time), value);
            }
        }
    }
}
