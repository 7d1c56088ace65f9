//! Histograms as values that can be added and taken off each other. Knows no series, no group and no time.
//!
//! Histograms with explicit bounds add where their bounds are equal. Exponential ones add at the smaller of their scales,
//! with the larger zero bucket. Counts are exact; sums are doubles.

mod saved;

use std::collections::BTreeMap;

use phoenix_telemetry::write::{put_bytes, put_fixed64, put_number, put_varint};
use phoenix_telemetry::{Buckets, Point};

/// Buckets on one side of an exponential histogram that is written: the default of the SDKs.
const MAX_BUCKETS: i64 = 160;

/// The smallest scale of the specification's mapping; below it one bucket holds all numbers there are.
const MIN_SCALE: i32 = -11;

/// A histogram.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Distribution {
    pub(super) count: u64,
    sum: Option<f64>,
    /// Smallest and largest value, of all that was added.
    range: Option<(f64, f64)>,
    buckets: Layout,
}

#[derive(Clone, Debug, PartialEq)]
enum Layout {
    /// Upper bounds, and one count more than there are bounds, or none of either.
    Explicit(Vec<f64>, Vec<u64>),
    Exponential(Exponential),
}

#[derive(Clone, Debug, PartialEq)]
struct Exponential {
    scale: i32,
    zero: u64,
    threshold: f64,
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
}

impl Distribution {
    /// A point's histogram; `None` where it is none, or bad: counts that do not go with the bounds, more values than an
    /// integer point could count, a scale or a threshold that does not exist.
    pub(super) fn of(point: Point<'_>) -> Option<Distribution> {
        if let Some(view) = point.histogram() {
            let (bounds, counts) =
                (view.explicit_bounds().collect::<Vec<_>>(), view.bucket_counts().collect::<Vec<_>>());
            let fits = counts.len() == bounds.len() + 1 || (bounds.is_empty() && counts.is_empty());
            let buckets = Layout::Explicit(bounds, counts);
            return Self::new(view.count, view.sum, view.min.zip(view.max), buckets).filter(|_| fits);
        }
        let view = point.exponential_histogram()?;
        if !is_layout(view.scale, view.zero_threshold) {
            return None;
        }
        let buckets = Layout::Exponential(Exponential {
            scale: view.scale,
            zero: view.zero_count,
            threshold: view.zero_threshold,
            positive: side(view.positive(), view.scale)?,
            negative: side(view.negative(), view.scale)?,
        });
        Self::new(view.count, view.sum, view.min.zip(view.max), buckets)
    }

    fn new(count: u64, sum: Option<f64>, range: Option<(f64, f64)>, buckets: Layout) -> Option<Distribution> {
        let sum = sum.filter(|sum| sum.is_finite());
        Some(Distribution { count, sum, range, buckets }).filter(Distribution::is_countable)
    }

    /// The same histogram without values.
    pub(super) fn empty(&self) -> Distribution {
        let buckets = match &self.buckets {
            Layout::Explicit(bounds, counts) => Layout::Explicit(bounds.clone(), vec![0; counts.len()]),
            Layout::Exponential(one) => Layout::Exponential(Exponential {
                zero: 0,
                positive: BTreeMap::new(),
                negative: BTreeMap::new(),
                ..*one
            }),
        };
        Distribution { count: 0, sum: Some(0.0), range: None, buckets }
    }

    /// Whether the two can be added.
    pub(super) fn fits(&self, other: &Distribution) -> bool {
        match (&self.buckets, &other.buckets) {
            (Layout::Explicit(a, counts), Layout::Explicit(b, others)) => a == b && counts.len() == others.len(),
            (Layout::Exponential(_), Layout::Exponential(_)) => true,
            _ => false,
        }
    }

    /// Adds another one that fits.
    pub(super) fn add(&mut self, other: &Distribution) {
        self.range = match (self.range, other.range) {
            (_, range) if self.count == 0 => range,
            (range, _) if other.count == 0 => range,
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            _ => None,
        };
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.zip(other.sum).map(|(a, b)| a + b);
        match (&mut self.buckets, &other.buckets) {
            (Layout::Explicit(_, counts), Layout::Explicit(_, others)) => {
                counts.iter_mut().zip(others).for_each(|(count, more)| *count = count.saturating_add(*more));
            }
            (Layout::Exponential(one), Layout::Exponential(other)) => one.add(other),
            _ => {}
        }
    }

    /// What this one has more than an earlier one that fits; `None` where it has less anywhere.
    pub(super) fn since(&self, earlier: &Distribution) -> Option<Distribution> {
        let count = self.count.checked_sub(earlier.count)?;
        let buckets = match (&self.buckets, &earlier.buckets) {
            (Layout::Explicit(bounds, counts), Layout::Explicit(_, others)) => {
                let more = counts.iter().zip(others).map(|(now, then)| now.checked_sub(*then));
                Layout::Explicit(bounds.clone(), more.collect::<Option<_>>()?)
            }
            (Layout::Exponential(now), Layout::Exponential(then)) => Layout::Exponential(now.since(then)?),
            _ => return None,
        };
        let sum = self.sum.zip(earlier.sum).map(|(now, then)| now - then);
        Some(Distribution { count, sum, range: None, buckets })
    }

    /// Whether a point can count it: as many values as an integer holds.
    pub(super) fn is_countable(&self) -> bool {
        i64::try_from(self.count).is_ok()
    }

    /// Appends the fields of a point but for attributes, times and flags; smallest and largest value where `range` says so.
    pub(super) fn put(&self, point: &mut Vec<u8>, range: bool) {
        put_fixed64(point, 4, self.count);
        if let Some(sum) = self.sum {
            put_fixed64(point, 5, sum.to_bits());
        }
        let min = match &self.buckets {
            Layout::Explicit(bounds, counts) => {
                put_packed(point, 6, counts.iter().copied());
                put_packed(point, 7, bounds.iter().map(|bound| bound.to_bits()));
                11
            }
            Layout::Exponential(one) => {
                put_number(point, 6, u64::from(zigzag(one.scale)));
                put_fixed64(point, 7, one.zero);
                put_side(point, 8, &one.positive);
                put_side(point, 9, &one.negative);
                put_fixed64(point, 14, one.threshold.to_bits());
                12
            }
        };
        if let (true, Some((least, most))) = (range, self.range) {
            put_fixed64(point, min, least.to_bits());
            put_fixed64(point, min + 1, most.to_bits());
        }
    }
}

impl Exponential {
    fn add(&mut self, other: &Exponential) {
        let (mut other, scale) = (other.clone(), self.scale.min(other.scale));
        self.downscale(scale);
        other.downscale(scale);
        self.zero = self.zero.saturating_add(other.zero);
        for (own, more) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (index, count) in more {
                let bucket = own.entry(*index).or_insert(0);
                *bucket = bucket.saturating_add(*count);
            }
        }
        if self.threshold != other.threshold {
            self.widen(self.threshold.max(other.threshold));
        }
        while self.scale > MIN_SCALE && (span(&self.positive) > MAX_BUCKETS || span(&self.negative) > MAX_BUCKETS) {
            self.downscale(self.scale - 1);
        }
    }

    fn since(&self, then: &Exponential) -> Option<Exponential> {
        let (mut now, mut then) = (self.clone(), then.clone());
        let scale = now.scale.min(then.scale);
        now.downscale(scale);
        then.downscale(scale);
        if now.threshold > then.threshold {
            then.widen(now.threshold);
        }
        now.zero = now.zero.checked_sub(then.zero)?;
        for (now, then) in [(&mut now.positive, &then.positive), (&mut now.negative, &then.negative)] {
            for (index, count) in then {
                let bucket = now.get_mut(index)?;
                *bucket = bucket.checked_sub(*count)?;
            }
            now.retain(|_, count| *count > 0);
        }
        Some(now)
    }

    /// Joins neighbours: a bucket of one scale less holds two of this one.
    fn downscale(&mut self, scale: i32) {
        let by = self.scale.saturating_sub(scale);
        if by <= 0 {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            for (index, count) in std::mem::take(side) {
                let bucket = side.entry(index >> by.min(31)).or_insert(0);
                *bucket = bucket.saturating_add(count);
            }
        }
        self.scale = scale;
    }

    /// Gives the zero bucket what lies within the threshold, and moves that to the end of the last bucket it takes.
    fn widen(&mut self, threshold: f64) {
        let power = f64::from(-self.scale).exp2();
        let bound = |index: i32| (f64::from(index) * power).exp2();
        self.threshold = threshold;
        // Once for either side; then the threshold is a bound of both.
        for side in [&mut self.positive, &mut self.negative] {
            let within: Vec<i32> = side.keys().copied().take_while(|index| bound(*index) < threshold).collect();
            for index in within {
                self.zero = self.zero.saturating_add(side.remove(&index).unwrap_or(0));
                self.threshold = self.threshold.max(bound(index.saturating_add(1)));
            }
        }
    }
}

/// One side, without empty buckets; `None` where there is no double in a bucket: so a side is never wider than its scale
/// allows.
fn side(buckets: Buckets<'_>, scale: i32) -> Option<BTreeMap<i32, u64>> {
    let mut side = BTreeMap::new();
    for (i, count) in (0i32..).zip(buckets.counts()) {
        if count > 0 {
            let index = buckets.offset.checked_add(i)?;
            if !is_bucket(index, scale) {
                return None;
            }
            side.insert(index, count);
        }
    }
    Some(side)
}

/// Whether there is a double in a bucket.
fn is_bucket(index: i32, scale: i32) -> bool {
    let power = f64::from(-scale).exp2();
    f64::from(index) * power <= 1024.0 && (f64::from(index) + 1.0) * power >= -1075.0
}

/// Whether a histogram can have them.
fn is_layout(scale: i32, threshold: f64) -> bool {
    (MIN_SCALE..=20).contains(&scale) && (0.0..f64::INFINITY).contains(&threshold)
}

fn span(side: &BTreeMap<i32, u64>) -> i64 {
    match (side.first_key_value(), side.last_key_value()) {
        (Some((first, _)), Some((last, _))) => i64::from(*last) - i64::from(*first) + 1,
        _ => 0,
    }
}

fn put_side(point: &mut Vec<u8>, number: u32, side: &BTreeMap<i32, u64>) {
    let (Some((&first, _)), Some((&last, _))) = (side.first_key_value(), side.last_key_value()) else { return };
    let (mut buckets, mut counts) = (Vec::new(), Vec::new());
    put_number(&mut buckets, 1, u64::from(zigzag(first)));
    (first..=last).for_each(|index| put_varint(&mut counts, side.get(&index).copied().unwrap_or(0)));
    put_bytes(&mut buckets, 2, &counts);
    put_bytes(point, number, &buckets);
}

fn put_packed(point: &mut Vec<u8>, number: u32, bits: impl Iterator<Item = u64>) {
    let packed: Vec<u8> = bits.flat_map(u64::to_le_bytes).collect();
    if !packed.is_empty() {
        put_bytes(point, number, &packed);
    }
}

fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, threshold: f64, positive: &[(i32, u64)]) -> Exponential {
        let positive = positive.iter().copied().collect();
        Exponential { scale, zero: 0, threshold, positive, negative: BTreeMap::new() }
    }

    #[test]
    fn the_smaller_scale_holds_and_buckets_join_by_shifting() {
        let mut one = exponential(3, 0.0, &[(-9, 1), (-8, 2), (7, 4)]);
        one.add(&exponential(1, 0.0, &[(-3, 10), (1, 20)]));
        assert_eq!(one, exponential(1, 0.0, &[(-3, 11), (-2, 2), (1, 24)]));
    }

    #[test]
    fn the_larger_zero_bucket_takes_what_lies_within_it() {
        // At scale 0 the buckets are (1/4, 1/2], (1/2, 1], (1, 2].
        let mut one = exponential(0, 0.0, &[(-2, 1), (-1, 2), (0, 4)]);
        one.add(&exponential(0, 0.6, &[(0, 8)]));
        let expected = Exponential { zero: 3, ..exponential(0, 1.0, &[(0, 12)]) };
        assert_eq!(one, expected);
    }

    #[test]
    fn a_side_is_never_wider_than_the_most_buckets() {
        let mut one = exponential(20, 0.0, &[(-1_000_000_000, 1)]);
        one.add(&exponential(20, 0.0, &[(1_000_000_000, 1)]));
        assert!(span(&one.positive) <= MAX_BUCKETS);
        assert_eq!(one.positive.values().sum::<u64>(), 2);
    }

    #[test]
    fn what_was_added_can_be_taken_off_again() {
        let (then, gain) = (exponential(2, 0.0, &[(1, 5), (9, 1)]), exponential(0, 0.0, &[(0, 3), (4, 1)]));
        let mut now = then.clone();
        now.add(&gain);
        assert_eq!(now.since(&then), Some(gain));
        assert_eq!(then.since(&now), None);
    }
}
