//! The scraper against a host made of files, and against this machine.

mod cost;
mod exits;
mod faults;
mod host;
mod identity;
mod rest;
mod rotation;

use std::path::Path;
use std::time::Instant;

use phoenix_pipeline::Folded;
use phoenix_telemetry::{AnyValue, Batch, Number};

use super::*;
use crate::hostmetrics::catalog::Naming;
use crate::hostmetrics::root::Root;
use host::{ALL, BOOT, Host, ID, NANOS, POD, Spec, point, resource, scraper, text, ticks, values};

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
fn this_machines_processes_agree_with_another_reader() {
    let yaml = "{metrics: {process.threads: {enabled: true}}, mute_process_all_errors: true}";
    let root = Root::new("");
    let boot = root.boot_time_seconds().unwrap();
    let balance = Balance::new(::metrics::Gauge::noop());
    let mut scraper = scraper(yaml, &root, (Naming::V0, boot * NANOS), balance, &Folded::default());
    let hertz = procfs::ticks_per_second();
    let mut batch = Batch::default();
    let mut compared = 0;
    // From the second scrape on there are processes at rest.
    for _ in 0..3 {
        let mut out = BatchBuilder::new();
        let before = procfs::process::all_processes()
            .unwrap()
            .flatten()
            .filter_map(|p| Some((p.pid(), p.stat().ok()?, p.statm().ok()?, p.io().ok()?)))
            .collect::<Vec<_>>();
        scraper.scrape(&Moment { unix_nanos: boot * NANOS, now: Instant::now() }, &mut out);
        batch = out.finish();
        for (pid, stat, statm, io) in before {
            // What moved while the readings were taken is not compared.
            let after = procfs::process::Process::new(pid).and_then(|p| Ok((p.stat()?, p.statm()?, p.io()?)));
            let Ok((again, memory, again_io)) = after else { continue };
            if (again.ppid, again.starttime, again.num_threads, again.utime, again.stime)
                != (stat.ppid, stat.starttime, stat.num_threads, stat.utime, stat.stime)
                || (memory.resident, memory.size) != (statm.resident, statm.size)
                || (again_io.read_bytes, again_io.write_bytes) != (io.read_bytes, io.write_bytes)
            {
                continue;
            }
            let Some(resource) = resource(&batch, i64::from(pid)) else { continue };
            assert_eq!(resource.attributes().get("process.parent_pid"), Some(AnyValue::Int(i64::from(stat.ppid))));
            let first = |name: &str, index: usize| {
                values(&batch, i64::from(pid), name).get(index).and_then(|(_, value)| *value)
            };
            assert_eq!(first("process.threads", 0), Some(Number::Int(stat.num_threads)));
            assert_eq!(first("process.cpu.time", 0), Some(ticks(stat.utime as f64)));
            assert_eq!(first("process.cpu.time", 1), Some(ticks(stat.stime as f64)));
            assert_eq!(
                first("process.memory.usage", 0),
                Some(Number::Int((statm.resident * procfs::page_size()) as i64))
            );
            assert_eq!(
                first("process.memory.virtual", 0),
                Some(Number::Int((statm.size * procfs::page_size()) as i64))
            );
            assert_eq!(first("process.disk.io", 0), Some(Number::Int(io.read_bytes as i64)));
            assert_eq!(first("process.disk.io", 1), Some(Number::Int(io.write_bytes as i64)));
            let start = boot * NANOS + stat.starttime * NANOS / hertz;
            assert!(resource.metrics().all(|m| m.points().all(|p| p.start_time() == start)));
            compared += 1;
        }
    }
    assert!(compared >= 1, "no process of this machine held still");
    let own = i64::from(std::process::id());
    let exe = std::fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(text(&batch, own, "process.executable.path").map(Path::new), Some(exe.as_path()));
}
