//! Undoing a content coding without trusting it: what comes out is limited and asked for while it comes.
//!
//! A thousand zeros pack into one byte, so the packed size says nothing. Output grows in steps; before each step the caller
//! is asked for the room, and at the limit the work stops. A length that the input claims is believed where so many bytes
//! of it could say so much, and never allocated unasked; no coding may ask for a window of more than 8 MiB. Packing is the
//! sender's affair and stands elsewhere.

use std::io::{self, Read};

use libdeflater::Decompressor;
use memchr::memmem;
use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer};

/// The codings that are undone here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950, which HTTP and gRPC call "deflate" and the Collector also "zlib".
    Zlib,
    /// Snappy, as one block or in its framing format; the framing begins with a mark of its own, so both go by one name.
    Snappy,
}

/// What an answer offers a peer whose coding is not served.
pub const ACCEPTED: &str = "gzip, zstd, deflate, zlib, snappy, identity";

/// The largest window a zstd frame may ask for, as a power of two: what RFC 9659 allows in HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;
/// The first step of output. Most requests of an agent fit.
const FIRST: usize = if cfg!(test) { 256 } else { 64 << 10 };
/// How a gzip member begins.
const GZIP_MEMBER: &[u8] = b"\x1f\x8b\x08";
/// The most that a byte of deflate can stand for: a match of 258 bytes takes two bits.
const DEFLATE_MOST: usize = 1032;
/// The most that a byte of zstd can stand for: a block of 128 KiB that repeats one byte takes four.
const ZSTD_MOST: usize = 32 << 10;
/// The most that a byte of a snappy block can stand for: no element yields more than 64 bytes for 2.
const SNAPPY_MOST: usize = 64;
/// How a snappy stream in the framing format begins.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

impl Coding {
    /// The coding of that name, as in `Content-Encoding` and `grpc-encoding`.
    pub fn named(name: &str) -> Option<Coding> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Coding::Identity,
            "gzip" | "x-gzip" => Coding::Gzip,
            "zstd" => Coding::Zstd,
            "zlib" | "deflate" => Coding::Zlib,
            "snappy" | "x-snappy-framed" => Coding::Snappy,
            _ => return None,
        })
    }
}

/// Why nothing came out. `E` is the caller's own reason to stop.
#[derive(Debug, thiserror::Error)]
pub enum Undone<E> {
    /// More would come out than the limit.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(usize),
    /// The input is not of this coding.
    #[error("{0}")]
    Malformed(io::Error),
    /// The caller gave no room.
    #[error("no room")]
    NoRoom(E),
}

/// Undoes `coding`; at most `limit` bytes come out. `room` is asked before every step for the bytes it takes on top of
/// those before, and may say no. What it granted in the end is the capacity of the result.
///
/// # Errors
/// See [`Undone`]. Memory in use never exceeds what was granted, but for the coding's own window and tables.
pub fn undo<E>(
    coding: Coding,
    input: &[u8],
    limit: usize,
    room: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, Undone<E>> {
    match coding {
        Coding::Identity => read(input, limit, input.len(), room),
        Coding::Gzip => match gzip_length(input).filter(|length| *length <= limit) {
            Some(length) => gzip_member(input, length, room),
            None => read(flate2::bufread::MultiGzDecoder::new(input), limit, FIRST, room),
        },
        Coding::Zlib => read(flate2::bufread::ZlibDecoder::new(input), limit, FIRST, room),
        Coding::Zstd => zstd_frames(input, limit, room),
        // A stream that nothing was written to is empty.
        Coding::Snappy if input.is_empty() || input.starts_with(SNAPPY_STREAM) => {
            read(snap::read::FrameDecoder::new(input), limit, FIRST, room)
        }
        Coding::Snappy => snappy_block(input, limit, room),
    }
}

/// Whether `input` can say so much, if a byte of it stands for `most` at most.
fn can_say(input: &[u8], most: usize, length: usize) -> bool {
    length <= input.len().saturating_mul(most)
}

/// How much comes out of `input` if it is one gzip member, by what stands at its end. `None` where it may be several, of
/// which each is as long as its own end says, or where it cannot be true.
fn gzip_length(input: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*input.last_chunk()?) as usize;
    (can_say(input, DEFLATE_MOST, length) && memmem::find(input.get(1..)?, GZIP_MEMBER).is_none()).then_some(length)
}

/// Unpacks at once, which takes libdeflate a third of the time that a stream takes zlib-rs (`benches/coding.rs`).
fn gzip_member<E>(
    input: &[u8],
    length: usize,
    mut room: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, Undone<E>> {
    room(length).map_err(Undone::NoRoom)?;
    let mut out = vec![0; length];
    match Decompressor::new().gzip_decompress(input, &mut out) {
        Ok(got) if got == length => Ok(out),
        Ok(_) | Err(_) => Err(malformed("corrupt gzip")),
    }
}

/// Unpacks straight into the output: a frame that says how long it is needs no window beside it.
fn zstd_frames<E>(
    input: &[u8],
    limit: usize,
    mut room: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, Undone<E>> {
    let failed = |code| malformed(zstd_safe::get_error_name(code));
    let mut context = DCtx::try_create().ok_or_else(|| malformed("no memory for a zstd context"))?;
    context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(failed)?;
    let said = zstd_safe::get_frame_content_size(input).ok().flatten().and_then(|said| usize::try_from(said).ok());
    let said = said.filter(|said| can_say(input, ZSTD_MOST, *said));
    let (mut from, mut out) = (InBuffer::around(input), Vec::new());
    let mut ended = false;
    while !(ended && from.pos() == input.len()) {
        let filled = out.len();
        if filled == out.capacity() {
            grow(&mut out, limit, said.unwrap_or(FIRST), &mut room)?;
        }
        let more =
            context.decompress_stream(&mut OutBuffer::around_pos(&mut out, filled), &mut from).map_err(failed)?;
        ended = more == 0;
        if out.len() > limit {
            return Err(Undone::TooLarge(limit));
        }
        if !ended && from.pos() == input.len() && out.len() < out.capacity() {
            return Err(Undone::Malformed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(out)
}

fn malformed<E>(what: &'static str) -> Undone<E> {
    Undone::Malformed(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// A block says how long it is and is unpacked at once, so the claim is held against the limit and the input first.
fn snappy_block<E>(
    input: &[u8],
    limit: usize,
    mut room: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, Undone<E>> {
    let failed = |error: snap::Error| Undone::Malformed(io::Error::new(io::ErrorKind::InvalidData, error));
    let length = snap::raw::decompress_len(input).map_err(failed)?;
    if length > limit {
        return Err(Undone::TooLarge(limit));
    }
    if !can_say(input, SNAPPY_MOST, length) {
        return Err(malformed("the block claims more than it can hold"));
    }
    room(length).map_err(Undone::NoRoom)?;
    snap::raw::Decoder::new().decompress_vec(input).map_err(failed)
}

/// Makes room for twice as much, at first for `first`, as far as one byte past the limit: that tells "just fits" from "too
/// large".
fn grow<E>(
    out: &mut Vec<u8>,
    limit: usize,
    first: usize,
    room: &mut impl FnMut(usize) -> Result<(), E>,
) -> Result<(), Undone<E>> {
    let filled = out.len();
    let next = filled.saturating_mul(2).max(first).max(1).min(limit.saturating_add(1));
    if next == filled {
        return Err(Undone::TooLarge(limit));
    }
    room(next - filled).map_err(Undone::NoRoom)?;
    out.reserve_exact(next - filled);
    Ok(())
}

fn read<E>(
    mut from: impl Read,
    limit: usize,
    first: usize,
    mut room: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, Undone<E>> {
    let mut out = Vec::new();
    loop {
        let filled = out.len();
        if filled == out.capacity() {
            grow(&mut out, limit, first, &mut room)?;
        }
        let end = out.capacity().min(limit.saturating_add(1));
        out.resize(end, 0);
        let got = match out.get_mut(filled..) {
            Some(space) => fill(&mut from, space).map_err(Undone::Malformed)?,
            None => 0,
        };
        out.truncate(filled + got);
        if filled + got > limit {
            return Err(Undone::TooLarge(limit));
        }
        if filled + got < end {
            return Ok(out);
        }
    }
}

/// Reads until `space` is full or the input ends.
fn fill(from: &mut impl Read, space: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use std::io::Write;

    const PACKED: [&str; 5] = ["gzip", "zstd", "zlib", "snappy", "x-snappy-framed"];

    fn pack(coding: &str, plain: &[u8]) -> Vec<u8> {
        match coding {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            "zstd" => zstd::encode_all(plain, 3).unwrap(),
            "snappy" => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            _ => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).unwrap();
                encoder.into_inner().unwrap()
            }
        }
    }

    fn free(_: usize) -> Result<(), Infallible> {
        Ok(())
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_if_and_only_if_it_fits(
            plain in prop::collection::vec(0u8..4, 0..3_000), limit in 0usize..4_000,
        ) {
            for name in PACKED {
                let out = undo(Coding::named(name).unwrap(), &pack(name, &plain), limit, free);
                match out {
                    Ok(out) => prop_assert!(out == plain && plain.len() <= limit, "{}", name),
                    Err(Undone::TooLarge(_)) => prop_assert!(plain.len() > limit, "{}", name),
                    Err(error) => prop_assert!(false, "{name}: {error}"),
                }
            }
        }

        #[test]
        fn damage_is_an_error_or_bounded_output(
            plain in prop::collection::vec(0u8..4, 1..2000), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>(),
        ) {
            for name in PACKED {
                let mut packed = pack(name, &plain);
                let at = at.index(packed.len());
                if cut { packed.truncate(at) } else { packed[at] ^= with }
                let mut granted = 0;
                let out = undo(Coding::named(name).unwrap(), &packed, 10_000, |more| { granted += more; Ok::<_, Infallible>(()) });
                prop_assert!(granted <= 10_001, "{name} was granted {granted}");
                prop_assert!(out.map_or(0, |out| out.len()) <= 10_000, "{name}");
            }
        }

        #[test]
        fn parts_come_out_one_after_the_other(
            parts in prop::collection::vec(prop::collection::vec(0u8..4, 0..600), 1..4), again in any::<bool>(),
        ) {
            // The same part twice: its end also says how long the first one is.
            let parts = if again { [parts.clone(), parts].concat() } else { parts };
            for name in ["gzip", "zstd"] {
                let packed: Vec<u8> = parts.iter().flat_map(|part| pack(name, part)).collect();
                prop_assert_eq!(undo(Coding::named(name).unwrap(), &packed, 10_000, free).unwrap(), parts.concat(), "{}", name);
            }
        }

        #[test]
        fn what_comes_out_of_damage_is_what_a_stream_gives(
            plain in prop::collection::vec(0u8..4, 1..2000), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>(),
        ) {
            for (name, coding) in [("gzip", Coding::Gzip), ("zstd", Coding::Zstd)] {
                let mut packed = pack(name, &plain);
                let at = at.index(packed.len());
                if cut { packed.truncate(at) } else { packed[at] ^= with }
                let mut stream = Vec::new();
                let told = match coding {
                    Coding::Gzip => flate2::bufread::MultiGzDecoder::new(&packed[..]).read_to_end(&mut stream),
                    _ => zstd::Decoder::with_buffer(&packed[..]).unwrap().read_to_end(&mut stream),
                };
                // Damage may be found in one way only: there is no checksum in these frames.
                if let Ok(out) = undo(coding, &packed, 10_000, free) {
                    prop_assert!(told.is_ok() && out == stream, "{name}: {told:?}");
                }
            }
        }
    }

    #[test]
    fn a_zstd_frame_that_does_not_say_how_long_it_is_and_one_to_skip() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(|at| (at / 5).to_le_bytes()).collect();
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&plain).unwrap();
        let skipped = [b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc".as_slice(), &encoder.finish().unwrap()].concat();
        assert_eq!(undo(Coding::Zstd, &skipped, 1 << 20, free).unwrap(), plain);
        let cut = &skipped[..skipped.len() - 1];
        assert!(matches!(undo(Coding::Zstd, cut, 1 << 20, free), Err(Undone::Malformed(_))));
    }

    #[test]
    fn nothing_comes_out_of_packed_nothing() {
        for name in PACKED {
            let out = undo(Coding::named(name).unwrap(), &pack(name, &[]), 0, free);
            assert!(matches!(&out, Ok(out) if out.is_empty()), "{name}: {out:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_where_no_room_is_left() {
        let bomb = vec![0u8; 64 << 20];
        for name in PACKED {
            let packed = pack(name, &bomb);
            let coding = Coding::named(name).unwrap();
            assert!(matches!(undo(coding, &packed, 1 << 20, free), Err(Undone::TooLarge(_))), "{name}");
            let mut left = 300 << 10;
            let room = |more: usize| {
                left = usize::checked_sub(left, more).ok_or("full")?;
                Ok(())
            };
            assert!(matches!(undo(coding, &packed, 1 << 30, room), Err(Undone::NoRoom("full"))), "{name}");
        }
    }

    #[test]
    fn a_window_larger_than_http_allows_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(&vec![7; 9 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(matches!(undo(Coding::Zstd, &packed, 64 << 20, free), Err(Undone::Malformed(_))));
    }

    #[test]
    fn names() {
        assert_eq!(Coding::named(" GZIP "), Some(Coding::Gzip));
        assert_eq!((Coding::named("br"), Coding::named("gzip, gzip")), (None, None));
        for name in ACCEPTED.split(", ") {
            assert!(Coding::named(name).is_some(), "{name}");
        }
    }
}
