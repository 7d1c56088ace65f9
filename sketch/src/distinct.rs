//! How many different hashes were seen: HyperLogLog with 2^14 registers, standard error 0.81 %.
//!
//! Two forms behind one type. The *dense* one has a byte a register, an insert is a multiplication and a comparison, and one
//! estimator holds over the whole range, so that no band around a switch of estimators is worse than the rest (Ertl, "New
//! cardinality estimation algorithms for HyperLogLog sketches", 2017, arXiv:1702.01284, algorithm 6). The *sparse* one is the
//! set of the hashes themselves, exact, for as long as it is smaller; with more it becomes the dense one that was given the
//! same. Both are fed 64-bit hashes and mix in a seed, so that nobody who does not know it can choose values that count as one.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// Bits of a hash that choose a register.
const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// Highest rank a register can hold: the remaining bits, and one.
const RANKS: usize = (64 - PRECISION) as usize + 2;

/// Hashes a sparse sketch holds: what 1,024 places have room for, 9 KiB. Twice as many places would be larger than the
/// registers.
const FEW: usize = 896;

/// Relative standard error of [`Distinct::estimate`] of many, few are exact: 1.04 / √m for m registers (Flajolet et al., 2007).
pub const STANDARD_ERROR: f64 = 1.04 / 128.0;

/// The seed for sketches that are to merge with those of other agents: the same everywhere, and so no secret.
pub const COMMON_SEED: u64 = 0x7068_6F65_6E69_7801;

/// First bytes of a written sketch: name and version of the form.
const MAGIC: [u8; 4] = *b"PHD\x01";
const HEADER: usize = MAGIC.len() + size_of::<u64>();

/// Why two sketches cannot be one, or bytes are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// They were fed hashes mixed with different seeds.
    #[error("the sketches have different seeds")]
    Seed,
    /// Not bytes of this version of a sketch, or damaged ones.
    #[error("these bytes are no sketch of this version, or damaged")]
    Bytes,
}

/// A set of hashes of which only the number is remembered, within [`STANDARD_ERROR`].
#[derive(Clone, Debug)]
pub struct Distinct {
    seed: u64,
    form: Form,
}

/// The registers, and how many hold which rank, once somebody has asked: a raise keeps that true, which spares the next
/// estimate 80,000 instructions.
#[derive(Clone)]
struct Dense {
    registers: Box<[u8; REGISTERS]>,
    counts: Option<Box<[u32; RANKS]>>,
}

impl Dense {
    fn new(registers: [u8; REGISTERS]) -> Self {
        Dense { registers: Box::new(registers), counts: None }
    }

    fn of(hashes: &HashSet<u64, AsIs>) -> Self {
        let mut dense = Dense::new([0; REGISTERS]);
        dense.take(hashes);
        dense
    }

    /// Takes in mixed hashes.
    fn take(&mut self, hashes: &HashSet<u64, AsIs>) {
        for hash in hashes {
            self.raise(*hash);
        }
    }

    /// Takes in a mixed hash; `false` if it changes nothing.
    #[inline]
    fn raise(&mut self, hash: u64) -> bool {
        let Dense { registers, counts } = self;
        let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1;
        match registers.get_mut((hash >> (64 - PRECISION)) as usize) {
            Some(register) if *register < rank => {
                let before = std::mem::replace(register, rank);
                if let Some(counts) = counts {
                    // A register holds no other rank than these.
                    counts.get_mut(usize::from(before)).into_iter().for_each(|count| *count -= 1);
                    counts.get_mut(usize::from(rank)).into_iter().for_each(|count| *count += 1);
                }
                true
            }
            _ => false,
        }
    }

    /// Takes in all that another was given.
    fn merge(&mut self, other: &Dense) {
        let both = self.registers.iter_mut().zip(other.registers.iter());
        both.for_each(|(our, their)| *our = (*their).max(*our));
        self.counts = None;
    }
}

#[derive(Clone)]
enum Form {
    Dense(Dense),
    /// As they are mixed, at most [`FEW`].
    Sparse(HashSet<u64, AsIs>),
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Dense(_) => "Dense",
            Form::Sparse(_) => "Sparse",
        })
    }
}

/// Two hashes of one bit each in difference share nothing afterwards (the finaliser of splitmix64, a bijection).
#[inline]
pub(crate) fn mixed(hash: u64, seed: u64) -> u64 {
    let mut hash = hash ^ seed;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

impl Distinct {
    /// An empty one of 16 KiB that is fast from the first insert.
    pub fn dense(seed: u64) -> Self {
        Distinct { seed, form: Form::Dense(Dense::new([0; REGISTERS])) }
    }

    /// An empty one that takes memory as it is given hashes, at first exactly counted.
    pub fn sparse(seed: u64) -> Self {
        Distinct { seed, form: Form::Sparse(HashSet::default()) }
    }

    /// Another of the same seed and form with nothing in it.
    pub fn empty(&self) -> Self {
        match self.form {
            Form::Dense(_) => Distinct::dense(self.seed),
            Form::Sparse(_) => Distinct::sparse(self.seed),
        }
    }

    /// Takes in a hash. Any 64 bits will do as long as different things have different ones.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        self.raise(self.mixed(hash));
    }

    /// A hash as it and others of its seed take it in.
    #[inline]
    pub(crate) fn mixed(&self, hash: u64) -> u64 {
        mixed(hash, self.seed)
    }

    /// Takes in a mixed hash; `false` if the estimate is the same as before.
    #[inline]
    pub(crate) fn raise(&mut self, hash: u64) -> bool {
        match &mut self.form {
            Form::Dense(dense) => dense.raise(hash),
            Form::Sparse(_) => self.raise_sparse(hash),
        }
    }

    /// Not a part of the above, so that a dense one is raised where that is asked for: half of what it took was the call.
    #[inline(never)]
    fn raise_sparse(&mut self, hash: u64) -> bool {
        let Form::Sparse(hashes) = &mut self.form else { return false };
        let new = hashes.insert(hash);
        if hashes.len() > FEW {
            self.form = Form::Dense(Dense::of(hashes));
        }
        new
    }

    /// How many different hashes it was given.
    pub fn estimate(&mut self) -> f64 {
        match &mut self.form {
            Form::Dense(Dense { registers, counts }) => {
                dense_estimate(counts.get_or_insert_with(|| Box::new(by_rank(registers))))
            }
            Form::Sparse(hashes) => hashes.len() as f64,
        }
    }

    /// Takes in all that another was given; the order of inserts and merges does not matter.
    ///
    /// # Errors
    /// Seeds differ; nothing has changed then.
    pub fn merge(&mut self, other: &Distinct) -> Result<(), SketchError> {
        if self.seed != other.seed {
            return Err(SketchError::Seed);
        }
        match (&mut self.form, &other.form) {
            (Form::Dense(ours), Form::Dense(theirs)) => ours.merge(theirs),
            (Form::Dense(ours), Form::Sparse(theirs)) => ours.take(theirs),
            (Form::Sparse(ours), Form::Dense(theirs)) => {
                let mut dense = Dense::of(ours);
                dense.merge(theirs);
                self.form = Form::Dense(dense);
            }
            (Form::Sparse(ours), Form::Sparse(theirs)) => {
                ours.extend(theirs);
                if ours.len() > FEW {
                    self.form = Form::Dense(Dense::of(ours));
                }
            }
        }
        Ok(())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        match &mut self.form {
            Form::Dense(Dense { registers, counts }) => {
                registers.fill(0);
                *counts = None;
            }
            Form::Sparse(hashes) => hashes.clear(),
        }
    }

    /// The sketch as bytes whose form does not change within a version: magic, seed, registers, CRC-32 of all that,
    /// little endian. A sparse one is written as the dense one that was given the same. What is to be merged with other
    /// agents' counts has [`COMMON_SEED`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = |registers: &[u8; REGISTERS]| {
            let mut out = Vec::with_capacity(HEADER + REGISTERS + size_of::<u32>());
            out.extend(MAGIC);
            out.extend(self.seed.to_le_bytes());
            out.extend(registers);
            out.extend(crc32fast::hash(&out).to_le_bytes());
            out
        };
        match &self.form {
            Form::Dense(dense) => written(&dense.registers),
            Form::Sparse(hashes) => written(&Dense::of(hashes).registers),
        }
    }

    /// The sketch that was written as these bytes.
    ///
    /// # Errors
    /// [`SketchError::Bytes`]; whatever the bytes are, it is nothing worse.
    pub fn from_bytes(bytes: &[u8]) -> Result<Distinct, SketchError> {
        let damaged = SketchError::Bytes;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(damaged)?;
        let rest = body.strip_prefix(&MAGIC).ok_or(damaged)?;
        let (seed, registers) = rest.split_first_chunk::<8>().ok_or(damaged)?;
        let registers: &[u8; REGISTERS] = registers.try_into().map_err(|_| damaged)?;
        let in_range = registers.iter().all(|rank| usize::from(*rank) < RANKS);
        if u32::from_le_bytes(*sum) != crc32fast::hash(body) || !in_range {
            return Err(damaged);
        }
        Ok(Distinct { seed: u64::from_le_bytes(*seed), form: Form::Dense(Dense::new(*registers)) })
    }
}

/// Registers above zero that are kept by themselves: twice as many would take as much memory as all.
const RAISED: usize = REGISTERS / 8;

/// What a sketch was given, to be joined to others and for nothing else: that of few hashes is small. A host of 700 series
/// has ten epochs of 3 KiB in each of its windows, not of 16.
#[derive(Clone, Debug)]
pub(crate) enum Put {
    /// The registers of a dense one that are above zero: place and rank.
    Raised(Box<[(u16, u8)]>),
    Whole(Distinct),
}

impl Distinct {
    /// Puts away what it was given and begins anew.
    pub(crate) fn put(&mut self) -> Put {
        if let Form::Dense(Dense { registers, .. }) = &self.form {
            // A count of 128 fits into a byte, and bytes are added sixteen at once: to look at one after the other took 50,000
            // instructions.
            let raised = |some: &[u8]| some.iter().map(|rank| u8::from(*rank > 0)).sum::<u8>();
            let count = registers.chunks_exact(128).map(|some| usize::from(raised(some))).sum::<usize>();
            if count <= RAISED {
                let mut raised = Vec::with_capacity(count);
                for (first, ranks) in (0u16..).step_by(8).zip(registers.as_chunks::<8>().0) {
                    // Most are zero, all eight.
                    if *ranks != [0; 8] {
                        raised.extend((first..).zip(ranks.iter().copied()).filter(|(_, rank)| *rank > 0));
                    }
                }
                self.clear();
                return Put::Raised(raised.into());
            }
        }
        let fresh = self.empty();
        Put::Whole(std::mem::replace(self, fresh))
    }
}

impl Put {
    /// Gives it to a sketch of the same seed.
    pub(crate) fn join(&self, sketch: &mut Distinct) {
        match self {
            Put::Whole(whole) => drop(sketch.merge(whole)),
            Put::Raised(raised) => {
                if let Form::Sparse(hashes) = &sketch.form {
                    sketch.form = Form::Dense(Dense::of(hashes));
                }
                let Form::Dense(Dense { registers, counts }) = &mut sketch.form else { return };
                for (place, rank) in raised {
                    registers.get_mut(usize::from(*place)).into_iter().for_each(|our| *our = (*our).max(*rank));
                }
                *counts = None;
            }
        }
    }
}

/// The next power of two above [`RANKS`].
const ROOM: usize = RANKS.next_power_of_two();

/// How many registers hold which rank.
fn by_rank(registers: &[u8; REGISTERS]) -> [u32; RANKS] {
    // Four tables in turns: neighbours mostly have one rank, and a count must not wait for the one before. They have more places
    // than there are ranks, so that none has to be compared with their end.
    let mut tables = [[0u32; ROOM]; 4];
    for four in registers.as_chunks::<4>().0 {
        for (counts, rank) in tables.iter_mut().zip(four) {
            counts[usize::from(*rank) % ROOM] += 1;
        }
    }
    let mut counts = [0u32; RANKS];
    for (rank, count) in counts.iter_mut().enumerate() {
        *count = tables.iter().filter_map(|table| table.get(rank)).sum();
    }
    counts
}

/// Ertl's improved raw estimator, from how many registers hold which rank.
fn dense_estimate(counts: &[u32; RANKS]) -> f64 {
    let m = REGISTERS as f64;
    let [zeros, between @ .., full] = counts;
    let mut z = m * tau(1.0 - f64::from(*full) / m);
    for count in between.iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += m * sigma(f64::from(*zeros) / m);
    // α∞ = 1 / (2 ln 2); an empty sketch has an infinite z.
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

/// x + Σ x^(2^k) 2^(k-1), for 0 ≤ x ≤ 1.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3, for 0 ≤ x ≤ 1.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// Gives the table the hash it is given: it is mixed already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsIs(u64);

impl BuildHasher for AsIs {
    type Hasher = AsIs;

    fn build_hasher(&self) -> AsIs {
        *self
    }
}

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};
    use proptest::prelude::*;

    fn of(mut empty: Distinct, hashes: impl IntoIterator<Item = u64>) -> Distinct {
        hashes.into_iter().for_each(|hash| empty.insert(hash));
        empty
    }

    /// Root of the mean square of the relative errors of `runs` sketches at each of these numbers.
    fn errors(empty: fn(u64) -> Distinct, numbers: &[u64], runs: u64) -> Vec<f64> {
        let mut squares = vec![0.0; numbers.len()];
        for run in 0..runs {
            let (mut sketch, mut next) = (empty(run), 0);
            for (number, square) in numbers.iter().zip(&mut squares) {
                // Different numbers in order, as pids are.
                (next..*number).for_each(|i| sketch.insert(i));
                next = *number;
                *square += (sketch.estimate() / *number as f64 - 1.0).powi(2);
            }
        }
        squares.iter().map(|square| (square / runs as f64).sqrt()).collect()
    }

    /// Around the numbers where other estimators are switched (2.5 m, 5 m; the library's own tables end at 5 m) too.
    const NUMBERS: [u64; 12] = [1, 10, 100, 1_000, 5_000, 11_000, 20_000, 33_000, 41_000, 60_000, 82_000, 120_000];

    #[test]
    fn both_forms_keep_the_promised_error_over_the_range() {
        // With 24 runs the root mean square itself has a standard error of 14 %: three of them above.
        for (form, empty) in [("dense", Distinct::dense as fn(u64) -> Distinct), ("sparse", Distinct::sparse)] {
            for (number, error) in NUMBERS.iter().zip(errors(empty, &NUMBERS, 24)) {
                assert!(error <= STANDARD_ERROR * 1.45, "{form}: {error} at {number}");
            }
        }
    }

    /// Another implementation, with another estimator, given the same.
    #[test]
    fn the_library_says_nearly_the_same() {
        for number in NUMBERS {
            let mut library: HyperLogLogPlus<u64, _> = HyperLogLogPlus::new(PRECISION as u8, AsIs(0)).unwrap();
            (0..number).for_each(|hash| library.insert(&mixed(hash, 5)));
            for empty in [Distinct::dense, Distinct::sparse] {
                let ratio = of(empty(5), 0..number).estimate() / library.count();
                // Three standard errors of each.
                assert!((ratio - 1.0).abs() < 6.0 * STANDARD_ERROR, "{ratio} of {number}");
            }
        }
    }

    #[test]
    fn the_dense_form_keeps_it_to_ten_million() {
        let error = errors(Distinct::dense, &[1_000_000, 10_000_000], 2);
        assert!(error.iter().all(|error| *error <= STANDARD_ERROR * 3.0), "{error:?}");
        assert_eq!(Distinct::dense(0).estimate(), 0.0);
        assert_eq!(Distinct::sparse(0).estimate(), 0.0);
        let mut full = Distinct { seed: 0, form: Form::Dense(Dense::new([(RANKS - 1) as u8; REGISTERS])) };
        assert!(full.estimate() > 1e18);
    }

    #[test]
    fn different_seeds_do_not_mix() {
        let mut dense = of(Distinct::dense(1), [1]);
        assert_eq!(dense.merge(&Distinct::dense(2)), Err(SketchError::Seed));
        assert!((dense.estimate() - 1.0).abs() < 0.01);
        dense.clear();
        assert_eq!(dense.estimate(), 0.0);
    }

    #[test]
    fn bytes_are_stable_and_every_flipped_one_is_found() {
        let bytes = of(Distinct::dense(7), 0..1000).to_bytes();
        assert_eq!((bytes.len(), crc32fast::hash(&bytes[..bytes.len() - 4])), (16_400, WRITTEN));
        let mut back = Distinct::from_bytes(&bytes).unwrap();
        assert_eq!(back.to_bytes(), bytes);
        assert!((back.estimate() / 1000.0 - 1.0).abs() < 0.03);
        for i in (0..bytes.len()).step_by(97).chain([0, 3, 4, 11, 12, bytes.len() - 1]) {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x40;
            assert_eq!(Distinct::from_bytes(&damaged).unwrap_err(), SketchError::Bytes, "byte {i}");
            assert!(Distinct::from_bytes(&bytes[..i]).is_err());
        }
    }

    /// Other versions and other agents hold these bytes: a change here is a break of the format.
    const WRITTEN: u32 = 0xae8b7298;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_merge_is_the_union_in_any_order(
            a in prop::collection::vec(any::<u64>(), 0..300), b in prop::collection::vec(any::<u64>(), 0..300), seed: u64,
        ) {
            let (first, second) = (of(Distinct::dense(seed), a.clone()), of(Distinct::dense(seed), b.clone()));
            let (mut ab, mut ba) = (first.clone(), second.clone());
            ab.merge(&second).unwrap();
            ba.merge(&first).unwrap();
            let together = of(Distinct::dense(seed), a.iter().rev().chain(&b).copied()).to_bytes();
            prop_assert_eq!(ab.to_bytes(), together.clone());
            prop_assert_eq!(ba.to_bytes(), together.clone());
            let (mut asked, mut other) = (of(Distinct::dense(seed), a.clone()), of(Distinct::dense(seed), []));
            asked.estimate();
            b.iter().for_each(|hash| asked.insert(*hash));
            prop_assert_eq!(asked.estimate(), ab.estimate(), "an estimate before changes nothing");
            other.estimate();
            other.merge(&ab).unwrap();
            prop_assert_eq!(other.estimate(), ab.estimate());
            ab.merge(&ba).unwrap();
            prop_assert_eq!(ab.to_bytes(), together, "nothing counts twice");
        }

        /// Whether it is given them one by one or by merges, from either form, below and above where it becomes dense.
        #[test]
        fn a_sparse_sketch_is_the_dense_one_given_the_same(a in 0u64..2_000, b in 0u64..2_000, start in 0u64..2_000, seed: u64) {
            let (first, second) = (|| 0..a, || start..start + b);
            let dense = of(Distinct::dense(seed), first().chain(second())).to_bytes();
            let mut sparse = of(Distinct::sparse(seed), first());
            let mut other = of(Distinct::dense(seed), first());
            let number = sparse.estimate();
            prop_assert!(number == a as f64 || a > FEW as u64 && (number / a as f64 - 1.0).abs() < 6.0 * STANDARD_ERROR);
            prop_assert_eq!(sparse.to_bytes(), other.to_bytes());
            let by_one = of(sparse.clone(), second());
            sparse.merge(&of(Distinct::sparse(seed), second())).unwrap();
            other.merge(&of(Distinct::sparse(seed), second())).unwrap();
            let mut mixed = of(Distinct::sparse(seed), second());
            mixed.merge(&of(Distinct::dense(seed), first())).unwrap();
            for one in [by_one, sparse, other, mixed] {
                prop_assert_eq!(one.to_bytes(), dense.clone());
                let held = match &one.form { Form::Sparse(hashes) => hashes.len(), Form::Dense(_) => 0 };
                prop_assert!(held <= FEW);
            }
        }

        #[test]
        fn what_was_put_away_comes_back_whole(first in 0..4_000u64, second in 0..4_000u64, seed: u64, sparse: [bool; 2]) {
            let [empty, other] = sparse.map(|sparse| if sparse { Distinct::sparse(seed) } else { Distinct::dense(seed) });
            let (mut one, mut all) = (of(empty.clone(), 0..first), of(other, 0..second));
            let together = of(one.clone(), 0..second).to_bytes();
            let raised = one.to_bytes()[HEADER..HEADER + REGISTERS].iter().filter(|rank| **rank > 0).count();
            let few = matches!(one.form, Form::Dense(_)) && raised <= RAISED;
            let away = one.put();
            prop_assert_eq!(matches!(away, Put::Raised(_)), few);
            prop_assert_eq!(one.to_bytes(), empty.to_bytes(), "it begins anew");
            all.estimate();
            away.join(&mut all);
            prop_assert_eq!(all.to_bytes(), together);
            let again = Distinct::from_bytes(&all.to_bytes()).unwrap().estimate();
            prop_assert!(all.estimate() == again || first.max(second) <= FEW as u64);
        }

        #[test]
        fn bytes_of_any_kind_are_no_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Distinct::from_bytes(&bytes).is_err());
        }
    }
}
