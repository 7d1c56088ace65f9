//! What the sender does when the destination cannot: splitting, throttles, the circuit, hostile answers.

use std::time::{Duration, Instant};

use phoenix_pipeline::{Delivery, Refusal, Shipment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::support::*;

fn all_values(backend: &Backend) -> Vec<i64> {
    backend.received().iter().flat_map(|request| values(&request.message())).collect()
}

#[tokio::test]
async fn requests_are_split_at_the_configured_size_in_order() {
    let backend = Backend::start([Answer::status(200)]).await;
    let queue = "sending_queue: { num_consumers: 1, wait_for_result: true, max_request_size: 500 }\ncompression: none";
    let subject = Subject::http(&backend, queue);
    subject.send(batch(200)).await.unwrap();
    assert_eq!(all_values(&backend), (0..200).collect::<Vec<_>>());
    assert!(backend.received().iter().all(|request| request.body.len() <= 500));
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 200.0);
    assert!(subject.counted("phoenix_exporter_split_requests_total", "") > 3.0);
}

#[tokio::test]
async fn a_peer_that_says_too_large_gets_halves_until_one_point_is_left() {
    let answers = [413, 413, 200, 200, 200].map(Answer::status);
    let backend = Backend::start(answers).await;
    let subject = Subject::http(&backend, EAGER);
    subject.send(batch(40)).await.unwrap();
    let sizes: Vec<usize> = backend.received().iter().map(|request| values(&request.message()).len()).collect();
    assert_eq!(sizes, [40, 20, 10, 10, 20]);
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 40.0);

    let never = Backend::start([Answer::status(413)]).await;
    let subject = Subject::http(&never, EAGER);
    assert!(matches!(subject.send(batch(8)).await, Err(Refusal::Final { .. })));
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "413"), 8.0);
    assert_eq!(never.count(), 15, "8 points are 15 requests down to single points");
}

#[tokio::test]
async fn a_throttle_holds_the_whole_destination() {
    let backend = Backend::start([Answer::status(429).header("retry-after", "1"), Answer::status(200)]).await;
    let subject = Subject::http(&backend, EAGER);
    let first = subject.export(batch(1));
    until("the first was throttled", || subject.counted("phoenix_exporter_retries_total", "429") == 1.0).await;
    let second = subject.export(batch(1));
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let received = backend.received();
    assert!(received[1].at - received[0].at >= Duration::from_millis(950), "nothing is sent before the peer allows it");
}

#[tokio::test]
async fn a_dead_destination_is_probed_by_one_request_at_a_time() {
    let backend = Backend::start([Answer::status(503)]).await;
    let subject = Subject::http(
        &backend,
        "retry_on_failure: { initial_interval: 200ms, max_interval: 200ms, randomization_factor: 0 }",
    );
    for _ in 0..50 {
        subject.send(batch(1)).await.unwrap();
    }
    until("the circuit is open", || subject.counted("phoenix_exporter_concurrency_limit", "") == 1.0).await;
    // Those that were on their way together have ended as well.
    until("nothing is out", || subject.counted("otelcol_exporter_in_flight_requests", "metrics") == 0.0).await;
    let (before, started) = (backend.count(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let allowed = started.elapsed().as_millis() as usize / 200 + 2;
    assert!(
        backend.count() - before <= allowed,
        "{} attempts where {allowed} probes have room",
        backend.count() - before
    );
}

#[tokio::test]
async fn a_queue_in_memory_evicts_its_oldest_where_it_may() {
    let backend = Backend::start([Answer::status(200).delay(NEVER)]).await;
    let evicted = |subject: &Subject| subject.counted("phoenix_exporter_dropped_metric_points_total", "evicted_size");
    let subject = Subject::http(&backend, "sending_queue: { num_consumers: 1, queue_size: 3 }");
    subject.send(batch(1)).await.unwrap();
    until("one is out", || subject.counted("otelcol_exporter_in_flight_requests", "metrics") == 1.0).await;
    subject.send(batch(2)).await.unwrap();
    subject.send(batch(4)).await.unwrap();
    assert!(subject.send(batch(8)).await.is_err(), "who sends hears later");
    assert_eq!(evicted(&subject), 0.0);
    subject.exporter.export(Shipment::new(batch(8)), Delivery::none());
    assert_eq!(evicted(&subject), 2.0, "a scrape takes the place of the oldest that waits");
    let subject = Subject::http(&backend, "sending_queue: { num_consumers: 1, queue_size: 2, on_full: evict_oldest }");
    subject.send(batch(1)).await.unwrap();
    until("one is out", || subject.counted("otelcol_exporter_in_flight_requests", "metrics") == 1.0).await;
    subject.send(batch(2)).await.unwrap();
    subject.send(batch(4)).await.unwrap();
    assert_eq!(evicted(&subject), 2.0);
}

/// A peer that reads a request and answers these bytes, then ends the connection, or begins again with `endless`.
async fn raw(answer: &'static [u8], endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                while stream.write_all(answer).await.is_ok() && endless {}
            });
        }
    });
    url
}

#[tokio::test]
async fn broken_answers_are_tried_again_and_endless_ones_end() {
    const RETRY: &str = "timeout: 2s
retry_on_failure: { initial_interval: 10ms, max_interval: 10ms, max_elapsed_time: 60ms }
sending_queue: { wait_for_result: true }";
    for (what, answer, endless, taken) in [
        ("a reset", &b""[..], false, false),
        ("half a head", b"HTTP/1.1 200 O", false, false),
        ("garbage", b"SSH-2.0-OpenSSH\r\n", false, false),
        ("an endless head", b"HTTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", true, false),
        ("an endless body", b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\nyyyyyyyyyyyyyyyyyy", true, true),
    ] {
        let url = raw(answer, endless).await;
        let subject = Subject::new(&phoenix_exporters::otlp::http::FACTORY, &format!("endpoint: {url}\n{RETRY}"));
        let outcome = subject.send(batch(3)).await;
        match taken {
            true => assert_eq!(outcome, Ok(()), "{what}: the status says that the data was taken"),
            false => assert!(matches!(outcome, Err(Refusal::Later { .. })), "{what}: {outcome:?}"),
        }
    }
}
