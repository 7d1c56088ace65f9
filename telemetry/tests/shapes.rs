//! Shapes: what scopes of one batch have in common, and what is known by place, stays true through edits, joins and splits.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use phoenix_telemetry::{
    AnyValue, Batch, BatchBuilder, Descriptor, Limits, Number, PointId, ResourceId, Scope, Shape, Temporality,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

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
                // Of one kind all points are of one time, and some have no start.
                let (start, time) = match kind {
                    1 => (if name == "cpu.0" { 1 + pid as u64 } else { 0 }, time),
                    _ => (1, time * (i64::from(*kind) + state) as u64),
                };
                metric.point(start, time, Number::Int(pid * 100 + state), &[("state", AnyValue::Int(state))]);
            }
        }
    }
    Batch::decode(Bytes::from(builder.finish().encode().to_vec()), &Limits::default()).unwrap()
}

/// What is at each place of a scope; whether the point has a start, where the scope is a column.
type What = Vec<Option<(u64, String, Option<bool>)>>;

/// A column says what the points say; whether there is one.
fn column(scope: Scope<'_>) -> bool {
    let points: Vec<_> = scope.points().collect();
    let times: BTreeSet<_> = points.iter().flatten().map(|point| point.time()).collect();
    let starts: BTreeSet<_> = points.iter().flatten().map(|point| point.start_time()).filter(|at| *at > 0).collect();
    let Some(column) = scope.column() else { return false };
    assert!(points.iter().all(Option::is_some) && scope.shape().is_some());
    assert_eq!((times.first(), times.len()), (Some(&column.time()), 1));
    assert_eq!(starts.into_iter().collect::<Vec<_>>(), Vec::from_iter(Some(column.start()).filter(|start| *start > 0)));
    let ids: Vec<_> = points.iter().flatten().map(|point| point.id()).collect();
    assert_eq!(column.ids().collect::<Vec<_>>(), ids);
    let bits: Vec<_> = points.iter().flatten().map(|point| point.value().unwrap().bits()).collect();
    assert_eq!(column.bits().to_vec(), bits);
    assert_eq!((0..=bits.len()).map_while(|place| column.at(place)).collect::<Vec<_>>(), bits);
    true
}

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
            .map(|point| {
                let point = point?;
                let has_start = column(scope).then(|| point.start_time() > 0);
                Some((point.metric().hash(), format!("{:?}", point.attributes()), has_start))
            })
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
                    pairs
                        .filter_map(|(a, b)| a.as_ref().zip(b.as_ref()))
                        .all(|(a, b)| (a.0, &a.1) == (b.0, &b.1) && a.2.zip(b.2).is_none_or(|(a, b)| a == b)),
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

#[test]
fn points_of_one_time_are_a_column() {
    let batch = batch(&[1, 2, 1], 5);
    let columns: Vec<_> = batch.resources().flat_map(|resource| resource.scopes()).map(column).collect();
    assert_eq!(columns, [true, false, true]);
}

#[test]
fn a_start_that_is_said_to_be_nothing_is_no_start() {
    // Times and value of an integer, with a start of 0 and without any.
    let point = |start: &[u8]| [start, &[0x19, 1, 0, 0, 0, 0, 0, 0, 0, 0x31, 2, 0, 0, 0, 0, 0, 0, 0]].concat();
    let said = point(&[0x11, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (point, expected) in [(point(&[]), true), (said, false)] {
        let mut request = Vec::new();
        let opened = [1, 2, 2, 5, 1].map(|field| phoenix_telemetry::write::open(&mut request, field));
        request.extend_from_slice(&point);
        for at in opened.into_iter().rev() {
            let end = request.len();
            phoenix_telemetry::write::close(&mut request, at, end);
        }
        let batch = Batch::decode(Bytes::from(request), &Limits::default()).unwrap();
        assert!(batch.resources().flat_map(|resource| resource.scopes()).all(|scope| column(scope) == expected));
        assert_eq!(batch.points(), 1);
    }
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
