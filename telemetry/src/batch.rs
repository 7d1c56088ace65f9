//! The batch: input bytes, the arena that edits write to, and the index over both.
//!
//! A point that is dropped stays in the index and leaves the counts of its branch; nothing is moved until the batch is
//! encoded. Cloning shares the input bytes and copies the rest.

use crate::decode;
use crate::error::{DecodeError, Limits};
pub use crate::index::Verdict;
use crate::index::{Index, MetricEntry, PointEntry, ResourceEntry, ScopeEntry, Span, slice};
use crate::view::{Point, PointId, Resource, ResourceId};
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
        self.live(0..self.index.points.len() as u32)
    }

    /// The point of that id, unless it was dropped.
    pub fn point(&self, id: PointId) -> Option<Point<'_>> {
        let entry = self.index.points.get(id.0 as usize)?;
        entry.is_live().then_some(Point { batch: self, index: id.0, entry })
    }

    /// Takes out every live point that `doomed` says so of; returns how many. A metric, scope or resource that lost
    /// points and has none left goes with them.
    pub fn drop_points(&mut self, mut doomed: impl FnMut(Point<'_>) -> bool) -> usize {
        let before = self.live;
        for metric in 0..self.index.metrics.len() {
            let Some(points) = self.index.metrics.get(metric).map(|entry| entry.points.clone()) else { continue };
            let (mut dropped, mut bytes) = (0, 0);
            for index in points {
                let entry = self.index.points.get(index as usize).filter(|entry| entry.is_live());
                if entry.is_some_and(|entry| doomed(Point { batch: &*self, index, entry }))
                    && let Some(point) = self.index.points.get_mut(index as usize)
                {
                    point.verdict = Verdict::Drop;
                    dropped += 1;
                    bytes += point.encoded_len();
                }
            }
            if dropped > 0 {
                self.thin(metric, dropped, bytes);
            }
        }
        before - self.live
    }

    /// Takes out the live points of these ids, which rise; as [`Batch::drop_points`] does, but looks at no others.
    pub fn drop_ids(&mut self, ids: &[PointId]) {
        let mut of_metric = (0, 0, 0);
        for id in ids {
            let Some(entry) = self.index.points.get_mut(id.0 as usize).filter(|entry| entry.is_live()) else {
                continue;
            };
            entry.verdict = Verdict::Drop;
            let (metric, bytes) = (entry.metric as usize, entry.encoded_len());
            let (last, dropped, so_far) = of_metric;
            of_metric = if dropped > 0 && metric != last {
                self.thin(last, dropped, so_far);
                (metric, 1, bytes)
            } else {
                (metric, dropped + 1, so_far + bytes)
            };
        }
        let (metric, dropped, bytes) = of_metric;
        if dropped > 0 {
            self.thin(metric, dropped, bytes);
        }
    }

    /// Takes out all points of a resource, and the resource with them.
    pub fn drop_resource(&mut self, id: ResourceId) {
        let Index { resources, scopes, metrics, points, .. } = &mut self.index;
        let Some(resource) = resources.get_mut(id.0 as usize) else { return };
        let scopes = scopes.get_mut(slice(&resource.scopes)).unwrap_or_default();
        for scope in scopes {
            for metric in metrics.get_mut(slice(&scope.metrics)).unwrap_or_default() {
                for point in points.get_mut(slice(&metric.points)).unwrap_or_default() {
                    point.verdict = Verdict::Drop;
                }
                (metric.live, metric.live_bytes, metric.thinned, metric.dirty) = (0, 0, true, true);
            }
            (scope.live, scope.thinned, scope.dirty) = (0, true, true);
        }
        self.live -= resource.live as usize;
        (resource.live, resource.thinned, resource.dirty) = (0, true, true);
        self.dirty = true;
    }

    /// What is to become of a point; `Drop` for an id the batch does not know.
    pub fn verdict(&self, id: PointId) -> Verdict {
        self.index.points.get(id.0 as usize).map_or(Verdict::Drop, |entry| entry.verdict)
    }

    /// Says what is to become of a point. `Drop` takes it out at once and is final.
    pub fn set_verdict(&mut self, id: PointId, verdict: Verdict) {
        let Some(entry) = self.index.points.get_mut(id.0 as usize) else { return };
        if !entry.is_live() {
            return;
        }
        entry.verdict = verdict;
        if verdict == Verdict::Drop {
            let (metric, bytes) = (entry.metric as usize, entry.encoded_len());
            self.thin(metric, 1, bytes);
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

    /// Takes points that were dropped out of the counts of their branch.
    fn thin(&mut self, metric: usize, dropped: u32, bytes: u32) {
        let index = &mut self.index;
        let Some(metric) = index.metrics.get_mut(metric) else { return };
        metric.live -= dropped;
        metric.live_bytes -= bytes;
        metric.thinned = true;
        metric.dirty = true;
        let Some(scope) = index.scopes.get_mut(metric.scope as usize) else { return };
        scope.live -= dropped;
        scope.thinned = true;
        scope.dirty = true;
        let Some(resource) = index.resources.get_mut(scope.resource as usize) else { return };
        resource.live -= dropped;
        resource.thinned = true;
        resource.dirty = true;
        self.live -= dropped as usize;
        self.dirty = true;
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("resources", &self.index.resources.len())
            .field("metrics", &self.index.metrics.len())
            .field("points", &self.live)
            .field("bytes", &self.encoded_len())
            .finish()
    }
}
