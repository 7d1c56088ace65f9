//! What processes used between their last reading and their end, and what nobody accounts for.

use std::collections::HashMap;

use proptest::prelude::*;

use super::host::{Host, Spec};
use super::*;

/// Clock ticks of one scrape interval: ten seconds.
fn interval() -> u64 {
    10 * procfs::ticks_per_second()
}

const CPU_TIME_ONLY: &str = "{metrics: {process.memory.usage: {enabled: false}, process.memory.virtual: {enabled: false}, process.disk.io: {enabled: false}},
  resource_attributes: {process.parent_pid: {enabled: false}, process.owner: {enabled: false}, process.command: {enabled: false}, process.command_line: {enabled: false},
  process.executable.path: {enabled: false}, container.id: {enabled: false}, k8s.pod.uid: {enabled: false}}}";

fn parent() -> Spec {
    Spec { pid: 7, comm: b"sh", user: 10, system: 10, waited: [1000, 500], start: 900, threads: 1, ..Spec::default() }
}

fn child(pid: u32) -> Spec {
    Spec { pid, parent: 7, user: 150, system: 50, threads: 1, ..Spec::default() }
}

/// A parent and its children, read once.
fn family(children: &[Spec]) -> (Host, Process) {
    let host = Host::new();
    host.process(&parent());
    children.iter().for_each(|child| host.process(child));
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    (host, scraper)
}

/// The CPU ticks of a process, if it has any.
fn used(batch: &Batch, pid: i64) -> Option<[f64; 2]> {
    let values = values(batch, pid, "process.cpu.time");
    let tick = |index: usize| Some(values.get(index)?.1?.as_f64() * procfs::ticks_per_second() as f64);
    Some([tick(0)?, tick(1)?])
}

#[track_caller]
fn near(found: Option<[f64; 2]>, expected: [f64; 2]) {
    let found = found.expect("a last value");
    assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
}

#[test]
fn a_parent_tells_what_its_child_used_up_to_its_end() {
    let (host, mut scraper) = family(&[child(42)]);
    host.remove(42);
    host.process(&Spec { waited: [1000 + 150 + 30, 500 + 50 + 7], ..parent() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 14, "the parent; the child's last CPU times, and the end of all else");
    near(used(&batch, 42), [180.0, 57.0]);
    assert_eq!(values(&batch, 42, "process.cpu.time")[2].1, Some(ticks(25.0)), "what is not known further stays");
    assert!(values(&batch, 42, "process.memory.usage").iter().all(|(_, value)| value.is_none()));
    let (batch, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!(outcome.points, 10);
    assert!(values(&batch, 42, "process.cpu.time").iter().all(|(_, value)| value.is_none()), "closed one scrape later");
    assert_eq!(host.scrape(&mut scraper, 30).1.points, 7);
}

#[test]
fn several_children_share_by_what_they_did_before_and_never_get_more_than_they_can_have_used() {
    let idle = Spec { user: 0, system: 0, ..child(43) };
    let (host, mut scraper) = family(&[child(42), idle.clone()]);
    host.remove(42);
    host.remove(43);
    host.process(&Spec { waited: [1000 + 150 + 300, 500 + 50], ..parent() });
    let (batch, _) = host.scrape(&mut scraper, 10);
    near(used(&batch, 42), [450.0, 50.0]);
    assert_eq!(used(&batch, 43), None, "it never did anything, and the other can have done it all");

    // More than the two can have used: the rest was used by children that nobody met.
    let (host, mut scraper) = family(&[child(42), idle]);
    host.remove(42);
    host.remove(43);
    host.process(&Spec { waited: [1000 + 150 + 5 * interval(), 500 + 50], ..parent() });
    let (batch, _) = host.scrape(&mut scraper, 10);
    near(used(&batch, 42), [150.0 + interval() as f64, 50.0]);
    near(used(&batch, 43), [interval() as f64, 0.0]);
}

#[test]
fn who_cannot_have_used_it_gets_nothing() {
    let silent = |spec: Spec, after: Spec, why: &str| {
        let (host, mut scraper) = family(&[spec]);
        host.remove(42);
        host.process(&after);
        let (batch, _) = host.scrape(&mut scraper, 10);
        assert_eq!(used(&batch, 42), None, "{why}");
        assert!(!values(&batch, 42, "process.cpu.time").is_empty(), "closed at once: {why}");
    };
    silent(child(42), parent(), "the parent ignores its children");
    silent(
        child(42),
        Spec { waited: [1100, 600], ..parent() },
        "what the parent waited for does not even cover what was read",
    );
    silent(child(42), Spec { waited: [1150, 550], ..parent() }, "nothing is left");
    silent(Spec { state: 'Z', ..child(42) }, Spec { waited: [1160, 550], ..parent() }, "a zombie's times were final");
    silent(Spec { parent: 9, ..child(42) }, Spec { waited: [1160, 560], ..parent() }, "another's child");
    silent(child(42), Spec { start: 1001, waited: [1160, 560], ..parent() }, "the parent's id was taken by another");
}

#[test]
fn a_parent_that_was_not_there_before_tells_nothing() {
    let host = Host::new();
    host.process(&child(42));
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.remove(42);
    host.process(&parent());
    assert_eq!(used(&host.scrape(&mut scraper, 10).0, 42), None);
}

#[test]
fn a_zombie_is_read_until_its_parent_notices() {
    let (host, mut scraper) = family(&[child(42)]);
    host.process(&Spec { state: 'Z', user: 170, cmdline: b"", exe: None, ..child(42) });
    near(used(&host.scrape(&mut scraper, 10).0, 42), [170.0, 50.0]);
    host.remove(42);
    host.process(&Spec { waited: [1170, 550], ..parent() });
    let (batch, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!((used(&batch, 42), outcome.points), (None, 14), "all of it was written before");
}

#[test]
fn when_the_parent_dies_too_an_ancestor_tells() {
    let make = Spec { pid: 20, parent: 7, user: 40, system: 0, comm: b"make", ..child(20) };
    let compiler = Spec { pid: 30, parent: 20, start: 1100, user: 200, system: 0, comm: b"cc", ..child(30) };
    // The compiler was waited for by make, and make by the shell: the shell's times hold both.
    let (host, mut scraper) = family(&[make.clone(), compiler.clone()]);
    host.remove(20);
    host.remove(30);
    host.process(&Spec { waited: [1000 + 40 + 200 + 240, 500 + 50], ..parent() });
    let (batch, _) = host.scrape(&mut scraper, 10);
    let total = used(&batch, 20).unwrap()[0] + used(&batch, 30).unwrap()[0];
    assert!((total - 480.0).abs() < 1e-6, "{total}");

    // Make was killed first, and init inherited the compiler.
    let init = Spec { pid: 1, parent: 0, start: 1, comm: b"init", waited: [0, 0], user: 0, system: 0, ..parent() };
    let shell = Spec { parent: 1, ..parent() };
    let (host, mut scraper) = family(&[init.clone(), shell.clone(), make, compiler]);
    host.remove(20);
    host.remove(30);
    host.process(&Spec { waited: [1000 + 40, 500], ..shell });
    host.process(&Spec { waited: [200 + 77, 0], ..init });
    let (batch, _) = host.scrape(&mut scraper, 10);
    assert_eq!(used(&batch, 20), None);
    near(used(&batch, 30), [277.0, 0.0]);
}

#[test]
fn the_child_of_a_zombie_was_waited_for_by_those_above_it() {
    let init = Spec { pid: 1, parent: 0, start: 1, comm: b"init", waited: [0, 0], user: 0, system: 0, ..parent() };
    let shell = Spec { parent: 1, ..parent() };
    let idle = Spec { parent: 1, user: 0, system: 0, ..child(50) };
    let (host, mut scraper) = family(&[init.clone(), shell.clone(), child(42), idle]);
    host.process(&Spec { state: 'Z', ..shell });
    host.remove(42);
    host.remove(50);
    host.process(&Spec { waited: [150, 50], ..init });
    let (batch, _) = host.scrape(&mut scraper, 10);
    assert_eq!(used(&batch, 50), None, "what init waited for was the grandchild's, and told before");
}

#[test]
fn an_id_that_was_taken_again_explains_what_its_parent_waited_for() {
    let (host, mut scraper) = family(&[child(42), child(43)]);
    host.process(&Spec { start: 1500, user: 1, system: 0, ..child(42) });
    host.remove(43);
    host.process(&Spec { waited: [1000 + 150 + 150 + 60, 500 + 50 + 50], ..parent() });
    let (batch, _) = host.scrape(&mut scraper, 10);
    near(used(&batch, 42), [1.0, 0.0]);
    near(used(&batch, 43), [210.0, 50.0]);
}

#[test]
fn what_a_program_used_before_it_became_another_is_its_own() {
    let (host, mut scraper) = family(&[child(42)]);
    host.process(&Spec { comm: b"other", user: 155, system: 51, ..child(42) });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 21);
    near(used(&batch, 42), [155.0, 51.0]);
    let names: Vec<_> = batch.resources().map(|r| r.attributes().get_str("process.executable.name").unwrap()).collect();
    assert_eq!(names, ["sh", "app", "other"], "the old name's last value, then the new one's first");
    assert_eq!(host.scrape(&mut scraper, 20).1.points, 7 + 7 + 3);
    assert_eq!(host.scrape(&mut scraper, 30).1.points, 14);
}

#[test]
fn one_that_vanished_while_it_was_read_is_asked_for_at_the_next_scrape() {
    let (host, mut scraper) = family(&[child(42)]);
    std::fs::remove_file(host.path("proc/42/stat")).unwrap();
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    near(used(&batch, 42), [150.0, 50.0]);
    assert!(values(&batch, 42, "process.memory.usage").iter().all(|(_, value)| value.is_none()), "closed at once");
    assert_eq!(outcome.points, 14, "its CPU time stands still until its parent was asked");
    host.process(&Spec { waited: [1151, 550], ..parent() });
    near(used(&host.scrape(&mut scraper, 20).0, 42), [151.0, 50.0]);
    assert_eq!(host.scrape(&mut scraper, 30).1.points, 10);
    assert_eq!(host.scrape(&mut scraper, 40).1.points, 7, "a folder without files is not waited for for ever");
}

#[test]
fn what_no_process_accounts_for_is_a_figure() {
    let busy = |host: &Host, ticks: u64| {
        host.file(
            "proc/stat",
            format!("cpu {ticks} 20 30 999 999 999 999 999 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n").as_bytes(),
        );
    };
    let (host, mut scraper) = family(&[child(42), child(43)]);
    let mut second = 0;
    let mut scrape = |host: &Host, scraper: &mut Process| {
        second += 10;
        host.scrape(scraper, second);
        host.unattributed()
    };
    busy(&host, 1000);
    scrape(&host, &mut scraper);
    busy(&host, 1400);
    host.process(&Spec { user: 250, ..child(42) });
    assert_eq!(scrape(&host, &mut scraper), 0.75, "100 of 400 ticks");
    busy(&host, 1800);
    host.remove(42);
    host.process(&Spec { waited: [1000 + 250 + 300, 500 + 50], ..parent() });
    host.process(&Spec { pid: 50, start: 131 * procfs::ticks_per_second(), user: 50, system: 0, ..child(50) });
    assert!((scrape(&host, &mut scraper) - 0.125).abs() < 1e-9, "what the dead one used, and a newborn, count");
    assert_eq!(scrape(&host, &mut scraper), 0.125, "an idle interval says nothing");
    let mut left_out = host.scraper("{exclude: {names: [app], match_type: strict}}", Naming::V0);
    scrape(&host, &mut left_out);
    busy(&host, 1900);
    host.process(&Spec { user: 250, ..child(43) });
    assert_eq!(scrape(&host, &mut left_out), 1.0, "what is left out by name is in no exported series");
}

/// A host of processes whose times are known, told through files.
struct World {
    host: Host,
    alive: Vec<Spec>,
    /// Ids that were there at a scrape: the others nobody has met.
    met: Vec<u32>,
    /// What a reader should have added up: clock ticks.
    truth: u64,
    scrapes: u64,
    next_pid: u32,
    /// Ticks that a process can still use in this interval.
    room: HashMap<u32, u64>,
}

/// Something that happens between two scrapes; the numbers choose among the processes there are.
#[derive(Clone, Debug)]
enum Event {
    Fork(usize),
    Burn(usize, u64, bool),
    /// A process ends and is waited for at once; `true`: it stays a zombie until its parent is told to wait.
    Exit(usize, bool),
    Wait(usize),
    Scrape,
}

fn event() -> impl Strategy<Value = Event> {
    let one = 0_usize..64;
    prop_oneof![
        3 => one.clone().prop_map(Event::Fork),
        6 => (one.clone(), 1_u64..400, any::<bool>()).prop_map(|(who, ticks, user)| Event::Burn(who, ticks, user)),
        3 => (one.clone(), any::<bool>()).prop_map(|(who, zombie)| Event::Exit(who, zombie)),
        1 => one.prop_map(Event::Wait),
        3 => Just(Event::Scrape),
    ]
}

impl World {
    fn new() -> Self {
        let host = Host::new();
        let init = Spec { pid: 1, parent: 0, start: 1, threads: 1, user: 5, system: 5, ..Spec::default() };
        host.stat(&init);
        World { host, alive: vec![init], met: vec![1], truth: 0, scrapes: 0, next_pid: 2, room: HashMap::new() }
    }

    fn place(&self, pid: u32) -> Option<usize> {
        self.alive.iter().position(|spec| spec.pid == pid)
    }

    /// `met_only`: nobody dies whom no scrape has met, and no process dies in one interval with its parent.
    fn happen(
        &mut self,
        event: &Event,
        scraper: &mut Process,
        met_only: bool,
        reader: &mut HashMap<(i64, u64, String), f64>,
    ) -> f64 {
        let running: Vec<usize> = (0..self.alive.len()).filter(|place| self.alive[*place].state != 'Z').collect();
        match *event {
            Event::Fork(who) => {
                let parent = self.alive[running[who % running.len()]].pid;
                let start = (110 + 10 * self.scrapes - 5) * procfs::ticks_per_second();
                let pid = self.next_pid;
                self.next_pid += 1;
                self.alive.push(Spec { pid, parent, start, threads: 1, user: 0, system: 0, ..Spec::default() });
            }
            Event::Burn(who, ticks, user) => {
                let spec = &mut self.alive[running[who % running.len()]];
                let room = self.room.entry(spec.pid).or_insert(interval());
                let ticks = ticks.min(*room);
                *room -= ticks;
                if user {
                    spec.user += ticks
                } else {
                    spec.system += ticks
                }
                self.truth += ticks;
            }
            Event::Exit(who, zombie) => {
                let spec = self.alive[running[who % running.len()]].clone();
                let orphans = self.alive.iter().any(|other| other.parent == spec.pid);
                if spec.pid == 1 || met_only && (orphans || !self.met.contains(&spec.pid)) {
                    return 0.0;
                }
                let place = self.place(spec.pid).unwrap();
                self.alive[place].state = 'Z';
                self.alive.iter_mut().filter(|other| other.parent == spec.pid).for_each(|other| other.parent = 1);
                if !zombie {
                    self.wait(place);
                }
            }
            Event::Wait(who) => {
                let zombies: Vec<usize> =
                    (0..self.alive.len()).filter(|place| self.alive[*place].state == 'Z').collect();
                if !zombies.is_empty() {
                    self.wait(zombies[who % zombies.len()]);
                }
            }
            Event::Scrape => return self.scrape(scraper, reader),
        }
        0.0
    }

    fn wait(&mut self, place: usize) {
        let dead = self.alive.remove(place);
        let parent = self.place(dead.parent).unwrap();
        let waited = &mut self.alive[parent].waited;
        *waited = [waited[0] + dead.user + dead.waited[0], waited[1] + dead.system + dead.waited[1]];
        if self.host.path(&format!("proc/{}", dead.pid)).exists() {
            self.host.remove(dead.pid);
        }
    }

    /// Scrapes, and returns the ticks that a reader adds: differences, and whole values of what began since it looks.
    fn scrape(&mut self, scraper: &mut Process, reader: &mut HashMap<(i64, u64, String), f64>) -> f64 {
        self.alive.iter().for_each(|spec| self.host.stat(spec));
        self.met.extend(self.alive.iter().map(|spec| spec.pid));
        self.room.clear();
        let (batch, _) = self.host.scrape(scraper, 10 * self.scrapes);
        self.scrapes += 1;
        let mut added = 0.0;
        for point in batch.series() {
            let pid = match point.metric().resource().attributes().get("process.pid") {
                Some(AnyValue::Int(pid)) => pid,
                other => panic!("{other:?}"),
            };
            let state = point.attributes().get_str("state").unwrap().to_owned();
            let Some(value) = point.value().filter(|_| state != "wait") else { continue };
            let value = value.as_f64() * procfs::ticks_per_second() as f64;
            let looked = (BOOT + 110) * NANOS;
            let base = if point.start_time() > looked { 0.0 } else { value };
            let last = reader.insert((pid, point.start_time(), state), value).unwrap_or(base);
            assert!(value >= last - 1e-6, "a counter fell from {last} to {value}");
            added += value - last;
        }
        added
    }
}

fn live(events: &[Event], met_only: bool) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let mut scraper = world.host.scraper(CPU_TIME_ONLY, Naming::V0);
    let mut reader = HashMap::new();
    let mut added = world.scrape(&mut scraper, &mut reader);
    for event in events.iter().chain([&Event::Scrape]) {
        added += world.happen(event, &mut scraper, met_only, &mut reader);
        if matches!(event, Event::Scrape) {
            let truth = world.truth as f64;
            prop_assert!(added <= truth + 1e-6, "{added} of {truth}");
            prop_assert!(!met_only || added >= truth - 1e-6, "{added} of {truth}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn where_parents_wait_nothing_that_was_used_is_missing(events in prop::collection::vec(event(), 0..120)) {
        live(&events, true)?;
    }

    #[test]
    fn never_more_than_was_used_is_told(events in prop::collection::vec(event(), 0..120)) {
        live(&events, false)?;
    }
}

#[test]
fn a_child_of_this_test_is_found_in_the_total() {
    let root = Root::new("");
    let boot = root.boot_time_seconds().unwrap();
    let mut scraper = scraper(
        "{mute_process_all_errors: true}",
        &root,
        (Naming::V0, boot * NANOS),
        Balance::new(::metrics::Gauge::noop()),
        &Folded::default(),
    );
    let mut scrape = || {
        let mut out = BatchBuilder::new();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        scraper.scrape(&Moment { unix_nanos: now.as_nanos() as u64, now: Instant::now() }, &mut out);
        out.finish()
    };
    let mut child = std::process::Command::new("sh")
        .args(["-c", "read go; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i64::from(child.id());
    // A new process may change its name between two readings.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let before = used(&scrape(), pid).unwrap();
    let waited = || {
        let own = procfs::process::Process::myself().unwrap().stat().unwrap();
        [own.cutime as f64, own.cstime as f64]
    };
    let then = waited();
    drop(child.stdin.take());
    child.wait().unwrap();
    let now = waited();
    let after = used(&scrape(), pid).expect("a last value");
    for mode in 0..2 {
        // Other tests of this process have children too, which nobody met: they may add to it.
        assert!(after[mode] <= now[mode] - then[mode] + 1e-6 + before[mode], "{before:?} {after:?} {then:?} {now:?}");
    }
    assert!(after.iter().sum::<f64>() > before.iter().sum::<f64>() + 1.0, "{before:?} {after:?}");
}
