//! The normal form of a request that was sent in pieces.
//!
//! Protobuf lets a sender split a singular message in two, set a oneof twice or put a list's members anywhere. All that
//! is rare. Here such a request, already validated, is rewritten so that an index can address it: singular messages
//! merged (a message's pieces, read one after the other, are the merged message), a oneof's last member kept, children
//! in one run. Unknown fields survive. The result is never longer than the input, and pieces are never copied before
//! they are written, however deep they nest.

use crate::schema::{Kind, Message, Times};
use crate::wire::{Found, LEN, fields, put_tag, put_varint, varint_len};

/// Rewrites a validated request.
pub(crate) fn form(request: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len());
    rewrite(&mut out, Message::ExportMetricsServiceRequest, &[request]);
    out
}

/// A field that may be there once.
enum Single<'a> {
    /// A message in pieces.
    Message(u32, Message, Vec<&'a [u8]>),
    /// The last of anything else, with its tag.
    Field(&'a [u8]),
}

impl<'a> Single<'a> {
    fn message(number: u32, message: Message, piece: &'a [u8]) -> Self {
        Single::Message(number, message, vec![piece])
    }

    /// Adds a piece if this is the message of that number.
    fn join(&mut self, number: u32, piece: &'a [u8]) -> bool {
        match self {
            Single::Message(own, _, pieces) if *own == number => {
                if !piece.is_empty() {
                    pieces.push(piece);
                }
                true
            }
            _ => false,
        }
    }
}

/// Appends the message that the pieces add up to.
fn rewrite(out: &mut Vec<u8>, message: Message, pieces: &[&[u8]]) {
    let children = message.children();
    let mut one_of: Option<Single<'_>> = None;
    let mut once: Vec<Single<'_>> = Vec::new();
    for (whole, field) in each(pieces) {
        let (number, piece) = (field.number, field.payload.bytes());
        match message.field(number).map(|known| (known.times, known.kind)) {
            Some((Times::Many, Kind::Message(_))) if children == Some(number) => {}
            Some((Times::Many, Kind::Message(inner))) => nest(out, number, inner, &[piece]),
            Some((Times::Once, Kind::Message(inner))) => {
                if !once.iter_mut().any(|single| single.join(number, piece)) {
                    once.push(Single::message(number, inner, piece));
                }
            }
            Some((Times::OneOf, Kind::Message(inner))) => {
                if !one_of.as_mut().is_some_and(|single| single.join(number, piece)) {
                    one_of = Some(Single::message(number, inner, piece));
                }
            }
            Some((Times::OneOf, _)) => one_of = Some(Single::Field(whole)),
            _ => out.extend_from_slice(whole),
        }
    }
    for single in once.into_iter().chain(one_of) {
        match single {
            Single::Message(number, inner, pieces) => nest(out, number, inner, &pieces),
            Single::Field(whole) => out.extend_from_slice(whole),
        }
    }
    let child = children.and_then(|number| message.field(number));
    if let Some((number, Kind::Message(inner))) = child.map(|child| (child.number, child.kind)) {
        for (_, field) in each(pieces).filter(|(_, field)| field.number == number) {
            nest(out, number, inner, &[field.payload.bytes()]);
        }
    }
}

/// The fields of all pieces, each with its bytes.
fn each<'a>(pieces: &[&'a [u8]]) -> impl Iterator<Item = (&'a [u8], Found<'a>)> {
    pieces.iter().flat_map(|piece| {
        fields(piece).map(move |field| (piece.get(field.start..field.end).unwrap_or_default(), field))
    })
}

/// Appends a message field. Its length is at most that of its pieces, so the room for it is known and hardly ever has
/// to be closed up: nesting does not multiply the work.
fn nest(out: &mut Vec<u8>, number: u32, message: Message, pieces: &[&[u8]]) {
    let most: usize = pieces.iter().map(|piece| piece.len()).sum();
    let room = varint_len(most as u64);
    put_tag(out, number, LEN);
    let at = out.len();
    out.resize(at + room, 0);
    rewrite(out, message, pieces);
    let mut prefix = Vec::with_capacity(room);
    put_varint(&mut prefix, (out.len() - at - room) as u64);
    out.splice(at..at + room, prefix);
}
