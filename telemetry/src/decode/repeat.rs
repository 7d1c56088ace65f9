//! The short cut for scopes that repeat.
//!
//! An exporter that reports a thousand processes writes a thousand scopes that differ in nothing but times and values.
//! Comparing such a scope with the one before costs less than reading it, and where all other bytes are equal there is
//! nothing left to validate or to hash.

use super::Scan;
use crate::index::{Common, InCommon, MetricEntry, PointEntry, ScopeEntry, Span, ValueKind, slice};
use crate::kind::Number;
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
        let Some(common) = renumber(fresh, old, new, origin, by, metrics_on) else {
            self.index.points.truncate(first_point);
            return false;
        };
        let scope = ScopeEntry {
            whole: Span::new(whole, start + new.len()),
            head: pattern.head.moved(by),
            tail: pattern.tail.moved(by),
            body: pattern.body.moved(by),
            name: pattern.name.moved(by),
            version: pattern.version.moved(by),
            schema_url: pattern.schema_url.moved(by),
            common,
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

/// The tag of a number point's start, with which its core begins if it has one.
pub(super) const START: u8 = 0x11;
/// Bytes of a number point's usual core: start, time and value, 8 bytes each behind their tags.
const CORE: usize = 27;
/// The same without a start, as gauges have it.
const STARTLESS: usize = 18;

/// What a core says, and how long it is.
pub(super) struct Core {
    /// `None` where the core has none: it may lie elsewhere.
    pub(super) start: Option<u64>,
    pub(super) time: u64,
    pub(super) bits: u64,
    pub(super) value: ValueKind,
    pub(super) len: usize,
}

/// The core that bytes begin with, if they do.
#[inline(always)]
pub(super) fn core(bytes: &[u8]) -> Option<Core> {
    if bytes.first() == Some(&START) {
        let core: &[u8; CORE] = bytes.first_chunk()?;
        let (time, bits, value) = level(core.last_chunk()?)?;
        return Some(Core { start: Some(word(core, 1)), time, bits, value, len: CORE });
    }
    let (time, bits, value) = level(bytes.first_chunk()?)?;
    Some(Core { start: None, time, bits, value, len: STARTLESS })
}

#[inline(always)]
fn level(core: &[u8; STARTLESS]) -> Option<(u64, u64, ValueKind)> {
    let value = match (core[0], core[9]) {
        (0x19, 0x21) => ValueKind::Double,
        (0x19, 0x31) => ValueKind::Int,
        _ => return None,
    };
    Some((word(core, 1), word(core, 10), value))
}

#[inline(always)]
fn word<const N: usize>(core: &[u8; N], at: usize) -> u64 {
    core.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Puts start, time and value into a core that has a start.
#[inline]
pub(crate) fn put_core(core: &mut [u8; CORE], start: u64, time: u64, value: Number) {
    let tag = if matches!(value, Number::Int(_)) { 0x31 } else { 0x21 };
    for (field, (tag, bits)) in core.chunks_exact_mut(9).zip([(START, start), (0x19, time), (tag, value.bits())]) {
        if let Some((first, rest)) = field.split_first_mut() {
            *first = tag;
            rest.copy_from_slice(&bits.to_le_bytes());
        }
    }
}

/// Turns copies of a pattern's points into those of a scope whose bytes are `new`, if these differ from the pattern's,
/// `old`, in nothing but the numbers. The pattern begins at `origin`, the scope `by` bytes further on; its metrics are
/// `metrics_on` places further on. Returns what the times have in common.
#[inline(always)]
fn renumber(
    points: &mut [PointEntry],
    old: &[u8],
    new: &[u8],
    origin: u32,
    by: u32,
    metrics_on: u32,
) -> Option<Common> {
    let mut seen = 0;
    let mut common = InCommon::default();
    for point in points {
        let at = (point.body.start - origin) as usize + usize::from(point.core) - 1;
        let Core { start, time, bits, value, len } = core(new.get(at..)?)?;
        // The core's first byte, which says whether there is a start, among them.
        if !same(old.get(seen..=at)?, new.get(seen..=at)?) || value != point.value {
            return None;
        }
        point.at += by;
        point.body.start += by;
        point.metric += metrics_on;
        if let Some(start) = start {
            point.start_time = start;
        }
        point.time = time;
        point.bits = bits;
        common.add(point, start.is_some());
        seen = at + len;
    }
    same(old.get(seen..)?, new.get(seen..)?).then(|| common.get())
}
