//! The data path on process metrics: index, identity hashes, thinning, editing and range-copy encoding, against the same
//! through a decoded tree of structs.
#![allow(missing_docs)] // criterion's macros write an undocumented main

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use phoenix_benches::{POINTS_PER_PROCESS, process_metrics};
use phoenix_telemetry::{Batch, Limits};
use prost::Message as _;
use std::hint::black_box;

const PROCESSES: usize = 1_000;

fn data_path(criterion: &mut Criterion) {
    let bytes = Bytes::from(process_metrics(PROCESSES));
    let limits = Limits::default();
    let decode = || Batch::decode(bytes.clone(), &limits).unwrap_or_default();
    let mut group = criterion.benchmark_group("process metrics");
    group.throughput(Throughput::Elements((PROCESSES * POINTS_PER_PROCESS) as u64));

    group.bench_function("index", |bencher| bencher.iter(decode));
    group.bench_function("index, series hashes, encode untouched", |bencher| {
        bencher.iter(|| {
            let batch = decode();
            let sum = batch.series().fold(0u64, |sum, point| sum ^ point.series());
            (black_box(sum), batch.encode())
        });
    });
    // The hashes are uniform. Whole processes are what a selection of the top ones keeps; scattered series are the worst
    // case, as most resources and heads have to be copied for a point or two.
    group.bench_function("index, series hashes, drop 90 % of the processes, encode", |bencher| {
        bencher.iter(|| {
            let mut batch = decode();
            let mut sum = 0;
            batch.drop_points(|point| {
                sum ^= point.series();
                !point.metric().resource().hash().is_multiple_of(10)
            });
            (black_box(sum), batch.encode())
        });
    });
    group.bench_function("index, series hashes, drop 90 % of the series, encode", |bencher| {
        bencher.iter(|| {
            let mut batch = decode();
            batch.drop_points(|point| !point.series().is_multiple_of(10));
            batch.encode()
        });
    });
    group.bench_function("index, edit every resource, encode", |bencher| {
        bencher.iter(|| {
            let mut batch = decode();
            let ids: Vec<_> = batch.resources().map(|resource| resource.id()).collect();
            for id in ids {
                batch.edit_resource(id, |attributes| attributes.upsert("host.name", "node-4711"));
            }
            batch.encode()
        });
    });
    group.sample_size(20);
    group.bench_function("prost: decode and encode", |bencher| {
        bencher.iter(|| ExportMetricsServiceRequest::decode(bytes.clone()).map(|request| request.encode_to_vec()));
    });
    group.finish();
}

criterion_group!(benches, data_path);
criterion_main!(benches);
