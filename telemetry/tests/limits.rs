//! What is refused, where the fault is said to be, and that hostile input cannot make the decoder take much memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, DecodeError, DecodeErrorKind as Kind, Descriptor, Limits};
use phoenix_telemetry::{Message, Number, Shape, Verdict};

fn decode(bytes: &[u8]) -> Result<Batch, DecodeError> {
    Batch::decode(Bytes::copy_from_slice(bytes), &Limits::default())
}

fn fault(bytes: &[u8]) -> (usize, Kind) {
    let error = decode(bytes).unwrap_err();
    (error.offset, error.kind)
}

/// Wraps a body in as many length-delimited fields, from the innermost number to the outermost.
fn wrap(numbers: &[u8], body: &[u8]) -> Vec<u8> {
    numbers.iter().fold(body.to_vec(), |body, number| {
        let mut out = vec![number << 3 | 2];
        let mut len = body.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(body);
        out
    })
}

/// A point's body in a sum, in a request.
const POINT: [u8; 5] = [1, 7, 2, 2, 1];

#[test]
fn every_fault_has_its_offset() {
    assert_eq!(fault(&[0x0A, 5, 0x0A]), (1, Kind::Truncated));
    assert_eq!(fault(&[0x0A]), (1, Kind::Truncated));
    assert_eq!(fault(&[0x00, 1]), (0, Kind::FieldNumber));
    assert_eq!(fault(&[0x0A, 2, 0x07, 0]), (2, Kind::FieldNumber));
    assert_eq!(fault(&[0x13]), (0, Kind::WireType(3)));
    assert_eq!(fault(&[0x0A, 1, 0x1C]), (2, Kind::WireType(4)));
    assert_eq!(fault(&[0x16]), (0, Kind::WireType(6)));
    let varint = [0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
    assert_eq!(fault(&varint), (1, Kind::Varint));
    let request = Message::ExportMetricsServiceRequest;
    assert_eq!(fault(&[0x08, 7]), (0, Kind::FieldType { message: request, field: 1, found: 0 }));
    let (offset, kind) = fault(&wrap(&POINT, &[0x10, 1]));
    assert_eq!((offset, kind), (10, Kind::FieldType { message: Message::NumberDataPoint, field: 2, found: 0 }));
    // Metric name that is no UTF-8; key and value of an attribute likewise, in the fast way and in the general one.
    assert_eq!(fault(&wrap(&[1, 2, 2, 1], &[0xFF])).1, Kind::Utf8);
    assert_eq!(fault(&wrap(&POINT, &wrap(&[7], &[0x0A, 1, 0xC3, 0x12, 0]))).1, Kind::Utf8);
    assert_eq!(fault(&wrap(&POINT, &wrap(&[7], &[0x0A, 1, b'k', 0x12, 3, 0x0A, 1, 0xC3]))).1, Kind::Utf8);
    // A packed list of doubles that is no multiple of eight.
    let point = wrap(&[7], &[0; 9]);
    assert_eq!(fault(&wrap(&[1, 9, 2, 2, 1], &point)).1, Kind::Packed);
    let text = decode(&[0x08, 7]).unwrap_err().to_string();
    assert_eq!(text, "malformed OTLP metrics at byte 0: field 1 of ExportMetricsServiceRequest has wire type 0");
}

#[test]
fn nesting_is_limited() {
    let value = |n: usize| (1..n).fold(wrap(&[1], b"x"), |inner, _| wrap(&[1, 5], &inner));
    let request = |n: usize| wrap(&POINT, &wrap(&[2, 7], &value(n)));
    let limits = Limits { max_depth: 64, ..Limits::default() };
    assert!(Batch::decode(request(64).into(), &limits).is_ok());
    assert_eq!(Batch::decode(request(65).into(), &limits).unwrap_err().kind, Kind::Depth);
    assert_eq!(decode(&request(100_000)).unwrap_err().kind, Kind::Depth);
}

#[test]
fn size_and_number_are_limited() {
    let limits = Limits { max_bytes: 3, ..Limits::default() };
    assert_eq!(Batch::decode(vec![0x0A, 0, 0x0A, 0].into(), &limits).unwrap_err().kind, Kind::TooLarge);
    let limits = Limits { max_points: 5, ..Limits::default() };
    // A resource, a scope, a metric and two points are five.
    assert!(Batch::decode(wrap(&[7, 2, 2, 1], &[0x0A, 0, 0x0A, 0]).into(), &limits).is_ok());
    let six = wrap(&[7, 2, 2, 1], &[0x0A, 0, 0x0A, 0, 0x0A, 0]);
    assert_eq!(Batch::decode(six.into(), &limits).unwrap_err(), DecodeError { offset: 12, kind: Kind::TooMany });
}

#[test]
fn empty_messages_do_not_take_the_memory_of_full_ones() {
    // 4 MiB of points, metrics, scopes or resources of two bytes each, against a limit that admits a tenth of them.
    let limits = Limits { max_points: 200_000, ..Limits::default() };
    for level in [&[7u8, 2, 2, 1][..], &[2, 1], &[1], &[]] {
        let field = if matches!(level, [2, 1] | [1]) { 0x12 } else { 0x0A };
        let bytes = wrap(level, &[field, 0].repeat(2 << 20));
        assert_eq!(Batch::decode(bytes.into(), &limits).unwrap_err().kind, Kind::TooMany);
    }
    // Lengths that promise more than there is reserve nothing.
    assert_eq!(fault(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).1, Kind::Truncated);
    let batch = decode(&wrap(&[7, 2, 2, 1], &[0x0A, 0].repeat(1_000))).unwrap();
    assert!(batch.retained_bytes() < 200_000, "{} bytes", batch.retained_bytes());
}

const CPU: Descriptor<'_> = Descriptor { name: "process.cpu.time", unit: "s", description: "", shape: Shape::Gauge };

fn built(points: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    resource.attribute("process.pid", 7);
    let mut scope = resource.scope("scope", "1");
    let mut metric = scope.metric(&CPU);
    for n in 0..points {
        metric.point(1, 2, Number::Int(n), &[("n", AnyValue::Int(n))]);
    }
    drop(metric);
    scope.metric(&CPU);
    drop(scope);
    resource.attribute("late", "yes").schema_url("url");
    drop(resource);
    builder.resource().scope("none", "").metric(&CPU);
    assert_eq!(builder.is_empty(), points == 0);
    builder.finish()
}

#[test]
fn a_built_batch_holds_what_got_points() {
    let batch = built(3);
    assert_eq!(batch.points(), 3);
    let resource = batch.resources().next().unwrap();
    assert_eq!(batch.resources().count(), 1);
    assert_eq!(resource.metrics().count(), 1);
    assert_eq!(resource.attributes().get("process.pid"), Some(AnyValue::Int(7)));
    assert_eq!(resource.attributes().get_str("late"), Some("yes"));
    assert_eq!(resource.schema_url(), "url");
    assert!(built(0).is_empty() && built(0).encode().is_empty());
}

#[test]
fn a_drop_is_final_and_ids_are_checked() {
    let mut batch = built(3);
    let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
    batch.set_verdict(ids[0], Verdict::Fold);
    batch.set_verdict(ids[1], Verdict::Drop);
    batch.set_verdict(ids[1], Verdict::Individual);
    assert_eq!(
        ids.iter().map(|id| batch.verdict(*id)).collect::<Vec<_>>(),
        [Verdict::Fold, Verdict::Drop, Verdict::Individual]
    );
    assert_eq!(batch.points(), 2);
    assert!(batch.point(ids[1]).is_none());
    batch.edit_point(ids[1], |attributes| attributes.upsert("k", "v"));
    batch.compact();
    assert_eq!(
        batch.series().map(|point| batch.verdict(point.id())).collect::<Vec<_>>(),
        [Verdict::Fold, Verdict::Individual]
    );
    // Ids of another batch: nothing happens, nothing panics.
    let mut empty = Batch::default();
    empty.edit_point(ids[2], |attributes| attributes.upsert("k", "v"));
    empty.edit_resource(batch.resources().next().unwrap().id(), |attributes| attributes.upsert("k", "v"));
    empty.set_verdict(ids[2], Verdict::Drop);
    assert!(empty.encode().is_empty());
}

#[test]
fn an_edit_that_changes_nothing_leaves_the_batch_untouched() {
    let mut batch = built(1);
    let before = batch.encode();
    let id = batch.resources().next().unwrap().id();
    batch.edit_resource(id, |attributes| {
        assert!(!attributes.insert("process.pid", 8));
        assert!(!attributes.update("absent", 8));
        assert!(!attributes.delete("absent"));
    });
    assert_eq!(batch.encode().as_ptr(), before.as_ptr());
}

#[test]
fn unknown_fields_survive_edits_and_drops() {
    let marker = wrap(&[100 & 15], b"unknown!");
    assert_eq!(marker[0], 0x22, "field 4, which these messages do not have");
    let with = |body: Vec<u8>| [body, marker.clone()].concat();
    let point = |n: u8| wrap(&[1], &with(vec![0x19, n, 0, 0, 0, 0, 0, 0, 0]));
    let bad = [point(1), point(2)].concat();
    // Field 4 is known in number points and scopes, so the marker stands in resource, scopes, metric's data and request.
    let data =
        with([wrap(&[1], &[0x19, 1, 0, 0, 0, 0, 0, 0, 0]), wrap(&[1], &[0x19, 2, 0, 0, 0, 0, 0, 0, 0])].concat());
    assert!(decode(&wrap(&[7, 2, 2, 1], &bad)).is_err());
    let metric = with(wrap(&[7], &data));
    let scope = with(wrap(&[2], &metric));
    let own = wrap(&[1], &with(vec![]));
    let resource = with([own, wrap(&[2], &scope)].concat());
    let request = with(wrap(&[1], &resource));
    let count = |bytes: &[u8]| bytes.windows(8).filter(|window| *window == b"unknown!").count();
    assert_eq!(count(&request), 6);
    let mut batch = decode(&request).unwrap();
    let id = batch.resources().next().unwrap().id();
    batch.edit_resource(id, |attributes| attributes.upsert("k", "v"));
    batch.drop_points(|point| point.time() == 1);
    let id = batch.series().next().unwrap().id();
    batch.edit_point(id, |attributes| attributes.upsert("k", 1.5));
    let out = batch.encode();
    assert_eq!(count(&out), 6);
    assert_eq!(decode(&out).unwrap().points(), 1);
}
