//! The exporter as a whole: what is in the file, and what the sender is told.

use super::*;
use phoenix_pipeline::config;
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Limits, Number, Shape};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

fn batch(value: i64, filler: &str) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    let mut scope = resource.scope("test", "1");
    let descriptor = Descriptor { name: "g", unit: "1", description: "", shape: Shape::Gauge };
    scope.metric(&descriptor).point(0, 1, Number::Int(value), &[("filler", AnyValue::from(filler))]);
    drop(scope);
    drop(resource);
    builder.finish()
}

fn exporter(path: &Path, more: &str) -> (Arc<dyn Exporter>, Site) {
    let yaml = format!("path: {}\nflush_interval: 20ms\n{more}", path.display());
    let site = Site::for_test("file");
    (build(&config::parse("test.yaml", &yaml).unwrap(), &site).unwrap(), site)
}

fn export(exporter: &Arc<dyn Exporter>, batch: Batch) -> Receiver<Result<(), Refusal>> {
    let (told, outcome) = channel();
    exporter.export(Shipment::new(batch), Delivery::new(move |result| told.send(result).unwrap()));
    outcome
}

fn wait(outcome: &Receiver<Result<(), Refusal>>) -> Result<(), Refusal> {
    outcome.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn json_lines_are_whole_when_delivered_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.json");
    let (exporter, _site) = exporter(&path, "");
    let outcomes = [export(&exporter, batch(1, "a\nb")), export(&exporter, batch(2, "c"))];
    outcomes.iter().for_each(|outcome| wait(outcome).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let values: Vec<Number> = text
        .lines()
        .map(|line| {
            Batch::decode(
                phoenix_telemetry::json::read(line.as_bytes(), &Limits::default()).unwrap().into(),
                &Limits::default(),
            )
            .unwrap()
        })
        .map(|batch| batch.series().next().unwrap().value().unwrap())
        .collect();
    assert_eq!(values, [Number::Int(1), Number::Int(2)]);
    exporter.shutdown(soon()).await;
}

/// The messages of a file with four-byte lengths.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        messages.push(message.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    messages
}

#[tokio::test]
async fn proto_and_zstd_are_length_prefixed_and_shutdown_flushes() {
    let directory = tempfile::tempdir().unwrap();
    for (format, compression) in [("proto", "none"), ("proto", "zstd"), ("json", "zstd")] {
        let path = directory.path().join(format!("{format}-{compression}"));
        let (exporter, _site) = exporter(&path, &format!("format: {format}\ncompression: {compression}\n"));
        let outcomes = [export(&exporter, batch(1, "x")), export(&exporter, batch(2, "x"))];
        exporter.shutdown(soon()).await;
        outcomes.iter().for_each(|outcome| wait(outcome).unwrap());
        let unpacked: Vec<Vec<u8>> = messages(&std::fs::read(&path).unwrap())
            .into_iter()
            .map(|message| if compression == "zstd" { zstd::decode_all(message.as_slice()).unwrap() } else { message })
            .collect();
        assert_eq!(unpacked.len(), 2);
        if format == "proto" {
            assert_eq!(unpacked[1], batch(2, "x").encode());
        } else {
            assert!(unpacked[1].starts_with(b"{"));
        }
    }
}

#[tokio::test]
async fn rotation_splits_between_batches_and_loses_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.json");
    let (exporter, _site) = exporter(&path, "rotation: {max_megabytes: 1}\n");
    let filler = "x".repeat(400_000);
    let outcomes: Vec<_> = (0..7).map(|i| export(&exporter, batch(i, &filler))).collect();
    exporter.shutdown(soon()).await;
    outcomes.iter().for_each(|outcome| wait(outcome).unwrap());
    let lines: Vec<usize> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap().lines().count())
        .collect();
    assert_eq!((lines.iter().sum::<usize>(), lines.len()), (7, 4), "two of 400 kB fit one MiB: {lines:?}");
}

#[tokio::test]
async fn a_disk_that_is_gone_refuses_says_so_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sub/out.json");
    let (exporter, site) = exporter(&path, "create_directory: true\n");
    wait(&export(&exporter, batch(1, ""))).unwrap();
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let Err(Refusal::Later { reason, .. }) = wait(&export(&exporter, batch(2, ""))) else {
        panic!("delivered to nowhere")
    };
    assert!(reason.contains("cannot write"), "{reason}");
    assert!(!site.status.set(phoenix_pipeline::Health::Recoverable(reason)), "the health page says the same");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    wait(&export(&exporter, batch(3, ""))).unwrap();
    assert!(!site.status.set(phoenix_pipeline::Health::Ok));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    exporter.shutdown(soon()).await;
}

#[tokio::test]
async fn a_full_device_refuses() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let (exporter, _site) = exporter(full, "");
    assert!(wait(&export(&exporter, batch(1, ""))).is_err());
    exporter.shutdown(soon()).await;
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_an_error_that_names_the_key() {
    let site = Site::for_test("file/x");
    let value = config::parse("test.yaml", "path: /nowhere/at/all\n").unwrap();
    let error = build(&value, &site).err().unwrap().to_string();
    assert!(error.contains("/nowhere/at/all") && error.contains("exporters::file/x::path"), "{error}");
}
