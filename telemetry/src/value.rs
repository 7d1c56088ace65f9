//! Attribute values and sets of attributes, read in place from validated bytes.
//!
//! Views never fail: the decoder refused everything they could stumble over.

use crate::hash;
use crate::wire::{Fields, Reader, fields, text};
use base64::Engine as _;
use std::fmt;

/// An attribute's value.
#[derive(Clone, Copy, Default)]
pub enum AnyValue<'a> {
    /// No value set. Also a reference into a profile's string table, which metrics do not have.
    #[default]
    Empty,
    /// A string.
    Str(&'a str),
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// A list of values.
    Array(Values<'a>),
    /// A map from string to value.
    Map(Attributes<'a>),
    /// Raw bytes.
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads an `AnyValue` message; the last member of the oneof holds.
    pub(crate) fn parse(body: &'a [u8]) -> Self {
        let mut value = AnyValue::Empty;
        for field in fields(body) {
            value = match field.number {
                1 => AnyValue::Str(text(field.payload.bytes())),
                2 => AnyValue::Bool(field.payload.bits() != 0),
                3 => AnyValue::Int(field.payload.bits() as i64),
                4 => AnyValue::Double(f64::from_bits(field.payload.bits())),
                5 => AnyValue::Array(Values { body: field.payload.bytes() }),
                6 => AnyValue::Map(Attributes { body: field.payload.bytes(), field: 1 }),
                7 => AnyValue::Bytes(field.payload.bytes()),
                8 => AnyValue::Empty,
                _ => value,
            };
        }
        value
    }

    /// The string, where it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            AnyValue::Str(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> From<&'a str> for AnyValue<'a> {
    fn from(value: &'a str) -> Self {
        AnyValue::Str(value)
    }
}

impl<'a> From<&'a String> for AnyValue<'a> {
    fn from(value: &'a String) -> Self {
        AnyValue::Str(value)
    }
}

impl From<bool> for AnyValue<'_> {
    fn from(value: bool) -> Self {
        AnyValue::Bool(value)
    }
}

impl From<i64> for AnyValue<'_> {
    fn from(value: i64) -> Self {
        AnyValue::Int(value)
    }
}

impl From<f64> for AnyValue<'_> {
    fn from(value: f64) -> Self {
        AnyValue::Double(value)
    }
}

/// Deep equality, as the identity hash sees it: maps without order, doubles by their bits (NaN equals itself).
impl PartialEq for AnyValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (AnyValue::Empty, AnyValue::Empty) => true,
            (AnyValue::Str(a), AnyValue::Str(b)) => a == b,
            (AnyValue::Bool(a), AnyValue::Bool(b)) => a == b,
            (AnyValue::Int(a), AnyValue::Int(b)) => a == b,
            (AnyValue::Double(a), AnyValue::Double(b)) => a.to_bits() == b.to_bits(),
            (AnyValue::Array(a), AnyValue::Array(b)) => a == b,
            (AnyValue::Map(a), AnyValue::Map(b)) => a == b,
            (AnyValue::Bytes(a), AnyValue::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for AnyValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyValue::Empty => f.write_str("Empty"),
            AnyValue::Str(value) => value.fmt(f),
            AnyValue::Bool(value) => value.fmt(f),
            AnyValue::Int(value) => value.fmt(f),
            AnyValue::Double(value) => value.fmt(f),
            AnyValue::Array(values) => values.fmt(f),
            AnyValue::Map(map) => map.fmt(f),
            AnyValue::Bytes(bytes) => write!(f, "{bytes:?}"),
        }
    }
}

/// A string bare, bytes in base64, lists and maps as JSON.
impl fmt::Display for AnyValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyValue::Str(text) => f.write_str(text),
            AnyValue::Bytes(bytes) => f.write_str(&base64::engine::general_purpose::STANDARD.encode(bytes)),
            AnyValue::Empty => Ok(()),
            other => other.write_json(f),
        }
    }
}

impl AnyValue<'_> {
    fn write_json(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyValue::Empty => f.write_str("null"),
            AnyValue::Bool(value) => write!(f, "{value}"),
            AnyValue::Int(value) => write!(f, "{value}"),
            AnyValue::Double(value) => write!(f, "{value}"),
            AnyValue::Str(text) => write_quoted(f, text),
            AnyValue::Bytes(_) => write_quoted(f, &self.to_string()),
            AnyValue::Array(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    value.write_json(f)?;
                }
                f.write_str("]")
            }
            AnyValue::Map(map) => {
                f.write_str("{")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    write_quoted(f, key)?;
                    f.write_str(":")?;
                    value.write_json(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

/// The values of an array.
#[derive(Clone, Copy, Default)]
pub struct Values<'a> {
    pub(crate) body: &'a [u8],
}

impl<'a> Values<'a> {
    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = AnyValue<'a>> + use<'a> {
        fields(self.body).filter(|field| field.number == 1).map(|field| AnyValue::parse(field.payload.bytes()))
    }

    /// How many values.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body || self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A set of attributes: those `KeyValue` fields of one message that carry a given number.
#[derive(Clone, Copy, Default)]
pub struct Attributes<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) field: u32,
}

impl<'a> Attributes<'a> {
    /// Key and value in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, AnyValue<'a>)> + use<'a> {
        self.raw().map(|(key, value)| (text(key), AnyValue::parse(value)))
    }

    /// The value of the first attribute of that key.
    pub fn get(&self, key: &str) -> Option<AnyValue<'a>> {
        self.raw().find(|(found, _)| *found == key.as_bytes()).map(|(_, value)| AnyValue::parse(value))
    }

    /// The same, where it is a string.
    pub fn get_str(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(|value| value.as_str())
    }

    /// How many attributes.
    pub fn len(&self) -> usize {
        self.raw().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.raw().next().is_none()
    }

    fn raw(&self) -> Raw<'a> {
        Raw { fields: fields(self.body), field: self.field }
    }
}

/// Equality as a set, whatever the order.
impl PartialEq for Attributes<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.field == other.field && self.body == other.body {
            return true;
        }
        if self.raw().eq(other.raw()) {
            return true;
        }
        // Sorted by their hashes, equal sets lie side by side; the hashes only order, the values decide.
        let sorted = |set: &Self| {
            let mut pairs: Vec<_> = set.raw().map(|(key, value)| (key, AnyValue::parse(value))).collect();
            pairs.sort_by_cached_key(|(key, value)| hash::attribute(key, *value));
            pairs
        };
        sorted(self) == sorted(other)
    }
}

impl fmt::Debug for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Keys and values as bytes.
struct Raw<'a> {
    fields: Fields<'a>,
    field: u32,
}

impl<'a> Iterator for Raw<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next_of(self.field)?;
        Some(key_value(field.payload.bytes()))
    }
}

/// The key and the value's message in a `KeyValue`.
#[inline]
pub(crate) fn key_value(body: &[u8]) -> (&[u8], &[u8]) {
    let mut usual = Reader::new(body, 0);
    if let (Some(key), Some(value), true) = (usual.take(1), usual.take(2), usual.is_empty()) {
        return (key.rest(), value.rest());
    }
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in fields(body) {
        match field.number {
            1 => key = field.payload.bytes(),
            2 => value = field.payload.bytes(),
            _ => {}
        }
    }
    (key, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::put_attribute;

    fn set(pairs: &[(&str, AnyValue<'_>)]) -> Vec<u8> {
        let mut out = Vec::new();
        pairs.iter().for_each(|(key, value)| put_attribute(&mut out, 7, key, *value));
        out
    }

    fn view(body: &[u8]) -> Attributes<'_> {
        Attributes { body, field: 7 }
    }

    #[test]
    fn sets_are_equal_whatever_their_order() {
        let inner = set(&[("x", AnyValue::Int(1)), ("y", AnyValue::Str("z"))]);
        let map = AnyValue::Map(view(&inner));
        let turned = set(&[("y", AnyValue::Str("z")), ("x", AnyValue::Int(1))]);
        let a = set(&[("a", AnyValue::Double(f64::NAN)), ("b", map), ("a", AnyValue::Bool(true))]);
        let b =
            set(&[("a", AnyValue::Bool(true)), ("a", AnyValue::Double(f64::NAN)), ("b", AnyValue::Map(view(&turned)))]);
        assert_eq!(view(&a), view(&b));
        assert_eq!(hash::attributes(view(&a)), hash::attributes(view(&b)));
        let c = set(&[("a", AnyValue::Bool(true)), ("a", AnyValue::Bool(true)), ("b", map)]);
        assert_ne!(view(&a), view(&c));
        assert_ne!(view(&a), view(&inner));
    }

    #[test]
    fn values_have_a_text() {
        let inner = set(&[("k", AnyValue::Str("a\"b")), ("n", AnyValue::Empty), ("d", AnyValue::Double(0.5))]);
        let map = AnyValue::Map(view(&inner));
        assert_eq!(map.to_string(), r#"{"k":"a\"b","n":null,"d":0.5}"#);
        assert_eq!(AnyValue::Str("bare").to_string(), "bare");
        assert_eq!(AnyValue::Bytes(&[0, 255]).to_string(), "AP8=");
        assert_eq!(AnyValue::Empty.to_string(), "");
        assert_eq!(AnyValue::Int(-7).to_string(), "-7");
        assert_eq!(format!("{map:?}"), r#"{"k": "a\"b", "n": Empty, "d": 0.5}"#);
    }
}
