//! Arbitrary bytes as an OTLP metrics request: never a panic, read or refused as by prost, and whatever is done to a
//! batch leaves it well-formed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use phoenix_telemetry::{AnyValue, Batch, DecodeErrorKind, Limits, Point, json};
use prost::Message as _;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let theirs = Request::decode(data);
    match Batch::decode(Bytes::copy_from_slice(data), &limits) {
        Err(error) => {
            assert!(error.offset <= data.len(), "{error}");
            // prost skips groups; here they are errors. Everything else that prost reads is read.
            let by_design = matches!(error.kind, DecodeErrorKind::WireType(3 | 4));
            assert!(theirs.is_err() || by_design, "prost reads what is refused: {error}");
        }
        Ok(batch) => match theirs {
            Ok(request) => check(batch, &request),
            // prost limits the nesting of all messages to 100, which 64 attribute values in each other exceed.
            Err(error) => assert!(error.to_string().contains("recursion"), "prost refuses what is read: {error}"),
        },
    }
});

fn decode(bytes: Bytes) -> Batch {
    Batch::decode(bytes, &Limits::default()).expect("what was encoded is well-formed")
}

/// Looks at everything a point shows; returns its identity.
fn look(point: Point<'_>) -> u64 {
    let mut n = point.attributes().iter().map(|(key, value)| key.len() + value.to_string().len()).sum::<usize>();
    n += point.exemplars().map(|exemplar| exemplar.attributes().len()).sum::<usize>();
    n += point.histogram().map_or(0, |view| view.bucket_counts().count() + view.explicit_bounds().count());
    n += point
        .exponential_histogram()
        .map_or(0, |view| view.positive().counts().count() + view.negative().counts().count());
    n += point.summary().map_or(0, |view| view.quantiles().count());
    n += point.metric().name().len() + point.metric().metadata().len();
    std::hint::black_box(n);
    assert!(point.same_series(point));
    point.series()
}

fn check(mut batch: Batch, request: &Request) {
    let wanted = request.encode_to_vec();
    let read = |batch: &Batch| Request::decode(batch.encode()).expect("prost reads what was encoded");
    let series = |batch: &Batch| batch.series().map(look).collect::<Vec<_>>();
    assert_eq!(read(&batch).encode_to_vec(), wanted);
    let all = series(&batch);
    assert_eq!(series(&decode(batch.encode())), all);

    let mut out = Vec::new();
    json::write(&batch, &mut out);
    // Unbounded here, because serde_json stops at 128 levels and attributes may need more.
    if let Ok(bytes) = json::read(&out, &Limits::default()) {
        assert_eq!(decode(Bytes::from(bytes)).points(), batch.points());
    }

    // Drop every second point, edit what is left, join with the untouched batch, split it again.
    let whole = batch.clone();
    let mut n = 0;
    batch.drop_points(|_| {
        n += 1;
        n % 2 == 0
    });
    let points: Vec<_> = batch.series().map(|point| point.id()).collect();
    let resources: Vec<_> = batch.resources().map(|resource| resource.id()).collect();
    for id in points.iter().step_by(2) {
        batch.edit_point(*id, |attributes| {
            attributes.upsert("state", "user");
            attributes.delete("");
        });
    }
    for id in resources {
        batch.edit_resource(id, |attributes| {
            attributes.insert("host.name", "a");
            attributes.update("k", AnyValue::Int(7));
        });
    }
    assert_eq!(batch.encode().len(), batch.encoded_len());
    assert_eq!(series(&decode(batch.encode())), series(&batch));
    read(&batch);
    let left = batch.points();
    assert!(batch.append(whole).is_none());
    assert_eq!(batch.points(), left + all.len());
    assert_eq!(series(&decode(batch.encode())), series(&batch));
    let together = series(&batch);
    let rest = batch.split_off(left.max(1));
    let mut apart = series(&decode(batch.encode()));
    apart.extend(series(&decode(rest.encode())));
    assert_eq!(apart, together);
}
