//! One host: its times, its entities with their series, its groups, and when they speak.
//!
//! Times are those of the points; the agent's clock only says how long to wait for the rest of a scrape. One host knows
//! nothing of another, so one sender's wild clock harms no other host.

mod saved;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use phoenix_pipeline::Class;
use phoenix_telemetry::{MetricKind, Number, Point, Resource};

use super::config::Config;
use super::convert::opening;
use super::distribution::Distribution;
use super::emit::Pieces;
use super::groups::Groups;
use super::identity::{Desc, Interner, Key, encode_resource, is_of_host};
use super::ledger::{GroupId, Holder, Life, Reading, Write};
use super::number::{Sum, is_finite, is_negative};
use super::own::Counts;
use super::series::{Action, Histogram, Kind, Series, settle};

/// Distinct times that are remembered: a few, so that one point from the future does not hide the scrape before.
const TIMES: usize = 8;

/// Series a host may have for each entity it may have: three times what a process scraper reports of one.
const SERIES_PER_ENTITY: usize = 64;

/// In entities of more series than this no change of temporality is looked for: each new series is compared with all.
const FLIPPING: usize = 1_000;

/// A resource.
#[derive(Debug)]
struct Entity {
    resource: Arc<[u8]>,
    series: HashMap<Key, Series>,
    /// It has nothing but the attributes of a host and of a group: it is one, from another agent.
    is_group: bool,
    verdict: Verdict,
}

/// What became of an entity, and why.
pub(crate) type Verdict = (&'static str, &'static str);

/// What the work on a host needs beside the host.
pub(crate) struct Tools<'a> {
    pub(crate) config: &'a Config,
    pub(crate) interner: &'a mut Interner,
    pub(crate) ends: &'a mut Ends,
    pub(crate) counts: &'a mut Counts,
    pub(crate) out: &'a mut Pieces,
    pub(crate) entities: &'a Arc<Desc>,
}

/// Both ends of the stage: the increments that came in, and those a reader of what goes out adds up.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) taken: Sum,
    pub(crate) exported: Sum,
}

/// What a resource is, found once a batch.
pub(crate) struct Visit {
    key: Key,
    class: Class,
    group: Option<Option<(GroupId, bool)>>,
    /// There is no room for the entity: its points pass untouched.
    refused: bool,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    name: Box<str>,
    /// Distinct times of its points, rising.
    times: Vec<u64>,
    entities: HashMap<Key, Entity>,
    pub(crate) groups: Groups,
    series: usize,
    /// Series that went into the fold and are to be closed.
    closing: Vec<(Key, Key)>,
    /// Metrics heard of since the groups spoke.
    heard: HashSet<u64>,
    /// The time the groups are to speak of; 0 = none.
    due: u64,
    spoken: u64,
    /// When the groups speak even if the host's time does not move on.
    pub(crate) deadline: Option<Instant>,
    pub(crate) arrived: Instant,
    /// Time of the last point for which there was no room.
    refused: Option<u64>,
    /// What an earlier run wrote of it is lost: what began no later than this may have been written, and opens anew.
    pub(crate) reopens: Option<u64>,
}

impl Host {
    pub(crate) fn new(name: &str, now: Instant) -> Self {
        Host {
            name: name.into(),
            times: Vec::new(),
            entities: HashMap::new(),
            groups: Groups::default(),
            series: 0,
            closing: Vec::new(),
            heard: HashSet::new(),
            due: 0,
            spoken: 0,
            deadline: None,
            arrived: now,
            refused: None,
            reopens: None,
        }
    }

    /// The scrape before `time`: the last distinct time of the host before it, the batch at hand not counted.
    fn before(&self, time: u64) -> Option<u64> {
        self.times.iter().copied().rfind(|known| *known < time)
    }

    /// The host's time moves to `latest`: what was to be said of an earlier one is said now.
    pub(crate) fn move_on(&mut self, latest: u64, tools: &mut Tools<'_>) {
        if self.due > 0 && self.due < latest {
            self.speak(false, tools);
        }
    }

    /// Takes note that points of these times were worked off.
    pub(crate) fn worked_off(&mut self, earliest: u64, latest: u64) {
        for time in [earliest, latest] {
            if let Err(place) = self.times.binary_search(&time) {
                self.times.insert(place, time);
            }
        }
        let surplus = self.times.len().saturating_sub(TIMES);
        self.times.drain(..surplus);
        self.due = self.due.max(latest);
    }

    /// The groups wait no longer than `deadline` for the rest of what they were to say.
    pub(crate) fn speak_by(&mut self, deadline: Instant) {
        if self.is_due() {
            self.deadline.get_or_insert(deadline);
        }
    }

    /// The newest time of its points.
    pub(crate) fn latest(&self) -> Option<u64> {
        self.times.last().copied()
    }

    /// Whether it has something to say.
    pub(crate) fn is_due(&self) -> bool {
        self.due > 0
    }

    /// How many entities it knows.
    pub(crate) fn len(&self) -> usize {
        self.entities.len()
    }

    /// Finds the resource, or makes room for it.
    pub(crate) fn visit(
        &mut self,
        resource: Resource<'_>,
        time: u64,
        (verdict, class): (Verdict, Class),
        tools: &mut Tools<'_>,
    ) -> Visit {
        let key = tools.interner.resource(resource);
        let mut visit = Visit { key, class, group: None, refused: false };
        if let Some(entity) = self.entities.get_mut(&key) {
            if entity.verdict != verdict {
                tools.counts.entity(entity.verdict, -1);
                tools.counts.entity(verdict, 1);
                entity.verdict = verdict;
            }
            return visit;
        }
        if self.is_full(tools.config) {
            self.make_room(time, tools.counts);
        }
        if self.is_full(tools.config) {
            self.refused = Some(time);
            visit.refused = true;
            return visit;
        }
        let group_by = &tools.config.group_by;
        let is_group =
            resource.attributes().iter().all(|(key, _)| is_of_host(key) || group_by.iter().any(|by| by == key));
        let entity = Entity {
            resource: tools.interner.share(encode_resource(resource)),
            series: HashMap::new(),
            is_group,
            verdict,
        };
        tools.counts.entity(verdict, 1);
        self.entities.insert(key, entity);
        visit
    }

    fn is_full(&self, config: &Config) -> bool {
        let most = config.max_entities;
        self.entities.len() >= most || self.series >= most.saturating_mul(SERIES_PER_ENTITY)
    }

    /// Forgets entities that have ended before their time is up; once a scrape, as it looks at all of them.
    fn make_room(&mut self, time: u64, counts: &mut Counts) {
        if self.refused == Some(time) {
            return;
        }
        let count = &mut self.series;
        self.entities.retain(|_, entity| {
            let stays = entity.series.values().any(|series| !series.life.ended);
            if !stays {
                *count -= entity.series.len();
                counts.entity(entity.verdict, -1);
            }
            stays
        });
    }

    /// Works off one point. `fold` is what the stages before decided.
    pub(crate) fn point(
        &mut self,
        point: Point<'_>,
        desc: &Arc<Desc>,
        visit: &mut Visit,
        fold: bool,
        tools: &mut Tools<'_>,
    ) -> Action {
        if visit.refused {
            if fold {
                tools.counts.unfolded("entity_limit");
            }
            return Action::Pass;
        }
        let kind = match Kind::of(desc, tools.config) {
            Ok(kind) => kind,
            Err(reason) => {
                if fold {
                    tools.counts.unfolded(reason);
                }
                Kind::Opaque
            }
        };
        let histogram = if kind == Kind::Opaque || point.no_recorded_value() { None } else { Distribution::of(point) };
        let count = histogram.as_ref().map(|histogram| Number::Int(i64::try_from(histogram.count).unwrap_or(i64::MAX)));
        let value = match (kind, point.value().or(count)) {
            _ if point.time() == 0 && kind == Kind::Opaque => return Action::Pass,
            _ if point.time() == 0 => return Action::Drop("no_time"),
            (Kind::Opaque, _) => Number::Int(0),
            _ if point.no_recorded_value() => Number::Int(0),
            (_, None) if desc.kind != MetricKind::Sum && desc.kind != MetricKind::Gauge => {
                return Action::Drop("bad_histogram");
            }
            (_, None) => return Action::Drop("no_value"),
            (Kind::Counter | Kind::Delta, _) if point.start_time() > point.time() => {
                return Action::Drop("start_after_time");
            }
            (_, Some(value)) if !is_finite(value) && !matches!(kind, Kind::Gauge(_)) => {
                return Action::Drop("not_finite");
            }
            (Kind::Counter | Kind::Delta, Some(value)) if desc.monotonic && is_negative(value) => {
                return Action::Drop("negative");
            }
            (_, Some(value)) => value,
        };
        let reading = Reading { start: point.start_time(), time: point.time(), value };
        let before = self.before(reading.time);
        let mut decided = self.decide(point, kind, visit, fold, tools);
        let key = tools.interner.series(point, desc);
        if let Some(histogram) = &histogram {
            decided = self.histogram(histogram, (point, desc, reading.time), (visit.key, key), decided, tools);
        }
        let Host { entities, groups, series: count, closing, heard, refused, reopens, .. } = self;
        let Some(entity) = entities.get_mut(&visit.key) else { return Action::Pass };
        heard.insert(desc.written().id);
        let Some(series) = entity.series.get_mut(&key) else {
            if point.no_recorded_value() {
                return if decided == Holder::Individual { Action::Pass } else { Action::Fold };
            }
            if *count >= tools.config.max_entities.saturating_mul(SERIES_PER_ENTITY) {
                *refused = Some(reading.time);
                tools.counts.unfolded("series_limit");
                return Action::Pass;
            }
            // What may have passed while there was no room is not folded before its own account is settled.
            let expiry = nanos(tools.config.member_expiry);
            let unsure = refused.is_some_and(|at| at.saturating_add(expiry) > reading.time);
            let newborn = before.is_some_and(|before| reading.start > before);
            let attributes = tools.interner.attributes(point);
            let Ok(goes_on) = entity.flip(&attributes, desc, reading.time, count, tools) else {
                return Action::Drop("out_of_order");
            };
            let decided = if unsure && !newborn { Holder::Individual } else { decided };
            let reopens = goes_on || reopens.is_some_and(|since| reading.start <= since);
            let lost = kind == Kind::Counter && !newborn && reopens;
            let converts = kind == Kind::Delta && desc.out.is_some();
            let reading = if converts { opening(reading, before) } else { reading };
            let (life, outcome) =
                if lost { Life::first_anew(reading, decided) } else { kind.first(reading, before, decided) };
            let mut series = Series {
                life,
                kind,
                desc: Arc::clone(desc),
                attributes,
                in_group: false,
                shown: false,
                total: None,
                histogram: histogram.clone().map(|first| Box::new(Histogram::new(first))),
            };
            let action = settle(&mut series, None, outcome, (&entity.resource, point, histogram), groups, tools);
            entity.series.insert(key, series);
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
        if kind == Kind::Counter && series.histogram.as_deref().is_some_and(falls) {
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
            tools.out.closed(&entity.resource, series.desc.written(), &series.attributes, times);
        }
        if series.life.closing && !former.closing {
            closing.push((visit.key, key));
        }
        settle(series, Some(former), outcome, (&entity.resource, point, histogram), groups, tools)
    }

    /// Who a histogram is to belong to: itself, where the group's has other bounds. Where its own bounds changed, it passes as
    /// never seen, and individually: what was written of it goes on.
    fn histogram(
        &mut self,
        next: &Distribution,
        (point, desc, time): (Point<'_>, &Arc<Desc>, u64),
        (entity, key): (Key, Key),
        decided: Holder,
        tools: &mut Tools<'_>,
    ) -> Holder {
        if let Some(entity) = self.entities.get_mut(&entity)
            && let Some(series) = entity.series.get(&key)
            && series.life.last.time < time
            && series.histogram.as_ref().is_some_and(|known| !known.last.fits(next))
        {
            entity.series.remove(&key);
            self.series -= 1;
            return Holder::Individual;
        }
        let Holder::Group(id) = decided else { return decided };
        let attributes = tools.interner.attributes(point);
        if self.groups.get(id).is_none_or(|group| group.takes(desc.written(), &attributes, next)) {
            return decided;
        }
        tools.counts.unfolded("bounds");
        Holder::Individual
    }

    /// Who the series is to belong to.
    fn decide(&mut self, point: Point<'_>, kind: Kind, visit: &mut Visit, fold: bool, tools: &mut Tools<'_>) -> Holder {
        if !fold || kind == Kind::Opaque {
            return Holder::Individual;
        }
        if self.entities.get(&visit.key).is_some_and(|entity| entity.is_group) {
            tools.counts.unfolded("is_group");
            return Holder::Individual;
        }
        let (groups, config) = (&mut self.groups, tools.config);
        let group = *visit.group.get_or_insert_with(|| {
            groups.of((point.metric().resource(), visit.class), &config.group_by, config.max_groups, tools.interner)
        });
        match group {
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

    /// The groups say what is due, series that ended are closed, and what fell silent is forgotten. With `now` even where
    /// many hosts feed the groups and the interval between two points is not over.
    pub(crate) fn speak(&mut self, now: bool, tools: &mut Tools<'_>) {
        let time = self.due;
        self.deadline = None;
        let paced = self.name.is_empty() && !now;
        if time == 0 || (paced && time < self.spoken.saturating_add(nanos(tools.config.emit_interval))) {
            return;
        }
        (self.due, self.spoken) = (0, time);
        self.close_folded(time, tools);
        self.groups.iter_mut().for_each(|group| group.clear_levels());
        self.walk(time, tools);
        self.groups.close_idle(time, nanos(tools.config.group_expiry), tools.entities, tools.out);
        let heard = std::mem::take(&mut self.heard);
        for group in self.groups.iter_mut() {
            let exported = &mut tools.ends.exported;
            group.speak(time, tools.entities, |desc| heard.contains(&desc.id), exported, tools.out);
        }
    }

    /// Closes what went into the fold at an earlier time and has not come back.
    fn close_folded(&mut self, time: u64, tools: &mut Tools<'_>) {
        let Host { closing, entities, .. } = self;
        closing.retain(|(entity, series)| {
            let Some(entity) = entities.get_mut(entity) else { return false };
            let Some(series) = entity.series.get_mut(series) else { return false };
            if series.life.closing && series.life.written < time {
                series.close(&entity.resource, time, tools.out);
            }
            series.life.closing
        });
    }

    /// Counts the members of the groups, adds up their levels, and forgets what has been silent for too long.
    fn walk(&mut self, time: u64, tools: &mut Tools<'_>) {
        let expiry = nanos(tools.config.member_expiry);
        let Host { entities, groups, series: count, .. } = self;
        entities.retain(|_, entity| {
            let Entity { resource, series, .. } = entity;
            let mut member_of = None;
            series.retain(|_, series| {
                if series.life.last.time.saturating_add(expiry) < time {
                    if series.shown && series.life.written < time {
                        series.close(resource, time, tools.out);
                    }
                    *count -= 1;
                    return false;
                }
                if let Holder::Group(group) = series.life.holder {
                    if let Some(group) = groups.get(group) {
                        group.named = true;
                    }
                    if !series.life.ended {
                        member_of.get_or_insert(group);
                    }
                    if series.in_group {
                        series.tell(group, groups);
                    }
                }
                true
            });
            if let Some(group) = member_of.and_then(|group| groups.get(group)) {
                group.entities += 1;
            }
            if series.is_empty() {
                tools.counts.entity(entity.verdict, -1);
            }
            !series.is_empty()
        });
    }

    /// Takes the entities into the counts: the host was restored.
    pub(crate) fn enter(&self, counts: &mut Counts) {
        self.entities.values().for_each(|entity| counts.entity(entity.verdict, 1));
    }

    /// Takes the entities out of the counts: the host is forgotten.
    pub(crate) fn leave(&self, counts: &mut Counts) {
        self.entities.values().for_each(|entity| counts.entity(entity.verdict, -1));
    }
}

/// The series has a newer point in the other temporality.
struct Newer;

impl Entity {
    /// A series begins at `time`: if it is one that was there in the other temporality, that one ends, as neither says what the
    /// other has counted. Whether a reader sees the two as one series, which then goes on; an error where the other is newer.
    fn flip(
        &mut self,
        attributes: &Arc<[u8]>,
        desc: &Arc<Desc>,
        time: u64,
        count: &mut usize,
        tools: &mut Tools<'_>,
    ) -> Result<bool, Newer> {
        if self.series.len() > FLIPPING {
            return Ok(false);
        }
        let is_it = |series: &Series| Arc::ptr_eq(&series.attributes, attributes) && series.desc.is_flip_of(desc);
        let Some((&key, former)) = self.series.iter().find(|(_, series)| is_it(series)) else { return Ok(false) };
        match former.life.last.time {
            last if last > time => return Err(Newer),
            // Both at one time: two senders.
            last if last == time => return Ok(false),
            _ => {}
        }
        let Some(mut former) = self.series.remove(&key) else { return Ok(false) };
        *count -= 1;
        tools.counts.flip();
        let goes_on = former.desc.written().id == desc.written().id;
        if !goes_on && former.shown && former.life.written < time {
            former.close(&self.resource, time, tools.out);
        }
        Ok(goes_on)
    }
}

/// A span of time as points count it.
fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
