//! Who a process is: the texts of its resource, read when it is first seen and then rarely.
//!
//! Every text that could hold an argument passes through the scrubber here, before it is kept. Texts are bounded. The arguments
//! are read again only when the program changed: many programs rewrite them to say what they do at the moment, and a
//! resource that changes is another series.

use phoenix_pipeline::cgroup::{self, Ids};

use crate::hostmetrics::names::Filter;
use crate::scrub;

use super::config::{Attribute, CommandLine, Config};
use super::files::{Failure, Files, Source};
use super::owner::Owners;
use super::reading::{self, Comm};
use super::trouble::{Cause, Troubles};

/// Longest name, in bytes: the longest file name.
const MAX_NAME: usize = 255;

/// Longest of all other texts, in bytes: the longest path; command lines beyond it say nothing new.
pub(crate) const MAX_TEXT: usize = 4096;

/// The kernel keeps this many bytes of a program's name.
const COMM_FULL: usize = 15;

/// The texts of one process; absent where the process has none, it is not wanted, or it may not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub name: String,
    pub path: Option<String>,
    pub command: Option<String>,
    pub command_line: Option<String>,
    pub owner: Option<String>,
    pub cgroup: Option<String>,
    pub ids: Ids,
}

/// Reads [`Facts`], and only the files that an attribute needs.
#[derive(Debug)]
pub(crate) struct FactReader {
    path: bool,
    command: bool,
    command_line: bool,
    raw: bool,
    owner: bool,
    cgroup: bool,
    ids: bool,
    filter: Filter,
    pub owners: Owners,
}

/// The process ended while it was looked at.
#[derive(Debug)]
pub(crate) struct Gone;

impl FactReader {
    pub(crate) fn new(config: &Config, filter: Filter, owners: Owners) -> Self {
        Self {
            path: config.wants(Attribute::ExecutablePath),
            command: config.wants(Attribute::Command),
            command_line: config.wants(Attribute::CommandLine),
            raw: config.command_line == CommandLine::Raw,
            owner: config.wants(Attribute::Owner),
            cgroup: config.wants(Attribute::Cgroup),
            ids: config.wants(Attribute::ContainerId) || config.wants(Attribute::PodUid),
            filter,
            owners,
        }
    }

    /// Everything about a process that is seen for the first time, or whose program changed; `None` if it is left out by
    /// name, and then nothing more is read of it.
    pub(crate) fn read(
        &mut self,
        pid: u32,
        comm: &Comm,
        files: &mut Files,
        troubles: &mut Troubles,
    ) -> Result<Option<Facts>, Gone> {
        let comm = String::from_utf8_lossy(comm.as_bytes()).into_owned();
        let mut argv = Vec::new();
        if self.command || self.command_line || comm.len() == COMM_FULL {
            argv = match files.read(pid, Source::Cmdline) {
                Ok(text) => reading::cmdline(text.bytes, text.cut),
                Err(Failure::Gone) => return Err(Gone),
                Err(Failure::Failed(error)) => {
                    troubles.note(Source::Cmdline, &Cause::Io(error), pid, 0);
                    Vec::new()
                }
            };
        }
        let name = name(&comm, argv.first().map(String::as_str));
        if !self.filter.admits(&name) {
            return Ok(None);
        }
        let mut facts = Facts { name, path: self.executable(pid, files, troubles), ..Facts::default() };
        if !self.raw {
            argv = scrub::arguments(&argv);
        }
        if self.command_line {
            facts.command_line = Some(cut(argv.join(" "), MAX_TEXT)).filter(|text| !text.is_empty());
        }
        if self.command {
            facts.command = argv.into_iter().next().map(|text| cut(text, MAX_TEXT)).filter(|text| !text.is_empty());
        }
        self.surroundings(pid, &mut facts, files, troubles)?;
        Ok(Some(facts))
    }

    /// What may change during the life of a program: its user and its control group. Everything, if the program is another one.
    pub(crate) fn renew(
        &mut self,
        pid: u32,
        comm: &Comm,
        old: &Facts,
        files: &mut Files,
        troubles: &mut Troubles,
    ) -> Result<Option<Facts>, Gone> {
        if self.executable(pid, files, troubles) != old.path {
            return self.read(pid, comm, files, troubles);
        }
        let mut facts = old.clone();
        self.surroundings(pid, &mut facts, files, troubles)?;
        Ok(Some(facts))
    }

    fn executable(&self, pid: u32, files: &mut Files, troubles: &mut Troubles) -> Option<String> {
        if !self.path {
            return None;
        }
        match files.executable(pid) {
            Ok(path) => Some(cut(scrub::text(&path), MAX_TEXT)),
            // Kernel threads and zombies have none.
            Err(Failure::Gone) => None,
            Err(Failure::Failed(error)) => {
                troubles.note(Source::Exe, &Cause::Io(error), pid, 0);
                None
            }
        }
    }

    fn surroundings(
        &mut self,
        pid: u32,
        facts: &mut Facts,
        files: &mut Files,
        troubles: &mut Troubles,
    ) -> Result<(), Gone> {
        if self.owner {
            facts.owner = None;
            let uid = match files.read(pid, Source::Status) {
                Ok(text) => reading::uid(text.bytes).map_err(Cause::from),
                Err(Failure::Gone) => return Err(Gone),
                Err(Failure::Failed(error)) => Err(error.into()),
            };
            match uid {
                Ok(uid) => facts.owner = Some(self.owners.name(uid)),
                Err(cause) => troubles.note(Source::Status, &cause, pid, 0),
            }
        }
        if self.cgroup || self.ids {
            (facts.cgroup, facts.ids) = (None, Ids::default());
            match files.read(pid, Source::Cgroup) {
                Ok(text) => {
                    let text = String::from_utf8_lossy(text.bytes);
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    if self.ids {
                        facts.ids = cgroup::ids(text);
                    }
                    if self.cgroup {
                        facts.cgroup = Some(cut(text.to_owned(), MAX_TEXT));
                    }
                }
                Err(Failure::Gone) => return Err(Gone),
                Err(Failure::Failed(error)) => troubles.note(Source::Cgroup, &Cause::Io(error), pid, 0),
            }
        }
        Ok(())
    }
}

/// `process.executable.name`: the kernel's name of the program; one that fills the kernel's space was probably cut, and is
/// completed by the base name of the first argument if that begins with it. What follows a space or a colon there is no name
/// but a title (`systemd-userwork: waiting...`), which would be another series each time it changes.
fn name(comm: &str, first: Option<&str>) -> String {
    let first = first.filter(|_| comm.len() == COMM_FULL).unwrap_or_default();
    // A title may hold paths, so the first word is looked at before the whole.
    let mut bases =
        [first.split(' ').next().unwrap_or_default(), first].into_iter().filter_map(|t| t.rsplit('/').next());
    let rest = bases.find_map(|base| base.strip_prefix(comm)).unwrap_or_default();
    let rest = rest.split([' ', ':']).next().unwrap_or_default();
    cut(scrub::text(&format!("{comm}{rest}")), MAX_NAME)
}

/// At most `max` bytes, ending with a whole character.
fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_cut_are_completed() {
        assert_eq!(name("cat", Some("/bin/other")), "cat");
        assert_eq!(name("systemd-journal", Some("/usr/lib/systemd/systemd-journald")), "systemd-journald");
        assert_eq!(name("systemd-journal", Some("/usr/lib/else")), "systemd-journal");
        assert_eq!(name("systemd-journal", None), "systemd-journal");
        assert_eq!(name("systemd-userwor", Some("systemd-userwork: waiting...")), "systemd-userwork");
        assert_eq!(name("chromium-browse", Some("/lib/c/chromium-browser --user-dir=/a/b")), "chromium-browser");
        assert_eq!(name("exactly 15 char", Some("/opt/my app/exactly 15 characters")), "exactly 15 characters");
        assert_eq!(name("worker token=ab", Some("worker token=abcdef123")), "worker token=[REDACTED]");
        assert_eq!(name("token=abcdef12", None), "token=[REDACTED]");
    }

    #[test]
    fn a_cut_ends_with_a_whole_character() {
        assert_eq!(cut("aé".to_owned(), 2), "a");
        assert_eq!(cut("aé".to_owned(), 3), "aé");
    }
}
