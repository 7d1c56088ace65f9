//! Appending, the segment that is written to, and syncing.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::{Gone, Queue, failed};
use crate::files::write;
use crate::record::{HEADER, Header, NOTE, Name};
use crate::segment::Segment;
use crate::{AppendError, Error, Fsync, Id, OnFull};

/// Segments, as many as `max_bytes` has room for full ones: what restarts and failing syncs leave half empty is bounded.
const SPARE_SEGMENTS: u64 = 64;

impl Queue {
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
    pub(super) fn leave_segment(&mut self) {
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
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
