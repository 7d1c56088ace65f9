//! The files of a process: paths, one buffer for all of them, those that stay open, and what it means when one cannot be
//! read.
//!
//! A process that is gone is no error. Nothing here knows what is in the files.

use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rapidhash::RapidHashMap;
use rustix::fs::RawDir;

use super::reading::{self, Ran};

/// A file, directory or link below `/proc/PID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Schedstat,
    Stat,
    Statm,
    Io,
    Status,
    Cmdline,
    Cgroup,
    Exe,
    Fd,
    /// The listing of all processes.
    Processes,
}

impl Source {
    /// Those that are read at every scrape.
    const KEPT: [Source; 2] = [Source::Schedstat, Source::Statm];
    /// Those that are read at every scrape of a process that runs.
    pub(super) const BUSY: [Source; 2] = [Source::Stat, Source::Io];

    /// Its name below `/proc/PID`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::Schedstat => "schedstat",
            Source::Stat => "stat",
            Source::Statm => "statm",
            Source::Io => "io",
            Source::Status => "status",
            Source::Cmdline => "cmdline",
            Source::Cgroup => "cgroup",
            Source::Exe => "exe",
            Source::Fd => "fd",
            Source::Processes => "..",
        }
    }
}

/// Why there is no reading.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The process is gone, or has no such thing (a kernel thread has no executable).
    Gone,
    /// The operating system says no.
    Failed(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if is_gone(&error) { Failure::Gone } else { Failure::Failed(error) }
    }
}

/// Whether there is no such file, or it is that of a process that is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The whole of a file, or its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// What was read.
    pub bytes: &'a [u8],
    /// There is more than [`MAX_BYTES`].
    pub cut: bool,
}

/// The numbers of a process fit in one page; only its arguments may be longer.
const PAGE: usize = 4096;

/// So much is read of a file at most: twice what is exported of it, and little enough that nobody keeps the agent busy
/// with the arguments of many processes.
const MAX_BYTES: usize = 8 << 10;

/// Some thousand entries of the listing of all processes are read at once.
const LISTING: usize = 32 << 10;

/// A deleted executable's link ends so.
const DELETED: &[u8] = b" (deleted)";

/// The type of procfs in `statfs(2)`.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

#[derive(Debug)]
pub(crate) struct Files {
    /// `/proc/PID/NAME` of the last access; the first `base` bytes stay.
    path: Vec<u8>,
    base: usize,
    buffer: Vec<u8>,
    /// Room for a part of the listing of all processes; always empty.
    listing: Vec<u8>,
    /// The size of `fd/` is the number of descriptors (Linux 6.2 and newer).
    fd_size_counts: bool,
    /// The kernel counts how often a thread runs (`CONFIG_SCHED_INFO`, which distributions set).
    turns_count: bool,
    /// Whether [`Source::BUSY`] of the process at hand stay open.
    busy: bool,
    open: Open,
}

/// Files that are read at every scrape stay open: to open and close them is a fifth of what a scrape
/// costs (docs/performance.md).
///
/// An open file of procfs belongs to its process for ever: when that is gone it says so, even if its id was taken by another.
#[derive(Debug)]
struct Open {
    files: RapidHashMap<(u32, Source), File>,
    max: usize,
}

impl Open {
    fn new(proc: &Path, max: usize) -> Self {
        // A file of an ordinary file system outlives its removal, and would tell of the dead.
        let is_procfs = rustix::fs::statfs(proc).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
        Open { files: RapidHashMap::default(), max: if is_procfs { max } else { 0 } }
    }
}

impl Files {
    /// The processes below `proc`. At most `max_open` files stay open, where that is procfs.
    pub(crate) fn new(proc: &Path, max_open: usize) -> Self {
        let mut path = proc.as_os_str().as_bytes().to_vec();
        path.push(b'/');
        let own = std::fs::read(proc.join("self/schedstat"));
        Self {
            base: path.len(),
            path,
            buffer: vec![0; PAGE],
            listing: Vec::with_capacity(LISTING),
            fd_size_counts: fd_size_counts(proc),
            turns_count: own.is_ok_and(|text| matches!(reading::schedstat(&text), Ok(Some(_)))),
            busy: true,
            open: Open::new(proc, max_open),
        }
    }

    /// Closes what is open of processes other than these.
    pub(crate) fn close_others(&mut self, is_known: impl Fn(u32) -> bool) {
        self.open.files.retain(|(pid, _), _| is_known(*pid));
    }

    fn locate(&mut self, pid: u32, name: &str) -> &Path {
        self.path.truncate(self.base);
        // Writing to a vector does not fail.
        let _ = write!(self.path, "{pid}/{name}");
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Puts the ids of all processes into `pids`, in the kernel's order.
    pub(crate) fn pids(&mut self, pids: &mut Vec<u32>) -> io::Result<()> {
        pids.clear();
        self.path.truncate(self.base);
        let directory = File::open(OsStr::from_bytes(&self.path))?;
        // std's listing allocates for every name.
        let mut listing = RawDir::new(directory, self.listing.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.first().is_some_and(u8::is_ascii_digit)
                && let Some(pid) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok())
            {
                pids.push(pid);
            }
        }
        Ok(())
    }

    /// Reads a file from its beginning.
    pub(crate) fn read(&mut self, pid: u32, source: Source) -> Result<Text<'_>, Failure> {
        let filled = match self.open.files.entry((pid, source)) {
            Entry::Occupied(file) => match fill(file.get(), &mut self.buffer) {
                // The process is gone; its id may be another's by now.
                Err(error) if is_gone(&error) => {
                    file.remove();
                    None
                }
                filled => Some(filled?),
            },
            Entry::Vacant(_) => None,
        };
        let filled = match filled {
            Some(filled) => filled,
            None => {
                let file = File::open(self.locate(pid, source.name()))?;
                let filled = fill(&file, &mut self.buffer)?;
                let stays = Source::KEPT.contains(&source) || (self.busy && Source::BUSY.contains(&source));
                if stays && self.open.files.len() < self.open.max {
                    self.open.files.insert((pid, source), file);
                }
                filled
            }
        };
        Ok(Text { bytes: self.buffer.get(..filled).unwrap_or_default(), cut: filled >= MAX_BYTES })
    }

    /// How the main thread of a process was run so far; `None` where nobody counts, or the process is gone.
    pub(crate) fn ran(&mut self, pid: u32) -> Option<Ran> {
        if !self.turns_count {
            return None;
        }
        reading::schedstat(self.read(pid, Source::Schedstat).ok()?.bytes).ok()?
    }

    /// Says whether the process that is read next was read at the scrape before, too.
    pub(crate) fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// Closes what is not read of a process at rest.
    pub(crate) fn close_busy(&mut self, pid: u32) {
        Source::BUSY.iter().for_each(|source| drop(self.open.files.remove(&(pid, *source))));
    }

    /// Where the link `exe` points to; a deleted file keeps its old path, so that an upgrade makes no new series.
    pub(crate) fn executable(&mut self, pid: u32) -> Result<String, Failure> {
        let target = std::fs::read_link(self.locate(pid, Source::Exe.name()))?.into_os_string().into_vec();
        let path = target.strip_suffix(DELETED).unwrap_or(&target);
        Ok(String::from_utf8_lossy(path).into_owned())
    }

    /// How many file descriptors are open.
    pub(crate) fn descriptors(&mut self, pid: u32) -> Result<u64, Failure> {
        let by_size = self.fd_size_counts;
        let path = self.locate(pid, Source::Fd.name());
        if by_size {
            // The size is shown even where the directory may not be listed; the mode is what forbids it.
            return Ok(std::fs::metadata(path)?.len());
        }
        let mut count = 0;
        for entry in std::fs::read_dir(path)? {
            entry?;
            count += 1;
        }
        Ok(count)
    }
}

/// Fills `buffer`, which grows up to [`MAX_BYTES`], from the beginning of `file`, and returns how many bytes are in it.
fn fill(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        let space = buffer.get_mut(filled..).unwrap_or_default();
        let room = space.len();
        let read = match file.read_at(space, filled as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        filled += read;
        // The kernel fills what it is given; less is the end, which saves a call.
        if read < room || filled >= MAX_BYTES {
            return Ok(filled);
        }
        buffer.resize((filled * 2).min(MAX_BYTES), 0);
    }
}

/// Compares size and entries of the agent's own directory; other threads may open and close files meanwhile.
fn fd_size_counts(proc: &Path) -> bool {
    let own = proc.join("self/fd");
    let (Ok(metadata), Ok(entries)) = (std::fs::metadata(&own), std::fs::read_dir(&own)) else { return false };
    let counted = entries.count() as u64;
    metadata.len() > 0 && metadata.len().abs_diff(counted) <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_files_short_and_long() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("7")).unwrap();
        std::fs::create_dir(dir.path().join("7up")).unwrap();
        std::fs::create_dir(dir.path().join("sys")).unwrap();
        let mut files = Files::new(dir.path(), 0);
        for len in [0, 1, PAGE - 1, PAGE, PAGE + 1, MAX_BYTES - 1] {
            std::fs::write(dir.path().join("7/cmdline"), vec![b'x'; len]).unwrap();
            let text = files.read(7, Source::Cmdline).unwrap();
            assert_eq!((text.bytes.len(), text.cut), (len, false));
        }
        std::fs::write(dir.path().join("7/cmdline"), vec![b'x'; MAX_BYTES + 1]).unwrap();
        let text = files.read(7, Source::Cmdline).unwrap();
        assert_eq!((text.bytes.len(), text.cut), (MAX_BYTES, true));
        let mut pids = Vec::new();
        files.pids(&mut pids).unwrap();
        assert_eq!(pids, [7]);
        assert!(matches!(files.read(8, Source::Stat), Err(Failure::Gone)));
        assert!(matches!(files.read(7, Source::Stat), Err(Failure::Gone)));
    }

    #[test]
    fn files_of_procfs_stay_open_and_say_when_their_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let mut files = Files::new(Path::new("/proc"), 2);
        let begin = format!("{pid} (");
        for _ in 0..2 {
            assert!(files.read(pid, Source::Stat).unwrap().bytes.starts_with(begin.as_bytes()));
            assert!(!files.read(pid, Source::Statm).unwrap().bytes.is_empty());
            assert!(!files.read(pid, Source::Io).unwrap().bytes.is_empty());
            files.read(pid, Source::Cmdline).unwrap();
            assert_eq!(files.open.files.len(), 2, "no more than that, and only what is read at every scrape");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(files.read(pid, Source::Stat), Err(Failure::Gone)));
        assert!(matches!(files.read(pid, Source::Statm), Err(Failure::Gone)));
        assert!(files.open.files.is_empty());
        let own = std::process::id();
        files.read(own, Source::Stat).unwrap();
        files.close_others(|pid| pid != own);
        assert!(files.open.files.is_empty());
    }

    #[test]
    fn what_is_read_once_does_not_stay_open() {
        let own = std::process::id();
        let mut files = Files::new(Path::new("/proc"), 10);
        let open = |files: &mut Files, busy| {
            files.set_busy(busy);
            for source in [Source::Schedstat, Source::Stat, Source::Statm, Source::Io] {
                files.read(own, source).unwrap();
            }
            files.open.files.len()
        };
        assert_eq!((open(&mut files, false), open(&mut files, true)), (2, 4));
        files.close_busy(own);
        assert_eq!(files.open.files.len(), 2);
    }

    #[test]
    fn files_of_another_file_system_do_not_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("7")).unwrap();
        std::fs::write(dir.path().join("7/stat"), "of the dead").unwrap();
        let mut files = Files::new(dir.path(), 10);
        files.read(7, Source::Stat).unwrap();
        std::fs::remove_file(dir.path().join("7/stat")).unwrap();
        assert!(matches!(files.read(7, Source::Stat), Err(Failure::Gone)));
    }

    #[test]
    fn a_deleted_executable_keeps_its_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("7/fd")).unwrap();
        std::os::unix::fs::symlink("/usr/bin/app (deleted)", dir.path().join("7/exe")).unwrap();
        std::fs::write(dir.path().join("7/fd/0"), "").unwrap();
        std::fs::write(dir.path().join("7/fd/1"), "").unwrap();
        let mut files = Files::new(dir.path(), 0);
        assert_eq!(files.executable(7).unwrap(), "/usr/bin/app");
        assert_eq!(files.descriptors(7).unwrap(), 2, "a directory that is not procfs is listed");
    }

    #[test]
    fn descriptors_of_this_process_are_counted() {
        let mut files = Files::new(Path::new("/proc"), 0);
        let own = std::process::id();
        let held: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let with = files.descriptors(own).unwrap();
        drop(held);
        let without = files.descriptors(own).unwrap();
        assert!(with >= without + 40 && without > 0, "{with} {without}");
    }
}
