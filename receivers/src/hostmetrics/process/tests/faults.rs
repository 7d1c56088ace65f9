//! What cannot be read, is not to be read, or is set wrongly.

use super::host::{Host, Spec, mistakes, settings};
use super::*;

#[test]
fn what_is_left_out_by_name_is_not_looked_into() {
    let host = Host::new();
    host.process(&Spec::default());
    host.file("proc/42/status", b"nonsense");
    let mut scraper = host.scraper("{exclude: {names: [app], match_type: strict}}", Naming::V0);
    for second in [0, 10, 20] {
        assert_eq!(host.scrape(&mut scraper, second).1.points, 0);
    }
    assert_eq!(scraper.table.causes(), 0);
}

#[test]
fn what_cannot_be_read_degrades_that_metric_and_is_said_once() {
    let host = Host::new();
    for pid in 1..=20 {
        host.process(&Spec { pid, ..Spec::default() });
        std::fs::remove_file(host.path(&format!("proc/{pid}/io"))).unwrap();
        std::fs::create_dir(host.path(&format!("proc/{pid}/io"))).unwrap();
    }
    let mut scraper = host.scraper("{}", Naming::V0);
    let (batch, outcome) = host.scrape(&mut scraper, 0);
    assert_eq!(outcome, Outcome { points: 20 * 5, errored: 20 * 2 });
    assert!(values(&batch, 1, "process.disk.io").is_empty());
    host.scrape(&mut scraper, 10);
    assert_eq!(scraper.table.causes(), 1);
    let mut muted = host.scraper("{mute_process_io_error: true}", Naming::V0);
    assert_eq!(host.scrape(&mut muted, 0).1, Outcome { points: 100, errored: 0 });
    let mut all = host.scraper("{mute_process_all_errors: true}", Naming::V0);
    assert_eq!((host.scrape(&mut all, 0).1.errored, all.table.causes()), (0, 0));
}

#[test]
fn a_metric_that_ceases_is_closed_and_malformed_text_is_an_error() {
    let host = Host::new();
    host.process(&Spec::default());
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.file("proc/42/statm", b"one two\n");
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome, Outcome { points: 7, errored: 2 });
    assert_eq!(values(&batch, 42, "process.memory.usage"), [(String::new(), None)]);
    let (batch, _) = host.scrape(&mut scraper, 20);
    assert!(values(&batch, 42, "process.memory.usage").is_empty(), "closed once");
    host.file("proc/42/stat", b"42 (app) S\n");
    let (batch, outcome) = host.scrape(&mut scraper, 30);
    assert_eq!((outcome.errored, batch.series().filter(|p| !p.no_recorded_value()).count()), (1, 0));
}

#[test]
fn young_processes_wait_and_the_number_is_bounded() {
    let host = Host::new();
    let hertz = procfs::ticks_per_second();
    host.process(&Spec { start: 105 * hertz, ..Spec::default() });
    let mut scraper = host.scraper("{scrape_process_delay: 10s}", Naming::V0);
    assert_eq!(host.scrape(&mut scraper, 0).1.points, 0, "five seconds old");
    host.file("proc/uptime", b"116.00 1.00\n");
    assert_eq!(host.scrape(&mut scraper, 6).1.points, 7);
    for pid in 1..=5 {
        host.process(&Spec { pid, ..Spec::default() });
    }
    let mut bounded = host.scraper("{max_processes: 3}", Naming::V0);
    for second in [0, 10] {
        let (batch, outcome) = host.scrape(&mut bounded, second);
        assert_eq!((batch.resources().count(), bounded.table.len(), outcome.errored), (3, 3, 3));
    }
}

#[test]
fn a_planted_secret_is_nowhere() {
    let host = Host::new();
    let cmdline =
        b"worker --token Sw0rdfish\0--password=Sw0rdfish\0-e\0X_PASSWORD=Sw0rdfish\0postgres://u:Sw0rdfish@h/d\0";
    host.process(&Spec { comm: b"worker --token ", cmdline, exe: Some("/opt/token=Sw0rdfish/app"), ..Spec::default() });
    let holds = |batch: &Batch| batch.encode().windows(9).any(|window| window == b"Sw0rdfish");
    for (yaml, leaks, line) in
        [("{}", false, true), ("{command_line: off}", false, false), ("{command_line: raw}", true, true)]
    {
        let mut scraper = host.scraper(yaml, Naming::V0);
        let (batch, _) = host.scrape(&mut scraper, 0);
        assert_eq!((holds(&batch), text(&batch, 42, "process.command_line").is_some()), (leaks, line), "{yaml}");
        assert!(text(&batch, 42, "process.command").is_some());
    }
}

#[test]
fn long_command_lines_are_cut() {
    let host = Host::new();
    host.process(&Spec::default());
    let mut long = "app\0".to_owned();
    while long.len() < 100_000 {
        long.push_str("--päth=/some/where\0");
    }
    long.push_str("--password=Sw0rdfish\0");
    host.file("proc/42/cmdline", long.as_bytes());
    let (batch, _) = host.scrape(&mut host.scraper("{}", Naming::V0), 0);
    let line = text(&batch, 42, "process.command_line").unwrap();
    assert!(line.len() <= facts::MAX_TEXT && line.len() > facts::MAX_TEXT - 4);
}

#[test]
fn wrong_settings_name_the_nearest_right_ones() {
    let said = |yaml: &str, words: &[&str]| {
        let mistakes = mistakes(yaml).join("\n");
        assert!(words.iter().all(|word| mistakes.contains(word)), "{mistakes}");
    };
    said("{metrics: {process.thread: {enabled: true}}}", &["test.yaml:2", "process.threads"]);
    said("{resource_attributes: {process.ownr: {enabled: true}}}", &["process.owner"]);
    said("{include: {names: ['('], match_type: regexp}}", &["include", "regular expression"]);
    said("{include: {names: [a]}}", &["match_type"]);
    said("{command_line: hidden}", &["scrubbed", "raw", "off"]);
    said("{mute_process_nam_error: true}", &["mute_process_name_error"]);
    said("{max_processes: 0}", &["max_processes"]);
    let v1 = settings("{metrics: {process.thread.count@v1: {enabled: true}, process.cpu.time@v1: {enabled: true}}}");
    assert!(Projection::new(&v1, Naming::V1).has(metrics::Metric::Threads as usize));
    assert!(!Projection::new(&v1, Naming::V0).has(metrics::Metric::Threads as usize));
}
