//! Where the books survive a restart: one file, and a marker that says whether it is as new as what was reported.
//!
//! The file is written under another name, synced and renamed, so it is whole or it is the one before. It names the boot
//! it is of and itself, by a random number. The first batch that leaves unwritten after a write creates the empty file
//! `behind.NUMBER`: one small call in an interval, not one a batch; a marker of another number says nothing. So a state
//! is as new as the last report if its marker is not there, whatever moment the agent was killed at. It names its process
//! too: a state that a stage finds of its own process is of a stage it was not handed over from, and of no use.

pub(crate) mod books;
pub(crate) mod code;
mod sealed;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Books;
use super::host::Host;
use super::own::Counts;
use books::Lost;
use code::Writer;
use sealed::Sealing;

/// A state beyond this is not kept: writing it would hold up the lane for seconds. Millions of series.
const LARGEST: u64 = 1 << 30;

/// The file, its successor while it is written, and one that cannot be read.
const FILE: &str = "state";
const NEXT: &str = "state.new";
const DAMAGED: &str = "state.damaged";

/// How soon a write is tried again by itself, however short the interval: a full disk is not filled by trying.
const RETRY: Duration = Duration::from_millis(100);

/// Where the kernel says which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Where the kernel says when this process started, in its 22nd field.
const STAT: &str = "/proc/self/stat";

/// A process of a boot: its id, and when it started, in ticks.
pub(crate) type Process = (u64, u64);

/// The state of one stage on the disk.
pub(crate) struct Store {
    directory: Arc<Path>,
    boot: Box<str>,
    process: Process,
    interval: Duration,
    /// What was there was read, or is of no use any more.
    restored: bool,
    /// The number of the file that is there.
    number: Option<u64>,
    /// There is something that is not in it.
    changed: bool,
    /// The marker says so.
    behind: bool,
    /// When it was last written, or ought to have been.
    written: Option<Instant>,
    /// The last write failed, which was logged.
    failing: bool,
}

impl Store {
    /// A state of this process and its boot; none where the kernel does not say which they are.
    pub(crate) fn of_this_process(directory: &Arc<Path>, interval: Duration) -> Option<Store> {
        let boot = fs::read_to_string(BOOT);
        match boot.and_then(|boot| Ok((boot, this_process()?))) {
            Ok((boot, process)) => Some(Store::new(directory, (boot.trim(), process), interval)),
            Err(error) => {
                tracing::warn!(%error, "{BOOT} or {STAT} cannot be read: groups begin anew at every restart");
                None
            }
        }
    }

    pub(crate) fn new(directory: &Arc<Path>, (boot, process): (&str, Process), interval: Duration) -> Store {
        Store {
            directory: Arc::clone(directory),
            boot: boot.into(),
            process,
            interval,
            restored: false,
            number: None,
            changed: false,
            behind: false,
            written: None,
            failing: false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn marker(&self, number: u64) -> PathBuf {
        self.path(&format!("behind.{number:016x}"))
    }

    /// Reads what an earlier run left, once.
    pub(crate) fn restore(&mut self, books: &mut Books, now: Instant, counts: &mut Counts) {
        if std::mem::replace(&mut self.restored, true) {
            return;
        }
        let found = match self.read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
            Ok(bytes) => self.open(&bytes, now, counts).map_err(str::to_owned),
        };
        let outcome = match found {
            Ok((books::Name { number, boot, process }, found)) => {
                self.number = Some(number);
                self.behind = self.marker(number).exists();
                let own = boot == *self.boot && process == self.process;
                if own {
                    // Others may have reported since, and it must not be taken for new even if the next write never comes.
                    self.fall_behind(counts);
                }
                let behind = self.behind || own;
                if behind || boot != *self.boot {
                    found.hosts.values().for_each(|host| host.leave(counts));
                    *books =
                        Books { lost: if behind { Lost::All } else { Lost::of(&found.hosts) }, ..Books::default() };
                    if behind { "outdated" } else { "other_boot" }
                } else {
                    *books = found;
                    "restored"
                }
            }
            Err(why) => {
                let from = self.path(FILE);
                tracing::warn!(file = %from.display(), why, "the state is damaged and set aside: groups begin anew");
                if let Err(error) = fs::rename(&from, self.path(DAMAGED)) {
                    tracing::warn!(file = %from.display(), %error, "it could not be renamed");
                }
                books.lost = Lost::All;
                "damaged"
            }
        };
        counts.found(outcome);
        self.clear_markers();
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let file = fs::File::open(self.path(FILE))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(file.metadata()?.len().min(LARGEST) as usize)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What names a file, and its books.
    fn open(&self, bytes: &[u8], now: Instant, counts: &mut Counts) -> Result<(books::Name, Books), &'static str> {
        books::load(sealed::open(bytes)?, now, counts).map_err(|_| "it holds what no state holds")
    }

    /// Something is to be reported that is not in the file.
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }

    /// When it is to be written even if nothing more comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.written.filter(|_| self.changed)?.checked_add(self.interval.max(RETRY))
    }

    /// Writes the books if it is time, or with `all`; otherwise makes sure that the file is known to be behind.
    pub(crate) fn keep(&mut self, books: &Books, now: Instant, all: bool, counts: &Counts) {
        if !self.changed {
            return;
        }
        let waits = self.written.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
        if waits && !all {
            return self.fall_behind(counts);
        }
        self.written = Some(now);
        match self.write(books, LARGEST) {
            Ok(()) => (self.changed, self.failing) = (false, false),
            Err(error) => {
                counts.unwritten();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(directory = %self.directory.display(), %error, "the state cannot be written");
                }
                self.fall_behind(counts);
            }
        }
    }

    /// Writes a file of at most `largest` bytes. The one before stays until this one is whole and on the disk.
    fn write(&mut self, books: &Books, largest: u64) -> io::Result<()> {
        // The agent names a directory of the stage's own; the first write makes it.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let number = RandomState::new().hash_one(self.number);
        let next = self.path(NEXT);
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.write_to(&next, number, books, largest).and_then(|()| fs::rename(&next, self.path(FILE)));
        if written.is_err() {
            // A part of a state only takes the room that others want.
            fs::remove_file(&next).ok();
        }
        written?;
        self.number = Some(number);
        if std::mem::take(&mut self.behind) {
            self.clear_markers();
        }
        Ok(())
    }

    fn write_to(&self, path: &Path, number: u64, books: &Books, largest: u64) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut out = Writer::new(Sealing::begin(&mut file, largest)?);
        let name = books::Name { number, boot: self.boot.to_string(), process: self.process };
        books::save(books, &name, &mut out);
        out.finish()?;
        file.sync_all()
    }

    /// Removes markers of files that are gone. They say nothing any more, so one that stays does no harm.
    fn clear_markers(&self) {
        let own = self.number.map(|number| self.marker(number));
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b"behind.") && own.as_ref() != Some(&path) {
                fs::remove_file(path).ok();
            }
        }
    }

    /// Says that the file is older than what is reported. Where not even that can be written, the file must go.
    fn fall_behind(&mut self, counts: &Counts) {
        let Some(number) = self.number.filter(|_| !self.behind) else { return };
        let marked =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.marker(number));
        match marked.map(drop).or_else(|_| fs::remove_file(self.path(FILE))) {
            Ok(()) => self.behind = true,
            Err(error) => {
                counts.unwritten();
                tracing::error!(
                    directory = %self.directory.display(), %error,
                    "the state is older than what is reported, and can be neither marked nor removed"
                );
            }
        }
    }

    /// Goes on with the state of the stage before; what is on another disk, or wanted no more, is out of date from now on.
    pub(crate) fn adopt(own: &mut Option<Store>, previous: Option<Store>, counts: &Counts) {
        match (own, previous) {
            (Some(own), Some(previous)) if own.directory == previous.directory => {
                *own = Store { interval: own.interval, ..previous };
            }
            (own, previous) => {
                if let Some(own) = own {
                    own.restored = true;
                    own.changed = true;
                }
                if let Some(mut previous) = previous {
                    previous.fall_behind(counts);
                }
            }
        }
    }
}

fn this_process() -> io::Result<Process> {
    let stat = fs::read_to_string(STAT)?;
    // The name of the program, in parentheses, is the second and may hold anything.
    let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok());
    let started = started.ok_or_else(|| io::Error::other("it does not say when the process started"))?;
    Ok((u64::from(std::process::id()), started))
}

#[cfg(test)]
mod tests;
