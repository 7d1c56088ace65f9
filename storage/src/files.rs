//! The file operations the queue is made of, so that a test can fail or "crash" after any of them and lose what was not
//! synced. Nothing here knows what is in the files.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// Operations on names. [`Disk`] is the real one.
pub trait Files: Debug + Send + Sync {
    /// Makes a directory for its owner alone (0700), and what is above it, where missing.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// Takes the lock file, which is made where missing; none if somebody else holds it.
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Lock>>>;
    /// The plain files and links in a directory, with their lengths in bytes.
    fn list(&self, path: &Path) -> Result<Vec<(OsString, u64)>>;
    /// Makes a new file for its owner alone (0600), to be read and written.
    fn create(&self, path: &Path) -> Result<Box<dyn Handle>>;
    /// Opens a file to be read.
    fn open(&self, path: &Path) -> Result<Box<dyn Handle>>;
    /// Opens a file to be written; it is made (0600) where missing.
    fn open_to_write(&self, path: &Path) -> Result<Box<dyn Handle>>;
    /// Renames a file.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes the names in a directory safe against power loss.
    fn sync_dir(&self, path: &Path) -> Result<()>;
}

/// Operations on an open file.
pub trait Handle: Debug + Send {
    /// Bytes in the file.
    fn size(&self) -> Result<u64>;
    /// Reads at most as much as fits, from a place.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;
    /// Writes at most the whole of it, at a place.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize>;
    /// Cuts the file.
    fn set_len(&self, len: u64) -> Result<()>;
    /// Makes what was written safe against power loss.
    fn sync(&self) -> Result<()>;
}

/// Something held until it is dropped.
pub trait Lock: Debug + Send {}

/// The machine's own files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn create_dir(&self, path: &Path) -> Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        let file = match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path) {
            // What lies on a read-only disk can still be sent.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => File::open(path)?,
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<(OsString, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // Of the entry itself, not of what a link points to.
            let metadata = entry.metadata()?;
            if !metadata.is_dir() {
                found.push((entry.file_name(), metadata.len()));
            }
        }
        Ok(found)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Handle>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Handle>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_to_write(&self, path: &Path) -> Result<Box<dyn Handle>> {
        Ok(Box::new(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        File::open(path)?.sync_all()
    }
}

impl Handle for File {
    fn size(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> Result<()> {
        self.sync_data()
    }
}

impl Lock for File {}

/// Whether an error of a read says that the medium has lost what stands there. Every other error (no descriptors, no memory, a
/// network file system that is away) passes, and says nothing about the data.
pub(crate) fn is_damage(error: &Error) -> bool {
    // As Linux numbers them: EIO, ENODATA (a bad sector), EBADMSG and EUCLEAN (a file system's own checksums), EILSEQ (a
    // block's protection), EREMOTEIO (a device that gives up).
    const DAMAGE: [i32; 6] = [5, 61, 74, 117, 84, 121];
    error.raw_os_error().is_some_and(|code| DAMAGE.contains(&code))
}

/// Reads until the buffer is full or the file ends; bytes read.
pub(crate) fn read(handle: &dyn Handle, mut buffer: &mut [u8], mut offset: u64) -> Result<usize> {
    let whole = buffer.len();
    while !buffer.is_empty() {
        match handle.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(some) => {
                buffer = &mut buffer[some..];
                offset += some as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(whole - buffer.len())
}

/// Writes all of it.
pub(crate) fn write(handle: &dyn Handle, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        match handle.write_at(bytes, offset) {
            Ok(0) => return Err(Error::from(ErrorKind::WriteZero)),
            Ok(some) => {
                bytes = &bytes[some..];
                offset += some as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
