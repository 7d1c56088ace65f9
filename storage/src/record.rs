//! The bytes on disk: what a segment's name says, a record's header, and the note that a record is finished.
//!
//! A segment has no header that could be damaged: its name carries its number, what was counted before it, and a random
//! *mark* that each of its records begins with. So behind damage the next whole record is found by looking for the mark,
//! and no payload can pass for a record, whoever sent it. All numbers are little-endian.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Bytes before a record's payload: mark, sequence, points before, points, enqueued (8 each), length, checksum of the
/// payload, checksum of the header (4 each).
pub const HEADER: usize = 52;
/// Bytes of a note: where a finished stretch begins and ends (8 each), checksum with the mark (4).
pub const NOTE: usize = 20;

/// The end of the name of a segment, and of its notes; the digit is the version of the format.
const SEGMENT: &str = ".queue1";
const NOTES: &str = ".done1";

/// What a segment's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Rises by one from segment to segment.
    pub number: u64,
    /// Records ever appended before its first.
    pub first: u64,
    /// Their data points.
    pub points: u64,
    /// What every record of the segment begins with.
    pub mark: u64,
}

impl Name {
    /// The name of a new segment, with a mark nobody can guess.
    pub fn new(number: u64, first: u64, points: u64) -> Self {
        Name { number, first, points, mark: RandomState::new().build_hasher().finish() }
    }

    fn stem(&self) -> String {
        format!("{:016x}-{:x}-{:x}-{:016x}", self.number, self.first, self.points, self.mark)
    }

    /// The file with the records.
    pub fn segment(&self) -> String {
        self.stem() + SEGMENT
    }

    /// The file that says which of them are finished.
    pub fn notes(&self) -> String {
        self.stem() + NOTES
    }
}

/// A file of the queue, by its name.
pub enum Kind {
    Segment(Name),
    Notes(Name),
}

/// Reads a file's name; none if it is not one that this version writes.
pub fn kind(file: &str) -> Option<Kind> {
    let name = |stem: &str| {
        let mut parts = stem.split('-').map(|part| u64::from_str_radix(part, 16));
        let mut part = || parts.next()?.ok();
        let name = Name { number: part()?, first: part()?, points: part()?, mark: part()? };
        // The number must leave room above it, and the name be as it is written.
        (name.number < 1 << 63 && name.stem() == stem).then_some(name)
    };
    match (file.strip_suffix(SEGMENT), file.strip_suffix(NOTES)) {
        (Some(stem), _) => Some(Kind::Segment(name(stem)?)),
        (None, Some(stem)) => Some(Kind::Notes(name(stem)?)),
        (None, None) => None,
    }
}

/// What stands before a record's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Records ever appended before this one.
    pub sequence: u64,
    /// Their data points.
    pub points_before: u64,
    /// Data points of this one.
    pub points: u64,
    /// Nanoseconds since 1970.
    pub enqueued: u64,
    /// Bytes of the payload.
    pub length: u32,
    /// CRC-32 of the payload.
    pub checksum: u32,
}

impl Header {
    /// Bytes of the whole record.
    pub fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.length)
    }

    /// Records and points ever appended, with this one.
    pub fn after(&self) -> (u64, u64) {
        (self.sequence.saturating_add(1), self.points_before.saturating_add(self.points))
    }

    /// The header as it is written in the segment with this mark.
    pub fn write(&self, mark: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        for (place, field) in [mark, self.sequence, self.points_before, self.points, self.enqueued].iter().enumerate() {
            bytes[place * 8..][..8].copy_from_slice(&field.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&self.length.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.checksum.to_le_bytes());
        let own = crc32fast::hash(&bytes[..48]);
        bytes[48..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The header at the beginning of these bytes, if one stands there and is whole.
    pub fn read(bytes: &[u8], mark: u64) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        if long(bytes, 0) != mark || word(bytes, 48) != crc32fast::hash(&bytes[..48]) {
            return None;
        }
        Some(Header {
            sequence: long(bytes, 8),
            points_before: long(bytes, 16),
            points: long(bytes, 24),
            enqueued: long(bytes, 32),
            length: word(bytes, 40),
            checksum: word(bytes, 44),
        })
    }
}

/// The note that everything from `from` to `to` is finished, in the segment with this mark.
pub fn note(mark: u64, from: u64, to: u64) -> [u8; NOTE] {
    let mut bytes = [0; NOTE];
    bytes[..8].copy_from_slice(&from.to_le_bytes());
    bytes[8..16].copy_from_slice(&to.to_le_bytes());
    let checksum = note_checksum(mark, &bytes[..16]);
    bytes[16..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads a note; none if it is damaged or not of this segment.
pub fn read_note(bytes: &[u8], mark: u64) -> Option<(u64, u64)> {
    let bytes = bytes.get(..NOTE)?;
    let whole = word(bytes, 16) == note_checksum(mark, &bytes[..16]);
    whole.then(|| (long(bytes, 0), long(bytes, 8)))
}

fn note_checksum(mark: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&mark.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        let name = Name { number: 7, first: 300, points: 0, mark: 0xfeed };
        assert_eq!(name.segment(), "0000000000000007-12c-0-000000000000feed.queue1");
        assert!(matches!(kind(&name.segment()), Some(Kind::Segment(read)) if read == name));
        assert!(matches!(kind(&name.notes()), Some(Kind::Notes(read)) if read == name));
        for other in [
            "",
            "lock",
            "0000000000000007-12c-0-000000000000feed.queue2",
            "7-12c-0-feed.queue1",
            "0000000000000007-12c-0-000000000000feed-1.queue1",
            "0000000000000007-12c-000000000000feed.queue1",
            "ffffffffffffffff-12c-0-000000000000feed.queue1",
        ] {
            assert!(kind(other).is_none(), "{other}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_or_a_note_is_seen() {
        let mark = 0x0123_4567_89ab_cdef;
        let header = Header { sequence: 1, points_before: 2, points: 3, enqueued: 4, length: 5, checksum: 6 };
        let written = header.write(mark);
        assert_eq!(Header::read(&written, mark), Some(header));
        assert_eq!(Header::read(&written, mark + 1), None);
        assert_eq!(Header::read(&written[..HEADER - 1], mark), None);
        for bit in 0..HEADER * 8 {
            let mut bytes = written;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&bytes, mark), None, "bit {bit}");
        }
        let noted = note(mark, 10, 20);
        assert_eq!(read_note(&noted, mark), Some((10, 20)));
        assert_eq!(read_note(&noted, mark + 1), None);
        for bit in 0..NOTE * 8 {
            let mut bytes = noted;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_note(&bytes, mark), None, "bit {bit}");
        }
    }
}
