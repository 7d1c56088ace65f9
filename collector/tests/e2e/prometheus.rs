//! A real Prometheus scrapes the agent's pages: what it stores, and what `promtool` says of them.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{PATIENCE, Room, Running, busy, free_port, get, page, required, runs, until};

/// A server, and what it answers.
pub struct Server {
    _running: Running,
    port: u16,
}

impl Server {
    /// Scrapes `localhost:metrics` as job `host` and `localhost:own` as job `own`, every second.
    fn start(room: &Room, metrics: u16, own: u16) -> Self {
        let job = |name: &str, port: u16| {
            format!("  - {{job_name: {name}, static_configs: [{{targets: [\"localhost:{port}\"]}}]}}\n")
        };
        let jobs = job("host", metrics) + &job("own", own);
        let config = format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}");
        Self::with(room, &config)
    }

    /// Runs with this configuration.
    pub fn with(room: &Room, config: &str) -> Self {
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", room.file("prometheus.yaml", config).display()))
            .arg(format!("--storage.tsdb.path={}", room.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let running = room.start("prometheus", &mut command);
        page(port, "/-/ready", "Prometheus to be ready");
        Server { _running: running, port }
    }

    pub fn api(&self, path: &str) -> Value {
        let answer = get(self.port, path, "").expect("Prometheus answers");
        let value: Value = serde_json::from_str(&answer.body).expect("Prometheus answers in JSON");
        assert_eq!(value["status"], "success", "{path}: {value}");
        value["data"].clone()
    }

    /// The result of an instant query.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.api(&format!("/api/v1/query?query={encoded}"));
        data["result"].as_array().expect("a vector").clone()
    }

    pub fn wait_for(&self, expression: &str) -> Vec<Value> {
        until(expression, PATIENCE, || Some(self.query(expression)).filter(|result| !result.is_empty()))
    }
}

fn agent_config(metrics: u16, own: u16) -> String {
    format!(
        "receivers:
  hostmetrics:
    collection_interval: 1s
    initial_delay: 100ms
    scrapers: {{cpu: , memory: , load: , disk: , filesystem: , network: , paging: , processes: , system: ,
      process: {{include: {{names: [sh, sleep], match_type: strict}}, metrics: {{process.threads: {{enabled: true}}, process.context_switches: {{enabled: true}}}}}}}}
processors: {{resource_detection: {{detectors: [env, system]}}}}
exporters: {{prometheus: {{endpoint: \"localhost:{metrics}\"}}}}
service:
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own},
    without_type_suffix: true, without_units: true, without_scope_info: true}}}}}}}}]}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], processors: [resource_detection], exporters: [prometheus]}}}}
"
    )
}

#[test]
fn a_server_stores_identity_and_no_command_line_and_forgets_what_ended() {
    if !required("Prometheus", runs("prometheus", &["--version"])) {
        return;
    }
    let room = Room::new();
    let (metrics, own) = (free_port(), free_port());
    let mut child = room.start("child", Command::new("sh").args(["-c", "read forever", "an-argument-nobody-sees"]));
    let stays = room.start("stays", Command::new("sleep").arg("300"));
    let _busy = room.start("busy", &mut busy());
    let mut phoenix = room.phoenix(&agent_config(metrics, own));
    let server = Server::start(&room, metrics, own);

    let of = |pid: u32| format!("process_memory_usage_bytes{{process_pid=\"{pid}\"}}");
    let series = &server.wait_for(&of(child.pid()))[0]["metric"];
    assert_eq!(series["process_executable_name"], "sh", "{series}");
    assert!(series["process_owner"].as_str().is_some_and(|owner| !owner.is_empty()), "{series}");
    assert_eq!(
        server.wait_for("process_cpu_time_seconds_total{process_executable_name=\"sleep\",state=\"user\"}").len(),
        { server.query("process_memory_usage_bytes{process_executable_name=\"sleep\"}").len() }
    );

    // It ends: gone at the next scrape, where a series that is merely no longer there lives on for five minutes.
    child.kill();
    until("the ended process to be gone", PATIENCE, || server.query(&of(child.pid())).is_empty().then_some(()));
    assert!(!server.query(&of(stays.pid())).is_empty(), "the other one is still there");

    let all = server.api("/api/v1/series?match[]=%7Bjob%3D~%22.%2B%22%7D").to_string();
    assert!(!all.contains("an-argument-nobody-sees") && !all.contains("command_line"), "a command line is stored");
    for (name, least) in [
        ("target_info{job=\"host\"}", 1),
        ("system_cpu_time_seconds_total", 8),
        ("system_memory_usage_bytes", 4),
        ("system_uptime_seconds", 1),
        ("otelcol_process_uptime{job=\"own\"}", 1),
        ("otelcol_receiver_accepted_metric_points{job=\"own\"}", 1),
        ("otelcol_scraper_scraped_metric_points{job=\"own\"}", 1),
        ("otelcol_exporter_sent_metric_points{job=\"own\"}", 1),
        ("{__name__=~\"phoenix_.+\",job=\"own\"}", 1),
    ] {
        assert!(server.wait_for(name).len() >= least, "{name}");
    }
    until("several scrapes", PATIENCE, || {
        let scrapes = server.query("min_over_time(up[1m]) == 1 and count_over_time(up[1m]) >= 5");
        (scrapes.len() == 2).then_some(())
    });
    let names = server.api("/api/v1/label/__name__/values");
    let names: Vec<&str> = names.as_array().expect("names").iter().filter_map(Value::as_str).collect();
    let is_counter = |name: &&str| {
        let own = name.starts_with("otelcol_") && (name.ends_with("_points") || name.ends_with("_uptime"));
        own || name.ends_with("_total")
    };
    let counters: Vec<&str> = names.into_iter().filter(is_counter).collect();
    assert!(counters.len() > 10, "{counters:?}");
    for counter in counters {
        let resets = server.query(&format!("resets({counter}[1m]) > 0"));
        assert!(resets.is_empty(), "{counter} fell: {resets:?}");
    }
    let counted = server.query("increase(process_cpu_time_seconds_total{process_executable_name=\"sh\"}[1m]) > 0");
    assert!(!counted.is_empty(), "the busy child uses the CPU");
    phoenix.end();
}

#[test]
fn promtool_finds_the_pages_clean_in_both_formats() {
    if !required("promtool", runs("promtool", &["--version"])) {
        return;
    }
    let room = Room::new();
    let (metrics, own) = (free_port(), free_port());
    let mut phoenix = room.phoenix(&agent_config(metrics, own));
    let pages = [("the metrics page", metrics), ("the agent's own page", own)];
    until("the first scrape", PATIENCE, || {
        get(metrics, "/metrics", "").ok().filter(|page| page.body.contains("process_cpu_time_seconds_total")).map(drop)
    });
    for (what, port) in pages {
        let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
        let open = get(port, "/metrics", accept).expect("the page");
        assert!(
            open.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{what}: {}",
            open.head
        );
        assert!(open.body.ends_with("# EOF\n"), "{what}");
        let plain = get(port, "/metrics", "Accept: text/plain;version=0.0.4\r\n").expect("the page");
        assert!(plain.head.contains("content-type: text/plain; version=0.0.4"), "{what}: {}", plain.head);
        assert!(!plain.body.contains("# EOF"), "{what}");
        let remarks = promtool(&room, &plain.body);
        assert!(remarks.is_empty(), "promtool on {what}: {remarks:#?}");
    }
    phoenix.end();
}

/// What `promtool check metrics` remarks, but for names the Collector forces.
fn promtool(room: &Room, text: &str) -> Vec<String> {
    let input = std::fs::File::open(room.file("page.txt", text)).expect("the page's file");
    let output =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::from(input)).output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Vec::new();
    }
    let remarks: Vec<String> = said.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    assert!(!remarks.is_empty(), "promtool fails without a word: {}", output.status);
    remarks.into_iter().filter(|remark| !forced_by_the_collector(remark)).collect()
}

/// The Collector's dashboards ask for these names, whatever Prometheus' habits are: `otelcol_*` as its own metrics are
/// called without suffixes, and gauges that end in `_count` because the metric's OTLP name does.
fn forced_by_the_collector(remark: &str) -> bool {
    let (name, what) = remark.split_once(' ').unwrap_or((remark, ""));
    name.starts_with("otelcol_") || (name.ends_with("_count") && what.contains("should not have \"_count\" suffix"))
}
