//! What can be wrong with a request, and how large one may be.

use crate::schema::Message;

/// How much a request may ask of the decoder. Nothing is reserved on the word of a length in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request, in bytes. Default 64 MiB: what the OTLP specification recommends for receivers.
    pub max_bytes: usize,
    /// Deepest nesting of attribute values (arrays and maps in each other). Default 64: no sender nests more than a
    /// few levels, and the decoder's stack stays small.
    pub max_depth: usize,
    /// Most resources, scopes, metrics and points together. Default 2,000,000: in 64 MiB that leaves 33 bytes a point,
    /// which two times, a value and an attribute exceed, so this only meets requests made of nearly empty messages.
    pub max_points: usize,
}

impl Limits {
    /// Nothing is refused for its size: for bytes that were written here.
    pub const NONE: Limits = Limits { max_bytes: usize::MAX, max_depth: usize::MAX, max_points: usize::MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_depth: 64, max_points: 2_000_000 }
    }
}

/// A request that is not OTLP metrics: what is wrong, and at which byte of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed OTLP metrics at byte {offset}: {kind}")]
pub struct DecodeError {
    /// Offset into the input, in bytes, of the field or value at fault.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// The ways in which a request can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A value or a length reaches beyond the end of its message.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint of more than 10 bytes, or one that does not fit 64 bits.
    #[error("a varint does not fit 64 bits")]
    Varint,
    /// Field number 0, or one above 2^29 - 1.
    #[error("the field number is out of range")]
    FieldNumber,
    /// Wire types 3 and 4 (groups) are obsolete and no part of OTLP; 6 and 7 do not exist.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// A known field with the wire type of another type.
    #[error("field {field} of {message} has wire type {found}")]
    FieldType {
        /// The message the field belongs to.
        message: Message,
        /// The field's number.
        field: u32,
        /// The wire type found.
        found: u8,
    },
    /// A string that is not UTF-8.
    #[error("a string is not valid UTF-8")]
    Utf8,
    /// A packed list of 8-byte values whose length is no multiple of 8.
    #[error("the length of a packed field is no multiple of 8")]
    Packed,
    /// Attribute values nest deeper than [`Limits::max_depth`].
    #[error("attribute values nest too deep")]
    Depth,
    /// More entries than [`Limits::max_points`].
    #[error("more metrics and data points than allowed")]
    TooMany,
    /// More bytes than [`Limits::max_bytes`], or than 4 GiB, which the index can address.
    #[error("the request is larger than allowed")]
    TooLarge,
}
