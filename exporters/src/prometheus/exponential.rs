//! Exponential histograms as classic ones: the text formats cannot carry native histograms.
//!
//! Buckets are merged by pairs (exact: a coarser scale's bounds are a subset of a finer one's) until few enough bounds
//! are left. A bound that stays keeps its text and its meaning from scrape to scrape, so rates over it stay right while
//! others come and go. A value exactly on a negative bound counts one bucket lower than in the original, whose negative
//! buckets include their lower end.

use phoenix_telemetry::{Buckets, ExponentialHistogram};

/// Most bounds a converted histogram has, besides `+Inf`: about what the SDKs' default explicit bounds have (15), since
/// every bound is a series.
const MAX_BOUNDS: usize = 20;

/// Scales below this cannot be: one bucket of scale -11 holds every double above 1.
const COARSEST: i32 = -11;

/// The upper bounds and the counts of the buckets below them, ascending; the rest up to `+Inf` is empty. `None` for
/// what cannot be (indexes outside every double, counts that overflow).
pub(crate) fn explicit(histogram: &ExponentialHistogram<'_>) -> Option<(Vec<f64>, Vec<u64>)> {
    let mut positive = populated(&histogram.positive())?;
    let mut negative = populated(&histogram.negative())?;
    let mut scale = histogram.scale;
    if scale < COARSEST {
        return None;
    }
    let zero = usize::from(histogram.zero_count > 0);
    let mut merged = 0u32;
    while bounds(&positive, merged) + bounds(&negative, merged) + zero > MAX_BOUNDS && scale > COARSEST {
        merged += 1;
        scale -= 1;
    }
    if bounds(&positive, merged) + bounds(&negative, merged) + zero > MAX_BOUNDS {
        return None;
    }
    positive = merge(&positive, merged)?;
    negative = merge(&negative, merged)?;

    let mut out: Vec<(f64, u64)> = Vec::new();
    // A negative bucket k holds -base^(k+1) <= v < -base^k.
    out.extend(negative.iter().rev().map(|&(index, count)| (-bound(index, scale), count)));
    if zero > 0 {
        out.push((histogram.zero_threshold, histogram.zero_count));
    }
    if let Some(&(first, _)) = positive.first() {
        // The lower end of the lowest bucket, so that it is not mixed with what is below.
        let low = bound(first, scale);
        if low.is_finite() && out.last().is_none_or(|(last, _)| *last < low) {
            out.push((low, 0));
        }
    }
    out.extend(positive.iter().map(|&(index, count)| (bound(index + 1, scale), count)));
    // The upper end of the highest bucket may lie beyond every double: its count is then in +Inf.
    let over = out.last().filter(|(bound, _)| bound.is_infinite()).map_or(0, |(_, count)| *count);
    out.retain(|(bound, _)| bound.is_finite());
    let ascending = out.is_sorted_by(|a, b| a.0 < b.0);
    let (bounds, mut counts): (Vec<f64>, Vec<u64>) = out.into_iter().unzip();
    counts.push(over);
    ascending.then_some((bounds, counts))
}

/// The bounds of `indexes` after `merged` pairings: every index from the first to the last, since gaps are filled.
fn bounds(buckets: &[(i64, u64)], merged: u32) -> usize {
    match (buckets.first(), buckets.last()) {
        (Some((first, _)), Some((last, _))) => ((last >> merged) - (first >> merged)) as usize + 2,
        _ => 0,
    }
}

/// The buckets that hold something, by index.
fn populated(buckets: &Buckets<'_>) -> Option<Vec<(i64, u64)>> {
    let offset = i64::from(buckets.offset);
    let populated: Vec<(i64, u64)> = (offset..).zip(buckets.counts()).filter(|(_, count)| *count > 0).collect();
    populated.last().is_none_or(|(last, _)| i32::try_from(*last).is_ok()).then_some(populated)
}

/// Every bucket from the lowest to the highest, after `merged` pairings.
fn merge(buckets: &[(i64, u64)], merged: u32) -> Option<Vec<(i64, u64)>> {
    let mut out: Vec<(i64, u64)> = Vec::new();
    for &(index, count) in buckets {
        let index = index >> merged;
        // No more than MAX_BOUNDS lie between the first and the last.
        while let Some(&(last, _)) = out.last().filter(|(last, _)| *last + 1 < index) {
            out.push((last + 1, 0));
        }
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.checked_add(count)?,
            _ => out.push((index, count)),
        }
    }
    Some(out)
}

/// The lower end of bucket `index`: base^index, with base = 2^(2^-scale).
fn bound(index: i64, scale: i32) -> f64 {
    (index as f64 * (-f64::from(scale)).exp2()).exp2()
}
