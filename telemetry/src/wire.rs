//! Protobuf's wire format: a bounds-checked reader that knows its offset, and the few writers an encoder needs.
//!
//! Never knows what a field means; that is `schema`.

use crate::error::{DecodeError, DecodeErrorKind};

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LEN: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// Reads one message body from front to back.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Offset of the byte behind this message in the whole input.
    end: usize,
}

/// A field's content as it lies on the wire.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Len(Reader<'a>),
    Fixed32,
}

impl<'a> Reader<'a> {
    /// Reads `body`, which begins at byte `start` of the input.
    pub(crate) fn new(body: &'a [u8], start: usize) -> Self {
        Self { rest: body, end: start + body.len() }
    }

    /// Offset of the next byte in the whole input.
    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Passes over `n` bytes that are known to be there.
    #[inline(always)]
    pub(crate) fn skip(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }

    #[cold]
    pub(crate) fn fault(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { offset: self.offset(), kind }
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7F) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    return Err(self.fault(DecodeErrorKind::Varint));
                }
                self.skip(i + 1);
                return Ok(value);
            }
        }
        let kind = if self.rest.len() < 10 { DecodeErrorKind::Truncated } else { DecodeErrorKind::Varint };
        Err(self.fault(kind))
    }

    #[inline(always)]
    pub(crate) fn fixed64(&mut self) -> Result<u64, DecodeError> {
        match self.rest.split_first_chunk::<8>() {
            Some((chunk, rest)) => {
                self.rest = rest;
                Ok(u64::from_le_bytes(*chunk))
            }
            None => Err(self.fault(DecodeErrorKind::Truncated)),
        }
    }

    /// Takes a length and as many bytes.
    #[inline(always)]
    pub(crate) fn delimited(&mut self) -> Result<Reader<'a>, DecodeError> {
        let before = *self;
        let len = self.varint()?;
        let body = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        match body {
            Some((body, rest)) => {
                self.rest = rest;
                Ok(Reader { rest: body, end: self.end - rest.len() })
            }
            None => Err(before.fault(DecodeErrorKind::Truncated)),
        }
    }

    /// Takes a length-delimited field, if that is what comes next, in the way exporters write it: number and length in a
    /// byte or two.
    #[inline(always)]
    pub(crate) fn take(&mut self, number: u32) -> Option<Reader<'a>> {
        let (len, rest) = match self.rest {
            [tag, len, rest @ ..] if u32::from(*tag) == number << 3 | u32::from(LEN) && *len < 0x80 => {
                (usize::from(*len), rest)
            }
            [tag, low, high, rest @ ..] if u32::from(*tag) == number << 3 | u32::from(LEN) && *high < 0x80 => {
                (usize::from(*low & 0x7F) | usize::from(*high) << 7, rest)
            }
            _ => return None,
        };
        let (body, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Reader { rest: body, end: self.end - rest.len() })
    }

    /// Field number and wire type.
    #[inline(always)]
    pub(crate) fn tag(&mut self) -> Result<(u32, u8), DecodeError> {
        let before = *self;
        let key = self.varint()?;
        let wire = (key & 7) as u8;
        match u32::try_from(key) {
            Ok(key) if key >= 8 => Ok((key >> 3, wire)),
            _ => Err(before.fault(DecodeErrorKind::FieldNumber)),
        }
    }

    /// The content of a field whose tag was just read.
    #[inline(always)]
    pub(crate) fn payload(&mut self, wire: u8) -> Result<Payload<'a>, DecodeError> {
        match wire {
            VARINT => self.varint().map(Payload::Varint),
            FIXED64 => self.fixed64().map(Payload::Fixed64),
            LEN => self.delimited().map(Payload::Len),
            FIXED32 => match self.rest.split_at_checked(4) {
                Some((_, rest)) => {
                    self.rest = rest;
                    Ok(Payload::Fixed32)
                }
                None => Err(self.fault(DecodeErrorKind::Truncated)),
            },
            other => Err(self.fault(DecodeErrorKind::WireType(other))),
        }
    }
}

/// The fields of a message that was validated before: number and content. Ends early, never fails.
#[derive(Clone)]
pub(crate) struct Fields<'a>(Reader<'a>);

/// One field of a validated message.
pub(crate) struct Found<'a> {
    pub(crate) number: u32,
    pub(crate) payload: Payload<'a>,
    /// Where the field, with its tag, begins and ends in the message.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

pub(crate) fn fields(body: &[u8]) -> Fields<'_> {
    Fields(Reader::new(body, 0))
}

impl<'a> Fields<'a> {
    /// The next field of that number and its content; passes over others.
    #[inline]
    pub(crate) fn next_of(&mut self, number: u32) -> Option<Found<'a>> {
        let start = self.0.offset();
        match self.0.take(number) {
            Some(body) => Some(Found { number, payload: Payload::Len(body), start, end: self.0.offset() }),
            None => self.find(|field| field.number == number),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Found<'a>;

    #[inline]
    fn next(&mut self) -> Option<Found<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let start = self.0.offset();
        let (number, wire) = self.0.tag().ok()?;
        let payload = self.0.payload(wire).ok()?;
        Some(Found { number, payload, start, end: self.0.offset() })
    }
}

impl<'a> Payload<'a> {
    /// The bytes of a length-delimited field, else nothing.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self {
            Payload::Len(body) => body.rest(),
            _ => &[],
        }
    }

    /// The bits of a number, else 0.
    #[inline]
    pub(crate) fn bits(&self) -> u64 {
        match *self {
            Payload::Varint(value) | Payload::Fixed64(value) => value,
            _ => 0,
        }
    }
}

/// Bytes of `value` as a minimal varint.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Appends `value` as a minimal varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
#[inline]
pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

/// Appends a length-delimited field.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LEN);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an 8-byte field.
#[inline]
pub fn put_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    put_tag(out, number, FIXED64);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Opens a length-delimited field whose length is not known yet; returns where its body begins.
#[inline]
pub fn open(out: &mut Vec<u8>, number: u32) -> usize {
    put_tag(out, number, LEN);
    out.push(0);
    out.len()
}

/// Closes the field whose body begins at `body` and ends at `end`: writes the minimal length, shifting what follows
/// where it takes more than the one byte kept for it. Returns by how many bytes it shifted.
pub fn close(out: &mut Vec<u8>, body: usize, end: usize) -> usize {
    let mut prefix = [0u8; 10];
    let mut n = 0;
    let mut len = (end - body) as u64;
    while len >= 0x80 {
        prefix[n] = len as u8 | 0x80;
        len >>= 7;
        n += 1;
    }
    prefix[n] = len as u8;
    if n == 0 {
        out[body - 1] = prefix[0];
    } else {
        let length = out.len();
        out.resize(length + n, 0);
        out.copy_within(body..length, body + n);
        out[body - 1..body + n].copy_from_slice(&prefix[..=n]);
    }
    n
}

/// UTF-8 check that is fast for the short ASCII strings telemetry is made of.
#[inline(always)]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Whether all bytes are ASCII: eight at a time, the last eight overlapping.
#[inline(always)]
pub(crate) fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    if let (Some(last), (chunks, _)) = (bytes.last_chunk::<8>(), bytes.as_chunks::<8>()) {
        chunks.iter().fold(word(last), |seen, chunk| seen | word(chunk)) & HIGH == 0
    } else {
        bytes.iter().fold(0, |seen, byte| seen | byte) < 0x80
    }
}

/// Whether two slices of one length are the same. Inline, as most of what is compared here is shorter than the call of
/// a library function is worth.
#[inline(always)]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    if a.len() != b.len() {
        return false;
    }
    if a.len() > 64 {
        return a == b;
    }
    let (words, theirs) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let head = words.0.iter().zip(theirs.0).fold(0, |seen, (a, b)| seen | (word(a) ^ word(b)));
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a), Some(b)) => head | (word(a) ^ word(b)) == 0,
        _ => words.1.iter().zip(theirs.1).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0,
    }
}

/// A string that was validated when the batch was decoded.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {}", self.rest.len(), self.offset())
    }
}
