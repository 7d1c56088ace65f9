//! The system scrapers against a made-up host under `tests/fixtures/system` and against this machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use phoenix_pipeline::Site;
use phoenix_pipeline::config::{parse, read};
use phoenix_telemetry::{AnyValue, Batch, MetricKind, Number, Point, Shape, Temporality};
use proptest::prelude::*;

use super::catalog::{MetricSettings, MetricsSettings, Naming, Row, ValueType};
use super::receiver::Round;
use super::root::Root;
use super::scraper::{Moment, Setup};
use super::{Config, catalog, host_scrapers};

const BOOT: u64 = 1_700_000_000_000_000_000;
const NOW: u64 = 1_700_012_345_000_000_000;

fn config(text: &str) -> Config {
    read(&parse("test.yaml", text).unwrap()).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = read::<Config>(&parse("test.yaml", text).unwrap()).unwrap_err();
    mistakes.iter().map(ToString::to_string).collect()
}

fn round(config: &Config, root: &Path, site: &Site) -> Round {
    let root = Root::new(root.to_str().unwrap());
    let boot_unix_nanos = root.boot_time_seconds().unwrap() * 1_000_000_000;
    let setup = Setup { root: &root, naming: config.naming, boot_unix_nanos, census: Default::default() };
    let process = config.scrapers.process.iter().map(|config| super::process::build(config, &setup, site).unwrap());
    Round::new(config.naming, site, host_scrapers(config, &setup).unwrap(), process.collect())
}

fn scrape(round: &mut Round) -> Batch {
    round.scrape(&Moment { unix_nanos: NOW, now: Instant::now() })
}

/// Every system scraper with every metric of its table on.
fn everything(naming: Naming) -> Config {
    let metrics = |scraper: &str| -> MetricsSettings {
        let rows = catalog().iter().filter(|row| row.scraper == scraper);
        let on = MetricSettings { enabled: Some(true), ..MetricSettings::default() };
        rows.map(|row| (row.v0.unwrap_or(row.v1).name.to_owned(), on.clone())).collect()
    };
    let mut config =
        config("scrapers: {cpu: , memory: , load: , disk: , filesystem: , network: , paging: , processes: , system: }");
    let scrapers = &mut config.scrapers;
    for (name, scraper) in [
        ("cpu", &mut scrapers.cpu),
        ("memory", &mut scrapers.memory),
        ("paging", &mut scrapers.paging),
        ("processes", &mut scrapers.processes),
        ("system", &mut scrapers.system),
    ] {
        scraper.as_mut().unwrap().metrics = metrics(name);
    }
    scrapers.load.as_mut().unwrap().metrics = metrics("load");
    scrapers.disk.as_mut().unwrap().metrics = metrics("disk");
    scrapers.network.as_mut().unwrap().metrics = metrics("network");
    let filesystem = scrapers.filesystem.as_mut().unwrap();
    filesystem.metrics = metrics("filesystem");
    filesystem.include_virtual_filesystems = true;
    config.naming = naming;
    config
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/system")
}

/// A copy of the fixture that a test may change.
fn host() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    dir
}

fn attributes(point: Point<'_>) -> BTreeMap<String, String> {
    point.attributes().iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect()
}

/// One line per point: name, type, unit, attributes, value. Values that depend on the machine of the test are left out.
fn lines(batch: &Batch) -> String {
    let mut text = String::new();
    for point in batch.series() {
        let metric = point.metric();
        let kind = match (metric.kind(), metric.is_monotonic()) {
            (MetricKind::Gauge, _) => "gauge",
            (_, true) => "counter",
            (_, false) => "updown",
        };
        let own = metric.name() == "system.memory.page_size" || metric.name().starts_with("system.filesystem");
        let value = match point.value().unwrap() {
            _ if own => "-".to_owned(),
            Number::Int(value) => format!("{value}"),
            Number::Double(value) => format!("{value:?}"),
        };
        let attributes: Vec<String> = point.attributes().iter().map(|(key, value)| format!("{key}={value}")).collect();
        writeln!(text, "{} {kind} {} {{{}}} {value}", metric.name(), metric.unit(), attributes.join(", ")).unwrap();
    }
    text
}

/// Two scrapes of the fixture, between which CPU 1 worked for 100 ticks and its iowait fell.
fn second_scrape(naming: Naming) -> Batch {
    let host = host();
    let site = Site::for_test("hostmetrics");
    let mut round = round(&everything(naming), host.path(), &site);
    scrape(&mut round);
    let stat = host.path().join("proc/stat");
    let text = std::fs::read_to_string(&stat).unwrap().replace("cpu1 1312 40 280 420 80 ", "cpu1 1362 40 280 470 78 ");
    std::fs::write(&stat, text).unwrap();
    scrape(&mut round)
}

fn assert_golden(actual: &str, golden: &str) {
    for (i, (actual, golden)) in actual.lines().zip(golden.lines()).enumerate() {
        assert_eq!(actual, golden, "line {}", i + 1);
    }
    assert_eq!(actual.lines().count(), golden.lines().count(), "{actual}");
}

#[test]
fn a_host_in_the_collectors_names() {
    assert_golden(&lines(&second_scrape(Naming::V0)), include_str!("../../tests/fixtures/system.v0.txt"));
}

#[test]
fn a_host_in_the_newer_names() {
    assert_golden(&lines(&second_scrape(Naming::V1)), include_str!("../../tests/fixtures/system.v1.txt"));
}

#[test]
fn every_metric_is_what_the_catalog_says() {
    for naming in [Naming::V0, Naming::V1] {
        let batch = second_scrape(naming);
        let rows: Vec<&Row> =
            catalog().iter().filter(|row| row.scraper != "process" && row.form(naming).is_some()).collect();
        for row in &rows {
            let form = row.form(naming).unwrap();
            let points: Vec<_> = batch.series().filter(|point| point.metric().name() == form.name).collect();
            assert!(!points.is_empty(), "{} {naming:?}", form.name);
            for point in points {
                let metric = point.metric();
                assert_eq!((metric.unit(), metric.description()), (form.unit, row.description), "{}", form.name);
                match row.shape {
                    Shape::Gauge => assert_eq!(metric.kind(), MetricKind::Gauge, "{}", form.name),
                    Shape::Sum { monotonic, .. } => {
                        assert_eq!(
                            (metric.kind(), metric.is_monotonic()),
                            (MetricKind::Sum, monotonic),
                            "{}",
                            form.name
                        );
                        assert_eq!(metric.temporality(), Temporality::Cumulative);
                    }
                    Shape::Histogram { .. } => panic!("no system metric is a histogram"),
                }
                assert_eq!(matches!(point.value(), Some(Number::Int(_))), row.value == ValueType::Int, "{}", form.name);
                assert_eq!((point.start_time(), point.time()), (BOOT, NOW));
                let scope = metric.scope().name().to_owned();
                assert!(scope.ends_with(&format!("internal/scraper/{}scraper", row.scraper)), "{scope}");
                let keys: Vec<_> = row.attributes.iter().filter_map(|a| a.key(naming)).collect();
                assert_eq!(point.attributes().iter().map(|(key, _)| key).collect::<Vec<_>>(), keys, "{}", form.name);
                for attribute in row.attributes.iter().filter(|a| !a.members.is_empty()) {
                    let Some(key) = attribute.key(naming) else { continue };
                    let value = point.attributes().get_str(key).unwrap();
                    let known = attribute.members.iter().any(|m| m.word(naming) == Some(value));
                    assert!(known, "{} {key}={value}", form.name);
                }
            }
        }
        let names: Vec<_> = rows.iter().map(|row| row.form(naming).unwrap().name).collect();
        for point in batch.series() {
            assert!(names.contains(&point.metric().name()), "{} is not in the catalog", point.metric().name());
        }
    }
}

#[test]
fn without_switches_exactly_the_default_metrics_are_there() {
    let site = Site::for_test("hostmetrics");
    let config =
        config("scrapers: {cpu: , memory: , load: , disk: , filesystem: , network: , paging: , processes: , system: }");
    let batch = scrape(&mut round(&config, &fixture(), &site));
    let mut names: Vec<_> = batch.series().map(|point| point.metric().name().to_owned()).collect();
    names.sort();
    names.dedup();
    let rows = catalog().iter().filter(|row| row.scraper != "process" && row.enabled);
    let mut expected: Vec<_> = rows.filter_map(|row| row.v0.map(|form| form.name.to_owned())).collect();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(batch.resources().count(), 1, "one resource for all of them");
    assert_eq!(batch.resources().next().unwrap().attributes().len(), 0);
    assert_eq!(batch.resources().next().unwrap().schema_url(), "https://opentelemetry.io/schemas/1.9.0");
}

#[test]
fn names_are_unique_in_each_naming() {
    for naming in [Naming::V0, Naming::V1] {
        let mut names: Vec<_> = catalog().iter().filter_map(|row| row.form(naming)).map(|form| form.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

#[test]
fn filters_switches_and_folding_of_attributes() {
    let site = Site::for_test("hostmetrics");
    let config = config(
        "
scrapers:
  cpu:
    metrics:
      system.cpu.time: {attributes: [state]}
      system.cpu.frequency: {enabled: true, attributes: [], aggregation_strategy: max}
  load: {cpu_average: true}
  disk:
    include: {devices: [sd, nvme], match_type: regexp}
    exclude: {devices: [sda1], match_type: strict}
    metrics: {system.disk.io: {enabled: false}, system.disk.io_time: {attributes: []}}
  network:
    exclude: {interfaces: ['^lo$'], match_type: regexp}
    metrics: {system.network.connections: {enabled: false}}
",
    );
    let batch = scrape(&mut round(&config, &fixture(), &site));
    let values = |name: &str| -> Vec<(BTreeMap<String, String>, f64)> {
        let points = batch.series().filter(|point| point.metric().name() == name);
        points.map(|point| (attributes(point), point.value().unwrap().as_f64())).collect()
    };
    let user: Vec<_> = values("system.cpu.time").into_iter().filter(|(a, _)| a["state"] == "user").collect();
    assert_eq!(user.len(), 1, "the CPUs are summed");
    assert!((user[0].1 - 47.05).abs() < 1e-9);
    assert_eq!(values("system.cpu.frequency"), [(BTreeMap::new(), 3.1e9)]);
    assert!((values("system.cpu.load_average.1m")[0].1 - 0.52 / 3.0).abs() < 1e-12);
    assert!(values("system.disk.io").is_empty());
    assert_eq!(values("system.disk.io_time"), [(BTreeMap::new(), 3.509)]);
    let devices: Vec<_> =
        values("system.disk.pending_operations").into_iter().map(|(mut a, _)| a.remove("device").unwrap()).collect();
    assert_eq!(devices, ["sda", "nvme0n1"]);
    assert!(values("system.network.connections").is_empty());
    assert!(values("system.network.io").iter().all(|(a, _)| a["device"].starts_with("eth0")));
}

#[test]
fn the_newer_naming_has_switches_of_its_own() {
    let text = |naming: &str| {
        format!(
            "
naming: {naming}
scrapers:
  paging: {{metrics: {{system.paging.faults@v1: {{enabled: false}}, system.paging.operations: {{enabled: false}}}}}}
  network: {{metrics: {{system.network.packet.count@v1: {{enabled: false}}, system.network.packet.dropped: {{enabled: false}}}}}}
"
        )
    };
    let site = Site::for_test("hostmetrics");
    let names = |naming: &str| -> Vec<String> {
        let batch = scrape(&mut round(&config(&text(naming)), &fixture(), &site));
        let mut names: Vec<_> = batch.series().map(|point| point.metric().name().to_owned()).collect();
        names.dedup();
        names
    };
    assert_eq!(
        names("v0"),
        [
            "system.network.io",
            "system.network.packets",
            "system.network.errors",
            "system.network.connections",
            "system.paging.faults",
            "system.paging.usage"
        ]
    );
    assert_eq!(
        names("v1"),
        ["system.network.io", "system.network.errors", "system.network.connection.count", "system.paging.usage"]
    );
}

#[test]
fn a_file_that_cannot_be_read_costs_its_own_metrics_and_is_said_once() {
    let host = host();
    let site = Site::for_test("hostmetrics");
    let mut round = round(&everything(Naming::V0), host.path(), &site);
    let all = scrape(&mut round).points();
    std::fs::write(host.path().join("proc/meminfo"), "MemTotal: lots kB\n").unwrap();
    std::fs::remove_file(host.path().join("proc/1/net/dev")).unwrap();
    std::fs::write(host.path().join("proc/diskstats"), "8 0 sda 1 2 3\n8 1 sdb 1 2 3 4 5 6 7 8 9 10 11\n").unwrap();
    let batch = scrape(&mut round);
    assert!(batch.points() < all);
    let has = |name: &str| batch.series().any(|point| point.metric().name() == name);
    assert!(!has("system.memory.usage") && !has("system.network.io"));
    assert!(has("system.network.connections") && has("system.disk.io") && has("system.cpu.time"));
    let now = site.metrics.gather(0, phoenix_pipeline::Level::Detailed);
    let errored: i64 = now
        .series()
        .filter(|point| point.metric().name() == "otelcol_scraper_errored_metric_points")
        .map(|point| point.value().unwrap().as_f64() as i64)
        .sum();
    assert_eq!(errored, 13 + 4 + 7, "memory, interfaces, one line of diskstats");
    std::fs::copy(fixture().join("proc/meminfo"), host.path().join("proc/meminfo")).unwrap();
    assert!(scrape(&mut round).series().any(|point| point.metric().name() == "system.memory.usage"), "it comes back");
}

#[test]
fn file_systems_are_asked_below_the_root() {
    let site = Site::for_test("hostmetrics");
    let batch = scrape(&mut round(&everything(Naming::V0), &fixture(), &site));
    let usage: Vec<_> = batch.series().filter(|point| point.metric().name() == "system.filesystem.usage").collect();
    assert!(!usage.is_empty() && usage.len() % 3 == 0);
    for states in usage.chunks(3) {
        let total: f64 = states.iter().map(|point| point.value().unwrap().as_f64()).sum();
        assert!(total > 0.0);
    }
    let points: Vec<_> = usage.iter().filter_map(|point| point.attributes().get_str("mountpoint")).collect();
    assert!(points.contains(&"/") && points.contains(&"/var/data"), "{points:?}");
}

#[test]
fn mistakes_of_a_config_are_all_named() {
    let found = mistakes(
        "
collection_interval: 0s
scrapers:
  cpu: {metrics: {system.cpu.tim: {enabled: true}, system.cpu.time: {attributes: [stat]}}}
  disk: {include: {devices: [sda]}}
  network: {exclude: {interfaces: ['(eth'], match_type: regexp}}
",
    );
    let has = |parts: &[&str]| found.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(has(&["collection_interval", "must be more than 0s"]));
    assert!(has(&["test.yaml:4:", "system.cpu.tim", "did you mean \"system.cpu.time\"?"]));
    assert!(has(&["test.yaml:4:", "attributes", "did you mean \"state\"?"]));
    assert!(has(&["disk", "match_type is missing; allowed: strict, regexp"]));
    assert!(has(&["interfaces", "is not a regular expression"]));
    let found = mistakes("scrapers: {cpus: {}, cpu: }");
    assert!(found.len() == 1 && found[0].contains("did you mean \"cpu\"?"), "{found:?}");
    assert!(mistakes("")[0].contains("at least one scraper"));
    assert!(mistakes("scrapers: {cpu: }\nnaming: v2")[0].contains("v2"));
}

#[test]
fn scrapers_that_are_not_served_are_accepted() {
    let config = config("scrapers: {nfs: {metrics: {a: {enabled: true}}}, hardware: , system: }");
    assert_eq!(config.scrapers.unserved(), ["nfs", "hardware"]);
    assert!(config.scrapers.system.is_some());
}

#[test]
fn defaults_are_the_collectors() {
    let defaults = (super::FACTORY.defaults)();
    let field = |key: &str| defaults.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    assert_eq!(
        (field("collection_interval"), field("initial_delay"), field("timeout")),
        ("1m".into(), "1s".into(), "0s".into())
    );
    assert_eq!(
        (field("root_path"), field("naming"), field("metadata_collection_interval")),
        ("".into(), "v0".into(), "5m".into())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a file holds, the scrape ends and the files that are right are read.
    #[test]
    fn no_content_of_a_file_stops_a_scrape(file in 0usize..11, content in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>()) {
        let files = ["stat", "meminfo", "loadavg", "uptime", "cpuinfo", "diskstats", "swaps", "vmstat", "1/net/dev", "1/net/tcp", "1/mountinfo"];
        let host = host();
        let site = Site::for_test("hostmetrics");
        let mut round = round(&everything(Naming::V0), host.path(), &site);
        let path = host.path().join("proc").join(files[file]);
        let good = std::fs::read(&path).unwrap();
        for bad in [&content[..], &good[..cut.index(good.len())], &[&good, &content[..]].concat()] {
            std::fs::write(&path, bad).unwrap();
            prop_assert!(scrape(&mut round).points() > 50);
        }
    }
}

/// Values of this machine against readings of our own, within what may change between the two.
#[test]
fn this_machine_agrees_with_proc() {
    let site = Site::for_test("hostmetrics");
    let before = std::fs::read_to_string("/proc/stat").unwrap();
    let batch = scrape(&mut round(&everything(Naming::V0), Path::new("/"), &site));
    let after = std::fs::read_to_string("/proc/stat").unwrap();
    let value = |name: &str, wanted: &[(&str, &str)]| -> f64 {
        let mut points = batch.series().filter(|point| {
            let has = |(key, value): &(&str, &str)| point.attributes().get(key) == Some(AnyValue::Str(value));
            point.metric().name() == name && wanted.iter().all(has)
        });
        points.next().unwrap_or_else(|| panic!("{name} {wanted:?}")).value().unwrap().as_f64()
    };
    let column = |stat: &str, line: &str, i: usize| -> f64 {
        let line = stat.lines().find(|l| l.split_whitespace().next() == Some(line)).unwrap();
        line.split_whitespace().nth(i).unwrap().parse().unwrap()
    };
    for (i, state) in [(1, "user"), (3, "system"), (4, "idle")] {
        let seconds = value("system.cpu.time", &[("cpu", "cpu0"), ("state", state)]);
        assert!(
            (column(&before, "cpu0", i) / 100.0..=column(&after, "cpu0", i) / 100.0).contains(&seconds),
            "{state} {seconds}"
        );
    }
    let created = value("system.processes.created", &[]);
    assert!((column(&before, "processes", 1)..=column(&after, "processes", 1)).contains(&created));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes: f64 = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert_eq!(value("system.memory.limit", &[]), kilobytes * 1024.0);
    let uptime: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((0.0..10.0).contains(&(uptime - value("system.uptime", &[]))));
    let processes: f64 = batch
        .series()
        .filter(|p| p.metric().name() == "system.processes.count")
        .map(|p| p.value().unwrap().as_f64())
        .sum();
    assert!(processes >= 2.0);
    assert!(value("system.network.io", &[("device", "lo"), ("direction", "receive")]) >= 0.0);
    assert!(value("system.filesystem.usage", &[("mountpoint", "/"), ("state", "used")]) > 0.0);
}

/// The points of `system.processes.count`.
fn states(batch: &Batch) -> Vec<(String, Option<Number>)> {
    let counts = batch.series().filter(|point| point.metric().name() == "system.processes.count");
    counts.map(|point| (point.attributes().get_str("status").unwrap().to_owned(), point.value())).collect()
}

#[test]
fn states_are_the_same_whoever_has_read_them() {
    let host = host();
    for (pid, text) in [
        (
            45,
            "45 (stopped) T 1 1 1 0 -1 0 100 0 1 0 10 5 0 0 20 0 1 0 900 1 2 3 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n",
        ),
        (46, "46 (odd) ? 1 1 1 0 -1 0 100 0 1 0 10 5 0 0 20 0 1 0 900 1 2 3 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n"),
        (47, "47 (cut short"),
    ] {
        std::fs::create_dir(host.path().join(format!("proc/{pid}"))).unwrap();
        std::fs::write(host.path().join(format!("proc/{pid}/stat")), text).unwrap();
    }
    let site = Site::for_test("hostmetrics");
    let alone = states(&scrape(&mut round(&config("scrapers: {processes: }"), host.path(), &site)));
    assert!(alone.iter().any(|(status, count)| status == "stopped" && *count == Some(Number::Int(1))));
    assert!(alone.iter().any(|(status, _)| status == "unknown"));
    let left_out = "{ processes: , process: { exclude: { names: [idle], match_type: strict }, max_processes: 2 } }";
    for both in ["{ processes: , process: }", left_out] {
        let mut round = round(&config(&format!("scrapers: {both}")), host.path(), &site);
        for _ in 0..3 {
            assert_eq!(states(&scrape(&mut round)), alone, "{both}");
        }
    }
}

#[test]
fn states_of_another_moment_are_nobodys() {
    let desk = super::census::CensusDesk::default();
    let at = |unix_nanos| Moment { unix_nanos, now: Instant::now() };
    desk.leave(&at(1), Default::default());
    assert!(desk.take(&at(2)).is_none());
    desk.leave(&at(2), Default::default());
    assert!(desk.take(&at(2)).is_some());
    assert!(desk.take(&at(2)).is_none(), "told once");
}
