//! `statvfs(2)`, the one reading that std does not offer. The only unsafe code of this crate's system scrapers.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Sizes of one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free, those for the superuser alone among them.
    pub free_for_root: u64,
    /// Bytes free for everybody.
    pub free: u64,
    /// Inodes in all; 0 where the file system has no fixed number.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// Asks the file system at `path`. May block without bound if its server is away: see `capacity.rs`.
#[allow(
    clippy::unnecessary_cast,
    reason = "the fields' types differ between targets; on none are they wider than 64 bits"
)]
pub(super) fn statvfs(path: &Path) -> io::Result<Capacity> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `answer` is room for one `struct statvfs`, both alive during the call;
    // the call keeps neither pointer.
    let result = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled in the whole struct, and every bit pattern of its integers is valid.
    let answer = unsafe { answer.assume_init() };
    let bytes = |blocks: libc::fsblkcnt_t| (blocks as u64).saturating_mul(answer.f_frsize as u64);
    Ok(Capacity {
        total: bytes(answer.f_blocks),
        free_for_root: bytes(answer.f_bfree),
        free: bytes(answer.f_bavail),
        inodes: answer.f_files as u64,
        inodes_free: answer.f_ffree as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_a_size_and_a_missing_path_is_an_error() {
        let root = statvfs(Path::new("/")).unwrap();
        assert!(root.total > 0 && root.free <= root.free_for_root && root.free_for_root <= root.total);
        assert_eq!(statvfs(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(statvfs(Path::new("a\0b")).is_err());
    }
}
