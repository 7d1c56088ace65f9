//! `otlp_http` on the wire.

use std::time::Duration;

use ::http::Version;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use phoenix_exporters::otlp;
use phoenix_pipeline::{Health, Refusal};
use phoenix_telemetry::Limits;
use prost::Message;

use super::support::*;

#[tokio::test]
async fn protobuf_with_every_compression() {
    for (compression, token) in [
        ("gzip", Some("gzip")),
        ("zstd", Some("zstd")),
        ("zlib", Some("zlib")),
        ("deflate", Some("deflate")),
        ("none", None),
        ("\"\"", None),
    ] {
        let backend = Backend::start([Answer::status(200)]).await;
        let subject =
            Subject::http(&backend, &format!("compression: {compression}\nheaders: {{ api-key: hunter2 }}\n{EAGER}"));
        subject.send(batch(500)).await.unwrap();
        let received = backend.received();
        let request = &received[0];
        assert_eq!(request.path, "/v1/metrics");
        assert_eq!(request.version, Version::HTTP_11);
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert_eq!(request.headers.get("content-encoding").map(|token| token.to_str().unwrap()), token);
        assert_eq!(request.headers["user-agent"], "Phoenix/0.0.0-test OTel-OTLP-Exporter-Rust/0.0.0-test");
        assert_eq!(request.headers["api-key"], "hunter2");
        assert_eq!(request.headers["host"], backend.address.to_string());
        assert_eq!(request.headers["content-length"], request.body.len().to_string());
        assert_eq!(values(&request.message()), (0..500).collect::<Vec<_>>());
        assert!(token.is_none() || request.body.len() * 4 < request.plain().len(), "{compression} made it smaller");
        assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", "otlp/test"), 500.0);
    }
}

#[tokio::test]
async fn json_is_what_the_otlp_mapping_says() {
    let backend = Backend::start([Answer::status(200).header("content-type", "application/json").body("{}")]).await;
    let subject = Subject::http(&backend, &format!("encoding: json\n{EAGER}"));
    subject.send(batch(3)).await.unwrap();
    let received = backend.received();
    assert_eq!(received[0].headers["content-type"], "application/json");
    let json: serde_json::Value = serde_json::from_slice(&received[0].plain()).unwrap();
    let point = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"][2];
    assert_eq!(point["asInt"], "2", "64-bit integers are strings: {point}");
    let protobuf = phoenix_telemetry::json::read(&received[0].plain(), &Limits::default()).unwrap();
    let decode = |bytes: &[u8]| ExportMetricsServiceRequest::decode(bytes).unwrap();
    assert_eq!(decode(&protobuf), decode(&batch(3).encode()));
}

#[tokio::test]
async fn a_base_url_keeps_its_path_and_a_metrics_endpoint_is_exact() {
    let backend = Backend::start([Answer::status(200)]).await;
    let url = backend.url();
    for (yaml, path) in [
        (format!("endpoint: {url}/otlp/"), "/otlp/v1/metrics"),
        (format!("metrics_endpoint: {url}/in?tenant=1"), "/in?tenant=1"),
        (format!("endpoint: http://nowhere.invalid:1\nmetrics_endpoint: {url}"), "/"),
    ] {
        Subject::new(&otlp::http::FACTORY, &format!("{yaml}\n{EAGER}")).send(batch(1)).await.unwrap();
        assert_eq!(backend.received().last().unwrap().path, path);
    }
}

#[tokio::test]
async fn a_503_with_retry_after_is_repeated_after_that_time() {
    let backend = Backend::start([Answer::status(503).header("retry-after", "1"), Answer::status(200)]).await;
    let subject = Subject::http(&backend, EAGER);
    subject.send(batch(2)).await.unwrap();
    let received = backend.received();
    assert_eq!(received.len(), 2);
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
    assert_eq!(received[0].body, received[1].body, "the request is made once");
    assert_eq!(subject.counted("phoenix_exporter_retries_total", "503"), 1.0);
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 2.0);
    assert_eq!(subject.counted("otelcol_exporter_send_failed_metric_points", ""), 0.0);
    assert_eq!(subject.site.status.board().snapshot()["otlp/test"], Health::Ok);
}

#[tokio::test]
async fn a_400_is_not_repeated() {
    let answer =
        Answer::status(400).header("content-type", "application/json").body(r#"{"code":3,"message":"no unit"}"#);
    let backend = Backend::start([answer]).await;
    let subject = Subject::http(&backend, EAGER);
    let refusal = subject.send(batch(2)).await.unwrap_err();
    assert_eq!(refusal, Refusal::last("the peer answered 400 Bad Request: no unit"));
    assert_eq!(backend.count(), 1);
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "400"), 2.0);
    assert_eq!(subject.counted("otelcol_exporter_send_failed_metric_points", ""), 2.0);
    assert!(matches!(subject.site.status.board().snapshot()["otlp/test"], Health::Recoverable(_)));
}

#[tokio::test]
async fn a_partial_success_is_counted_and_not_repeated() {
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "too old".into() };
    let response = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let backend =
        Backend::start([Answer::status(200).header("content-type", "application/x-protobuf").body(response)]).await;
    let subject = Subject::http(&backend, EAGER);
    subject.send(batch(5)).await.unwrap();
    assert_eq!(backend.count(), 1);
    assert_eq!(subject.counted("otelcol_exporter_sent_metric_points", ""), 3.0);
    assert_eq!(subject.counted("otelcol_exporter_send_failed_metric_points", ""), 2.0);
    assert_eq!(subject.counted("phoenix_exporter_rejected_metric_points_total", ""), 2.0);
}

#[tokio::test]
async fn a_giant_answer_is_cut() {
    let giant = vec![b'x'; 16 << 20];
    let ok = Answer::status(200).header("content-type", "application/x-protobuf").body(giant.clone());
    let bad = Answer::status(400).header("content-type", "text/plain").body(giant);
    let backend = Backend::start([ok, bad]).await;
    let subject = Subject::http(&backend, EAGER);
    subject.send(batch(1)).await.unwrap();
    let refusal = subject.send(batch(1)).await.unwrap_err();
    assert!(refusal.to_string().len() < 1000, "{refusal}");
}

#[tokio::test]
async fn a_peer_that_does_not_answer_is_a_timeout() {
    let backend = Backend::start([Answer::status(200).delay(NEVER)]).await;
    let yaml = "timeout: 100ms\nsending_queue: { wait_for_result: true }\nretry_on_failure: { enabled: false }";
    let subject = Subject::http(&backend, yaml);
    let refusal = subject.send(batch(1)).await.unwrap_err();
    assert_eq!(refusal, Refusal::later("no answer within the timeout of 100ms"));
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "timeout"), 1.0);
}

#[tokio::test]
async fn a_peer_that_is_away_is_found_when_it_comes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let subject = Subject::new(&otlp::http::FACTORY, &format!("endpoint: http://{address}\n{EAGER}"));
    let outcome = subject.export(batch(1));
    until("a failed attempt", || subject.counted("phoenix_exporter_retries_total", "connection") >= 1.0).await;
    let Health::Recoverable(why) = subject.site.status.board().snapshot()["otlp/test"].clone() else {
        panic!("no fault")
    };
    assert!(why.contains(&address.to_string()) && why.to_lowercase().contains("connection refused"), "{why}");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let handler: Handler = std::sync::Arc::new(|_| Box::pin(async { ::http::Response::new(body("")) }));
    tokio::spawn(accept(listener, None, false, handler));
    outcome.await.unwrap().unwrap();
    assert_eq!(subject.site.status.board().snapshot()["otlp/test"], Health::Ok);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let backend = Backend::start([Answer::status(307).header("location", "http://elsewhere/")]).await;
    let refusal = Subject::http(&backend, EAGER).send(batch(1)).await.unwrap_err();
    assert!(refusal.to_string().contains("set the endpoint to http://elsewhere/"), "{refusal}");
}

#[test]
fn wrong_settings_say_what_and_where() {
    let check = |yaml: &str| {
        let value = phoenix_pipeline::config::parse("c.yaml", yaml).unwrap();
        (otlp::http::FACTORY.validate)(&value).into_iter().map(|mistake| mistake.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        check("endpoint: https://a\nsending_queue:\nretry_on_failure: { enabled: false }\ntls: {}"),
        Vec::<String>::new()
    );
    let one = |yaml: &str, part: &str| {
        let mistakes = check(yaml);
        assert!(mistakes.len() == 1 && mistakes[0].contains(part), "{yaml}: {mistakes:?}");
    };
    one("{}", "is required: a base URL");
    one("endpoint: localhost:4318", "c.yaml:1:11: endpoint: \"localhost:4318\" is no URL with http:// or https://");
    one(
        "endpoint: http://a\ncompression: snappy",
        "c.yaml:2:14: compression: \"snappy\" is not served; allowed: gzip, zstd, none (over HTTP",
    );
    one(
        "endpoint: http://a\ncompression_params: { level: 12 }",
        "12 is no level of this compression; allowed: -1 and 1 to 9",
    );
    one("endpoint: http://a\nproxy_url: http://p", "proxies are not served");
    one("endpoint: http://a\nmiddlewares: [a]", "middleware extensions are not served");
    one("endpoint: http://a\nheaders: { \"a b\": x }", "is no header name");
    one("endpoint: http://a\nsending_queue: { num_consumers: 0 }", "0 is not allowed: 1 to 1024 are");
    one("endpoint: http://a\nsending_queue: { queue_size: 0 }", "0 would refuse everything");
    one("endpoint: http://a\nsending_queue: { batch: { min_size: 10, max_size: 5 } }", "5 is less than min_size (10)");
    one(
        "endpoint: http://a\nsending_queue: { sizer: items, queue_size: 10, batch: {} }",
        "8192 is more than queue_size (10)",
    );
    one("endpoint: http://a\nretry_on_failure: { multiplier: 0.5 }", "0.5 would make the waits shrink");
    one("endpoint: http://a\nretry_on_failure: { randomization_factor: 2 }", "2 is not a jitter");
    one("endpoint: http://a\nretry_on_failure: { max_elapsed_time: 1s, max_interval: 1s }", "initial_interval");
    one("endpoint: http://a\ntls: { min_version: \"1.4\" }", "\"1.4\" is not allowed here");
    one("endpoint: http://a\ntls: { max_version: \"1.1\" }", "TLS older than 1.2 is not spoken");
    one("endpoint: http://a\ntls: { cert_file: a.pem }", "a certificate and its key go together");
    one("endpoint: http://a\ntls: { cipher_suites: [TLS_RSA_WITH_RC4_128_SHA] }", "TLS_RSA_WITH_RC4_128_SHA");
    one("endpoint: http://a\ntls: { curve_preferences: [P521] }", "P521");
    let secret = check("endpoint: http://a\nheaders: { x: \"hunter2\\n\" }");
    assert!(secret.len() == 1 && !secret[0].contains("hunter2"), "{secret:?}");
}

#[test]
fn secrets_are_not_printed() {
    let value = phoenix_pipeline::config::parse(
        "c.yaml",
        "endpoint: http://a\nheaders: { api-key: hunter2 }\ntls: { key_pem: hunter2, cert_pem: hunter2 }",
    )
    .unwrap();
    let config: otlp::http::Config = phoenix_pipeline::config::read(&value).unwrap();
    let yaml = serde_yaml::to_string(&config).unwrap();
    assert!(
        yaml.contains("api-key: '[REDACTED]'")
            && !yaml.contains("hunter2")
            && !format!("{config:?}").contains("hunter2"),
        "{yaml}"
    );
}

#[test]
fn printed_settings_read_back_as_they_were() {
    let read = |yaml: &str| {
        let value = phoenix_pipeline::config::parse("c.yaml", yaml).unwrap();
        phoenix_pipeline::config::read::<otlp::http::Config>(&value).unwrap()
    };
    for yaml in [
        "endpoint: http://a",
        "endpoint: http://a\nsending_queue: { batch: , storage: s }\ncompression: zstd\nencoding: json",
    ] {
        let config = read(yaml);
        assert_eq!(config.sending_queue.batch.is_some(), yaml.contains("batch"));
        assert_eq!(read(&serde_yaml::to_string(&config).unwrap()), config);
    }
}
