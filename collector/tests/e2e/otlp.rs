//! What leaves as OTLP is what `/proc` says, by every transport and encoding, judged by Python.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::harness::{Room, agent, busy, free_port, skip};
use crate::sink::{Sink, python};

/// Exporters to one sink, by name; each says its name in a header.
fn exporters(sink: &Sink) -> Vec<(&'static str, String)> {
    let http = sink.http;
    let mut all = vec![
        ("otlp_http/gzip", format!("endpoint: \"http://127.0.0.1:{http}\", compression: gzip")),
        ("otlp_http/plain", format!("endpoint: \"http://127.0.0.1:{http}\", compression: none")),
        ("otlp_http/json", format!("endpoint: \"http://127.0.0.1:{http}\", encoding: json")),
    ];
    if sink.zstd {
        all.push(("otlp_http/zstd", format!("endpoint: \"http://127.0.0.1:{http}\", compression: zstd")));
    } else {
        skip("zstd over HTTP: neither Python's zstandard nor the zstd program is installed");
    }
    if let Some(grpc) = sink.grpc {
        let endpoint = format!("endpoint: \"127.0.0.1:{grpc}\", tls: {{insecure: true}}");
        all.push(("otlp_grpc/gzip", format!("{endpoint}, compression: gzip")));
        all.push(("otlp_grpc/plain", format!("{endpoint}, compression: none")));
    } else {
        skip("OTLP over gRPC: Python's grpcio is not installed");
    }
    all
}

/// Every process metric there is, switched on.
const ALL_METRICS: &str = "process.cpu.time process.cpu.utilization process.memory.usage process.memory.virtual \
    process.memory.utilization process.disk.io process.disk.operations process.paging.faults process.context_switches \
    process.open_file_descriptors process.threads process.signals_pending process.uptime";

/// What the test's own processes are called: some as usual, one longer than the kernel keeps, one that looks like the end
/// of a name.
const NAMES: [&str; 4] = ["sh", "sleep", "a-name-longer-than-the-kernel-keeps", "a) R (b"];

fn config(exporters: &[(&str, String)]) -> String {
    let blocks: String = exporters
        .iter()
        .map(|(name, body)| format!("  {name}: {{{body}, timeout: 60s, headers: {{x-road: {name}}}}}\n"))
        .collect();
    let names: Vec<&str> = exporters.iter().map(|(name, _)| *name).collect();
    let metrics: Vec<String> = ALL_METRICS.split(' ').map(|name| format!("{name}: {{enabled: true}}")).collect();
    format!(
        "receivers:\n  hostmetrics:\n    collection_interval: 1s\n    initial_delay: 500ms\n    scrapers:\n      \
         process: {{include: {{match_type: strict, names: [{}]}}, metrics: {{{}}}}}\nexporters:\n{blocks}service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
         pipelines:\n    metrics: {{receivers: [hostmetrics], exporters: [{}]}}\n",
        NAMES.map(|name| format!("\"{name}\"")).join(", "),
        metrics.join(", "),
        names.join(", ")
    )
}

#[test]
fn every_transport_and_encoding_agrees_with_proc() {
    if !python() {
        return;
    }
    let room = Room::new();
    let mut sink = Sink::start(&room);
    let quiet = room.start("quiet", Command::new("sleep").arg("300"));
    let _busy = room.start("busy", &mut busy());
    // With an argument that is no UTF-8.
    let names = [NAMES[2], NAMES[3]].map(|name| {
        std::os::unix::fs::symlink("/bin/sh", room.path(name)).expect("a link");
        let mut command = Command::new(room.path(name));
        room.start("named", command.args(["-c", "read forever", "name"]).arg(OsStr::from_bytes(b"\xff\xfe \xc3\xa9")))
    });
    let mut ending = room.start("ending", Command::new("sleep").arg("301"));
    let exporters = exporters(&sink);
    let roads: Vec<&str> = exporters.iter().map(|(name, _)| *name).collect();
    let mut phoenix = room.phoenix(&config(&exporters));
    sink.wait_for(&roads, 2);
    ending.kill();
    sink.wait_for(&roads, 3);
    phoenix.end();
    for road in &roads {
        let first = &sink.requests(road)[0];
        let (kind, variant) = road.split_once('/').expect("every exporter has a name");
        let asked = match (kind, variant) {
            ("otlp_grpc", _) => ("grpc", "none", ""), // gRPC itself decompresses and does not tell
            (_, "json") => ("http", "gzip", "application/json"),
            (_, "plain") => ("http", "none", "application/x-protobuf"),
            (_, encoding) => ("http", encoding, "application/x-protobuf"),
        };
        let text = |key: &str| first[key].as_str().unwrap_or_default();
        assert_eq!((text("transport"), text("encoding"), text("kind")), asked, "{road}");
    }
    let ended = ending.pid().to_string();
    let shown = [&names[0], &names[1], &quiet].map(|child| child.pid().to_string());
    let mut arguments = vec!["--metrics", "all", "--ended", &ended];
    arguments.extend(shown.iter().flat_map(|pid| ["--whole-line", pid.as_str()]));
    arguments.extend(NAMES.iter().flat_map(|name| ["--only", name]));
    let compared = sink.check(&arguments);
    // Something of every kind was really compared, on every road.
    let least = roads.len() as u64;
    for what in ["start", "lived through a scrape", "closed", "process.command_line", "long name"] {
        assert!(compared[what].as_u64() >= Some(least), "{what} in {compared}");
    }
    for metric in ALL_METRICS.split(' ') {
        let has_no_source =
            ["process.cpu.utilization", "process.memory.utilization", "process.signals_pending", "process.uptime"];
        if !has_no_source.contains(&metric) {
            assert!(compared[metric].as_u64() >= Some(least), "{metric} in {compared}");
        }
    }
}

#[test]
fn the_default_config_sends_where_the_environment_says() {
    if !python() {
        return;
    }
    let room = Room::new();
    let mut sink = Sink::start(&room);
    let mut command = agent();
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", sink.http))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-road=environment,x-more=a%20b")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=end%20to%20end")
        .args([
            "--set",
            "receivers.hostmetrics.collection_interval=1s",
            "--set",
            "service.telemetry.metrics.level=none",
        ])
        .args(["--set", &format!("exporters.prometheus.endpoint=localhost:{}", free_port())])
        .args(["--set", &format!("extensions.health_check.endpoint=localhost:{}", free_port())]);
    let mut phoenix = room.start("phoenix", &mut command);
    sink.wait_for(&["environment"], 3);
    phoenix.end();
    let requests = sink.requests("environment");
    assert_eq!(requests[0]["kind"], "application/x-protobuf", "the protocol by default: {requests:?}");
    assert_eq!(requests[0]["headers"]["x-more"], "a b", "headers are percent-encoded: {requests:?}");
    let bodies = sink.bodies();
    let has = |text: &str| bodies.iter().any(|body| String::from_utf8_lossy(body).contains(text));
    for text in ["end to end", "host.name", "os.type", "system.cpu.time", "system.memory.usage", "process.cpu.time"] {
        assert!(has(text), "{text} is in no request");
    }
    sink.check(&["--metrics", "default"]);
}
