use super::*;

fn migrate(text: &str) -> String {
    migrated("c.yaml", parse("c.yaml", text).unwrap()).unwrap()
}

/// The result must be right in Phoenix's eyes, and comments aside a fixed point of the migration.
fn right(text: &str) -> Value {
    let value = parse("out.yaml", text).unwrap();
    if let Err(mistakes) = check(&value) {
        panic!("{}\n{text}", report(&mistakes));
    }
    let again = parse("again.yaml", &migrate(text)).unwrap();
    assert_eq!(again, value, "{text}");
    value
}

const COLLECTOR: &str = r#"
receivers:
  otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}}}
  hostmetrics:
    collection_interval: 30s
    scrapers: {cpu: , process: {mute_process_name_error: true}}
  jaeger: {protocols: {thrift_http: }}
  prometheus:
    config:
      scrape_configs:
        - job_name: node
          scrape_interval: 15s
          static_configs: [{targets: ["localhost:9100", "localhost:9256"]}]
  prometheus/app:
    config: {scrape_configs: [{job_name: app, static_configs: [{targets: ["localhost:8080"]}]}]}
processors:
  memory_limiter: {check_interval: 1s, limit_percentage: 80, spike_limit_percentage: 25}
  batch:
  k8sattributes: {auth_type: serviceAccount}
exporters:
  otlp: {endpoint: "${env:BACKEND}:4317", headers: {api-key: "${env:KEY}"}, no_such_key: 5}
  logging: {verbosity: basic}
  loki: {endpoint: "http://loki"}
extensions: {health_check: , opamp: {server: {}}, memory_ballast: {size_mib: 165}}
connectors: {spanmetrics: }
service:
  extensions: [health_check, opamp]
  telemetry: {logs: {level: info}}
  pipelines:
    traces: {receivers: [otlp, jaeger], processors: [batch], exporters: [otlp, spanmetrics]}
    metrics:
      receivers: [otlp, hostmetrics, prometheus, prometheus/app, spanmetrics]
      processors: [memory_limiter, k8sattributes, batch]
      exporters: [otlp, logging]
    metrics/app: {receivers: [prometheus/app], exporters: [otlp]}
    logs: {receivers: [otlp], exporters: [loki]}
"#;

#[test]
fn what_is_kept_runs_and_every_change_says_why() {
    let text = migrate(COLLECTOR);
    let value = right(&text);
    let pipelines = value.get("service").unwrap().get("pipelines").unwrap();
    assert_eq!(entries(Some(pipelines)).len(), 1, "{text}");
    let list = |kinds: &str| {
        let ids = pipelines.get("metrics").unwrap().get(kinds).unwrap().as_seq().unwrap();
        ids.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    // The receiver that stood in for the host is one with the host's own.
    assert_eq!(list("receivers"), ["otlp", "hostmetrics"]);
    assert_eq!(list("processors"), ["memory_limiter", "batch"]);
    assert_eq!(list("exporters"), ["otlp", "debug"]);
    let otlp = value.get("exporters").unwrap().get("otlp").unwrap();
    assert_eq!(otlp.get("endpoint").unwrap().as_str(), Some("${env:BACKEND}:4317"));
    for said in [
        "Phoenix carries metrics only; leave traces to the Collector",
        "leave logs to the Collector",
        "Phoenix has no processor k8sattributes: Phoenix asks no API server",
        "Phoenix has no connectors",
        "was logging; Phoenix calls it debug",
        "node_exporter and process-exporter",
        "#   no_such_key: 5",
        "Phoenix has no extension memory_ballast: a workaround for Go",
        "#       thrift_http:",
        "without prometheus/app, see above",
        "a pipeline needs at least one receiver",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    assert!(!text.contains("TO DO"), "{text}");
}

#[test]
fn the_exporters_that_are_scraped_become_the_host() {
    let value = right(&migrate(
        "receivers:\n  prometheus/node:\n    config:\n      scrape_configs:\n        - {job_name: a, scrape_interval: 20s, static_configs: [{targets: ['h:9100']}]}\n\
         exporters: {debug: }\nservice: {pipelines: {metrics: {receivers: [prometheus/node], exporters: [debug]}}}\n",
    ));
    let receiver = value.get("receivers").unwrap().get("hostmetrics/node").unwrap();
    assert_eq!(receiver.get("collection_interval").unwrap().as_str(), Some("20s"));
    assert_eq!(entries(receiver.get("scrapers")).len(), rules::SCRAPERS.len());
}

#[test]
fn what_a_person_must_decide_stays_and_is_marked() {
    let text = migrate(
        "receivers: {hostmetrics: {collection_interval: -5s, scrapers: {cpu: }}}\nexporters: {debug: }\n\
         service: {pipelines: {metrics: {receivers: [hostmetrics], exporters: [debug]}}}\n",
    );
    assert!(
        text.contains("1 to do") && text.contains("# TO DO:") && text.contains("collection_interval: -5s"),
        "{text}"
    );
}

#[test]
fn a_config_without_metrics_is_refused_and_so_is_what_is_no_config() {
    let none = "receivers: {otlp: }\nexporters: {otlp: {endpoint: 'h:1'}}\nservice: {pipelines: {logs: {receivers: [otlp], exporters: [otlp]}}}\n";
    let error = migrated("c.yaml", parse("c.yaml", none).unwrap()).unwrap_err();
    assert!(error.contains("no pipeline is left"), "{error}");
    assert!(migrated("c.yaml", parse("c.yaml", "").unwrap()).is_err());
    assert!(text("/nonexistent/config.yaml").unwrap_err().contains("/nonexistent/config.yaml"));
}

#[test]
fn the_ready_configs_are_taken_as_they_are() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|suffix| suffix != "yaml") {
            continue;
        }
        let original = parse("c.yaml", &std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = migrated("c.yaml", original.clone()).unwrap();
        assert!(text.contains("0 taken out, 0 changed, 0 to do"), "{}: {text}", path.display());
        assert_eq!(parse("out.yaml", &text).unwrap(), original, "{}", path.display());
    }
}

#[test]
fn scalars_keep_their_type() {
    for text in [
        "a",
        "",
        "1",
        "-1",
        "1.5",
        ".5",
        "1e3",
        "0x1",
        "true",
        "No",
        "~",
        "null",
        "30s",
        "10m",
        "a: b",
        "#x",
        "a\nb\t\"c\"",
        "*",
        "h:1",
        ":8",
        "1:2",
        "é",
        "-",
        "2024-01-01",
    ] {
        let value = Value::new(
            Mark::default(),
            Kind::Map(vec![(
                phoenix_pipeline::config::Key { mark: Mark::default(), name: text.to_owned() },
                Value::new(Mark::default(), Kind::Seq(vec![word(text)])),
            )]),
        );
        let yaml = write::yaml(&value, &Notes::new());
        assert_eq!(parse("s.yaml", &yaml).unwrap(), value, "{yaml}");
    }
}
