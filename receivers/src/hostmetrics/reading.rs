//! Small files of `/proc` and `/sys`, read whole into a buffer that is kept, and the errors that say where one is wrong.
//!
//! A file that is not what the kernel writes is an error with its path and line, never "absent". Nothing here knows a metric.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No file that is read whole is larger: `mountinfo` of a host with ten thousand mounts is about 2 MiB.
const MAX_BYTES: u64 = 16 << 20;

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there but is not what the kernel writes.
    #[error("{}:{line}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, 1-based; 0 means the whole file.
        line: usize,
        /// What was expected.
        what: &'static str,
    },
    /// A line that every kernel writes is not there.
    #[error("{}: no line {name:?}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The name the line begins with.
        name: &'static str,
    },
    /// The file is larger than any such file can be.
    #[error("{}: larger than {MAX_BYTES} bytes, not read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// One file that is read at every scrape.
#[derive(Debug)]
pub(crate) struct Reading {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Reading {
    /// Names the file; reads nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, bytes: Vec::new() }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file anew.
    pub(crate) fn refresh(&mut self) -> Result<(), ReadError> {
        self.bytes.clear();
        let io = |source| ReadError::Io { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(io)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut self.bytes).map_err(io)?;
        if self.bytes.len() as u64 > MAX_BYTES {
            self.bytes = Vec::new();
            return Err(ReadError::TooLarge { path: self.path.clone() });
        }
        Ok(())
    }

    /// What the last reading brought.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the file anew, as text.
    pub(crate) fn text(&mut self) -> Result<Text<'_>, ReadError> {
        self.refresh()?;
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Ok(Text { path: &self.path, text }),
            Err(_) => Err(ReadError::Malformed { path: self.path.clone(), line: 0, what: "the file is not text" }),
        }
    }
}

/// What a file said, with its path for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Text<'a> {
    /// The lines, numbered from 1.
    pub(crate) fn lines(self) -> impl Iterator<Item = Line<'a>> {
        self.text.lines().enumerate().map(move |(i, text)| Line { path: self.path, number: i + 1, text })
    }

    /// The value of the `name` line of a file of `name value` or `name: value kB` lines; `None` if there is no such line.
    pub(crate) fn value(self, name: &str) -> Result<Option<u64>, ReadError> {
        for line in self.lines() {
            let Some(rest) = line.text.strip_prefix(name) else { continue };
            let Some(rest) = rest.strip_prefix(':').or_else(|| rest.strip_prefix([' ', '\t'])) else { continue };
            let mut words = rest.split_ascii_whitespace();
            let number: u64 = line.number(words.next(), "expected a number after the name")?;
            return match words.next() {
                None => Ok(Some(number)),
                Some("kB") => Ok(Some(number.saturating_mul(1024))),
                Some(_) => Err(line.malformed("expected the unit kB or none")),
            };
        }
        Ok(None)
    }

    /// As [`Text::value`], for a line that every kernel writes.
    pub(crate) fn required(self, name: &'static str) -> Result<u64, ReadError> {
        self.value(name)?.ok_or_else(|| ReadError::Missing { path: self.path.to_path_buf(), name })
    }

    /// An error about the whole file.
    pub(crate) fn malformed(self, what: &'static str) -> ReadError {
        ReadError::Malformed { path: self.path.to_path_buf(), line: 0, what }
    }

    /// All of it.
    pub(crate) fn as_str(self) -> &'a str {
        self.text
    }
}

/// One line of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    path: &'a Path,
    number: usize,
    /// The text without its end.
    pub text: &'a str,
}

impl Line<'_> {
    /// Parses a word of the line; an error that says `what` if it is missing or wrong.
    pub(crate) fn number<N: std::str::FromStr>(&self, word: Option<&str>, what: &'static str) -> Result<N, ReadError> {
        word.and_then(|word| word.parse().ok()).ok_or_else(|| self.malformed(what))
    }

    /// An error about this line.
    pub(crate) fn malformed(&self, what: &'static str) -> ReadError {
        ReadError::Malformed { path: self.path.to_path_buf(), line: self.number, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &[u8]) -> (tempfile::TempDir, Reading) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meminfo");
        std::fs::write(&path, text).unwrap();
        (dir, Reading::new(path))
    }

    #[test]
    fn values_are_found_by_whole_name_and_kilobytes_become_bytes() {
        let (_dir, mut file) = reading(b"SwapCached: 7 kB\nCached: 2 kB\nHugePages_Total:       3\npgfault 9\n");
        let text = file.text().unwrap();
        assert_eq!(text.value("Cached").unwrap(), Some(2048));
        assert_eq!(text.value("HugePages_Total").unwrap(), Some(3));
        assert_eq!(text.value("pgfault").unwrap(), Some(9));
        assert_eq!(text.value("pg").unwrap(), None);
        assert!(text.required("MemTotal").unwrap_err().to_string().ends_with("meminfo: no line \"MemTotal\""));
    }

    #[test]
    fn a_malformed_line_is_an_error_with_its_place() {
        let (_dir, mut file) = reading(b"A: 1 kB\nB: many kB\nC: 1 MB\n");
        let text = file.text().unwrap();
        assert!(text.value("B").unwrap_err().to_string().ends_with("meminfo:2: expected a number after the name"));
        assert!(text.value("C").unwrap_err().to_string().ends_with("meminfo:3: expected the unit kB or none"));
        let (_dir, mut file) = reading(b"\xff\xfe");
        assert!(file.text().unwrap_err().to_string().contains("not text"));
    }
}
