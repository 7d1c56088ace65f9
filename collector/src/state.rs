//! The state directory: what must survive a restart, held by one agent at a time.
//!
//! A file lock says who holds it, so that the end of a process, however it comes, also ends its hold. The directory is
//! made for its owner alone (0700); one that is there already keeps its mode. Components get a directory of their own
//! below it, which they make when they first write.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phoenix_pipeline::ComponentId;

/// The file in the directory that is locked; it holds the pid of the agent that holds the lock.
const LOCK: &str = "phoenix.lock";

/// A state directory in use. It is free again when the last clone is dropped, or when the process ends.
#[derive(Clone, Debug)]
pub struct StateDir(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // An empty file says that the last agent ended in order; the lock itself ends with the file.
        let _ = self.lock.set_len(0);
    }
}

/// Which directory is meant, and whether somebody named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    /// By which flag or variable it was named; none = the usual default.
    named: Option<&'static str>,
}

impl Place {
    /// The directory, whether it is there or not.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `--state-dir`, else `STATE_DIRECTORY` (the first of its paths), else `$XDG_STATE_HOME/phoenix`, else
    /// `~/.local/state/phoenix`; none if there is no home either.
    pub fn find(flag: Option<&Path>, environment: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        if let Some(path) = flag {
            return Some(Place { path: path.to_owned(), named: Some("--state-dir") });
        }
        let directories = environment("STATE_DIRECTORY").filter(|text| !text.is_empty());
        if let Some(path) = directories.and_then(|text| std::env::split_paths(&text).next()) {
            return Some(Place { path, named: Some("STATE_DIRECTORY") });
        }
        // Relative paths are to be ignored, by the XDG specification.
        let absolute = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
        Some(Place { path: base.join("phoenix"), named: None })
    }
}

/// Opens the state directory. One that nobody named and that cannot be used is a warning: the agent then keeps no state.
///
/// # Errors
/// A directory that was named cannot be written, or another running agent holds it.
pub fn open(place: Option<Place>) -> Result<Option<StateDir>, String> {
    let Some(Place { path, named }) = place else {
        tracing::warn!("there is no home directory, so nothing is kept over a restart; --state-dir names a place");
        return Ok(None);
    };
    match (StateDir::open(&path), named) {
        (Ok(state), _) => Ok(Some(state)),
        (Err(why), None) => {
            tracing::warn!("nothing is kept over a restart: {why}; --state-dir names another place");
            Ok(None)
        }
        (Err(why), Some(name)) => Err(format!("{why}; {name} names it")),
    }
}

impl StateDir {
    fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let fail = |error: io::Error| format!("the state directory {shown} cannot be written: {error}");
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let who = pid(&mut lock).map_or_else(String::new, |pid| format!(" (pid {pid})"));
                return Err(format!("the state directory {shown} is held by another running agent{who}"));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        if let Some(pid) = pid(&mut lock) {
            tracing::info!(directory = %shown, pid, "the last agent did not end in order; its state is taken over");
        }
        let text = format!("{}\n", std::process::id());
        let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(text.as_bytes()));
        written.map_err(fail)?;
        Ok(StateDir(Arc::new(Held { path: path.to_owned(), lock })))
    }

    /// The directory of one component: `KIND_TYPE_NAME`, and the pipeline where it stands in one. It is not made here.
    pub fn of(&self, kind: &str, id: &ComponentId, pipeline: Option<&str>) -> Arc<Path> {
        let mut name = format!("{kind}_{}", plain(&id.as_str().replacen('/', "_", 1)));
        if let Some(pipeline) = pipeline {
            name.push('@');
            name.push_str(&plain(&pipeline.replacen('/', "_", 1)));
        }
        self.0.path.join(name).into()
    }
}

/// The pid in a lock file, if there is one.
fn pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A part of a file name: what is not plainly a letter, digit, `-`, `.` or `_` is written as `%XX`.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<(String, Option<&'static str>)> {
        let look = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Place::find(flag.map(Path::new), look).map(|place| (place.path.display().to_string(), place.named))
    }

    #[test]
    fn the_flag_comes_first_then_systemd_then_the_home() {
        let all = [("STATE_DIRECTORY", "/a:/b"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(place(Some("/f"), &all), Some(("/f".into(), Some("--state-dir"))));
        assert_eq!(place(None, &all), Some(("/a".into(), Some("STATE_DIRECTORY"))));
        assert_eq!(place(None, &all[1..]), Some(("/x/phoenix".into(), None)));
        assert_eq!(place(None, &all[2..]), Some(("/h/.local/state/phoenix".into(), None)));
        let relative = [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "x"), ("HOME", "/h")];
        assert_eq!(place(None, &relative), Some(("/h/.local/state/phoenix".into(), None)));
        assert_eq!(place(None, &[]), None);
        assert!(open(None).unwrap().is_none());
    }

    #[test]
    fn one_agent_holds_it_at_a_time_and_a_stale_lock_is_taken_over() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("deep/state");
        let at = |named| Some(Place { path: path.clone(), named });
        let held = open(at(Some("--state-dir"))).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let lock = path.join(LOCK);
        assert_eq!(std::fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
        let error = open(at(Some("--state-dir"))).unwrap_err();
        assert!(error.contains(&format!("another running agent (pid {})", std::process::id())), "{error}");
        assert!(error.ends_with("--state-dir names it"), "{error}");
        assert!(open(at(None)).unwrap().is_none(), "the default is a warning");
        drop(held);
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), "");
        std::fs::write(&lock, "1\n").unwrap();
        let again = open(at(Some("--state-dir"))).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), format!("{}\n", std::process::id()));
        drop(again);
    }

    #[test]
    fn what_cannot_be_a_directory_is_an_error_where_it_was_named() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("file");
        std::fs::write(&file, "").unwrap();
        let at = |named| Some(Place { path: file.clone(), named });
        assert!(open(at(None)).unwrap().is_none());
        assert!(open(at(Some("STATE_DIRECTORY"))).unwrap_err().contains("cannot be written"));
    }

    #[test]
    fn every_component_has_a_directory_of_its_own_inside() {
        let room = tempfile::tempdir().unwrap();
        let state = StateDir::open(room.path()).unwrap();
        let of = |id: &str, pipeline| {
            let path = state.of("processor", &ComponentId::new(id), pipeline);
            path.strip_prefix(room.path()).unwrap().display().to_string()
        };
        assert_eq!(of("aggregate", Some("metrics")), "processor_aggregate@metrics");
        assert_eq!(of("aggregate/tight", Some("metrics/eu")), "processor_aggregate_tight@metrics_eu");
        assert_eq!(of("a/../../x", None), "processor_a_..%2F..%2Fx");
    }
}
