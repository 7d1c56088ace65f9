//! What is kept beyond a batch is what would be found anew.

use phoenix_telemetry::{Batch, BatchBuilder, Descriptor, Shape, Temporality};
use proptest::prelude::*;

use super::*;

/// A point: its metric, whether that counts, its label, and its value.
type Sent = (u8, bool, u8, Number);
/// A scope: its name, its points, and one of them that is taken out.
type OfScope = (u8, Vec<Sent>, Option<usize>);

fn batch(scopes: &[OfScope], time: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    for (name, points, _) in scopes {
        let mut resource = builder.resource();
        resource.attribute("process.pid", 7);
        let mut scope = resource.scope(&format!("scope {name}"), "");
        for (metric, monotonic, label, value) in points {
            let name = format!("metric.{metric}");
            let shape = Shape::Sum { monotonic: *monotonic, temporality: Temporality::Cumulative };
            let metric = Descriptor { name: &name, unit: "s", description: "", shape };
            scope.metric(&metric).point(time / 2, time, *value, &[("label", i64::from(*label).into())]);
        }
    }
    let mut batch = builder.finish();
    let lost = |(scope, (_, points, lost)): (_, &OfScope)| Some((scope, (*lost)? % points.len()));
    let lost: Vec<_> = scopes.iter().enumerate().filter_map(lost).collect();
    let all: Vec<_> = batch.resources().flat_map(|resource| resource.scopes()).collect();
    let ids: Vec<_> =
        lost.iter().filter_map(|(scope, place)| Some(all.get(*scope)?.places().get(*place)?.id())).collect();
    batch.drop_ids(&ids);
    batch
}

fn scopes() -> impl Strategy<Value = Vec<OfScope>> {
    let number = prop_oneof![(0..3i64).prop_map(Number::Int), (0..3u8).prop_map(|n| Number::Double(n.into()))];
    let points = proptest::collection::vec((0..2u8, any::<bool>(), 0..2u8, number), 1..4);
    proptest::collection::vec((0..2u8, points, proptest::option::weighted(0.2, 0..4usize)), 1..6)
}

fn same_ident(a: &Arc<Ident>, b: &Arc<Ident>) -> bool {
    Arc::ptr_eq(a, b)
}

proptest! {
    #[test]
    fn what_is_kept_is_what_is_found_anew(batches in proptest::collection::vec((scopes(), any::<bool>()), 1..12)) {
        let (mut interner, config) = (Interner::default(), Config::default());
        let mut kept = Layouts::default();
        for ((scopes, summed), time) in batches.iter().zip(10..) {
            let fold = AttributeFold { metric: "metric.1".into(), attribute: "label".into() };
            let folds = if *summed { vec![fold] } else { Vec::new() };
            let batch = batch(scopes, time);
            let mut plain = Layouts::default();
            [&mut kept, &mut plain].into_iter().for_each(|layouts| layouts.begin(&folds));
            for scope in batch.resources().flat_map(|resource| resource.scopes()) {
                let [at, other] = [&mut kept, &mut plain].map(|layouts| layouts.of(scope, &mut interner, &config));
                prop_assert_eq!(kept.from(at).len(), scope.places().len());
                for (place, point) in scope.points().enumerate() {
                    let Some(point) = point else { continue };
                    let own = kept.meaning((at, place), point, &mut interner, &config).unwrap();
                    let its = plain.meaning((other, place), point, &mut interner, &config).unwrap();
                    prop_assert!(same_ident(&own.ident, &its.ident));
                    prop_assert_eq!((own.kind, own.usual), (its.kind, its.usual));
                    let rests = [own, its].map(|meaning| meaning.rest.as_ref());
                    prop_assert_eq!(rests[0].is_some(), rests[1].is_some());
                    if let [Some(own), Some(its)] = rests {
                        prop_assert!(same_ident(&own.ident, &its.ident) && own.without == its.without);
                    }
                }
                if scope.column().is_some() {
                    let own = kept.column(at, scope, &mut interner).map(|(layout, _)| Arc::clone(layout));
                    let its = plain.column(other, scope, &mut interner).map(|(layout, _)| Arc::clone(layout));
                    prop_assert_eq!(own.map(|layout| layout.id), its.map(|layout| layout.id));
                }
            }
            let points = |known: &Known| known.outline.as_ref().map_or(0, |(_, outline)| outline.points());
            prop_assert_eq!(kept.kept, kept.known.iter().map(points).sum::<usize>());
            prop_assert_eq!(kept.by_likeness.len(), kept.known.iter().filter(|known| known.outline.is_some()).count());
        }
    }
}

#[test]
fn a_scope_that_comes_again_is_not_looked_up_again_and_what_is_kept_is_bounded() {
    let (mut interner, config) = (Interner::default(), Config::default());
    let mut layouts = Layouts::default();
    let mut see = |scopes: &[OfScope], time: u64| {
        let batch = batch(scopes, time);
        layouts.begin(&[]);
        for scope in batch.resources().flat_map(|resource| resource.scopes()) {
            layouts.of(scope, &mut interner, &config);
        }
        (layouts.known.len(), layouts.kept)
    };
    let point = |label: u8| (1, true, label, Number::Int(1));
    let small = (1, vec![point(1), point(2)], None);
    assert_eq!(see(std::slice::from_ref(&small), 10), (1, 2));
    assert_eq!(see(&[small.clone(), (2, vec![point(3)], None)], 20), (2, 3));
    assert_eq!(see(std::slice::from_ref(&small), 30), (2, 3), "both are kept");
    let large = |name: u8| (name, vec![point(name); KEPT / 2], None);
    assert_eq!(see(&[large(3), large(4), small.clone()], 40), (4, 3 + KEPT / 2), "the second finds no room");
    assert_eq!(see(&[small], 50), (1, 2), "and all begins anew");
}
