//! docs/migration.md: the metrics it names are on a running agent's page.

use crate::harness::{PATIENCE, Room, free_port, get, until};

const PAGE: &str = include_str!("../../../docs/migration.md");

const CONFIG: &str = "
receivers:
  hostmetrics:
    collection_interval: 1s
    initial_delay: 0s
    scrapers:
      cpu:
      memory: {metrics: {system.memory.limit: {enabled: true}, system.linux.memory.available: {enabled: true}}}
      load:
      disk:
      filesystem:
      network:
      paging:
      processes:
      system:
      process:
        metrics:
          process.threads: {enabled: true}
          process.open_file_descriptors: {enabled: true}
          process.paging.faults: {enabled: true}
          process.context_switches: {enabled: true}
          process.uptime: {enabled: true}
exporters: {prometheus: {endpoint: 'localhost:PORT', without_scope_info: true}}
service:
  admin: {endpoint: ''}
  telemetry: {metrics: {level: none}}
  pipelines: {metrics: {receivers: [hostmetrics], exporters: [prometheus]}}
";

/// The second columns' code spans: name and labels.
fn named() -> Vec<(&'static str, Vec<&'static str>)> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `node_") || line.starts_with("| `namedprocess_"));
    let cells = rows.filter_map(|row| row.split('|').nth(2));
    let spans = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    spans
        .map(|span| match span.trim_end_matches('}').split_once('{') {
            Some((name, labels)) => (name, labels.split(',').collect()),
            None => (span, Vec::new()),
        })
        .collect()
}

#[test]
fn the_tables_name_metrics_that_are_there() {
    let named = named();
    assert!(named.len() > 40, "{named:?}");
    let (room, port) = (Room::new(), free_port());
    let _phoenix = room.phoenix(&CONFIG.replace("PORT", &port.to_string()));
    let missing = |page: &str| -> Vec<String> {
        let is_there = |(name, labels): &&(&str, Vec<&str>)| {
            page.lines().any(|line| {
                let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
                rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
            })
        };
        named.iter().filter(|metric| !is_there(metric)).map(|metric| format!("{metric:?}")).collect()
    };
    let page = || get(port, "/metrics", "").ok().map(|answer| answer.body);
    until("a page with processes", PATIENCE, || page().filter(|text| text.contains("process_threads")));
    let body = page().unwrap_or_default();
    assert!(missing(&body).is_empty(), "{:?}", missing(&body));
}
