//! A queue on disk for opaque records, one writer and its readers, that keeps one promise:
//!
//! what was appended (and synced, as the settings say) is read back unaltered and at least once, after `kill -9` at any
//! moment, after a crash between any two file operations, and around any damage of the medium; damage is detected, counted
//! by reason and set aside, and never keeps the queue from opening.
//!
//! It knows nothing of what it stores, never deletes what was not finished, evicted by a configured limit or found to be
//! damaged, and starts no thread: every call blocks on the disk, so a [`Queue`] lives on a thread of its own, and those who
//! send talk to that thread. `docs/reliability.md` describes the format and answers fault by fault.
#![forbid(unsafe_code)]
#![allow(unused_variables, clippy::todo)] // the types come first; the code follows

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How large and how old the queue may grow, and what a crash of the machine may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes on disk, 1 GiB by default: hours of one host's metrics, and small beside what a disk holds.
    pub max_bytes: u64,
    /// Age at which a record is evicted; none by default: the size alone decides.
    pub max_age: Option<Duration>,
    /// Bytes at which a new segment file is begun, 16 MiB by default and at most an eighth of `max_bytes`: space is freed
    /// and evicted by the segment. A record that is larger has a segment to itself.
    pub segment_bytes: u64,
    /// When what was written is made safe against power loss.
    pub fsync: Fsync,
}

/// When written data are made safe against power loss (`fdatasync`). A killed process loses nothing that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// At most this long after it was written; zero: before the next [`Queue::sync_if_due`] returns.
    Within(Duration),
    /// When the kernel sees fit; [`Queue::sync`] still syncs.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_bytes: 1 << 30,
            max_age: None,
            segment_bytes: 16 << 20,
            fsync: Fsync::Within(Duration::from_millis(100)),
        }
    }
}

/// A record's place in the queue; ordered as records were appended. Unique for as long as the queue is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    segment: u64,
    offset: u64,
}

/// One record, handed out by [`Queue::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Names it in [`Queue::finish`] and [`Queue::give_back`].
    pub id: Id,
    /// What was appended, unaltered (checksummed).
    pub payload: Vec<u8>,
    /// Data points, as given to [`Queue::append`].
    pub points: u64,
    /// When it was appended, nanoseconds since 1970.
    pub enqueued: u64,
}

/// What to do where a record does not fit under `max_bytes` or on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// The record is refused.
    Refuse,
    /// The oldest segments are evicted until it fits.
    EvictOldest,
}

/// Why a record was not appended. Nothing of it is in the queue then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The queue is at `max_bytes`; later, when records are finished, there is room again.
    #[error("the queue holds {bytes} of at most {max_bytes} bytes")]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The record alone is larger than `max_bytes` (or than 4 GiB); final.
    #[error("a record of {bytes} bytes is more than the whole queue may hold ({max_bytes} bytes)")]
    TooLarge {
        /// Bytes of the record on disk.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The disk (or the quota) is full; it works again by itself when space returns.
    #[error("no space: {0}")]
    NoSpace(#[source] Error),
    /// The disk refused for another reason: read-only, out of descriptors, broken. It works again when that has passed.
    #[error(transparent)]
    Io(Error),
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {operation}: {source}", path.display())]
pub struct Error {
    /// What was attempted.
    pub operation: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// Why a queue could not be opened: never because of what its files contain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another queue of this one, has it open.
    #[error("{}: held by another running agent", .0.display())]
    Held(PathBuf),
    /// The directory cannot be made, listed or locked.
    #[error(transparent)]
    Io(#[from] Error),
}

/// What the queue holds and what became of what it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records that are not finished, those handed out included.
    pub records: u64,
    /// Their data points.
    pub points: u64,
    /// Bytes on disk; what is finished counts until its segment is deleted.
    pub bytes: u64,
    /// When the oldest unfinished record was appended (to within a segment), nanoseconds since 1970.
    pub oldest: Option<u64>,
    /// Evicted since opening because the queue was full.
    pub evicted_size: Loss,
    /// Evicted since opening because of their age.
    pub evicted_age: Loss,
    /// Found damaged since opening.
    pub damaged: Damage,
    /// Failed attempts to note that a record is finished: it is handed out again after a restart.
    pub unnoted: u64,
}

/// A loss, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Records.
    pub records: u64,
    /// Their data points.
    pub points: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

/// Damage by what was seen. Records and points are exact where a whole record follows, else what is known at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The end is missing: a write that a crash cut short (then it was never acknowledged), or a cut file.
    pub cut: Loss,
    /// The checksum of a record's header does not hold.
    pub header: Loss,
    /// The checksum of a record's payload does not hold.
    pub payload: Loss,
    /// The medium gives an error where the record is.
    pub unreadable: Loss,
    /// Files that are none of this version's, moved away as they were; counted as records of unknown points.
    pub foreign: Loss,
}

/// A queue in a directory of its own.
#[derive(Debug)]
pub struct Queue {}

impl Queue {
    /// Opens the queue in `dir`, which is made (0700) where it is missing. What earlier openings left unfinished is handed
    /// out again, before anything new; [`Queue::stats`] says how much that is and what was damaged.
    ///
    /// # Errors
    /// The directory is in use, or cannot be made, listed or locked. Never because of what is in it.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        todo!()
    }

    /// Writes one record: the parts, one after the other, are its payload. It may be handed out at once. It survives the end of
    /// this process when this returns, and power loss after the next [`Queue::sync`].
    /// `now` is nanoseconds since 1970.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing of the record is in the queue then.
    pub fn append(&mut self, parts: &[&[u8]], points: u64, now: u64, on_full: OnFull) -> Result<Id, AppendError> {
        todo!()
    }

    /// Makes everything appended so far safe against power loss, at once.
    ///
    /// # Errors
    /// What was appended since the last sync may not be on the medium, though it is in the queue and will be handed out:
    /// whoever waits for it must be refused. A later sync speaks only for what is appended after this.
    pub fn sync(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Syncs if the settings say that it is time: after a group of appends, and at [`Queue::sync_due`]. When it returns
    /// without an error, every record appended so far is as safe as the settings ask.
    ///
    /// # Errors
    /// As [`Queue::sync`].
    pub fn sync_if_due(&mut self, now: Instant) -> Result<(), Error> {
        todo!()
    }

    /// When [`Queue::sync_if_due`] has something to do; none while there is nothing to sync.
    pub fn sync_due(&self) -> Option<Instant> {
        todo!()
    }

    /// The oldest record that is neither handed out nor finished; none when there is none. Those given back come first.
    /// Records older than `max_age` are evicted on the way. `now` is nanoseconds since 1970.
    ///
    /// # Errors
    /// The file cannot be read now; the same record is tried again by the next call, and passed over as damaged when the
    /// medium fails three times.
    pub fn next(&mut self, now: u64) -> Result<Option<Record>, Error> {
        todo!()
    }

    /// The record is done with, in whatever order; false if it is not handed out (any more).
    pub fn finish(&mut self, id: Id) -> bool {
        todo!()
    }

    /// The record is to be handed out again, before younger ones; false if it is not handed out, or was evicted meanwhile.
    pub fn give_back(&mut self, id: Id) -> bool {
        todo!()
    }

    /// Evicts what is older than `max_age`, whole segments at a time ([`Queue::next`] is exact to the record).
    pub fn expire(&mut self, now: u64) {
        todo!()
    }

    /// What the queue holds and what was lost since it was opened.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
