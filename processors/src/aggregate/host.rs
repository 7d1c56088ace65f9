//! One host: its times, its entities with their series, its groups, and when they speak.
//!
//! Times are those of the points; the agent's clock only says how long to wait for the rest of a scrape. One host knows
//! nothing of another, so one sender's wild clock harms no other host.

mod entities;
mod points;
mod row;
mod saved;
mod table;
mod usage;
mod usual;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use phoenix_pipeline::Class;
use phoenix_telemetry::Resource;

use super::config::Config;
use super::emit::{Pieces, Templates};
use super::groups::{Group, Groups};
use super::identity::{Desc, Ident, Interner, Key, Keyed, encode_resource, is_group};
use super::ledger::{GroupId, Holder};
use super::number::Sum;
use super::own::Counts;
use super::series::Series;
use crate::measure::Seeded;
pub(super) use entities::Sighting;
use entities::{Entities, Slot};
use row::Row;
use table::Table;
pub(super) use usage::Cpus;
use usage::Usage;
pub(super) use usual::Decided;

/// Distinct times that are remembered: a few, so that one point from the future does not hide the scrape before.
const TIMES: usize = 8;

/// Series a host may have for each entity it may have: three times what a process scraper reports of one.
const SERIES_PER_ENTITY: usize = 64;

/// A resource.
#[derive(Debug)]
struct Entity {
    key: Key,
    /// As it is written.
    resource: Arc<[u8]>,
    series: Table,
    /// The group it was last found to belong to, while that holds.
    group: Option<Found>,
    /// It is a group, from another agent.
    is_group: bool,
    verdict: Verdict,
    usage: Usage,
}

/// The group of an entity of a class as of some number of changes, and whether that is `other`.
#[derive(Clone, Copy, Debug)]
struct Found {
    group: GroupId,
    overflow: bool,
    class: Class,
    changes: u64,
}

impl Found {
    /// Whether it still holds, for that class.
    fn is_of(self, class: Class, groups: &Groups) -> bool {
        self.changes == groups.changes && self.class == class
    }
}

/// What became of an entity, and why.
pub(crate) type Verdict = (&'static str, &'static str);

/// Whether two verdicts are the same; they mostly are one, by address.
fn is_same(a: Verdict, b: Verdict) -> bool {
    std::ptr::eq(a.0, b.0) && std::ptr::eq(a.1, b.1) || a == b
}

/// What the work on a host needs beside the host.
pub(crate) struct Tools<'a> {
    pub(crate) config: &'a Config,
    pub(crate) interner: &'a mut Interner,
    pub(crate) ends: &'a mut Ends,
    pub(crate) counts: &'a mut Counts,
    pub(crate) out: &'a mut Pieces,
    pub(crate) templates: &'a mut Templates,
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
    /// Where the entity is; `None` if there is no room for it, and its points pass untouched.
    slot: Option<Slot>,
    class: Class,
    group: Option<Option<(GroupId, bool)>>,
    /// Where the next point's series probably is.
    guess: usize,
    /// The host's number in the batch, from 1.
    host: usize,
    /// The time of the last point, and the scrape before that.
    before: Option<(u64, Option<u64>)>,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    name: Box<str>,
    /// Distinct times of its points, rising.
    times: Vec<u64>,
    entities: Entities,
    pub(crate) groups: Groups,
    series: usize,
    /// Series that went into the fold and are to be closed.
    closing: Vec<(Slot, Arc<Ident>)>,
    /// Metrics heard of since the groups spoke.
    heard: HashSet<u64, Seeded>,
    /// The time the groups are to speak of; 0 = none.
    due: u64,
    spoken: u64,
    /// When the groups speak even if the host's time does not move on.
    pub(crate) deadline: Option<Instant>,
    pub(crate) arrived: Instant,
    /// Time of the last point for which there was no room.
    refused: Option<u64>,
    /// What its utilizations are shares of.
    cpus: Cpus,
    /// What its groups hold and have not written, as of when it was last asked for; `None` since something changed.
    pending: Option<Sum>,
    /// What an earlier run wrote of it is lost: what began no later than this may have been written, and opens anew.
    pub(crate) reopens: Option<u64>,
}

impl Host {
    pub(crate) fn new(name: &str, now: Instant) -> Self {
        Host {
            name: name.into(),
            times: Vec::new(),
            entities: Entities::default(),
            groups: Groups::default(),
            series: 0,
            closing: Vec::new(),
            heard: HashSet::default(),
            due: 0,
            spoken: 0,
            deadline: None,
            arrived: now,
            refused: None,
            cpus: Cpus::default(),
            pending: None,
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
        self.pending = None;
    }

    /// What its groups hold and have not written.
    pub(crate) fn pending(&mut self) -> &Sum {
        let Host { pending, groups, .. } = self;
        pending.get_or_insert_with(|| {
            let mut sum = Sum::default();
            groups.iter().for_each(|group| group.pending(&mut sum));
            sum
        })
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

    /// Where it has a resource of these very bytes. If it has none, it may be its resource nevertheless.
    pub(crate) fn sight(&self, resource: Resource<'_>) -> Option<Sighting> {
        self.entities.sight(resource)
    }

    /// Has the cache fetch the series of two entities that come later: of the `far` one where they are, of the nearer one what it
    /// found there.
    #[inline]
    pub(crate) fn fetch(&self, [far, near]: [Option<Sighting>; 2]) {
        if let Some(entity) = far.and_then(|seen| self.entities.seen(seen)) {
            entity.series.fetch_rows();
        }
        if let Some(entity) = near.and_then(|seen| self.entities.seen(seen)) {
            entity.series.rows().iter().take(1).for_each(Row::fetch);
        }
    }

    /// How many entities it knows.
    pub(crate) fn len(&self) -> usize {
        self.entities.len()
    }

    /// Finds the resource, or makes room for it.
    pub(crate) fn visit(
        &mut self,
        (resource, seen): (Resource<'_>, Option<Sighting>),
        (host, time): (usize, u64),
        (verdict, class): (Verdict, Class),
        tools: &mut Tools<'_>,
    ) -> Visit {
        let slot = match self.entities.find(resource, seen, tools.interner) {
            Ok(slot) => {
                if let Some(entity) = self.entities.get_mut(slot).filter(|entity| !is_same(entity.verdict, verdict)) {
                    tools.counts.entity(entity.verdict, -1);
                    tools.counts.entity(verdict, 1);
                    entity.verdict = verdict;
                }
                Some(slot)
            }
            Err(keyed) => self.admit((resource, &keyed), time, verdict, tools),
        };
        Visit { slot, class, group: None, guess: 0, host, before: None }
    }

    /// Makes room for a resource that is not there; where it is, `None` if there is none.
    #[cold]
    fn admit(
        &mut self,
        (resource, keyed): (Resource<'_>, &Keyed),
        time: u64,
        verdict: Verdict,
        tools: &mut Tools<'_>,
    ) -> Option<Slot> {
        if self.is_full(tools.config) {
            self.make_room(time, tools.counts);
        }
        if self.is_full(tools.config) {
            self.refused = Some(time);
            return None;
        }
        let entity = Entity {
            key: keyed.key,
            resource: tools.interner.share(encode_resource(resource, keyed)),
            series: Table::with_room(resource.live_points().min(SERIES_PER_ENTITY)),
            group: None,
            is_group: is_group(resource, &tools.config.group_by),
            verdict,
            usage: Usage::default(),
        };
        tools.counts.entity(verdict, 1);
        Some(self.entities.insert(entity))
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
        self.entities.retain(|entity| {
            let table = &entity.series;
            let stays = !table.rows().is_empty() || table.iter().any(|series| !series.life.ended);
            if !stays {
                *count -= entity.series.len();
                counts.entity(entity.verdict, -1);
            }
            stays
        });
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
        self.due = 0;
        self.pending = None;
        let since = std::mem::replace(&mut self.spoken, time);
        self.close_folded(time, tools);
        self.groups.iter_mut().for_each(|group| group.clear_levels());
        self.walk(time, tools);
        let expiry = (nanos(tools.config.group_expiry), nanos(tools.config.member_expiry));
        self.groups.close_idle(time, expiry, tools.entities, tools.out);
        let heard = std::mem::take(&mut self.heard);
        // A sum over attributes has the resource of an entity or a group.
        let alone = !self.groups.iter().any(Group::is_rest);
        let mut said = Vec::new();
        for group in self.groups.iter_mut() {
            let exported = &mut tools.ends.exported;
            group.use_cpus((since, time), self.cpus);
            let out = (&mut *tools.templates, &mut said, &mut *tools.out);
            group.speak((time, alone), tools.entities, |desc| heard.contains(&desc.id), exported, out);
        }
    }

    /// Closes what went into the fold at an earlier time and has not come back.
    fn close_folded(&mut self, time: u64, tools: &mut Tools<'_>) {
        let Host { closing, entities, .. } = self;
        closing.retain(|(entity, series)| {
            let Some(entity) = entities.get_mut(*entity) else { return false };
            // What is in a row has nothing to be closed.
            let place = entity.series.place(series, 0);
            let Some(series) = place.and_then(|place| entity.series.get_mut(place)) else { return false };
            // As a delta it may have had nothing to say yet: then there is nothing to close.
            series.life.closing &= series.shown;
            if series.life.closing {
                series.close(&entity.resource, time, tools.out);
            }
            series.life.closing
        });
    }

    /// Counts the members of the groups, adds up their levels, and forgets what has been silent for too long.
    fn walk(&mut self, time: u64, tools: &mut Tools<'_>) {
        let expiry = nanos(tools.config.member_expiry);
        let Host { entities, groups, series: count, cpus, .. } = self;
        cpus.begin();
        entities.retain(|entity| {
            let Entity { resource, series, usage, .. } = entity;
            cpus.learn(usage, time);
            let is_silent = |series: &Series| series.life.last.time.saturating_add(expiry) < time;
            let is_gone = |row: &Row| row.time().saturating_add(expiry) < time;
            if series.iter().any(is_silent) || series.rows().iter().any(is_gone) {
                series.unpack_all();
                series.retain(|series| {
                    let silent = is_silent(series);
                    if silent {
                        series.close(resource, time, tools.out);
                        *count -= 1;
                    }
                    !silent
                });
            }
            let mut counted = false;
            for row in series.rows() {
                let Holder::Group(id) = row.holder() else { continue };
                let Some(group) = groups.get(id) else { continue };
                counted |= group.named_by(!counted);
                row.tell(group);
            }
            for series in series.iter_mut() {
                let Holder::Group(id) = series.life.holder else { continue };
                let Some(group) = groups.get(id) else { continue };
                counted |= group.named_by(!counted && !series.life.ended);
                if series.in_group {
                    series.tell(group);
                }
            }
            if series.is_empty() {
                tools.counts.entity(entity.verdict, -1);
            }
            !series.is_empty()
        });
    }

    /// Takes the entities into the counts: the host was restored.
    pub(crate) fn enter(&self, counts: &mut Counts) {
        self.entities.iter().for_each(|entity| counts.entity(entity.verdict, 1));
    }

    /// Takes the entities out of the counts: the host is forgotten.
    pub(crate) fn leave(&self, counts: &mut Counts) {
        self.entities.iter().for_each(|entity| counts.entity(entity.verdict, -1));
    }
}

impl Entity {
    /// Whether these are the very bytes of its resource. If not, it may be its resource nevertheless.
    fn is_of(&self, resource: Resource<'_>) -> bool {
        let body = resource.body();
        let begin = match body.len() {
            ..0x80 => 2,
            0x80..0x4000 => 3,
            _ => return false,
        };
        let head = self.resource.get(..begin);
        let length = match head {
            Some([_, length]) => usize::from(*length),
            Some([_, low, high]) => usize::from(*low & 0x7f) | usize::from(*high) << 7,
            _ => return false,
        };
        length == body.len() && self.resource.get(begin..begin + length) == Some(body)
    }
}

/// A span of time as points count it.
fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
