//! HTTP/1.1 and HTTP/2: encodings, codings, statuses.

use std::io::Write;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use phoenix_pipeline::Refusal;
use phoenix_transport::answer::RpcStatus;
use prost::Message;

use super::support::*;

#[tokio::test]
async fn protobuf_and_json_arrive_as_they_were_sent() {
    let rig = Rig::new("", "", "");
    let request = request(3, 10);
    let heard = export(rig.http, &[], request.encode_to_vec()).await;
    assert_eq!((heard.status, heard.body.len()), (200, 0), "{}", heard.head);
    assert!(heard.head.contains("content-type: application/x-protobuf"), "{}", heard.head);
    let json = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"j","gauge":{"dataPoints":[{"timeUnixNano":"5","asInt":"7"}]}}]}]}]}"#;
    let at = rig.http;
    let kind = ("content-type", "application/json; charset=utf-8");
    let heard = tokio::task::spawn_blocking(move || exchange(at, &post("/v1/metrics", &[kind], json))).await.unwrap();
    assert_eq!((heard.status, heard.body.as_slice()), (200, b"{}".as_ref()), "{}", heard.head);
    let arrived = rig.arrived();
    assert_eq!(arrived[0], request);
    assert_eq!(arrived[1].resource_metrics[0].scope_metrics[0].metrics[0].name, "j");
    assert_eq!(rig.counted("otelcol_receiver_accepted_metric_points", "http"), 4.0);
    assert_eq!(rig.held(), 0.0);
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_coding_and_no_other() {
    let rig = Rig::new("", "", "");
    let plain = request(500, 100).encode_to_vec();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&plain).unwrap();
    let zlib = zlib.finish().unwrap();
    let snappy = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let cases: [(Headers, Vec<u8>, u16); 8] = [
        (&[("content-encoding", "gzip")], gzip(&plain), 200),
        (&[("content-encoding", "zstd")], zstd::encode_all(plain.as_slice(), 1).unwrap(), 200),
        (&[("content-encoding", "deflate")], zlib.clone(), 200),
        (&[("content-encoding", "zlib")], zlib, 200),
        (&[("content-encoding", "snappy")], snappy, 200),
        (&[("content-encoding", "identity")], plain.clone(), 200),
        (&[("content-encoding", "br")], plain.clone(), 415),
        (&[("content-encoding", "gzip")], plain, 400),
    ];
    for (headers, body, status) in cases {
        let heard = export(rig.http, headers, body).await;
        assert_eq!(heard.status, status, "{headers:?}: {} {}", heard.head, String::from_utf8_lossy(&heard.body));
    }
    assert!(rig.arrived().iter().all(|arrived| *arrived == request(500, 100)) && rig.arrived().len() == 6);
}

#[tokio::test]
async fn statuses_and_their_bodies() {
    let rig = Rig::new("", "", "metrics_url_path: /m");
    let at = rig.http;
    let ask = async move |bytes: Vec<u8>| tokio::task::spawn_blocking(move || exchange(at, &bytes)).await.unwrap();
    let proto = ("content-type", "application/x-protobuf");
    let json = ("content-type", "application/json");
    assert_eq!(ask(post("/v1/metrics", &[proto], b"")).await.status, 404);
    assert_eq!(ask(post("/v1/traces", &[proto], b"")).await.status, 404);
    let heard = ask(b"GET /m HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec()).await;
    assert!(heard.status == 405 && heard.head.contains("allow: post"), "{heard:?}");
    let heard = ask(post("/m", &[("content-type", "text/plain")], b"x")).await;
    assert!(heard.status == 415 && heard.head.contains("content-type: text/plain"), "{heard:?}");
    assert_eq!(ask(post("/m", &[], b"x")).await.status, 415);
    assert_eq!(ask(post("/m", &[proto], b"")).await.status, 200, "an empty request is a request");
    let heard = ask(post("/m", &[proto], b"\x0a\x05\x0a\x7f")).await;
    let status = RpcStatus::decode(heard.body.as_slice()).unwrap();
    assert!(heard.status == 400 && status.code == 3 && status.message.contains("at byte"), "{status:?}");
    let heard = ask(post("/m", &[json], b"{\"resourceMetrics\": 3}")).await;
    let status: serde_json::Value = serde_json::from_slice(&heard.body).unwrap();
    assert!(heard.status == 400 && status["message"].as_str().unwrap().contains("at byte"), "{status}");
    assert_eq!(rig.counted("phoenix_receiver_refused_requests_total", "malformed"), 2.0);
    assert_eq!(rig.counted("phoenix_receiver_refused_requests_total", "not_served"), 3.0);
}

#[tokio::test]
async fn what_the_pipeline_says_is_passed_on() {
    let rig = Rig::new("", "", "");
    rig.mood(Mood::Refuse(Refusal::Later { reason: "busy".into(), after: Some(Duration::from_secs(7)) }));
    let heard = export(rig.http, &[], request(1, 1).encode_to_vec()).await;
    assert!(heard.status == 503 && heard.head.contains("retry-after: 7"), "{heard:?}");
    assert_eq!(RpcStatus::decode(heard.body.as_slice()).unwrap().retry_delay(), Some(Duration::from_secs(7)));
    rig.mood(Mood::Refuse(Refusal::last("never")));
    let heard = export(rig.http, &[], request(1, 1).encode_to_vec()).await;
    assert!(heard.status == 500 && !heard.head.contains("retry-after"), "{heard:?}");
}

#[tokio::test]
async fn part_of_a_request_that_cannot_be_used_is_said() {
    let rig = Rig::new("", "", "");
    let mut request = request(2, 1);
    request.resource_metrics[0].scope_metrics[0].metrics.push(without_temporality());
    let heard = export(rig.http, &[], request.encode_to_vec()).await;
    let partial = ExportMetricsServiceResponse::decode(heard.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!((heard.status, partial.rejected_data_points), (200, 1));
    assert!(partial.error_message.contains("temporality") && partial.error_message.contains("bad"), "{partial:?}");
    request.resource_metrics[0].scope_metrics[0].metrics.pop();
    assert_eq!(rig.arrived(), [request]);
}

#[tokio::test]
async fn http2_without_tls_is_served_on_the_same_port() {
    let rig = Rig::new("", "", "");
    let stream = tokio::net::TcpStream::connect(rig.http).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let body = Full::new(bytes::Bytes::from(request(2, 5).encode_to_vec()));
        let request = http::Request::post(format!("http://{}/v1/metrics", rig.http))
            .header("content-type", "application/x-protobuf");
        let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(rig.arrived().len(), 3);
}
