//! The file itself: opened, written whole, set aside when it is full, opened anew when something has happened to it.
//!
//! After a write that failed half way the file is cut back to where it was whole, so that it never holds half a batch in
//! its middle. A file that was moved or deleted by somebody else is made anew at the next write. Nothing is synced to the
//! disk: what was written survives the process, not the host's power.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::config::Rotation;
use crate::time::file_stamp;

const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_DAY: u64 = 86_400 * 1_000_000_000;

/// A file that is written batch by batch.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    rotation: Option<Rotation>,
    open: Option<Open>,
    /// The time in the last name given to a file set aside: each is later than the one before.
    last_aside: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Bytes in the file that are whole.
    length: u64,
}

impl Sink {
    /// Opens the file, emptied where `truncate` says so; makes its directory with mode `directory` where one is given.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn new(
        path: PathBuf,
        rotation: Option<Rotation>,
        truncate: bool,
        directory: Option<u32>,
    ) -> io::Result<Self> {
        if let (Some(mode), Some(parent)) = (directory, path.parent()) {
            DirBuilder::new().recursive(true).mode(mode).create(parent)?;
        }
        let open = open(&path)?;
        let mut sink = Self { path, rotation, open: Some(open), last_aside: 0 };
        if let Some(open) = sink.open.as_mut().filter(|_| truncate) {
            // What cannot be cut (a terminal, a pipe) has nothing in it.
            if open.file.set_len(0).is_ok() {
                open.length = 0;
            }
        }
        Ok(sink)
    }

    /// Bytes the file may still take before it is set aside; `None` for no bound.
    pub(super) fn room(&self) -> Option<u64> {
        let limit = self.rotation.as_ref()?.max_megabytes.saturating_mul(1024 * 1024);
        Some(limit.saturating_sub(self.length()))
    }

    /// Bytes in the file.
    pub(super) fn length(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.length)
    }

    /// Writes all of `bytes`, or leaves the file as it was.
    ///
    /// # Errors
    /// The host's; the next call tries anew.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| !is_at(&open.file, &self.path)) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        match open.file.write_all(bytes) {
            Ok(()) => {
                open.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Where even that fails the error already says what is wrong.
                let _ = open.file.set_len(open.length);
                self.open = None;
                Err(error)
            }
        }
    }

    /// Sets the file aside under a name that holds the time, and deletes what is too old or too many. Unix nanoseconds.
    ///
    /// # Errors
    /// The host's, when the file cannot be renamed.
    pub(super) fn rotate(&mut self, now: u64) -> io::Result<()> {
        let Some(rotation) = self.rotation.clone() else { return Ok(()) };
        self.open = None;
        let mut stamp = now.max(self.last_aside.saturating_add(NANOS_PER_MILLI));
        let aside = loop {
            let name = aside_name(&self.path, stamp);
            if !name.exists() {
                break name;
            }
            stamp = stamp.saturating_add(NANOS_PER_MILLI);
        };
        std::fs::rename(&self.path, aside)?;
        self.last_aside = stamp;
        clean(&self.path, &rotation, now);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok(Open { file, length })
}

/// Whether the path still leads to the file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(identity).ok() == std::fs::metadata(path).map(identity).ok()
}

/// `data.json` set aside: `data-2022-09-14T05-02-14.173.json`.
fn aside_name(path: &Path, nanos: u64) -> PathBuf {
    let (stem, extension) = parts(path);
    path.with_file_name(format!("{stem}-{}{extension}", file_stamp(nanos)))
}

/// The name up to the last dot, and the rest.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    (
        text(path.file_stem()).unwrap_or_default(),
        text(path.extension()).map_or_else(String::new, |extension| format!(".{extension}")),
    )
}

/// Deletes files set aside that are too many or too old. What cannot be deleted is tried again at the next rotation.
fn clean(path: &Path, rotation: &Rotation, now: u64) {
    let (stem, extension) = parts(path);
    let stamp = |name: &str| {
        let stamp = name.strip_prefix(&format!("{stem}-"))?.strip_suffix(&extension)?;
        let shape = stamp.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
        shape.eq(*b"0000-00-00T00-00-00.000").then(|| stamp.to_owned())
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut aside: Vec<(String, PathBuf)> =
        entries.filter_map(|entry| Some((stamp(&entry.file_name().to_string_lossy())?, entry.path()))).collect();
    // Newest first: the stamps sort as times do.
    aside.sort_by(|a, b| b.cmp(a));
    let oldest = match rotation.max_days {
        0 => String::new(),
        days => file_stamp(now.saturating_sub(days.saturating_mul(NANOS_PER_DAY))),
    };
    for (i, (stamp, path)) in aside.into_iter().enumerate() {
        if (rotation.max_backups > 0 && i >= rotation.max_backups) || stamp < oldest {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_663_131_734_173_000_000;

    fn sink(path: &Path, truncate: bool) -> Sink {
        Sink::new(
            path.to_owned(),
            Some(Rotation { max_backups: 2, max_days: 3, ..Rotation::default() }),
            truncate,
            None,
        )
        .unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_is_private_and_is_emptied_or_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.json");
        sink(&path, true).write(b"one\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        sink(&path, false).write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        let emptied = sink(&path, true);
        assert_eq!((std::fs::read(&path).unwrap().len(), emptied.length()), (0, 0));
    }

    #[test]
    fn rotation_keeps_the_newest_few_and_touches_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.json");
        for other in ["data-2022-09-01T00-00-00.000.json", "data-old.json", "other-2022-09-01T00-00-00.000.json"] {
            std::fs::write(directory.path().join(other), "x").unwrap();
        }
        let mut sink = sink(&path, true);
        for i in 0..4 {
            sink.write(b"x").unwrap();
            sink.rotate(NOW + i / 2).unwrap();
        }
        sink.write(b"now").unwrap();
        assert_eq!(
            names(directory.path()),
            [
                "data-2022-09-14T05-02-14.175.json",
                "data-2022-09-14T05-02-14.176.json",
                "data-old.json",
                "data.json",
                "other-2022-09-01T00-00-00.000.json"
            ]
        );
        assert_eq!(sink.room(), Some(100 * 1024 * 1024 - 3));
    }

    #[test]
    fn a_file_that_was_taken_away_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.json");
        let mut sink = sink(&path, true);
        sink.write(b"one\n").unwrap();
        std::fs::rename(&path, directory.path().join("moved")).unwrap();
        sink.write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_that_passes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/data.json");
        assert!(Sink::new(path.clone(), None, true, None).is_err());
        let mut sink = Sink::new(path.clone(), None, true, Some(0o700)).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(sink.write(b"lost").is_err());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        sink.write(b"found").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"found");
    }
}
