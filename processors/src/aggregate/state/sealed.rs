//! What makes a file one that can be trusted: the word and version before its body, the checksum over the body behind it.
//!
//! A body goes to the file piece by piece while it is made, so that a state of millions of series is never in memory as bytes.
//! Nothing here knows what is in a body.

use std::io::{self, Write};

use rapidhash::v3::{DEFAULT_RAPID_SECRETS, RapidStreamHasherV3, rapidhash_v3};

/// What a file begins with: a word, and the version of what follows.
const MAGIC: &[u8; 16] = b"phoenix-aggr\0\0\0\x05";

/// Bytes collected before they are handed to the file: enough that the calls do not count, and still in the cache when they
/// are summed up.
pub(crate) const PIECE: usize = 64 << 10;

/// Bytes of a file that are not body.
pub(crate) const SEAL: u64 = MAGIC.len() as u64 + 8;

/// A file while its body is written.
pub(crate) struct Sealing<'a> {
    body: io::BufWriter<Summed<'a>>,
}

impl<'a> Sealing<'a> {
    /// Begins a file of at most `largest` bytes.
    pub(crate) fn begin(to: &'a mut dyn Write, largest: u64) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        let sum = RapidStreamHasherV3::new(&DEFAULT_RAPID_SECRETS);
        let summed = Summed { to, sum, largest, room: largest.saturating_sub(SEAL) };
        Ok(Sealing { body: io::BufWriter::with_capacity(PIECE, summed) })
    }

    /// The next bytes of the body. After an error the file is of no use.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.body.write_all(bytes)
    }

    /// Writes what is left, and the checksum. It is for the caller to sync.
    pub(crate) fn finish(self) -> io::Result<()> {
        let Summed { to, sum, .. } = self.body.into_inner().map_err(io::IntoInnerError::into_error)?;
        to.write_all(&sum.finish().to_le_bytes())
    }
}

/// Sums up and counts what passes.
struct Summed<'a> {
    to: &'a mut dyn Write,
    sum: RapidStreamHasherV3<'static>,
    largest: u64,
    room: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::Error::other(format!("it takes more than the {} bytes it may have", self.largest)));
        }
        let written = self.to.write(bytes)?;
        self.sum.write(&bytes[..written]);
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The body of a file, or what is wrong with it.
pub(crate) fn open(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is not of this version")?;
    let (body, sum) = rest.split_last_chunk::<8>().ok_or("it ends early")?;
    if u64::from_le_bytes(*sum) == rapidhash_v3(body) { Ok(body) } else { Err("its checksum is wrong") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Remembers how it was written to.
    #[derive(Default)]
    struct Calls {
        bytes: Vec<u8>,
        longest: usize,
    }

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Not all is taken at once, as by a pipe.
            let taken = bytes.len().div_ceil(2);
            self.bytes.extend_from_slice(&bytes[..taken]);
            self.longest = self.longest.max(bytes.len());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(parts: &[Vec<u8>], largest: u64) -> (io::Result<()>, Calls) {
        let mut calls = Calls::default();
        let result = Sealing::begin(&mut calls, largest).and_then(|mut sealing| {
            parts.iter().try_for_each(|part| sealing.put(part))?;
            sealing.finish()
        });
        (result, calls)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_put_is_the_body_however_it_is_cut_and_damage_is_found(
            parts in prop::collection::vec((any::<u8>(), 0..2 * PIECE / 3), 0..8),
            places in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 4),
        ) {
            let parts: Vec<Vec<u8>> =
                parts.iter().map(|(seed, length)| (0..*length).map(|at| (at as u8).wrapping_mul(*seed)).collect()).collect();
            let body = parts.concat();
            let (result, Calls { bytes, longest }) = written(&parts, body.len() as u64 + SEAL);
            result.unwrap();
            prop_assert!(longest <= PIECE);
            prop_assert_eq!(open(&bytes), Ok(&body[..]));
            for (index, flip) in places {
                let place = index.index(bytes.len());
                let mut damaged = bytes.clone();
                damaged[place] ^= flip;
                prop_assert!(open(&damaged).is_err(), "{} of {}", place, bytes.len());
                prop_assert!(open(&bytes[..place]).is_err(), "cut at {} of {}", place, bytes.len());
            }
            // A byte more than it may have is refused before it is written.
            if let Some(short) = (body.len() as u64 + SEAL).checked_sub(1).filter(|_| !body.is_empty()) {
                let (result, Calls { bytes, .. }) = written(&parts, short);
                prop_assert!(result.is_err() && bytes.len() as u64 <= short);
            }
        }
    }
}
