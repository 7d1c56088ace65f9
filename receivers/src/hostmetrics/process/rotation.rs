//! Which processes' costly files are read in a scrape: of all who have series of their own or did anything, and of the others
//! in turns.
//!
//! `stat` and `statm` are read of everybody. A process that leaves in a group, as the pipeline says of the scrape before, and
//! whose CPU times and page faults have not moved since its costly files were read, has done next to nothing since: less than a
//! clock tick's worth. Its files are then read every `folded_interval` only, spread over the scrapes. Nobody sees a gap: it
//! has no series of its own, and its group counts what was read late. Whoever is new, does something, or is not known to be
//! folded is read in full.

use std::time::{Duration, Instant};

use phoenix_pipeline::folded::{Folded, Question};
use phoenix_pipeline::{Instrument, Level};

use super::reading::Stat;

pub(super) static DEFERRED: Instrument = Instrument {
    name: "phoenix_scrape_deferred_processes_total",
    unit: "{process}",
    description: "Processes whose costly files (io, status, fd) a scrape left for a later one, as folded_interval allows.",
    level: Level::Normal,
};

/// The first reading after a process was met comes at one of so many parts of the interval, so that not all come at once.
const PARTS: u32 = 64;

/// What a process had done when its costly files were read last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costly {
    due: Instant,
    work: [u64; 4],
}

/// Decides, and asks the pipelines.
#[derive(Debug)]
pub(crate) struct Rotation {
    interval: Duration,
    folded: Folded,
    question: Option<Question>,
    /// How many pipelines had the scrape before.
    pipelines: usize,
    deferred: metrics::Counter,
}

impl Rotation {
    /// `None` where everything is read at every scrape.
    pub(super) fn new(interval: Duration, folded: &Folded, deferred: metrics::Counter) -> Option<Self> {
        let rotation = || Self { interval, folded: folded.clone(), question: None, pipelines: 0, deferred };
        (!interval.is_zero()).then(rotation)
    }

    /// The scrape of this time is about to be sent to so many pipelines.
    pub(crate) fn ask(&mut self, time: u64, pipelines: usize) {
        self.question = Some(self.folded.ask(time));
        self.pipelines = pipelines;
    }

    /// Whether the costly files of a process are left for a later scrape. `last` is what it had done when they were read.
    pub(super) fn defers(&self, pid: u32, stat: &Stat, last: Option<&Costly>, now: Instant) -> bool {
        let rests = last.is_some_and(|last| last.work == work(stat) && now < last.due);
        let is_deferred = rests && self.question.as_ref().is_some_and(|asked| asked.is_folded(pid, self.pipelines));
        self.deferred.increment(u64::from(is_deferred));
        is_deferred
    }

    /// The costly files of a process were read.
    pub(super) fn read(&self, pid: u32, stat: &Stat, last: Option<&Costly>, now: Instant) -> Costly {
        let wait = if last.is_some() { self.interval } else { self.interval * (pid % PARTS + 1) / PARTS };
        Costly { due: now + wait, work: work(stat) }
    }
}

/// What changes when a process runs.
fn work(stat: &Stat) -> [u64; 4] {
    [stat.user, stat.system, stat.minor_faults, stat.major_faults]
}
