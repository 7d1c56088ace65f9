//! `phoenix migrate FILE`: a Collector config as a Phoenix config, with a comment for every change.
//!
//! What Phoenix takes as it is stays as it is, references (`${env:NAME}`) included. What it does not know is turned into a
//! comment with its reason; what it knows and cannot take is left in place with a comment, for a person to decide. So no
//! line disappears. The comments of the original and its anchors are not carried over.

mod prune;
mod rules;
mod write;

use std::collections::BTreeMap;

use phoenix_pipeline::config::{Kind, Mark, Mistake, Value, parse};

use crate::config::{Loaded, Tables, expanded, report, text_file};

/// Why something is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    /// One sentence for the comment.
    why: String,
    /// Whether the key is turned into a comment; else the comment stands above it.
    out: bool,
}

/// Notes by the path of a key, its steps joined with `::` as in a [`Mistake`].
type Notes = BTreeMap<String, Note>;

/// Most rounds of checking and taking out: one finds what another has left dangling.
const ROUNDS: usize = 8;

/// The Phoenix config for a Collector config.
///
/// # Errors
/// The file cannot be read, is no YAML, or has nothing in it that Phoenix carries.
pub(super) fn text(path: &str) -> Result<String, String> {
    let config = parse(path, &text_file(path)?).map_err(|mistakes| report(&mistakes).to_string())?;
    migrated(path, config)
}

fn migrated(name: &str, mut config: Value) -> Result<String, String> {
    let mut notes = Notes::new();
    rules::replace(&mut config, &mut notes);
    rules::strike(&config, &mut notes);
    let mut said = Vec::new();
    let mut open = 0;
    for _ in 0..ROUNDS {
        let outcome = check(&prune::without(&config, &notes));
        let before = notes.len();
        match outcome {
            Ok(notices) => (said, open) = (notices, 0),
            Err(mistakes) => open = judge(&config, &mistakes, &mut notes),
        }
        if notes.len() == before {
            break;
        }
    }
    let left = prune::without(&config, &notes);
    if entries(left.get("service").and_then(|service| service.get("pipelines"))).is_empty() {
        return Err(format!(
            "{name}: no pipeline is left: nothing in this config is metrics that Phoenix can read and send"
        ));
    }
    Ok(head(name, &notes, open, &said) + &write::yaml(&config, &notes))
}

/// What Phoenix says about the config. Variables that are not set here stand for something harmless: they are set where
/// the config runs.
fn check(config: &Value) -> Result<Vec<String>, Vec<Mistake>> {
    let environment = |name: &str| Some(std::env::var_os(name).unwrap_or_else(|| "1".into()));
    let value = expanded(config.clone(), &environment);
    let loaded = Loaded { value, notices: Vec::new(), mistakes: Vec::new() };
    match loaded.check(&Tables::agent()) {
        Ok((_, notices)) => Ok(notices.into_iter().map(|notice| notice.text).collect()),
        Err(mistakes) => Err(mistakes.into_iter().filter(|mistake| mistake.mark.origin.is_none()).collect()),
    }
}

/// Turns mistakes into notes: what Phoenix does not know goes out, the rest is for a person. Says how many those are.
fn judge(config: &Value, mistakes: &[Mistake], notes: &mut Notes) -> usize {
    let mut open = 0;
    for mistake in mistakes {
        let Some(path) = prune::known(config, &mistake.path) else {
            open += 1;
            continue;
        };
        let unknown = mistake.help.as_ref().is_some_and(|help| help.are == "known keys") && path == mistake.path;
        // A pipeline that has lost its last receiver or exporter goes as a whole.
        let pipeline =
            path.strip_prefix("service::pipelines::").filter(|_| mistake.message.starts_with("a pipeline needs"));
        let (path, note) = match pipeline.and_then(|rest| rest.split("::").next()) {
            Some(id) => (
                format!("service::pipelines::{id}"),
                Note { why: format!("{}: nothing Phoenix serves is left in it", mistake.message), out: true },
            ),
            None if unknown => (path, Note { why: "Phoenix has no such key".to_owned(), out: true }),
            None => {
                open += 1;
                (path, Note { why: format!("TO DO: {}", mistake.message), out: false })
            }
        };
        notes.entry(path).or_insert(note);
    }
    open
}

/// The comment at the top.
fn head(name: &str, notes: &Notes, open: usize, said: &[String]) -> String {
    let out = notes.values().filter(|note| note.out).count();
    let changed = notes.values().filter(|note| !note.out && !note.why.starts_with("TO DO")).count();
    let mut text = format!(
        "# Made by `phoenix migrate` from {name}: {out} taken out, {changed} changed, {open} to do. Each has a comment.\n\
         # What differs in values and names: docs/migration.md. Check it with `phoenix validate --config FILE`.\n"
    );
    for line in said {
        text.push_str(&write::comment(0, line));
    }
    text.push('\n');
    text
}

/// The entries of a map that may not be there.
fn entries(value: Option<&Value>) -> &[(phoenix_pipeline::config::Key, Value)] {
    value.and_then(Value::as_map).unwrap_or_default()
}

/// A text value without a place.
fn word(text: &str) -> Value {
    Value::new(Mark::default(), Kind::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
