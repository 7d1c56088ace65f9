//! Resources that were written from a pattern: what is known of the pattern need not be read again.

use super::Scan;
use crate::again::Pattern;
use crate::index::{Common, ResourceEntry, ScopeEntry, Span};
use std::sync::Arc;

/// A resource that was written from a pattern.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Where the field begins, and its message.
    pub(crate) whole: usize,
    pub(crate) body: usize,
    /// Its own entry, its positions as in the pattern's head.
    pub(crate) entry: ResourceEntry,
    /// Its pattern's place among [`Written::patterns`].
    pub(crate) pattern: usize,
    /// Unix nanoseconds; not 0.
    pub(crate) time: u64,
}

/// What a builder wrote from patterns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    /// In the order of the bytes.
    pub(crate) resources: Vec<Known>,
    pub(crate) patterns: Vec<Arc<Pattern>>,
    /// Start (0 where the point has none) and bits of the value of all their points.
    pub(crate) numbers: Vec<(u64, u64)>,
}

/// Where the tables of a pattern lie among those of the index, and the first of its shapes.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    texts: u32,
    metrics: u32,
    points: u32,
    shape: u32,
}

impl Scan<'_> {
    /// Indexes the resource at an offset, if it is the next one that was written from a pattern; whether it is.
    pub(super) fn known(&mut self, whole: usize, end: usize) -> bool {
        let Some(known) = self.written.resources.get(self.next_known).filter(|known| known.whole == whole) else {
            return false;
        };
        let Some(pattern) = self.written.patterns.get(known.pattern) else { return false };
        self.next_known += 1;
        let index = &mut self.index;
        let of = &pattern.index;
        if self.placed.len() <= known.pattern {
            self.placed.resize(known.pattern + 1, None);
        }
        let placed = *self.placed[known.pattern].get_or_insert_with(|| {
            let (texts, metrics) = (index.texts.len() as u32, index.metrics.len() as u32);
            let placed = Placed { texts, metrics, points: index.points.len() as u32, shape: index.scopes.len() as u32 };
            index.texts.extend_from_slice(&of.texts);
            index.metrics.extend_from_slice(&of.metrics);
            index.points.extend_from_slice(&of.points);
            placed
        });
        let id = index.resources.len();
        let by = (known.body as u32).wrapping_sub(known.entry.head.start);
        let mut entry = known.entry.moved(by);
        (entry.whole, entry.tail) = (Span::new(whole, end), Span::new(end, end));
        let first = index.scopes.len() as u32;
        let by = entry.head.end().wrapping_sub(pattern.begin);
        for scope in &of.scopes {
            let numbers = self.written.numbers.get(self.next_number..self.next_number + scope.points.len());
            let numbers = numbers.unwrap_or_default();
            self.next_number += numbers.len();
            let start = numbers.iter().map(|(start, _)| *start).max().unwrap_or_default();
            let shared = numbers.iter().all(|(own, _)| *own == start || *own == 0);
            let points = index.bits.len() as u32;
            index.bits.extend(numbers.iter().map(|(_, bits)| *bits));
            let metrics = scope.metrics.start + placed.metrics..scope.metrics.end + placed.metrics;
            let fresh = ScopeEntry {
                whole: scope.whole.moved(by),
                text: scope.text + placed.texts,
                shape: scope.shape + placed.shape,
                common: Common { start, time: known.time },
                resource: id as u32,
                metrics,
                entries: scope.entries + placed.points,
                by: scope.by.wrapping_add(by),
                place: index.places(),
                points: points..index.bits.len() as u32,
                shared: true,
                ..scope.clone()
            };
            index.scopes.push(fresh);
            if !shared {
                // The starts are not one, so each point keeps its own.
                let table = index.own(index.scopes.len() - 1);
                index.scopes.last_mut().into_iter().for_each(|scope| scope.common = Common::default());
                let points = index.points.get_mut(table).unwrap_or_default();
                points.iter_mut().zip(numbers).for_each(|(point, (start, _))| point.start_time = *start);
            }
        }
        entry.scopes = first..index.scopes.len() as u32;
        entry.live = index.scopes.get(first as usize..).unwrap_or_default().iter().map(|scope| scope.live).sum();
        index.resources.push(entry);
        index.identify(id);
        true
    }
}
