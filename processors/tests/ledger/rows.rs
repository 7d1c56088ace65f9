//! Series that are kept as rows are what they are one by one.

use bytes::{Buf, Bytes};
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use phoenix_telemetry::write::put_bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::*;
use crate::readers::DELTA;

/// Takes out deltas: a scope that has one goes point by point.
pub(crate) fn without_deltas(sent: &mut [Sent]) {
    for scope in sent.iter_mut().flat_map(|sent| &mut sent.resource.scope_metrics) {
        scope
            .metrics
            .retain(|metric| !matches!(&metric.data, Some(Data::Sum(sum)) if sum.aggregation_temporality == DELTA));
    }
}

/// The same request, but no scope of it is a column: every number point says of its flags that there are none.
pub(crate) fn apart(request: &[u8]) -> Bytes {
    rewritten(request, &[&[1], &[2], &[2], &[5, 7], &[1]]).into()
}

/// The message with its flags once more at the end of those messages that this path of fields leads to.
fn rewritten(message: &[u8], path: &[&[u32]]) -> Vec<u8> {
    let Some((fields, path)) = path.split_first() else {
        let flags = NumberDataPoint::decode(message).unwrap().flags;
        return [message, &[0x40, flags as u8]].concat();
    };
    let (mut out, mut rest) = (Vec::new(), message);
    while rest.has_remaining() {
        let whole = rest;
        let (number, wire) = decode_key(&mut rest).unwrap();
        if wire == WireType::LengthDelimited && fields.contains(&number) {
            let (body, behind) = {
                let len = decode_varint(&mut rest).unwrap();
                rest.split_at(len as usize)
            };
            put_bytes(&mut out, number, &rewritten(body, path));
            rest = behind;
        } else {
            skip_field(wire, number, &mut rest, DecodeContext::default()).unwrap();
            out.extend_from_slice(&whole[..whole.len() - rest.len()]);
        }
    }
    out
}

fn same(script: &[Scrape], config: &'static str) -> Result<(), TestCaseError> {
    let directories = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let mut benches = directories.each_ref().map(|directory| Bench::at(restarts::site(directory.path()), config));
    let mut worlds = [0, 1].map(|_| World::new(5));
    benches.iter_mut().for_each(|bench| bench.without_deltas = true);
    benches[1].apart = true;
    for scrape in script {
        for (bench, world) in benches.iter_mut().zip(&mut worlds) {
            bench.run_and_restart(world, scrape);
        }
        let [rows, apart] = benches.each_ref().map(|bench| format!("{:?}", bench.out));
        prop_assert_eq!(rows, apart);
    }
    let columns = benches.map(|bench| bench.columns);
    prop_assert_eq!(columns[1], 0);
    if script.iter().flat_map(|scrape| &scrape.steps).any(|step| step.event == Event::Counts) {
        prop_assert!(columns[0] > 0);
    }
    Ok(())
}

/// What leaves one alone for some scrapes, so that there are rows.
const CALM: &[Event] = &[
    Event::Counts,
    Event::Counts,
    Event::Counts,
    Event::Counts,
    Event::Counts,
    Event::Counts,
    Event::Drifts,
    Event::Missed,
    Event::Resets,
    Event::Reborn,
];

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn rows_are_what_their_series_are(script in scripts(ALL, 5, 20)) {
        same(&script, "state: { interval: 0s }")?;
    }

    #[test]
    fn rows_are_what_their_series_are_where_little_happens(mut script in scripts(CALM, 5, 30)) {
        // Decisions mostly stay: a row is of individual or of folded series.
        for (i, scrape) in script.iter_mut().enumerate() {
            for (j, step) in scrape.steps.iter_mut().enumerate() {
                step.fold = (i / 7 + j) % 2 == 0;
                // Another life may begin above where the last one ended: only its start tells.
                step.added += if step.event == Event::Reborn { 100_000 } else { 0 };
            }
        }
        same(&script, "{ max_groups: 3, state: { interval: 0s } }")?;
    }
}

#[test]
fn one_counter_that_falls_leaves_its_row() {
    for fold in [false, true] {
        let outs = [false, true].map(|apart| {
            let mut bench = Bench { apart, ..Bench::new("") };
            for (i, (one, other)) in [(5, 5), (6, 6), (7, 7), (8, 8), (3, 9), (4, 10), (5, 11)].into_iter().enumerate()
            {
                let time = BEGIN + 10 * SECOND * i as u64;
                let of = |name, value| counter(name, BEGIN - SECOND, time, value);
                bench.send(vec![Sent { resource: wrap(0, vec![of("one", one), of("other", other)]), fold }], false);
            }
            bench.flush(true);
            assert_eq!(bench.columns == 0, apart);
            format!("{:?}", bench.out)
        });
        assert_eq!(outs[0], outs[1], "{fold}");
    }
}
