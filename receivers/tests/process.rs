//! A real process of this machine, from `/proc` through the receiver: its secrets stay behind, and it is closed when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use phoenix_pipeline::Site;
use phoenix_pipeline::config::parse;
use phoenix_receivers::RECEIVERS;
use phoenix_telemetry::{AnyValue, Batch};
use support::Capture;

const SECRET: &str = "Sw0rdf1shXq7";
const COMMIT: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// Ends the process whatever becomes of the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended before, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Points of a process in a batch: all, and those that close a series.
fn points(batch: &Batch, pid: u32) -> (usize, usize) {
    let own =
        |r: phoenix_telemetry::Resource<'_>| r.attributes().get("process.pid") == Some(AnyValue::Int(i64::from(pid)));
    let of_pid: Vec<_> = batch.series().filter(|p| own(p.metric().resource())).collect();
    (of_pid.len(), of_pid.iter().filter(|p| p.no_recorded_value()).count())
}

#[test]
fn a_real_process_keeps_its_secrets_and_is_closed_when_it_ends() {
    let site = Site::for_test("hostmetrics");
    let (capture, lane, outlet) = Capture::behind_a_lane(&site);

    // A shell that waits for its input, with arguments that it never looks at.
    let arguments = [
        format!("--password={SECRET}"),
        "--token".to_owned(),
        SECRET.to_owned(),
        format!("postgres://u:{SECRET}@db/shop"),
        format!("--commit={COMMIT}"),
    ];
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("API_TOKEN={SECRET}; read line"), "sh"])
        .args(&arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let guard = Guard(child);

    let factory = RECEIVERS.iter().find(|factory| factory.name == "hostmetrics").unwrap();
    let config = "{collection_interval: 100ms, initial_delay: 0s, scrapers: {process: {include: {names: [sh], match_type: strict}}}}";
    let value = parse("test.yaml", config).unwrap();
    let mut receiver = (factory.build)(&value, &site).unwrap();
    receiver.start(outlet).unwrap();
    let wait_for = |what: &str, there: &dyn Fn(&Batch) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !capture.batches().iter().any(there) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for("the process is exported", &|batch| matches!(points(batch, pid), (seen, 0) if seen >= 5));
    drop(guard);
    wait_for(
        "the process is closed",
        &|batch| matches!(points(batch, pid), (all, closed) if all >= 5 && all == closed),
    );
    std::thread::sleep(Duration::from_millis(300));
    drop(receiver);
    lane.stop();

    let batches = capture.batches();
    let closing = batches.iter().filter(|batch| points(batch, pid).1 > 0).count();
    assert_eq!(closing, 1, "closed once");
    let mut lines = 0;
    for batch in &batches {
        let bytes = batch.encode();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
        for resource in batch.resources() {
            if resource.attributes().get("process.pid") == Some(AnyValue::Int(i64::from(pid))) {
                let line = resource.attributes().get_str("process.command_line").unwrap();
                assert!(
                    line.contains("--password=[REDACTED] --token [REDACTED] postgres://u:[REDACTED]@db/shop"),
                    "{line}"
                );
                assert!(line.contains(COMMIT), "{line}");
                lines += 1;
            }
        }
    }
    assert!(lines >= 2);
}
