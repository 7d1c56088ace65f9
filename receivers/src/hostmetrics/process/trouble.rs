//! What could not be read: counted every time, said once per cause.
//!
//! A cause is a file's name and the error, not a process: a thousand processes whose `io` is forbidden are one line.

use std::collections::HashSet;
use std::io;

use super::config::Config;
use super::files::Source;
use super::reading::Malformed;

/// So many causes are told apart; there are fewer kinds of files and errors than this.
const MAX_CAUSES: usize = 64;

/// Why a reading is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The operating system's word.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The text is not what the kernel writes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A cause without its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Io(io::ErrorKind, Option<i32>),
    Malformed(&'static str),
}

#[derive(Debug)]
pub(crate) struct Troubles {
    muted: Vec<Source>,
    said: HashSet<(Source, Kind)>,
    /// Points of this scrape that could not be read.
    errored: usize,
}

impl Troubles {
    pub(crate) fn new(config: &Config) -> Self {
        let mutes = [
            (Source::Stat, config.mute_process_name_error),
            (Source::Exe, config.mute_process_exe_error),
            (Source::Io, config.mute_process_io_error),
            (Source::Status, config.mute_process_user_error),
            (Source::Cgroup, config.mute_process_cgroup_error),
            (Source::Statm, false),
            (Source::Cmdline, false),
            (Source::Fd, false),
        ];
        let muted = mutes
            .iter()
            .filter(|(_, mute)| *mute || config.mute_process_all_errors)
            .map(|(source, _)| *source)
            .collect();
        Self { muted, said: HashSet::new(), errored: 0 }
    }

    /// Notes that `points` of a process are missing; what is muted is neither counted nor said.
    pub(crate) fn note(&mut self, source: Source, cause: &Cause, pid: u32, points: usize) {
        if self.muted.contains(&source) {
            return;
        }
        self.errored += points;
        let kind = match cause {
            Cause::Io(error) => Kind::Io(error.kind(), error.raw_os_error()),
            Cause::Malformed(malformed) => Kind::Malformed(malformed.field),
        };
        if self.said.len() < MAX_CAUSES && self.said.insert((source, kind)) {
            let denied = matches!(cause, Cause::Io(error) if error.kind() == io::ErrorKind::PermissionDenied);
            let advice = if denied {
                "; CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH allow it, a mute_process_*_error setting silences it"
            } else {
                ""
            };
            if source == Source::Processes {
                tracing::warn!(scraper = "process", "cannot list the processes: {cause}; check root_path");
                return;
            }
            let file = source.name();
            tracing::warn!(
                scraper = "process",
                file,
                pid,
                "cannot read {file} of a process: {cause}{advice} (said once for all processes)"
            );
        }
    }

    /// Counts points that were left out for another reason.
    pub(crate) fn missed(&mut self, points: usize) {
        self.errored += points;
    }

    /// The points missed since the last call.
    pub(crate) fn take(&mut self) -> usize {
        std::mem::take(&mut self.errored)
    }

    /// How many causes were said.
    #[cfg(test)]
    pub(crate) fn causes(&self) -> usize {
        self.said.len()
    }
}
