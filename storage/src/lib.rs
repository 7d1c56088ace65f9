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

mod aside;
pub mod files;
mod queue;
mod ranges;
mod record;
mod segment;

use std::path::PathBuf;
use std::time::Duration;

pub use queue::Queue;

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

impl Loss {
    fn add(&mut self, more: Loss) {
        self.records = self.records.saturating_add(more.records);
        self.points = self.points.saturating_add(more.points);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    fn remove(&mut self, less: Loss) {
        self.records = self.records.saturating_sub(less.records);
        self.points = self.points.saturating_sub(less.points);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
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
    /// A whole segment file is gone.
    pub missing: Loss,
    /// The medium gives an error where the record is.
    pub unreadable: Loss,
    /// Files that are none of this version's, moved away as they were; how many records that is, nobody knows.
    pub foreign: Loss,
}
