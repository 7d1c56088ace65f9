//! The flat index over a request: one small entry a resource and scope, in the order of the bytes, and the bits of each
//! point's value.
//!
//! What else there is to know of a scope and its metrics and points stands in three tables. Scopes that are equal in every byte but the
//! numbers, and whose points share their times, share these entries: such a scope takes 8 bytes a point, and one byte for
//! the verdict. What is to change one of them gives the scope entries of its own first ([`Index::own`]), so entries that are
//! shared never change.
//!
//! A [`Span`] addresses the batch's input bytes, or its arena as if that lay right behind them. Entries in the
//! tables speak of places in their scope: a position is meant [`ScopeEntry::by`] bytes further on, a metric or a point counts from
//! the scope's first. So a scope can be moved, or share its entries, without a look at them. Nothing here reads protobuf.

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// What a `ScopeMetrics` message says besides metrics. Positions are those of its scope; never changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ScopeText {
    /// What lies before and behind the metrics.
    pub(crate) head: Span,
    pub(crate) tail: Span,
    /// The `InstrumentationScope` message.
    pub(crate) body: Span,
    pub(crate) name: Span,
    pub(crate) version: Span,
    pub(crate) schema_url: Span,
}

/// A `ScopeMetrics` message.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScopeEntry {
    pub(crate) whole: Span,
    /// Its entry among the texts, which others may have too.
    pub(crate) text: u32,
    /// Hash of name, version and attributes.
    pub(crate) hash: u64,
    /// The same with the resource.
    pub(crate) identity: u64,
    /// Scopes of this batch that have the same are equal but for the numbers of their points. At most the place of the
    /// scope, counted from 1; 0 = unlike any other.
    pub(crate) shape: u32,
    /// What its points have in common, where they do.
    pub(crate) common: Common,
    pub(crate) resource: u32,
    /// The entries of its metrics.
    pub(crate) metrics: Range<u32>,
    /// Where the entries of its points begin; there are as many as points.
    pub(crate) entries: u32,
    /// By how many bytes positions in these entries are further on.
    pub(crate) by: u32,
    /// The place of its first metric among all of the batch, counted by scope.
    pub(crate) place: u32,
    /// Its points, among all of the batch.
    pub(crate) points: Range<u32>,
    pub(crate) live: u32,
    /// Another scope may have the same entries: they may not change. The times are in `common`; where a point's entry has a
    /// start time of 0, it has none.
    pub(crate) shared: bool,
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
    /// One more point: the start that its core says if any, and its time.
    #[inline(always)]
    pub(crate) fn add(&mut self, point: &PointEntry, said: Option<u64>, at: u64) {
        let Common { start, time } = &mut self.of;
        if *time == 0 {
            *time = at;
        }
        self.apart |= *time != at || point.flags != 0 || point.value == ValueKind::None;
        match said {
            Some(said) => {
                if *start == 0 {
                    *start = said;
                }
                // A start that is said to be 0 is none in one scope, and may be one in another of its shape.
                self.apart |= *start != said || said == 0;
            }
            // One that is said elsewhere is not looked at again.
            None => self.apart |= point.start_time != 0,
        }
    }

    pub(crate) fn get(&self) -> Common {
        if self.apart { Common::default() } else { self.of }
    }
}

/// A `Metric` message and the data message in it. Positions are those of its scope.
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
    /// Its points, among those of the scope.
    pub(crate) points: Range<u32>,
    pub(crate) live: u32,
    /// Bytes of the live points with their tags and lengths.
    pub(crate) live_bytes: u32,
    pub(crate) dirty: bool,
    pub(crate) thinned: bool,
}

/// The tags of the value in a number point.
pub(crate) const DOUBLE: u8 = 0x21;
pub(crate) const INT: u8 = 0x31;

/// What a number point holds, by the value's tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ValueKind {
    #[default]
    None = 0,
    Int = INT,
    Double = DOUBLE,
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

/// A data point of any kind, but for its value and verdict. Positions are those of its scope.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PointEntry {
    /// Where the field begins; its tag and length reach to the body. Meaningless once edited.
    pub(crate) at: u32,
    pub(crate) body: Span,
    /// Its metric, among those of the scope.
    pub(crate) metric: u32,
    /// To be read by [`ScopeEntry::times`].
    pub(crate) start_time: u64,
    pub(crate) time: u64,
    /// Wrapping sum of the attributes' hashes.
    pub(crate) attributes: u64,
    /// The metric's hash, which the identity of every series needs.
    pub(crate) metric_hash: u64,
    pub(crate) flags: u32,
    pub(crate) value: ValueKind,
    pub(crate) edited: bool,
    /// Where in the body start (if any), time and value lie in one piece, plus one; 0 where they do not, or too far in.
    pub(crate) core: u8,
}

impl Span {
    /// The same range, further on: around the end, where it is to be further back.
    #[inline(always)]
    pub(crate) fn moved(self, by: u32) -> Self {
        Self { start: self.start.wrapping_add(by), len: self.len }
    }
}

impl ResourceEntry {
    /// The same, further on.
    pub(crate) fn moved(&self, by: u32) -> Self {
        let ResourceEntry { whole, head, tail, own, body, schema_url, .. } = self;
        let [whole, head, tail, own, body, schema_url] =
            [whole, head, tail, own, body, schema_url].map(|span| span.moved(by));
        ResourceEntry { whole, head, tail, own, body, schema_url, ..self.clone() }
    }
}

impl ScopeEntry {
    /// Start and time of one of its points.
    #[inline(always)]
    pub(crate) fn times(&self, point: &PointEntry) -> (u64, u64) {
        let Common { start, time } = self.common;
        match (time, point.start_time) {
            (0, _) => (point.start_time, point.time),
            (_, 0) => (0, time),
            _ => (start, time),
        }
    }

    /// Its place of a point of the batch, if that is one of its own.
    #[inline(always)]
    pub(crate) fn place_of(&self, point: u32) -> Option<usize> {
        self.points.contains(&point).then(|| (point - self.points.start) as usize)
    }

    /// Where the entries of its points lie.
    #[inline(always)]
    pub(crate) fn table(&self) -> Range<usize> {
        self.entries as usize..self.entries as usize + self.points.len()
    }

    /// All that it held was taken out.
    #[inline(always)]
    pub(crate) fn is_gone(&self) -> bool {
        self.thinned && self.live == 0
    }
}

impl MetricEntry {
    /// Takes out of its counts what was dropped, where it was: `points` and `verdicts` are those of its scope.
    pub(crate) fn count(&mut self, points: &[PointEntry], verdicts: &[Verdict]) {
        let range = slice(&self.points);
        let verdicts = verdicts.get(range.clone()).unwrap_or_default();
        let points = points.get(range).unwrap_or_default();
        let live = points.iter().zip(verdicts).filter(|(_, verdict)| **verdict != Verdict::Drop);
        let (count, bytes) = live.fold((0, 0), |sum, (point, _)| (sum.0 + 1, sum.1 + point.encoded_len()));
        if count != self.live {
            (self.live, self.live_bytes) = (count, bytes);
            (self.thinned, self.dirty) = (true, true);
        }
    }
}

impl PointEntry {
    pub(crate) fn number(&self, bits: u64) -> Option<Number> {
        match self.value {
            ValueKind::None => None,
            ValueKind::Int => Some(Number::Int(bits as i64)),
            ValueKind::Double => Some(Number::Double(f64::from_bits(bits))),
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
    /// The bits of every point's value, in the order of the scopes.
    pub(crate) bits: Vec<u64>,
    /// What became of every point.
    pub(crate) verdicts: Vec<Verdict>,
    /// What scopes say, of themselves and of their metrics and points.
    pub(crate) texts: Vec<ScopeText>,
    pub(crate) metrics: Vec<MetricEntry>,
    pub(crate) points: Vec<PointEntry>,
    /// Unknown fields of the request itself.
    pub(crate) extras: Vec<Span>,
}

impl Index {
    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.extras.is_empty()
    }

    /// How many metrics the scopes have, those that share entries counted each.
    pub(crate) fn places(&self) -> u32 {
        self.scopes.last().map_or(0, |last| last.place + last.metrics.len() as u32)
    }

    /// Refreshes what the identities of a resource's metrics are made of.
    pub(crate) fn identify(&mut self, resource: usize) {
        let Some(entry) = self.resources.get(resource) else { return };
        let base = crate::hash::resource(entry.attributes);
        for scope in self.scopes.get_mut(slice(&entry.scopes)).unwrap_or_default() {
            scope.identity = crate::hash::combine(base, scope.hash);
        }
    }

    /// The scope of a point. Their points come in the order of the scopes.
    #[inline]
    pub(crate) fn scope_of(&self, point: u32) -> Option<usize> {
        let behind = self.scopes.partition_point(|scope| scope.points.start <= point);
        let scope = behind.checked_sub(1)?;
        self.scopes.get(scope)?.place_of(point).map(|_| scope)
    }

    /// Whether the point was not dropped.
    #[inline(always)]
    pub(crate) fn is_live(&self, point: u32) -> bool {
        self.verdicts.get(point as usize).is_some_and(|verdict| *verdict != Verdict::Drop)
    }

    /// Brings the counts of a scope's metrics, which are its own, in line with what was dropped.
    pub(crate) fn count(&mut self, scope: usize) {
        let Some(scope) = self.scopes.get(scope).filter(|scope| !scope.shared) else { return };
        let points = self.points.get(scope.table()).unwrap_or_default();
        let verdicts = self.verdicts.get(slice(&scope.points)).unwrap_or_default();
        let metrics = self.metrics.get_mut(slice(&scope.metrics)).unwrap_or_default();
        metrics.iter_mut().for_each(|metric| metric.count(points, verdicts));
    }

    /// Gives a scope entries of its own, which may change. Returns where those of its points lie.
    pub(crate) fn own(&mut self, scope: usize) -> Range<usize> {
        let Some(scope) = self.scopes.get_mut(scope) else { return 0..0 };
        if !scope.shared {
            return scope.table();
        }
        let (metrics, points) = (slice(&scope.metrics), scope.table());
        let first = self.metrics.len() as u32;
        scope.metrics = first..first + metrics.len() as u32;
        scope.entries = self.points.len() as u32;
        scope.shared = false;
        self.metrics.extend_from_within(metrics);
        self.points.extend_from_within(points);
        for point in self.points.get_mut(scope.table()).unwrap_or_default() {
            (point.start_time, point.time) = scope.times(point);
        }
        scope.table()
    }
}

/// A range of positions as slices take it.
#[inline(always)]
pub(crate) fn slice(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}
