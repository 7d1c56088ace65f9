//! The batch: input bytes, the arena that edits write to, and the index over both.
//!
//! A point that is dropped stays in the index and leaves the counts of its branch; nothing is moved until the batch is
//! encoded. Cloning shares the input bytes and copies the rest.

use crate::decode;
use crate::error::{DecodeError, Limits};
pub use crate::index::Verdict;
use crate::index::{Index, MetricEntry, PointEntry, ResourceEntry, ScopeEntry, ScopeText, Span, slice};
use crate::view::{Places, Point, PointId, Resource, ResourceId, live};
use bytes::Bytes;
use std::fmt;

/// OTLP metrics: an export request's bytes with an index, and what was changed since.
#[derive(Clone, Default)]
pub struct Batch {
    pub(crate) bytes: Bytes,
    /// What edits and joins wrote; addressed as if it lay behind `bytes`.
    pub(crate) arena: Vec<u8>,
    pub(crate) index: Index,
    pub(crate) live: usize,
    /// The output is no longer `bytes`.
    pub(crate) dirty: bool,
    /// Scopes, metrics and points do not lie in the order of their resources.
    pub(crate) shuffled: bool,
}

impl Batch {
    /// Validates an `ExportMetricsServiceRequest` and indexes it.
    ///
    /// Any order of fields, unknown fields, packed and unpacked lists and messages sent in pieces are read as protobuf
    /// prescribes. Where the input is legal but in pieces, the batch holds an equal request in the usual form.
    ///
    /// It reads and refuses the same bytes as prost, but for two things: groups (wire types 3 and 4) are refused, which
    /// prost skips in unknown fields; and `limits` decides how deep attribute values nest, where prost stops at 100
    /// messages in each other.
    ///
    /// # Errors
    /// Everything malformed is an error with its offset in `bytes`: truncation, wrong wire types, field number 0, groups,
    /// invalid UTF-8, and whatever passes `limits`. Memory taken is bounded by the input's size and the limits.
    pub fn decode(bytes: Bytes, limits: &Limits) -> Result<Batch, DecodeError> {
        decode::decode(bytes, limits)
    }

    /// Whether no live point is left.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Number of live points.
    pub fn points(&self) -> usize {
        self.live
    }

    /// The resources, without those that lost all their points.
    pub fn resources(&self) -> impl Iterator<Item = Resource<'_>> {
        (0u32..)
            .zip(&self.index.resources)
            .filter(|(_, entry)| !entry.thinned || entry.live > 0)
            .map(|(index, _)| Resource { batch: self, index })
    }

    /// Every live point, in the order of the bytes as they came in.
    pub fn series(&self) -> impl Iterator<Item = Point<'_>> {
        self.index
            .scopes
            .iter()
            .filter(|scope| scope.live > 0)
            .flat_map(|scope| live(self, scope, 0..scope.points.len() as u32))
    }

    /// The point of that id, unless it was dropped.
    pub fn point(&self, id: PointId) -> Option<Point<'_>> {
        let scope = self.index.scopes.get(self.index.scope_of(id.0)?)?;
        Places::of(self, scope).get(scope.place_of(id.0)?)
    }

    /// Takes out every live point that `doomed` says so of; returns how many. A metric, scope or resource that lost
    /// points and has none left goes with them.
    pub fn drop_points(&mut self, mut doomed: impl FnMut(Point<'_>) -> bool) -> usize {
        let before = self.live;
        let mut ids = Vec::new();
        for scope in 0..self.index.scopes.len() {
            let Some(entry) = self.index.scopes.get(scope) else { continue };
            let points = live(self, entry, 0..entry.points.len() as u32);
            ids.extend(points.filter(|point| doomed(*point)).map(|point| point.id()));
            self.take_out(scope, &ids);
            ids.clear();
        }
        before - self.live
    }

    /// Takes out the live points of these ids, which rise; as [`Batch::drop_points`] does, but looks at no others.
    pub fn drop_ids(&mut self, mut ids: &[PointId]) {
        while let Some(first) = ids.first() {
            let Some(scope) = self.index.scope_of(first.0) else { return };
            let points = self.index.scopes.get(scope).map_or(0..0, |scope| scope.points.clone());
            let (own, others) = ids.split_at(ids.iter().take_while(|id| points.contains(&id.0)).count());
            self.take_out(scope, own);
            ids = others;
        }
    }

    /// Takes out those points of a scope that are live.
    fn take_out(&mut self, at: usize, ids: &[PointId]) {
        let index = &mut self.index;
        let Some(scope) = index.scopes.get(at).filter(|_| !ids.is_empty()) else { return };
        // Of a scope that is gone nobody asks what it holds, so it needs no entries of its own.
        if ids.len() < scope.live as usize {
            index.own(at);
        }
        let Index { scopes, metrics, points, verdicts, .. } = index;
        let Some(scope) = scopes.get_mut(at) else { return };
        let table = points.get(scope.table()).unwrap_or_default();
        let metrics = metrics.get_mut(slice(&scope.metrics)).unwrap_or_default();
        let mut dropped = 0;
        for id in ids {
            let Some(verdict) = verdicts.get_mut(id.0 as usize).filter(|own| **own != Verdict::Drop) else { continue };
            *verdict = Verdict::Drop;
            dropped += 1;
            if scope.shared {
                continue;
            }
            let Some(point) = scope.place_of(id.0).and_then(|place| table.get(place)) else { continue };
            let Some(metric) = metrics.get_mut(point.metric as usize) else { continue };
            metric.live -= 1;
            metric.live_bytes -= point.encoded_len();
            (metric.thinned, metric.dirty) = (true, true);
        }
        if dropped == 0 {
            return;
        }
        scope.live -= dropped;
        (scope.thinned, scope.dirty) = (true, true);
        let (resource, recount) = (scope.resource as usize, scope.shared && scope.live > 0);
        if recount {
            index.own(at);
            index.count(at);
        }
        let Some(resource) = index.resources.get_mut(resource) else { return };
        resource.live -= dropped;
        (resource.thinned, resource.dirty) = (true, true);
        self.live -= dropped as usize;
        self.dirty = true;
    }

    /// Takes out all points of a resource, and the resource with them.
    pub fn drop_resource(&mut self, id: ResourceId) {
        let Index { resources, scopes, verdicts, .. } = &mut self.index;
        let Some(resource) = resources.get_mut(id.0 as usize) else { return };
        for scope in scopes.get_mut(slice(&resource.scopes)).unwrap_or_default() {
            verdicts.get_mut(slice(&scope.points)).unwrap_or_default().fill(Verdict::Drop);
            (scope.live, scope.thinned, scope.dirty) = (0, true, true);
        }
        self.live -= resource.live as usize;
        (resource.live, resource.thinned, resource.dirty) = (0, true, true);
        self.dirty = true;
    }

    /// What is to become of a point; `Drop` for an id the batch does not know.
    pub fn verdict(&self, id: PointId) -> Verdict {
        self.index.verdicts.get(id.0 as usize).copied().unwrap_or(Verdict::Drop)
    }

    /// Says what is to become of a point. `Drop` takes it out at once and is final.
    pub fn set_verdict(&mut self, id: PointId, verdict: Verdict) {
        if verdict == Verdict::Drop {
            return self.drop_ids(&[id]);
        }
        if let Some(own) = self.index.verdicts.get_mut(id.0 as usize).filter(|own| **own != Verdict::Drop) {
            *own = verdict;
        }
    }

    /// Memory this batch keeps alive, in bytes: input, arena and index. Parts of a split batch share the input, and
    /// each counts all of it.
    pub fn retained_bytes(&self) -> usize {
        fn held<T>(entries: &Vec<T>) -> usize {
            entries.capacity() * size_of::<T>()
        }
        self.bytes.len()
            + self.arena.capacity()
            + held::<ResourceEntry>(&self.index.resources)
            + held::<ScopeEntry>(&self.index.scopes)
            + held::<u64>(&self.index.bits)
            + held::<Verdict>(&self.index.verdicts)
            + held::<ScopeText>(&self.index.texts)
            + held::<MetricEntry>(&self.index.metrics)
            + held::<PointEntry>(&self.index.points)
            + held::<Span>(&self.index.extras)
    }

    /// The bytes of a span. Spans never reach across the seam between input and arena.
    #[inline(always)]
    pub(crate) fn slice(&self, span: Span) -> &[u8] {
        let seam = self.bytes.len();
        let range = span.range();
        if range.end <= seam { &self.bytes[range] } else { &self.arena[range.start - seam..range.end - seam] }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("resources", &self.index.resources.len())
            .field("metrics", &self.index.places())
            .field("points", &self.live)
            .field("bytes", &self.encoded_len())
            .finish()
    }
}
