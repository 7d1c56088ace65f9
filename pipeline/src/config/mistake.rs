//! What is wrong with a config, said so that a person can fix it: place, path, what was found, what is allowed.
//!
//! A mistake is data; it never ends the reading, so that all of them are reported at once.

use super::value::Mark;
use std::fmt;

/// One mistake in a config. Its `Display` is one line: `config.yaml:12:7: receivers::hostmetrics::colection_interval:
/// unknown key; did you mean "collection_interval"? known keys: collection_interval, scrapers`.
/// The order is that of files, lines and columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where the value, or the unknown key, stands.
    pub mark: Mark,
    /// The path from the top, joined with `::`; empty for the whole document.
    pub path: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What would have been right, where that is a list of names.
    pub help: Option<Box<Help>>,
}

/// The names that are allowed in the place of a wrong one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Help {
    /// The nearest of them, if one is near.
    pub nearest: Option<String>,
    /// All of them.
    pub allowed: Vec<String>,
    /// What they are: `known keys`, `known receivers`, `allowed`.
    pub are: &'static str,
}

impl Mistake {
    /// A mistake that needs no list of names.
    pub fn new(mark: Mark, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { mark, path: path.into(), message: message.into(), help: None }
    }

    /// Adds the names that are allowed, called `are`, and which of them `found` was most likely meant to be.
    #[must_use]
    pub fn allowing<'a>(mut self, are: &'static str, found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Self {
        let allowed: Vec<String> = allowed.into_iter().map(str::to_owned).collect();
        let nearest = nearest(found, allowed.iter().map(String::as_str)).map(str::to_owned);
        self.help = Some(Box::new(Help { nearest, allowed, are }));
        self
    }

    /// The same mistake seen from further up: `prefix` comes before the path.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.path = join(prefix, &self.path);
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.mark)?;
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.message)?;
        let Some(help) = &self.help else { return Ok(()) };
        if let Some(nearest) = &help.nearest {
            write!(out, "; did you mean {nearest:?}?")?;
        }
        if !help.allowed.is_empty() {
            let between = if help.nearest.is_some() { "" } else { ";" };
            write!(out, "{between} {}: {}", help.are, help.allowed.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistake {}

/// Joins two paths with `::`; an index (`[0]`) needs no separator.
pub(super) fn join(prefix: &str, rest: &str) -> String {
    match (prefix.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => prefix.to_owned(),
        _ if rest.starts_with('[') => format!("{prefix}{rest}"),
        _ => format!("{prefix}::{rest}"),
    }
}

/// The one of `known` that a typing error most likely turned into `found`; `None` if all are too far away.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let limit = (found.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= limit || similar(&found, name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The same words with other separators (`collectionInterval`, `collection-interval`).
fn similar(found: &str, name: &str) -> bool {
    let letters =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    letters(found) == letters(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_place_path_message_and_help() {
        let mark = Mark::new("config.yaml", 12, 7);
        let plain = Mistake::new(mark.clone(), "a::b", "must be positive");
        assert_eq!(plain.to_string(), "config.yaml:12:7: a::b: must be positive");
        let known = ["collection_interval", "scrapers"];
        let near = Mistake::new(mark.clone(), "a", "unknown key").allowing("known keys", "colection_interval", known);
        assert_eq!(
            near.to_string(),
            "config.yaml:12:7: a: unknown key; did you mean \"collection_interval\"? known keys: collection_interval, scrapers"
        );
        let far = Mistake::new(mark, "", "unknown key").allowing("known keys", "zzz", known);
        assert_eq!(far.to_string(), "config.yaml:12:7: unknown key; known keys: collection_interval, scrapers");
    }

    #[test]
    fn near_names() {
        assert_eq!(nearest("hostmetric", ["otlp", "hostmetrics"]), Some("hostmetrics"));
        assert_eq!(nearest("collectionInterval", ["collection_interval"]), Some("collection_interval"));
        assert_eq!(nearest("x", ["otlp", "hostmetrics"]), None);
    }

    #[test]
    fn paths_join() {
        assert_eq!(join("a", "b"), "a::b");
        assert_eq!(join("a", "[0]::b"), "a[0]::b");
        assert_eq!(join("", "b"), "b");
        assert_eq!(join("a", ""), "a");
    }
}
