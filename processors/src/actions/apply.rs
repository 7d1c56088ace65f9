//! Running one action on the attributes of one resource or data point.

use phoenix_telemetry::{AnyValue, AttributeEdits};
use regex::Regex;

use super::{ConvertedType, Held, Source, Step, When};
use crate::ConfigValue;

impl Step {
    pub(super) fn apply(&self, edits: &mut AttributeEdits<'_>) {
        match self {
            Step::Set { key, when, source: Source::Value(value) } => set(edits, key, *when, value.as_any()),
            Step::Set { key, when, source: Source::Attribute(from) } => {
                if let Some(held) = edits.get(from).and_then(Held::of) {
                    set(edits, key, *when, held.as_any());
                }
            }
            Step::Delete { key, pattern } => {
                if let Some(key) = key {
                    edits.delete(key);
                }
                if let Some(pattern) = pattern {
                    let keys = edits.attributes().iter().map(|(key, _)| key).filter(|key| pattern.is_match(key));
                    for key in keys.map(str::to_owned).collect::<Vec<_>>() {
                        edits.delete(&key);
                    }
                }
            }
            Step::Extract { key, pattern } => {
                let found = edits.get(key).and_then(|value| value.as_str()).map(|text| groups(pattern, text));
                for (name, text) in found.into_iter().flatten() {
                    set(edits, &name, When::Always, AnyValue::Str(&text));
                }
            }
            Step::Convert { key, to } => {
                if let Some(converted) = edits.get(key).and_then(|value| convert(value, *to)) {
                    set(edits, key, When::Present, converted.as_any());
                }
            }
        }
    }
}

/// Writes a value, unless it is there already.
fn set(edits: &mut AttributeEdits<'_>, key: &str, when: When, value: AnyValue<'_>) {
    match (edits.get(key), when) {
        (Some(_), When::Absent) | (None, When::Present) => {}
        (Some(present), _) if present == value => {}
        _ => edits.upsert(key, value),
    }
}

/// The groups of the first match by name; a group that took no part is empty.
fn groups(pattern: &Regex, text: &str) -> Vec<(String, String)> {
    let Some(captures) = pattern.captures(text) else { return Vec::new() };
    let names = pattern.capture_names().flatten();
    names.map(|name| (name.to_owned(), captures.name(name).map_or("", |found| found.as_str()).to_owned())).collect()
}

/// The value in another type; `None` where it has no meaning there.
fn convert(value: AnyValue<'_>, to: ConvertedType) -> Option<ConfigValue> {
    match to {
        ConvertedType::String => Some(ConfigValue::Str(value.to_string())),
        ConvertedType::Int => match value {
            AnyValue::Int(number) => Some(number),
            // Towards zero; beyond the range of 64 bits the nearest end of it.
            AnyValue::Double(number) => Some(number as i64),
            AnyValue::Bool(flag) => Some(i64::from(flag)),
            AnyValue::Str(text) => text.parse().ok(),
            _ => None,
        }
        .map(ConfigValue::Int),
        ConvertedType::Double => match value {
            AnyValue::Int(number) => Some(number as f64),
            AnyValue::Double(number) => Some(number),
            AnyValue::Bool(flag) => Some(f64::from(flag)),
            AnyValue::Str(text) => text.parse().ok(),
            _ => None,
        }
        .map(ConfigValue::Double),
    }
}
