//! Processes that have not run since they were read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use phoenix_telemetry::Resource;

use super::host::{Host, Spec, values};
use super::*;

/// A host that counts turns, with an idle process 42, the child of 7, after two scrapes.
fn resting(spec: &Spec) -> (Host, Process) {
    let host = Host::new();
    std::fs::create_dir(host.path("proc/self")).unwrap();
    host.file("proc/self/schedstat", b"100 200 3\n");
    for spec in [&Spec { pid: 7, parent: 0, start: 10, threads: 1, ..Spec::default() }, spec] {
        host.process(spec);
        ran(&host, spec.pid, 1);
    }
    let mut scraper = host.scraper(ALL, Naming::V0);
    for second in [0, 10] {
        host.scrape(&mut scraper, second);
    }
    (host, scraper)
}

const IDLE: fn() -> Spec = || Spec { parent: 7, threads: 1, ..Spec::default() };

fn ran(host: &Host, pid: u32, turns: u64) {
    host.file(&format!("proc/{pid}/schedstat"), format!("5000 700 {turns}\n").as_bytes());
}

/// What it says of the process after its `stat` and `io` began to say something else: the user time, the bytes read.
fn seen(host: &Host, scraper: &mut Process, second: u64) -> [Option<Number>; 2] {
    host.file("proc/42/io", b"syscr: 1\nsyscw: 1\nread_bytes: 777\nwrite_bytes: 0\n");
    let (batch, outcome) = host.scrape(scraper, second);
    assert_eq!(outcome.errored, 0);
    ["process.cpu.time", "process.disk.io"].map(|name| values(&batch, 42, name)[0].1)
}

#[test]
fn who_has_not_run_is_not_read_until_it_runs() {
    let (host, mut scraper) = resting(&IDLE());
    host.stat(&Spec { user: 500, ..IDLE() });
    for second in [20, 30] {
        assert_eq!(seen(&host, &mut scraper, second), [Some(ticks(150.0)), Some(Number::Int(4096))]);
    }
    host.file("proc/42/statm", b"200 90 50 1 0 20 0\n");
    let (batch, _) = host.scrape(&mut scraper, 40);
    let page = procfs::page_size() as i64;
    assert_eq!(
        values(&batch, 42, "process.memory.usage")[0].1,
        Some(Number::Int(90 * page)),
        "others take memory away"
    );
    assert_eq!(batch.points(), 2 * 21, "all metrics are there");
    ran(&host, 42, 2);
    assert_eq!(seen(&host, &mut scraper, 50), [Some(ticks(500.0)), Some(Number::Int(777))]);
}

#[test]
fn one_of_several_threads_speaks_for_itself_alone() {
    let (host, mut scraper) = resting(&Spec { threads: 2, ..IDLE() });
    host.stat(&Spec { user: 500, threads: 2, ..IDLE() });
    assert_eq!(seen(&host, &mut scraper, 20), [Some(ticks(500.0)), Some(Number::Int(777))]);
}

#[test]
fn a_kernel_that_does_not_count_turns_has_nobody_at_rest() {
    let (host, _) = resting(&IDLE());
    host.file("proc/self/schedstat", b"0 0 0\n");
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.stat(&Spec { user: 500, ..IDLE() });
    assert_eq!(seen(&host, &mut scraper, 10), [Some(ticks(500.0)), Some(Number::Int(777))]);
}

#[test]
fn an_orphan_is_read_and_has_its_new_parent() {
    let has_heir = |host: &Host, scraper: &mut Process, second| {
        let (batch, _) = host.scrape(scraper, second);
        let shows = |resource: Resource<'_>, key, value| resource.attributes().get(key) == Some(AnyValue::Int(value));
        batch.resources().any(|r| shows(r, "process.pid", 42) && shows(r, "process.parent_pid", 1))
    };
    let orphan = Spec { parent: 1, ..IDLE() };
    // The parent waits to be buried, is gone, or is gone and its id is another's.
    for end in ["zombie", "gone", "reused"] {
        let (host, mut scraper) = resting(&IDLE());
        assert!(!has_heir(&host, &mut scraper, 20));
        host.stat(&orphan);
        match end {
            "zombie" => {
                host.stat(&Spec { pid: 7, parent: 0, start: 10, threads: 1, state: 'Z', ..Spec::default() });
                ran(&host, 7, 2);
            }
            "gone" => host.remove(7),
            _ => {
                host.stat(&Spec { pid: 7, parent: 0, start: 5000, threads: 1, ..Spec::default() });
                ran(&host, 7, 9);
            }
        }
        assert!(has_heir(&host, &mut scraper, 30), "{end}");
    }
}

#[test]
fn a_real_process_is_read_whenever_it_ran() {
    let yaml = "{metrics: {process.disk.operations: {enabled: true}}, mute_process_all_errors: true}";
    let mut scraper = super::host::scraper(
        yaml,
        &Root::new(""),
        (Naming::V0, BOOT * NANOS),
        Balance::new(::metrics::Gauge::noop()),
        &Folded::default(),
    );
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let counted = || {
        let io = procfs::process::Process::new(pid as i32).and_then(|process| process.io()).unwrap();
        [io.syscr, io.syscw]
    };
    for round in 0..20 {
        // Odd rounds find it at rest.
        if round % 2 == 0 {
            input.write_all(b"a line\n").unwrap();
            output.read_line(&mut String::new()).unwrap();
            // It has answered; soon it waits again.
            let _ = (0..1000).find(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                procfs::process::Process::new(pid as i32).and_then(|p| p.stat()).unwrap().state == 'S'
            });
        }
        let before = counted();
        let mut out = BatchBuilder::new();
        scraper.scrape(&Moment { unix_nanos: (BOOT + round) * NANOS, now: Instant::now() }, &mut out);
        let batch = out.finish();
        let seen = values(&batch, i64::from(pid), "process.disk.operations");
        assert_eq!(counted(), before, "it waits");
        let seen: Vec<_> = seen.iter().map(|(_, value)| *value).collect();
        assert_eq!(seen, before.map(|calls| Some(Number::Int(calls as i64))), "round {round}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
