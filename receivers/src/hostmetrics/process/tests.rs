//! The scraper against a host made of files, and against this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use phoenix_pipeline::config::{self, Settings};
use phoenix_telemetry::{AnyValue, Batch, Number, Resource};

use super::*;
use crate::hostmetrics::Config as HostConfig;

const BOOT: u64 = 1_700_000_000;
const NANOS: u64 = 1_000_000_000;
const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
const POD: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A host whose `/proc` and `/etc` are files of a test.
struct Host {
    dir: tempfile::TempDir,
    begun: Instant,
}

/// One process of it.
#[derive(Clone)]
struct Spec {
    pid: u32,
    comm: &'static [u8],
    parent: u32,
    state: char,
    flags: u32,
    user: u64,
    system: u64,
    start: u64,
    uid: u32,
    cmdline: &'static [u8],
    exe: Option<&'static str>,
    cgroup: String,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            pid: 42,
            comm: b"app",
            parent: 1,
            state: 'S',
            flags: 0,
            user: 150,
            system: 50,
            start: 1000,
            uid: 33,
            cmdline: b"/usr/bin/app\0--port\08080\0",
            exe: Some("/usr/bin/app"),
            cgroup: "0::/\n".to_owned(),
        }
    }
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir, begun: Instant::now() };
        for path in ["proc", "etc"] {
            std::fs::create_dir(host.dir.path().join(path)).unwrap();
        }
        host.file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n");
        host.file(
            "proc/stat",
            b"cpu 1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 8 9 10\nbtime 1700000000\n",
        );
        host.file("proc/uptime", b"110.00 200.00\n");
        host.file("proc/meminfo", b"MemTotal:       1000 kB\n");
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, text: &[u8]) {
        std::fs::write(self.path(path), text).unwrap();
    }

    fn remove(&self, pid: u32) {
        std::fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }

    fn process(&self, spec: &Spec) {
        let Spec { pid, parent, state, flags, user, system, start, uid, .. } = spec;
        let place = format!("proc/{pid}");
        let _ = std::fs::remove_dir_all(self.path(&place));
        std::fs::create_dir_all(self.path(&format!("{place}/fd"))).unwrap();
        let mut stat = format!("{pid} (").into_bytes();
        stat.extend_from_slice(spec.comm);
        let tail = format!(
            ") {state} {parent} 42 42 0 -1 {flags} 7 0 3 0 {user} {system} 0 0 20 0 4 0 {start} 9000000 100 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 0 25 0 0 0 0 0 0 0 0 0 0\n"
        );
        stat.extend_from_slice(tail.as_bytes());
        self.file(&format!("{place}/stat"), &stat);
        self.file(&format!("{place}/statm"), b"200 100 50 1 0 20 0\n");
        self.file(&format!("{place}/io"), b"rchar: 9\nwchar: 9\nsyscr: 11\nsyscw: 12\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n");
        let status = format!(
            "Name:\tx\nUid:\t{uid}\t0\t0\t0\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000003\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n"
        );
        self.file(&format!("{place}/status"), status.as_bytes());
        self.file(&format!("{place}/cmdline"), spec.cmdline);
        self.file(&format!("{place}/cgroup"), spec.cgroup.as_bytes());
        for fd in 0..3 {
            self.file(&format!("{place}/fd/{fd}"), b"");
        }
        if let Some(exe) = spec.exe {
            std::os::unix::fs::symlink(exe, self.path(&format!("{place}/exe"))).unwrap();
        }
    }

    fn scraper(&self, yaml: &str, naming: Naming) -> Process {
        let path = self.dir.path();
        let root = Root {
            proc: path.join("proc"),
            sys: path.join("sys"),
            etc: path.join("etc"),
            dev: path.join("dev"),
            root: path.to_path_buf(),
            foreign: true,
        };
        Process::new(&settings(yaml), &root, naming, BOOT * NANOS).unwrap()
    }

    /// The scrape that begins `second` seconds after the first.
    fn scrape(&self, scraper: &mut Process, second: u64) -> (Batch, Outcome) {
        let at = Moment { unix_nanos: (BOOT + 110 + second) * NANOS, now: self.begun + Duration::from_secs(second) };
        let mut out = BatchBuilder::new();
        let outcome = scraper.scrape(&at, &mut out);
        let batch = out.finish();
        assert_eq!(batch.points(), outcome.points);
        (batch, outcome)
    }
}

fn settings(yaml: &str) -> Config {
    #[derive(Default, serde::Serialize, serde::Deserialize)]
    struct Whole {
        process: Config,
    }
    impl Settings for Whole {
        fn check(&self, report: &mut config::Report<'_>) {
            self.process.check("process", report);
        }
    }
    let value = config::parse("test.yaml", &format!("process: {yaml}")).unwrap();
    config::read::<Whole>(&value).unwrap().process
}

fn mistakes(yaml: &str) -> Vec<String> {
    let value = config::parse("test.yaml", &format!("scrapers:\n  process: {yaml}\n")).unwrap();
    config::read::<HostConfig>(&value).unwrap_err().iter().map(ToString::to_string).collect()
}

fn resource(batch: &Batch, pid: i64) -> Option<Resource<'_>> {
    batch.resources().find(|r| r.attributes().get("process.pid") == Some(AnyValue::Int(pid)))
}

fn text<'b>(batch: &'b Batch, pid: i64, key: &str) -> Option<&'b str> {
    resource(batch, pid).and_then(|r| r.attributes().get_str(key))
}

/// The values of a metric of a process, with the value of the first attribute of each point.
fn values(batch: &Batch, pid: i64, name: &str) -> Vec<(String, Option<Number>)> {
    let metric = resource(batch, pid).and_then(|r| r.metrics().find(|m| m.name() == name));
    let label = |point: phoenix_telemetry::Point<'_>| {
        point.attributes().iter().map(|(key, value)| format!("{key}={value}")).collect::<String>()
    };
    metric.map(|m| m.points().map(|p| (label(p), p.value())).collect()).unwrap_or_default()
}

fn point(label: &str, value: Number) -> (String, Option<Number>) {
    (label.to_owned(), Some(value))
}

fn ticks(ticks: f64) -> Number {
    Number::Double(ticks / procfs::ticks_per_second() as f64)
}

#[test]
fn by_default_it_is_what_the_collector_shows() {
    let host = Host::new();
    let cgroup = format!("0::/kubepods/besteffort/pod{POD}/{ID}\n");
    host.process(&Spec { cgroup, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut host.scraper("{}", Naming::V0), 0);
    assert_eq!(outcome, Outcome { points: 7, errored: 0 });
    assert_eq!(
        values(&batch, 42, "process.cpu.time"),
        [point("state=user", ticks(150.0)), point("state=system", ticks(50.0)), point("state=wait", ticks(25.0))]
    );
    let page = procfs::page_size() as i64;
    assert_eq!(values(&batch, 42, "process.memory.usage"), [point("", Number::Int(100 * page))]);
    assert_eq!(values(&batch, 42, "process.memory.virtual"), [point("", Number::Int(200 * page))]);
    assert_eq!(
        values(&batch, 42, "process.disk.io"),
        [point("direction=read", Number::Int(4096)), point("direction=write", Number::Int(8192))]
    );
    let start = BOOT * NANOS + 1000 * NANOS / procfs::ticks_per_second();
    assert!(batch.series().all(|p| p.start_time() == start && p.time() == (BOOT + 110) * NANOS));
    let attributes: Vec<String> =
        resource(&batch, 42).unwrap().attributes().iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        attributes,
        [
            "process.pid=42".to_owned(),
            "process.parent_pid=1".to_owned(),
            "process.executable.name=app".to_owned(),
            "process.executable.path=/usr/bin/app".to_owned(),
            "process.command=/usr/bin/app".to_owned(),
            "process.command_line=/usr/bin/app --port 8080".to_owned(),
            "process.owner=www-data".to_owned(),
            format!("container.id={ID}"),
            format!("k8s.pod.uid={POD}"),
        ]
    );
    let scope = resource(&batch, 42).unwrap().scopes().next().unwrap();
    assert!(scope.name().ends_with("/processscraper"));
}

const ALL: &str = "{metrics: {process.cpu.utilization: {enabled: true}, process.memory.utilization: {enabled: true}, process.disk.operations: {enabled: true},
  process.paging.faults: {enabled: true}, process.context_switches: {enabled: true}, process.open_file_descriptors: {enabled: true},
  process.threads: {enabled: true}, process.signals_pending: {enabled: true}, process.uptime: {enabled: true}},
  resource_attributes: {process.cgroup: {enabled: true}, process.creation.time: {enabled: true}}}";

#[test]
fn every_metric_in_both_namings() {
    let host = Host::new();
    host.process(&Spec::default());
    for (naming, fds, threads, state, direction, fault, switch, cgroup) in [
        (
            Naming::V0,
            "process.open_file_descriptors",
            "process.threads",
            "state=wait",
            "direction=read",
            "type=major",
            "type=involuntary",
            "process.cgroup",
        ),
        (
            Naming::V1,
            "process.unix.file_descriptor.count",
            "process.thread.count",
            "cpu.mode=iowait",
            "disk.io.direction=read",
            "system.paging.fault.type=major",
            "process.context_switch.type=involuntary",
            "process.linux.cgroup",
        ),
    ] {
        host.process(&Spec::default());
        let mut scraper = host.scraper(ALL, naming);
        let (first, _) = host.scrape(&mut scraper, 0);
        assert!(values(&first, 42, "process.cpu.utilization").is_empty(), "there is nothing to compare with yet");
        host.process(&Spec { user: 150 + 10 * procfs::ticks_per_second(), ..Spec::default() });
        let (batch, outcome) = host.scrape(&mut scraper, 10);
        assert_eq!(outcome, Outcome { points: 21, errored: 0 });
        assert_eq!(values(&batch, 42, "process.cpu.time")[2].0, state);
        assert_eq!(values(&batch, 42, "process.cpu.utilization")[0].1, Some(Number::Double(0.5)), "one of two CPUs");
        let share = 100.0 * procfs::page_size() as f64 / 1_024_000.0;
        assert_eq!(values(&batch, 42, "process.memory.utilization"), [point("", Number::Double(share))]);
        assert_eq!(values(&batch, 42, "process.disk.operations")[0], point(direction, Number::Int(11)));
        assert_eq!(values(&batch, 42, "process.paging.faults")[0], point(fault, Number::Int(3)));
        assert_eq!(values(&batch, 42, "process.context_switches")[0], point(switch, Number::Int(6)));
        assert_eq!(values(&batch, 42, fds), [point("", Number::Int(3))]);
        assert_eq!(values(&batch, 42, threads), [point("", Number::Int(4))]);
        assert_eq!(values(&batch, 42, "process.signals_pending"), [point("", Number::Int(2))], "a count, not the mask");
        let age = 110.0 - 1000.0 / procfs::ticks_per_second() as f64;
        assert_eq!(values(&batch, 42, "process.uptime"), [point("", Number::Double(age))]);
        assert_eq!(text(&batch, 42, cgroup), Some("0::/"));
        assert!(text(&batch, 42, "process.creation.time").unwrap().starts_with("2023-11-14T22:13:"));
    }
}

#[test]
fn odd_processes_are_read_as_they_are() {
    let host = Host::new();
    host.process(&Spec {
        pid: 2,
        comm: b"kthreadd",
        parent: 0,
        flags: 0x0020_0000,
        uid: 0,
        cmdline: b"",
        exe: None,
        ..Spec::default()
    });
    host.process(&Spec {
        pid: 3,
        comm: b"kworker/0:1-events",
        parent: 2,
        flags: 0x0420_8060,
        uid: 0,
        cmdline: b"",
        exe: None,
        ..Spec::default()
    });
    host.process(&Spec { pid: 4, comm: b"a) S 9 (\nb", state: 'Z', cmdline: b"", exe: None, ..Spec::default() });
    host.process(&Spec {
        pid: 5,
        comm: b"systemd-journal",
        cmdline: b"/usr/lib/systemd/systemd-journald\0",
        ..Spec::default()
    });
    host.process(&Spec {
        pid: 6,
        comm: b"caf\xe9",
        uid: 4711,
        cmdline: b"\xff\xfe\0--x=\xc3\x28\0",
        ..Spec::default()
    });
    std::fs::create_dir(host.path("proc/7")).unwrap();
    let (batch, outcome) = host.scrape(&mut host.scraper("{}", Naming::V0), 0);
    assert_eq!(
        (batch.resources().count(), outcome.errored),
        (5, 0),
        "a process that vanished after it was listed is no error"
    );
    assert_eq!(text(&batch, 2, "process.executable.name"), Some("kthreadd"));
    for key in ["process.executable.path", "process.command", "process.command_line"] {
        assert_eq!(text(&batch, 2, key), None, "kernel threads have no program");
    }
    assert_eq!(text(&batch, 3, "process.executable.name"), Some("kworker/0:1"));
    assert_eq!(text(&batch, 4, "process.executable.name"), Some("a) S 9 (\nb"));
    assert_eq!(text(&batch, 5, "process.executable.name"), Some("systemd-journald"));
    assert_eq!(text(&batch, 6, "process.executable.name"), Some("caf\u{fffd}"));
    assert_eq!(text(&batch, 6, "process.owner"), Some("4711"));
    assert_eq!(text(&batch, 6, "process.command_line"), Some("\u{fffd}\u{fffd} --x=\u{fffd}("));
}

#[test]
fn a_process_that_is_gone_is_closed_once() {
    let host = Host::new();
    host.process(&Spec::default());
    host.process(&Spec { pid: 43, ..Spec::default() });
    let mut scraper = host.scraper("{}", Naming::V0);
    let (first, _) = host.scrape(&mut scraper, 0);
    host.remove(42);
    let (second, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!((outcome.points, outcome.errored), (14, 0));
    let series = |batch: &Batch, closed: bool| {
        let of_pid =
            batch.series().filter(|p| p.metric().resource().attributes().get("process.pid") == Some(AnyValue::Int(42)));
        of_pid.filter(|p| p.no_recorded_value() == closed).map(|p| (p.series(), p.start_time())).collect::<Vec<_>>()
    };
    assert_eq!(series(&first, false).len(), 7);
    assert_eq!(series(&second, true), series(&first, false), "the same series with the same start");
    assert!(
        second
            .series()
            .filter(|p| p.no_recorded_value())
            .all(|p| p.value().is_none() && p.time() == (BOOT + 120) * NANOS)
    );
    let (third, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!((outcome.points, third.resources().count(), scraper.table.len()), (7, 1, 1));
}

#[test]
fn a_pid_that_comes_back_is_a_new_life() {
    let host = Host::new();
    host.process(&Spec::default());
    let mut scraper = host.scraper("{}", Naming::V0);
    let (first, _) = host.scrape(&mut scraper, 0);
    host.process(&Spec { start: 5000, user: 1, ..Spec::default() });
    let (same, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 7, "the same resource: a new start time on the same series, nothing is closed");
    assert!(
        same.series().all(|p| !p.no_recorded_value() && p.start_time() > first.series().next().unwrap().start_time())
    );
    host.process(&Spec { start: 9000, comm: b"other", ..Spec::default() });
    let (other, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!(outcome.points, 14);
    let closed: Vec<_> = other.series().map(|p| p.no_recorded_value()).collect();
    assert_eq!(closed, [[true; 7], [false; 7]].concat(), "the old resource is closed before the new one is written");
}

#[test]
fn a_program_that_becomes_another_closes_its_old_name() {
    let host = Host::new();
    host.process(&Spec { comm: b"sh", cmdline: b"sh\0", exe: Some("/bin/sh"), ..Spec::default() });
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.process(&Spec { parent: 7, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 14);
    let names: Vec<_> = batch.resources().map(|r| r.attributes().get_str("process.executable.name").unwrap()).collect();
    assert_eq!(names, ["sh", "app"]);
    let (_, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!(outcome.points, 7);
}

#[test]
fn what_is_not_shown_makes_no_other_resource() {
    let host = Host::new();
    host.process(&Spec { comm: b"sh", cmdline: b"sh\0", ..Spec::default() });
    let off = "{enabled: false}";
    let mut scraper = host.scraper(
        &format!(
            "{{resource_attributes: {{process.parent_pid: {off}, process.executable.name: {off}, process.command: {off}, process.command_line: {off}}}}}"
        ),
        Naming::V0,
    );
    host.scrape(&mut scraper, 0);
    host.process(&Spec { parent: 7, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 7, "two resources of the same attributes would be two writers of one series");
    assert!(batch.series().all(|point| !point.no_recorded_value()));
}

#[test]
fn a_zombie_stays_who_it_was() {
    let host = Host::new();
    host.process(&Spec::default());
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.process(&Spec { state: 'Z', cmdline: b"", exe: None, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 7);
    let resource = batch.resources().next().unwrap();
    assert_eq!(resource.attributes().get_str("process.executable.path"), Some("/usr/bin/app"));
}

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
fn titles_are_kept_and_users_are_looked_at_again() {
    let host = Host::new();
    host.process(&Spec { uid: 0, cmdline: b"postgres\0", ..Spec::default() });
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.process(&Spec { cmdline: b"postgres: starting\0\0\0", ..Spec::default() });
    let (second, _) = host.scrape(&mut scraper, 10);
    let command =
        |batch: &Batch| batch.resources().last().unwrap().attributes().get_str("process.command").unwrap().to_owned();
    assert_eq!(command(&second), "postgres: starting", "what a program makes of itself at the start");
    host.process(&Spec { uid: 0, cmdline: b"postgres: idle\0\0\0", ..Spec::default() });
    let (third, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!((command(&third).as_str(), outcome.points), ("postgres: starting", 7));
    let (late, outcome) = host.scrape(&mut scraper, 10 + 300 + 60);
    assert_eq!(
        (command(&late).as_str(), outcome.points),
        ("postgres: starting", 14),
        "the user changed, so the old series are closed"
    );
    assert_eq!(late.resources().last().unwrap().attributes().get_str("process.owner"), Some("root"));
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
fn names_choose_processes() {
    let host = Host::new();
    for (pid, comm) in [(1, b"nginx".as_slice()), (2, b"nginx-worker"), (3, b"sshd")] {
        host.process(&Spec { pid, comm, ..Spec::default() });
    }
    let pids = |yaml: &str| {
        let mut scraper = host.scraper(yaml, Naming::V0);
        host.scrape(&mut scraper, 0);
        let (batch, _) = host.scrape(&mut scraper, 10);
        let mut pids: Vec<i64> = batch
            .resources()
            .filter_map(
                |r| if let Some(AnyValue::Int(pid)) = r.attributes().get("process.pid") { Some(pid) } else { None },
            )
            .collect();
        pids.sort_unstable();
        pids
    };
    assert_eq!(pids("{include: {names: [nginx], match_type: strict}}"), [1]);
    assert_eq!(pids("{include: {names: [ngin], match_type: regexp}}"), [1, 2]);
    assert_eq!(
        pids("{include: {names: [n], match_type: regexp}, exclude: {names: ['^nginx$'], match_type: regexp}}"),
        [2]
    );
    assert_eq!(pids("{exclude: {names: [sshd], match_type: strict}}"), [1, 2]);
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
fn attributes_can_be_switched_and_only_their_files_are_read() {
    let host = Host::new();
    host.process(&Spec::default());
    for file in ["status", "cmdline", "cgroup", "statm"] {
        std::fs::remove_file(host.path(&format!("proc/42/{file}"))).unwrap();
    }
    let off = "{metrics: {process.memory.usage: {enabled: false}, process.memory.virtual: {enabled: false}}, resource_attributes: {process.owner: {enabled: false},
      process.command: {enabled: false}, process.command_line: {enabled: false}, container.id: {enabled: false}, k8s.pod.uid: {enabled: false}}}";
    let (batch, outcome) = host.scrape(&mut host.scraper(off, Naming::V0), 0);
    assert_eq!(outcome, Outcome { points: 5, errored: 0 });
    let keys: Vec<_> = resource(&batch, 42).unwrap().attributes().iter().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(keys, ["process.pid", "process.parent_pid", "process.executable.name", "process.executable.path"]);
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

#[test]
fn this_machines_processes_agree_with_another_reader() {
    let config = settings("{metrics: {process.threads: {enabled: true}}, mute_process_all_errors: true}");
    let root = Root::new("");
    let boot = root.boot_time_seconds().unwrap();
    let mut scraper = Process::new(&config, &root, Naming::V0, boot * NANOS).unwrap();
    let mut out = BatchBuilder::new();
    let before = procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter_map(|p| Some((p.pid(), p.stat().ok()?, p.statm().ok()?)))
        .collect::<Vec<_>>();
    scraper.scrape(&Moment { unix_nanos: boot * NANOS, now: Instant::now() }, &mut out);
    let batch = out.finish();
    let hertz = procfs::ticks_per_second();
    let mut compared = 0;
    for (pid, stat, statm) in before {
        // What moved while the readings were taken is not compared.
        let after = procfs::process::Process::new(pid).and_then(|p| Ok((p.stat()?, p.statm()?)));
        let Ok((again, memory)) = after else { continue };
        if (again.ppid, again.starttime, again.num_threads, again.utime, again.stime)
            != (stat.ppid, stat.starttime, stat.num_threads, stat.utime, stat.stime)
            || (memory.resident, memory.size) != (statm.resident, statm.size)
        {
            continue;
        }
        let Some(resource) = resource(&batch, i64::from(pid)) else { continue };
        assert_eq!(resource.attributes().get("process.parent_pid"), Some(AnyValue::Int(i64::from(stat.ppid))));
        let first =
            |name: &str, index: usize| values(&batch, i64::from(pid), name).get(index).and_then(|(_, value)| *value);
        assert_eq!(first("process.threads", 0), Some(Number::Int(stat.num_threads)));
        assert_eq!(first("process.cpu.time", 0), Some(ticks(stat.utime as f64)));
        assert_eq!(first("process.cpu.time", 1), Some(ticks(stat.stime as f64)));
        assert_eq!(first("process.memory.usage", 0), Some(Number::Int((statm.resident * procfs::page_size()) as i64)));
        assert_eq!(first("process.memory.virtual", 0), Some(Number::Int((statm.size * procfs::page_size()) as i64)));
        let start = boot * NANOS + stat.starttime * NANOS / hertz;
        assert!(resource.metrics().all(|m| m.points().all(|p| p.start_time() == start)));
        compared += 1;
    }
    assert!(compared >= 1, "no process of this machine held still");
    let own = i64::from(std::process::id());
    let exe = std::fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(text(&batch, own, "process.executable.path").map(Path::new), Some(exe.as_path()));
}
