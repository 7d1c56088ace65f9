//! The wire, with prost's decoder of `opentelemetry-proto` as the judge, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bytes::Bytes;
use common::mangle::mangle;
use common::{any_value, count, point_attributes, request, retain, same, text};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use phoenix_telemetry as phoenix;
use phoenix_telemetry::{Batch, DecodeError, DecodeErrorKind, Limits};
use proptest::prelude::*;
use prost::Message as _;

fn decode(bytes: &[u8]) -> Result<Batch, DecodeError> {
    Batch::decode(Bytes::copy_from_slice(bytes), &Limits::default())
}

/// What prost reads from the batch's output; compared as prost's own encoding, because NaN equals nothing.
fn reread(batch: &Batch) -> Vec<u8> {
    let bytes = batch.encode();
    assert_eq!(bytes.len(), batch.encoded_len());
    Request::decode(bytes).expect("the output is well-formed").encode_to_vec()
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn views_say_what_prost_encoded(request in request()) {
        let bytes = Bytes::from(request.encode_to_vec());
        // What was encoded, not what was meant: prost leaves out -0.0 where 0 is the default.
        let request = Request::decode(bytes.clone()).unwrap();
        let batch = Batch::decode(bytes.clone(), &Limits::default()).unwrap();
        same(&batch, &request);
        let encoded = batch.encode();
        prop_assert_eq!(encoded.as_ptr(), bytes.as_ptr(), "an untouched batch shares its input");
        prop_assert_eq!(encoded, bytes);
    }

    #[test]
    fn any_guise_of_a_request_reads_as_prost_reads_it(request in request(), seed: u64) {
        let bytes = mangle(&request.encode_to_vec(), seed);
        let wanted = Request::decode(bytes.as_slice()).unwrap();
        let batch = decode(&bytes).unwrap();
        same(&batch, &wanted);
        prop_assert_eq!(reread(&batch), wanted.encode_to_vec());
        // The same series whatever the guise, as far as the guise keeps the lists' order.
        let plain = decode(&wanted.encode_to_vec()).unwrap();
        let hashes = |batch: &Batch| batch.series().map(|point| point.series()).collect::<Vec<_>>();
        prop_assert_eq!(hashes(&batch), hashes(&plain));
        for (a, b) in batch.series().zip(plain.series()) {
            prop_assert!(a.same_series(b));
            prop_assert_eq!(a.relative().of(a.metric().resource().hash()), b.series());
        }
    }

    #[test]
    fn drops_agree(request in request(), seed: u64, guise: bool, keep in any::<u64>()) {
        let bytes = if guise { mangle(&request.encode_to_vec(), seed) } else { request.encode_to_vec() };
        let mut wanted = Request::decode(bytes.as_slice()).unwrap();
        let mut batch = decode(&bytes).unwrap();
        let keep = |n: usize| keep >> (n % 64) & 1 == 1;
        let before = batch.points();
        let mut n = 0;
        let dropped = batch.drop_points(|_| { n += 1; !keep(n - 1) });
        retain(&mut wanted, keep);
        prop_assert_eq!(before - dropped, count(&wanted));
        same(&batch, &wanted);
        prop_assert_eq!(reread(&batch), wanted.encode_to_vec());
        let again = decode(&batch.encode()).unwrap();
        let hashes = |batch: &Batch| batch.series().map(|point| point.series()).collect::<Vec<_>>();
        prop_assert_eq!(hashes(&batch), hashes(&again));
        batch.compact();
        same(&batch, &wanted);
    }

    #[test]
    fn edits_agree(
        request in request(), seed: u64, guise: bool,
        edits in proptest::collection::vec((0..4u8, text(), any_value(), any::<prop::sample::Index>(), any::<bool>()), 1..6),
    ) {
        let bytes = if guise { mangle(&request.encode_to_vec(), seed) } else { request.encode_to_vec() };
        let mut wanted = Request::decode(bytes.as_slice()).unwrap();
        let mut batch = decode(&bytes).unwrap();
        for (what, key, value, at, on_resource) in &edits {
            let holder = holder(value);
            let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
            let edit = |edits: &mut phoenix::AttributeEdits<'_>| {
                let value = holder.series().next().unwrap().attributes().get("v").unwrap();
                match what {
                    0 => drop(edits.insert(key, value)),
                    1 => drop(edits.update(key, value)),
                    2 => edits.upsert(key, value),
                    _ => drop(edits.delete(key)),
                }
            };
            if *on_resource {
                if wanted.resource_metrics.is_empty() { continue }
                let index = at.index(wanted.resource_metrics.len());
                let id = batch.resources().nth(index).unwrap().id();
                batch.edit_resource(id, edit);
                let resource = wanted.resource_metrics[index].resource.get_or_insert_default();
                apply(&mut resource.attributes, *what, key, value);
            } else {
                if ids.is_empty() { continue }
                let index = at.index(ids.len());
                batch.edit_point(ids[index], edit);
                apply(point_attributes(&mut wanted)[index], *what, key, value);
            }
        }
        same(&batch, &wanted);
        let again = decode(&batch.encode()).unwrap();
        same(&again, &wanted);
        for (a, b) in batch.series().zip(again.series()) {
            prop_assert_eq!(a.series(), b.series());
            prop_assert_eq!(a.metric().identity(), b.metric().identity());
        }
    }

    #[test]
    fn joining_is_concatenation_and_splitting_its_inverse(
        requests in proptest::collection::vec((request(), any::<u64>(), any::<bool>()), 1..4), size in 1..8usize,
    ) {
        let mut joined = Batch::default();
        let mut all = Vec::new();
        for (request, seed, ahead) in &requests {
            let bytes = mangle(&request.encode_to_vec(), *seed);
            let batch = decode(&bytes).unwrap();
            let left = if *ahead { joined.prepend(batch) } else { joined.append(batch) };
            prop_assert!(left.is_none());
            all.splice(if *ahead { 0..0 } else { all.len()..all.len() }, bytes);
        }
        let wanted = Request::decode(all.as_slice()).unwrap();
        same(&joined, &wanted);
        prop_assert_eq!(reread(&joined), wanted.encode_to_vec());
        let metrics = || joined.resources().flat_map(|resource| resource.metrics());
        let hashes: Vec<_> = metrics().flat_map(|metric| metric.points()).map(|point| point.series()).collect();

        let total = joined.points();
        let mut parts = Vec::new();
        while joined.points() > size {
            let rest = joined.split_off(size);
            prop_assert_eq!(joined.points(), size);
            parts.push(std::mem::replace(&mut joined, rest));
        }
        parts.push(joined);
        prop_assert_eq!(parts.iter().map(Batch::points).sum::<usize>(), total);
        if parts.len() > 1 {
            let found: Vec<_> = parts.iter().flat_map(|part| part.series().map(|point| point.series())).collect();
            prop_assert_eq!(&found, &hashes);
        }
        // Each part stands for itself on the wire.
        let read: Vec<_> = parts.iter().map(|part| decode(&part.encode()).unwrap()).collect();
        let found: Vec<_> = read.iter().flat_map(|part| part.series().map(|point| point.series())).collect();
        prop_assert_eq!(found, hashes);
        for (part, read) in parts.iter().zip(&read) {
            prop_assert_eq!(part.encoded_len(), part.encode().len());
            same(part, &Request::decode(read.encode()).unwrap());
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused_as_by_prost(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        judge(&bytes)?;
    }

    #[test]
    fn damaged_requests_are_read_or_refused_as_by_prost(
        request in request(), seed: u64, guise: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = if guise { mangle(&request.encode_to_vec(), seed) } else { request.encode_to_vec() };
        prop_assume!(!bytes.is_empty());
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        judge(&bytes)?;
    }

    #[test]
    fn repeated_scopes_are_read_like_any_other(
        request in request(), seed: u64, guise: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        // The same request over and over is what exporters send but for the numbers, and what the decoder has a short
        // cut for; the damage is in the numbers or makes the short cut wrong.
        let once = if guise { mangle(&request.encode_to_vec(), seed) } else { request.encode_to_vec() };
        prop_assume!(!once.is_empty());
        let mut bytes = once.repeat(3);
        for (at, byte) in damage {
            let at = once.len() + at.index(once.len());
            bytes[at] = byte;
        }
        judge(&bytes)?;
        let Ok(batch) = decode(&bytes) else { return Ok(()) };
        // Alone, each point has the identity that it has among its like.
        let mut alone = Vec::new();
        for part in [&bytes[..once.len()], &bytes[once.len()..2 * once.len()], &bytes[2 * once.len()..]] {
            match decode(part) {
                Ok(part) => alone.extend(part.series().map(|point| point.series())),
                Err(_) => return Ok(()),
            }
        }
        prop_assert_eq!(batch.series().map(|point| point.series()).collect::<Vec<_>>(), alone);
    }

    #[test]
    fn a_truncated_request_is_an_error_or_a_shorter_request(request in request(), seed: u64) {
        let bytes = mangle(&request.encode_to_vec(), seed);
        prop_assume!(bytes.len() < 5_000);
        for end in 0..bytes.len() {
            judge(&bytes[..end])?;
        }
    }
}

/// A batch whose only point has the value as attribute `v`.
fn holder(value: &AnyValue) -> Batch {
    use opentelemetry_proto::tonic::metrics::v1::*;
    let pair = KeyValue { key: "v".into(), value: Some(value.clone()), ..Default::default() };
    let point = NumberDataPoint { attributes: vec![pair], ..Default::default() };
    let metric = Metric { data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })), ..Default::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..Default::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
    decode(&Request { resource_metrics: vec![resource] }.encode_to_vec()).unwrap()
}

/// The same edit on structs.
fn apply(attributes: &mut Vec<KeyValue>, what: u8, key: &str, value: &AnyValue) {
    let found = attributes.iter().position(|pair| pair.key == key);
    let pair = KeyValue { key: key.to_owned(), value: Some(value.clone()), ..Default::default() };
    match (what, found) {
        (0 | 2, None) => attributes.push(pair),
        (1 | 2, Some(at)) => attributes[at] = pair,
        (3, _) => attributes.retain(|pair| pair.key != key),
        _ => {}
    }
}

/// Both read the bytes to the same, or both refuse them. Where they differ by design:
/// - prost skips groups (wire types 3 and 4) in unknown fields; here they are errors;
/// - prost limits nesting of all messages to 100; here attribute values may nest 64 deep.
fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
    let theirs = Request::decode(bytes);
    match (decode(bytes), theirs) {
        (Ok(batch), Ok(wanted)) => {
            same(&batch, &wanted);
            prop_assert_eq!(reread(&batch), wanted.encode_to_vec());
        }
        (Err(error), Ok(_)) => {
            let by_design = matches!(error.kind, DecodeErrorKind::WireType(3 | 4));
            prop_assert!(by_design, "prost reads what is refused here: {error}");
        }
        (Ok(_), Err(error)) => {
            prop_assert!(error.to_string().contains("recursion"), "prost refuses what is read here: {error}");
        }
        (Err(error), Err(_)) => prop_assert!(error.offset <= bytes.len()),
    }
    Ok(())
}
