//! What the host and the clock do to a sender: a disk that is full, read-only or out of descriptors, a clock that jumps, a
//! destination that is only slow.
//!
//! A test that needs a host of its own runs itself again as a child: in a mount namespace, or under a limit.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use phoenix_exporters::otlp;
use phoenix_pipeline::storage::Storage;
use phoenix_pipeline::{Ack, Clock, ComponentId, Delivery, Refusal, Shipment, Site};

use super::support::*;

/// Names the directory to the test that is a child.
const DIRECTORY: &str = "PHOENIX_EXPORTER_DIRECTORY";

fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// Runs one test of this file in `sh` after `script`, with the directory as `$0`.
fn child(test: &str, room: &Path, wrapper: &[&str], script: &str) -> Output {
    let script = format!("{script}; exec \"$@\"");
    let mut command = Command::new(wrapper.first().copied().unwrap_or("sh"));
    command.args(wrapper.get(1..).unwrap_or_default());
    if !wrapper.is_empty() {
        command.arg("sh");
    }
    command.args(["-c", &script]).arg(room).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("trouble::{test}"), "--nocapture"]).env(DIRECTORY, room);
    command.output().unwrap_or_else(|error| panic!("{wrapper:?}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// An exporter with a queue on disk below `room`, on this clock.
fn on_disk(room: &Path, clock: Clock, max_age: Option<Duration>, backend: &str, queue: &str) -> Subject {
    let site = Site { clock, ..Site::for_test("otlp/trouble") };
    let storage = Storage { directory: room.to_owned(), fsync: Some(Duration::ZERO), max_age };
    site.storages.publish([(ComponentId::new("file_storage"), storage)].into());
    let yaml = format!(
        "endpoint: {backend}\nretry_on_failure: {{ initial_interval: 10ms, max_interval: 20ms }}\nsending_queue: {{ storage: file_storage{queue} }}"
    );
    Subject::at(site, &otlp::http::FACTORY, &yaml).unwrap()
}

async fn put(subject: &Subject, points: usize) -> Result<(), Refusal> {
    let (tell, heard) = tokio::sync::oneshot::channel();
    let delivery = Delivery::until(Ack::OnDisk, move |outcome| drop(tell.send(outcome)));
    subject.exporter.export(Shipment::new(batch(points)), delivery);
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("resolves in time").unwrap()
}

/// As a sender does: until it is taken.
async fn put_again(subject: &Subject, points: usize) {
    for _ in 0..500 {
        match put(subject, points).await {
            Ok(()) => return,
            outcome => assert!(later(&outcome), "{outcome:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there was never room again");
}

fn later(outcome: &Result<(), Refusal>) -> bool {
    matches!(outcome, Err(Refusal::Later { .. }))
}

async fn arrived(backend: &Backend, points: usize) {
    let all = || backend.received().iter().map(|request| values(&request.message()).len()).sum::<usize>();
    until("all that was taken has arrived", || all() >= points).await;
    assert_eq!(all(), points);
}

/// Runs where it is root of a mount namespace, on a file system of 512 KiB of its own, loopback included.
#[tokio::test]
async fn child_on_a_small_disk() {
    let Some(room) = directory() else { return };
    let away = Backend::start([Answer::status(503)]).await;
    let first = on_disk(&room, Clock::system(), None, &away.url(), "");
    let mut taken = 0;
    let refused = loop {
        match put(&first, 500).await {
            Ok(()) => taken += 500,
            refused => break refused,
        }
    };
    assert!(later(&refused), "the sender hears \"later\": {refused:?}");
    assert!(refused.unwrap_err().to_string().contains("no space"));
    assert!(taken > 5000, "{taken}");
    assert_eq!(first.counted("otelcol_exporter_enqueue_failed_metric_points", ""), 500.0);
    first.shutdown(Duration::from_secs(5)).await;
    drop(first);

    // Room returns by itself when what was there is sent.
    let alive = Backend::start([Answer::status(200)]).await;
    let second = on_disk(&room, Clock::system(), None, &alive.url(), "");
    arrived(&alive, taken).await;
    put_again(&second, 500).await;
    arrived(&alive, taken + 500).await;
    second.shutdown(Duration::from_secs(5)).await;
    drop(second);

    // Read-only: what is there is sent, what comes is refused as later, and it is taken when it can be written again.
    let third = on_disk(&room, Clock::system(), None, &away.url(), "");
    put_again(&third, 7).await;
    third.shutdown(Duration::from_secs(5)).await;
    drop(third);
    let remount = |option| assert!(Command::new("mount").args(["-o", option]).arg(&room).status().unwrap().success());
    remount("remount,ro");
    let alive = Backend::start([Answer::status(200)]).await;
    let fourth = on_disk(&room, Clock::system(), None, &alive.url(), "");
    arrived(&alive, 7).await;
    assert!(later(&put(&fourth, 8).await));
    remount("remount,rw");
    put_again(&fourth, 9).await;
    arrived(&alive, 16).await;
    println!("the small disk is done");
}

#[test]
fn a_full_and_a_read_only_disk_are_back_pressure_and_pass() {
    let room = tempfile::tempdir().unwrap();
    let namespace = ["unshare", "--user", "--map-root-user", "--mount"];
    let script = r#"mount -t tmpfs -o size=512k none "$0" || exit 77"#;
    let output = child("child_on_a_small_disk", room.path(), &namespace, script);
    // Where nothing may be mounted, storage's simulated disk alone is full.
    match output.status.code() {
        Some(0) => assert!(said(&output).contains("the small disk is done"), "{}", said(&output)),
        Some(101) => panic!("{}", said(&output)),
        _ => println!("not run: {}", said(&output)),
    }
}

/// Runs with 64 descriptors.
#[tokio::test]
async fn child_out_of_descriptors() {
    let Some(room) = directory() else { return };
    let away = Backend::start([Answer::status(503)]).await;
    // Segments of 50 KB, so that a new file is needed soon.
    let queue = ", num_consumers: 1, sizer: bytes, queue_size: 400000";
    let subject = on_disk(&room, Clock::system(), None, &away.url(), queue);
    put(&subject, 500).await.unwrap();
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() < 64, "the limit holds");
    let mut points = 500;
    let refused = loop {
        match put(&subject, 500).await {
            Ok(()) => points += 500,
            refused => break refused,
        }
        assert!(points < 10_000, "a new file was never needed");
    };
    assert!(later(&refused), "{refused:?}");
    drop(taken);
    put_again(&subject, 500).await;
    points += 500;
    subject.shutdown(Duration::from_secs(5)).await;
    drop(subject);

    // It does not open without descriptors; it does when there are some, and nothing was lost.
    let alive = Backend::start([Answer::status(200)]).await;
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let subject = on_disk(&room, Clock::system(), None, &alive.url(), queue);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(alive.count(), 0);
    drop(taken);
    arrived(&alive, points).await;
    assert_eq!(subject.counted("phoenix_exporter_damaged_metric_points_total", ""), 0.0);
    println!("out of descriptors is done");
}

#[test]
fn no_descriptors_are_back_pressure_and_pass() {
    let room = tempfile::tempdir().unwrap();
    let output = child("child_out_of_descriptors", room.path(), &[], "ulimit -n 64");
    assert!(output.status.success() && said(&output).contains("out of descriptors is done"), "{}", said(&output));
}

const HOUR: Duration = Duration::from_secs(3600);
const NOW: u64 = 1_700_000_000_000_000_000;

#[tokio::test]
async fn a_clock_that_is_put_back_loses_nothing_and_one_put_forward_ages_what_waits() {
    let room = tempfile::tempdir().unwrap();
    let away = Backend::start([Answer::status(503)]).await;
    let clock = Clock::manual(NOW);
    let max_age = Some(HOUR / 2);
    let first = on_disk(room.path(), clock.clone(), max_age, &away.url(), "");
    put(&first, 1).await.unwrap();
    first.shutdown(Duration::from_secs(5)).await;
    drop(first);

    // An hour back: what waits is from the future, and not old.
    let hour = u64::try_from(HOUR.as_nanos()).unwrap();
    let back = on_disk(room.path(), Clock::manual(NOW - hour), max_age, &away.url(), "");
    put(&back, 2).await.unwrap();
    back.shutdown(Duration::from_secs(5)).await;
    assert_eq!(back.counted("phoenix_exporter_dropped_metric_points_total", ""), 0.0);
    drop(back);

    // An hour forward, while it runs: what was written before is now older than max_age, and counted.
    let forward = on_disk(room.path(), clock.clone(), max_age, &away.url(), ", num_consumers: 1");
    clock.advance(HOUR);
    let evicted = || forward.counted("phoenix_exporter_dropped_metric_points_total", "evicted_age");
    put(&forward, 4).await.unwrap();
    until("what is older than max_age is given up", || evicted() >= 2.0).await;
    forward.shutdown(Duration::from_secs(5)).await;
    let evicted = evicted();
    drop(forward);
    let alive = Backend::start([Answer::status(200)]).await;
    let last = on_disk(room.path(), clock, None, &alive.url(), "");
    arrived(&alive, 7 - evicted as usize).await;
    assert!(put(&last, 1).await.is_ok());

    // Without max_age no clock costs anything.
    let room = tempfile::tempdir().unwrap();
    let mut points = 0;
    for clock in [NOW, NOW + hour, NOW - hour] {
        let subject = on_disk(room.path(), Clock::manual(clock), None, &away.url(), "");
        put(&subject, 5).await.unwrap();
        points += 5;
        subject.shutdown(Duration::from_secs(5)).await;
    }
    let alive = Backend::start([Answer::status(200)]).await;
    let _last = on_disk(room.path(), Clock::manual(NOW), None, &alive.url(), "");
    arrived(&alive, points).await;
}

#[tokio::test]
async fn a_destination_that_is_only_slow_gets_everything_once_and_as_many_requests_as_it_may() {
    let slow = Backend::start([Answer::status(200).delay(Duration::from_millis(400))]).await;
    let quick = Backend::start([Answer::status(200)]).await;
    let subject = Subject::http(&slow, "timeout: 10s\nsending_queue: { num_consumers: 4 }");
    let other = Subject::http(&quick, EAGER);
    for points in 1..=12 {
        subject.send(batch(points)).await.unwrap();
    }
    until("four are on their way", || subject.counted("otelcol_exporter_in_flight_requests", "metrics") == 4.0).await;
    other.send(batch(5)).await.unwrap();
    assert!(slow.count() < 12, "one slow destination holds nobody up");
    until("all arrived", || subject.counted("otelcol_exporter_sent_metric_points", "") == 78.0).await;
    assert_eq!(slow.count(), 12, "none is sent twice");
    assert_eq!(subject.counted("phoenix_exporter_retries_total", ""), 0.0);
    assert_eq!(subject.counted("phoenix_exporter_concurrency_limit", ""), 4.0, "latency alone is no sign of overload");
}
