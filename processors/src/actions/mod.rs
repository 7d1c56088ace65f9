//! Actions on attributes, shared by `resource` and `attributes`: insert, update, upsert, delete, extract and convert, with
//! the Collector's meaning.
//!
//! A list of actions is checked and compiled once. Actions run in order, each on what the one before left. An action that
//! would change nothing leaves the data untouched, to the byte.

mod apply;

use phoenix_telemetry::{AnyValue, AttributeEdits};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::ConfigValue;
use crate::flaws::Flaws;

/// What an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Adds the attribute where it is not there.
    #[serde(alias = "INSERT")]
    Insert,
    /// Changes the attribute where it is there.
    #[serde(alias = "UPDATE")]
    Update,
    /// Adds or changes the attribute.
    #[serde(alias = "UPSERT")]
    Upsert,
    /// Removes the attribute, and those whose key matches a pattern.
    #[serde(alias = "DELETE")]
    Delete,
    /// Takes parts of a string out into attributes named by the pattern's groups.
    #[serde(alias = "EXTRACT")]
    Extract,
    /// Changes the type of the attribute where its value allows it.
    #[serde(alias = "CONVERT")]
    Convert,
    /// Not served.
    #[serde(alias = "HASH")]
    Hash,
}

/// The type that `convert` converts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvertedType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A double.
    Double,
}

/// One action as it stands in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionConfig {
    /// The attribute's key. Required, except for `delete` with a `pattern`.
    pub key: String,
    /// What is done. Required.
    pub action: Option<Action>,
    /// The new value, with its type. One of this and `from_attribute` for insert, update and upsert.
    pub value: Option<ConfigValue>,
    /// The attribute whose value is copied; where it is not there, nothing is done.
    pub from_attribute: String,
    /// Not served: client metadata is not kept with the data.
    pub from_context: String,
    /// A regular expression: on keys for `delete`, on the value for `extract`.
    pub pattern: String,
    /// The new type for `convert`.
    pub converted_type: Option<ConvertedType>,
}

/// When a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Absent,
    Present,
    Always,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Source {
    Value(ConfigValue),
    Attribute(String),
}

/// One compiled action.
#[derive(Clone, Debug)]
enum Step {
    Set { key: String, when: When, source: Source },
    Delete { key: Option<String>, pattern: Option<Regex> },
    Extract { key: String, pattern: Regex },
    Convert { key: String, to: ConvertedType },
}

/// A compiled list of actions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actions(Vec<Step>);

impl Actions {
    /// Compiles the list at `path`; writes what is wrong into `flaws`.
    pub(crate) fn new(path: &str, configs: &[ActionConfig], flaws: &mut Flaws) -> Self {
        if configs.is_empty() {
            flaws.add(path, "must hold at least one action, such as {key: env, action: upsert, value: prod}");
        }
        let steps =
            configs.iter().enumerate().filter_map(|(i, config)| compile(&format!("{path}[{i}]"), config, flaws));
        Actions(steps.collect())
    }

    /// Runs the actions in order.
    pub(crate) fn apply(&self, edits: &mut AttributeEdits<'_>) {
        for step in &self.0 {
            step.apply(edits);
        }
    }
}

/// One action, or `None` if it is wrong.
fn compile(path: &str, config: &ActionConfig, flaws: &mut Flaws) -> Option<Step> {
    let Some(action) = config.action else {
        flaws.add(format!("{path}.action"), "must be set: insert, update, upsert, delete, extract or convert");
        return None;
    };
    let mut wrong = false;
    let mut flaw = |key: &str, message: &str| {
        flaws.add(format!("{path}.{key}"), message);
        wrong = true;
    };
    check_keys(action, config, &mut flaw);
    let pattern = match (config.pattern.is_empty(), Regex::new(&config.pattern)) {
        (true, _) => None,
        (false, Ok(pattern)) => Some(pattern),
        (false, Err(error)) => {
            flaw("pattern", error.to_string().lines().last().unwrap_or("does not compile"));
            None
        }
    };
    if let (Action::Extract, Some(pattern)) = (action, &pattern)
        && (pattern.captures_len() < 2 || pattern.capture_names().skip(1).any(|name| name.is_none()))
    {
        flaw("pattern", "must have groups, each with a name: (?P<name>...)");
    }
    if wrong {
        return None;
    }
    let key = config.key.clone();
    let source = match &config.value {
        Some(value) => Source::Value(value.clone()),
        None => Source::Attribute(config.from_attribute.clone()),
    };
    match (action, pattern, config.converted_type) {
        (Action::Insert, ..) => Some(Step::Set { key, when: When::Absent, source }),
        (Action::Update, ..) => Some(Step::Set { key, when: When::Present, source }),
        (Action::Upsert, ..) => Some(Step::Set { key, when: When::Always, source }),
        (Action::Delete, pattern, _) => Some(Step::Delete { key: Some(key).filter(|key| !key.is_empty()), pattern }),
        (Action::Extract, Some(pattern), _) => Some(Step::Extract { key, pattern }),
        (Action::Convert, _, Some(to)) => Some(Step::Convert { key, to }),
        (Action::Extract | Action::Convert | Action::Hash, ..) => None,
    }
}

/// Which keys an action needs and which it must not have.
fn check_keys(action: Action, config: &ActionConfig, flaw: &mut impl FnMut(&str, &str)) {
    let meaningless = "has no meaning for this action; leave it out";
    match (action, config.key.is_empty(), config.pattern.is_empty()) {
        (Action::Delete, true, true) => flaw("key", "set key, pattern or both"),
        (Action::Delete, ..) | (_, false, _) => {}
        (_, true, _) => flaw("key", "must be set: the attribute's key"),
    }
    if !config.from_context.is_empty() {
        flaw("from_context", "is not served: client metadata is not kept with the data; write value or from_attribute");
    }
    let sets = matches!(action, Action::Insert | Action::Update | Action::Upsert);
    let (from_value, from_attribute) = (config.value.is_some(), !config.from_attribute.is_empty());
    match (sets, from_value, from_attribute) {
        (true, false, false) if config.from_context.is_empty() => {
            flaw("value", "one of value and from_attribute must be set for this action")
        }
        (true, true, true) => flaw("value", "only one of value and from_attribute may be set"),
        (false, true, _) => flaw("value", meaningless),
        (false, false, true) => flaw("from_attribute", meaningless),
        _ => {}
    }
    match (action, config.pattern.is_empty()) {
        (Action::Extract, true) => {
            flaw("pattern", "must be set: a regular expression with named groups, (?P<name>...)")
        }
        (Action::Delete | Action::Extract, _) | (_, true) => {}
        (_, false) => flaw("pattern", meaningless),
    }
    match (action, config.converted_type) {
        (Action::Convert, None) => flaw("converted_type", "must be set: string, int or double"),
        (Action::Convert, Some(_)) | (_, None) => {}
        (_, Some(_)) => flaw("converted_type", meaningless),
    }
    if action == Action::Hash {
        flaw("action", "hash is not served; insert, update, upsert, delete, extract and convert are");
    }
}

/// A value that outlives the attribute it was read from. Lists and maps are not held.
#[derive(Debug, PartialEq)]
enum Held {
    Scalar(ConfigValue),
    Bytes(Vec<u8>),
}

impl Held {
    fn of(value: AnyValue<'_>) -> Option<Held> {
        match value {
            AnyValue::Str(text) => Some(Held::Scalar(ConfigValue::Str(text.to_owned()))),
            AnyValue::Bool(flag) => Some(Held::Scalar(ConfigValue::Bool(flag))),
            AnyValue::Int(number) => Some(Held::Scalar(ConfigValue::Int(number))),
            AnyValue::Double(number) => Some(Held::Scalar(ConfigValue::Double(number))),
            AnyValue::Bytes(bytes) => Some(Held::Bytes(bytes.to_vec())),
            AnyValue::Empty | AnyValue::Array(_) | AnyValue::Map(_) => None,
        }
    }

    fn as_any(&self) -> AnyValue<'_> {
        match self {
            Held::Scalar(value) => value.as_any(),
            Held::Bytes(bytes) => AnyValue::Bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
