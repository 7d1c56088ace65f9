//! Quantiles of positive numbers from counts in logarithmic buckets.
//!
//! A bucket is a range between two neighbouring values of a double's exponent and its first four bits of mantissa, so
//! finding it costs one shift. The relative error is at most 1/16. Numbers that are not above zero share one bucket.

use std::cmp::Ordering;

/// Bits of mantissa that tell buckets apart.
const PRECISION: u32 = 4;
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - PRECISION;

/// A multiset of numbers, to within 1/16 of each. Merging is exact: the order of additions and merges does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Bucket and count, ascending. At most 2^15 buckets exist; real measures fill some dozens.
    buckets: Vec<(u16, u32)>,
    /// Numbers at or below zero.
    zeros: u32,
    count: u64,
}

/// The bucket of a number, which must be above zero.
fn bucket(value: f64) -> u16 {
    // 11 bits of exponent and 4 of mantissa; the sign is 0.
    (value.to_bits() >> SHIFT) as u16
}

/// The smallest number of a bucket.
fn lower(bucket: u16) -> f64 {
    f64::from_bits(u64::from(bucket) << SHIFT)
}

impl Distribution {
    /// Adds a number; those that are not finite are left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if value > 0.0 {
            self.add_bucket(bucket(value), 1)
        } else {
            self.zeros = self.zeros.saturating_add(1);
        }
        self.count += 1;
    }

    /// Adds all numbers of another distribution.
    pub fn merge(&mut self, other: &Distribution) {
        let mut merged = Vec::with_capacity(self.buckets.len().max(other.buckets.len()));
        let (mut ours, mut theirs) = (self.buckets.iter().peekable(), other.buckets.iter().peekable());
        while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
            let (our, their) = (**our, **their);
            if our.0 <= their.0 {
                ours.next();
            }
            if their.0 <= our.0 {
                theirs.next();
            }
            merged.push(match our.0.cmp(&their.0) {
                Ordering::Less => our,
                Ordering::Greater => their,
                Ordering::Equal => (our.0, our.1.saturating_add(their.1)),
            });
        }
        merged.extend(ours);
        merged.extend(theirs);
        self.buckets = merged;
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.count += other.count;
    }

    /// How many numbers.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number below which the part `q` (0..=1) of all numbers lies, rounded down by at most 1/16; `None` without
    /// numbers. Never falls as `q` grows.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let highest = self.count.checked_sub(1)?;
        let rank = (q.clamp(0.0, 1.0) * highest as f64).floor() as u64;
        let mut below = u64::from(self.zeros);
        if rank < below {
            return Some(0.0);
        }
        for (bucket, count) in &self.buckets {
            below += u64::from(*count);
            if rank < below {
                return Some(lower(*bucket));
            }
        }
        self.buckets.last().map(|(bucket, _)| lower(*bucket))
    }

    /// The median of the distances from `centre`, the robust measure of spread (median absolute deviation); `None`
    /// without numbers.
    pub fn median_distance(&self, centre: f64) -> Option<f64> {
        let mut distances = Distribution { zeros: 0, count: self.count, buckets: Vec::new() };
        let numbers = self.buckets.iter().map(|(bucket, count)| (lower(*bucket), *count));
        for (value, count) in std::iter::once((0.0, self.zeros)).chain(numbers) {
            let distance = (value - centre).abs();
            if distance > 0.0 {
                distances.add_bucket(bucket(distance), count)
            } else {
                distances.zeros = distances.zeros.saturating_add(count)
            }
        }
        distances.quantile(0.5)
    }

    fn add_bucket(&mut self, bucket: u16, count: u32) {
        if count == 0 {
            return;
        }
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, have)) = self.buckets.get_mut(at) {
                    *have = have.saturating_add(count);
                }
            }
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Distribution {
        let mut all = Distribution::default();
        values.iter().for_each(|value| all.add(*value));
        all
    }

    #[test]
    fn an_empty_one_has_no_quantile_and_what_is_not_finite_does_not_count() {
        let none = of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!((none.quantile(0.5), none.median_distance(1.0), none.count()), (None, None, 0));
        assert_eq!(of(&[-5.0, 0.0, 8.0]).quantile(0.5), Some(0.0));
        assert_eq!(of(&[-5.0, 0.0, 8.0]).quantile(1.0), Some(8.0));
    }

    #[test]
    fn the_spread_is_the_median_distance() {
        assert_eq!(of(&[1.0, 2.0, 4.0, 8.0, 1024.0]).median_distance(4.0), Some(3.0));
        assert_eq!(of(&[4.0; 9]).median_distance(4.0), Some(0.0));
    }

    proptest! {
        #[test]
        fn quantiles_are_near_the_truth_and_ascend(
            values in prop::collection::vec(prop_oneof![Just(0.0), 1e-12..1e12f64, 0.5..2.0f64], 1..200),
            qs in prop::collection::vec(0.0..=1.0f64, 2..10),
        ) {
            let all = of(&values);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let mut qs = qs;
            qs.sort_by(f64::total_cmp);
            let mut last = 0.0;
            for q in qs {
                let truth = sorted[(q * (sorted.len() - 1) as f64).floor() as usize];
                let estimate = all.quantile(q).unwrap();
                prop_assert!(estimate <= truth && estimate >= truth * (1.0 - 1.0 / 16.0), "{estimate} for {truth}");
                prop_assert!(estimate >= last);
                last = estimate;
            }
        }

        #[test]
        fn merging_is_adding(a in prop::collection::vec(-1.0..1e9f64, 0..50), b in prop::collection::vec(-1.0..1e9f64, 0..50)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[b, a].concat()));
        }
    }
}
