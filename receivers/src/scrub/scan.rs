//! One pass over the text of an argument: finds where values begin and end, and leaves the secret ones out.
//!
//! An argument may be a word, a value with spaces, a process title or a shell script; only of a script are the quotes and
//! operators a syntax. Where it cannot be known how far a secret reaches, it reaches further.

use super::keys::{self, Strength};
use super::tools::{self, Where};
use super::{REDACTED, State, shapes};

/// What the next word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// A secret.
    Secret,
    /// A secret, unless it is an option or a path.
    Likely,
    /// A pair; what follows this character is the secret (`user:X`, `user%X`, `key=X`).
    After(char),
}

impl Expect {
    /// False if `word` cannot be what is expected.
    pub(super) fn takes(self, word: &str) -> bool {
        !matches!(self, Expect::Likely) || !word.starts_with(['-', '/'])
    }

    /// `word` without its secret.
    pub(super) fn hide(self, word: &str) -> String {
        match self {
            Expect::Secret | Expect::Likely if word.is_empty() => String::new(),
            Expect::Secret | Expect::Likely => REDACTED.to_owned(),
            Expect::After(mark) => match word.split_once(mark) {
                Some((head, secret)) if !secret.is_empty() => format!("{head}{mark}{REDACTED}"),
                _ => word.to_owned(),
            },
        }
    }
}

/// What a whole argument that is an option makes of the next one.
pub(super) fn opens(option: &str) -> Option<Expect> {
    if !option.starts_with('-') || !option.bytes().all(is_key) {
        return None;
    }
    if matches!(option, "--set" | "--set-string") {
        return Some(Expect::After('='));
    }
    match keys::strength(option)? {
        Strength::Strong => Some(Expect::Secret),
        Strength::Weak => Some(Expect::Likely),
    }
}

/// Scrubs one argument; `state` is what came before and what comes of it for the next.
pub(super) fn scan(text: &str, script: bool, state: &mut State) -> String {
    let mut scan = Scan { text, bytes: text.as_bytes(), script, out: String::with_capacity(text.len()), copied: 0 };
    let mut at = 0;
    while at < text.len() {
        at = scan.step(at, state).max(at + 1);
    }
    scan.out.push_str(text.get(scan.copied..).unwrap_or_default());
    scan.out
}

/// Characters of names: options, variables, properties, headers.
fn is_key(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

fn is_quote(b: u8) -> bool {
    matches!(b, b'"' | b'\'' | b'`')
}

/// An absolute path of more than one element, of the characters that files usually have.
fn is_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b'@');
    text.strip_prefix('/').is_some_and(|rest| rest.contains('/')) && text.bytes().all(plain)
}

struct Scan<'t> {
    text: &'t str,
    bytes: &'t [u8],
    script: bool,
    out: String,
    copied: usize,
}

impl Scan<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn before(&self, at: usize) -> Option<u8> {
        at.checked_sub(1).and_then(|i| self.byte(i))
    }

    fn slice(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The first place at or after `from` where `stop` holds; the end of the text if nowhere.
    fn find(&self, from: usize, stop: impl Fn(u8) -> bool) -> usize {
        self.bytes.iter().skip(from).position(|&b| stop(b)).map_or(self.bytes.len(), |n| from + n)
    }

    /// Puts the mark in place of `from..to`, both of which stand beside ASCII characters or at the ends.
    fn redact(&mut self, from: usize, to: usize) -> usize {
        if from < to {
            let kept = self.text.get(self.copied..from).unwrap_or_default();
            self.out.push_str(kept);
            self.out.push_str(REDACTED);
            self.copied = to;
        }
        to
    }

    /// Looks at what begins at `at`; returns where to go on.
    fn step(&mut self, at: usize, state: &mut State) -> usize {
        let Some(byte) = self.byte(at) else { return self.bytes.len() };
        if byte.is_ascii_whitespace() {
            return at + 1;
        }
        if self.begins_word(at)
            && let Some(next) = self.word(at, state)
        {
            return next;
        }
        if byte == b':' && self.slice(at, at + 3) == "://" {
            return self.user_info(at + 3);
        }
        if let Some(len) = shapes::secret_len(self.text, at) {
            return self.redact(at, at + len);
        }
        if is_key(byte) && !self.before(at).is_some_and(is_key) {
            let end = self.find(at, |b| !is_key(b));
            return self.name(at, end, state).unwrap_or(at + 1);
        }
        at + 1
    }

    fn begins_word(&self, at: usize) -> bool {
        self.before(at)
            .is_none_or(|b| b.is_ascii_whitespace() || (self.script && matches!(b, b';' | b'|' | b'&' | b'(')))
    }

    /// A word as a whole: what was expected, a program, or one of its options.
    fn word(&mut self, at: usize, state: &mut State) -> Option<usize> {
        let end = if at == 0 && !self.script { self.bytes.len() } else { self.word_end(at) };
        if let Some(expect) = state.expect.take() {
            let word = self.slice(at, end).to_owned();
            if expect.takes(&word) {
                state.expect = opens(&word);
                return Some(self.hide(expect, at, end));
            }
        }
        let word = self.text.get(at..end).unwrap_or_default();
        let first = self.slice(at, self.word_end(at));
        state.tool = tools::tool(first).or(state.tool);
        let (len, place, expect) = state.tool?.option(word)?;
        if word.len() > len {
            return Some(self.hide(expect, at + len, end));
        }
        state.expect = Some(expect).filter(|_| place == Where::Both);
        None
    }

    fn hide(&mut self, expect: Expect, from: usize, to: usize) -> usize {
        let from = match expect {
            Expect::Secret | Expect::Likely => from,
            Expect::After(mark) => self.slice(from, to).find(mark).map_or(to, |n| from + n + 1),
        };
        self.redact(from, to)
    }

    /// The end of a shell word: quotes that close and backslashes hold it together.
    fn word_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(byte) = self.byte(at) {
            match byte {
                b'\\' => at += 2,
                b if is_quote(b) => match self.closing(at + 1, b) {
                    Some(close) => at = close + 1,
                    None => at += 1,
                },
                b if b.is_ascii_whitespace() => return at,
                b';' | b'|' | b'&' | b')' if self.script => return at,
                _ => at += 1,
            }
        }
        self.bytes.len()
    }

    /// Where the quote that was opened before `from` closes.
    fn closing(&self, from: usize, quote: u8) -> Option<usize> {
        let mut at = from;
        loop {
            match self.byte(at)? {
                b'\\' if quote != b'\'' => at += 2,
                b if b == quote => return Some(at),
                _ => at += 1,
            }
        }
    }

    /// `at` is behind `://`: hides the password of the user information, and tokens that stand for a user.
    fn user_info(&mut self, at: usize) -> usize {
        let word = self.find(at, |b| b.is_ascii_whitespace() || is_quote(b) || matches!(b, b'<' | b'>'));
        let authority = self.find(at, |b| matches!(b, b'/' | b'?' | b'#')).min(word);
        let colon = self.find(at, |b| b == b':');
        if let Some(sign) = self.slice(at, authority).rfind('@').map(|n| at + n) {
            if colon < sign {
                return self.redact(colon + 1, sign);
            }
            let is = |scheme: &[u8]| {
                self.bytes.get(at.saturating_sub(scheme.len())..at).is_some_and(|s| s.eq_ignore_ascii_case(scheme))
            };
            let token = (is(b"http://") || is(b"https://")) && sign - at >= 16;
            return if token { self.redact(at, sign) } else { at };
        }
        // No port is anything but digits, so this colon began a password that was not escaped.
        let port = self.slice((colon + 1).min(authority), authority);
        if colon < authority
            && !port.is_empty()
            && self.byte(at) != Some(b'[')
            && !port.bytes().all(|b| b.is_ascii_digit())
            && let Some(sign) = self.slice(authority, word).rfind('@')
        {
            return self.redact(colon + 1, authority + sign);
        }
        at
    }

    /// `from..end` is a name: an assignment, an option, a word before a secret, or nothing of interest.
    fn name(&mut self, from: usize, end: usize, state: &mut State) -> Option<usize> {
        if let Some(next) =
            self.overlay(from, end).or_else(|| self.assignment(from, end)).or_else(|| self.pair(from, end))
        {
            return Some(next);
        }
        let name = self.slice(from, end);
        let last = self.byte(end).is_none_or(|b| b.is_ascii_whitespace() || is_quote(b));
        if last && (self.begins_word(from) || self.before(from).is_some_and(is_quote)) {
            state.expect = opens(name).or(state.expect);
            if name.eq_ignore_ascii_case("bearer") {
                let value = self.find(end, |b| !b.is_ascii_whitespace());
                let close = self.find(value, |b| b.is_ascii_whitespace() || is_quote(b));
                return (close - value >= 8).then(|| self.redact(value, close));
            }
        }
        None
    }

    /// `--set=KEY=VALUE`: what the agent's own option carries may be anything, so the value goes.
    fn overlay(&mut self, from: usize, end: usize) -> Option<usize> {
        if !matches!(self.slice(from, end), "--set" | "--set-string") || self.byte(end) != Some(b'=') {
            return None;
        }
        let to = if from == 0 && !self.script { self.bytes.len() } else { self.word_end(end) };
        Some(self.hide(Expect::After('='), end + 1, to))
    }

    /// `NAME=value`, `NAME: value`, `"NAME": "value"`: redacts the value if the name is a secret's.
    fn assignment(&mut self, from: usize, end: usize) -> Option<usize> {
        let key = self.slice(from, end);
        let strength = keys::strength(key)?;
        let header = keys::is_header(key);
        let escaped = usize::from(self.byte(end) == Some(b'\\') && self.byte(end + 1).is_some_and(is_quote));
        let quoted = self.byte(end + escaped).is_some_and(is_quote);
        let after_quote = if quoted { end + escaped + 1 } else { end };
        let sign = self.find(after_quote, |b| !matches!(b, b' ' | b'\t'));
        let separator = self.byte(sign).filter(|b| matches!(b, b'=' | b':'))?;
        let spaced = sign > after_quote;
        let after = self.find(sign, |b| !matches!(b, b'=' | b':' | b'>'));
        let strict = self.script && separator == b'=' && !spaced;
        let value = if strict { after } else { self.find(after, |b| !matches!(b, b' ' | b'\t')) };
        let rest = self.slice(value, self.bytes.len());
        if separator == b':' && !header && !quoted && value == after {
            let word = self.slice(value, self.find(value, |b| !b.is_ascii_alphanumeric()));
            let port = (1..=5).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
            if port || rest.starts_with('/') || self.before(from) == Some(b'/') {
                return None;
            }
        }
        let word = self.slice(value, self.find(value, |b| b.is_ascii_whitespace() || is_quote(b) || b == b';'));
        let file = strength == Strength::Weak || matches!(key, "PWD" | "OLDPWD");
        if file && !header && is_path(word) {
            return None;
        }
        let (start, to) = self.value(from, value, header);
        (start < to).then(|| self.redact(start, to))
    }

    /// How far the value at `value` of the name at `name` reaches.
    fn value(&self, name: usize, value: usize, header: bool) -> (usize, usize) {
        let end = self.bytes.len();
        let opener = self.before(name);
        let ahead = self.slice(0, name).trim_end();
        let whole_argument = !self.script && !self.slice(0, name).bytes().any(|b| b.is_ascii_whitespace());
        // A query parameter or a part of a connection string ends at its separator.
        if matches!(opener, Some(b'?' | b'&')) && !self.script {
            return (value, self.find(value, |b| matches!(b, b'&' | b'#' | b'"' | b'\'') || b.is_ascii_whitespace()));
        }
        if let Some(quote) = opener.filter(|b| is_quote(*b))
            && self.byte(name.saturating_sub(2)) != Some(b'\\')
            && !self.byte(value).is_some_and(is_quote)
        {
            return (value, self.closing(value, quote).unwrap_or(end));
        }
        let escaped = usize::from(self.byte(value) == Some(b'\\') && self.byte(value + 1).is_some_and(is_quote));
        if let Some(quote) = self.byte(value + escaped).filter(|b| is_quote(*b) && !(whole_argument && name == 0)) {
            let start = value + escaped + 1;
            if escaped == 1 {
                let close = self.slice(start, end).find(&format!("\\{}", char::from(quote)));
                return (start, close.map_or(end, |n| start + n));
            }
            // Text may go on behind the quote: PASSWORD='a'b.
            let close = self.closing(start, quote).unwrap_or(end);
            let goes_on = self.byte(close + 1).is_some_and(|b| b.is_ascii_alphanumeric() || is_quote(b));
            return (start, if goes_on && self.script { self.word_end(value) } else { close });
        }
        if ahead.ends_with(';') && name > 0 {
            return (value, self.find(value, |b| b == b';'));
        }
        if header {
            return (value, self.find(value, |b| b == b'\n'));
        }
        if whole_argument {
            return (value, end);
        }
        if let Some(quote) = self.open_quote(name).filter(|_| self.script) {
            return (value, self.find(value, |b| b == quote || b.is_ascii_whitespace()));
        }
        (value, self.word_end(value))
    }

    /// The quote that is open at `at`: inside it the shell's operators are text.
    fn open_quote(&self, at: usize) -> Option<u8> {
        let mut i = 0;
        while i < at {
            match self.byte(i)? {
                b'\\' => i += 2,
                b if is_quote(b) => match self.closing(i + 1, b) {
                    Some(close) if close < at => i = close + 1,
                    Some(_) => return Some(b),
                    None => i += 1,
                },
                _ => i += 1,
            }
        }
        None
    }

    /// `user:X@host` without a scheme, as database drivers and proxies take it.
    fn pair(&mut self, from: usize, end: usize) -> Option<usize> {
        if self.byte(end) != Some(b':') || matches!(self.before(from), Some(b'@' | b'/' | b':')) {
            return None;
        }
        let sign = self.find(end + 1, |b| b == b'@' || b == b'/' || b.is_ascii_whitespace() || is_quote(b));
        let secret = self.slice(end + 1, sign);
        let host = self.slice(sign + 1, self.bytes.len());
        let digest = host.starts_with("sha256:") || host.starts_with("sha512:");
        let named = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
        let port = secret.bytes().all(|b| b.is_ascii_digit());
        (self.byte(sign) == Some(b'@') && named && !digest && !port).then(|| self.redact(end + 1, sign))
    }
}
