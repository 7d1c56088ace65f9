//! A table by identities that are hashes already: mixing in a seed of the table's own is all that is left to do, so that
//! nobody outside can choose identities that crowd one place of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A table by 64-bit identities.
pub(crate) type ByKey<V> = HashMap<u64, V, Seeded>;

/// Makes the hashers of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Seeded(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

/// The hasher of one identity.
#[derive(Debug)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        // A full multiplication folded in two; the odd constant is the golden ratio's.
        let product = u128::from(key ^ self.0) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}
