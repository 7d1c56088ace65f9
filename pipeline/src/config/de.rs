//! Serde over a [`Value`] tree: every error knows the value it is about.
//!
//! A failed attempt names one value; [`read`](super::read()) leaves that value out and tries again, so that all mistakes come out.
//! `null` means "as if it were not written": a field of a struct keeps its default, a block that is named but empty
//! (`grpc:`) is there with its defaults.

mod access;
mod error;

use super::mistake::{Mistake, join};
use super::secret::is_secret_key;
use super::value::{Key, Kind, Value};
use access::{Entries, Items, Tagged};
use error::{Error, Fault, plain_words};
use serde::de::{DeserializeOwned, Deserializer, Expected, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Values to pass over, by address; the tree does not move while it is read.
pub(super) type Skipped = HashSet<usize>;

/// The identity of a value for [`Skipped`].
pub(super) fn identity(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

/// One attempt to read a whole value.
pub(super) fn attempt<T: DeserializeOwned>(value: &Value, skipped: &Skipped) -> Result<T, Failure> {
    let place = Place { parent: None, step: Step::Root };
    T::deserialize(Node { value, place: &place, skipped, null: Null::Empty })
        .map_err(|error: Error| error.failure(value))
}

/// Why an attempt failed.
pub(super) struct Failure {
    /// The value to leave out.
    pub id: usize,
    /// What to report; `None` for a `null` that only means "not written".
    pub mistake: Option<Mistake>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

/// The way from the top to a node; a linked list on the stack of calls.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

impl Place<'_> {
    /// Whether a key on the way says that what stands here is a secret.
    fn is_secret(&self) -> bool {
        matches!(self.step, Step::Key(key) if is_secret_key(key)) || self.parent.is_some_and(Place::is_secret)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.parent.map(ToString::to_string).unwrap_or_default();
        match self.step {
            Step::Root => Ok(()),
            Step::Key(name) => out.write_str(&join(&before, name)),
            Step::Index(index) => out.write_str(&join(&before, &format!("[{index}]"))),
        }
    }
}

/// What `null` means at a node.
#[derive(Clone, Copy, PartialEq)]
enum Null {
    /// An empty value of the wanted type: the top, list items, map values.
    Empty,
    /// The field's default: as if the key were not written.
    NotWritten,
    /// An optional field: an empty block if it is one, else as if not written.
    Block,
}

/// The deserializer of one value.
#[derive(Clone, Copy)]
struct Node<'a, 'v> {
    value: &'v Value,
    place: &'a Place<'a>,
    skipped: &'a Skipped,
    null: Null,
}

impl<'v> Node<'_, 'v> {
    fn wrong(&self, expected: &dyn Expected) -> Error {
        if self.value.is_null() && self.null != Null::Empty {
            return Error::new(Fault::NotWritten).at(self);
        }
        let expected = plain_words(&expected.to_string());
        let numeric = expected.contains("number");
        let hint = match self.value.as_str().map(super::parse::scalar) {
            Some(Kind::Int(_) | Kind::Float(_)) if numeric => "; write it without quotes",
            Some(Kind::Bool(_)) if expected == "a boolean" => "; write it without quotes",
            Some(Kind::String(_)) if expected == "a boolean" => "; write true or false",
            _ => "",
        };
        Error::new(Fault::Wrong { found: String::new(), expected, hint }).at(self)
    }

    /// `null` where it only says that the key might as well not be there.
    fn not_written(&self) -> bool {
        self.value.is_null() && self.null == Null::NotWritten
    }

    fn integer<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        let result: Result<_, Error> = match self.value.kind {
            Kind::Int(whole) => match u64::try_from(whole) {
                Ok(whole) => visitor.visit_u64(whole),
                Err(_) => visitor.visit_i64(whole),
            },
            Kind::Float(number) => {
                if let Some(whole) = self.value.text.as_ref().and_then(|text| text.parse().ok()) {
                    visitor.visit_u64(whole)
                } else if number.fract() == 0.0 && number.abs() < 9.0e15 {
                    let whole = number as i64;
                    if whole < 0 { visitor.visit_i64(whole) } else { visitor.visit_u64(whole as u64) }
                } else {
                    return Err(self.wrong(&visitor));
                }
            }
            _ => return Err(self.wrong(&visitor)),
        };
        result.map_err(|error: Error| error.at(&self))
    }

    fn map<V: Visitor<'v>>(self, visitor: V, fields: bool) -> Result<V::Value, Error> {
        let entries: &[(Key, Value)] = match &self.value.kind {
            Kind::Map(entries) => entries,
            Kind::Null if self.null != Null::NotWritten => &[],
            _ => return Err(self.wrong(&visitor)),
        };
        let null = if fields { Null::NotWritten } else { Null::Empty };
        visitor.visit_map(Entries::new(self, entries, null)).map_err(|error: Error| error.at(&self))
    }
}

macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
            self.integer(visitor)
        }
    )*};
}

impl<'v> Deserializer<'v> for Node<'_, 'v> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value.kind {
            _ if self.not_written() => Err(self.wrong(&visitor)),
            Kind::Null => visitor.visit_unit().map_err(|error: Error| {
                let ignored = self.null == Null::Block && error.is_wrong_type();
                if ignored { Error::new(Fault::NotWritten).at(&self) } else { error.at(&self) }
            }),
            Kind::Bool(value) => visitor.visit_bool(*value).map_err(|error: Error| error.at(&self)),
            Kind::Int(_) => self.integer(visitor),
            Kind::Float(value) => visitor.visit_f64(*value).map_err(|error: Error| error.at(&self)),
            Kind::String(text) => visitor.visit_borrowed_str(text).map_err(|error: Error| error.at(&self)),
            Kind::Seq(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.map(visitor, false),
        }
    }

    fn deserialize_bool<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.kind {
            Kind::Bool(value) => visitor.visit_bool(value).map_err(|error: Error| error.at(&self)),
            _ => Err(self.wrong(&visitor)),
        }
    }

    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_f32<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match self.value.kind {
            Kind::Int(whole) => visitor.visit_i64(whole),
            Kind::Float(number) => visitor.visit_f64(number),
            _ => return Err(self.wrong(&visitor)),
        };
        result.map_err(|error: Error| error.at(&self))
    }

    fn deserialize_char<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.value.kind {
            Kind::String(text) => visitor.visit_borrowed_str(text),
            Kind::Null if self.null != Null::Empty && self.value.text.is_none() => return Err(self.wrong(&visitor)),
            _ => match self.value.scalar_text() {
                Some(text) => visitor.visit_string(text),
                None => return Err(self.wrong(&visitor)),
            },
        };
        result.map_err(|error: Error| error.at(&self))
    }

    fn deserialize_string<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() && self.null == Null::Empty {
            return visitor.visit_none();
        }
        visitor.visit_some(Node { null: Null::Block, ..self })
    }

    fn deserialize_unit<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.kind {
            Kind::Null => visitor.visit_unit(),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'v>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self).map_err(|error: Error| error.at(&self))
    }

    fn deserialize_seq<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        let items: &[Value] = match &self.value.kind {
            Kind::Seq(items) => items,
            Kind::Null if self.null == Null::Empty => &[],
            _ => return Err(self.wrong(&visitor)),
        };
        visitor.visit_seq(Items::new(self, items)).map_err(|error: Error| error.at(&self))
    }

    fn deserialize_tuple<V: Visitor<'v>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.map(visitor, false)
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.map(visitor, true)
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value.kind {
            Kind::Null if self.null != Null::Empty => Err(self.wrong(&visitor)),
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => visitor.visit_enum(Tagged { node: self, name: &key.name, content: Some(value) }),
                _ => Err(Error::new(Fault::Said(format!("expected one key of: {}", known.join(", "))))),
            },
            Kind::Seq(_) => Err(self.wrong(&visitor)),
            _ => {
                let name = self.value.scalar_text().unwrap_or_default();
                visitor.visit_enum(Tagged { node: self, name: &name, content: None })
            }
        }
        .map_err(|error: Error| error.at(&self))
    }

    fn deserialize_identifier<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}
