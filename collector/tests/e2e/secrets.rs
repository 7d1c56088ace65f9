//! A secret that stands on somebody's command line, or in the config, is found nowhere in what the agent says.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::{PATIENCE, Room, agent, finish, free_port, get, page, until};
use crate::otlp_json::read;
use crate::sink::{Sink, python};

/// What a command line looks like around its secrets; `@` stands for one. `argv[0]` first.
const SHAPES: &[&[&str]] = &[
    &["tool", "--password=@"],
    &["tool", "--password", "@"],
    &["mysql", "-p@"],
    &["tool", "DB_PASSWORD=@"],
    &["tool", "postgres://user:@@host/db"],
    &["curl", "-H", "Authorization: Bearer @"],
    &["curl", "-H", "X-Api-Key: @"],
    &["curl", "--header=Authorization: Basic @"],
    &["tool", "--token", "@"],
    &["tool", "--token=@"],
    &["tool", "--api-key", "@"],
    &["tool", "--api-key=@"],
    &["tool", "Server=db;User Id=sa;Password=@;Encrypt=true"],
    &["java", "-Dspring.datasource.password=@"],
    &["docker", "-e", "MYSQL_ROOT_PASSWORD=@"],
    &["tool", "--aws-secret-access-key", "@"],
    &["phoenix", "--set", "exporters.otlp_http.headers.api-key=@"],
    &["phoenix", "--set=exporters.otlp_http.headers.api-key=@"],
];

/// The same inside what a shell is told to run; none of it is reached.
const SCRIPTS: &[&str] = &[
    "DB_PASSWORD=@ read forever",
    "read forever; export GITHUB_TOKEN=@; run",
    "read forever; mysql -uroot -p@ db",
    "read forever; tool --password @ --port=1",
    "read forever; tool --api-key='@'",
    "read forever; curl -H 'Authorization: Bearer @' https://host/",
    "read forever; curl -H \"X-Api-Key: @\" https://user:@@host/",
];

/// Tokens that are known by their own form, as bare arguments. None of them was ever valid.
const TOKENS: &[&str] = &[
    "AKIAQ7ZXPLANTEDKEY42",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYPLANTEDKEY",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJlLXBsYW50ZWQtaGVyZQ",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
];

/// What looks like nothing in particular and must stay.
const HARMLESS: &[&str] = &[
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "9fceb02d0ae598e95dc970b74767f19372d61af8",
    "--port=8443",
    "/var/lib/thing.d",
];

/// A command that waits for its input, with these arguments behind what it runs.
fn waiting(name: &str, script: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("sh");
    command.arg0(name).arg("-c").arg(script).arg(name).args(arguments).args(HARMLESS);
    command
}

#[test]
fn planted_secrets_appear_nowhere() {
    if !python() {
        return;
    }
    let room = Room::new();
    let mut secrets: Vec<String> = TOKENS.iter().map(|token| (*token).to_owned()).collect();
    let mut plant = |number: usize| {
        let secret = format!("Planted{number}xQ7zR");
        secrets.push(secret.clone());
        secret
    };
    let mut children = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        let secret = plant(number);
        // In a URL the last @ is the URL's own.
        let arguments: Vec<String> = shape[1..].iter().map(|argument| argument.replacen('@', &secret, 1)).collect();
        children.push(room.start(&format!("child{number}"), &mut waiting(shape[0], "read forever", &arguments)));
    }
    for (number, script) in SCRIPTS.iter().enumerate() {
        let script =
            script.replacen('@', &plant(100 + number), 1).replacen("@@", &format!("{}@", plant(150 + number)), 1);
        children.push(room.start(&format!("script{number}"), &mut waiting("sh", &script, &[])));
    }
    let tokens: Vec<String> = TOKENS.iter().map(|token| (*token).to_owned()).collect();
    children.push(room.start("tokens", &mut waiting("tool", "read forever", &tokens)));

    let sink = Sink::start(&room);
    let ports = [free_port(), free_port(), free_port()];
    let (in_file, in_environment, in_set) = (plant(200), plant(201), plant(202));
    let config = config(&room, &sink, ports, &in_file);
    let path = room.file("phoenix.yaml", &config);
    let set = format!("--set=exporters.otlp_http.headers.x-set={in_set}");
    let with_secrets = |command: &mut Command| {
        command.arg("--config").arg(&path).arg(&set).env("PLANTED", &in_environment);
    };
    let mut command = agent();
    with_secrets(&mut command);
    let mut phoenix = room.start("phoenix", &mut command);
    sink.wait_for(&["secrets"], 3);
    let pages = ports.map(|port| page(port, if port == ports[2] { "/" } else { "/metrics" }, "a page"));
    let open_metrics = get(ports[0], "/metrics", "Accept: application/openmetrics-text\r\n").expect("the page").body;
    until("the file's lines", PATIENCE, || (!read(&room.path("out.json")).is_empty()).then_some(()));
    phoenix.end();

    // The headers are really used.
    let headers = &sink.requests("secrets")[0]["headers"];
    let sent = ["x-file", "x-env", "x-set"].map(|name| headers[name].as_str().unwrap_or_default().to_owned());
    assert_eq!(sent, [in_file, in_environment.clone(), in_set.clone()]);

    let mut said =
        vec![("standard error", phoenix.stderr().into_bytes()), ("standard output", phoenix.stdout().into_bytes())];
    said.extend(pages.into_iter().map(|page| ("a page", page.into_bytes())));
    said.push(("the OpenMetrics page", open_metrics.into_bytes()));
    said.extend(sink.bodies().into_iter().map(|body| ("the wire", body)));
    for name in ["out.json", "out.pb"] {
        said.push(("a file", std::fs::read(room.path(name)).expect("an exporter's file")));
    }
    for arguments in [&["print-config"][..], &["print-config", "--format=json"]] {
        let mut command = agent();
        with_secrets(command.args(arguments));
        let output = finish(&mut command);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("[REDACTED]"), "{output:?}");
        said.push(("print-config", [output.stdout, output.stderr].concat()));
    }
    for (where_, text) in &said {
        let text = String::from_utf8_lossy(text);
        let found: Vec<&String> = secrets.iter().filter(|secret| text.contains(*secret)).collect();
        assert!(found.is_empty(), "{where_} holds {found:?}");
    }
    // And it was not silence: every child's command line is there, with what is harmless in it.
    let samples = read(&room.path("out.json"));
    for child in &children {
        let sample = samples.iter().find(|sample| sample.pid == Some(child.pid())).expect("every child is there");
        let line = sample.resource.get("process.command_line").expect("a command line");
        assert!(HARMLESS.iter().all(|word| line.contains(word)), "{line}");
    }
}

/// Everything that can speak, at its most talkative.
fn config(room: &Room, sink: &Sink, [metrics, own, health]: [u16; 3], secret: &str) -> String {
    let path = |name: &str| room.path(name).display().to_string();
    format!(
        "extensions: {{health_check: {{endpoint: \"localhost:{health}\"}}}}
receivers: {{hostmetrics: {{collection_interval: 1s, initial_delay: 100ms, scrapers: {{process:
    {{include: {{names: [sh, phoenix], match_type: strict}}}}}}}}}}
exporters:
  otlp_http:
    endpoint: \"http://127.0.0.1:{http}\"
    headers: {{x-road: secrets, x-file: {secret}, x-env: \"${{env:PLANTED}}\"}}
  otlp_http/refused: {{endpoint: \"http://127.0.0.1:{nobody}\", headers: {{authorization: \"Bearer {secret}\"}},
    retry_on_failure: {{enabled: false}}}}
  prometheus:
    endpoint: \"localhost:{metrics}\"
    resource_constant_labels: {{included: [\"*\", process.command_line]}}
  debug: {{verbosity: detailed}}
  file/json: {{path: \"{json}\"}}
  file/proto: {{path: \"{proto}\", format: proto}}
service:
  extensions: [health_check]
  telemetry:
    logs: {{level: debug, sampling: {{enabled: false}}}}
    metrics: {{level: detailed, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}
  pipelines:
    metrics:
      receivers: [hostmetrics]
      exporters: [otlp_http, otlp_http/refused, prometheus, debug, file/json, file/proto]
",
        http = sink.http,
        nobody = free_port(),
        json = path("out.json"),
        proto = path("out.pb"),
    )
}

#[test]
fn a_mistake_beside_a_secret_does_not_print_it() {
    let room = Room::new();
    let secret = "Planted300xQ7zR";
    let config = format!(
        "receivers: {{hostmetrics: {{scrapers: {{cpu: }}}}}}
exporters:
  otlp_http: {{endpoint: \"http://127.0.0.1:1\", headers: {{api-key: [{secret}]}}, api_key: {secret}}}
  otlp_http/list: {{endpoint: \"http://127.0.0.1:1\", headers: \"{secret}\"}}
service: {{pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [otlp_http, otlp_http/list]}}}}}}
"
    );
    let output = finish(agent().arg("validate").arg("--config").arg(room.file("wrong.yaml", &config)));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("api_key") && !said.contains(secret), "{said}");
}
