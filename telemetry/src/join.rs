//! Joining and splitting batches: ranges of the index move, bytes are not looked at again.

use crate::batch::Batch;
use crate::error::Limits;
use crate::index::{Index, ResourceEntry, Span, Verdict, slice};
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
        if other.index.is_empty() {
            return None;
        }
        if self.index.is_empty() {
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
        index.shift(base, if ahead { 0 } else { self.index.resources.len() as u32 }, &self.index);
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
        self.index.bits.append(&mut index.bits);
        self.index.verdicts.append(&mut index.verdicts);
        self.index.texts.append(&mut index.texts);
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
        let cut = self.index.verdicts.iter().position(|verdict| {
            kept += usize::from(*verdict != Verdict::Drop);
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
        fresh.index.verdicts.iter_mut().zip(verdicts).for_each(|(own, verdict)| *own = verdict);
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
    /// Moves all that is said of places behind what `ahead` holds: bytes by `base`, resources by as many as given. What is in the
    /// tables speaks of places in its scope and needs no look.
    fn shift(&mut self, base: u32, resources: u32, ahead: &Index) {
        let shift = |spans: &mut [&mut Span]| spans.iter_mut().for_each(|span| span.start += base);
        let further = |range: &mut Range<u32>, n: usize| *range = range.start + n as u32..range.end + n as u32;
        for entry in &mut self.resources {
            let ResourceEntry { whole, head, tail, own, body, schema_url, scopes, .. } = entry;
            shift(&mut [whole, head, tail, own, body, schema_url]);
            further(scopes, ahead.scopes.len());
        }
        let places = ahead.places();
        for entry in &mut self.scopes {
            entry.whole.start += base;
            entry.text += ahead.texts.len() as u32;
            further(&mut entry.metrics, ahead.metrics.len());
            further(&mut entry.points, ahead.bits.len());
            entry.entries += ahead.points.len() as u32;
            entry.by = entry.by.wrapping_add(base);
            entry.place += places;
            entry.resource += resources;
            if entry.shape > 0 {
                entry.shape += ahead.scopes.len() as u32;
            }
        }
        self.extras.iter_mut().for_each(|span| span.start += base);
    }

    /// Splits before the point at `cut`; the branch that leads to it is on both sides.
    fn split_off(&mut self, cut: usize) -> Index {
        let Some(at) = self.scope_of(cut as u32) else { return Index::default() };
        self.own(at);
        let Some(scope) = self.scopes.get_mut(at) else { return Index::default() };
        let place = cut as u32 - scope.points.start;
        let metric =
            self.points.get(scope.table()).and_then(|all| all.get(place as usize)).map_or(0, |point| point.metric);
        let mut rest = scope.clone();
        rest.metrics.start += metric;
        rest.place += metric;
        rest.entries += place;
        rest.points.start = cut as u32;
        scope.metrics.end = rest.metrics.start + 1;
        scope.points.end = cut as u32;
        let resource = scope.resource as usize;
        let resources = self.resources.get(resource..).unwrap_or_default().to_vec();
        let scopes = std::iter::once(rest).chain(self.scopes.drain(at + 1..)).collect();
        let (bits, verdicts) = (self.bits.split_off(cut), self.verdicts.split_off(cut));
        let mut right = Index { resources, scopes, bits, verdicts, ..Index::default() };
        right.house(self);
        right.begin(at as u32, metric, place);

        self.resources.truncate(resource + 1);
        if let Some(last) = self.resources.last_mut() {
            last.scopes.end = at as u32 + 1;
        }
        if let Some(last) = self.scopes.last().and_then(|scope| self.metrics.get_mut(scope.metrics.end as usize - 1)) {
            last.points.end = place;
        }
        let held = self.scopes.iter().map(|scope| (scope.metrics.end as usize, scope.table().end));
        let (metrics, points) = held.fold((0, 0), |most, held| (most.0.max(held.0), most.1.max(held.1)));
        self.metrics.truncate(metrics);
        self.points.truncate(points);
        self.recount(at);
        right.recount(0);
        right
    }

    /// Takes the entries of its scopes from the index that they were part of.
    fn house(&mut self, from: &Index) {
        let (mut texts, mut known) = (HashMap::new(), HashMap::new());
        for scope in &mut self.scopes {
            let next = self.texts.len() as u32;
            let text = *texts.entry(scope.text).or_insert(next);
            if text == next {
                self.texts.extend(from.texts.get(scope.text as usize));
            }
            scope.text = text;
            let (metrics, points) = (slice(&scope.metrics), scope.table());
            let new = (self.metrics.len() as u32, self.points.len() as u32);
            let place = if scope.shared { *known.entry(scope.metrics.start).or_insert(new) } else { new };
            if place == new {
                self.metrics.extend_from_slice(from.metrics.get(metrics.clone()).unwrap_or_default());
                self.points.extend_from_slice(from.points.get(points).unwrap_or_default());
            }
            scope.metrics = place.0..place.0 + metrics.len() as u32;
            scope.entries = place.1;
        }
    }

    /// Counts all from here: `scopes` were ahead of it, and so many metrics and points of the first scope, whose entries are its
    /// own.
    fn begin(&mut self, scopes: u32, metrics: u32, points: u32) {
        if let Some(first) = self.scopes.first() {
            for metric in self.metrics.get_mut(slice(&first.metrics)).unwrap_or_default() {
                let Range { start, end } = metric.points;
                metric.points = start.saturating_sub(points)..end.saturating_sub(points);
            }
            for point in self.points.get_mut(first.table()).unwrap_or_default() {
                point.metric = point.metric.saturating_sub(metrics);
            }
        }
        for resource in &mut self.resources {
            let Range { start, end } = resource.scopes;
            resource.scopes = start.saturating_sub(scopes)..end.saturating_sub(scopes);
        }
        let base = self.scopes.first().map(|first| (first.resource, first.place, first.points.start));
        let (resource, place, point) = base.unwrap_or_default();
        // Shapes are named anew, as if the scopes had been decoded by themselves.
        let mut names: HashMap<u32, u32> = HashMap::new();
        for (at, scope) in (1..).zip(&mut self.scopes) {
            scope.resource -= resource;
            scope.place -= place;
            scope.points = scope.points.start - point..scope.points.end - point;
            if scope.shape > 0 {
                scope.shape = *names.entry(scope.shape).or_insert(at);
            }
        }
    }

    /// Brings the counts of a scope, and of its branch, in line with the points it still has.
    fn recount(&mut self, scope: usize) {
        self.count(scope);
        let Some(scope) = self.scopes.get_mut(scope) else { return };
        let metrics = self.metrics.get(slice(&scope.metrics)).unwrap_or_default();
        scope.live = metrics.iter().map(|metric| metric.live).sum();
        (scope.dirty, scope.thinned, scope.shape) = (true, true, 0);
        let Some(resource) = self.resources.get_mut(scope.resource as usize) else { return };
        resource.live =
            self.scopes.get(slice(&resource.scopes)).unwrap_or_default().iter().map(|scope| scope.live).sum();
        (resource.dirty, resource.thinned) = (true, true);
    }
}
