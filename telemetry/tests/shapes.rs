//! Shapes: what scopes of one batch have in common, and what is known by place, stays true through edits, joins and splits.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use phoenix_telemetry::{
    AnyValue, Batch, BatchBuilder, Descriptor, Limits, Number, PointId, ResourceId, Shape, Temporality,
};
use proptest::prelude::*;

const CPU: Descriptor<'_> = Descriptor {
    name: "cpu",
    unit: "s",
    description: "",
    shape: Shape::Sum { monotonic: true, temporality: Temporality::Cumulative },
};

/// A resource for each number: so many metrics, the first with as many points.
fn batch(kinds: &[u8], time: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    for (pid, kind) in (0..).zip(kinds) {
        let mut resource = builder.resource();
        resource.attribute("process.pid", pid);
        let mut scope = resource.scope("s", "1");
        for metric in 0..=*kind {
            let name = format!("cpu.{metric}");
            let mut metric = scope.metric(&Descriptor { name: &name, ..CPU });
            for state in 0..=i64::from(*kind) {
                metric.point(
                    1,
                    time * (i64::from(*kind) + state) as u64,
                    Number::Int(pid * 100 + state),
                    &[("state", AnyValue::Int(state))],
                );
            }
        }
    }
    Batch::decode(Bytes::from(builder.finish().encode().to_vec()), &Limits::default()).unwrap()
}

/// What is at each place of a scope.
type What = Vec<Option<(u64, String)>>;

/// Scopes of one shape have the same metrics and points at the same places.
fn hold(batch: &Batch) {
    for resource in batch.resources() {
        let times =
            || resource.metrics().flat_map(|metric| metric.points()).map(|point| point.time()).filter(|time| *time > 0);
        assert_eq!(resource.times(), times().min().zip(times().max()));
    }
    let mut first: Vec<Option<What>> = Vec::new();
    let scopes: Vec<_> = batch.resources().flat_map(|resource| resource.scopes()).collect();
    for scope in scopes {
        let what: Vec<_> = scope
            .points()
            .map(|point| point.map(|point| (point.metric().hash(), format!("{:?}", point.attributes()))))
            .collect();
        let places = scope.places();
        for (place, point) in scope.points().enumerate() {
            assert_eq!(places.get(place).map(|point| point.id()), point.map(|point| point.id()));
        }
        assert!(places.get(what.len()).is_none());
        let Some(shape) = scope.shape() else { continue };
        first.resize(first.len().max(shape + 1), None);
        match &first[shape] {
            None => first[shape] = Some(what),
            Some(known) => {
                assert_eq!(known.len(), what.len());
                let pairs = known.iter().zip(&what);
                assert!(
                    pairs.filter_map(|(a, b)| a.as_ref().zip(b.as_ref())).all(|(a, b)| a == b),
                    "{known:?} {what:?}"
                );
            }
        }
    }
}

#[test]
fn scopes_that_repeat_are_of_one_shape() {
    let batch = batch(&[0, 2, 0, 2, 0], 5);
    let shapes: Vec<_> = batch.resources().flat_map(|resource| resource.scopes()).map(|scope| scope.shape()).collect();
    assert_eq!(shapes, [Some(1), Some(2), Some(1), Some(2), Some(1)]);
}

proptest! {
    #[test]
    fn shapes_hold_whatever_happens_to_a_batch(
        kinds in prop::collection::vec(0u8..3, 1..8),
        others in prop::collection::vec(0u8..3, 1..8),
        edits in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        drops in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut one, other) = (batch(&kinds, 5), batch(&others, 6));
        let ids: Vec<PointId> = one.series().map(|point| point.id()).collect();
        edits.iter().for_each(|edit| one.edit_point(*edit.get(&ids), |attributes| attributes.upsert("state", "other")));
        let mut gone: Vec<PointId> = drops.iter().map(|drop| *drop.get(&ids)).collect();
        gone.sort_unstable();
        let mut same = one.clone();
        one.drop_ids(&gone);
        same.drop_points(|point| gone.contains(&point.id()));
        prop_assert_eq!(one.encode(), same.encode());
        hold(&one);
        let resources: Vec<ResourceId> = one.resources().map(|resource| resource.id()).collect();
        if let Some(gone) = resources.first().filter(|_| resources.len() > 1) {
            one.drop_resource(*gone);
            same.drop_points(|point| point.metric().resource().id() == *gone);
            prop_assert_eq!(one.encode(), same.encode());
            prop_assert_eq!(one.points(), same.points());
            hold(&one);
        }
        let mut rest = one.split_off(cut.index(one.points() + 1));
        hold(&one);
        hold(&rest);
        prop_assert!(rest.append(other.clone()).is_none());
        hold(&rest);
        prop_assert!(one.append(rest).is_none());
        hold(&one);
        let mut again = other;
        prop_assert!(again.append(one).is_none());
        hold(&again);
    }
}
