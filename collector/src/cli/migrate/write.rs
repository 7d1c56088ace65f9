//! A config as YAML with comments: block style, one key a line, what is taken out behind a `#`.

use phoenix_pipeline::config::{Kind, Value};

use super::Notes;
use super::prune::{joined, member};

/// Columns of a comment.
const WIDTH: usize = 110;

/// The whole config.
pub(super) fn yaml(config: &Value, notes: &Notes) -> String {
    let mut out = String::new();
    for (key, value) in config.as_map().unwrap_or_default() {
        entry(&key.name, value, &key.name, 0, notes, &mut out);
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// Text as comment lines.
pub(super) fn comment(depth: usize, text: &str) -> String {
    let indent = "  ".repeat(depth);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| !line.is_empty() && indent.len() + line.len() + word.len() > WIDTH);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{indent}#{line}\n")).collect()
}

fn entry(name: &str, value: &Value, path: &str, depth: usize, notes: &Notes, out: &mut String) {
    let note = notes.get(path);
    if let Some(note) = note {
        out.push_str(&comment(depth, &note.why));
    }
    if note.is_some_and(|note| note.out) {
        let mut gone = String::new();
        // Nothing more is said about the parts of what is out.
        plain(name, value, path, 0, &Notes::new(), &mut gone);
        let indent = "  ".repeat(depth);
        gone.lines().for_each(|line| out.push_str(&format!("{indent}#   {line}\n")));
    } else {
        plain(name, value, path, depth, notes, out);
    }
}

fn plain(name: &str, value: &Value, path: &str, depth: usize, notes: &Notes, out: &mut String) {
    let indent = "  ".repeat(depth);
    let key = quoted(name);
    match &value.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            out.push_str(&format!("{indent}{key}:\n"));
            for (key, value) in entries {
                entry(&key.name, value, &joined(path, &key.name), depth + 1, notes, out);
            }
        }
        Kind::Seq(items) => {
            let gone = |item: &&Value| item.as_str().and_then(|id| notes.get(&member(path, id)));
            items.iter().filter_map(|item| gone(&item)).for_each(|note| out.push_str(&comment(depth, &note.why)));
            let kept: Vec<String> = items.iter().filter(|item| gone(item).is_none()).map(flow).collect();
            out.push_str(&format!("{indent}{key}: [{}]\n", kept.join(", ")));
        }
        Kind::Null => out.push_str(&format!("{indent}{key}:\n")),
        _ => out.push_str(&format!("{indent}{key}: {}\n", flow(value))),
    }
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match &value.kind {
        Kind::Null => "null".to_owned(),
        Kind::String(text) => quoted(text),
        Kind::Seq(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Kind::Map(entries) => {
            let pairs = entries.iter().map(|(key, value)| format!("{}: {}", quoted(&key.name), flow(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        _ => value.scalar_text().unwrap_or_default(),
    }
}

/// Text as a YAML scalar: plain where that is safe anywhere, else in double quotes (JSON's are YAML's).
fn quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    let number_like = text.starts_with(|c: char| c.is_ascii_digit() || "-.+".contains(c)) && !text.ends_with(unit);
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "~"
    );
    let plain = !text.is_empty()
        && text.chars().all(safe)
        && !number_like
        && !word
        && !text.ends_with(':')
        && !text.starts_with(':');
    if plain { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}

/// How durations end, which begin with a digit and are no numbers.
fn unit(c: char) -> bool {
    "smh".contains(c)
}
