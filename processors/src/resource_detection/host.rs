//! Where the detectors read: files under a root and environment variables, so that tests can stand in for a host.
//!
//! Only small files are read and nothing is written; no detector opens a socket.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No file that a detector reads is larger on a sane host (`/proc/cpuinfo` of 1,000 cores has 1.5 MB; one core is enough).
const LARGEST_FILE: u64 = 256 << 10;

/// Looks up an environment variable.
type Variables = Box<dyn Fn(&str) -> Option<String> + Send>;

/// A host as the detectors see it.
pub(super) struct Host {
    root: PathBuf,
    own_root: PathBuf,
    variables: Variables,
}

impl Host {
    /// This process's environment, and the files of the host whose root directory is mounted at `root_path` ("" = here).
    pub(super) fn new(root_path: &str) -> Self {
        Host::with(root_path, Path::new("/"), |name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// The same with everything given; `own_root` is the root directory of the agent itself.
    pub(super) fn with(
        root_path: &str,
        own_root: &Path,
        variables: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Self {
        let root = if root_path.is_empty() { own_root.to_owned() } else { PathBuf::from(root_path) };
        Host { root, own_root: own_root.to_owned(), variables: Box::new(variables) }
    }

    /// Whether the host's files are mounted somewhere else than here.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.root != self.own_root
    }

    /// A path of the host as this process can open it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file of the host; bytes that are no UTF-8 are replaced.
    pub(super) fn read(&self, path: &str) -> io::Result<String> {
        read(&self.path(path))
    }

    /// The text of a file of the agent's own file system, whatever the root is.
    pub(super) fn read_own(&self, path: &str) -> io::Result<String> {
        read(&self.own_root.join(path.trim_start_matches('/')))
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of these variables that is set and not empty.
    pub(super) fn first_variable(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.variable(name))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
