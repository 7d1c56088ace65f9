//! The queue on disk: what each level of safety means, restarts, limits, a peer that is away.

use std::path::Path;
use std::time::Duration;

use phoenix_exporters::otlp;
use phoenix_pipeline::config::parse;
use phoenix_pipeline::storage::Storage;
use phoenix_pipeline::{Ack, ComponentId, Delivery, Refusal, Shipment, Site};
use phoenix_telemetry::{Batch, Limits};
use tokio::sync::oneshot;

use super::support::*;

const EAGER: &str = "retry_on_failure: { initial_interval: 10ms, max_interval: 20ms, randomization_factor: 0 }\n";

/// An exporter with its queue below `room`.
fn subject(room: &Path, backend: &Backend, queue: &str) -> Subject {
    let site = Site::for_test("otlp/disk");
    let storage = Storage { directory: room.to_owned(), fsync: Some(Duration::ZERO), max_age: None };
    site.storages.publish([(ComponentId::new("file_storage"), storage)].into());
    let yaml = format!("endpoint: {}\n{EAGER}sending_queue: {{ storage: file_storage{queue} }}", backend.url());
    let value = parse("test.yaml", &yaml).unwrap();
    let exporter = (otlp::http::FACTORY.build)(&value, &site).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    Subject { exporter, site }
}

fn export(subject: &Subject, ack: Ack, points: usize) -> oneshot::Receiver<Result<(), Refusal>> {
    let (tx, rx) = oneshot::channel();
    subject.exporter.export(Shipment::new(batch(points)), Delivery::until(ack, move |outcome| drop(tx.send(outcome))));
    rx
}

async fn outcome(heard: oneshot::Receiver<Result<(), Refusal>>) -> Result<(), Refusal> {
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("resolves in time").unwrap()
}

fn points_of(backend: &Backend) -> usize {
    backend.received().iter().map(|request| values(&request.message()).len()).sum()
}

#[tokio::test]
async fn each_level_is_heard_when_it_is_reached() {
    let room = tempfile::tempdir().unwrap();
    let backend = Backend::start([Answer::status(200).delay(Duration::from_millis(300))]).await;
    let subject = subject(room.path(), &backend, ", num_consumers: 1");
    assert!(subject.exporter.durable());
    let mut exported = export(&subject, Ack::OnExport, 3);
    outcome(export(&subject, Ack::OnQueue, 1)).await.unwrap();
    outcome(export(&subject, Ack::OnDisk, 1)).await.unwrap();
    assert!(exported.try_recv().is_err(), "the destination has not answered");
    outcome(exported).await.unwrap();
    until("all is sent", || subject.counted("otelcol_exporter_sent_metric_points", "") == 5.0).await;
}

#[tokio::test]
async fn a_refusal_reaches_who_waits_for_the_destination_and_is_counted_for_the_others() {
    let room = tempfile::tempdir().unwrap();
    let backend = Backend::start([Answer::status(400)]).await;
    let subject = subject(room.path(), &backend, "");
    assert!(matches!(outcome(export(&subject, Ack::OnExport, 2)).await, Err(Refusal::Final { .. })));
    outcome(export(&subject, Ack::OnDisk, 3)).await.unwrap();
    until("both are counted", || subject.counted("phoenix_exporter_dropped_metric_points_total", "400") == 5.0).await;
}

#[tokio::test]
async fn what_is_on_disk_survives_the_end_and_is_sent_first_and_in_order() {
    let room = tempfile::tempdir().unwrap();
    let dead = Backend::start([Answer::status(503)]).await;
    let first = subject(room.path(), &dead, "");
    for points in 1..=20 {
        outcome(export(&first, Ack::OnDisk, points)).await.unwrap();
    }
    first.shutdown(Duration::from_secs(5)).await;
    assert_eq!(first.counted("phoenix_exporter_dropped_metric_points_total", ""), 0.0, "kept is not lost");
    assert_eq!(first.counted("otelcol_exporter_queue_size", "metrics"), 0.0, "the gauge is given back");

    let alive = Backend::start([Answer::status(200)]).await;
    let second = subject(room.path(), &alive, ", num_consumers: 1");
    outcome(export(&second, Ack::OnExport, 21)).await.unwrap();
    until("an empty queue shows none", || second.counted("otelcol_exporter_queue_size", "metrics") == 0.0).await;
    let sizes: Vec<usize> = alive.received().iter().map(|request| values(&request.message()).len()).collect();
    assert_eq!(sizes, (1..=21).collect::<Vec<_>>());
    second.shutdown(Duration::from_secs(5)).await;
    let third = subject(room.path(), &alive, "");
    outcome(export(&third, Ack::OnExport, 1)).await.unwrap();
    assert_eq!(alive.count(), 22, "what was sent is not sent again");
}

#[tokio::test]
async fn what_was_on_disk_can_be_split_and_be_sent_as_json() {
    let room = tempfile::tempdir().unwrap();
    let dead = Backend::start([Answer::status(503)]).await;
    let first = subject(room.path(), &dead, "");
    outcome(export(&first, Ack::OnDisk, 40)).await.unwrap();
    outcome(export(&first, Ack::OnDisk, 3)).await.unwrap();
    first.shutdown(Duration::from_secs(5)).await;
    let alive = Backend::start([413, 413, 200].map(Answer::status)).await;
    let second = subject(room.path(), &alive, ", num_consumers: 1 }\nencoding: json\ncompression: none\ntls: {");
    until("all is sent", || second.counted("otelcol_exporter_sent_metric_points", "") == 43.0).await;
    let read = |body: &[u8]| {
        let protobuf = phoenix_telemetry::json::read(body, &Limits::default()).unwrap();
        Batch::decode(protobuf.into(), &Limits::default()).unwrap().points()
    };
    let sizes: Vec<usize> = alive.received().iter().map(|request| read(&request.plain())).collect();
    assert_eq!(sizes, [40, 20, 10, 10, 20, 3]);
}

#[tokio::test]
async fn a_replacement_waits_for_the_directory_and_takes_the_rest() {
    let room = tempfile::tempdir().unwrap();
    let (dead, alive) = (Backend::start([Answer::status(503)]).await, Backend::start([Answer::status(200)]).await);
    let old = subject(room.path(), &dead, "");
    outcome(export(&old, Ack::OnDisk, 7)).await.unwrap();
    let new = subject(room.path(), &alive, "");
    let heard = export(&new, Ack::OnExport, 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(alive.count(), 0, "the old one still has the queue");
    old.shutdown(Duration::from_secs(5)).await;
    outcome(heard).await.unwrap();
    until("the rest is sent", || points_of(&alive) == 8).await;
}

#[tokio::test]
async fn a_backend_that_is_back_gets_the_backlog_and_live_data() {
    let room = tempfile::tempdir().unwrap();
    let away = (0..30).map(|_| Answer::status(503)).chain([Answer::status(200)]);
    let backend = Backend::start(away).await;
    let subject = subject(room.path(), &backend, ", num_consumers: 4");
    let mut sent = 0;
    for turn in 0..200 {
        outcome(export(&subject, Ack::OnDisk, 1 + turn % 5)).await.unwrap();
        sent += 1 + turn % 5;
    }
    until("all is sent", || subject.counted("otelcol_exporter_sent_metric_points", "") == sent as f64).await;
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", ""), 0.0);
}

#[tokio::test]
async fn a_full_queue_refuses_who_waits_and_gives_way_to_scrapes() {
    for (sizer, size) in [("requests", 3), ("items", 30)] {
        let room = tempfile::tempdir().unwrap();
        let backend = Backend::start([Answer::status(200).delay(NEVER)]).await;
        let subject =
            subject(room.path(), &backend, &format!(", num_consumers: 1, sizer: {sizer}, queue_size: {size}"));
        for _ in 0..3 {
            outcome(export(&subject, Ack::OnDisk, 10)).await.unwrap();
        }
        assert!(matches!(outcome(export(&subject, Ack::OnQueue, 10)).await, Err(Refusal::Later { .. })), "{sizer}");
        assert_eq!(subject.counted("otelcol_exporter_enqueue_failed_metric_points", ""), 10.0);
        let load = || subject.counted("otelcol_exporter_queue_size", "metrics");
        until("what was refused is let go", || load() == f64::from(size)).await;
        subject.exporter.export(Shipment::new(batch(10)), Delivery::none());
        let evicted = || subject.counted("phoenix_exporter_dropped_metric_points_total", "evicted_size");
        until("the scrape took the place of the oldest", || evicted() == 10.0).await;
    }
}

#[tokio::test]
async fn bytes_on_disk_are_bounded() {
    let room = tempfile::tempdir().unwrap();
    let backend = Backend::start([Answer::status(503)]).await;
    let subject = subject(room.path(), &backend, ", sizer: bytes, queue_size: 100000");
    let mut taken = 0;
    while outcome(export(&subject, Ack::OnDisk, 100)).await.is_ok() {
        taken += 1;
        assert!(taken < 1000);
    }
    assert!(taken > 5, "{taken}");
    let on_disk: u64 = walk(room.path());
    assert!(on_disk <= 110_000, "{on_disk}");
}

fn walk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

#[tokio::test]
async fn damage_is_counted_and_the_rest_is_sent() {
    let room = tempfile::tempdir().unwrap();
    let dead = Backend::start([Answer::status(503)]).await;
    let first = subject(room.path(), &dead, "");
    for _ in 0..10 {
        outcome(export(&first, Ack::OnDisk, 50)).await.unwrap();
    }
    first.shutdown(Duration::from_secs(5)).await;
    let queue = room.path().join("exporter_otlp%2Fdisk");
    let files = std::fs::read_dir(&queue).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let alive = Backend::start([Answer::status(200)]).await;
    let second = subject(room.path(), &alive, "");
    until("nine of ten are sent", || subject_sent(&second) == 450.0).await;
    assert_eq!(second.counted("phoenix_exporter_damaged_metric_points_total", ""), 50.0);
    assert_eq!(points_of(&alive), 450);
}

fn subject_sent(subject: &Subject) -> f64 {
    subject.counted("otelcol_exporter_sent_metric_points", "")
}

#[tokio::test]
async fn a_storage_that_nobody_offers_is_an_error() {
    let site = Site::for_test("otlp");
    let value = parse("test.yaml", "endpoint: http://127.0.0.1:1\nsending_queue: { storage: nowhere }").unwrap();
    let Err(error) = (otlp::http::FACTORY.build)(&value, &site) else { panic!("built") };
    assert!(error.to_string().contains("no storage nowhere is running"), "{error}");
}
