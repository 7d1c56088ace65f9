//! How the agent starts, says that it is ready, refuses to start, and ends.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Answer, PATIENCE, Room, agent, finish, free_port, get, page, until};
use crate::sink::{Sink, python};

/// The embedded default with its three ports moved.
struct Moved {
    metrics: u16,
    health: u16,
    own: u16,
}

impl Moved {
    fn new() -> Self {
        Moved { metrics: free_port(), health: free_port(), own: free_port() }
    }

    /// The arguments that move them, but for the one that is to stay.
    fn arguments(&self, stays: Option<u16>) -> Vec<String> {
        let own = self.own;
        let reader = format!("[{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]");
        let all = [
            (8889, format!("exporters.prometheus.endpoint=localhost:{}", self.metrics)),
            (13133, format!("extensions.health_check.endpoint=localhost:{}", self.health)),
            (8888, format!("service.telemetry.metrics.readers={reader}")),
        ];
        all.into_iter().filter(|(port, _)| Some(*port) != stays).map(|(_, set)| format!("--set={set}")).collect()
    }
}

fn health(port: u16) -> Option<Answer> {
    get(port, "/", "").ok()
}

#[test]
fn the_default_config_starts_says_when_it_is_ready_and_ends_with_each_signal() {
    for signal in ["TERM", "INT"] {
        let (room, moved) = (Room::new(), Moved::new());
        let mut command = agent();
        command.args(moved.arguments(None)).arg("--set=receivers.hostmetrics.initial_delay=1500ms");
        let mut phoenix = room.start("phoenix", &mut command);
        let first = until("the health page", PATIENCE, || health(moved.health));
        assert_eq!(first.status, 503, "before the first scrape: {}", first.body);
        let names_it = first.body.contains("receivers:hostmetrics") && first.body.contains("starting");
        assert!(names_it, "the body says which component: {}", first.body);
        let ready = until("readiness", PATIENCE, || health(moved.health).filter(|answer| answer.status == 200));
        assert!(ready.body.contains("ready"), "{}", ready.body);
        for name in ["system_cpu_time_seconds_total", "system_memory_usage_bytes", "process_cpu_time_seconds_total"] {
            // The scrape that made it ready may still be on its way to the page.
            until(name, PATIENCE, || get(moved.metrics, "/metrics", "").ok()?.body.contains(name).then_some(()));
        }
        assert!(page(moved.own, "/metrics", "the own page").contains("otelcol_process_uptime"));
        phoenix.signal(signal);
        let status = phoenix.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {status}");
        assert!(phoenix.stderr().contains("ended"), "{}", phoenix.stderr());
    }
}

#[test]
fn what_is_queued_at_the_end_is_sent() {
    if !python() {
        return;
    }
    let (room, own) = (Room::new(), free_port());
    let sink = Sink::start(&room);
    let endpoint = format!("endpoint: \"http://127.0.0.1:{}\"", sink.http);
    let mut phoenix = room.phoenix(&format!(
        "receivers: {{hostmetrics: {{collection_interval: 500ms, initial_delay: 100ms, scrapers: {{memory: }}}}}}
processors: {{batch: {{timeout: 10m, send_batch_size: 1000000}}}}
exporters:
  otlp_http/stage: {{{endpoint}, headers: {{x-road: stage}}}}
  otlp_http/queue:
    {endpoint}
    headers: {{x-road: queue}}
    sending_queue: {{sizer: items, queue_size: 2000000, batch: {{flush_timeout: 10m, min_size: 1000000}}}}
service:
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}}}
  pipelines:
    metrics/stage: {{receivers: [hostmetrics], processors: [batch], exporters: [otlp_http/stage]}}
    metrics/queue: {{receivers: [hostmetrics], exporters: [otlp_http/queue]}}
"
    ));
    until("three scrapes", PATIENCE, || {
        let page = get(own, "/metrics", "").ok()?.body;
        let accepted = page.lines().find(|line| line.starts_with("otelcol_receiver_accepted_metric_points"))?;
        let points: f64 = accepted.rsplit(' ').next()?.parse().ok()?;
        (points >= 18.0).then_some(())
    });
    assert!(sink.bodies().is_empty(), "both wait for a million points or ten minutes");
    phoenix.end();
    for road in ["stage", "queue"] {
        assert_eq!(sink.requests(road).len(), 1, "by {road}, in one request: {}", phoenix.stderr());
    }
    assert!(sink.bodies().iter().all(|body| String::from_utf8_lossy(body).matches("system.memory.usage").count() >= 3));
}

#[test]
fn further_signals_do_not_wait_for_a_backend_that_never_answers() {
    let room = Room::new();
    // It listens and never accepts: connections succeed and nothing is answered.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let mut phoenix = room.phoenix(&format!(
        "receivers: {{hostmetrics: {{collection_interval: 200ms, initial_delay: 0s, scrapers: {{memory: }}}}}}
exporters: {{otlp_http: {{endpoint: \"http://127.0.0.1:{port}\"}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [otlp_http]}}}}
"
    ));
    let (connection, _) = silent.accept().expect("the agent connects");
    phoenix.signal("TERM");
    until("the end to begin", PATIENCE, || phoenix.stderr().contains("ending").then_some(()));
    // The same wish may arrive twice; who insists for longer than a second is heard.
    let status = until("the end", Duration::from_secs(10), || {
        phoenix.signal("TERM");
        phoenix.ended()
    });
    assert_eq!(status.code(), Some(0), "{status}: {}", phoenix.stderr());
    drop(connection);
}

#[test]
fn a_taken_default_port_names_its_holder_and_the_key_that_moves_it() {
    let keys = [
        (8889, "exporters::prometheus::endpoint"),
        (13133, "extensions::health_check::endpoint"),
        (8888, "service::telemetry::metrics::readers"),
    ];
    for (port, key) in keys {
        // Where somebody else has the port already, that is who must be named.
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let output = finish(agent().args(Moved::new().arguments(Some(port))));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&port.to_string()) && said.contains(key) && said.contains("(pid "), "{port}: {said}");
        if held.is_ok() {
            assert!(said.contains(&format!("(pid {})", std::process::id())), "{port}: {said}");
        }
    }
}

/// Runs `validate` and then the agent itself on a wrong config: the same words, status 1, nothing started.
fn refused(config: &str) -> String {
    let room = Room::new();
    let path = room.file("wrong.yaml", config);
    let run = |command: &mut Command| {
        let output = finish(command.arg("--config").arg(&path));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let validated = run(agent().arg("validate"));
    assert_eq!(run(&mut agent()), validated, "running says what validating says");
    validated
}

#[test]
fn a_wrong_config_names_all_mistakes_at_once() {
    let said = refused(
        "receivers:
  hostmetrics:
    colection_interval: 10s
    scrapers: {cpu: {}, memry: {}}
processors:
  memory_limiter: {limit_mib: 64}
  no_such_stage: {}
exporters:
  otlp_http: {endpoint: nowhere, timeout: soon}
service:
  pipelines:
    metrics: {receivers: [hostmetrics, nobody], processors: [memory_limiter], exporters: [otlp_http]}
",
    );
    let expected = [
        ("wrong.yaml:3:5: ", "receivers::hostmetrics::colection_interval", "did you mean \"collection_interval\"?"),
        ("wrong.yaml:4:", "memry", "did you mean \"memory\"?"),
        ("wrong.yaml:6:", "processors::memory_limiter", "check_interval"),
        ("wrong.yaml:7:3: ", "processors::no_such_stage", "no_such_stage"),
        ("wrong.yaml:9:", "exporters::otlp_http::timeout", "soon"),
        ("wrong.yaml:9:", "exporters::otlp_http::endpoint", "nowhere"),
        ("wrong.yaml:12:", "service::pipelines::metrics::receivers", "nobody"),
    ];
    for (place, path, word) in expected {
        let is_named = said.lines().any(|line| line.contains(place) && line.contains(path) && line.contains(word));
        assert!(is_named, "{place} {path} {word} is not in:\n{said}");
    }
}

#[test]
fn a_traces_pipeline_is_refused_with_a_sentence() {
    let said = refused(
        "receivers: {hostmetrics: {scrapers: {cpu: }}}
exporters: {debug: }
service: {pipelines: {traces: {receivers: [hostmetrics], exporters: [debug]}}}
",
    );
    assert!(said.contains("wrong.yaml:3:") && said.contains("traces") && said.contains("metrics only"), "{said}");
}
