//! The processes that are followed, and one scrape of all of them.
//!
//! A process is its id and its start: an id that comes back with another start is another process. What is kept per process is
//! bounded, and so is their number. A process that is gone is closed once and forgotten; where its CPU time went on after its
//! last reading, that is said first, and the closing waits for the next scrape.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use phoenix_telemetry::{BatchBuilder, Head};
use rapidhash::RapidHashMap;

use super::balance::Balance;
use super::exits::{self, Exit, Kin, Ticks, Times};
use super::facts::{FactReader, Facts};
use super::files::{Failure, Files, Source};
use super::measure::{Measure, grown};
use super::metrics::{Metric, Values};
use super::project::{Entity, Projection, Written};
use super::reading::{self, Ran, Stat};
use super::rest::Rest;
use super::rotation::{Costly, Rotation};
use super::trouble::{Cause, Troubles};
use crate::hostmetrics::census::{Census, CensusDesk};
use crate::hostmetrics::scraper::{Moment, Outcome};

/// User and control group are looked at again after this time; they change rarely, and reading them costs as much as a scrape.
const RENEW_AFTER: Duration = Duration::from_secs(300);

/// Renewals of processes that were first seen together are spread over this many seconds.
const RENEW_SPREAD: u32 = 60;

/// What is known of one process.
#[derive(Debug)]
struct Tracked {
    /// As it was when last there. Its start, with the id, is the identity.
    stat: Stat,
    rest: Rest,
    /// `None`: left out by name.
    facts: Option<Facts>,
    /// Its resource as it was written last.
    head: Option<Head>,
    written: Written,
    /// The scrape in which it was last there.
    seen: u64,
    /// When its facts are to be read again; `None`: at the next scrape, since programs set themselves up after they start.
    renew: Option<Instant>,
    /// Its CPU times when it was last there; `None`: not read yet.
    times: Option<Times>,
    /// How much those that it waited for grew between its last two readings.
    waited: Option<Ticks>,
    /// When its costly files were read last, if that matters.
    costly: Option<Costly>,
}

pub(crate) struct Table {
    /// By a hash that is several times as fast as the standard one; the kernel's ids crowd no place of it. Boxed, as half of a
    /// map's places are empty.
    processes: RapidHashMap<u32, Box<Tracked>>,
    max: usize,
    full: bool,
    scrapes: u64,
    /// Time of the scrape before, nanoseconds since the Unix epoch.
    before: Option<u64>,
    pids: Vec<u32>,
    /// Listed in this scrape and then gone: what they used after their last reading is asked for at the next one, when
    /// their parents' times are sure to hold it.
    late: Vec<u32>,
    /// Gone, with a last value written at the scrape before: to be closed.
    ending: Vec<(u32, Box<Tracked>)>,
    /// Gone, and their ids taken by others since.
    replaced: Vec<Exit>,
    balance: Balance,
    delay: Duration,
    files: Files,
    facts: FactReader,
    measure: Measure,
    projection: Projection,
    troubles: Troubles,
    rotation: Option<Rotation>,
    census: Census,
    census_desk: CensusDesk,
}

/// What a [`Table`] is made of.
pub(crate) struct Parts {
    pub max: usize,
    pub delay: Duration,
    pub files: Files,
    pub facts: FactReader,
    pub measure: Measure,
    pub projection: Projection,
    pub troubles: Troubles,
    pub balance: Balance,
    pub rotation: Option<Rotation>,
    pub census: CensusDesk,
}

impl Table {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { max, delay, files, facts, measure, projection, troubles, balance, rotation, census } = parts;
        Self {
            processes: RapidHashMap::default(),
            max,
            full: false,
            scrapes: 0,
            before: None,
            pids: Vec::new(),
            late: Vec::new(),
            ending: Vec::new(),
            replaced: Vec::new(),
            balance,
            delay,
            files,
            facts,
            measure,
            projection,
            troubles,
            rotation,
            census: Census::default(),
            census_desk: census,
        }
    }

    /// Whose costly files are left for a later scrape; `None` if nobody's are.
    pub(crate) fn rotation(&mut self) -> Option<&mut Rotation> {
        self.rotation.as_mut()
    }

    /// Reads and writes every process once.
    pub(crate) fn scrape(&mut self, at: &Moment, out: &mut BatchBuilder) -> Outcome {
        self.scrapes += 1;
        self.facts.owners.refresh(at.now);
        self.measure.begin();
        let mut points = 0;
        let mut pids = std::mem::take(&mut self.pids);
        match self.files.pids(&mut pids) {
            Ok(()) => {
                // Parents before their children: then what a parent has waited for is gone, and what is read later is not in it.
                pids.sort_by_cached_key(|pid| {
                    (self.processes.get(pid).map_or(u64::MAX, |known| known.stat.start), *pid)
                });
                let ended = std::mem::take(&mut self.ending);
                for pid in &pids {
                    points += self.process(*pid, at, out);
                }
                self.census_desk.leave(at, std::mem::take(&mut self.census));
                points += self.close_ended(&ended, at, out);
                points += self.part_with_gone(at, out);
                self.balance.close(self.measure.cpus().map(|(_, busy)| busy));
                self.before = Some(at.unix_nanos);
            }
            Err(error) => self.troubles.note(Source::Processes, &Cause::Io(error), 0, self.processes.len().max(1)),
        }
        self.pids = pids;
        Outcome { points, errored: self.troubles.take() + self.measure.take_errored() }
    }

    /// What `stat` said of a process that has not run since, and still has its parent; and how it has run up to now.
    fn resting(&mut self, pid: u32) -> (Option<Stat>, Option<Ran>) {
        let known = self.processes.get(&pid);
        self.files.set_busy(known.is_some_and(|known| known.rest.was_read()));
        if known.is_some_and(|known| !Rest::is_told(&known.stat)) {
            return (None, None);
        }
        let ran = self.files.ran(pid);
        let Some(known) = known.filter(|known| known.rest.goes_on(ran)) else { return (None, ran) };
        // Parents were looked at before. The id 0 stands for one that cannot be seen from here, and so does its heir.
        let parent = u32::try_from(known.stat.parent).ok().and_then(|parent| self.processes.get(&parent));
        let has_parent = parent.is_some_and(|parent| {
            parent.seen == self.scrapes && !parent.stat.ended() && parent.stat.start <= known.stat.start
        });
        ((known.stat.parent == 0 || has_parent).then_some(known.stat), ran)
    }

    fn process(&mut self, pid: u32, at: &Moment, out: &mut BatchBuilder) -> usize {
        let (resting, ran) = self.resting(pid);
        let stat = match resting {
            Some(stat) => Ok(stat),
            None => match self.files.read(pid, Source::Stat) {
                Ok(text) => reading::stat(text.bytes).map_err(Cause::from),
                Err(Failure::Gone) => {
                    if self.processes.get(&pid).is_some_and(|known| known.seen + 1 == self.scrapes) {
                        self.late.push(pid);
                    }
                    return 0;
                }
                Err(Failure::Failed(error)) => Err(error.into()),
            },
        };
        self.census.add(stat.as_ref().ok().map(|stat| stat.state));
        let stat = match stat {
            Ok(stat) => stat,
            Err(cause) => {
                self.troubles.note(Source::Stat, &cause, pid, 1);
                return 0;
            }
        };
        let Some(mut points) = self.identify(pid, &stat, at, out) else { return 0 };
        let Some(tracked) = self.processes.get_mut(&pid) else { return points };
        if resting.is_none() {
            tracked.rest.read(&stat, ran);
        } else if tracked.rest.spared() {
            self.files.close_busy(pid);
        }
        tracked.stat = stat;
        let times = self.measure.times(&stat, tracked.times.as_ref(), at);
        let before = tracked.times.replace(times);
        tracked.waited = before.map(|before| grown(times.waited, before.waited));
        let Some(facts) = &tracked.facts else { return points };
        let age = self.measure.age(&stat);
        if age.is_some_and(|age| age < self.delay.as_secs_f64()) && tracked.written.is_empty() {
            return points;
        }
        let mut deferred = false;
        if let Some(rotation) = &self.rotation {
            deferred = rotation.defers(pid, &stat, tracked.costly.as_ref(), at.now);
            if !deferred {
                tracked.costly = Some(rotation.read(pid, &stat, tracked.costly.as_ref(), at.now));
            }
        }
        let times = (&times, before.as_ref());
        let (io, files) = (&mut tracked.rest.io, &mut self.files);
        let values = self.measure.read(pid, &stat, age, times, deferred, io, files, &mut self.troubles);
        let entity = Entity { pid, parent: stat.parent, start: self.measure.start(stat.start), facts };
        let (head, before_it) = (&mut tracked.head, tracked.written);
        let (written, count) = self.projection.write_on(entity, head, &values, before_it, at.unix_nanos, out);
        let used = match before.filter(|_| tracked.written.has(Metric::CpuTime)) {
            Some(before) => grown(times.0.own, before.own),
            None if self.before.is_some_and(|before| entity.start > before) => times.0.own,
            None => [0; 2],
        };
        if written.has(Metric::CpuTime) {
            self.balance.count(used.iter().sum::<u64>() as f64);
        }
        tracked.written = written;
        points += count;
        points
    }

    /// Finds out who `pid` is and brings the table up to date; a former identity under the same id is closed. Returns the points
    /// written, or `None` if the process vanished meanwhile or cannot be followed.
    fn identify(&mut self, pid: u32, stat: &Stat, at: &Moment, out: &mut BatchBuilder) -> Option<usize> {
        let full = self.processes.len() >= self.max;
        let (facts, second_look) = match self.processes.entry(pid) {
            Entry::Occupied(mut known) => {
                let tracked = known.get_mut();
                if tracked.stat.start == stat.start && tracked.stat.comm == stat.comm {
                    // Who has ended stays who it was: its files are empty by now.
                    let due = !stat.ended() && tracked.renew.is_none_or(|renew| at.now >= renew);
                    if !due && tracked.stat.parent == stat.parent {
                        tracked.seen = self.scrapes;
                        return Some(0);
                    }
                    let facts = match &tracked.facts {
                        Some(_) if due && tracked.renew.is_none() => {
                            self.facts.read(pid, &stat.comm, &mut self.files, &mut self.troubles)
                        }
                        Some(old) if due => self.facts.renew(pid, &stat.comm, old, &mut self.files, &mut self.troubles),
                        old => Ok(old.clone()),
                    };
                    (facts, true)
                } else {
                    (self.facts.read(pid, &stat.comm, &mut self.files, &mut self.troubles), false)
                }
            }
            Entry::Vacant(_) if full => {
                self.troubles.missed(1);
                if !std::mem::replace(&mut self.full, true) {
                    tracing::warn!(
                        scraper = "process",
                        max_processes = self.max,
                        "there are more processes than max_processes; the others are left out"
                    );
                }
                return None;
            }
            Entry::Vacant(_) => (self.facts.read(pid, &stat.comm, &mut self.files, &mut self.troubles), false),
        };
        let facts = facts.ok()?;
        let spread = Duration::from_secs(u64::from(pid % RENEW_SPREAD));
        let mut tracked = Tracked {
            stat: *stat,
            rest: Rest::default(),
            facts,
            head: None,
            written: Written::default(),
            seen: self.scrapes,
            renew: second_look.then(|| at.now + RENEW_AFTER + spread),
            times: None,
            waited: None,
            costly: None,
        };
        let Some(old) = self.processes.remove(&pid) else {
            self.processes.insert(pid, Box::new(tracked));
            return Some(0);
        };
        // What an identity used up to its end is known where the process lives on under another one.
        let tail = old.times.filter(|_| old.stat.start == tracked.stat.start).map(|times| {
            (tracked.times, tracked.rest) = (Some(times), old.rest);
            grown([stat.user, stat.system], times.own).map(|ticks| ticks as f64)
        });
        if tail.is_none() {
            self.replaced.extend(exit(pid, &old).map(Exit::untold));
        }
        // Under the same resource attributes a new life is a new start time of the same series, and nothing is closed.
        let mut points = 0;
        if self.is_same(pid, &old, &tracked) {
            tracked.written = old.written;
        } else {
            points = self.part(pid, old, tail.unwrap_or_default(), at, out);
        }
        self.processes.insert(pid, Box::new(tracked));
        Some(points)
    }

    /// Whether readers cannot tell the two apart.
    fn is_same(&self, pid: u32, one: &Tracked, other: &Tracked) -> bool {
        let both = self.entity(pid, one).zip(self.entity(pid, other));
        both.is_some_and(|(one, other)| self.projection.is_same(one, other))
    }

    /// How the process shows itself; `None` if it was left out by name.
    fn entity<'t>(&self, pid: u32, tracked: &'t Tracked) -> Option<Entity<'t>> {
        let facts = tracked.facts.as_ref()?;
        Some(Entity { pid, parent: tracked.stat.parent, start: self.measure.start(tracked.stat.start), facts })
    }

    fn close(&self, pid: u32, tracked: &Tracked, at: &Moment, out: &mut BatchBuilder) -> usize {
        let Some(entity) = self.entity(pid, tracked).filter(|_| !tracked.written.is_empty()) else { return 0 };
        self.projection.write(entity, &Values::NONE, tracked.written, at.unix_nanos, out).1
    }

    /// Writes the CPU time at the end of a process and closes all else; `None` if no CPU time was ever written.
    fn write_last(
        &self,
        pid: u32,
        tracked: &Tracked,
        tail: [f64; 2],
        at: &Moment,
        out: &mut BatchBuilder,
    ) -> Option<(Written, usize)> {
        let times = tracked.times.filter(|_| tracked.written.has(Metric::CpuTime))?;
        let values = self.measure.last(&times, tail);
        Some(self.projection.write(self.entity(pid, tracked)?, &values, tracked.written, at.unix_nanos, out))
    }

    /// Closes a process, or says what it used after its last reading and closes it at the next scrape.
    fn part(
        &mut self,
        pid: u32,
        mut tracked: Box<Tracked>,
        tail: [f64; 2],
        at: &Moment,
        out: &mut BatchBuilder,
    ) -> usize {
        let used: f64 = tail.iter().sum();
        let last = if used > 0.0 { self.write_last(pid, &tracked, tail, at, out) } else { None };
        let Some((written, points)) = last else {
            return self.close(pid, &tracked, at, out);
        };
        self.balance.count(used);
        tracked.written = written;
        self.ending.push((pid, tracked));
        points
    }

    /// Closes those that were parted with at the scrape before, unless another life goes on in their series.
    fn close_ended(&self, ended: &[(u32, Box<Tracked>)], at: &Moment, out: &mut BatchBuilder) -> usize {
        let goes_on = |pid: u32, old: &Tracked| self.processes.get(&pid).is_some_and(|new| self.is_same(pid, old, new));
        let over = ended.iter().filter(|(pid, old)| !goes_on(*pid, old));
        over.map(|(pid, old)| self.close(*pid, old, at, out)).sum()
    }

    /// Processes that ended while this scrape was under way: their parents were read before they were waited for, so what
    /// they used up to their end is told at the next scrape. Until then their CPU time stands still; all else is closed.
    fn hold_late(&mut self, late: &[u32], at: &Moment, out: &mut BatchBuilder) -> usize {
        let mut points = 0;
        for pid in late {
            let Some(tracked) = self.processes.get(pid) else { continue };
            let last = self.write_last(*pid, tracked, [0.0; 2], at, out);
            let (written, count) = last.unwrap_or_else(|| (Written::default(), self.close(*pid, tracked, at, out)));
            points += count;
            if let Some(tracked) = self.processes.get_mut(pid) {
                tracked.written = written;
            }
        }
        points
    }

    /// Parts with the processes that were not there this time.
    fn part_with_gone(&mut self, at: &Moment, out: &mut BatchBuilder) -> usize {
        let scrapes = self.scrapes;
        let late = std::mem::take(&mut self.late);
        let is_gone = |pid: &u32, tracked: &Tracked| tracked.seen != scrapes && !late.contains(pid);
        let gone: Vec<(u32, Box<Tracked>)> = self.processes.extract_if(|pid, tracked| is_gone(pid, tracked)).collect();
        let mut exits: Vec<Exit> = gone.iter().filter_map(|(pid, tracked)| exit(*pid, tracked)).collect();
        exits.append(&mut self.replaced);
        let living = |pid: u32| {
            let known = self.processes.get(&pid).filter(|known| known.seen == scrapes)?;
            let ended = known.times.is_some_and(|times| times.threads == 0);
            Some(Kin { start: known.stat.start, parent: known.stat.parent, grown: known.waited, ended })
        };
        let tails = self.measure.cpus().filter(|_| !exits.is_empty()).map(|(cpus, _)| {
            let tails = exits::tails(&exits, living, at.now, (cpus, self.measure.ticks_per_second()));
            exits.iter().map(|exit| exit.pid).zip(tails).collect::<HashMap<_, _>>()
        });
        if !gone.is_empty() || self.full {
            self.files.close_others(|pid| self.processes.contains_key(&pid));
        }
        let mut points = self.hold_late(&late, at, out);
        for (pid, tracked) in gone {
            let tail = tails.as_ref().and_then(|tails| tails.get(&pid)).copied().unwrap_or_default();
            points += self.part(pid, tracked, tail, at, out);
        }
        // After a storm of processes the room is given back.
        if self.processes.capacity() > 4 * self.processes.len().max(256) {
            self.processes.shrink_to_fit();
        }
        points
    }

    /// How many processes are followed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.processes.len()
    }

    /// How many causes of missing readings were said.
    #[cfg(test)]
    pub(crate) fn causes(&self) -> usize {
        self.troubles.causes()
    }
}

/// The end of a process that was read before.
fn exit(pid: u32, tracked: &Tracked) -> Option<Exit> {
    tracked.times.map(|times| Exit { pid, start: tracked.stat.start, parent: tracked.stat.parent, times })
}
