//! Opening: what earlier openings left, and what of it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{Queue, failed};
use crate::aside::Aside;
use crate::files::{Disk, Files};
use crate::record::{self, Kind, NOTE};
use crate::segment::{Segment, Wrong};
use crate::{Error, Id, Loss, OpenError, Settings, Stats};

/// Held for as long as the queue is open.
const LOCK: &str = "lock";

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
    pub(super) fn examine(&mut self, number: u64) -> Result<(), Error> {
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
}
