//! A host with a long tail, the same in every run: 1,000 processes of some hundred programs, of which few do nearly all.
//!
//! - Programs: a node's daemons, a database of 40 processes, 60 container shims, and 100 programs whose numbers of
//!   processes fall like Zipf's law.
//! - CPU: a Pareto law of shape 1.16 (a fifth does four fifths), at most four CPUs, with noise; three of five do nothing in
//!   most intervals.
//! - Memory: log-normal around 20 MB with a sigma of 1.5, drifting. Disk I/O: one in ten does any.
//! - Churn: every interval five processes end and five begin, and five others get another load.
//!
//! What processes have used in their lives is unrelated to what they use now.

use crate::process::{Process, request};

/// Seconds between two scrapes.
pub const INTERVAL: u64 = 10;

const SECOND: u64 = 1_000_000_000;
/// The time of the first scrape, Unix nanoseconds: a real date.
const BEGIN: u64 = 1_763_690_000 * SECOND;
/// Processes that begin, end, or get another load in an interval.
const CHURN: usize = 5;
const DAEMONS: [(&str, usize); 12] = [
    ("systemd", 1),
    ("systemd-journald", 1),
    ("systemd-udevd", 1),
    ("dbus-daemon", 1),
    ("kubelet", 1),
    ("containerd", 1),
    ("sshd", 6),
    ("cron", 1),
    ("chronyd", 1),
    ("phoenix", 1),
    ("postgres", 40),
    ("containerd-shim", 60),
];
const PROGRAMS: usize = 100;

/// What a process used in one interval, and holds at its end.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Its id.
    pub pid: i64,
    /// CPU seconds.
    pub cpu: f64,
    /// Resident bytes.
    pub memory: f64,
    /// Bytes read and written.
    pub io: f64,
}

/// What a process tends to use in a second.
#[derive(Clone, Copy, Debug)]
struct Load {
    cpu: f64,
    /// How often it does anything.
    works: f64,
    io: f64,
}

/// The host.
#[derive(Debug)]
pub struct Host {
    processes: Vec<(Process, Load)>,
    chance: Chance,
    next_pid: i64,
    time: u64,
    /// `host.name`, where it has one.
    name: Option<String>,
}

impl Host {
    /// A host of `count` processes, at least those of the daemons.
    pub fn new(count: usize) -> Self {
        Host::seeded(count, 7)
    }

    /// The same with a seed of its own.
    pub fn seeded(count: usize, seed: u64) -> Self {
        let mut host = Host { processes: Vec::new(), chance: Chance(seed), next_pid: 1, time: BEGIN, name: None };
        for (name, number) in DAEMONS {
            for _ in 0..number {
                host.begin(name.to_owned(), None);
            }
        }
        for _ in host.processes.len()..count {
            let name = host.program();
            host.begin(name, None);
        }
        host
    }

    /// The same with this `host.name` on each of its processes.
    pub fn named(self, name: String) -> Self {
        Host { name: Some(name), ..self }
    }

    /// One of the programs, the first most often.
    fn program(&mut self) -> String {
        let all: f64 = (1..=PROGRAMS).map(|rank| 1.0 / rank as f64).sum();
        let mut left = self.chance.next() * all;
        let rank = (1..PROGRAMS).find(|rank| {
            left -= 1.0 / *rank as f64;
            left < 0.0
        });
        format!("program-{:02}", rank.unwrap_or(PROGRAMS))
    }

    fn load(&mut self) -> Load {
        let chance = &mut self.chance;
        let cpu = (0.000_5 / (1.0 - chance.next()).powf(1.0 / 1.16)).min(4.0);
        let works = if chance.next() < 0.6 { 0.1 } else { 1.0 };
        let io = if chance.next() < 0.1 { 20_000.0 * (2.0 * chance.normal()).exp() } else { 0.0 };
        Load { cpu, works, io }
    }

    /// A new process of some program, born within the interval that begins.
    fn arrive(&mut self) {
        let born = self.time + (self.chance.next() * (INTERVAL * SECOND) as f64) as u64;
        let name = self.program();
        self.begin(name, Some(born));
    }

    /// A new process: born at this moment, or with a life behind it where that is `None`.
    fn begin(&mut self, name: String, born: Option<u64>) {
        let load = self.load();
        let chance = &mut self.chance;
        let memory = (2e7 * (1.5 * chance.normal()).exp()) as i64;
        let old = if born.is_none() { 1.0 } else { 0.0 };
        let mut of_old = |most: f64| old * most * chance.next();
        let process = Process {
            pid: self.next_pid,
            name,
            cpu: [of_old(1e5), of_old(1e4), of_old(1e3)],
            start: born.unwrap_or(BEGIN - 100_000 * SECOND - of_old(1e6) as u64 * SECOND),
            memory,
            memory_virtual: memory * 5,
            io: [of_old(1e12) as i64, of_old(1e12) as i64],
            threads: 1 + (chance.next() * 30.0) as i64,
            open_files: 3 + (chance.next() * 100.0) as i64,
        };
        self.next_pid += 1 + (chance.next() * 9.0) as i64;
        self.processes.push((process, load));
    }

    /// Lets an interval pass; what each process that is there at its end used in it.
    pub fn pass(&mut self) -> Vec<Used> {
        self.pass_with(self.processes.len(), CHURN)
    }

    /// The same, with so many processes at its end, at least those of the daemons, of which so many replaced others.
    pub fn pass_with(&mut self, count: usize, replaced: usize) -> Vec<Used> {
        let daemons: usize = DAEMONS.iter().map(|(_, number)| number).sum();
        let any = |host: &mut Host| daemons + (host.chance.next() * (host.processes.len() - daemons) as f64) as usize;
        while self.processes.len() > count.max(daemons) {
            let ends = any(self);
            self.processes.swap_remove(ends);
        }
        while self.processes.len() < count {
            self.arrive();
        }
        for _ in 0..replaced.min(self.processes.len() - daemons) {
            let ends = any(self);
            self.processes.swap_remove(ends);
            self.arrive();
            let (other, load) = (any(self), self.load());
            if let Some((_, of)) = self.processes.get_mut(other) {
                *of = load;
            }
        }
        self.time += INTERVAL * SECOND;
        let Host { processes, chance, time, .. } = self;
        let one = |(process, load): &mut (Process, Load)| {
            let lived = (*time - process.start).min(INTERVAL * SECOND) as f64 / SECOND as f64;
            let works = chance.next() < load.works;
            let [user, system, io] = [load.cpu * 0.7, load.cpu * 0.3, load.io]
                .map(|rate| if works { lived * rate * (0.5 * chance.normal()).exp() } else { 0.0 });
            let io = [io * 0.6, io * 0.4].map(|bytes| bytes as i64);
            process.cpu = [process.cpu[0] + user, process.cpu[1] + system, process.cpu[2]];
            process.io = [process.io[0] + io[0], process.io[1] + io[1]];
            process.memory = (process.memory as f64 * (0.01 * chance.normal()).exp()) as i64;
            Used { pid: process.pid, cpu: user + system, memory: process.memory as f64, io: (io[0] + io[1]) as f64 }
        };
        processes.iter_mut().map(one).collect()
    }

    /// An export request with all points as of now.
    pub fn scrape(&self) -> Vec<u8> {
        self.request(&self.processes)
    }

    /// The same as so many requests, each with the number of its processes.
    pub fn scrape_in(&self, pieces: usize) -> impl Iterator<Item = (Vec<u8>, usize)> {
        let size = self.processes.len().div_ceil(pieces.max(1)).max(1);
        self.processes.chunks(size).map(|part| (self.request(part), part.len()))
    }

    fn request(&self, processes: &[(Process, Load)]) -> Vec<u8> {
        request(processes.iter().map(|(process, _)| process), self.time, self.name.as_deref())
    }
}

/// Numbers that look random and are the same in every run.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// From 0 to below 1: splitmix64.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Around 0 with a deviation of 1, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.next(), self.next());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}
