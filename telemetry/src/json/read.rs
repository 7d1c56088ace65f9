//! OTLP/JSON to protobuf, in one streaming pass.
//!
//! Unknown keys are ignored, which includes the original snake_case names. Types are strict: enums only as integers, ids
//! only in hexadecimal, a key or a oneof set twice is an error. Integers may be numbers or decimal strings. `null` is
//! the same as an absent key.

use crate::error::Limits;
use crate::schema::{Field, Kind, Message, Times};
use crate::wire::{LEN, close, open, put_bytes, put_fixed64, put_tag, put_varint};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// JSON that is not OTLP metrics: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed OTLP/JSON at byte {offset}: {reason}")]
pub struct JsonError {
    /// Offset into the input, in bytes, at which the fault was noticed: at the end of the value at fault.
    pub offset: usize,
    /// What is wrong there.
    pub reason: String,
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Reads an OTLP/JSON `ExportMetricsServiceRequest`; returns the same request in protobuf, for `Batch::decode`.
///
/// # Errors
/// Input that is no JSON, is larger than `limits.max_bytes`, has a value of another type than its key asks for, sets a
/// key or a oneof twice, or nests attribute values deeper than `limits.max_depth` or anything deeper than 128 levels.
pub fn read(json: &[u8], limits: &Limits) -> Result<Vec<u8>, JsonError> {
    if json.len() > limits.max_bytes {
        return Err(JsonError { offset: limits.max_bytes, reason: "the request is larger than allowed".into() });
    }
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let object = Object { message: Message::ExportMetricsServiceRequest, out: &mut out, depth: limits.max_depth };
    let outcome = object.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match outcome {
        Ok(()) => Ok(out),
        Err(error) => Err(JsonError { offset: offset(json, error.line(), error.column()), reason: reason(&error) }),
    }
}

/// The byte that serde_json's line and column (in bytes, counted from 1) mean.
fn offset(json: &[u8], line: usize, column: usize) -> usize {
    let mut breaks = json.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let start = if line <= 1 { 0 } else { breaks.nth(line - 2).unwrap_or(0) };
    (start + column.saturating_sub(1)).min(json.len())
}

/// The message without serde_json's own account of the place.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// A JSON object, to be appended as the body of a message.
struct Object<'o> {
    message: Message,
    out: &'o mut Vec<u8>,
    /// How many more `AnyValue`s may lie in each other.
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = match (self.message, self.depth.checked_sub(1)) {
            (Message::AnyValue, Some(depth)) => depth,
            (Message::AnyValue, None) => return Err(A::Error::custom("attribute values nest too deep")),
            _ => self.depth,
        };
        let mut seen = 0u16;
        let mut one_of: Option<&str> = None;
        while let Some(key) = map.next_key_seed(Key(self.message))? {
            let Some(place) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let Some(field) = self.message.fields().get(place) else { continue };
            if seen & 1 << place != 0 {
                return Err(A::Error::custom(format_args!("key {} occurs twice", field.name)));
            }
            seen |= 1 << place;
            let set = map.next_value_seed(Slot { field, out: &mut *self.out, depth })?;
            if set
                && field.times == Times::OneOf
                && let Some(other) = one_of.replace(field.name)
            {
                return Err(A::Error::custom(format_args!("{other} and {} exclude each other", field.name)));
            }
        }
        Ok(())
    }
}

/// An object's key: its place in the message's table, if it is known.
struct Key(Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields().iter().position(|field| field.name == key))
    }
}

/// A field's value, which may be `null`. Returns whether it was set.
struct Slot<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value for {}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let Self { field, out, depth } = self;
        if field.times == Times::Many {
            deserializer.deserialize_seq(List { field, out, depth })?;
        } else {
            Element { field, out, depth, packed: false }.deserialize(deserializer)?;
        }
        Ok(true)
    }
}

/// A repeated field's values.
struct List<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    depth: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list for {}", self.field.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, out, depth } = self;
        let packed = field.kind.wire() != LEN;
        let before = out.len();
        let body = if packed { open(out, field.number) } else { before };
        while list.next_element_seed(Element { field, out, depth, packed })?.is_some() {}
        if packed {
            let end = out.len();
            if end == body {
                out.truncate(before);
            } else {
                close(out, body, end);
            }
        }
        Ok(())
    }
}

/// One value of a field.
struct Element<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    depth: usize,
    /// Within a packed list: no tag of its own.
    packed: bool,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.field.kind {
            Kind::Message(message) => {
                let body = open(self.out, self.field.number);
                Object { message, out: self.out, depth: self.depth }.deserialize(deserializer)?;
                let end = self.out.len();
                close(self.out, body, end);
                Ok(())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Visitor<'_> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field.kind {
            Kind::Bool => "true or false",
            Kind::Int32 => "an integer (names of enum values are no part of OTLP)",
            Kind::Uint32 | Kind::Sint32 => "a 32-bit integer",
            Kind::Int64 | Kind::Uint64 | Kind::Fixed64 | Kind::Sfixed64 => "a 64-bit integer as string or number",
            Kind::Double => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
            Kind::String => "a string",
            Kind::Bytes => "a string in base64",
            Kind::Id => "a string in hexadecimal",
            Kind::Message(_) => "an object",
        };
        write!(f, "{what} for {}", self.field.name)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => self.varint(u64::from(value)),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.integer(i128::from(value)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if self.field.kind == Kind::Double { self.visit_f64(value as f64) } else { self.integer(i128::from(value)) }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if self.field.kind == Kind::Double {
            self.fixed64(value.to_bits());
            Ok(())
        } else if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            self.integer(value as i128)
        } else {
            Err(E::invalid_value(serde::de::Unexpected::Float(value), &self))
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let wrong = |this: &Self| E::invalid_value(serde::de::Unexpected::Str(value), this);
        match self.field.kind {
            Kind::String => put_bytes(self.out, self.field.number, value.as_bytes()),
            Kind::Bytes => {
                let alphabet = if value.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
                let bytes = alphabet.decode(value).map_err(|_| wrong(&self))?;
                put_bytes(self.out, self.field.number, &bytes);
            }
            Kind::Id => {
                let bytes = hex(value).ok_or_else(|| wrong(&self))?;
                put_bytes(self.out, self.field.number, &bytes);
            }
            Kind::Double => {
                let number = match value {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    text => serde_json::from_str(text).map_err(|_| wrong(&self))?,
                };
                self.fixed64(number.to_bits());
            }
            Kind::Int64 | Kind::Uint64 | Kind::Fixed64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Sint32 => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(wrong(&self));
                }
                let number = value.parse::<i128>().map_err(|_| wrong(&self))?;
                return self.integer(number);
            }
            Kind::Bool | Kind::Int32 | Kind::Message(_) => {
                return Err(E::invalid_type(serde::de::Unexpected::Str(value), &self));
            }
        }
        Ok(())
    }
}

impl Element<'_> {
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let wrong = |this: &Self| E::custom(format_args!("{value} is out of range for {}", this.field.name));
        match self.field.kind {
            Kind::Int32 => {
                let value = i32::try_from(value).map_err(|_| wrong(&self))?;
                self.varint(i64::from(value) as u64);
            }
            Kind::Uint32 => {
                let value = u32::try_from(value).map_err(|_| wrong(&self))?;
                self.varint(u64::from(value));
            }
            Kind::Sint32 => {
                let value = i32::try_from(value).map_err(|_| wrong(&self))?;
                self.varint(u64::from((value << 1 ^ value >> 31) as u32));
            }
            Kind::Int64 => {
                let value = i64::try_from(value).map_err(|_| wrong(&self))?;
                self.varint(value as u64);
            }
            Kind::Uint64 => {
                let value = u64::try_from(value).map_err(|_| wrong(&self))?;
                self.varint(value);
            }
            Kind::Fixed64 => {
                let value = u64::try_from(value).map_err(|_| wrong(&self))?;
                self.fixed64(value);
            }
            Kind::Sfixed64 => {
                let value = i64::try_from(value).map_err(|_| wrong(&self))?;
                self.fixed64(value as u64);
            }
            Kind::Double => self.fixed64((value as f64).to_bits()),
            Kind::Bool | Kind::String | Kind::Bytes | Kind::Id | Kind::Message(_) => {
                return Err(E::invalid_type(serde::de::Unexpected::Other("a number"), &self));
            }
        }
        Ok(())
    }

    fn varint(self, value: u64) {
        if !self.packed {
            put_tag(self.out, self.field.number, self.field.kind.wire());
        }
        put_varint(self.out, value);
    }

    fn fixed64(self, bits: u64) {
        if self.packed {
            self.out.extend_from_slice(&bits.to_le_bytes());
        } else {
            put_fixed64(self.out, self.field.number, bits);
        }
    }
}

/// Bytes from pairs of hexadecimal digits, either case.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}
