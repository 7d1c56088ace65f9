//! The short cut for scopes that repeat.
//!
//! An exporter that reports a thousand processes writes a thousand scopes that differ in nothing but times and values.
//! Comparing such a scope with the one before costs less than reading it, and where all other bytes are equal there is
//! nothing left to validate or to hash.

use super::Scan;
use crate::index::{MetricEntry, PointEntry, ScopeEntry, Span, ValueKind, slice};
use crate::wire::{Reader, same};

/// The last scope of each length serves as a pattern for the next. This many are kept, by the length's remainder: a
/// resource has few scopes, and those of one scraper have few lengths.
pub(super) const PATTERNS: usize = 16;

impl<'a> Scan<'a> {
    /// Indexes a scope that equals a pattern in every byte but the numbers of its points: then it is valid, and all
    /// positions and hashes are known. Returns whether it does.
    pub(super) fn repeat(&mut self, whole: usize, body: Reader<'a>, resource: u32) -> bool {
        let (start, new) = (body.offset(), body.rest());
        let pattern = self.patterns.get(new.len() % PATTERNS).and_then(|slot| *slot);
        let Some(pattern) = pattern.and_then(|id| self.index.scopes.get(id as usize)) else { return false };
        let origin = pattern.head.start;
        let by = start as u32 - origin;
        let Some(old) = self.bytes.get(origin as usize..pattern.whole.end() as usize) else { return false };
        let metrics = slice(&pattern.metrics);
        let points = match self.index.metrics.get(metrics.clone()) {
            Some([first, .., last]) => first.points.start..last.points.end,
            Some([only]) => only.points.clone(),
            _ => return false,
        };
        let entries = 1 + metrics.len() + points.len();
        if old.len() != new.len() || self.room < entries {
            return false;
        }
        let (first_metric, first_point) = (self.index.metrics.len(), self.index.points.len());
        let metrics_on = (first_metric - metrics.start) as u32;
        let points_on = first_point as u32 - points.start;
        self.index.points.extend_from_within(slice(&points));
        let fresh = self.index.points.get_mut(first_point..).unwrap_or_default();
        if renumber(fresh, old, new, origin, by, metrics_on).is_none() {
            self.index.points.truncate(first_point);
            return false;
        }
        let scope = ScopeEntry {
            whole: Span::new(whole, start + new.len()),
            head: pattern.head.moved(by),
            tail: pattern.tail.moved(by),
            body: pattern.body.moved(by),
            name: pattern.name.moved(by),
            version: pattern.version.moved(by),
            schema_url: pattern.schema_url.moved(by),
            resource,
            metrics: first_metric as u32..(first_metric + metrics.len()) as u32,
            ..*pattern
        };
        let id = self.index.scopes.len() as u32;
        self.index.metrics.extend_from_within(metrics);
        for metric in self.index.metrics.get_mut(first_metric..).unwrap_or_default() {
            let MetricEntry { whole, head, tail, data_head, data_tail, name, description, unit, .. } = metric;
            for span in [whole, head, tail, data_head, data_tail, name, description, unit] {
                span.start += by;
            }
            metric.scope = id;
            metric.points = metric.points.start + points_on..metric.points.end + points_on;
        }
        self.index.scopes.push(scope);
        self.room -= entries;
        true
    }
}

/// Bytes of a number point's usual core: start, time and value, 8 bytes each behind their tags.
pub(super) const CORE: usize = 27;

/// Start, time, the value's bits and its type, where these bytes are such a core.
#[inline(always)]
pub(super) fn numbers(core: &[u8; CORE]) -> Option<(u64, u64, u64, ValueKind)> {
    let word = |at: usize| core.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let value = match (core[0], core[9], core[18]) {
        (0x11, 0x19, 0x21) => ValueKind::Double,
        (0x11, 0x19, 0x31) => ValueKind::Int,
        _ => return None,
    };
    Some((word(1)?, word(10)?, word(19)?, value))
}

/// Puts another start and value into such a core.
pub(crate) fn set_numbers(core: &mut [u8; CORE], start: u64, value: ValueKind, bits: u64) {
    core[1..9].copy_from_slice(&start.to_le_bytes());
    core[18] = if value == ValueKind::Int { 0x31 } else { 0x21 };
    core[19..].copy_from_slice(&bits.to_le_bytes());
}

/// Turns copies of a pattern's points into those of a scope whose bytes are `new`, if these differ from the pattern's,
/// `old`, in nothing but the numbers. The pattern begins at `origin`, the scope `by` bytes further on; its metrics are
/// `metrics_on` places further on.
#[inline(always)]
fn renumber(points: &mut [PointEntry], old: &[u8], new: &[u8], origin: u32, by: u32, metrics_on: u32) -> Option<()> {
    let mut seen = 0;
    for point in points {
        let core = (point.body.start - origin) as usize + usize::from(point.core) - 1;
        let (start_time, time, bits, value) = numbers(new.get(core..)?.first_chunk()?)?;
        if !same(old.get(seen..core)?, new.get(seen..core)?) || value != point.value {
            return None;
        }
        point.at += by;
        point.body.start += by;
        point.metric += metrics_on;
        point.start_time = start_time;
        point.time = time;
        point.bits = bits;
        seen = core + CORE;
    }
    same(old.get(seen..)?, new.get(seen..)?).then_some(())
}
