//! OTLP/JSON, both directions, by the table of the schema.
//!
//! The mapping is protobuf's with OTLP's exceptions: keys in lowerCamelCase, trace and span ids in hexadecimal, enums as
//! integers, 64-bit integers as strings. Source: OTLP specification, "JSON Protobuf Encoding".

mod read;
mod write;

pub use read::{JsonError, read};
pub use write::write;
