//! A host made of files: processes that work, are born, end and take over each other's pids, and what they have used.
//!
//! Files and folders change by renaming, so that a scrape sees the old or the new. A process begins a moment after its
//! folder appears, with nothing used, as a real one does: no scrape finds it used up before its time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Processes that are there from the first to the last scrape, and those that come and go.
const STEADY: u32 = 60;
const FLEETING: u32 = 90;
/// Programs of each kind.
const PROGRAMS: u32 = 6;
/// Clock ticks a second, as the kernel shows them.
const TICKS: u64 = 100;

/// Numbers that look random and are the same in every run.
pub struct Chance(pub u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a process has used: user and system ticks, bytes read and written, resident pages.
#[derive(Clone, Copy, Default)]
struct Used {
    user: u64,
    system: u64,
    read: u64,
    written: u64,
    resident: u64,
}

struct Process {
    name: String,
    start: u64,
    used: Used,
    /// How much it does at most in one step; few do much.
    vigour: u64,
}

/// The host.
pub struct Host {
    root: PathBuf,
    boot: u64,
    processes: BTreeMap<u32, Process>,
    first: BTreeMap<u32, Used>,
    chance: Chance,
    next_pid: u32,
    folders: u32,
    pub born: u32,
    pub reused: u32,
}

impl Host {
    /// Makes the files of a host below `root`.
    pub fn new(root: &Path, seed: u64) -> Self {
        for folder in ["proc", "etc", "aside"] {
            fs::create_dir_all(root.join(folder)).expect("the room is writable");
        }
        let boot = seconds() as u64 - 100_000;
        let cpu = "cpu0 1 2 3 4 5 6 7 8 9 10\n";
        write(&root.join("proc/stat"), &format!("cpu 1 2 3 4 5 6 7 8 9 10\n{cpu}btime {boot}\n"));
        write(&root.join("proc/uptime"), "100000.00 200000.00\n");
        write(&root.join("proc/meminfo"), "MemTotal: 16000000 kB\n");
        write(&root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n");
        let mut host = Host {
            root: root.to_owned(),
            boot,
            processes: BTreeMap::new(),
            first: BTreeMap::new(),
            chance: Chance(seed),
            next_pid: 1_000,
            folders: 0,
            born: 0,
            reused: 0,
        };
        for i in 0..STEADY + FLEETING {
            let kind = if i < STEADY { "steady" } else { "fleeting" };
            let (chance, name) = (&mut host.chance, format!("{kind}-{}", i % PROGRAMS));
            let used = Used {
                user: chance.below(1_000_000),
                system: chance.below(100_000),
                read: chance.below(1 << 40),
                written: chance.below(1 << 40),
                resident: 100 + chance.below(10_000),
            };
            let vigour = 1 + 2_000 / (1 + chance.below(200));
            let start = chance.below(50_000 * TICKS);
            let pid = host.fresh_pid();
            host.place(pid, Process { name, start, used, vigour });
            if i < STEADY {
                host.first.insert(pid, used);
            }
        }
        host
    }

    fn chance(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    fn fresh_pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    /// Half of all processes work; says which there are.
    pub fn work(&mut self) -> Vec<u32> {
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        for pid in &pids {
            if self.chance(2) == 0 {
                continue;
            }
            let draws: [u64; 5] = std::array::from_fn(|_| self.chance(1 << 20));
            let Some(process) = self.processes.get_mut(pid) else { continue };
            let (used, most) = (&mut process.used, process.vigour);
            used.user += draws[0] % most;
            used.system += draws[1] % (1 + most / 4);
            used.read += draws[2] % 3 * most * 4_096;
            used.written += draws[3] % 2 * most * 4_096;
            used.resident = 100 + (used.resident + draws[4]) % 10_000;
            self.write_numbers(*pid);
        }
        pids
    }

    /// Lets some time pass: half of all work, a few end, and as many are born, some under the pid that has just become free.
    pub fn step(&mut self) {
        let pids = self.work();
        for _ in 0..self.chance(4) {
            let fleeting = pids.iter().filter(|pid| !self.first.contains_key(pid) && self.processes.contains_key(pid));
            let fleeting: Vec<u32> = fleeting.copied().collect();
            let victim = fleeting[self.chance(fleeting.len() as u64) as usize];
            self.remove(victim);
            let reuse = self.chance(3) == 0;
            let pid = if reuse { victim } else { self.fresh_pid() };
            self.reused += u32::from(reuse);
            let name = format!("fleeting-{}", self.chance(u64::from(PROGRAMS)));
            let vigour = 1 + 2_000 / (1 + self.chance(200));
            // Two ticks ahead of the clock; see the head of this file.
            let start = ((seconds() - self.boot as f64) * TICKS as f64) as u64 + 3;
            self.born += 1;
            self.place(pid, Process { name, start, used: Used::default(), vigour });
        }
    }

    /// A crowd comes, all at once, each with nothing used yet.
    pub fn crowd(&mut self, count: u32) {
        for i in 0..count {
            let start = ((seconds() - self.boot as f64) * TICKS as f64) as u64 + 3;
            let (pid, used) = (self.fresh_pid(), Used { resident: 100, ..Used::default() });
            self.place(pid, Process { name: format!("crowd-{}", i % PROGRAMS), start, used, vigour: 1 });
        }
    }

    /// The crowd is gone.
    pub fn disperse(&mut self) {
        let crowd = self.processes.iter().filter(|(_, process)| process.name.starts_with("crowd"));
        let crowd: Vec<u32> = crowd.map(|(pid, _)| *pid).collect();
        crowd.into_iter().for_each(|pid| self.remove(pid));
    }

    /// What all steady processes of each program have added since the beginning, by metric, in the metric's unit.
    pub fn steady(&self) -> serde_json::Value {
        let mut added: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for (pid, first) in &self.first {
            let Some(Process { name, used, .. }) = self.processes.get(pid) else { continue };
            let of = added.entry(name).or_default();
            let ticks = used.user + used.system - first.user - first.system;
            *of.entry("process.cpu.time").or_default() += ticks;
            *of.entry("process.disk.io").or_default() += used.read + used.written - first.read - first.written;
        }
        let in_units = |(metric, value): (&str, u64)| {
            let seconds = metric == "process.cpu.time";
            let value: serde_json::Value = if seconds { (value as f64 / TICKS as f64).into() } else { value.into() };
            (metric.to_owned(), value)
        };
        let programs = added.into_iter().map(|(name, of)| {
            (name.to_owned(), of.into_iter().map(in_units).collect::<serde_json::Map<_, _>>().into())
        });
        programs.collect::<serde_json::Map<String, serde_json::Value>>().into()
    }

    /// Puts a new process in place, all of its files at once.
    fn place(&mut self, pid: u32, process: Process) {
        let folder = self.aside();
        fs::create_dir_all(folder.join("fd")).expect("the room is writable");
        let name = &process.name;
        write(&folder.join("status"), &format!("Name:\t{name}\nUid:\t0\t0\t0\t0\n"));
        write(&folder.join("cmdline"), &format!("/usr/bin/{name}\0--work\0"));
        write(&folder.join("cgroup"), "0::/\n");
        symlink(format!("/usr/bin/{name}"), folder.join("exe")).expect("the room is writable");
        for (file, text) in numbers(pid, &process) {
            write(&folder.join(file), &text);
        }
        fs::rename(&folder, self.root.join(format!("proc/{pid}"))).expect("the pid is free");
        self.processes.insert(pid, process);
    }

    fn remove(&mut self, pid: u32) {
        let folder = self.aside();
        fs::rename(self.root.join(format!("proc/{pid}")), &folder).expect("it is there");
        fs::remove_dir_all(&folder).expect("it is there");
        self.processes.remove(&pid);
    }

    fn write_numbers(&mut self, pid: u32) {
        let aside = self.aside();
        let Some(process) = self.processes.get(&pid) else { return };
        for (file, text) in numbers(pid, process) {
            write(&aside, &text);
            fs::rename(&aside, self.root.join(format!("proc/{pid}/{file}"))).expect("the process is there");
        }
    }

    /// A path nothing stands at.
    fn aside(&mut self) -> PathBuf {
        self.folders += 1;
        self.root.join(format!("aside/{}", self.folders))
    }
}

/// The files of a process that change.
fn numbers(pid: u32, process: &Process) -> [(&'static str, String); 3] {
    let Process { name, start, used: Used { user, system, read, written, resident }, .. } = process;
    let stat = format!(
        "{pid} ({name}) S 1 42 42 0 -1 0 7 0 3 0 {user} {system} 0 0 20 0 4 0 {start} 9000000 {resident} \
         18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    let io = format!("rchar: 9\nwchar: 9\nsyscr: 1\nsyscw: 1\nread_bytes: {read}\nwrite_bytes: {written}\n");
    [("stat", stat), ("io", io), ("statm", format!("20000 {resident} 50 1 0 20 0\n"))]
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the room is writable");
}
