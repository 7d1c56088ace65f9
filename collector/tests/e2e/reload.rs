//! SIGHUP: a good config is swapped in, a bad one is reported and changes nothing.

use crate::harness::{PATIENCE, Room, Running, free_port, get, page, until};
use crate::otlp_json::read;

/// A host with a health page, and the file its metrics go to.
struct Config {
    health: u16,
    metrics: u16,
    file: String,
    scrapers: &'static str,
}

impl Config {
    fn text(&self) -> String {
        let Config { health, metrics, file, scrapers } = self;
        // The delay keeps a receiver that is built anew unready for long enough to be seen.
        format!(
            "extensions: {{health_check: {{endpoint: \"localhost:{health}\"}}}}
receivers:
  hostmetrics:
    collection_interval: 500ms
    initial_delay: 2s
    scrapers: {{{scrapers}}}
exporters:
  file: {{path: \"{file}\", flush_interval: 100ms}}
  prometheus: {{endpoint: \"localhost:{metrics}\"}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [file, prometheus]}}}}
"
        )
    }
}

fn status(port: u16) -> u16 {
    get(port, "/", "").expect("the health page is served").status
}

/// Sends SIGHUP and waits until this is said once more than before.
fn reload(phoenix: &Running, said: &str) {
    let times = || phoenix.stderr().matches(said).count();
    let before = times();
    phoenix.signal("HUP");
    until(said, PATIENCE, || (times() > before).then_some(()));
}

#[test]
fn a_changed_config_is_swapped_in_and_what_has_not_changed_is_kept() {
    let room = Room::new();
    let file = |name: &str| room.path(name).display().to_string();
    let first =
        Config { health: free_port(), metrics: free_port(), file: file("first.json"), scrapers: "memory: , load: " };
    let mut phoenix = room.phoenix(&first.text());
    page(first.health, "/", "readiness");
    until("metrics in the first file", PATIENCE, || (!read(&room.path("first.json")).is_empty()).then_some(()));

    // Another exporter: the receiver is not touched and goes on scraping.
    let second = Config { file: file("second.json"), ..first };
    room.file("phoenix.yaml", &second.text());
    reload(&phoenix, "the new config is in place");
    assert_eq!(status(second.health), 200, "the receiver is the one that was ready before");
    until("metrics in the new file", PATIENCE, || (!read(&room.path("second.json")).is_empty()).then_some(()));
    assert!(
        page(second.metrics, "/metrics", "the page").contains("system_memory_usage_bytes"),
        "the page kept its series"
    );

    // Another receiver: built anew, and the health page says so.
    let third = Config { scrapers: "system: ", ..second };
    room.file("phoenix.yaml", &third.text());
    reload(&phoenix, "the new config is in place");
    assert_eq!(status(third.health), 503, "the new receiver has not scraped yet");
    until("the new scraper's metric", PATIENCE, || {
        read(&room.path("second.json")).iter().any(|sample| sample.metric == "system.uptime").then_some(())
    });
    phoenix.end();
    let times = |name: &str| read(&room.path(name)).iter().map(|sample| sample.time).collect::<Vec<u64>>();
    let (first, second) = (times("first.json"), times("second.json"));
    assert!(first.iter().max() < second.iter().min(), "a scrape went to one of the two files: {first:?} {second:?}");
}

#[test]
fn a_broken_config_is_reported_and_the_old_one_goes_on() {
    let room = Room::new();
    let file = room.path("metrics.json");
    let good =
        Config { health: free_port(), metrics: free_port(), file: file.display().to_string(), scrapers: "memory: " };
    let mut phoenix = room.phoenix(&good.text());
    page(good.health, "/", "readiness");
    let unknown = good.text().replace("initial_delay", "inital_delay");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let impossible = good.text().replace(&format!("localhost:{}", good.metrics), &format!("localhost:{port}"));
    let cases = [
        (unknown.as_str(), "phoenix.yaml:5:5: receivers::hostmetrics::inital_delay: unknown key"),
        ("receivers: [}", "phoenix.yaml:1:13: "),
        (impossible.as_str(), "exporters::prometheus::endpoint moves it"),
    ];
    for (text, word) in cases {
        room.file("phoenix.yaml", text);
        reload(&phoenix, "the old one goes on");
        assert!(phoenix.stderr().contains(word), "{word} is not in:\n{}", phoenix.stderr());
        let before = read(&file).len();
        until("the old config to go on", PATIENCE, || (read(&file).len() > before).then_some(()));
        assert_eq!(status(good.health), 200);
    }
    phoenix.assert_running();
    phoenix.end();
}
