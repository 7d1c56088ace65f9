//! Unpacking a request of process metrics: at once, as the agent does it where all bytes are there, against the streams of
//! flate2 (zlib-rs) and zstd.
#![allow(missing_docs)] // criterion's macros write an undocumented main

use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, Read, Write};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use phoenix_benches::{POINTS_PER_PROCESS, process_metrics};
use phoenix_transport::coding::{Coding, undo};

const PROCESSES: usize = 1_000;

fn all(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    from.read_to_end(&mut plain)?;
    Ok(plain)
}

fn coding(criterion: &mut Criterion) {
    let plain = process_metrics(PROCESSES);
    let undone = |coding, packed: &[u8]| undo(coding, packed, usize::MAX, |_| Ok::<_, Infallible>(())).ok();
    let mut group = criterion.benchmark_group("coding");
    group.throughput(Throughput::Elements((PROCESSES * POINTS_PER_PROCESS) as u64));

    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    gzip.write_all(&plain).unwrap_or_default();
    let gzip = gzip.finish().unwrap_or_default();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap_or_default();
    assert_eq!(undone(Coding::Gzip, &gzip).as_ref(), Some(&plain));
    assert_eq!(undone(Coding::Zstd, &zstd).as_ref(), Some(&plain));
    group.bench_function("gzip-6, unpacked at once", |bencher| bencher.iter(|| undone(Coding::Gzip, black_box(&gzip))));
    group.bench_function("gzip-6, unpacked as a stream", |bencher| {
        bencher.iter(|| all(MultiGzDecoder::new(black_box(&gzip[..]))));
    });
    group.bench_function("zstd-1, unpacked at once", |bencher| bencher.iter(|| undone(Coding::Zstd, black_box(&zstd))));
    group.bench_function("zstd-1, unpacked as a stream", |bencher| {
        bencher.iter(|| zstd::Decoder::with_buffer(black_box(&zstd[..])).and_then(all));
    });
    group.finish();
}

criterion_group!(benches, coding);
criterion_main!(benches);
