//! What real clients send arrives: OpenTelemetry's Python SDK and the Collector, by every transport.

use std::path::Path;
use std::process::Command;

use crate::harness::{PATIENCE, Room, Running, agent, finish, free_port, get, required, runs, skip, until};
use crate::otlp_json::{Sample, read};

/// The agent between an `otlp` receiver and a file.
fn start(room: &Room, more: &str) -> (Running, u16, u16) {
    let (grpc, http, health) = (free_port(), free_port(), free_port());
    let running = room.phoenix(&format!(
        "receivers:\n  otlp:\n    protocols: {{grpc: {{endpoint: \"127.0.0.1:{grpc}\"}}, http: {{endpoint: \"127.0.0.1:{http}\"}}}}\n    {more}\n\
         exporters:\n  file: {{path: \"{}\", flush_interval: 100ms}}\n\
         extensions:\n  health_check: {{endpoint: \"127.0.0.1:{health}\"}}\n\
         service:\n  extensions: [health_check]\n  telemetry: {{metrics: {{level: none}}}}\n  \
         pipelines: {{metrics: {{receivers: [otlp], exporters: [file]}}}}\n",
        room.path("phoenix.json").display()
    ));
    until("the agent to be ready", PATIENCE, || get(health, "/", "").ok().filter(|answer| answer.status == 200));
    (running, grpc, http)
}

#[test]
fn the_python_sdk_works_unchanged_by_both_transports() {
    let import = "import opentelemetry.sdk.metrics, opentelemetry.exporter.otlp.proto.grpc, \
        opentelemetry.exporter.otlp.proto.http";
    if !required("Python's OpenTelemetry SDK", runs("python3", &["-c", import])) {
        return;
    }
    let room = Room::new();
    // OK means that the line is in the file.
    let (mut phoenix, grpc, http) = start(&room, "ack: on_export");
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/otlp_sdk.py"));
    let cases = [("grpc", grpc, "none"), ("grpc", grpc, "gzip"), ("http", http, "none"), ("http", http, "gzip")];
    for (value, (protocol, port, compression)) in (1..).zip(cases) {
        let mut command = Command::new("python3");
        command.arg(script).args([protocol, &format!("http://127.0.0.1:{port}"), &value.to_string(), compression]);
        let output = finish(&mut command);
        assert!(output.status.success(), "{protocol} {compression}: {}", String::from_utf8_lossy(&output.stderr));
        let samples = read(&room.path("phoenix.json"));
        let service = format!("sdk-{protocol}-{compression}");
        let of = |metric: &str| {
            let found = samples
                .iter()
                .find(|sample| sample.metric == metric && sample.resource.get("service.name") == Some(&service));
            found.unwrap_or_else(|| panic!("{metric} of {service} is in the file when OK was said")).clone()
        };
        let requests = of("sdk.requests");
        assert_eq!((requests.value, requests.shape.kind), (f64::from(value), "monotonic sum"));
        assert_eq!(requests.attributes["route"], "/a");
        assert_eq!(of("sdk.open").value, f64::from(value));
    }
    phoenix.end();
}

#[test]
fn what_the_collector_sends_arrives_as_it_wrote_it() {
    let Some(program) = std::env::var_os("PHOENIX_PEER_OTELCOL") else {
        skip("PHOENIX_PEER_OTELCOL names no OpenTelemetry Collector");
        return;
    };
    let room = Room::new();
    let (mut phoenix, grpc, http) = start(&room, "");
    let own = room.path("collector.json");
    let roads =
        [("grpc", "gzip"), ("grpc", "zstd"), ("grpc", "snappy"), ("grpc", "none"), ("http", "gzip"), ("http", "zstd")]
            .into_iter()
            .chain([("http", "snappy"), ("http", "zlib"), ("http", "deflate"), ("http", "none"), ("json", "gzip")]);
    let (mut exporters, mut names) = (String::new(), Vec::new());
    for (protocol, compression) in roads {
        let (name, place) = match protocol {
            "grpc" => {
                (format!("otlp/{compression}"), format!("endpoint: \"127.0.0.1:{grpc}\", tls: {{insecure: true}}"))
            }
            "http" => (format!("otlphttp/{compression}"), format!("endpoint: \"http://127.0.0.1:{http}\"")),
            _ => (
                format!("otlphttp/json_{compression}"),
                format!("endpoint: \"http://127.0.0.1:{http}\", encoding: json"),
            ),
        };
        exporters += &format!("  {name}: {{{place}, compression: {compression}}}\n");
        names.push(name);
    }
    let config = format!(
        "receivers:\n  hostmetrics: {{collection_interval: 1s, initial_delay: 100ms, scrapers: {{cpu: , memory: , load: , network: }}}}\n\
         exporters:\n  file: {{path: \"{}\", flush_interval: 100ms}}\n{exporters}\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [file, {}]}}}}\n",
        own.display(),
        names.join(", ")
    );
    let config = room.file("collector.yaml", &config);
    let mut collector = room.start("collector", Command::new(program).arg("--config").arg(config));
    until("two scrapes", PATIENCE, || {
        collector.assert_running();
        let text = std::fs::read_to_string(&own).unwrap_or_default();
        (text.lines().count() >= 2).then_some(())
    });
    collector.end();
    assert!(!collector.stderr().contains("Exporting failed"), "{}", collector.stderr());
    phoenix.end();
    let lines = |samples: &[Sample]| {
        let mut lines: Vec<String> = samples.iter().map(|sample| format!("{sample:?}")).collect();
        lines.sort();
        lines
    };
    let (sent, arrived) = (read(&own), read(&room.path("phoenix.json")));
    let expected: Vec<Sample> = names.iter().flat_map(|_| sent.clone()).collect();
    assert!(
        sent.len() > 50 && lines(&expected) == lines(&arrived),
        "{} x {} sent, {} arrived",
        names.len(),
        sent.len(),
        arrived.len()
    );
}

#[test]
fn a_promise_that_cannot_be_kept_is_an_error_that_names_the_exporter() {
    let room = Room::new();
    let config = room.file(
        "phoenix.yaml",
        &format!(
            "receivers:\n  otlp: {{ack: on_disk, protocols: {{http: {{endpoint: \"127.0.0.1:{}\"}}}}}}\nexporters:\n  debug:\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines: {{metrics: {{receivers: [otlp], exporters: [debug]}}}}\n",
            free_port()
        ),
    );
    let output = finish(agent().arg("--config").arg(config));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("ack: on_disk") && said.contains("debug keeps its queue"),
        "{said}"
    );
}
