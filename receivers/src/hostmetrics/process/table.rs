//! The processes that are followed, and one scrape of all of them.
//!
//! A process is its id and its start: an id that comes back with another start is another process. What is kept per process is
//! bounded, and so is their number. A process that is gone is closed once and forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use phoenix_telemetry::BatchBuilder;

use super::facts::{FactReader, Facts};
use super::files::{Failure, Files, Source};
use super::measure::{Measure, Span};
use super::metrics::Values;
use super::project::{Entity, Projection, Written};
use super::reading::{self, Comm, Stat};
use super::trouble::{Cause, Troubles};
use crate::hostmetrics::scraper::{Moment, Outcome};

/// User and control group are looked at again after this time; they change rarely, and reading them costs as much as a scrape.
const RENEW_AFTER: Duration = Duration::from_secs(300);

/// Renewals of processes that were first seen together are spread over this many seconds.
const RENEW_SPREAD: u32 = 60;

/// What is known of one process.
#[derive(Debug)]
struct Tracked {
    /// Clock ticks after boot; with the id, the identity.
    start: u64,
    comm: Comm,
    parent: i64,
    /// `None`: left out by name.
    facts: Option<Facts>,
    written: Written,
    /// The scrape in which it was last there.
    seen: u64,
    /// When its facts are to be read again; `None`: at the next scrape, since programs set themselves up after they start.
    renew: Option<Instant>,
    /// CPU times of the last scrape, for utilization.
    span: Option<Span>,
}

pub(crate) struct Table {
    processes: HashMap<u32, Tracked>,
    max: usize,
    full: bool,
    scrapes: u64,
    pids: Vec<u32>,
    delay: Duration,
    files: Files,
    facts: FactReader,
    measure: Measure,
    projection: Projection,
    troubles: Troubles,
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
}

impl Table {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { max, delay, files, facts, measure, projection, troubles } = parts;
        let (processes, pids) = (HashMap::new(), Vec::new());
        Self { processes, max, full: false, scrapes: 0, pids, delay, files, facts, measure, projection, troubles }
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
                for pid in &pids {
                    points += self.process(*pid, at, out);
                }
                points += self.close_gone(at, out);
            }
            Err(error) => self.troubles.note(Source::Processes, &Cause::Io(error), 0, self.processes.len().max(1)),
        }
        self.pids = pids;
        Outcome { points, errored: self.troubles.take() + self.measure.take_errored() }
    }

    fn process(&mut self, pid: u32, at: &Moment, out: &mut BatchBuilder) -> usize {
        let stat = match self.files.read(pid, Source::Stat) {
            Ok(text) => reading::stat(text.bytes).map_err(Cause::from),
            Err(Failure::Gone) => return 0,
            Err(Failure::Failed(error)) => Err(error.into()),
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(cause) => {
                self.troubles.note(Source::Stat, &cause, pid, 1);
                return 0;
            }
        };
        let Some(mut points) = self.identify(pid, &stat, at, out) else { return 0 };
        let Some(tracked) = self.processes.get_mut(&pid) else { return points };
        let Some(facts) = &tracked.facts else { return points };
        let age = self.measure.age(&stat);
        if age.is_some_and(|age| age < self.delay.as_secs_f64()) && tracked.written.is_empty() {
            return points;
        }
        let values = self.measure.read(pid, &stat, age, at, &mut tracked.span, &mut self.files, &mut self.troubles);
        let entity = Entity { pid, parent: tracked.parent, start: self.measure.start(tracked.start), facts };
        let (written, count) = self.projection.write(entity, &values, tracked.written, at.unix_nanos, out);
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
                if tracked.start == stat.start && tracked.comm == stat.comm {
                    // Who has ended stays who it was: its files are empty by now.
                    let due = !stat.ended && tracked.renew.is_none_or(|renew| at.now >= renew);
                    if !due && tracked.parent == stat.parent {
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
            start: stat.start,
            comm: stat.comm,
            parent: stat.parent,
            facts,
            written: Written::default(),
            seen: self.scrapes,
            renew: second_look.then(|| at.now + RENEW_AFTER + spread),
            span: None,
        };
        let Some(old) = self.processes.remove(&pid) else {
            self.processes.insert(pid, tracked);
            return Some(0);
        };
        if old.start == tracked.start {
            tracked.span = old.span;
        }
        // Under the same resource attributes a new life is a new start time of the same series, and nothing is closed.
        let mut points = 0;
        let (was, is) = (self.entity(pid, &old), self.entity(pid, &tracked));
        if was.zip(is).is_some_and(|(was, is)| self.projection.is_same(was, is)) {
            tracked.written = old.written;
        } else {
            points = self.close(pid, &old, at, out);
        }
        self.processes.insert(pid, tracked);
        Some(points)
    }

    /// How the process shows itself; `None` if it was left out by name.
    fn entity<'t>(&self, pid: u32, tracked: &'t Tracked) -> Option<Entity<'t>> {
        let facts = tracked.facts.as_ref()?;
        Some(Entity { pid, parent: tracked.parent, start: self.measure.start(tracked.start), facts })
    }

    fn close(&self, pid: u32, tracked: &Tracked, at: &Moment, out: &mut BatchBuilder) -> usize {
        let Some(entity) = self.entity(pid, tracked).filter(|_| !tracked.written.is_empty()) else { return 0 };
        self.projection.write(entity, &Values::NONE, tracked.written, at.unix_nanos, out).1
    }

    /// Closes and forgets the processes that were not there this time.
    fn close_gone(&mut self, at: &Moment, out: &mut BatchBuilder) -> usize {
        let gone: Vec<u32> =
            self.processes.iter().filter(|(_, tracked)| tracked.seen != self.scrapes).map(|(pid, _)| *pid).collect();
        let mut points = 0;
        for pid in gone {
            if let Some(tracked) = self.processes.remove(&pid) {
                points += self.close(pid, &tracked, at, out);
            }
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
