//! What the controller remembers over a restart: one small file a stage, whole or not at all.
//!
//! The first line holds a name, a version and the checksum of the rest, which is JSON. It is written under another name,
//! synced and renamed. What does not read well is put aside as if it were not there, with a word in the log.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use phoenix_control::State;
use serde::{Deserialize, Serialize};

const FILE: &str = "state";
const NEXT: &str = "state.new";
const HEADER: &str = "phoenix-control 1";
/// The file has some kilobytes; what is longer is not ours.
const LONGEST: u64 = 1 << 20;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The profile the controller wants at work.
    pub(super) profile: String,
    /// All profiles, in order: indexes mean nothing among others.
    pub(super) profiles: Vec<String>,
    /// A checksum of the settings the state was made under.
    pub(super) settings: u32,
    /// The controller's.
    pub(super) state: State,
}

/// What an earlier run left for a stage with these profiles.
pub(super) fn read(directory: &Path, profiles: &[Arc<str>]) -> Option<Saved> {
    let path = directory.join(FILE);
    let mut text = String::new();
    let read = fs::File::open(&path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    let found = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(_) => understood(&text).map_err(str::to_owned),
    };
    match found {
        Ok(saved) if is_of(&saved, profiles) => Some(saved),
        Ok(_) => {
            tracing::info!(file = %path.display(), "the state of the control loop is of other profiles: it begins anew");
            None
        }
        Err(why) => {
            tracing::warn!(file = %path.display(), why, "the state of the control loop cannot be used: it begins anew");
            None
        }
    }
}

fn is_of(saved: &Saved, profiles: &[Arc<str>]) -> bool {
    saved.profiles.iter().map(String::as_str).eq(profiles.iter().map(|name| &**name))
        && saved.profiles.contains(&saved.profile)
}

fn understood(text: &str) -> Result<Saved, &'static str> {
    let (head, body) = text.split_once('\n').ok_or("it is cut off")?;
    let sum = head.strip_prefix(HEADER).ok_or("it is of another version, or no such file")?;
    if sum.trim() != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
        return Err("its checksum is wrong");
    }
    serde_json::from_str(body).map_err(|_| "it does not hold what it should")
}

/// Writes it in the place of the last one.
///
/// # Errors
/// Those of the file system; the last one then stands.
pub(super) fn write(directory: &Path, saved: &Saved) -> io::Result<()> {
    let body = serde_json::to_string(saved)?;
    let text = format!("{HEADER} {:08x}\n{body}", crc32fast::hash(body.as_bytes()));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let next = directory.join(NEXT);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(next, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_whole_or_not_at_all() {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("control_adaptive");
        let profiles: Vec<Arc<str>> = vec!["a".into(), "b".into()];
        assert_eq!(read(&directory, &profiles), None);
        let names = profiles.iter().map(|name| name.to_string()).collect();
        let saved = Saved { profile: "b".into(), profiles: names, settings: 7, state: State::default() };
        write(&directory, &saved).unwrap();
        assert_eq!(read(&directory, &profiles), Some(saved.clone()));
        assert_eq!(read(&directory, &profiles[1..]), None, "other profiles");
        let file = directory.join(FILE);
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert_eq!(read(&directory, &profiles), None, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&file, &flipped).unwrap();
            assert_eq!(read(&directory, &profiles), None, "flipped at {at}");
        }
        write(&directory, &saved).unwrap();
        assert_eq!(read(&directory, &profiles), Some(saved));
    }
}
