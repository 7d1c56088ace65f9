//! What watches the agent: rules, alerts, runbooks and dashboards, against `promtool`, a live agent and a real Prometheus.
//!
//! Live, minutes are seconds: every duration in the rules is divided by sixty, by one letter, so that what is tried is what
//! is shipped. Nothing else in them is changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Room, Running, agent, finish, free_port, page, required, runs, until};
use crate::prometheus::Server;
use crate::synthetic::Host;

/// The longest that figures which need a minute of data may take on a busy machine.
const MINUTES: Duration = Duration::from_secs(240);

/// Metrics that are on the page only after something has happened, or with a setting that the live agent has not.
const LATER: [&str; 7] = [
    "phoenix_explosion_excess_series",
    "phoenix_explosions_total",
    "phoenix_remediation_active",
    "phoenix_control_switches_total",
    "phoenix_tls_certificate_not_after",
    "phoenix_exporter_damaged_metric_points_total",
    "ALERTS",
];

fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(folder)).expect("the folder is there").flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == suffix))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// Every rule of every file, as JSON.
fn rules() -> Vec<Value> {
    let parse = |path: PathBuf| -> Value { serde_yaml::from_str(&read(&path)).expect("rules are YAML") };
    let groups = files("configs/prometheus/rules", "yaml").into_iter().map(parse);
    let groups = groups.flat_map(|file| file["groups"].as_array().expect("groups").clone());
    groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn rules_hold_in_the_cases_in_which_they_must_fire_and_must_not() {
    if !required("promtool", runs("promtool", &["--version"])) {
        return;
    }
    let folder = repository().join("configs/prometheus");
    let promtool = |arguments: &[&str], files: &[PathBuf]| {
        // Eight hours of a quiet night take it some seconds, on a busy machine more than a step's patience.
        let output = Command::new("promtool").args(arguments).args(files).output().expect("promtool starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}: {out}{err}");
    };
    promtool(&["check", "rules"], &files("configs/prometheus/rules", "yaml"));
    promtool(&["check", "config"], &[folder.join("prometheus.yaml")]);
    promtool(&["test", "rules"], &files("configs/prometheus/tests", "yaml"));
}

#[test]
fn every_alert_is_explained_and_tried() {
    let folder = repository().join("configs/prometheus/tests");
    let (fires, quiet) = (read(&folder.join("fires.yaml")), read(&folder.join("quiet.yaml")));
    let index = read(&repository().join("docs/runbooks/README.md"));
    let mut pages = BTreeSet::new();
    for rule in rules().iter().filter(|rule| rule["alert"].is_string()) {
        let name = text(rule, "alert");
        assert!(["critical", "warning"].contains(&text(&rule["labels"], "severity")), "{name}");
        assert!(!text(rule, "for").is_empty(), "{name} waits for nothing");
        for annotation in ["summary", "description"] {
            assert!(!text(&rule["annotations"], annotation).is_empty(), "{name}");
        }
        let url = text(&rule["annotations"], "runbook_url");
        assert_eq!(url, format!("docs/runbooks/{name}.md"));
        let runbook = read(&repository().join(url));
        for heading in ["What it means", "What to look at", "What to do", "How to prove it is over"] {
            assert!(runbook.contains(&format!("\n## {heading}\n")), "{url} lacks: {heading}");
        }
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the list of runbooks");
        let case = format!("alertname: {name}");
        assert!(fires.contains(&case) && quiet.contains(&case), "{name} has no test");
        pages.insert(format!("{name}.md"));
    }
    let there = files("docs/runbooks", "md");
    let there = there.iter().filter_map(|path| path.file_name()?.to_str()).filter(|name| *name != "README.md");
    assert_eq!(there.map(str::to_owned).collect::<BTreeSet<_>>(), pages, "a page for each alert, and no other");
}

/// All source text below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|found| found == "rs") {
            *text += &read(&path);
        }
    }
}

#[test]
fn metrics_that_people_are_told_to_look_at_are_the_agents() {
    let mut code = String::new();
    for room in ["collector", "exporters", "pipeline", "processors", "receivers", "transport"] {
        sources(&repository().join(room).join("src"), &mut code);
    }
    let rules = rules();
    let recorded: Vec<&str> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    // What a histogram's name ends with on a page.
    let known = |name: &str| {
        let ends = ["", "_sum", "_count", "_bucket"];
        let is = |end| name.strip_suffix(end).is_some_and(|name| code.contains(&format!("\"{name}\"")));
        recorded.contains(&name) || ends.into_iter().any(is)
    };
    let mut told = 0;
    for path in files("docs/runbooks", "md") {
        let text = read(&path);
        let words = text
            .split(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter))
            .map(|word| word.trim_end_matches(':'));
        let prefixes = ["phoenix_", "otelcol_", "agent:", "host:", "fleet:"];
        for word in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))) {
            assert!(known(word), "{}: {word} is not there", path.display());
            told += 1;
        }
    }
    assert!(told > 50, "{told}");
    for name in LATER.iter().filter(|name| **name != "ALERTS") {
        assert!(known(name), "{name}");
    }
}

#[test]
fn dashboards_are_what_their_generator_makes() {
    if required("Python", runs("python3", &["--version"])) {
        let output =
            finish(Command::new("python3").arg(repository().join("configs/grafana/generate.py")).arg("--check"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_chart_has_what_it_is_made_from_and_its_config_is_valid() {
    let same = |copy: &str, source: &str| {
        let (copy, source) = (repository().join("kubernetes/chart/files").join(copy), repository().join(source));
        assert_eq!(read(&copy), read(&source), "kubernetes/render makes {}", copy.display());
    };
    same("config.yaml", "configs/kubernetes-node.yaml");
    same("recording.yaml", "configs/prometheus/rules/recording.yaml");
    same("alerts.yaml", "configs/prometheus/rules/alerts.yaml");
    let room = Room::new();
    for manifest in ["manifests/phoenix.yaml", "snapshots/everything.yaml", "snapshots/restricted.yaml"] {
        let manifests = read(&repository().join("kubernetes").join(manifest));
        let objects =
            manifests.split("\n---\n").map(|text| serde_yaml::from_str::<Value>(text).expect("manifests are YAML"));
        let object =
            objects.into_iter().find(|object| object["kind"] == "ConfigMap").expect("there is a configuration");
        let mut command = agent();
        command.arg("validate");
        for file in ["config.yaml", "values.yaml"] {
            command.arg("--config").arg(room.file(file, text(&object["data"], file)));
        }
        // The certificates of the case are nowhere; `validate` says only what is wrong with the words.
        let output = finish(command.env("K8S_CLUSTER_NAME", "c"));
        assert!(output.status.success(), "{manifest}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Words before a list of labels.
const LISTED: [&str; 4] = ["by", "on", "without", "group_left"];

/// The names of metrics in a query: words with a `_` or `:` that are neither in braces nor in a list of labels, and no
/// functions.
fn metrics_of(query: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut word, mut quoted, mut braces, mut list) = (String::new(), false, 0, false);
    let mut last_word = String::new();
    for letter in query.chars().chain([' ']) {
        quoted ^= letter == '"';
        if quoted || letter == '"' {
            word.clear();
        } else if letter.is_ascii_alphanumeric() || "_:".contains(letter) {
            word.push(letter);
        } else {
            if !word.is_empty() {
                let is_name = word.starts_with(char::is_alphabetic) && word.contains(['_', ':']) || word == "ALERTS";
                if is_name && braces == 0 && !list && letter != '(' && !LISTED.contains(&&*word) {
                    names.insert(word.clone());
                }
                last_word = std::mem::take(&mut word);
            }
            braces += i32::from(letter == '{') - i32::from(letter == '}');
            if letter == '(' {
                list = LISTED.contains(&&*last_word);
                last_word.clear();
            }
            list &= letter != ')';
        }
    }
    names
}

#[test]
fn names_are_found_in_queries() {
    let names = metrics_of(
        r#"max by (job, le_x) (a_b{c_d="e_f"}) / on (job) group_left (g_h) rate(x:y_z[5m]) > label_replace(q_r, "s_t", "", "", "")"#,
    );
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["a_b", "q_r", "x:y_z"]);
}

/// The durations in brackets and behind `for:` sixty times as fast: hours are minutes, minutes are seconds.
fn faster(text: &str) -> String {
    let unit = |duration: &str| duration.replace('m', "s").replace('h', "m");
    let line = |line: &str| {
        if line.trim_start().starts_with("for: ") {
            return line.replace('m', "s").replace('h', "m");
        }
        let mut parts = line.split('[');
        let mut fast = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (duration, rest) = part.split_once(']').unwrap_or((part, ""));
            fast += &format!("[{}]{rest}", unit(duration));
        }
        fast
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A Prometheus with the shipped rules, sixty times as fast, that reads an agent's two pages.
fn prometheus(room: &Room, own: u16, metrics: u16) -> Server {
    for path in files("configs/prometheus/rules", "yaml") {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let fast = faster(&read(&path));
        room.file(&format!("rules-{name}"), &fast);
    }
    let job = |name: &str, port: u16| {
        format!(
            "  - job_name: {name}\n    static_configs: [{{targets: [\"localhost:{port}\"]}}]\n    relabel_configs: \
             [{{source_labels: [__address__], regex: \"(.+):\\\\d+\", target_label: instance}}]\n"
        )
    };
    let jobs = job("phoenix", own) + &job("phoenix-host", metrics);
    Server::with(
        room,
        &format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules-*.yaml]\nscrape_configs:\n{jobs}"
        ),
    )
}

/// Whether that alert is in that state now.
fn is(server: &Server, alert: &str, state: &str) -> bool {
    !server.query(&format!("ALERTS{{alertname=\"{alert}\", alertstate=\"{state}\"}}")).is_empty()
}

fn own_page(port: u16) -> String {
    format!(
        "telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {port}, \
         without_type_suffix: true, without_units: true, without_scope_info: true}}}}}}}}]}}}}"
    )
}

fn start(room: &Room, overlay: &str) -> Running {
    let overlay = room.file("overlay.yaml", overlay);
    let mut command = agent();
    command.arg("--config").arg(repository().join("configs/default.yaml")).arg("--config").arg(overlay);
    room.start("phoenix", command.arg("--state-dir").arg(room.path("state")))
}

#[test]
fn every_query_of_rules_and_dashboards_finds_data_on_a_live_agent() {
    if !required("Prometheus", runs("prometheus", &["--version"])) {
        return;
    }
    let room = Room::new();
    let (own, metrics, nobody) = (free_port(), free_port(), free_port());
    // The default config, faster, beside a destination that is away: its queue grows.
    let mut phoenix = start(
        &room,
        &format!(
            "receivers: {{hostmetrics: {{collection_interval: 1s}}}}
processors: {{adaptive: {{budget: {{interval: 1s}}, estimates: {{window: 10s}}}}}}
exporters:
  prometheus: {{endpoint: \"localhost:{metrics}\"}}
  otlp_grpc: {{endpoint: \"127.0.0.1:{nobody}\", tls: {{insecure: true}}}}
service:
  extensions: []
  admin: {{endpoint: \"127.0.0.1:{}\"}}
  {}
  pipelines: {{metrics: {{exporters: [prometheus, otlp_grpc]}}}}
",
            free_port(),
            own_page(own)
        ),
    );
    page(own, "/metrics", "the agent's own page");
    let server = prometheus(&room, own, metrics);

    let mut queries = Vec::new();
    for path in files("configs/grafana/dashboards", "json") {
        let dashboard: Value = serde_json::from_str(&read(&path)).expect("dashboards are JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let before = queries.len();
        queries.extend(
            targets.map(|target| text(target, "expr").replace("$__rate_interval", "5s").replace("$instance", ".*")),
        );
        assert!(queries.len() > before + 5, "{}", path.display());
    }
    assert!(queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    queries.extend(rules().iter().filter(|rule| rule["record"].is_string()).map(|rule| faster(text(rule, "expr"))));
    queries
        .extend(rules().iter().filter(|rule| rule["record"].is_string()).map(|rule| text(rule, "record").to_owned()));

    let later = |query: &str| metrics_of(query).iter().any(|name| LATER.contains(&name.as_str()));
    for query in &queries {
        let answer = |query: &str| !server.query(query).is_empty();
        if later(query) {
            // It parses and is answered, be it with nothing.
            answer(query);
        } else {
            until(query, MINUTES, || answer(query).then_some(()));
        }
    }
    let known = server.api("/api/v1/label/__name__/values");
    let known: BTreeSet<&str> = known.as_array().expect("names").iter().filter_map(Value::as_str).collect();
    queries.extend(rules().iter().filter(|rule| rule["alert"].is_string()).map(|rule| text(rule, "expr").to_owned()));
    for query in &queries {
        for name in metrics_of(query) {
            assert!(known.contains(name.as_str()) || LATER.contains(&name.as_str()), "{name} is not there: {query}");
        }
    }
    // What New Relic is asked for by OTLP's names stands here under Prometheus' names, as a metric or as a label.
    let labels = server.api("/api/v1/labels");
    let labels: BTreeSet<&str> = labels.as_array().expect("labels").iter().filter_map(Value::as_str).collect();
    let nrql = read(&repository().join("configs/newrelic/queries.nrql"));
    let words = nrql.lines().filter(|line| !line.starts_with("--"));
    let words =
        words.flat_map(|line| line.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_.".contains(letter)));
    let prefixes = ["system.", "process.", "phoenix_", "otelcol_"];
    for word in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))) {
        let name = word.replace('.', "_");
        assert!(labels.contains(&*name) || known.iter().any(|known| known.starts_with(&name)), "{word} is not there");
    }
    for group in server.api("/api/v1/rules")["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }
    // It would try the destination that is away for as long as it may; it is killed instead.
    phoenix.assert_running();
}

/// Some four minutes, so it runs where it is asked for: `PHOENIX_LONG=1`.
#[test]
fn an_incident_is_seen_to_begin_and_to_end() {
    if std::env::var_os("PHOENIX_LONG").is_none() || !required("Prometheus", runs("prometheus", &["--version"])) {
        return;
    }
    let room = Room::new();
    let (own, metrics) = (free_port(), free_port());
    let mut host = Host::new(&room.path("host"), 11);
    let root = room.path("host").display().to_string();
    // The loop only looks on, so that the budget is left by the churn and by nothing else.
    let mut phoenix = start(
        &room,
        &format!(
            "receivers: {{hostmetrics: {{collection_interval: 500ms, root_path: \"{root}\", scrapers: {{process: {{}}}}}}}}
processors:
  memory_limiter: {{limit_mib: 512}}
  cardinality: {{window: 2s}}
  adaptive: {{budget: {{interval: 200ms, observe_only: true}}, estimates: {{window: 6s}}}}
exporters: {{prometheus: {{endpoint: \"localhost:{metrics}\", metric_expiration: 5s}}}}
service:
  extensions: []
  admin: {{endpoint: \"127.0.0.1:{}\"}}
  {}
",
            free_port(),
            own_page(own)
        ),
    );
    page(own, "/metrics", "the agent's own page");
    let server = prometheus(&room, own, metrics);
    let value = |query: &str| -> Option<f64> { server.query(query).first()?["value"][1].as_str()?.parse().ok() };

    // Quiet for as long as the detectors learn: thirty counts, one a second.
    let learned = "count_over_time(agent:budget_use:ratio[1m])";
    until("a quiet beginning", MINUTES, || {
        host.work();
        value(learned).filter(|seconds| *seconds >= 35.0)
    });
    let alerts = ["PhoenixCardinalityExplosion", "PhoenixBudgetBreached"];
    // A busy machine may make scrapes slow; what is at stake here is silent.
    let silent = |state: &str| alerts.iter().all(|alert| !is(&server, alert, state));
    assert!(silent("pending") && silent("firing"), "nothing has happened yet: {:?}", server.query("ALERTS"));

    // A program that starts processes and never stops to: a hundred others twice a second.
    for alert in alerts {
        let mut last = Instant::now();
        until(alert, MINUTES, || {
            if last.elapsed() > Duration::from_millis(500) {
                last = Instant::now();
                host.disperse();
                host.crowd(100);
            }
            is(&server, alert, "firing").then_some(())
        });
    }
    let (excess, leading) =
        (value("max(phoenix_explosion_excess_series)"), server.query("agent:attribute_values:count"));
    assert!(excess.is_some_and(|excess| excess > 50.0), "{excess:?}");
    assert!(leading.iter().any(|row| row["metric"]["attribute"] == "process.pid"), "{leading:?}");

    host.disperse();
    for alert in alerts {
        until(&format!("{alert} to be over"), MINUTES, || {
            host.work();
            (!is(&server, alert, "firing")).then_some(())
        });
    }
    assert!(silent("firing"), "{:?}", server.query("ALERTS"));
    phoenix.assert_running();
    phoenix.end();
}
