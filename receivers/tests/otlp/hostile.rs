//! Peers that mean no good: each meets a limit, is counted, and leaves the others alone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use phoenix_transport::answer::RpcStatus;
use prost::Message;

use super::grpc::{client, raw};
use super::support::*;

const REFUSED: &str = "phoenix_receiver_refused_requests_total";
const CLOSED: &str = "phoenix_receiver_closed_connections_total";
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// 64 MiB of zeros.
fn bombs() -> [(Headers, Vec<u8>); 4] {
    let zeros = vec![0u8; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&zeros).unwrap();
    [
        (&[("content-encoding", "gzip")], gzip.finish().unwrap()),
        (&[("content-encoding", "deflate")], zlib.finish().unwrap()),
        (&[("content-encoding", "zstd")], zstd::encode_all(zeros.as_slice(), 1).unwrap()),
        (&[("content-encoding", "snappy")], snap::raw::Encoder::new().compress_vec(&zeros).unwrap()),
    ]
}

#[tokio::test]
async fn a_bomb_of_every_coding_is_refused_on_both_transports() {
    let rig = Rig::new("admission: {limit_mib: 16}", "", "");
    for (headers, bomb) in bombs() {
        let heard = export(rig.http, headers, bomb.clone()).await;
        assert_eq!(heard.status, 413, "{headers:?}: {}", heard.head);
        let mut framed = vec![1];
        framed.extend(u32::try_from(bomb.len()).unwrap().to_be_bytes());
        framed.extend(bomb);
        let answer = raw(&rig, EXPORT, &[("grpc-encoding", headers[0].1)], &framed).await;
        assert_eq!(answer["grpc-status"], "8", "{headers:?}");
        assert!(!answer.contains_key("grpc-status-details-bin"), "final");
    }
    assert_eq!((rig.held(), rig.counted(REFUSED, "too_large")), (0.0, 8.0));
}

#[tokio::test]
async fn what_says_it_is_too_large_is_refused_before_it_is_sent() {
    let rig = Rig::new("", "max_recv_msg_size_mib: 1", "max_request_body_size: 1000");
    let at = rig.http;
    let heard = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "POST /v1/metrics HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        heard(&mut stream)
    });
    let heard = heard.await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&heard.body).unwrap();
    assert!(heard.status == 413 && status["code"] == 8, "{heard:?}");
    assert_eq!(raw(&rig, EXPORT, &[], &[0, 0xff, 0xff, 0xff, 0xff, 1, 2]).await["grpc-status"], "8");
}

#[tokio::test]
async fn an_answer_reaches_a_peer_that_is_still_sending() {
    let rig = Rig::new("", "", "max_request_body_size: 1000");
    for _ in 0..10 {
        assert_eq!(export(rig.http, &[], vec![0; 3 << 20]).await.status, 413);
    }
}

#[tokio::test]
async fn without_room_a_peer_hears_later_at_once_and_others_still_have_theirs() {
    let rig = Rig::new("ack: on_export, admission: {limit_mib: 1, connection_percentage: 60}", "", "");
    rig.mood(Mood::Hold);
    let mut greedy = client(&rig).await;
    let large = || request(1, 300 << 10);
    let mut again = greedy.clone();
    let waiting = tokio::spawn(async move { greedy.export(large()).await });
    rig.until("the first arrives", |rig| rig.sink.held.lock().unwrap().len() == 1).await;
    let status = again.export(large()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(RpcStatus::decode(status.details()).unwrap().retry_delay().is_some(), "it may come again");
    // Another connection has a share of its own.
    let other = tokio::spawn(export(rig.http, &[], request(1, 150 << 10).encode_to_vec()));
    rig.until("another peer's arrives", |rig| rig.sink.held.lock().unwrap().len() == 2).await;
    // Now the receiver's room is short for everybody, and HTTP says so, too.
    let heard = export(rig.http, &[], request(1, 300 << 10).encode_to_vec()).await;
    let more = export(rig.http, &[], request(1, 300 << 10).encode_to_vec()).await;
    assert_eq!([heard.status, more.status], [429, 429], "{heard:?} {more:?}");
    for delivery in rig.sink.held.lock().unwrap().drain(..) {
        delivery.delivered();
    }
    waiting.await.unwrap().unwrap();
    assert_eq!(other.await.unwrap().status, 200);
    rig.mood(Mood::Take);
    again.export(large()).await.unwrap();
    assert!(rig.counted(REFUSED, "no_room") >= 2.0);
    assert_eq!(rig.held(), 0.0);
}

#[tokio::test]
async fn a_giant_attribute_deep_values_and_empty_messages_are_refused() {
    let rig = Rig::new("", "", "max_request_body_size: 100000000");
    let giant = export(rig.http, &[], request(1, 64 << 20).encode_to_vec()).await;
    assert!([200, 413].contains(&giant.status), "{}", giant.head);
    // A million levels of arrays.
    let deep = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"a","value":{}1{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(100_000),
        "]}}".repeat(100_000)
    );
    let at = rig.http;
    let kind = ("content-type", "application/json");
    let heard = tokio::task::spawn_blocking(move || exchange(at, &post("/v1/metrics", &[kind], deep.as_bytes())));
    assert_eq!(heard.await.unwrap().status, 400);
    // Metrics without anything in them: two bytes each, a hundred in the index.
    let metrics: Vec<u8> = [0x12, 0x00].repeat(1 << 20);
    let wrap = |body: Vec<u8>, tag: u8| {
        let mut out = vec![tag];
        let mut length = body.len();
        while length > 127 {
            out.push(length as u8 | 128);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(body);
        out
    };
    let heard = export(rig.http, &[], wrap(wrap(metrics, 0x12), 0x0a)).await;
    assert_eq!(heard.status, 400, "{}", String::from_utf8_lossy(&heard.body));
    rig.until("all room is given back", |rig| rig.held() == 0.0).await;
}

#[tokio::test]
async fn a_body_that_does_not_get_on_is_cut() {
    let rig = Rig::new("admission: {stall_timeout: 300ms}", "", "");
    let at = rig.http;
    let heard = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "POST /v1/metrics HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 500000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // A byte now and then is no progress.
        for _ in 0..100 {
            if stream.write_all(b"\0").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        heard(&mut stream)
    });
    let heard = heard.await.unwrap();
    assert!(heard.status == 408 || heard.status == 0, "{heard:?}");
    assert_eq!((rig.counted(REFUSED, "stalled"), rig.held()), (1.0, 0.0));
}

/// Waits for the server to close a connection on which `says` was said.
async fn closed_after(rig: &Rig, says: &'static str) {
    let at = rig.http;
    let closed = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(says.as_bytes()).unwrap();
        let started = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        started.elapsed()
    });
    assert!(closed.await.unwrap() < PATIENCE, "closed by the server");
}

#[tokio::test]
async fn silent_slow_and_idle_connections_are_closed() {
    let rig = Rig::new("admission: {handshake_timeout: 100ms}", "", "idle_timeout: 100ms");
    closed_after(&rig, "").await;
    closed_after(&rig, "POST /v1/metrics HTTP/1.1\r\nhost: a\r\nx-slow").await;
    closed_after(
        &rig,
        "POST /v1/metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-type: application/json\r\n\r\n",
    )
    .await;
    for reason in ["silent", "slow_head", "idle"] {
        assert_eq!(rig.counted(CLOSED, reason), 1.0, "{reason}");
    }
    rig.until("no connection is left", |rig| rig.counted("phoenix_receiver_connections", "http") == 0.0).await;
}

#[tokio::test]
async fn a_flood_of_connections_finds_a_limit_and_makes_room_again() {
    let rig = Rig::new("admission: {max_connections: 20, handshake_timeout: 300ms}", "", "");
    let flood: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(rig.http).unwrap()).collect();
    rig.until("the rest is closed", |rig| rig.counted(CLOSED, "too_many") == 80.0).await;
    assert!(rig.counted("phoenix_receiver_connections", "http") <= 20.0);
    rig.until("the silent ones make room", |rig| rig.counted("phoenix_receiver_connections", "http") == 0.0).await;
    assert_eq!(export(rig.http, &[], request(1, 1).encode_to_vec()).await.status, 200);
    drop(flood);
}

#[tokio::test]
async fn idle_connections_make_room_when_places_are_short() {
    let rig = Rig::new("admission: {max_connections: 2, handshake_timeout: 200ms}", "", "");
    let idle: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(rig.grpc).unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            stream
        })
        .collect();
    rig.until("they make room", |rig| rig.counted(CLOSED, "idle") == 2.0).await;
    rig.until("their places are free", |rig| rig.counted("phoenix_receiver_connections", "grpc") == 0.0).await;
    client(&rig).await.export(request(1, 1)).await.unwrap();
    drop(idle);
}
