//! The flat index over a request: one small entry a resource, scope, metric and point, in the order of the bytes.
//!
//! A [`Span`] addresses the batch's input bytes, or its arena as if that lay right behind them. Entries name their
//! parent by position; a parent names its children by range. Nothing here reads protobuf.

use crate::kind::{MetricKind, Number, Temporality};
use std::ops::Range;

/// A byte range in input + arena.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    /// The decoder and the joins refuse what does not fit 32 bits before they make spans.
    #[inline(always)]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: (end - start) as u32 }
    }

    #[inline(always)]
    pub(crate) fn end(self) -> u32 {
        self.start + self.len
    }

    #[inline(always)]
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// A `ResourceMetrics` message.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResourceEntry {
    /// The field with its tag and length.
    pub(crate) whole: Span,
    /// What lies before and behind the scopes.
    pub(crate) head: Span,
    pub(crate) tail: Span,
    /// The `Resource` field as it came, in head or tail; empty at the start of the head where there is none.
    pub(crate) own: Span,
    /// The `Resource` message: the body of `own`, or its successor in the arena.
    pub(crate) body: Span,
    pub(crate) schema_url: Span,
    /// Wrapping sum of the attributes' hashes.
    pub(crate) attributes: u64,
    pub(crate) scopes: Range<u32>,
    pub(crate) live: u32,
    /// `body` is no longer what `own` holds.
    pub(crate) edited: bool,
    /// Something in here changed: `whole` may not be copied.
    pub(crate) dirty: bool,
    /// A point was taken out; with no live point left the whole branch is gone.
    pub(crate) thinned: bool,
}

/// A `ScopeMetrics` message.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScopeEntry {
    pub(crate) whole: Span,
    pub(crate) head: Span,
    pub(crate) tail: Span,
    /// The `InstrumentationScope` message.
    pub(crate) body: Span,
    pub(crate) name: Span,
    pub(crate) version: Span,
    pub(crate) schema_url: Span,
    /// Hash of name, version and attributes.
    pub(crate) hash: u64,
    /// Scopes of this batch that have the same are equal but for the numbers of their points. At most the place of the
    /// scope, counted from 1; 0 = unlike any other.
    pub(crate) shape: u32,
    /// What its points have in common, where they do.
    pub(crate) common: Common,
    pub(crate) resource: u32,
    pub(crate) metrics: Range<u32>,
    pub(crate) live: u32,
    pub(crate) dirty: bool,
    pub(crate) thinned: bool,
}

/// The times of points that all are numbers without flags, of one time, and of one start as far as they have any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Common {
    /// 0 where none has a start.
    pub(crate) start: u64,
    /// 0 where the points are not all so.
    pub(crate) time: u64,
}

/// Finds the common times, point by point.
#[derive(Default)]
pub(crate) struct InCommon {
    of: Common,
    apart: bool,
}

impl InCommon {
    /// One more point, and whether it says a start.
    #[inline(always)]
    pub(crate) fn add(&mut self, point: &PointEntry, has_start: bool) {
        let Common { start, time } = &mut self.of;
        if *time == 0 {
            *time = point.time;
        }
        if *start == 0 {
            *start = point.start_time;
        }
        self.apart |= *time != point.time || point.flags != 0 || point.value == ValueKind::None;
        // A start that is said to be 0 is none in one scope, and may be one in another of its shape.
        self.apart |= has_start && (*start != point.start_time || *start == 0);
    }

    pub(crate) fn get(&self) -> Common {
        if self.apart { Common::default() } else { self.of }
    }
}

/// A `Metric` message and the data message in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetricEntry {
    pub(crate) whole: Span,
    /// What lies before and behind the data field; the message is all from the head's start to the tail's end.
    pub(crate) head: Span,
    pub(crate) tail: Span,
    /// In the data message, what lies before and behind the points.
    pub(crate) data_head: Span,
    pub(crate) data_tail: Span,
    pub(crate) name: Span,
    pub(crate) description: Span,
    pub(crate) unit: Span,
    pub(crate) kind: MetricKind,
    pub(crate) temporality: Temporality,
    pub(crate) monotonic: bool,
    /// Hash of what is identifying in the metric itself.
    pub(crate) hash: u64,
    /// The same with scope and resource.
    pub(crate) identity: u64,
    pub(crate) scope: u32,
    pub(crate) points: Range<u32>,
    pub(crate) live: u32,
    /// Bytes of the live points with their tags and lengths.
    pub(crate) live_bytes: u32,
    pub(crate) dirty: bool,
    pub(crate) thinned: bool,
}

/// What a number point holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ValueKind {
    #[default]
    None,
    Int,
    Double,
}

impl From<Number> for ValueKind {
    #[inline]
    fn from(value: Number) -> Self {
        match value {
            Number::Int(_) => ValueKind::Int,
            Number::Double(_) => ValueKind::Double,
        }
    }
}

/// What became of a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The series stays as it is.
    #[default]
    Individual,
    /// The series is to be folded into its group; it stays in the batch until it is.
    Fold,
    /// The point is out of the batch, for good.
    Drop,
}

/// A data point of any kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PointEntry {
    /// Where the field begins; its tag and length reach to the body. Meaningless once edited.
    pub(crate) at: u32,
    pub(crate) body: Span,
    pub(crate) metric: u32,
    pub(crate) start_time: u64,
    pub(crate) time: u64,
    /// The bits of the value.
    pub(crate) bits: u64,
    /// Wrapping sum of the attributes' hashes.
    pub(crate) attributes: u64,
    pub(crate) flags: u32,
    pub(crate) value: ValueKind,
    pub(crate) verdict: Verdict,
    pub(crate) edited: bool,
    /// Where in the body start (if any), time and value lie in one piece, plus one; 0 where they do not, or too far in.
    pub(crate) core: u8,
}

impl Span {
    /// The same range, further on.
    #[inline(always)]
    pub(crate) fn moved(self, by: u32) -> Self {
        Self { start: self.start + by, len: self.len }
    }
}

impl PointEntry {
    #[inline(always)]
    pub(crate) fn is_live(&self) -> bool {
        self.verdict != Verdict::Drop
    }

    pub(crate) fn number(&self) -> Option<Number> {
        match self.value {
            ValueKind::None => None,
            ValueKind::Int => Some(Number::Int(self.bits as i64)),
            ValueKind::Double => Some(Number::Double(f64::from_bits(self.bits))),
        }
    }

    /// Bytes of the field in the output.
    #[inline]
    pub(crate) fn encoded_len(&self) -> u32 {
        if self.edited {
            1 + crate::wire::varint_len(u64::from(self.body.len)) as u32 + self.body.len
        } else {
            self.body.end() - self.at
        }
    }
}

/// All entries of a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) resources: Vec<ResourceEntry>,
    pub(crate) scopes: Vec<ScopeEntry>,
    pub(crate) metrics: Vec<MetricEntry>,
    pub(crate) points: Vec<PointEntry>,
    /// Unknown fields of the request itself.
    pub(crate) extras: Vec<Span>,
}

impl Index {
    /// Number of entries of all kinds.
    #[inline(always)]
    pub(crate) fn entries(&self) -> usize {
        self.resources.len() + self.scopes.len() + self.metrics.len() + self.points.len()
    }

    /// Refreshes the identities of a resource's metrics.
    pub(crate) fn identify(&mut self, resource: usize) {
        let Some(entry) = self.resources.get(resource) else { return };
        let base = crate::hash::resource(entry.attributes);
        for scope in entry.scopes.start as usize..entry.scopes.end as usize {
            let Some(scope) = self.scopes.get(scope) else { return };
            let base = crate::hash::combine(base, scope.hash);
            for metric in self.metrics.get_mut(slice(&scope.metrics)).unwrap_or_default() {
                metric.identity = crate::hash::combine(base, metric.hash);
            }
        }
    }
}

/// A range of positions as slices take it.
#[inline(always)]
pub(crate) fn slice(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
