//! The `hostmetrics` receiver from the outside: built by its factory, started, sending into a lane, stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use phoenix_pipeline::config::parse;
use phoenix_pipeline::{Level, Outlet, Receiver, Site};
use phoenix_receivers::RECEIVERS;
use phoenix_telemetry::Batch;
use support::Capture;

fn receiver(site: &Site, config: &str) -> Box<dyn Receiver> {
    let factory = RECEIVERS.iter().find(|factory| factory.name == "hostmetrics").unwrap();
    let value = parse("test.yaml", config).unwrap();
    assert!((factory.validate)(&value).is_empty());
    (factory.build)(&value, site).unwrap()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn finish(site: &Site, receiver: &mut dyn Receiver) {
    let (done, finished) = std::sync::mpsc::channel();
    // The future borrows the receiver, so it is driven here; its blocking part runs on the site's runtime.
    let runtime = site.runtime.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            runtime.block_on(receiver.shutdown());
            done.send(())
        });
        finished.recv_timeout(Duration::from_secs(20)).expect("shutdown ends");
    });
}

#[test]
fn it_scrapes_on_schedule_into_a_lane_and_stops() {
    let site = Site::for_test("hostmetrics/test");
    let (capture, lane, outlet) = Capture::behind_a_lane(&site);

    let config = "{collection_interval: 50ms, initial_delay: 0s, scrapers: {cpu: , memory: , load: , disk: , filesystem: , network: , paging: , processes: , system: , process: }}";
    let mut receiver = receiver(&site, config);
    receiver.start(outlet).unwrap();
    wait_for("three scrapes", || capture.batches().len() >= 3);
    finish(&site, receiver.as_mut());
    lane.stop();
    let batches = capture.batches();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(capture.batches().len(), batches.len(), "nothing is sent after the end");

    let mut last = 0;
    for batch in &batches {
        let times: Vec<u64> = batch.series().map(|point| point.time()).collect();
        assert!(times.iter().all(|time| *time == times[0]), "one moment per scrape");
        assert!(times[0] > last);
        last = times[0];
    }
    let starts = |batch: &Batch| -> Vec<u64> {
        let points = batch.series().filter(|point| point.metric().name().starts_with("system."));
        let mut starts: Vec<u64> = points.map(|point| point.start_time()).collect();
        starts.dedup();
        starts
    };
    assert_eq!(starts(&batches[0]).len(), 1);
    assert_eq!(starts(&batches[0]), starts(batches.last().unwrap()), "start times are constant");

    let own = site.metrics.gather(0, Level::Detailed);
    let scraped = |scraper: &str| {
        let mut points = own.series().filter(|point| {
            point.metric().name() == "otelcol_scraper_scraped_metric_points"
                && point.attributes().get_str("scraper") == Some(scraper)
                && point.attributes().get_str("receiver") == Some("hostmetrics/test")
        });
        points.next().and_then(|point| point.value()).map_or(0.0, |value| value.as_f64())
    };
    for scraper in ["cpu", "memory", "load", "network", "paging", "processes", "system", "process"] {
        assert!(scraped(scraper) > 0.0, "{scraper}");
    }
    for name in ["phoenix_scrape_duration_seconds", "phoenix_scrape_interval_seconds"] {
        assert!(own.series().any(|point| point.metric().name() == name), "{name}");
    }
}

#[test]
fn a_receiver_that_nobody_listens_to_goes_on_and_stops_when_told() {
    let site = Site::for_test("hostmetrics");
    let mut receiver = receiver(&site, "{collection_interval: 10ms, initial_delay: 0s, scrapers: {load: }}");
    receiver.start(Outlet::new(&site.metrics, "hostmetrics", "", Vec::new())).unwrap();
    wait_for("refused points", || {
        let own = site.metrics.gather(0, Level::Detailed);
        let refused = own.series().find(|point| point.metric().name() == "otelcol_receiver_refused_metric_points");
        refused.and_then(|point| point.value()).is_some_and(|value| value.as_f64() >= 6.0)
    });
    finish(&site, receiver.as_mut());
}

#[test]
fn a_receiver_that_waits_for_its_first_scrape_stops_at_once() {
    let site = Site::for_test("hostmetrics");
    let mut receiver = receiver(&site, "{initial_delay: 1h, scrapers: {load: }}");
    receiver.start(Outlet::new(&site.metrics, "hostmetrics", "", Vec::new())).unwrap();
    finish(&site, receiver.as_mut());
}

#[test]
fn a_root_that_is_no_host_is_refused_with_its_file() {
    let site = Site::for_test("hostmetrics");
    let factory = RECEIVERS.iter().find(|factory| factory.name == "hostmetrics").unwrap();
    let value = parse("test.yaml", "{root_path: /nonexistent, scrapers: {cpu: }}").unwrap();
    assert!((factory.validate)(&value).is_empty(), "validation starts nothing");
    let error = (factory.build)(&value, &site).err().unwrap().to_string();
    assert!(error.contains("/nonexistent/proc/stat") && error.contains("root_path"), "{error}");
}
