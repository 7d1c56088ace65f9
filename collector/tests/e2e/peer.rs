//! A real OpenTelemetry Collector beside the agent: it receives what the agent sends, and measures the same host.
//!
//! Its path comes from `PHOENIX_PEER_OTELCOL`; without it the tests are skipped. It needs the `otlp` and `hostmetrics`
//! receivers and the `file` exporter.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compare::compare;
use crate::harness::{PATIENCE, Room, Running, busy, free_port, skip, until};
use crate::otlp_json::{Sample, read};

/// Every scraper, and every metric that this machine can have, in a form both programs read. Of processes, the kind the
/// test starts: a host may have thousands.
const HOSTMETRICS: &str = "
    collection_interval: 1s
    initial_delay: 100ms
    scrapers:
      cpu: {metrics: {system.cpu.utilization: {enabled: true}, system.cpu.logical.count: {enabled: true},
        system.cpu.physical.count: {enabled: true}, system.cpu.frequency: {enabled: true}}}
      memory: {metrics: {system.memory.utilization: {enabled: true}, system.memory.limit: {enabled: true},
        system.memory.page_size: {enabled: true}, system.linux.memory.available: {enabled: true},
        system.linux.memory.dirty: {enabled: true}, system.memory.linux.hugepages.limit: {enabled: true},
        system.memory.linux.hugepages.usage: {enabled: true}, system.memory.linux.hugepages.utilization: {enabled: true},
        system.memory.linux.hugepages.reserved: {enabled: true}, system.memory.linux.hugepages.surplus: {enabled: true},
        system.memory.linux.hugepages.page_size: {enabled: true}}}
      load:
      disk:
      filesystem: {metrics: {system.filesystem.utilization: {enabled: true}}}
      network: {metrics: {system.network.conntrack.count: {enabled: true}, system.network.conntrack.max: {enabled: true}}}
      paging: {metrics: {system.paging.utilization: {enabled: true}}}
      processes:
      system:
      process:
        include: {names: [sh, sleep], match_type: strict}
        mute_process_all_errors: true
        metrics: {process.cpu.utilization: {enabled: true}, process.memory.utilization: {enabled: true},
          process.disk.operations: {enabled: true}, process.paging.faults: {enabled: true},
          process.context_switches: {enabled: true}, process.open_file_descriptors: {enabled: true},
          process.threads: {enabled: true}, process.signals_pending: {enabled: true}, process.uptime: {enabled: true}}
";

/// The Collector with an `otlp` receiver for each transport and its own host metrics, each written to a file.
struct Peer {
    running: Running,
    grpc: (u16, PathBuf),
    http: (u16, PathBuf),
    own: PathBuf,
}

impl Peer {
    fn start(room: &Room) -> Option<Self> {
        let Some(program) = std::env::var_os("PHOENIX_PEER_OTELCOL") else {
            skip("PHOENIX_PEER_OTELCOL names no OpenTelemetry Collector");
            return None;
        };
        let (grpc, http) = ((free_port(), room.path("grpc.json")), (free_port(), room.path("http.json")));
        let own = room.path("own.json");
        let config = format!(
            "receivers:
  otlp/grpc: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{}\"}}}}}}
  otlp/http: {{protocols: {{http: {{endpoint: \"127.0.0.1:{}\"}}}}}}
  hostmetrics:{HOSTMETRICS}
exporters:
  file/grpc: {{path: \"{}\", flush_interval: 200ms}}
  file/http: {{path: \"{}\", flush_interval: 200ms}}
  file/own: {{path: \"{}\", flush_interval: 200ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics/grpc: {{receivers: [otlp/grpc], exporters: [file/grpc]}}
    metrics/http: {{receivers: [otlp/http], exporters: [file/http]}}
    metrics/own: {{receivers: [hostmetrics], exporters: [file/own]}}
",
            grpc.0,
            http.0,
            grpc.1.display(),
            http.1.display(),
            own.display()
        );
        let config = room.file("collector.yaml", &config);
        let mut running = room.start("collector", Command::new(program).arg("--config").arg(config));
        until("the Collector to be ready", PATIENCE, || {
            running.assert_running();
            running.stderr().contains("Everything is ready").then_some(())
        });
        Some(Peer { running, grpc, http, own })
    }
}

fn agent_config(peer: &Peer) -> String {
    format!(
        "receivers:
  hostmetrics:{HOSTMETRICS}
exporters:
  otlp: {{endpoint: \"127.0.0.1:{}\", tls: {{insecure: true}}}}
  otlphttp: {{endpoint: \"http://127.0.0.1:{}\"}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [otlp, otlphttp]}}}}
",
        peer.grpc.0, peer.http.0
    )
}

/// How many scrapes a file holds: a host has one uptime a scrape.
fn scrapes(file: &Path) -> usize {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).matches("\"system.uptime\"").count()
}

#[test]
fn the_collector_receives_the_same_by_both_transports_and_measures_the_same() {
    let room = Room::new();
    let quiet = room.start("quiet", Command::new("sleep").arg("300"));
    let busy = room.start("busy", &mut busy());
    let Some(mut peer) = Peer::start(&room) else { return };
    let mut phoenix = room.phoenix(&agent_config(&peer));
    until("eight scrapes to arrive by both transports", PATIENCE, || {
        [&peer.grpc.1, &peer.http.1].iter().all(|file| scrapes(file) >= 8).then_some(())
    });
    phoenix.end();
    peer.running.end();
    let said = phoenix.stderr();
    let complaints: Vec<&str> =
        said.lines().filter(|line| line.contains("WARN") && line.contains("exporter=")).collect();
    assert!(complaints.is_empty(), "sending to the Collector is nothing to complain of: {complaints:?}");

    let (grpc, http, own) = (read(&peer.grpc.1), read(&peer.http.1), read(&peer.own));
    let lines = |samples: &[Sample]| -> Vec<String> {
        let mut lines: Vec<String> = samples.iter().map(|sample| format!("{sample:?}")).collect();
        lines.sort();
        lines
    };
    assert!(lines(&grpc) == lines(&http), "gRPC and HTTP brought different samples: {} and {}", grpc.len(), http.len());
    let (wrong, compared) = compare(&grpc, &own, &[quiet.pid(), busy.pid()]);
    assert!(wrong.is_empty(), "{} differences from the Collector:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 500, "only {compared} values were compared");
}
