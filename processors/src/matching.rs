//! Matching of names and attribute values by configured patterns, for every component that selects something.
//!
//! Three ways: `strict` (equal, type and all), `regexp` (found anywhere, Go's unanchored habit) and `glob` (the whole
//! text, with `*`, `?`, `[a-z]` and `{a,b}`). Patterns are compiled once, when a component is built; a pattern that does
//! not compile is a mistake of the configuration with its path.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use globset::{Glob, GlobSet, GlobSetBuilder};
use phoenix_telemetry::{AnyValue, Attributes};
use regex::RegexSet;
use serde::{Deserialize, Serialize};

use crate::ConfigValue;
use crate::flaws::Flaws;

/// How texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchType {
    /// Equal.
    Strict,
    /// A regular expression that matches anywhere in the text.
    Regexp,
    /// A shell pattern that matches the whole text.
    Glob,
}

/// The Collector's cache for regular expressions, accepted and without effect: what is said of a name is always
/// remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegexpOptions {
    /// Whether what was matched is remembered.
    pub cacheenabled: bool,
    /// How much of it.
    pub cachemaxnumentries: u64,
}

/// One condition on an attribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttributeMatch {
    /// The attribute's key, always compared as it is.
    pub key: String,
    /// What its value must be; without one the attribute need only be there.
    pub value: Option<ConfigValue>,
}

/// A compiled list of patterns; a text matches if one of them does.
#[derive(Clone, Debug)]
pub(crate) enum Texts {
    Strict(HashSet<String>),
    Regexp(RegexSet),
    Glob(GlobSet),
}

impl Texts {
    /// Compiles `patterns`.
    ///
    /// # Errors
    /// The index of the first pattern that is wrong, and why.
    pub(crate) fn new<'a>(
        kind: MatchType,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, (usize, String)> {
        let patterns: Vec<&str> = patterns.into_iter().collect();
        match kind {
            MatchType::Strict => Ok(Texts::Strict(patterns.into_iter().map(str::to_owned).collect())),
            MatchType::Regexp => match RegexSet::new(&patterns) {
                Ok(set) => Ok(Texts::Regexp(set)),
                Err(error) => {
                    let alone = patterns.iter().position(|pattern| RegexSet::new([pattern]).is_err()).unwrap_or(0);
                    Err((alone, last_line(&error.to_string())))
                }
            },
            MatchType::Glob => {
                let mut set = GlobSetBuilder::new();
                for (i, pattern) in patterns.iter().enumerate() {
                    set.add(Glob::new(pattern).map_err(|error| (i, error.to_string()))?);
                }
                set.build().map(Texts::Glob).map_err(|error| (0, error.to_string()))
            }
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Texts::Strict(texts) => texts.contains(text),
            Texts::Regexp(set) => set.is_match(text),
            Texts::Glob(set) => set.is_match(text),
        }
    }
}

/// The regex crate draws a picture of the pattern first; its last line says what is wrong.
fn last_line(message: &str) -> String {
    message.lines().last().unwrap_or(message).trim_start_matches("error: ").to_owned()
}

/// What one attribute's value must be.
#[derive(Clone, Debug)]
enum Test {
    Present,
    Equals(ConfigValue),
    Text(Texts),
}

/// Conditions on attributes, all of which must hold.
#[derive(Clone, Debug)]
pub(crate) struct AttributeTests(Vec<(String, Test)>);

impl AttributeTests {
    /// Compiles the conditions.
    ///
    /// # Errors
    /// The index of the first condition that is wrong, its key (`key` or `value`), and why.
    pub(crate) fn new(kind: MatchType, conditions: &[AttributeMatch]) -> Result<Self, (usize, &'static str, String)> {
        let compile = |(i, condition): (usize, &AttributeMatch)| {
            if condition.key.is_empty() {
                return Err((i, "key", "must be set: the name of an attribute".to_owned()));
            }
            let test = match (&condition.value, kind) {
                (None, _) => Test::Present,
                (Some(value), MatchType::Strict) => Test::Equals(value.clone()),
                (Some(ConfigValue::Str(pattern)), _) => {
                    Test::Text(Texts::new(kind, [pattern.as_str()]).map_err(|(_, why)| (i, "value", why))?)
                }
                (Some(_), _) => {
                    return Err((
                        i,
                        "value",
                        "must be a string: it is a pattern; or use match_type: strict".to_owned(),
                    ));
                }
            };
            Ok((condition.key.clone(), test))
        };
        conditions.iter().enumerate().map(compile).collect::<Result<_, _>>().map(AttributeTests)
    }

    /// Whether all conditions hold.
    pub(crate) fn match_all(&self, attributes: Attributes<'_>) -> bool {
        self.0.iter().all(|(key, test)| {
            attributes.get(key).is_some_and(|value| match test {
                Test::Present => true,
                Test::Equals(wanted) => wanted.as_any() == value,
                Test::Text(texts) => as_text(value).is_some_and(|text| texts.matches(&text)),
            })
        })
    }
}

/// The text that a pattern is tried on; lists, maps and bytes have none.
pub(crate) fn as_text(value: AnyValue<'_>) -> Option<Cow<'_, str>> {
    match value {
        AnyValue::Str(text) => Some(Cow::Borrowed(text)),
        AnyValue::Bool(flag) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
        AnyValue::Int(number) => Some(Cow::Owned(number.to_string())),
        AnyValue::Double(number) => Some(Cow::Owned(number.to_string())),
        AnyValue::Empty | AnyValue::Array(_) | AnyValue::Map(_) | AnyValue::Bytes(_) => None,
    }
}

/// Which data a component means: by metric name, by resource and by data point. What is `None` was not asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) names: Option<Texts>,
    pub(crate) resource: Option<AttributeTests>,
    pub(crate) point: Option<AttributeTests>,
}

/// The lists of a selecting block of configuration, each with the key it stands under.
pub(crate) struct Lists<'a> {
    pub(crate) match_type: Option<MatchType>,
    pub(crate) names: (&'static str, &'a [String]),
    pub(crate) resource: (&'static str, &'a [AttributeMatch]),
    pub(crate) point: (&'static str, &'a [AttributeMatch]),
}

impl Selector {
    /// Compiles the block at `path`; writes what is wrong into `flaws`.
    pub(crate) fn new(path: &str, lists: &Lists<'_>, flaws: &mut Flaws) -> Self {
        let Some(kind) = lists.match_type else {
            flaws.add(format!("{path}.match_type"), "must be set: strict, regexp or glob");
            return Selector::default();
        };
        let (names, resource, point) = (lists.names, lists.resource, lists.point);
        if names.1.is_empty() && resource.1.is_empty() && point.1.is_empty() {
            flaws.add(path, format!("selects nothing; give {}, {} or {}", names.0, resource.0, point.0));
        }
        let texts = match Texts::new(kind, names.1.iter().map(String::as_str)) {
            Ok(texts) => (!names.1.is_empty()).then_some(texts),
            Err((i, why)) => {
                flaws.add(format!("{path}.{}[{i}]", names.0), why);
                None
            }
        };
        let mut tests =
            |(key, conditions): (&'static str, &[AttributeMatch])| match AttributeTests::new(kind, conditions) {
                Ok(tests) => (!conditions.is_empty()).then_some(tests),
                Err((i, field, why)) => {
                    flaws.add(format!("{path}.{key}[{i}].{field}"), why);
                    None
                }
            };
        Selector { names: texts, resource: tests(resource), point: tests(point) }
    }
}

impl Selector {
    pub(crate) fn name(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.matches(name))
    }

    pub(crate) fn resource(&self, attributes: Attributes<'_>) -> bool {
        self.resource.as_ref().is_none_or(|tests| tests.match_all(attributes))
    }

    pub(crate) fn point(&self, attributes: Attributes<'_>) -> bool {
        self.point.as_ref().is_none_or(|tests| tests.match_all(attributes))
    }
}

/// How many names are remembered: far more than one agent sees, little enough to hold (some 100 KB).
const REMEMBERED_NAMES: usize = 4096;

/// What was decided about a metric name: the same few hundred names come again with every batch.
#[derive(Debug, Default)]
pub(crate) struct Remembered<T>(HashMap<Box<str>, T>);

impl<T: Copy> Remembered<T> {
    /// What was decided about `name`, or else what `decide` decides.
    pub(crate) fn ask(&mut self, name: &str, decide: impl FnOnce() -> T) -> T {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        // Somebody sends ever new names: start again rather than grow.
        if self.0.len() >= REMEMBERED_NAMES {
            self.0.clear();
        }
        let decided = decide();
        self.0.insert(name.into(), decided);
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways() {
        let strict = Texts::new(MatchType::Strict, ["a.b", "c"]).unwrap();
        assert!(strict.matches("a.b") && strict.matches("c") && !strict.matches("a.b.c"));
        let regexp = Texts::new(MatchType::Regexp, ["cpu", "^mem"]).unwrap();
        assert!(regexp.matches("system.cpu.time") && regexp.matches("memory") && !regexp.matches("system.memory"));
        let glob = Texts::new(MatchType::Glob, ["system.cpu.*", "{a,b}?"]).unwrap();
        assert!(glob.matches("system.cpu.time") && glob.matches("b1") && !glob.matches("my.system.cpu.time"));
        assert!(Texts::new(MatchType::Glob, ["*"]).unwrap().matches("/a/b"), "a slash is a character like any other");
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let (i, why) = Texts::new(MatchType::Regexp, ["ok", "a("]).unwrap_err();
        assert_eq!((i, why.as_str()), (1, "unclosed group"));
        let (i, why) = Texts::new(MatchType::Glob, ["ok", "a["]).unwrap_err();
        assert!(i == 1 && why.contains("unclosed character class"), "{why}");
    }

    #[test]
    fn numbers_have_a_text_and_lists_have_none() {
        assert_eq!(as_text(AnyValue::Int(-5)).unwrap(), "-5");
        assert_eq!(as_text(AnyValue::Double(0.5)).unwrap(), "0.5");
        assert_eq!(as_text(AnyValue::Bool(true)).unwrap(), "true");
        assert!(as_text(AnyValue::Empty).is_none() && as_text(AnyValue::Bytes(b"x")).is_none());
    }

    #[test]
    fn a_decision_is_made_once_and_memory_is_bounded() {
        let mut memory = Remembered::default();
        assert_eq!(memory.ask("a", || 1), 1);
        assert_eq!(memory.ask("a", || 2), 1);
        for i in 0..2 * REMEMBERED_NAMES {
            memory.ask(&i.to_string(), || 0);
            assert!(memory.0.len() <= REMEMBERED_NAMES);
        }
    }

    #[test]
    fn conditions_are_checked() {
        let condition = |key: &str, value| AttributeMatch { key: key.into(), value };
        assert_eq!(AttributeTests::new(MatchType::Strict, &[condition("", None)]).unwrap_err().1, "key");
        let number = [condition("k", Some(ConfigValue::Int(1)))];
        assert!(AttributeTests::new(MatchType::Strict, &number).is_ok());
        assert!(AttributeTests::new(MatchType::Regexp, &number).unwrap_err().2.contains("must be a string"));
    }
}
