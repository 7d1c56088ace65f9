//! The name of a user id: from the host's own `/etc/passwd`, else from the name service of this machine, else the number.
//!
//! The name service is asked only where the host is this machine: below a `root_path` its answers would be about other users.
//! Names are kept; the file is parsed again only when it changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// So many answers of the name service are kept; hosts with more users than this ask again.
const MAX_ANSWERS: usize = 10_000;

/// Answers of the name service are forgotten after this time: users are renamed and added rarely.
const ANSWERS_LIVE: Duration = Duration::from_secs(900);

/// A larger file is not read whole; 16 MiB are about 200,000 users.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Owners {
    path: PathBuf,
    version: Option<(SystemTime, u64)>,
    users: HashMap<u32, String>,
    /// Answers of the name service, `None` for users it does not know; and since when they are kept.
    answers: HashMap<u32, Option<String>>,
    since: Option<Instant>,
    foreign: bool,
}

impl Owners {
    /// `passwd` is the host's file; `foreign`: the host is not this machine.
    pub(crate) fn new(passwd: PathBuf, foreign: bool) -> Self {
        Self { path: passwd, version: None, users: HashMap::new(), answers: HashMap::new(), since: None, foreign }
    }

    /// Takes note of a changed file and of old answers; once per scrape is enough.
    pub(crate) fn refresh(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= ANSWERS_LIVE) {
            self.answers.clear();
            self.since = Some(now);
        }
        let metadata = std::fs::metadata(&self.path).ok().filter(|m| m.len() <= MAX_BYTES);
        let version = metadata.and_then(|m| Some((m.modified().ok()?, m.len())));
        if version != self.version {
            self.users = std::fs::read(&self.path)
                .ok()
                .filter(|_| version.is_some())
                .map(|text| parse(&text))
                .unwrap_or_default();
            self.version = version;
        }
    }

    /// The user's name; the number as text if nobody knows it.
    pub(crate) fn name(&mut self, uid: u32) -> String {
        if let Some(name) = self.users.get(&uid) {
            return name.clone();
        }
        let answer = if self.foreign { None } else { self.ask(uid) };
        answer.unwrap_or_else(|| uid.to_string())
    }

    fn ask(&mut self, uid: u32) -> Option<String> {
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.clear();
        }
        self.answers.entry(uid).or_insert_with(|| name_service::user(uid)).clone()
    }
}

/// `name:password:uid:…` lines; others (comments, NIS) are passed over. The first line of a uid counts, as in the C library.
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in text.split(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(line);
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(Ok(uid))) = (fields.next(), fields.next(), fields.next().map(str::parse)) else {
            continue;
        };
        if !name.is_empty() {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// The C library's name service: files, LDAP, systemd's own users.
#[allow(unsafe_code)]
mod name_service {
    use std::ffi::CStr;

    /// An entry is longer only if something is wrong.
    const MAX_ENTRY: usize = 1 << 20;

    pub(super) fn user(uid: u32) -> Option<String> {
        let mut buffer: Vec<libc::c_char> = vec![0; 1024];
        loop {
            // SAFETY: all-zero bytes are a valid `passwd`: integers and null pointers.
            let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
            let mut found: *mut libc::passwd = std::ptr::null_mut();
            // SAFETY: the pointers are to live variables of the right types, and the length is the buffer's.
            let code = unsafe { libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
            if code == libc::ERANGE && buffer.len() < MAX_ENTRY {
                buffer.resize(buffer.len() * 4, 0);
                continue;
            }
            if code != 0 || found.is_null() || entry.pw_name.is_null() {
                return None;
            }
            // SAFETY: on success `pw_name` points to a NUL-terminated string inside `buffer`, which lives until the end of this function.
            let name = unsafe { CStr::from_ptr(entry.pw_name) };
            return Some(name.to_string_lossy().into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let passwd = dir.path().join("passwd");
        let mut owners = Owners::new(passwd.clone(), true);
        let now = Instant::now();
        owners.refresh(now);
        assert_eq!(owners.name(0), "0", "no file, and a foreign host asks nobody");
        std::fs::write(
            &passwd,
            "# users\nroot:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/false\nalias:x:33:33::/:\n+::\nbad:x:no\n",
        )
        .unwrap();
        owners.refresh(now);
        assert_eq!(owners.name(33), "www");
        std::fs::write(&passwd, "root:x:0:0::/root:/bin/sh\nhttpd:x:33:33::/:/bin/false\n").unwrap();
        owners.refresh(now);
        assert_eq!(owners.name(33), "httpd");
        assert_eq!(owners.name(99), "99");
    }

    #[test]
    fn this_machine_knows_root_even_without_the_file() {
        let mut owners = Owners::new("/nonexistent".into(), false);
        owners.refresh(Instant::now());
        assert_eq!(owners.name(0), "root");
        assert_eq!(owners.name(4_294_967_000), "4294967000");
    }
}
