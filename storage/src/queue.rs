//! The queue: which segments there are, which is written, which is read, and what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::aside::Aside;
use crate::files::{Disk, Files, Handle, Lock, read, write};
use crate::record::{self, HEADER, Header, Kind, NOTE, Name};
use crate::segment::{Segment, Wrong};
use crate::{AppendError, Error, Fsync, Id, Loss, OnFull, OpenError, Record, Settings, Stats};

/// Held for as long as the queue is open.
const LOCK: &str = "lock";
/// Segments, as many as `max_bytes` has room for full ones: what restarts and failing syncs leave half empty is bounded.
const SPARE_SEGMENTS: u64 = 64;
/// How often a record is tried to be read where the medium fails, before it is passed over.
const READS: u32 = 3;

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
    /// Opens the queue in `dir`, which is made (0700) where it is missing. What earlier openings left unfinished is handed
    /// out again, before anything new; [`Queue::stats`] says how much that is and what was damaged.
    ///
    /// # Errors
    /// The directory is in use, or cannot be made, listed, locked or (for want of descriptors or rights) read. Never
    /// because of what is in it.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Disk), dir, settings)
    }

    /// As [`Queue::open`], on files that a test may make fail.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub fn open_on(files: Arc<dyn Files>, dir: &Path, mut settings: Settings) -> Result<Self, OpenError> {
        settings.segment_bytes = settings.segment_bytes.min(settings.max_bytes / 8);
        files.create_dir(dir).map_err(failed("create", dir))?;
        let path = dir.join(LOCK);
        let lock = files.lock(&path).map_err(failed("lock", &path))?.ok_or_else(|| OpenError::Held(dir.to_owned()))?;
        let mut queue = Queue {
            aside: Aside::new(dir),
            dir: dir.to_owned(),
            files,
            settings,
            _lock: lock,
            segments: BTreeMap::new(),
            bytes: 0,
            number: 1,
            ever: (0, 0),
            active: None,
            unsynced: BTreeMap::new(),
            unsynced_names: false,
            unsynced_since: None,
            cursor: Id { segment: 0, offset: 0 },
            under_way: BTreeMap::new(),
            given_back: BTreeSet::new(),
            failures: 0,
            reader: None,
            noter: None,
            counted: Stats::default(),
        };
        queue.recover()?;
        Ok(queue)
    }

    /// Finds out what earlier openings left.
    fn recover(&mut self) -> Result<(), Error> {
        let mut notes = BTreeMap::new();
        let mut foreign = Vec::new();
        for (file, len) in self.files.list(&self.dir).map_err(failed("list", &self.dir))? {
            match file.to_str().and_then(record::kind) {
                Some(Kind::Segment(name)) if !self.segments.contains_key(&name.number) => {
                    let segment = Segment { len, ..Segment::new(name) };
                    self.segments.insert(name.number, segment);
                }
                Some(Kind::Notes(name)) => drop(notes.insert(name.notes(), len)),
                _ if file == LOCK => {}
                _ => foreign.push((file, len)),
            }
        }
        for (file, bytes) in foreign {
            if self.aside.take(&*self.files, &self.dir.join(file), bytes) {
                self.counted.damaged.foreign.add(Loss { records: 0, points: 0, bytes });
            }
        }
        for segment in self.segments.values_mut() {
            if let Some(len) = notes.remove(&segment.name.notes()) {
                let path = self.dir.join(segment.name.notes());
                let handle = self.files.open(&path).map_err(failed("open", &path))?;
                segment.read_notes(&*handle, len);
            }
        }
        // The notes of segments that are gone.
        for name in notes.keys() {
            let _ = self.files.remove(&self.dir.join(name));
        }
        let numbers: Vec<u64> = self.segments.keys().copied().collect();
        for &number in &numbers {
            self.examine(number)?;
        }
        if let Some(last) = numbers.last().and_then(|last| self.segments.get(last)) {
            (self.number, self.ever) = (last.name.number + 1, last.end);
        }
        for segment in self.segments.values_mut() {
            segment.cost = segment.len + segment.notes + segment.live.records * NOTE as u64;
            self.bytes += segment.cost;
        }
        for number in numbers {
            if !self.delete_if_finished(number) {
                self.unsynced.insert(number, None);
                self.unsynced_names = true;
            }
        }
        Ok(())
    }

    /// Walks a segment, counts what is in it, and sets aside what is newly found to be damaged.
    fn examine(&mut self, number: u64) -> Result<(), Error> {
        let next = match self.segments.get(&(number + 1)) {
            Some(next) => Some((next.name.first, next.name.points)),
            // Of the youngest segment only its writer knows how far it reached.
            None => (self.number == number + 1).then_some(self.ever),
        };
        let Some(segment) = self.segments.get_mut(&number) else { return Ok(()) };
        let path = self.dir.join(segment.name.segment());
        let handle = self.files.open(&path).map_err(failed("open", &path))?;
        let mut found = Vec::new();
        segment.examine(&*handle, next, |damaged| found.push(damaged)).map_err(failed("read", &path))?;
        let name = segment.name.segment();
        for damaged in found {
            match damaged.wrong {
                Wrong::Cut => self.counted.damaged.cut.add(damaged.loss),
                Wrong::Header => self.counted.damaged.header.add(damaged.loss),
                Wrong::Unreadable => self.counted.damaged.unreadable.add(damaged.loss),
            }
            if damaged.to < u64::MAX {
                self.aside.copy(&*self.files, &name, &*handle, damaged.from, damaged.to);
            }
            if damaged.wrong != Wrong::Unreadable {
                self.note(number, damaged.from, damaged.to);
            }
        }
        if let Some(segment) = self.segments.get(&number) {
            self.given_back.retain(|id| id.segment != number || !segment.is_done(id.offset));
        }
        Ok(())
    }

    /// Writes one record: the parts, one after the other, are its payload. It may be handed out at once. It survives the end
    /// of this process when this returns, and power loss after the next [`Queue::sync`].
    /// `now` is nanoseconds since 1970.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing of the record is in the queue then.
    pub fn append(&mut self, parts: &[&[u8]], points: u64, now: u64, on_full: OnFull) -> Result<Id, AppendError> {
        let length = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.len() as u64));
        let max_bytes = self.settings.max_bytes;
        let cost = length.saturating_add((HEADER + NOTE) as u64);
        let Some(length) = u32::try_from(length).ok().filter(|_| cost <= max_bytes) else {
            return Err(AppendError::TooLarge { bytes: cost, max_bytes });
        };
        let mut checksum = crc32fast::Hasher::new();
        parts.iter().for_each(|part| checksum.update(part));
        let header = Header {
            sequence: self.ever.0,
            points_before: self.ever.1,
            points,
            enqueued: now,
            length,
            checksum: checksum.finalize(),
        };
        let max_segments = max_bytes / self.settings.segment_bytes.max(1) + SPARE_SEGMENTS;
        while self.bytes + cost > max_bytes || self.segments.len() as u64 >= max_segments {
            if !self.make_room(on_full).map_err(AppendError::Io)? {
                return Err(AppendError::Full { bytes: self.bytes, max_bytes });
            }
        }
        loop {
            let no_space = match self.write(&header, parts) {
                Err(error) if is_no_space(&error.source) => error,
                written => return written.map_err(AppendError::Io),
            };
            if !self.make_room(on_full).map_err(AppendError::Io)? {
                return Err(AppendError::NoSpace(no_space));
            }
        }
    }

    /// Writes a record at the end of the active segment, or of a new one.
    fn write(&mut self, header: &Header, parts: &[&[u8]]) -> Result<Id, Error> {
        let active = self.active.as_ref().and_then(|(number, _)| self.segments.get(number));
        let len = active.map(|segment| segment.len);
        if len.is_none_or(|len| len > 0 && len + header.size() > self.settings.segment_bytes) {
            self.begin_segment()?;
        }
        // Both are there: a segment was begun, if there was none.
        let none = || failed("write", &self.dir)(io::Error::from(ErrorKind::NotFound));
        let (number, handle) = self.active.as_ref().ok_or_else(none)?;
        let segment = self.segments.get_mut(number).ok_or_else(none)?;
        let offset = segment.len;
        let written = write(&**handle, &header.write(segment.name.mark), offset).and_then(|()| {
            let mut at = offset + HEADER as u64;
            parts.iter().try_for_each(|part| {
                write(&**handle, part, at)?;
                at += part.len() as u64;
                Ok(())
            })
        });
        if let Err(error) = written {
            // If that fails too, the next record is written over it, and a walk finds no whole record in it.
            let _ = handle.set_len(offset);
            return Err(failed("write", &self.dir.join(segment.name.segment()))(error));
        }
        let cost = header.size() + NOTE as u64;
        segment.add(header);
        segment.len += header.size();
        segment.cost += cost;
        self.bytes += cost;
        self.ever = header.after();
        segment.end = self.ever;
        self.unsynced.entry(*number).or_default();
        Ok(Id { segment: *number, offset })
    }

    /// Goes on to a new segment file.
    fn begin_segment(&mut self) -> Result<(), Error> {
        let name = Name::new(self.number, self.ever.0, self.ever.1);
        let path = self.dir.join(name.segment());
        let handle = self.files.create(&path).map_err(failed("create", &path))?;
        self.unsynced_names = true;
        self.leave_segment();
        self.segments.insert(name.number, Segment::new(name));
        self.active = Some((name.number, handle));
        self.number += 1;
        Ok(())
    }

    /// The active segment is written to no more.
    fn leave_segment(&mut self) {
        if let Some((number, handle)) = self.active.take() {
            if let Some(unsynced) = self.unsynced.get_mut(&number) {
                *unsynced = Some(handle);
            }
            self.delete_if_finished(number);
        }
    }

    /// Deletes what is finished, or evicts the oldest segment, if allowed; false if there is nothing to gain.
    fn make_room(&mut self, on_full: OnFull) -> Result<bool, Error> {
        // Not the segment that was just begun for what did not fit.
        let mut segments = self.segments.values().filter(|segment| segment.cost > 0);
        let oldest = segments.clone().next().filter(|_| on_full == OnFull::EvictOldest);
        let finished = segments.find(|segment| segment.live.records == 0);
        match finished.or(oldest).map(|segment| segment.name.number) {
            Some(number) => self.evict(number, Gone::Size).map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes everything appended so far safe against power loss, at once.
    ///
    /// # Errors
    /// What was appended since the last sync may not be on the medium, though it is in the queue and will be handed out:
    /// whoever waits for it must be refused. A later sync speaks only for what is appended after this.
    pub fn sync(&mut self) -> Result<(), Error> {
        let result = self.sync_files();
        self.unsynced_since = None;
        self.unsynced.clear();
        if result.is_err() {
            // The kernel says such a failure once and then forgets the data: what is written next goes elsewhere.
            self.leave_segment();
        }
        result
    }

    fn sync_files(&mut self) -> Result<(), Error> {
        for (number, handle) in &self.unsynced {
            let active = self.active.as_ref().filter(|(active, _)| active == number).map(|(_, handle)| handle);
            let Some(segment) = self.segments.get(number) else { continue };
            let path = self.dir.join(segment.name.segment());
            let synced = match handle.as_ref().or(active) {
                Some(handle) => handle.sync(),
                None => self.files.open(&path).and_then(|handle| handle.sync()),
            };
            synced.map_err(failed("sync", &path))?;
        }
        if self.unsynced_names {
            self.files.sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
            self.unsynced_names = false;
        }
        Ok(())
    }

    /// Syncs if the settings say that it is time: to be called after a group of appends, and at [`Queue::sync_due`]. When it
    /// returns without an error, every record appended so far is as safe as the settings ask.
    ///
    /// # Errors
    /// As [`Queue::sync`].
    pub fn sync_if_due(&mut self, now: Instant) -> Result<(), Error> {
        let Fsync::Within(window) = self.settings.fsync else {
            return Ok(());
        };
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let since = *self.unsynced_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= window { self.sync() } else { Ok(()) }
    }

    /// When [`Queue::sync_if_due`] has something to do; none while there is nothing to sync, and before it was called.
    pub fn sync_due(&self) -> Option<Instant> {
        match self.settings.fsync {
            Fsync::Within(window) => self.unsynced_since?.checked_add(window),
            Fsync::Never => None,
        }
    }

    /// The oldest record that is neither handed out nor finished; none when there is none. Those given back come first.
    /// Records older than `max_age` are evicted on the way. `now` is nanoseconds since 1970.
    ///
    /// # Errors
    /// The file cannot be read now; the next call tries the same record again, and passes it over as damaged when the medium
    /// has failed three times in a row.
    pub fn next(&mut self, now: u64) -> Result<Option<Record>, Error> {
        loop {
            let Some(id) = self.given_back.first().copied().or_else(|| self.find()) else {
                return Ok(None);
            };
            let read = self.read(id);
            if read.is_ok() {
                self.failures = 0;
            }
            match read? {
                Read::Whole(header, payload) => {
                    let end = id.offset + header.size();
                    self.pass(id, end);
                    let loss = Loss { records: 1, points: header.points, bytes: header.size() };
                    if self.is_old(header.enqueued, now) {
                        self.counted.evicted_age.add(loss);
                        self.complete(id.segment, id.offset, end, loss);
                        continue;
                    }
                    self.under_way.insert(id, UnderWay { loss, gone: None });
                    return Ok(Some(Record { id, payload, points: header.points, enqueued: header.enqueued }));
                }
                Read::BadPayload(header) => {
                    let end = id.offset + header.size();
                    let loss = Loss { records: 1, points: header.points, bytes: header.size() };
                    self.counted.damaged.payload.add(loss);
                    if let (Some((_, handle)), Some(segment)) = (&self.reader, self.segments.get(&id.segment)) {
                        self.aside.copy(&*self.files, &segment.name.segment(), &**handle, id.offset, end);
                    }
                    self.pass(id, end);
                    self.complete(id.segment, id.offset, end, loss);
                }
                Read::Unreadable(header) => {
                    let end = id.offset + header.size();
                    let loss = Loss { records: 1, points: header.points, bytes: header.size() };
                    self.counted.damaged.unreadable.add(loss);
                    self.pass(id, end);
                    if let Some(segment) = self.segments.get_mut(&id.segment) {
                        segment.unreadable = true;
                        segment.complete(id.offset, end, loss);
                    }
                }
                Read::BadHeader => {
                    if self.active.as_ref().is_some_and(|(active, _)| *active == id.segment) {
                        self.leave_segment();
                    }
                    self.examine(id.segment)?;
                    if self.segments.get(&id.segment).is_some_and(|segment| !segment.is_done(id.offset)) {
                        let changed = io::Error::new(ErrorKind::InvalidData, "it reads differently each time");
                        return Err(failed("read", &self.dir)(changed));
                    }
                    self.delete_if_finished(id.segment);
                }
                Read::Missing => self.lose(id.segment, Gone::Missing),
            }
        }
    }

    /// The next place in order where a record stands that was not handed out.
    fn find(&mut self) -> Option<Id> {
        loop {
            let (&number, segment) = self.segments.range(self.cursor.segment..).next()?;
            if number != self.cursor.segment {
                self.cursor = Id { segment: number, offset: 0 };
            }
            let offset = segment.done.end(self.cursor.offset).unwrap_or(self.cursor.offset);
            if offset < segment.len {
                return Some(Id { segment: number, offset });
            }
            if self.active.as_ref().is_some_and(|(active, _)| *active == number) {
                return None;
            }
            self.cursor = Id { segment: number + 1, offset: 0 };
        }
    }

    /// The record at `id` was handed out or is done with: the next one is looked for behind it.
    fn pass(&mut self, id: Id, end: u64) {
        if !self.given_back.remove(&id) {
            self.cursor = Id { segment: id.segment, offset: end };
        }
    }

    fn read(&mut self, id: Id) -> Result<Read, Error> {
        let Some(segment) = self.segments.get(&id.segment) else { return Ok(Read::Missing) };
        let path = || self.dir.join(segment.name.segment());
        if self.reader.as_ref().is_none_or(|(number, _)| *number != id.segment) {
            match self.files.open(&path()) {
                Ok(handle) => self.reader = Some((id.segment, handle)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Read::Missing),
                Err(error) => return Err(failed("open", &path())(error)),
            }
        }
        let Some((_, handle)) = &self.reader else { return Ok(Read::Missing) };
        let mut bytes = [0; HEADER];
        let failure = |error| failed("read", &path())(error);
        let len = match read(&**handle, &mut bytes, id.offset) {
            Ok(len) => len,
            Err(error) => {
                self.failures += 1;
                // The walk finds what is behind it.
                return if self.failures < READS { Err(failure(error)) } else { Ok(Read::BadHeader) };
            }
        };
        let fits = |header: &Header| header.size() <= segment.len - id.offset;
        let Some(header) = Header::read(&bytes[..len], segment.name.mark).filter(fits) else {
            return Ok(Read::BadHeader);
        };
        let mut payload = vec![0; header.length as usize];
        match read(&**handle, &mut payload, id.offset + HEADER as u64) {
            Ok(len) if len < payload.len() => Ok(Read::BadHeader),
            Ok(_) if crc32fast::hash(&payload) != header.checksum => Ok(Read::BadPayload(header)),
            Ok(_) => Ok(Read::Whole(header, payload)),
            Err(error) => {
                self.failures += 1;
                if self.failures < READS { Err(failure(error)) } else { Ok(Read::Unreadable(header)) }
            }
        }
    }

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
        let bytes = record::note(segment.name.mark, from, to);
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

/// What stands at a place.
enum Read {
    Whole(Header, Vec<u8>),
    BadPayload(Header),
    Unreadable(Header),
    BadHeader,
    Missing,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { operation, path: path.to_owned(), source }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
