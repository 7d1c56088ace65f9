//! Serde over a [`Value`] tree: every error knows the value it is about.
//!
//! A failed attempt names one value; [`super::read`] leaves that value out and tries again, so that all mistakes come out.
//! `null` means "as if it were not written": a field of a struct keeps its default, a block that is named but empty
//! (`grpc:`) is there with its defaults.

use super::mistake::{Mistake, join};
use super::secret::is_secret_key;
use super::value::{Key, Kind, Mark, Value};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
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
    T::deserialize(Node { value, place: &place, skipped, null: Null::Empty }).map_err(|error: Error| match error.0.at {
        Some((id, mark, path)) => Failure { id, mistake: error.0.fault.mistake(mark, path) },
        None => Failure { id: identity(value), mistake: error.0.fault.mistake(value.mark.clone(), String::new()) },
    })
}

/// Why an attempt failed.
pub(super) struct Failure {
    /// The value to leave out.
    pub id: usize,
    /// What to report; `None` for a `null` that only means "not written".
    pub mistake: Option<Mistake>,
}

/// The error serde carries up; it is completed by the first node that it passes.
#[derive(Debug)]
pub(super) struct Error(Box<Partial>);

#[derive(Debug)]
struct Partial {
    fault: Fault,
    at: Option<(usize, Mark, String)>,
}

#[derive(Debug)]
enum Fault {
    NotWritten,
    UnknownKey { found: String, known: &'static [&'static str] },
    UnknownName { found: String, known: &'static [&'static str] },
    Wrong { found: String, expected: String, hint: &'static str },
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
            Self::UnknownName { found, known } => Mistake::new(mark, path, format!("{found:?} is not allowed here"))
                .allowing("allowed", &found, known.iter().copied()),
            Self::Wrong { found, expected, hint } => {
                Mistake::new(mark, path, format!("found {found}, expected {expected}{hint}"))
            }
            Self::Missing(name) => Mistake::new(mark, path, format!("the key {name:?} is required")),
            Self::Said(message) => Mistake::new(mark, path, message),
        })
    }
}

impl Error {
    fn new(fault: Fault) -> Self {
        Self(Box::new(Partial { fault, at: None }))
    }

    /// Completes the error with the node it happened in.
    fn at(mut self, node: &Node<'_, '_>) -> Self {
        if self.0.at.is_none() {
            let hidden = node.value.mark.origin.is_some() || node.place.is_secret();
            match &mut self.0.fault {
                Fault::Wrong { found, .. } if hidden => *found = node.value.kind.name().to_owned(),
                Fault::Wrong { found, .. } => *found = node.value.described(),
                Fault::Said(message) if hidden => *message = node.value.discreet(message),
                Fault::UnknownName { found, .. } if hidden => *found = String::new(),
                _ => {}
            }
            self.0.at = Some((identity(node.value), node.value.mark.clone(), node.place.to_string()));
        }
        self
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
        Self::new(Fault::UnknownName { found: found.to_owned(), known })
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownKey { found: found.to_owned(), known })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Fault::Missing(name))
    }
}

/// Rust's type names in the words of a config's reader.
fn plain_words(expected: &str) -> String {
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
        visitor
            .visit_map(Entries { node: self, rest: entries.iter(), current: None, null })
            .map_err(|error: Error| error.at(&self))
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
            Kind::Null => visitor.visit_unit().map_err(|error: Error| match (&error.0.fault, self.null) {
                (Fault::Wrong { .. }, Null::Block) => Error::new(Fault::NotWritten).at(&self),
                _ => error.at(&self),
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
        visitor.visit_seq(Items { node: self, rest: items.iter().enumerate() }).map_err(|error: Error| error.at(&self))
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

/// The entries of a map that are not passed over.
struct Entries<'a, 'v> {
    node: Node<'a, 'v>,
    rest: std::slice::Iter<'v, (Key, Value)>,
    current: Option<&'v (Key, Value)>,
    null: Null,
}

impl<'v> MapAccess<'v> for Entries<'_, 'v> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let skipped = self.node.skipped;
        self.current = self.rest.find(|(_, value)| !skipped.contains(&identity(value)));
        let Some((key, value)) = self.current else { return Ok(None) };
        seed.deserialize(Name(&key.name)).map(Some).map_err(|mut error: Error| {
            if error.0.at.is_none() {
                let place = Place { parent: Some(self.node.place), step: Step::Key(&key.name) };
                error.0.at = Some((identity(value), key.mark.clone(), place.to_string()));
            }
            error
        })
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, value)) = self.current else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let place = Place { parent: Some(self.node.place), step: Step::Key(&key.name) };
        let node = Node { value, place: &place, skipped: self.node.skipped, null: self.null };
        seed.deserialize(node).map_err(|error: Error| error.at(&node))
    }
}

/// The elements of a list that are not passed over.
struct Items<'a, 'v> {
    node: Node<'a, 'v>,
    rest: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'v> SeqAccess<'v> for Items<'_, 'v> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let skipped = self.node.skipped;
        let Some((index, value)) = self.rest.find(|(_, value)| !skipped.contains(&identity(value))) else {
            return Ok(None);
        };
        let place = Place { parent: Some(self.node.place), step: Step::Index(index) };
        let node = Node { value, place: &place, skipped, null: Null::Empty };
        seed.deserialize(node).map(Some).map_err(|error: Error| error.at(&node))
    }
}

/// A key or the name of an enum's variant.
struct Name<'n>(&'n str);

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An enum written as its name, or as a map of its name to its content.
struct Tagged<'a, 'v, 'n> {
    node: Node<'a, 'v>,
    name: &'n str,
    content: Option<&'v Value>,
}

impl<'a, 'v, 'n> EnumAccess<'v> for Tagged<'a, 'v, 'n> {
    type Error = Error;
    type Variant = Content<'a, 'v, 'n>;

    fn variant_seed<S: DeserializeSeed<'v>>(self, seed: S) -> Result<(S::Value, Self::Variant), Error> {
        let variant = seed.deserialize(Name(self.name)).map_err(|error: Error| error.at(&self.node))?;
        Ok((variant, Content(self)))
    }
}

/// What stands behind the name of a variant.
struct Content<'a, 'v, 'n>(Tagged<'a, 'v, 'n>);

impl<'v> Content<'_, 'v, '_> {
    fn with<T>(self, read: impl FnOnce(Node<'_, 'v>) -> Result<T, Error>) -> Result<T, Error> {
        let Tagged { node, name, content } = self.0;
        let place = Place { parent: Some(node.place), step: Step::Key(name) };
        match content {
            Some(value) => {
                let node = Node { value, place: &place, skipped: node.skipped, null: Null::Empty };
                read(node).map_err(|error: Error| error.at(&node))
            }
            None => {
                Err(Error::new(Fault::Said(format!("{name:?} needs a value: write a map {{{name}: ...}}"))).at(&node))
            }
        }
    }
}

impl<'v> VariantAccess<'v> for Content<'_, 'v, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.0.content {
            None => Ok(()),
            Some(value) if value.is_null() => Ok(()),
            Some(_) => Err(Error::new(Fault::Said(format!("{:?} takes no value", self.0.name))).at(&self.0.node)),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'v>>(self, seed: S) -> Result<S::Value, Error> {
        self.with(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'v>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.with(|node| node.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'v>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.with(|node| node.map(visitor, true))
    }
}
