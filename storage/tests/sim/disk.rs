//! A disk in memory that knows what was synced, fails when told to, and forgets at a power loss what it may forget.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use phoenix_storage::files::{Files, Handle, Lock};

/// What a crash leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: all that was written stays.
    Kill,
    /// The power fails: only what was synced stays.
    Power,
    /// The power fails: of what was not synced, any pieces may stay, chosen by the seed.
    Torn(u64),
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    contents: Vec<Vec<u8>>,
    synced: Vec<Vec<u8>>,
    locked: bool,
    /// Changing operations so far, and the one at which the machine stops.
    operations: usize,
    stop_at: Option<usize>,
    /// Free bytes; none: no limit.
    space: Option<usize>,
    /// Fails every operation with this name with this error of the system's.
    failing: Option<(&'static str, i32)>,
}

/// Errors of the system.
pub const EIO: i32 = 5;
pub const ENOMEM: i32 = 12;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;

#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }

    pub fn operations(&self) -> usize {
        self.state().operations
    }

    pub fn stop_at(&self, operation: Option<usize>) {
        self.state().stop_at = operation;
    }

    pub fn set_space(&self, bytes: Option<usize>) {
        self.state().space = bytes;
    }

    pub fn fail(&self, failing: Option<(&'static str, i32)>) {
        self.state().failing = failing;
    }

    /// The machine starts again after a crash.
    pub fn restart(&self, crash: Crash) {
        let mut state = self.state();
        (state.stop_at, state.operations, state.failing, state.space) = (None, 0, None, None);
        let mut random = match crash {
            Crash::Kill => return,
            Crash::Power => None,
            Crash::Torn(seed) => Some(seed | 1),
        };
        let mut keep = || {
            random.as_mut().is_some_and(|random| {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                *random % 2 == 0
            })
        };
        // Names: a creation or a deletion that was not synced is seen, or not.
        let State { names, synced_names, contents, synced, .. } = &mut *state;
        let all: Vec<PathBuf> = names.keys().chain(synced_names.keys()).cloned().collect();
        for path in all {
            let from = if keep() { &*names } else { &*synced_names };
            match from.get(&path).copied() {
                Some(file) => drop(names.insert(path, file)),
                None => drop(names.remove(&path)),
            }
        }
        *synced_names = names.clone();
        // Contents: block by block, what was not synced stays, or is zeros; the length is the new or the old one.
        for (content, synced) in contents.iter_mut().zip(synced) {
            let mut after = synced.clone();
            if keep() {
                after.resize(content.len().max(synced.len()), 0);
            }
            for (place, block) in after.chunks_mut(16).enumerate() {
                let new = content.get(place * 16..).unwrap_or_default();
                let new = &new[..new.len().min(block.len())];
                if keep() {
                    block[..new.len()].copy_from_slice(new);
                }
            }
            (*content, *synced) = (after.clone(), after);
        }
    }
}

impl State {
    /// May this operation be done? A machine that has stopped does nothing more.
    fn begin(&mut self, operation: &'static str) -> Result<()> {
        if self.stop_at.is_some_and(|stop| self.operations >= stop) {
            return Err(Error::other("stopped"));
        }
        if let Some((_, code)) = self.failing.filter(|(failing, _)| *failing == operation) {
            return Err(Error::from_raw_os_error(code));
        }
        if !matches!(operation, "open" | "read" | "list") {
            self.operations += 1;
        }
        Ok(())
    }

    fn make(&mut self, path: &Path) -> usize {
        self.contents.push(Vec::new());
        self.synced.push(Vec::new());
        self.names.insert(path.to_owned(), self.contents.len() - 1);
        self.contents.len() - 1
    }
}

impl SimDisk {
    fn handle(&self, file: usize) -> Box<dyn Handle> {
        Box::new(Open { disk: self.clone(), file })
    }
}

impl Files for SimDisk {
    fn create_dir(&self, _: &Path) -> Result<()> {
        self.state().begin("create_dir")
    }

    fn lock(&self, _: &Path) -> Result<Option<Box<dyn Lock>>> {
        let mut state = self.state();
        state.begin("lock")?;
        if std::mem::replace(&mut state.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(Held(self.clone()))))
    }

    fn list(&self, path: &Path) -> Result<Vec<(OsString, u64)>> {
        let mut state = self.state();
        state.begin("list")?;
        let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let entry = |(name, &file): (&PathBuf, &usize)| {
            (name.file_name().unwrap().to_owned(), state.contents[file].len() as u64)
        };
        Ok(inside.map(entry).collect())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.begin("create")?;
        assert!(!state.names.contains_key(path), "{} is there", path.display());
        let file = state.make(path);
        Ok(self.handle(file))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.begin("open")?;
        let file = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.handle(file))
    }

    fn open_to_write(&self, path: &Path) -> Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.begin("open_to_write")?;
        let file = state.names.get(path).copied().unwrap_or_else(|| state.make(path));
        Ok(self.handle(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        state.begin("rename")?;
        let file = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.begin("remove")?;
        state.names.remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.begin("sync_dir")?;
        let State { names, synced_names, .. } = &mut *state;
        synced_names.retain(|name, _| name.parent() != Some(path));
        let inside = names.iter().filter(|(name, _)| name.parent() == Some(path));
        synced_names.extend(inside.map(|(name, file)| (name.clone(), *file)));
        Ok(())
    }
}

#[derive(Debug)]
struct Held(SimDisk);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

#[derive(Debug)]
struct Open {
    disk: SimDisk,
    file: usize,
}

impl Handle for Open {
    fn size(&self) -> Result<u64> {
        Ok(self.disk.state().contents[self.file].len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut state = self.disk.state();
        state.begin("read")?;
        let bytes = state.contents[self.file].get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        let mut state = self.disk.state();
        // The operation at which the machine stops is half done.
        let half = state.stop_at.is_some_and(|stop| state.operations + 1 == stop);
        state.begin("write")?;
        let mut len = if half { bytes.len() / 2 } else { bytes.len() };
        let end = state.contents[self.file].len();
        if let Some(space) = &mut state.space {
            let fits = *space + end.saturating_sub(offset as usize);
            len = len.min(fits);
            if len == 0 {
                return Err(Error::from(ErrorKind::StorageFull));
            }
            *space -= (offset as usize + len).saturating_sub(end);
        }
        let content = &mut state.contents[self.file];
        content.resize(end.max(offset as usize + len), 0);
        content[offset as usize..][..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.disk.state();
        state.begin("set_len")?;
        let had = state.contents[self.file].len();
        if let Some(space) = &mut state.space {
            *space += had.saturating_sub(len as usize);
        }
        state.contents[self.file].resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.disk.state();
        state.begin("sync")?;
        state.synced[self.file] = state.contents[self.file].clone();
        Ok(())
    }
}
