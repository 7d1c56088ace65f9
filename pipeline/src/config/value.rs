//! The tree of configuration values with the place of each, and its exchange with `serde_yaml`.
//!
//! A plain scalar keeps its original text, so that `0123` is still `0123` where a string is wanted. The tree never
//! interprets a value beyond YAML's own types.

use std::fmt;
use std::sync::Arc;

/// Where a value stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The file as it was named on the command line, or what stands in for one (`--set`, `env:NAME`, `yaml:`).
    pub file: Arc<str>,
    /// Line, from 1; 0 = the source has no lines (an argument, a variable).
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The reference a value came through (`${env:NAME}`), if it did not stand there itself.
    pub origin: Option<Arc<str>>,
}

impl Mark {
    /// A place in a file; both numbers count from 1.
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Self { file: file.into(), line, column, origin: None }
    }

    /// The same place, for a value that came through `origin` (such as `${env:NAME}`).
    #[must_use]
    pub fn through(&self, origin: impl Into<Arc<str>>) -> Self {
        Self { origin: Some(origin.into()), ..self.clone() }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.file)?;
        if self.line > 0 {
            write!(out, ":{}:{}", self.line, self.column)?;
        }
        match &self.origin {
            Some(origin) => write!(out, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// A key of a map and where it stood.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where the key stood.
    pub mark: Mark,
    /// The key's text; YAML keys that are numbers or booleans keep their spelling.
    pub name: String,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// One node of a configuration. Equality ignores marks; `10` and `0xa` differ, for they differ where text is wanted.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where the value stood.
    pub mark: Mark,
    /// What it is.
    pub kind: Kind,
    /// The spelling of a plain scalar that is not a string (`0x10`, `1e3`, `True`), or the whole text of a variable that
    /// was read as something else (empty, a list); used where a string is wanted.
    pub text: Option<Arc<str>>,
}

/// The YAML types.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction or exponent, or a whole number beyond 64 bits.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Seq(Vec<Value>),
    /// A map in the order of the file; keys are unique.
    Map(Vec<(Key, Value)>),
}

impl Kind {
    /// What a person calls it, with its article: `a list`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.scalar_text() == other.scalar_text()
    }
}

impl Value {
    /// A value at a place, without a spelling of its own.
    pub fn new(mark: Mark, kind: Kind) -> Self {
        Self { mark, kind, text: None }
    }

    /// `null` at a place: read as "all defaults".
    pub fn null(mark: Mark) -> Self {
        Self::new(mark, Kind::Null)
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The value under a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value, if this is a map that has the key.
    pub fn entry(&self, key: &str) -> Option<&(Key, Value)> {
        self.as_map()?.iter().find(|(found, _)| found.name == key)
    }

    /// The entries, if this is a map.
    pub fn as_map(&self) -> Option<&[(Key, Value)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The elements, if this is a list.
    pub fn as_seq(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is a string. A number is none, even though it can be read as one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text form of a scalar: its spelling where it has one, nothing for `null`.
    /// `None` for lists and maps of a file.
    pub fn scalar_text(&self) -> Option<String> {
        if let Some(text) = &self.text {
            return Some(text.to_string());
        }
        match &self.kind {
            Kind::Null => Some(String::new()),
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Int(value) => Some(value.to_string()),
            Kind::Float(value) => Some(value.to_string()),
            Kind::String(value) => Some(value.clone()),
            Kind::Seq(_) | Kind::Map(_) => None,
        }
    }

    /// How a person would say what stands here: `the number 5`, `a list`. Text is shown only when it is short and was
    /// written in place: what came through a variable or a file may be a secret.
    pub fn described(&self) -> String {
        let shown = self.mark.origin.is_none().then(|| self.scalar_text()).flatten();
        match (&self.kind, shown) {
            (Kind::Bool(_), Some(text)) => format!("the boolean {text}"),
            (Kind::Int(_) | Kind::Float(_), Some(text)) => format!("the number {text}"),
            (Kind::String(_), Some(text)) if text.chars().count() <= 60 => format!("the string {text:?}"),
            (kind, _) => kind.name().to_owned(),
        }
    }

    /// A sentence about this value without its text, in case that is a secret. Unquoted, only text of some length is
    /// looked for: a shorter one would be found in any sentence.
    pub(super) fn discreet(&self, sentence: &str) -> String {
        let Some(text) = self.scalar_text().filter(|text| !text.is_empty()) else { return sentence.to_owned() };
        let unquoted = sentence.replace(&format!("{text:?}"), "the value");
        if text.chars().count() >= 4 { unquoted.replace(&text, "the value") } else { unquoted }
    }

    /// The same tree for `serde_yaml`. A float that is whole stays a float; marks and spellings are lost.
    pub fn to_yaml(&self) -> serde_yaml::Value {
        match &self.kind {
            Kind::Null => serde_yaml::Value::Null,
            Kind::Bool(value) => serde_yaml::Value::Bool(*value),
            Kind::Int(value) => serde_yaml::Value::Number((*value).into()),
            Kind::Float(value) => serde_yaml::Value::Number((*value).into()),
            Kind::String(value) => serde_yaml::Value::String(value.clone()),
            Kind::Seq(items) => serde_yaml::Value::Sequence(items.iter().map(Self::to_yaml).collect()),
            Kind::Map(entries) => serde_yaml::Value::Mapping(
                entries
                    .iter()
                    .map(|(key, value)| (serde_yaml::Value::String(key.name.clone()), value.to_yaml()))
                    .collect(),
            ),
        }
    }

    /// A tree from `serde_yaml`, with one mark for all of it. Tags are dropped.
    pub fn from_yaml(value: &serde_yaml::Value, mark: &Mark) -> Self {
        let kind = match value {
            serde_yaml::Value::Null => Kind::Null,
            serde_yaml::Value::Bool(value) => Kind::Bool(*value),
            serde_yaml::Value::Number(number) => match number.as_i64() {
                Some(whole) => Kind::Int(whole),
                None => Kind::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_yaml::Value::String(text) => Kind::String(text.clone()),
            serde_yaml::Value::Sequence(items) => {
                Kind::Seq(items.iter().map(|item| Self::from_yaml(item, mark)).collect())
            }
            serde_yaml::Value::Mapping(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|(key, value)| {
                        let name = Self::from_yaml(key, mark).scalar_text().unwrap_or_default();
                        (Key { mark: mark.clone(), name }, Self::from_yaml(value, mark))
                    })
                    .collect(),
            ),
            serde_yaml::Value::Tagged(tagged) => return Self::from_yaml(&tagged.value, mark),
        };
        Self::new(mark.clone(), kind)
    }
}
