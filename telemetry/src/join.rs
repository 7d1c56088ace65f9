//! Joining and splitting batches: ranges of the index move, bytes are not looked at again.

use crate::batch::Batch;
use crate::error::Limits;
use crate::index::{Index, MetricEntry, ResourceEntry, ScopeEntry, Span, slice};
use bytes::Bytes;
use std::collections::HashMap;
use std::ops::Range;

impl Batch {
    /// Adds all of `other` behind this batch. What either lost stays lost.
    ///
    /// Both together must stay under 4 GiB, which the index can address; `other` is handed back where they would not.
    #[must_use = "the batch that did not fit is handed back"]
    pub fn append(&mut self, other: Batch) -> Option<Batch> {
        self.join(other, false)
    }

    /// Adds all of `other` ahead of this batch: its resources are the first, in the order of [`Batch::resources`] and of what
    /// is encoded. All else is as with [`Batch::append`]; [`Batch::series`] goes by the resources no more.
    #[must_use = "the batch that did not fit is handed back"]
    pub fn prepend(&mut self, other: Batch) -> Option<Batch> {
        self.join(other, true)
    }

    fn join(&mut self, other: Batch, ahead: bool) -> Option<Batch> {
        if other.index.entries() == 0 && other.index.extras.is_empty() {
            return None;
        }
        if self.index.entries() == 0 && self.index.extras.is_empty() {
            *self = other;
            return None;
        }
        let mut other = other;
        if 2 * other.encoded_len() < other.bytes.len() + other.arena.len() {
            other.compact();
        }
        let base = self.bytes.len() + self.arena.len();
        if u32::try_from(base + other.bytes.len() + other.arena.len()).is_err() {
            return Some(other);
        }
        let base = base as u32;
        self.arena.reserve(other.bytes.len() + other.arena.len());
        self.arena.extend_from_slice(&other.bytes);
        self.arena.extend_from_slice(&other.arena);
        let mut index = other.index;
        index.shift_bytes(base);
        index.shift_entries(
            if ahead { 0 } else { self.index.resources.len() as u32 },
            self.index.scopes.len() as u32,
            self.index.metrics.len() as u32,
            self.index.points.len() as u32,
            u32::wrapping_add,
        );
        if ahead {
            // All that is moved: whoever comes first is first by its resources alone.
            let resources = index.resources.len() as u32;
            self.index.scopes.iter_mut().for_each(|scope| scope.resource += resources);
            self.index.resources.splice(..0, index.resources);
            self.shuffled = true;
        } else {
            self.index.resources.append(&mut index.resources);
            self.shuffled |= other.shuffled;
        }
        self.index.scopes.append(&mut index.scopes);
        self.index.metrics.append(&mut index.metrics);
        self.index.points.append(&mut index.points);
        self.index.extras.append(&mut index.extras);
        self.live += other.live;
        self.dirty = true;
        None
    }

    /// Keeps the first `keep_points` live points and returns the rest. A resource, scope or metric that has points on
    /// both sides is in both.
    pub fn split_off(&mut self, keep_points: usize) -> Batch {
        if keep_points >= self.live {
            return Batch::default();
        }
        if keep_points == 0 {
            return std::mem::take(self);
        }
        if self.shuffled {
            self.compact();
        }
        self.freeze();
        let mut kept = 0;
        let cut = self.index.points.iter().position(|point| {
            kept += usize::from(point.is_live());
            kept > keep_points
        });
        let Some(cut) = cut else { return Batch::default() };
        let index = self.index.split_off(cut);
        let (bytes, live) = (self.bytes.clone(), self.live - keep_points);
        let rest = Batch { bytes, index, live, dirty: true, ..Batch::default() };
        self.live = keep_points;
        self.dirty = true;
        rest
    }

    /// Frees what dropped points and superseded edits still hold: the batch becomes what it encodes to. Ids change.
    pub fn compact(&mut self) {
        if !self.dirty {
            return;
        }
        // What a batch encodes to is well-formed; should it not be, the batch stays as it is.
        let Ok(mut fresh) = Batch::decode(self.encode(), &Limits::NONE) else { return };
        let points = self.resources().flat_map(|resource| resource.metrics()).flat_map(|metric| metric.points());
        let verdicts = points.map(|point| self.verdict(point.id()));
        fresh.index.points.iter_mut().zip(verdicts).for_each(|(point, verdict)| point.verdict = verdict);
        *self = fresh;
    }

    /// Makes the arena part of the shared bytes.
    fn freeze(&mut self) {
        if !self.arena.is_empty() {
            let mut joined = Vec::with_capacity(self.bytes.len() + self.arena.len());
            joined.extend_from_slice(&self.bytes);
            joined.append(&mut self.arena);
            self.arena = Vec::new();
            self.bytes = Bytes::from(joined);
            self.dirty = true;
        }
    }
}

impl Index {
    fn shift_bytes(&mut self, base: u32) {
        let shift = |spans: &mut [&mut Span]| spans.iter_mut().for_each(|span| span.start += base);
        for entry in &mut self.resources {
            let ResourceEntry { whole, head, tail, own, body, schema_url, .. } = entry;
            shift(&mut [whole, head, tail, own, body, schema_url]);
        }
        for entry in &mut self.scopes {
            let ScopeEntry { whole, head, tail, body, name, version, schema_url, .. } = entry;
            shift(&mut [whole, head, tail, body, name, version, schema_url]);
        }
        for entry in &mut self.metrics {
            let MetricEntry { whole, head, tail, data_head, data_tail, name, description, unit, .. } = entry;
            shift(&mut [whole, head, tail, data_head, data_tail, name, description, unit]);
        }
        for entry in &mut self.points {
            entry.at += base;
            entry.body.start += base;
        }
        self.extras.iter_mut().for_each(|span| span.start += base);
    }

    /// Moves every position by as many places.
    fn shift_entries(&mut self, resources: u32, scopes: u32, metrics: u32, points: u32, by: fn(u32, u32) -> u32) {
        let shift = |range: &mut Range<u32>, n| *range = by(range.start, n)..by(range.end, n);
        self.resources.iter_mut().for_each(|entry| shift(&mut entry.scopes, scopes));
        for entry in &mut self.scopes {
            entry.resource = by(entry.resource, resources);
            shift(&mut entry.metrics, metrics);
            if entry.shape > 0 {
                entry.shape = by(entry.shape, scopes);
            }
        }
        for entry in &mut self.metrics {
            entry.scope = by(entry.scope, scopes);
            shift(&mut entry.points, points);
        }
        self.points.iter_mut().for_each(|entry| entry.metric = by(entry.metric, metrics));
    }

    /// Splits before the point at `cut`; the branch that leads to it is on both sides.
    fn split_off(&mut self, cut: usize) -> Index {
        let metric = self.points[cut].metric;
        let scope = self.metrics[metric as usize].scope;
        let resource = self.scopes[scope as usize].resource;
        let mut right = Index {
            resources: self.resources[resource as usize..].to_vec(),
            scopes: self.scopes[scope as usize..].to_vec(),
            metrics: self.metrics[metric as usize..].to_vec(),
            points: self.points.split_off(cut),
            extras: Vec::new(),
        };
        self.resources.truncate(resource as usize + 1);
        self.scopes.truncate(scope as usize + 1);
        self.metrics.truncate(metric as usize + 1);
        right.name_shapes(scope);
        right.shift_entries(resource, scope, metric, cut as u32, u32::saturating_sub);
        self.clip(self.metrics.len() - 1);
        right.clip(0);
        right
    }

    /// Names the shapes anew, as if the scopes had been decoded by themselves; to be shifted with the entries.
    fn name_shapes(&mut self, before: u32) {
        let mut names: HashMap<u32, u32> = HashMap::new();
        for (place, entry) in (1u32..).zip(&mut self.scopes).filter(|(_, entry)| entry.shape > 0) {
            entry.shape = *names.entry(entry.shape).or_insert(before + place);
        }
    }

    /// Brings the branch that leads to a metric at an end of the index in line with what the index still holds.
    fn clip(&mut self, at: usize) {
        let (scopes, metrics, points) = (self.scopes.len() as u32, self.metrics.len() as u32, self.points.len() as u32);
        let Some(metric) = self.metrics.get_mut(at) else { return };
        metric.points.end = metric.points.end.min(points);
        let held = self.points.get(slice(&metric.points)).unwrap_or_default();
        (metric.live, metric.live_bytes) = held
            .iter()
            .filter(|point| point.is_live())
            .fold((0, 0), |(live, bytes), point| (live + 1, bytes + point.encoded_len()));
        (metric.dirty, metric.thinned) = (true, true);
        let Some(scope) = self.scopes.get_mut(metric.scope as usize) else { return };
        scope.metrics.end = scope.metrics.end.min(metrics);
        let held = self.metrics.get(slice(&scope.metrics)).unwrap_or_default();
        scope.live = held.iter().map(|metric| metric.live).sum();
        (scope.dirty, scope.thinned, scope.shape) = (true, true, 0);
        let Some(resource) = self.resources.get_mut(scope.resource as usize) else { return };
        resource.scopes.end = resource.scopes.end.min(scopes);
        let held = self.scopes.get(slice(&resource.scopes)).unwrap_or_default();
        resource.live = held.iter().map(|scope| scope.live).sum();
        (resource.dirty, resource.thinned) = (true, true);
    }
}
