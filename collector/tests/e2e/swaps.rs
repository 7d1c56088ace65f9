//! Profiles changed every 100 ms under load: nothing is lost, nothing doubled, no counter falls, as a reader in another
//! language finds. Six seconds; with `PHOENIX_LONG=1` a minute.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Room, agent, free_port, page, until};
use crate::sink::python;
use crate::synthetic::{Chance, Host};

/// All that a chain of marks can do to a process: nothing, a few stay by several stages, one by one, or none.
const PROFILES: [&str; 5] = ["all", "ranked", "tight", "unusual", "none"];
const PROCESSORS: &str = "
  priority: {rules: [{class: critical, match: {process.executable.name: [steady-0]}}]}
  priority/none: {rules: [{class: low, match: {process.executable.name: [\"*\"]}}]}
  topk: {k: 30, rank_by: [process.cpu.time, process.memory.usage, process.disk.io], min_stay: 0s}
  topk/tight: {k: 3, rank_by: [process.cpu.time], min_stay: 0s}
  adaptive_filter: {pressure: 0.8, min_stay: 0s, unusual: {hold: 300ms}}
  aggregate: {}
  adaptive:
    profiles:
      all: [aggregate]
      ranked: [priority, topk, aggregate]
      tight: [priority, topk/tight, aggregate]
      unusual: [adaptive_filter, topk, aggregate]
      none: [priority/none, aggregate]
";

fn config(room: &Room, admin: u16, own: u16) -> String {
    let path = |name: &str| room.path(name).display().to_string();
    let (root, before, after) = (path("host"), path("in.pb"), path("out.pb"));
    format!(
        "receivers:
  hostmetrics:
    collection_interval: 100ms
    initial_delay: 200ms
    root_path: \"{root}\"
    scrapers: {{process: {{metrics: {{process.threads: {{enabled: true}}}}}}}}
processors:{PROCESSORS}
exporters:
  file/in: {{path: \"{before}\", format: proto, flush_interval: 100ms}}
  file/out: {{path: \"{after}\", format: proto, flush_interval: 100ms}}
service:
  admin: {{endpoint: \"127.0.0.1:{admin}\"}}
  telemetry: {{metrics: {{level: detailed, readers: [{{pull: {{exporter: {{prometheus: {{port: {own}}}}}}}}}]}}}}
  pipelines:
    metrics/in: {{receivers: [hostmetrics], exporters: [file/in]}}
    metrics: {{receivers: [hostmetrics], processors: [adaptive], exporters: [file/out]}}
"
    )
}

/// Puts a profile to work; says whether the agent agreed.
fn set_profile(admin: u16, profile: &str) -> bool {
    let body = format!("{{\"profile\":\"{profile}\"}}");
    let length = body.len();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin)).expect("the admin endpoint is there");
    let request =
        format!("POST /control/profile HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("the admin endpoint reads");
    let mut answer = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
    stream.read_to_string(&mut answer).expect("the admin endpoint answers");
    answer.split(' ').nth(1) == Some("200")
}

/// Waits for an own metric; its sum over its labels.
fn own(port: u16, name: &str) -> f64 {
    until(name, PATIENCE, || {
        let page = page(port, "/metrics", "the page of own metrics");
        let mine = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = page.lines().filter(mine).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value)
    })
}

/// Waits until a scrape that began after this call has ended.
fn scraped(own_metrics: u16) {
    let scrapes = || own(own_metrics, "phoenix_scrape_duration_seconds_count");
    let before = scrapes();
    until("two more scrapes", PATIENCE, || (scrapes() >= before + 2.0).then_some(()));
}

#[test]
fn profiles_change_every_100_ms_and_every_sum_stays_true() {
    if !python() {
        return;
    }
    let long = std::env::var("PHOENIX_LONG").is_ok_and(|value| value == "1");
    let time = Duration::from_secs(if long { 60 } else { 6 });
    let (room, admin, own_metrics) = (Room::new(), free_port(), free_port());
    let mut host = Host::new(&room.path("host"), 11);
    let config = room.file("phoenix.yaml", &config(&room, admin, own_metrics));
    let mut phoenix = room.start("phoenix", agent().arg("--config").arg(config));
    scraped(own_metrics);
    let (begin, over) = (Instant::now(), AtomicBool::new(false));
    let swaps = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let (mut chance, mut at, mut swaps) = (Chance(5), 0, 0);
            for beat in 1.. {
                at = (at + 1 + chance.below(PROFILES.len() as u64 - 1) as usize) % PROFILES.len();
                assert!(set_profile(admin, PROFILES[at]), "{} is put to work", PROFILES[at]);
                swaps += 1;
                let next = begin + Duration::from_millis(100) * beat;
                if over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            swaps
        });
        // A busy machine gets the time it needs for enough to happen.
        while begin.elapsed() < time || (host.born < 30 || host.reused < 8) && begin.elapsed() < 10 * time {
            host.step();
            std::thread::sleep(Duration::from_millis(40));
        }
        over.store(true, Ordering::Relaxed);
        swapper.join().expect("every profile was put to work")
    });
    scraped(own_metrics);
    let taken_up = own(own_metrics, "phoenix_swaps_total");
    let error = own(own_metrics, "phoenix_conservation_error_ratio");
    phoenix.end();
    let world = room.file("world.json", &serde_json::json!({ "steady": host.steady() }).to_string());
    let read = |out: &str| {
        let mut reader = Command::new("python3");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/ledger_check.py");
        reader.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(room.path("in.pb")).arg(room.path(out)).arg(&world);
        let output = reader.output().expect("python3 runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let (sound, said) = read("out.pb");
    assert!(sound, "the reader found:\n{said}");
    let figures: serde_json::Value = serde_json::from_str(&said).expect("the reader prints JSON");
    // The reader is not blind: one scrape less is found.
    let whole = std::fs::read(room.path("out.pb")).expect("the file is there");
    let (first, rest) = whole.split_at(4 + u32::from_be_bytes([whole[0], whole[1], whole[2], whole[3]]) as usize);
    let second = 4 + u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
    std::fs::write(room.path("less.pb"), [first, &rest[second..]].concat()).expect("the room is writable");
    assert!(!read("less.pb").0, "the reader misses a scrape that did not leave");
    let count = |name: &str| figures[name].as_u64().unwrap_or_default();
    println!(
        "{swaps} profiles set, {taken_up} taken up; {} processes born, {} of them under a pid just freed; \
         conservation error {error:e}; {figures}",
        host.born, host.reused
    );
    // Enough for the rest to mean something.
    assert!(swaps >= 20 && taken_up >= 10.0, "{swaps} profiles set, {taken_up} taken up");
    assert!(error < 1e-9, "the agent's own conservation error is {error}");
    assert!(host.born >= 30 && host.reused >= 8, "{} born, {} reused", host.born, host.reused);
    assert!(count("scrapes") >= 10 && count("transitions") > 200 && count("closings") > 100, "{figures}");
    assert!(count("points_out") < count("points_in"), "something was folded: {figures}");
}
