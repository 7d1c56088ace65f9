//! Paths into a config, and the config without what notes take out.

use phoenix_pipeline::config::{Kind, Value};

use super::Notes;

/// The longest beginning of `path` that stands in `config`; none for the whole document.
pub(super) fn known(config: &Value, path: &str) -> Option<String> {
    let mut at = config;
    let mut found = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        // Ids may hold a colon, so the longest key that fits is taken.
        let fits = |key: &str| rest.strip_prefix(key).is_some_and(|tail| tail.is_empty() || tail.starts_with("::"));
        let entries = at.as_map().unwrap_or_default();
        let Some((key, value)) =
            entries.iter().filter(|(key, _)| fits(&key.name)).max_by_key(|(key, _)| key.name.len())
        else {
            break;
        };
        found = joined(&found, &key.name);
        rest = rest.get(key.name.len()..).unwrap_or_default().trim_start_matches("::");
        at = value;
    }
    Some(found).filter(|found| !found.is_empty())
}

/// A step further.
pub(super) fn joined(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}::{step}") }
}

/// The path of a member of a list of ids.
pub(super) fn member(path: &str, id: &str) -> String {
    format!("{path}[{id}]")
}

/// The config without what the notes take out.
pub(super) fn without(config: &Value, notes: &Notes) -> Value {
    below(config, "", notes)
}

fn below(value: &Value, path: &str, notes: &Notes) -> Value {
    let stays = |path: &str| notes.get(path).is_none_or(|note| !note.out);
    let kind = match &value.kind {
        Kind::Map(entries) => {
            let kept = entries.iter().map(|(key, value)| (joined(path, &key.name), key, value));
            let kept = kept.filter(|(path, ..)| stays(path));
            Kind::Map(kept.map(|(path, key, value)| (key.clone(), below(value, &path, notes))).collect())
        }
        Kind::Seq(items) => {
            let kept = items.iter().filter(|item| item.as_str().is_none_or(|id| stays(&member(path, id))));
            Kind::Seq(kept.cloned().collect())
        }
        other => other.clone(),
    };
    Value { mark: value.mark.clone(), kind, text: value.text.clone() }
}
