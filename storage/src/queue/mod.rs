//! The queue: which segments there are, which is written, which is read, and what is under way.

mod open;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::aside::Aside;
use crate::files::{Files, Handle, Lock, write};
use crate::record::{NOTE, note};
use crate::segment::Segment;
use crate::{Error, Fsync, Id, Loss, Settings, Stats};

/// A queue in a directory of its own.
#[derive(Debug)]
pub struct Queue {
    files: Arc<dyn Files>,
    dir: PathBuf,
    settings: Settings,
    _lock: Box<dyn Lock>,
    aside: Aside,

    segments: BTreeMap<u64, Segment>,
    /// Sum of what the segments cost.
    bytes: u64,
    /// Number of the next segment.
    number: u64,
    /// Records and points ever appended, as far as that is known.
    ever: (u64, u64),

    /// The youngest segment, while it is written to.
    active: Option<(u64, Box<dyn Handle>)>,
    /// Segments to be synced: with their file where they were left since, without it the active one and what an earlier
    /// opening wrote, which may have been killed before its sync.
    unsynced: BTreeMap<u64, Option<Box<dyn Handle>>>,
    /// Names were added since the directory was synced.
    unsynced_names: bool,
    /// Since when something waits to be synced, as [`Queue::sync_if_due`] saw it.
    unsynced_since: Option<Instant>,

    /// Where the next record is looked for.
    cursor: Id,
    /// Handed out.
    under_way: BTreeMap<Id, UnderWay>,
    given_back: BTreeSet<Id>,
    /// Times in a row that the medium failed.
    failures: u32,
    /// The segment that was read last, and the one that was noted in last: open.
    reader: Option<(u64, Box<dyn Handle>)>,
    noter: Option<(u64, Box<dyn Handle>)>,

    /// Counters only.
    counted: Stats,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    loss: Loss,
    /// Its segment is; it can no longer be given back.
    gone: Option<Gone>,
}

/// Why a segment is gone before it was finished.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Size,
    Age,
    Missing,
}

impl Queue {
    fn is_old(&self, enqueued: u64, now: u64) -> bool {
        // A clock that was put back makes nothing old.
        self.settings.max_age.is_some_and(|max_age| u128::from(now.saturating_sub(enqueued)) > max_age.as_nanos())
    }

    /// The record is done with, in whatever order; false if it is not handed out.
    pub fn finish(&mut self, id: Id) -> bool {
        let Some(record) = self.under_way.remove(&id) else { return false };
        if record.gone.is_none() {
            self.complete(id.segment, id.offset, id.offset + record.loss.bytes, record.loss);
        }
        true
    }

    /// The record is to be handed out again, before younger ones; false if it is not handed out, or was evicted meanwhile
    /// and is now lost.
    pub fn give_back(&mut self, id: Id) -> bool {
        let Some(record) = self.under_way.remove(&id) else { return false };
        match record.gone {
            Some(gone) => self.count(gone, record.loss),
            None => drop(self.given_back.insert(id)),
        }
        record.gone.is_none()
    }

    /// A stretch of a segment is done with, and is not handed out again.
    fn complete(&mut self, number: u64, from: u64, to: u64, loss: Loss) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        if segment.complete(from, to, loss) && !self.delete_if_finished(number) {
            self.note(number, from, to);
        }
    }

    /// Writes down that a stretch is done with. If that fails it is handed out again after a restart.
    fn note(&mut self, number: u64, from: u64, to: u64) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        if self.noter.as_ref().is_none_or(|(noter, _)| *noter != number) {
            let path = self.dir.join(segment.name.notes());
            self.noter = self.files.open_to_write(&path).ok().map(|handle| (number, handle));
        }
        let bytes = note(segment.name.mark, from, to);
        match &self.noter {
            Some((_, handle)) if write(&**handle, &bytes, segment.notes).is_ok() => segment.notes += NOTE as u64,
            _ => {
                self.noter = None;
                self.counted.unnoted += 1;
            }
        }
    }

    /// Evicts what is older than `max_age`, whole segments at a time ([`Queue::next`] is exact to the record).
    pub fn expire(&mut self, now: u64) {
        let old = |segment: &&Segment| segment.live.records > 0 && self.is_old(segment.newest, now);
        let old: Vec<u64> = self.segments.values().filter(old).map(|segment| segment.name.number).collect();
        for number in old {
            // What cannot be deleted now is tried again by the next call.
            let _ = self.evict(number, Gone::Age);
        }
    }

    /// Deletes a segment and counts what was not finished in it.
    fn evict(&mut self, number: u64, gone: Gone) -> Result<(), Error> {
        self.delete(number)?;
        self.lose(number, gone);
        Ok(())
    }

    /// Counts what was not finished in a segment that is gone. What is handed out of it is under way nevertheless, and is
    /// counted when it is given back.
    fn lose(&mut self, number: u64, gone: Gone) {
        let Some(segment) = self.forget(number) else { return };
        let mut loss = segment.live;
        for (id, record) in self.under_way.range_mut(Id { segment: number, offset: 0 }..) {
            if id.segment != number {
                break;
            }
            if !segment.is_done(id.offset) {
                record.gone = Some(gone);
                loss.remove(record.loss);
            }
        }
        self.count(gone, loss);
    }

    fn count(&mut self, gone: Gone, loss: Loss) {
        match gone {
            Gone::Size => self.counted.evicted_size.add(loss),
            Gone::Age => self.counted.evicted_age.add(loss),
            Gone::Missing => self.counted.damaged.missing.add(loss),
        }
    }

    /// Deletes a segment that is finished and no longer written to; false if it stays.
    fn delete_if_finished(&mut self, number: u64) -> bool {
        let active = self.active.as_ref().is_some_and(|(active, _)| *active == number);
        let finished =
            self.segments.get(&number).is_some_and(|segment| segment.live.records == 0 && !segment.unreadable);
        let deleted = finished && !active && self.delete(number).is_ok();
        if deleted {
            self.forget(number);
        }
        deleted
    }

    /// Deletes a segment's files: the records first, since without its notes a segment is handed out again.
    fn delete(&self, number: u64) -> Result<(), Error> {
        let Some(segment) = self.segments.get(&number) else { return Ok(()) };
        let path = self.dir.join(segment.name.segment());
        match self.files.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            _ => {}
        }
        if segment.notes > 0 {
            // The next opening deletes what is left.
            let _ = self.files.remove(&self.dir.join(segment.name.notes()));
        }
        Ok(())
    }

    /// Takes a segment out of the books.
    fn forget(&mut self, number: u64) -> Option<Segment> {
        self.active.take_if(|(active, _)| *active == number);
        self.reader.take_if(|(reader, _)| *reader == number);
        self.noter.take_if(|(noter, _)| *noter == number);
        self.unsynced.remove(&number);
        self.given_back.retain(|id| id.segment != number);
        let segment = self.segments.remove(&number)?;
        self.bytes -= segment.cost;
        Some(segment)
    }

    /// What the queue holds and what was lost since it was opened.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { bytes: self.bytes, ..self.counted };
        for segment in self.segments.values() {
            stats.records += segment.live.records;
            stats.points += segment.live.points;
            stats.oldest = stats.oldest.into_iter().chain(segment.oldest).min();
        }
        stats
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.settings.fsync != Fsync::Never {
            let _ = self.sync();
        }
        self.leave_segment();
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { operation, path: path.to_owned(), source }
}
