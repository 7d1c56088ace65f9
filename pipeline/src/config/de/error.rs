//! What goes wrong while a value is read, in the words of a config's reader.
//!
//! Serde makes an error without knowing where; the first node it passes completes it with the place, and hides the text of
//! a value that may be a secret.

use super::{Failure, Node, Place, identity};
use crate::config::mistake::Mistake;
use crate::config::value::{Mark, Value};
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// The error serde carries up; it is completed by the first node that it passes.
#[derive(Debug)]
pub(super) struct Error(Box<Partial>);

#[derive(Debug)]
struct Partial {
    fault: Fault,
    at: Option<(usize, Mark, String)>,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum Fault {
    NotWritten,
    UnknownKey {
        found: String,
        known: &'static [&'static str],
    },
    /// `found` is hidden if it may be a secret.
    UnknownName {
        found: Option<String>,
        known: &'static [&'static str],
    },
    Wrong {
        found: String,
        expected: String,
        hint: &'static str,
    },
    Missing(&'static str),
    Said(String),
}

impl Fault {
    fn mistake(self, mark: Mark, path: String) -> Option<Mistake> {
        Some(match self {
            Self::NotWritten => return None,
            Self::UnknownKey { found, known } => {
                Mistake::new(mark, path, "unknown key").allowing("known keys", &found, known.iter().copied())
            }
            Self::UnknownName { found, known } => {
                let shown = found.as_ref().map_or_else(|| "the value".to_owned(), |found| format!("{found:?}"));
                Mistake::new(mark, path, format!("{shown} is not allowed here")).allowing(
                    "allowed",
                    found.as_deref().unwrap_or_default(),
                    known.iter().copied(),
                )
            }
            Self::Wrong { found, expected, hint } => {
                Mistake::new(mark, path, format!("found {found}, expected {expected}{hint}"))
            }
            Self::Missing(name) => Mistake::new(mark, path, format!("the key {name:?} is required")),
            Self::Said(message) => Mistake::new(mark, path, message),
        })
    }
}

impl Error {
    pub(super) fn new(fault: Fault) -> Self {
        Self(Box::new(Partial { fault, at: None }))
    }

    /// Completes the error with the node it happened in.
    pub(super) fn at(mut self, node: &Node<'_, '_>) -> Self {
        if self.0.at.is_none() {
            let hidden = node.value.mark.origin.is_some() || node.place.is_secret();
            match &mut self.0.fault {
                Fault::Wrong { found, .. } if hidden => *found = node.value.kind.name().to_owned(),
                Fault::Wrong { found, .. } => *found = node.value.described(),
                Fault::Said(message) if hidden => *message = node.value.discreet(message),
                Fault::UnknownName { found, .. } if hidden => *found = None,
                _ => {}
            }
            self.0.at = Some((identity(node.value), node.value.mark.clone(), node.place.to_string()));
        }
        self
    }
}

impl Error {
    /// Completes the error with a key of a map.
    pub(super) fn at_key(mut self, value: &Value, mark: &Mark, place: &Place<'_>) -> Self {
        if self.0.at.is_none() {
            self.0.at = Some((identity(value), mark.clone(), place.to_string()));
        }
        self
    }

    /// Whether a type did not fit.
    pub(super) fn is_wrong_type(&self) -> bool {
        matches!(self.0.fault, Fault::Wrong { .. })
    }

    /// The failure of reading `root`.
    pub(super) fn failure(self, root: &Value) -> Failure {
        let Partial { fault, at } = *self.0;
        let (id, mark, path) = at.unwrap_or_else(|| (identity(root), root.mark.clone(), String::new()));
        Failure { id, mistake: fault.mistake(mark, path) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.0.fault)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Fault::Said(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Fault::Wrong { found: found.to_string(), expected: plain_words(&expected.to_string()), hint: "" })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownName { found: Some(found.to_owned()), known })
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownKey { found: found.to_owned(), known })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Fault::Missing(name))
    }
}

/// Rust's type names in the words of a config's reader.
pub(super) fn plain_words(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number, 1 or more".to_owned()
        }
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") => "a map".to_owned(),
        other if other.starts_with("enum ") => "a name".to_owned(),
        other => other.to_owned(),
    }
}
