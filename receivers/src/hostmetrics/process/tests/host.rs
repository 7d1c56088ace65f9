//! A host made of files, and what its tests ask of a batch.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use phoenix_pipeline::Folded;
use phoenix_pipeline::config::{self, Settings};
use phoenix_telemetry::{AnyValue, Batch, Number, Resource};

use super::super::*;
use crate::hostmetrics::Config as HostConfig;
use crate::hostmetrics::catalog::Naming;
use crate::hostmetrics::root::Root;

pub(super) const BOOT: u64 = 1_700_000_000;
pub(super) const NANOS: u64 = 1_000_000_000;
pub(super) const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
pub(super) const POD: &str = "550e8400-e29b-41d4-a716-446655440000";

pub(super) const ALL: &str = "{metrics: {process.cpu.utilization: {enabled: true}, process.memory.utilization: {enabled: true}, process.disk.operations: {enabled: true},
  process.paging.faults: {enabled: true}, process.context_switches: {enabled: true}, process.open_file_descriptors: {enabled: true},
  process.threads: {enabled: true}, process.signals_pending: {enabled: true}, process.uptime: {enabled: true}},
  resource_attributes: {process.cgroup: {enabled: true}, process.creation.time: {enabled: true}}}";

/// A host whose `/proc` and `/etc` are files of a test.
pub(super) struct Host {
    pub(super) dir: tempfile::TempDir,
    begun: Instant,
    unattributed: Arc<AtomicU64>,
    /// What its pipelines say.
    pub(super) folded: Folded,
}

/// One process of it.
#[derive(Clone)]
pub(super) struct Spec {
    pub(super) pid: u32,
    pub(super) comm: &'static [u8],
    pub(super) parent: u32,
    pub(super) state: char,
    pub(super) flags: u32,
    pub(super) user: u64,
    pub(super) system: u64,
    /// User and system times of the children it waited for.
    pub(super) waited: [u64; 2],
    pub(super) threads: u64,
    pub(super) start: u64,
    pub(super) uid: u32,
    pub(super) cmdline: &'static [u8],
    pub(super) exe: Option<&'static str>,
    pub(super) cgroup: String,
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
            waited: [0, 0],
            threads: 4,
            start: 1000,
            uid: 33,
            cmdline: b"/usr/bin/app\0--port\08080\0",
            exe: Some("/usr/bin/app"),
            cgroup: "0::/\n".to_owned(),
        }
    }
}

impl Host {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir, begun: Instant::now(), unattributed: Arc::default(), folded: Folded::default() };
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

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(super) fn file(&self, path: &str, text: &[u8]) {
        std::fs::write(self.path(path), text).unwrap();
    }

    pub(super) fn remove(&self, pid: u32) {
        std::fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }

    pub(super) fn process(&self, spec: &Spec) {
        let (pid, uid) = (spec.pid, spec.uid);
        let place = format!("proc/{pid}");
        let _ = std::fs::remove_dir_all(self.path(&place));
        std::fs::create_dir_all(self.path(&format!("{place}/fd"))).unwrap();
        self.stat(spec);
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

    /// A process's `stat` alone, or anew.
    pub(super) fn stat(&self, spec: &Spec) {
        let Spec { pid, parent, state, flags, user, system, threads, start, .. } = spec;
        let [waited_user, waited_system] = spec.waited;
        std::fs::create_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
        let mut stat = format!("{pid} (").into_bytes();
        stat.extend_from_slice(spec.comm);
        let tail = format!(
            ") {state} {parent} 42 42 0 -1 {flags} 7 0 3 0 {user} {system} {waited_user} {waited_system} 20 0 {threads} 0 {start} 9000000 100 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 0 25 0 0 0 0 0 0 0 0 0 0\n"
        );
        stat.extend_from_slice(tail.as_bytes());
        self.file(&format!("proc/{pid}/stat"), &stat);
    }

    pub(super) fn scraper(&self, yaml: &str, naming: Naming) -> Process {
        let path = self.dir.path();
        let root = Root {
            proc: path.join("proc"),
            sys: path.join("sys"),
            etc: path.join("etc"),
            dev: path.join("dev"),
            root: path.to_path_buf(),
            foreign: true,
        };
        let balance = Balance::new(::metrics::Gauge::from_arc(Arc::clone(&self.unattributed)));
        scraper(yaml, &root, (naming, BOOT * NANOS), balance, &self.folded)
    }

    /// `phoenix_unattributed_ratio`, as last set.
    pub(super) fn unattributed(&self) -> f64 {
        f64::from_bits(self.unattributed.load(Ordering::Relaxed))
    }

    /// The scrape that begins `second` seconds after the first.
    pub(super) fn scrape(&self, scraper: &mut Process, second: u64) -> (Batch, Outcome) {
        let at = Moment { unix_nanos: (BOOT + 110 + second) * NANOS, now: self.begun + Duration::from_secs(second) };
        let mut out = BatchBuilder::new();
        let outcome = scraper.scrape(&at, &mut out);
        let batch = out.finish();
        assert_eq!(batch.points(), outcome.points);
        (batch, outcome)
    }
}

/// A scraper below `root`.
pub(super) fn scraper(
    yaml: &str,
    root: &Root,
    (naming, boot_unix_nanos): (Naming, u64),
    balance: Balance,
    folded: &Folded,
) -> Process {
    let config = settings(yaml);
    let rotation = Rotation::new(config.folded_interval, folded, ::metrics::Counter::noop());
    Process::new(&config, &Setup { root, naming, boot_unix_nanos, census: Default::default() }, balance, rotation)
        .unwrap()
}

pub(super) fn settings(yaml: &str) -> Config {
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

pub(super) fn mistakes(yaml: &str) -> Vec<String> {
    let value = config::parse("test.yaml", &format!("scrapers:\n  process: {yaml}\n")).unwrap();
    config::read::<HostConfig>(&value).unwrap_err().iter().map(ToString::to_string).collect()
}

pub(super) fn resource(batch: &Batch, pid: i64) -> Option<Resource<'_>> {
    batch.resources().find(|r| r.attributes().get("process.pid") == Some(AnyValue::Int(pid)))
}

pub(super) fn text<'b>(batch: &'b Batch, pid: i64, key: &str) -> Option<&'b str> {
    resource(batch, pid).and_then(|r| r.attributes().get_str(key))
}

/// The values of a metric of a process, with the value of the first attribute of each point.
pub(super) fn values(batch: &Batch, pid: i64, name: &str) -> Vec<(String, Option<Number>)> {
    let metric = resource(batch, pid).and_then(|r| r.metrics().find(|m| m.name() == name));
    let label = |point: phoenix_telemetry::Point<'_>| {
        point.attributes().iter().map(|(key, value)| format!("{key}={value}")).collect::<String>()
    };
    metric.map(|m| m.points().map(|p| (label(p), p.value())).collect()).unwrap_or_default()
}

pub(super) fn point(label: &str, value: Number) -> (String, Option<Number>) {
    (label.to_owned(), Some(value))
}

pub(super) fn ticks(ticks: f64) -> Number {
    Number::Double(ticks / procfs::ticks_per_second() as f64)
}
