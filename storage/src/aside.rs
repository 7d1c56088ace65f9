//! Where damaged bytes and strangers' files go: a folder that is never read again, of bounded size.
//!
//! When it is full nothing more is kept; what is already there is the first evidence.

use std::path::{Path, PathBuf};

use crate::files::{Files, Handle, read, write};

/// The folder, and how much it may hold.
const FOLDER: &str = "damaged";
const MAX_BYTES: u64 = 16 << 20;
const MAX_FILES: usize = 64;

/// The folder of one queue.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
}

impl Aside {
    pub fn new(queue: &Path) -> Self {
        Aside { path: queue.join(FOLDER) }
    }

    /// Whether so many more bytes may be kept; makes the folder.
    fn room(&self, files: &dyn Files, bytes: u64) -> bool {
        if files.create_dir(&self.path).is_err() {
            return false;
        }
        let Ok(list) = files.list(&self.path) else { return false };
        let held: u64 = list.iter().map(|(_, len)| len).sum();
        list.len() < MAX_FILES && held.saturating_add(bytes) <= MAX_BYTES
    }

    /// Moves a whole file there; false if it stays where it is.
    pub fn take(&self, files: &dyn Files, file: &Path, bytes: u64) -> bool {
        let Some(name) = file.file_name() else { return false };
        self.room(files, bytes) && files.rename(file, &self.path.join(name)).is_ok()
    }

    /// Copies a stretch of a segment there, as far as it can be read and kept: a failure loses evidence, not data.
    pub fn copy(&self, files: &dyn Files, segment: &str, handle: &dyn Handle, from: u64, to: u64) {
        if from >= to || !self.room(files, to - from) {
            return;
        }
        let mut bytes = vec![0; (to - from) as usize];
        let Ok(len) = read(handle, &mut bytes, from) else { return };
        let path = self.path.join(format!("{segment}@{from}"));
        let Ok(copy) = files.create(&path) else { return };
        if write(&*copy, &bytes[..len], 0).is_err() {
            drop(copy);
            let _ = files.remove(&path);
        }
    }
}
