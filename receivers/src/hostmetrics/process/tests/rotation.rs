//! Costly files of processes that the pipeline folds.

use phoenix_pipeline::folded::Folded;

use super::host::{ALL, Host, Spec, values};
use super::*;

/// A scrape whose pipelines then fold these processes.
fn scrape(host: &Host, scraper: &mut Process, second: u64, folded: &[u32]) -> Batch {
    let (batch, _) = host.scrape(scraper, second);
    let time = (BOOT + 110 + second) * NANOS;
    scraper.rotation().unwrap().ask(time, 1);
    tell(&host.folded, time, folded);
    batch
}

fn tell(folded: &Folded, time: u64, processes: &[u32]) {
    folded.asked(time).unwrap().tell(processes.iter().copied());
}

fn has_io(batch: &Batch, pid: i64) -> bool {
    !values(batch, pid, "process.disk.io").is_empty()
}

fn io(host: &Host, pid: u32, bytes: u64) {
    let text = format!("rchar: 1\nwchar: 1\nsyscr: 1\nsyscw: 1\nread_bytes: {bytes}\nwrite_bytes: 0\n");
    host.file(&format!("proc/{pid}/io"), text.as_bytes());
}

/// A host of two processes after two scrapes, in which everything is read: a rate needs two readings.
fn two(yaml: &str) -> (Host, Spec, Process) {
    let host = Host::new();
    let spec = Spec { pid: 63, ..Spec::default() };
    host.process(&spec);
    host.process(&Spec { pid: 7, ..Spec::default() });
    let mut scraper = host.scraper(yaml, Naming::V0);
    for second in [0, 10] {
        assert!(has_io(&scrape(&host, &mut scraper, second, &[63]), 63));
    }
    (host, spec, scraper)
}

const ROTATED: &str = "{folded_interval: 60s}";

#[test]
fn idle_folded_processes_wait_for_their_turn_and_end_as_others_do() {
    let (host, _, mut scraper) = two(ROTATED);
    let mut read = Vec::new();
    for second in (20..=190).step_by(10) {
        let batch = scrape(&host, &mut scraper, second, &[63]);
        assert!(has_io(&batch, 7), "one with series of its own, at {second}");
        assert_eq!(values(&batch, 63, "process.cpu.time").len(), 3, "what is cheap is always read");
        assert_eq!(values(&batch, 63, "process.memory.usage").len(), 1);
        if has_io(&batch, 63) {
            read.push(second);
        }
    }
    assert_eq!(read, [70, 130, 190]);
    host.remove(63);
    let batch = scrape(&host, &mut scraper, 200, &[]);
    let ended = values(&batch, 63, "process.disk.io");
    assert_eq!(ended.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [None, None], "closed like all else");
}

#[test]
fn whoever_does_something_is_read_at_once() {
    let (host, spec, mut scraper) = two(ROTATED);
    assert!(!has_io(&scrape(&host, &mut scraper, 20, &[63]), 63));
    io(&host, 63, 1 << 20);
    host.stat(&Spec { user: spec.user + 1, ..spec.clone() });
    let batch = scrape(&host, &mut scraper, 30, &[63]);
    assert_eq!(values(&batch, 63, "process.disk.io")[0].1, Some(Number::Int(1 << 20)), "nothing is lost, only late");
    assert!(!has_io(&scrape(&host, &mut scraper, 40, &[63]), 63));
}

#[test]
fn who_is_not_known_to_be_folded_is_read() {
    let (host, _, mut scraper) = two(ROTATED);
    assert!(!has_io(&scrape(&host, &mut scraper, 20, &[]), 63));
    assert!(has_io(&scrape(&host, &mut scraper, 30, &[63]), 63), "it came back from the fold");
    assert!(!has_io(&host.scrape(&mut scraper, 40).0, 63));
    scraper.rotation().unwrap().ask((BOOT + 150) * NANOS, 1);
    assert!(has_io(&host.scrape(&mut scraper, 50).0, 63), "the pipeline is late, or nothing in it folds");
    scraper.rotation().unwrap().ask((BOOT + 160) * NANOS, 2);
    tell(&host.folded, (BOOT + 160) * NANOS, &[63]);
    assert!(has_io(&host.scrape(&mut scraper, 60).0, 63), "one of two pipelines lets it through");
}

#[test]
fn all_costly_metrics_wait_and_none_by_default() {
    let yaml = format!("{}, folded_interval: 60s}}", ALL.trim_end().strip_suffix('}').unwrap());
    let (host, _, mut scraper) = two(&yaml);
    std::fs::remove_dir_all(host.path("proc/63/fd")).unwrap();
    for file in ["io", "status"] {
        std::fs::remove_file(host.path(&format!("proc/63/{file}"))).unwrap();
    }
    let (batch, outcome) = host.scrape(&mut scraper, 20);
    let names: Vec<&str> = super::host::resource(&batch, 63).unwrap().metrics().map(|metric| metric.name()).collect();
    for costly in ["process.disk.io", "process.disk.operations", "process.context_switches"] {
        assert!(!names.contains(&costly), "{costly}");
    }
    assert!(!names.contains(&"process.open_file_descriptors") && !names.contains(&"process.signals_pending"));
    assert!(names.contains(&"process.threads") && names.contains(&"process.paging.faults"));
    assert_eq!(outcome.errored, 0, "what was not looked at is not missing");
    assert!(host.scraper("{}", Naming::V0).rotation().is_none());
}
