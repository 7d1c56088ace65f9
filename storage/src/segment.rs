//! One segment file: what is in it, found by walking from header to header, and around what is damaged.
//!
//! The walk reads headers only; a payload's checksum is tested when the record is handed out. It keeps no list of records.

use crate::Loss;
use crate::files::{Handle, is_damage, read};
use crate::ranges::Ranges;
use crate::record::{HEADER, Header, NOTE, Name, read_note};

/// Read at once while walking from header to header, and while looking for the next one behind damage.
const STEP: usize = 4 << 10;
const SCAN: usize = 64 << 10;

/// A segment as the queue remembers it.
#[derive(Clone, Debug)]
pub struct Segment {
    pub name: Name,
    /// Bytes of records, finished ones too.
    pub len: u64,
    /// Bytes that the segment and its notes take, or will take.
    pub cost: u64,
    /// What is not finished.
    pub live: Loss,
    /// Records and points ever appended, up to the end of its last whole record.
    pub end: (u64, u64),
    /// When the oldest and the youngest of it was appended, nanoseconds since 1970.
    pub oldest: Option<u64>,
    pub newest: u64,
    /// What is finished, or damaged.
    pub done: Ranges,
    /// Bytes of the file of notes.
    pub notes: u64,
    /// The medium failed under some of it. That is not noted, and the segment stays: after the next start it may be readable.
    pub unreadable: bool,
}

/// What was wrong with a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Cut,
    Header,
    Unreadable,
}

/// A damaged stretch of a segment, and what was lost with it.
#[derive(Clone, Copy, Debug)]
pub struct Damaged {
    pub wrong: Wrong,
    pub from: u64,
    pub to: u64,
    pub loss: Loss,
}

impl Segment {
    pub fn new(name: Name) -> Self {
        Segment {
            name,
            len: 0,
            cost: 0,
            live: Loss::default(),
            end: (name.first, name.points),
            oldest: None,
            newest: 0,
            done: Ranges::default(),
            notes: 0,
            unreadable: false,
        }
    }

    /// A record was appended, or found.
    pub fn add(&mut self, header: &Header) {
        self.live.add(Loss { records: 1, points: header.points, bytes: header.size() });
        self.oldest = Some(self.oldest.map_or(header.enqueued, |oldest| oldest.min(header.enqueued)));
        self.newest = self.newest.max(header.enqueued);
    }

    /// Whether the record at this place is finished, or damaged.
    pub fn is_done(&self, at: u64) -> bool {
        at >= self.len || self.done.end(at).is_some()
    }

    /// A record is done with; false if it was already: found to be damaged since it was handed out.
    pub fn complete(&mut self, from: u64, to: u64, loss: Loss) -> bool {
        let new = !self.is_done(from);
        if new {
            self.live.remove(loss);
            self.done.insert(from, to);
        }
        new
    }

    /// Takes in the notes of earlier openings. A damaged one counts for nothing: its record is handed out again.
    pub fn read_notes(&mut self, handle: &dyn Handle, len: u64) {
        self.notes = len.next_multiple_of(NOTE as u64);
        let mut bytes = vec![0; NOTE * 1024];
        for at in (0..len).step_by(bytes.len()) {
            let Ok(len) = read(handle, &mut bytes, at) else { continue };
            for noted in bytes[..len].chunks_exact(NOTE) {
                if let Some((from, to)) = read_note(noted, self.name.mark) {
                    self.done.insert(from, to);
                }
            }
        }
    }

    /// Counts anew what is in the file and not finished. Every stretch that is damaged and not known yet is told and then
    /// known. `next` is what stood in the queue before the segment that follows at once: records and points.
    ///
    /// # Errors
    /// The file cannot be read now, which says nothing about what is in it; nothing has changed then. What the medium cannot
    /// give is damage.
    pub fn examine(
        &mut self,
        handle: &dyn Handle,
        next: Option<(u64, u64)>,
        tell: impl FnMut(Damaged),
    ) -> std::io::Result<()> {
        let mut examined = self.clone();
        examined.len = handle.size()?.min(self.len);
        let mut window =
            Window { handle, end: examined.len, bytes: Vec::new(), start: 0, unreadable: false, failure: None };
        examined.walk(&mut window, next, tell);
        match window.failure {
            Some(failure) => Err(failure),
            None => {
                *self = examined;
                Ok(())
            }
        }
    }

    fn walk(&mut self, window: &mut Window<'_>, next: Option<(u64, u64)>, mut tell: impl FnMut(Damaged)) {
        let (mark, end) = (self.name.mark, self.len);
        (self.live, self.oldest, self.newest) = (Loss::default(), None, 0);
        // What the next whole record should say was before it; none behind damage that is known already.
        let mut expected = Some((self.name.first, self.name.points));
        let mut at = 0;
        while at < end {
            let header = Header::read(window.get(at, STEP), mark);
            if let Some(header) = header.filter(|header| header.size() <= end - at) {
                if !self.is_done(at) {
                    self.add(&header);
                }
                self.end = header.after();
                expected = Some(self.end);
                at += header.size();
            } else if let Some(to) = self.done.end(at) {
                expected = None;
                at = to;
            } else {
                let unreadable = window.unreadable;
                self.unreadable |= unreadable;
                let (to, behind) = match window.find(at + 1, mark) {
                    Some((to, header)) => (to, Some((header.sequence, header.points_before))),
                    None => (end, next),
                };
                let wrong = match header {
                    _ if unreadable => Wrong::Unreadable,
                    None if to < end || end - at >= HEADER as u64 => Wrong::Header,
                    _ => Wrong::Cut,
                };
                let known = (1, header.map_or(0, |header| header.points));
                let (records, points) = between(expected, behind).unwrap_or(known);
                tell(Damaged { wrong, from: at, to, loss: Loss { records, points, bytes: to - at } });
                self.done.insert(at, to);
                // What follows was counted from, so nothing is missing before it; behind the end, it is told.
                (expected, at) = (None, to);
            }
        }
        // A file that was cut between two records; a stretch behind the end says that this was told.
        let missing = between(expected, next).filter(|&(records, _)| records > 0 && self.done.end(end).is_none());
        if let Some((records, points)) = missing {
            tell(Damaged { wrong: Wrong::Cut, from: end, to: u64::MAX, loss: Loss { records, points, bytes: 0 } });
            self.done.insert(end, u64::MAX);
        }
    }
}

/// Records and points between two places of the queue.
fn between(from: Option<(u64, u64)>, to: Option<(u64, u64)>) -> Option<(u64, u64)> {
    let ((records, points), (more_records, more_points)) = (from?, to?);
    Some((more_records.saturating_sub(records), more_points.saturating_sub(points)))
}

/// A piece of a file in memory, moved as it is read.
struct Window<'a> {
    handle: &'a dyn Handle,
    end: u64,
    bytes: Vec<u8>,
    start: u64,
    /// Some of it could not be read, and is zeros.
    unreadable: bool,
    /// What failed without saying anything about the medium: the walk is worth nothing.
    failure: Option<std::io::Error>,
}

impl Window<'_> {
    /// At least a header from this place on, or what is left of the file; where it must be read, this much at once.
    fn get(&mut self, at: u64, at_once: usize) -> &[u8] {
        let wanted = (self.end - at).min(HEADER as u64);
        let have = self.start..self.start + self.bytes.len() as u64;
        if at < have.start || at + wanted > have.end {
            self.fill(at, (self.end - at).min(at_once as u64) as usize);
        }
        &self.bytes[((at - self.start) as usize).min(self.bytes.len())..]
    }

    fn fill(&mut self, at: u64, size: usize) {
        (self.start, self.unreadable) = (at, false);
        self.bytes.clear();
        self.bytes.resize(size, 0);
        let read_all = read(self.handle, &mut self.bytes, at);
        match read_all {
            Ok(read) => self.bytes.truncate(read),
            // The medium fails somewhere in it: block by block, what can be read.
            Err(_) => {
                for (place, block) in self.bytes.chunks_mut(STEP).enumerate() {
                    if let Err(error) = read(self.handle, block, at + (place * STEP) as u64) {
                        block.fill(0);
                        self.unreadable = true;
                        if !is_damage(&error) {
                            self.failure = Some(error);
                        }
                    }
                }
            }
        }
    }

    /// The next whole header from this place on.
    fn find(&mut self, mut at: u64, mark: u64) -> Option<(u64, Header)> {
        let wanted = mark.to_le_bytes();
        while at + HEADER as u64 <= self.end {
            let bytes = self.get(at, SCAN);
            if bytes.len() < HEADER {
                return None;
            }
            for place in (0..=bytes.len() - HEADER).filter(|&place| bytes[place..].starts_with(&wanted)) {
                if let Some(header) = Header::read(&bytes[place..], mark) {
                    return Some((at + place as u64, header));
                }
            }
            at += (bytes.len() - HEADER + 1) as u64;
        }
        None
    }
}
