//! Handing out: the next record, tested, and what is done where it is not whole.

use std::io::{self, ErrorKind};

use super::{Gone, Queue, UnderWay, failed};
use crate::files::{is_damage, read};
use crate::record::{HEADER, Header};
use crate::{Error, Id, Loss, Record};

/// How often a record is tried to be read where the medium is damaged, before it is passed over: some media recover.
const READS: u32 = 3;

impl Queue {
    /// The oldest record that is neither handed out nor finished; none when there is none. Those given back come first.
    /// Records older than `max_age` are evicted on the way. `now` is nanoseconds since 1970.
    ///
    /// # Errors
    /// The file cannot be read now; the next call tries the same record again, and passes it over as damaged when the medium
    /// has said three times in a row that it is. Whoever calls should let a second pass before the next call. Errors that say
    /// nothing about the medium (no descriptors, no memory) never cost a record.
    pub fn next(&mut self, now: u64) -> Result<Option<Record>, Error> {
        loop {
            let Some(id) = self.peek() else {
                return Ok(None);
            };
            let read = match self.read(id) {
                Ok(read) => read,
                Err((error, instead)) => {
                    // A file of a network's may be a stale one.
                    self.reader = None;
                    self.failures += u32::from(is_damage(&error.source));
                    if self.failures < READS {
                        return Err(error);
                    }
                    instead
                }
            };
            self.failures = 0;
            match read {
                Read::Record(header, payload) => {
                    let end = id.offset + header.size();
                    let loss = Loss { records: 1, points: header.points, bytes: header.size() };
                    self.pass(id, end);
                    match payload {
                        Payload::Whole(_) if self.is_old(header.enqueued, now) => self.counted.evicted_age.add(loss),
                        Payload::Whole(payload) => {
                            self.under_way.insert(id, UnderWay { loss, gone: None });
                            return Ok(Some(Record { id, payload, points: header.points, enqueued: header.enqueued }));
                        }
                        Payload::Bad => {
                            self.counted.damaged.payload.add(loss);
                            if let (Some((_, handle)), Some(segment)) = (&self.reader, self.segments.get(&id.segment)) {
                                let name = segment.name.segment();
                                self.aside.copy(&*self.files, &name, &**handle, id.offset, end);
                            }
                        }
                        Payload::Unreadable => {
                            self.counted.damaged.unreadable.add(loss);
                            if let Some(segment) = self.segments.get_mut(&id.segment) {
                                segment.unreadable = true;
                                segment.complete(id.offset, end, loss);
                            }
                        }
                    }
                    // Nothing is left to do where it could not be read: that is not noted.
                    self.complete(id.segment, id.offset, end, loss);
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

    /// The record that [`Queue::next`] would read now.
    pub fn peek(&mut self) -> Option<Id> {
        self.given_back.first().copied().or_else(|| self.find())
    }

    /// Hands a record out without reading it, to a caller who still has the payload (of that many bytes) that was appended with
    /// these points at that time; false, and nothing is handed out, if it is older than `max_age` or not the one that
    /// [`Queue::next`] would read.
    pub fn take(&mut self, id: Id, payload: usize, points: u64, enqueued: u64, now: u64) -> bool {
        if self.peek() != Some(id) || self.is_old(enqueued, now) {
            return false;
        }
        let bytes = (HEADER + payload) as u64;
        self.pass(id, id.offset + bytes);
        self.under_way.insert(id, UnderWay { loss: Loss { records: 1, points, bytes }, gone: None });
        true
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

    /// Reads what stands at a place; where that fails, with what to make of it when it fails for good.
    fn read(&mut self, id: Id) -> Result<Read, (Error, Read)> {
        let Some(segment) = self.segments.get(&id.segment) else { return Ok(Read::Missing) };
        let path = || self.dir.join(segment.name.segment());
        if self.reader.as_ref().is_none_or(|(number, _)| *number != id.segment) {
            match self.files.open(&path()) {
                Ok(handle) => self.reader = Some((id.segment, handle)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Read::Missing),
                Err(error) => return Err((failed("open", &path())(error), Read::BadHeader)),
            }
        }
        let Some((_, handle)) = &self.reader else { return Ok(Read::Missing) };
        let mut bytes = [0; HEADER];
        let failure = |error| failed("read", &path())(error);
        let len = match read(&**handle, &mut bytes, id.offset) {
            Ok(len) => len,
            // The walk finds what is behind it.
            Err(error) => return Err((failure(error), Read::BadHeader)),
        };
        let fits = |header: &Header| header.size() <= segment.len - id.offset;
        let Some(header) = Header::read(&bytes[..len], segment.name.mark).filter(fits) else {
            return Ok(Read::BadHeader);
        };
        let mut payload = vec![0; header.length as usize];
        match read(&**handle, &mut payload, id.offset + HEADER as u64) {
            Ok(len) if len < payload.len() => Ok(Read::BadHeader),
            Ok(_) if crc32fast::hash(&payload) != header.checksum => Ok(Read::Record(header, Payload::Bad)),
            Ok(_) => Ok(Read::Record(header, Payload::Whole(payload))),
            Err(error) => Err((failure(error), Read::Record(header, Payload::Unreadable))),
        }
    }
}

/// What stands at a place.
enum Read {
    Record(Header, Payload),
    BadHeader,
    /// The segment is gone.
    Missing,
}

enum Payload {
    Whole(Vec<u8>),
    Bad,
    Unreadable,
}
