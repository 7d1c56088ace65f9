//! A budget held by the built agent: a host that grows threefold and shrinks again, and one that is small enough.

use std::path::Path;

use serde_json::Value;

use crate::harness::{PATIENCE, Room, Running, agent, free_port, get, until};
use crate::synthetic::Host;

/// Series the synthetic host may have: half as many again as it has.
const BUDGET: f64 = 1_600.0;

/// Everything that takes minutes on a real host, in seconds.
fn config(room: &Room, admin: u16) -> String {
    let path = |name: &str| room.path(name).display().to_string();
    let (root, out) = (path("host"), path("out.pb"));
    format!(
        "receivers:
  hostmetrics:
    collection_interval: 200ms
    initial_delay: 200ms
    root_path: \"{root}\"
    scrapers: {{process: {{}}}}
processors:
  cardinality: {{window: 2s}}
  topk: {{k: 20, rank_by: [process.cpu.time, process.disk.io], min_stay: 0s}}
  aggregate: {{group_expiry: 1s, member_expiry: 1s}}
  adaptive:
    budget: {{series: {BUDGET}, interval: 200ms}}
    estimates: {{window: 2s}}
    control: {{tighten_dwell: 400ms, relax_dwell: 1s, emergency_lockout: 1s, stale_after: 10s}}
    profiles: {{conservative: [aggregate], balanced: [topk, aggregate]}}
exporters:
  file: {{path: \"{out}\", format: proto, flush_interval: 100ms}}
service:
  admin: {{endpoint: \"127.0.0.1:{admin}\"}}
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [hostmetrics], processors: [cardinality, adaptive], exporters: [file]}}
"
    )
}

fn start(room: &Room, name: &str, config: &Path) -> Running {
    room.start(name, agent().arg("--config").arg(config).arg("--state-dir").arg(room.path("state")))
}

fn ask(admin: u16, path: &str) -> Option<Value> {
    let answer = get(admin, path, "").ok().filter(|answer| answer.status == 200)?;
    Some(serde_json::from_str(&answer.body).expect("the answer is JSON"))
}

fn stage(admin: u16) -> Option<Value> {
    ask(admin, "/control/state").map(|state| state["stages"][0].clone()).filter(|stage| stage["profile"].is_string())
}

fn profile(admin: u16, name: &str) -> Value {
    until(name, 2 * PATIENCE, || stage(admin).filter(|stage| stage["profile"] == name))
}

#[test]
fn a_host_that_grows_threefold_is_held_within_its_budget_and_released_later() {
    let (room, admin) = (Room::new(), free_port());
    let mut host = Host::new(&room.path("host"), 3);
    let config = room.file("phoenix.yaml", &config(&room, admin));
    let mut phoenix = start(&room, "phoenix", &config);
    let steered = |stage: &Value| stage["series"]["steered"].as_f64();
    let small = until("a first decision", PATIENCE, || stage(admin).filter(|stage| steered(stage).is_some()));
    assert!(steered(&small).is_some_and(|series| series > 500.0 && series < BUDGET), "{small}");
    assert_eq!(small["profile"], "conservative");

    host.crowd(300);
    host.work();
    profile(admin, "balanced");
    let held = until("the budget is held", PATIENCE, || {
        // The crowd comes while scrapes go on; all of it must be there, and what went out before must be forgotten.
        let held = |stage: &Value| {
            let series = |of: &str| stage["series"][of].as_f64().unwrap_or_default();
            series("in") > 1.8 * BUDGET && series("out") < BUDGET
        };
        stage(admin).filter(held)
    });
    assert_eq!(held["profile"], "balanced", "{held}");
    let history = ask(admin, "/control/history").expect("the history");
    let rows = history["stages"][0]["rows"].as_array().expect("rows");
    let above = rows.iter().filter(|row| row[3].as_f64() > Some(BUDGET) && row[5] == 0.0).count();
    assert!(above <= 2, "two control cycles at most: {history}");

    // A restart goes on with the profile, from the first scrape on.
    phoenix.end();
    let mut phoenix = start(&room, "again", &config);
    let first = until("the agent is back", PATIENCE, || stage(admin));
    assert_eq!(first["profile"], "balanced", "{first}");

    host.disperse();
    profile(admin, "conservative");
    phoenix.assert_running();
    let log = ask(admin, "/control/decisions?limit=1000").expect("the decisions");
    let entries = log["decisions"].as_array().expect("entries");
    assert_eq!(entries.iter().filter(|entry| entry["kind"] == "relax").count(), 1, "{log}");
    let relaxed = entries.iter().find(|entry| entry["kind"] == "relax").expect("it is written down");
    assert_eq!((&relaxed["before"], &relaxed["after"]), (&"balanced".into(), &"conservative".into()));
    let words = relaxed["text"].as_str().unwrap_or_default();
    until("the log has the same words", PATIENCE, || phoenix.stderr().contains(words).then_some(()));
    phoenix.end();
}

#[test]
fn the_default_changes_nothing_while_the_host_is_within_its_budget() {
    let (room, admin) = (Room::new(), free_port());
    let mut host = Host::new(&room.path("host"), 5);
    let path = |name: &str| room.path(name).display().to_string();
    let (root, plain, out) = (path("host"), path("plain.pb"), path("out.pb"));
    // The embedded default's chain beside one without its `cardinality` and `adaptive`, fed by the same scrapes.
    let beside = room.file(
        "beside.yaml",
        &format!(
            "receivers: {{hostmetrics: {{collection_interval: 200ms, root_path: \"{root}\", scrapers: {{process: {{}}}}}}}}
exporters:
  file/plain: {{path: \"{plain}\", format: proto, flush_interval: 100ms}}
  file/out: {{path: \"{out}\", format: proto, flush_interval: 100ms}}
service:
  extensions: []
  admin: {{endpoint: \"127.0.0.1:{admin}\"}}
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{exporters: [file/out]}}
    metrics/plain:
      receivers: [hostmetrics]
      processors: [memory_limiter, resource_detection]
      exporters: [file/plain]
"
        ),
    );
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/default.yaml");
    let mut command = agent();
    command.args(["--config", default]).arg("--config").arg(beside).arg("--state-dir").arg(room.path("state"));
    let mut phoenix = room.start("phoenix", &mut command);
    until("some scrapes", PATIENCE, || {
        // Nobody is born: a point that begins after its own time is refused by `aggregate`, and here processes are.
        host.work();
        let rows = ask(admin, "/debug/explain?pid=1").and(ask(admin, "/control/history"))?;
        let written = std::fs::metadata(&out).is_ok_and(|file| file.len() > 1 << 20);
        (written && rows["stages"][0]["budget"] == 2000).then_some(())
    });
    phoenix.end();
    let (plain, out) = (std::fs::read(plain).expect("written"), std::fs::read(out).expect("written"));
    let frames = |mut bytes: &[u8]| {
        let mut frames = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            frames.push(frame.to_vec());
            bytes = rest;
        }
        frames
    };
    let (plain, out) = (frames(&plain), frames(&out));
    assert!(plain.len() >= 5 && plain.len() == out.len(), "{} scrapes, {} of them thinned", plain.len(), out.len());
    assert!(plain == out, "what leaves is what came in, to the last byte");
}
