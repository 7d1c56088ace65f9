//! Where the host's files are.
//!
//! A container sees its own `/proc` and `/sys`; the host's are mounted below `root_path`. The one rule of the Collector holds
//! here too: `HOST_PROC`, `HOST_SYS` and so on win over `root_path`, which wins over the real root. This file knows paths and
//! the boot time, and parses nothing else.

use std::path::{Path, PathBuf};

/// The places of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The host's `/proc`.
    pub proc: PathBuf,
    /// The host's `/sys`.
    pub sys: PathBuf,
    /// The host's `/etc`.
    pub etc: PathBuf,
    /// The host's `/dev`.
    pub dev: PathBuf,
    /// The host's `/`: below it are the mount points of the host.
    pub root: PathBuf,
    /// Whether the files are those of another root than the agent's own: then `/proc/self` and what links to it speak of the
    /// wrong namespace, and process 1 stands for the host.
    pub foreign: bool,
}

/// Why the host's boot time is not known.
#[derive(Debug, thiserror::Error)]
pub enum BootTimeError {
    /// The file cannot be read.
    #[error("{path}: {source}; without the host's boot time counters have no start time, check root_path")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has no readable `btime` line.
    #[error("{path}: no line \"btime SECONDS\"; it is not the stat file of a Linux host, check root_path")]
    NoBtime {
        /// The file.
        path: PathBuf,
    },
}

impl Root {
    /// The places under `root_path` ("" or "/": the real root), with the Collector's environment variables on top.
    pub fn new(root_path: &str) -> Self {
        Self::with_environment(root_path, |name| std::env::var_os(name).map(PathBuf::from))
    }

    fn with_environment(root_path: &str, environment: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let base = if root_path.is_empty() { Path::new("/") } else { Path::new(root_path) };
        let place = |name: &str, default: &str| {
            environment(name).filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| base.join(default))
        };
        let proc = place("HOST_PROC", "proc");
        Self {
            foreign: proc != Path::new("/proc"),
            proc,
            sys: place("HOST_SYS", "sys"),
            etc: place("HOST_ETC", "etc"),
            dev: place("HOST_DEV", "dev"),
            root: base.to_path_buf(),
        }
    }

    /// When the host booted, whole seconds since the Unix epoch, from `btime` of `/proc/stat`. The kernel computes that line
    /// from the wall clock at every read, so it moves when the clock is set: read it once and keep it.
    ///
    /// # Errors
    /// The file cannot be read or has no `btime`.
    pub fn boot_time_seconds(&self) -> Result<u64, BootTimeError> {
        let path = self.proc.join("stat");
        let text =
            std::fs::read_to_string(&path).map_err(|source| BootTimeError::Read { path: path.clone(), source })?;
        let btime = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        btime.ok_or(BootTimeError::NoBtime { path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_path_moves_everything_and_the_environment_wins() {
        let none = |_: &str| None;
        let real = Root::with_environment("", none);
        assert_eq!(
            (real.proc.as_path(), real.sys.as_path(), real.foreign),
            (Path::new("/proc"), Path::new("/sys"), false)
        );
        assert_eq!(real, Root::with_environment("/", none));
        let host = Root::with_environment("/hostfs", none);
        assert_eq!(
            (host.proc.as_path(), host.etc.as_path(), host.foreign),
            (Path::new("/hostfs/proc"), Path::new("/hostfs/etc"), true)
        );
        assert_eq!(host.root, Path::new("/hostfs"));
        let mixed = Root::with_environment("/hostfs", |name| (name == "HOST_PROC").then(|| "/host/proc".into()));
        assert_eq!((mixed.proc.as_path(), mixed.sys.as_path()), (Path::new("/host/proc"), Path::new("/hostfs/sys")));
    }

    #[test]
    fn boot_time_is_the_btime_line_or_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::with_environment(dir.path().to_str().unwrap(), |_| None);
        assert!(root.boot_time_seconds().unwrap_err().to_string().contains("proc/stat"));
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/stat"), "cpu 1 2\nbtime 1700000000\n").unwrap();
        assert_eq!(root.boot_time_seconds().unwrap(), 1_700_000_000);
        std::fs::write(dir.path().join("proc/stat"), "cpu 1 2\nbtime soon\n").unwrap();
        assert!(root.boot_time_seconds().unwrap_err().to_string().contains("btime"));
    }
}
