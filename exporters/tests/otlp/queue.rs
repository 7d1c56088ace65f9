//! The sending queue: limits, batches, the end.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use phoenix_pipeline::Refusal;
use prost::Message;

use super::support::*;

const FULL: &str = "sending queue is full (sending_queue.queue_size, 2)";

#[tokio::test]
async fn a_full_queue_refuses_and_counts() {
    let backend = Backend::start([Answer::status(200).delay(NEVER)]).await;
    let subject = Subject::http(&backend, "sending_queue: { num_consumers: 1, queue_size: 2 }");
    for _ in 0..2 {
        subject.send(batch(3)).await.unwrap();
    }
    assert_eq!(subject.send(batch(3)).await.unwrap_err(), Refusal::later(FULL));
    assert_eq!(subject.counted("otelcol_exporter_enqueue_failed_metric_points", ""), 3.0);
    assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 2.0);
    assert_eq!(subject.counted("otelcol_exporter_queue_capacity", "metrics"), 2.0);
    until("the request is out", || subject.counted("otelcol_exporter_in_flight_requests", "metrics") == 1.0).await;
}

#[tokio::test]
async fn the_queue_counts_in_its_sizer() {
    let backend = Backend::start([Answer::status(200).delay(NEVER)]).await;
    let subject = Subject::http(&backend, "sending_queue: { sizer: items, queue_size: 10 }");
    subject.send(batch(6)).await.unwrap();
    assert!(matches!(subject.send(batch(6)).await, Err(Refusal::Later { .. })), "no room now");
    assert!(matches!(subject.send(batch(11)).await, Err(Refusal::Final { .. })), "no room ever");
    subject.send(batch(4)).await.unwrap();
    let subject = Subject::http(&backend, "sending_queue: { sizer: bytes, queue_size: 100 }");
    assert!(matches!(subject.send(batch(100)).await, Err(Refusal::Final { .. })));
    let subject = Subject::http(&backend, "sending_queue: { max_memory_mib: 1 }");
    let mut sent = 0;
    while subject.send(batch(1000)).await.is_ok() {
        sent += 1;
    }
    assert!((2..30).contains(&sent), "{sent} batches of 1000 points in 1 MiB");
}

#[tokio::test]
async fn room_is_given_back_when_requests_end() {
    let backend = Backend::start([Answer::status(200)]).await;
    let subject = Subject::http(&backend, "sending_queue: { queue_size: 1, wait_for_result: true }");
    for _ in 0..5 {
        subject.send(batch(1)).await.unwrap();
        until("room", || subject.counted("otelcol_exporter_queue_size", "metrics") == 0.0).await;
    }
    assert_eq!(subject.counted("otelcol_exporter_in_flight_requests", "metrics"), 0.0);
}

#[tokio::test]
async fn without_a_queue_the_sender_hears_of_the_outcome() {
    let backend = Backend::start([Answer::status(400)]).await;
    let subject = Subject::http(&backend, "sending_queue: { enabled: false }");
    assert!(matches!(subject.send(batch(1)).await, Err(Refusal::Final { .. })));
}

#[tokio::test]
async fn batches_are_merged_up_to_min_size() {
    let backend = Backend::start([Answer::status(200)]).await;
    let subject = Subject::http(
        &backend,
        "sending_queue: { wait_for_result: true, batch: { min_size: 25, flush_timeout: 30s } }",
    );
    let outcomes: Vec<_> = (0..3).map(|_| subject.export(batch(10))).collect();
    for outcome in outcomes {
        outcome.await.unwrap().unwrap();
    }
    let received = backend.received();
    assert_eq!(received.len(), 1);
    let expected: Vec<i64> = (0..10).chain(0..10).chain(0..10).collect();
    assert_eq!(values(&received[0].message()), expected);
}

#[tokio::test]
async fn batches_are_sent_at_the_flush_timeout() {
    let backend = Backend::start([Answer::status(200)]).await;
    let subject = Subject::http(&backend, "sending_queue: { wait_for_result: true, batch: { flush_timeout: 100ms } }");
    let started = Instant::now();
    let (first, second) = (subject.export(batch(1)), subject.export(batch(1)));
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn batches_are_split_at_max_size_in_order() {
    for (sizer, max) in [("items", 30), ("bytes", 600)] {
        let backend = Backend::start([Answer::status(200)]).await;
        let yaml = format!(
            "sending_queue: {{ num_consumers: 1, wait_for_result: true, batch: {{ sizer: {sizer}, min_size: 0, max_size: {max} }} }}"
        );
        let subject = Subject::http(&backend, &yaml);
        subject.send(batch(100)).await.unwrap();
        let received = backend.received();
        let all: Vec<i64> = received.iter().flat_map(|request| values(&request.message())).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(received.len() >= 4, "{sizer}: {}", received.len());
        for request in received.iter() {
            let size = if sizer == "items" { values(&request.message()).len() } else { request.plain().len() };
            assert!(size <= max, "{sizer}: {size}");
        }
        drop(received);
        assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 0.0);
        assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 100.0);
    }
}

#[tokio::test]
async fn a_shutdown_sends_what_waits() {
    let backend = Backend::start([Answer::status(200).delay(Duration::from_millis(50))]).await;
    let subject = Subject::http(
        &backend,
        "sending_queue: { num_consumers: 1, batch: { min_size: 1000, max_size: 1000, flush_timeout: 1h } }",
    );
    for _ in 0..5 {
        subject.send(batch(300)).await.unwrap();
    }
    subject.shutdown(Duration::from_secs(10)).await;
    let points: usize = backend.received().iter().map(|request| values(&request.message()).len()).sum();
    assert_eq!(points, 1500);
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 1500.0);
    assert!(matches!(subject.send(batch(1)).await, Err(Refusal::Later { .. })), "closed");
}

#[tokio::test]
async fn a_shutdown_counts_what_it_could_not_send() {
    let backend = Backend::start([Answer::status(200).delay(NEVER)]).await;
    let subject = Subject::http(&backend, "sending_queue: { num_consumers: 1, wait_for_result: true }");
    let outcomes = [subject.export(batch(4)), subject.export(batch(5))];
    until("the first is out", || backend.count() == 1).await;
    let started = Instant::now();
    subject.shutdown(Duration::from_millis(200)).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "shutdown"), 9.0);
    assert_eq!(subject.counted("otelcol_exporter_send_failed_metric_points", ""), 9.0);
    assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 0.0);
    for outcome in outcomes {
        assert!(matches!(outcome.await.unwrap(), Err(Refusal::Later { .. })));
    }
}

#[tokio::test]
async fn a_shutdown_counts_only_the_parts_of_a_shipment_that_were_not_sent() {
    let backend = Backend::start([Answer::status(200), Answer::status(200).delay(NEVER)]).await;
    let subject = Subject::http(&backend, "sending_queue: { num_consumers: 1, batch: { min_size: 0, max_size: 10 } }");
    subject.send(batch(35)).await.unwrap();
    until("the second part is out", || backend.count() == 2).await;
    subject.shutdown(Duration::from_millis(50)).await;
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 10.0);
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "shutdown"), 25.0);
    assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 0.0);
}

#[tokio::test]
async fn a_shutdown_ends_a_wait_for_the_next_attempt() {
    let backend = Backend::start([Answer::status(503), Answer::status(200)]).await;
    let subject = Subject::http(&backend, "retry_on_failure: { initial_interval: 60s, max_interval: 60s }");
    subject.send(batch(1)).await.unwrap();
    until("the first attempt failed", || subject.counted("phoenix_exporter_retries_total", "503") == 1.0).await;
    subject.shutdown(Duration::from_secs(10)).await;
    assert_eq!(backend.count(), 2);
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 1.0);
}

#[tokio::test]
async fn every_point_is_accounted_for() {
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: String::new() };
    let partial = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let answers = (0..60).map(|turn| match turn % 6 {
        0 => Answer::status(200).header("content-type", "application/x-protobuf").body(partial.clone()),
        1 => Answer::status(503),
        2 => Answer::status(400).delay(Duration::from_millis(5)),
        3 => Answer::status(429).header("retry-after", "0"),
        4 => Answer::status(200).delay(NEVER),
        _ => Answer::status(200),
    });
    let backend = Backend::start(answers.chain([Answer::status(200)])).await;
    let subject = Subject::http(
        &backend,
        "timeout: 50ms
retry_on_failure: { initial_interval: 20ms, max_interval: 20ms, max_elapsed_time: 100ms }
sending_queue: { num_consumers: 3, queue_size: 12, batch: { min_size: 15, max_size: 20, flush_timeout: 20ms } }",
    );
    let mut exported = 0;
    for turn in 0..200 {
        let points = 1 + turn * 7 % 40;
        exported += points;
        // Refused or taken: either way it is counted.
        let _ = subject.send(batch(points)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    subject.shutdown(Duration::from_millis(100)).await;
    let counts = ["sent", "send_failed", "enqueue_failed"]
        .map(|way| subject.counted(&format!("otelcol_exporter_{way}_metric_points"), ""));
    assert!(counts.iter().all(|count| *count > 0.0), "all three ways were taken: {counts:?}");
    assert_eq!(counts.iter().sum::<f64>(), exported as f64, "{counts:?}");
    assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 0.0);
    assert_eq!(subject.counted("otelcol_exporter_in_flight_requests", "metrics"), 0.0);
}
