//! Validation by the schema: for every message the index does not look into.
//!
//! It also notices what is legal but not in the normal form: a singular message seen twice, an `AnyValue` set twice.

use crate::error::{DecodeError, DecodeErrorKind};
use crate::schema::{Field, Kind, Message, Times};
use crate::wire::{FIXED64, LEN, Payload, Reader, VARINT, is_utf8};

pub(crate) struct Validator {
    max_depth: usize,
    /// Something was sent in pieces: views cannot read this input as it is.
    pub(crate) in_pieces: bool,
}

impl Validator {
    pub(crate) fn new(max_depth: usize) -> Self {
        Self { max_depth, in_pieces: false }
    }

    /// Notes the field in `seen`; a message that may be there once and is there again is in pieces, and so is an
    /// `AnyValue` with a second member.
    #[inline]
    pub(crate) fn once(&mut self, message: Message, number: u32, seen: &mut u32) {
        let Some(field) = message.field(number) else { return };
        let bit = match (field.times, field.kind) {
            (Times::Once, Kind::Message(_)) => 1 << (number & 31),
            (Times::OneOf, _) if message == Message::AnyValue => 1,
            _ => return,
        };
        self.in_pieces |= *seen & bit != 0;
        *seen |= bit;
    }

    /// Validates a message; `depth` counts the `AnyValue`s it lies in.
    pub(crate) fn message(&mut self, message: Message, mut body: Reader<'_>, depth: usize) -> Result<(), DecodeError> {
        let depth = depth + usize::from(message == Message::AnyValue);
        if depth > self.max_depth {
            return Err(body.fault(DecodeErrorKind::Depth));
        }
        let mut seen = 0;
        while !body.is_empty() {
            let at = body;
            let (number, wire) = body.tag()?;
            self.once(message, number, &mut seen);
            self.field(message, at, number, wire, &mut body, depth)?;
        }
        Ok(())
    }

    /// Validates the field whose tag was just read; `at` is where the tag begins.
    pub(crate) fn field(
        &mut self,
        message: Message,
        at: Reader<'_>,
        number: u32,
        wire: u8,
        body: &mut Reader<'_>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let payload = match wire {
            0..=2 | 5 => body.payload(wire)?,
            other => return Err(at.fault(DecodeErrorKind::WireType(other))),
        };
        let Some(field) = message.field(number) else { return Ok(()) };
        match (field.kind, payload) {
            (Kind::Message(inner), Payload::Len(content)) => self.message(inner, content, depth),
            (Kind::String, Payload::Len(content)) => {
                if is_utf8(content.rest()) {
                    Ok(())
                } else {
                    Err(content.fault(DecodeErrorKind::Utf8))
                }
            }
            (_, Payload::Len(content)) if is_packable(field) => packed(field.kind, content),
            (kind, _) if kind.wire() == wire => Ok(()),
            _ => Err(at.fault(DecodeErrorKind::FieldType { message, field: number, found: wire })),
        }
    }
}

fn is_packable(field: &Field) -> bool {
    field.times == Times::Many && field.kind.wire() != LEN
}

fn packed(kind: Kind, mut content: Reader<'_>) -> Result<(), DecodeError> {
    match kind.wire() {
        FIXED64 if !content.rest().len().is_multiple_of(8) => Err(content.fault(DecodeErrorKind::Packed)),
        VARINT => {
            while !content.is_empty() {
                content.varint()?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
