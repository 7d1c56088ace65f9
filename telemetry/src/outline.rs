//! What scopes of different batches have in common: an [`Outline`] is a scope's message but for its numbers.
//!
//! A sender says the same names and attributes every few seconds. In a batch, [`Scope::shape`] says which scopes are alike; this
//! says it beyond the batch, by comparing all bytes that are no numbers, so what was found out about the one holds for the other.

use crate::decode::{alike, place};
use crate::hash;
use crate::index::{Span, ValueKind};
use crate::view::Scope;

/// A scope but for the start times, times and values of its points.
#[derive(Debug, Clone)]
pub struct Outline {
    bytes: Box<[u8]>,
    /// Where the numbers of each point begin, and of which type its value is.
    cores: Box<[(u32, ValueKind)]>,
}

impl<'a> Scope<'a> {
    /// Its message, if it has a shape and all its points.
    fn whole_message(self) -> Option<&'a [u8]> {
        let (begin, end) = (self.text().head.moved(self.entry.by).start, self.entry.whole.end());
        let is_whole = self.entry.shape > 0 && !self.entry.dirty;
        is_whole.then(|| self.batch.slice(Span::new(begin as usize, end as usize)))
    }

    /// What it has in common with its like of other batches; `None` where it has no shape, lost points, or has a point that is no
    /// number, or whose time and value do not lie in one piece.
    pub fn outline(self) -> Option<Outline> {
        let bytes = self.whole_message()?;
        let head = self.text().head.start;
        let points = self.batch.index.points.get(self.entry.table()).filter(|points| !points.is_empty())?;
        let cores = points.iter().map(|point| (point.core > 0).then(|| (place(point, head) as u32, point.value)));
        let outline = Outline { cores: cores.collect::<Option<_>>()?, bytes: bytes.into() };
        self.is_like(&outline).then_some(outline)
    }

    /// Whether it has that outline: it and the one that this was taken of are as two scopes of one shape.
    pub fn is_like(self, outline: &Outline) -> bool {
        let Some(new) = self.whole_message().filter(|new| new.len() == outline.bytes.len()) else { return false };
        let cores = outline.cores.iter().map(|(at, value)| (*at as usize, *value, ()));
        alike(cores, &outline.bytes, new, |(), _| {})
    }

    /// A stable hash of what identifies its points, whatever its resource: scopes of one outline have the same.
    pub fn likeness(self) -> u64 {
        let points = self.batch.index.points.get(self.entry.table()).unwrap_or_default();
        points.iter().fold(self.entry.hash, |hash, point| {
            hash::combine(hash, point.metric_hash.wrapping_add(point.attributes.rotate_left(32)))
        })
    }
}

impl Outline {
    /// How many points such a scope has.
    pub fn points(&self) -> usize {
        self.cores.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::build::{BatchBuilder, Descriptor, Shape};
    use crate::error::Limits;
    use crate::kind::{Number, Temporality};
    use proptest::prelude::*;

    const SUM: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };

    /// A scope of points: the name of the metric, the label, start and value.
    fn written(points: &[(u8, u8, u64, Number)]) -> Batch {
        let mut builder = BatchBuilder::new();
        let mut resource = builder.resource();
        resource.attribute("process.pid", 7);
        let mut scope = resource.scope("scope", "1");
        for (name, label, start, value) in points {
            let name = format!("metric.{name}");
            let metric = Descriptor { name: &name, unit: "s", description: "", shape: SUM };
            scope.metric(&metric).point(*start, 1 + start, *value, &[("label", i64::from(*label).into())]);
        }
        drop(scope);
        drop(resource);
        builder.finish()
    }

    fn points() -> impl Strategy<Value = Vec<(u8, u8, u64, Number)>> {
        let number = prop_oneof![(0..3i64).prop_map(Number::Int), (0..3u8).prop_map(|n| Number::Double(n.into()))];
        proptest::collection::vec((0..2u8, 0..2u8, 0..3u64, number), 1..4)
    }

    proptest! {
        /// In one batch the decoder finds the same by itself.
        #[test]
        fn scopes_are_alike_in_two_batches_if_they_are_of_one_shape_in_one(a in points(), b in points()) {
            let (one, other) = (written(&a), written(&b));
            let together = Batch::decode([one.encode(), other.encode()].concat().into(), &Limits::NONE).unwrap();
            let shapes: Vec<_> = together.resources().flat_map(|resource| resource.scopes()).map(Scope::shape).collect();
            let [one, other] = [&one, &other].map(|batch| batch.resources().next().unwrap().scopes().next().unwrap());
            let outline = one.outline().unwrap();
            prop_assert_eq!(outline.points(), a.len());
            prop_assert!(one.is_like(&outline));
            prop_assert_eq!(other.is_like(&outline), shapes[0] == shapes[1]);
            prop_assert!(!other.is_like(&outline) || other.likeness() == one.likeness());
        }
    }

    #[test]
    fn what_lost_or_changed_points_has_no_outline() {
        let mut batch = written(&[(1, 1, 5, Number::Int(1)), (2, 1, 5, Number::Int(2))]);
        let outline = |batch: &Batch| batch.resources().next().unwrap().scopes().next().unwrap().outline();
        let whole = outline(&batch).unwrap();
        let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
        batch.rewrite_points(&[(ids[0], 9, Number::Int(7))]);
        let is_like = |batch: &Batch| batch.resources().next().unwrap().scopes().next().unwrap().is_like(&whole);
        assert!(is_like(&batch));
        let mut edited = batch.clone();
        edited.edit_point(ids[1], |attributes| {
            attributes.insert("more", 1);
        });
        assert!(outline(&edited).is_none() && !is_like(&edited));
        batch.drop_ids(&ids[..1]);
        assert!(outline(&batch).is_none() && !is_like(&batch));
    }
}
