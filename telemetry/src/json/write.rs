//! Batch to OTLP/JSON. Writes what is on the wire, in the schema's order; unknown fields have no name and are left out.

use crate::batch::Batch;
use crate::distribution::{repeated, zigzag};
use crate::schema::{Field, Kind, Message, Times};
use crate::wire::{FIXED64, LEN, Payload, fields, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;

/// Appends the batch as one OTLP/JSON object (`{"resourceMetrics":[...]}`), without a line break.
pub fn write(batch: &Batch, out: &mut Vec<u8>) {
    object(out, Message::ExportMetricsServiceRequest, &batch.encode());
}

fn object(out: &mut Vec<u8>, message: Message, body: &[u8]) {
    let table = message.fields();
    // What each field of the table holds, by its place there: of a singular field and of a oneof, the last on the wire.
    let mut found: [Option<Payload<'_>>; 16] = [None; 16];
    for field in fields(body) {
        let Some(place) = table.iter().position(|known| known.number == field.number) else { continue };
        if table[place].times == Times::OneOf {
            for (slot, other) in found.iter_mut().zip(table) {
                if other.times == Times::OneOf {
                    *slot = None;
                }
            }
        }
        if let Some(slot) = found.get_mut(place) {
            *slot = Some(field.payload);
        }
    }
    out.push(b'{');
    let mut first = true;
    for (field, payload) in table.iter().zip(found) {
        let Some(payload) = payload else { continue };
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        string(out, field.name);
        out.push(b':');
        if field.times == Times::Many {
            list(out, field, body);
        } else {
            value(out, field.kind, payload);
        }
    }
    out.push(b'}');
}

fn list(out: &mut Vec<u8>, field: &Field, body: &[u8]) {
    out.push(b'[');
    let mut first = true;
    let mut separate = |out: &mut Vec<u8>| {
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
    };
    if field.kind.wire() == LEN {
        for element in fields(body).filter(|element| element.number == field.number) {
            separate(out);
            value(out, field.kind, element.payload);
        }
    } else {
        for bits in repeated(body, field.number, field.kind.wire() == FIXED64) {
            separate(out);
            value(out, field.kind, Payload::Varint(bits));
        }
    }
    out.push(b']');
}

fn value(out: &mut Vec<u8>, kind: Kind, payload: Payload<'_>) {
    let bits = payload.bits();
    match kind {
        Kind::Bool => number(out, bits != 0),
        Kind::Int32 => number(out, bits as i32),
        Kind::Uint32 => number(out, bits as u32),
        Kind::Sint32 => number(out, zigzag(bits)),
        Kind::Int64 | Kind::Sfixed64 => quoted(out, bits as i64),
        Kind::Uint64 | Kind::Fixed64 => quoted(out, bits),
        Kind::Double => double(out, f64::from_bits(bits)),
        Kind::String => string(out, text(payload.bytes())),
        Kind::Bytes => string(out, &STANDARD.encode(payload.bytes())),
        Kind::Id => {
            out.push(b'"');
            for byte in payload.bytes() {
                append(out, format_args!("{byte:02x}"));
            }
            out.push(b'"');
        }
        Kind::Message(message) => object(out, message, payload.bytes()),
    }
}

fn number(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    append(out, format_args!("{value}"));
}

fn quoted(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    append(out, format_args!("\"{value}\""));
}

fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        json(out, &value);
    } else if value.is_nan() {
        string(out, "NaN");
    } else {
        string(out, if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    json(out, text);
}

fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "numbers and strings always have a JSON form");
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a vector takes every write");
}
