//! The marking stages together: a host with a long tail, any order of stages, and what they cost.

#![allow(clippy::unwrap_used)] // outside of #[test] functions too, a test fails by panicking

#[path = "../src/measure/sample.rs"]
mod sample;

use std::collections::BTreeSet;
use std::time::Instant;

use phoenix_pipeline::config::parse;
use phoenix_pipeline::explain::Question;
use phoenix_pipeline::{Class, Context, Decision, Delivery, Entity, Marks, Processor, Site};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{AnyValue, Batch};
use proptest::prelude::*;
use sample::{Process, at, scrape};

fn stage(site: &Site, name: &str, config: &str) -> Box<dyn Processor> {
    let factory = PROCESSORS.iter().find(|factory| factory.name == name).unwrap();
    let site = Site { id: phoenix_pipeline::ComponentId::new(name), ..site.clone() };
    (factory.build)(&parse("marks.yaml", config).unwrap(), &site).unwrap()
}

fn run(stages: &mut [Box<dyn Processor>], batch: &mut Batch) -> Marks {
    let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
    for stage in stages {
        stage.process(batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks: &mut marks });
    }
    marks
}

/// Pid and decision of every process.
fn decisions(batch: &Batch, marks: &Marks) -> Vec<(i64, Decision)> {
    let of = |resource: phoenix_telemetry::Resource<'_>| match resource.attributes().get("process.pid") {
        Some(AnyValue::Int(pid)) => Some((pid, marks.of(Entity::Resource(resource.id())).decision)),
        _ => None,
    };
    batch.resources().filter_map(of).collect()
}

/// Numbers that look random and are the same in every run.
struct Chance(u64);

impl Chance {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// 1,000 processes: what each uses falls with its rank (a Zipf tail), with noise; old totals are unrelated to it. Every
/// interval a few end and others are born.
struct Host {
    processes: Vec<(Process, f64)>,
    chance: Chance,
    next_pid: i64,
}

impl Host {
    fn new(count: i64) -> Self {
        let mut chance = Chance(7);
        let process = |pid: i64| {
            let weight = 1.0 / pid as f64;
            let lifetime = Process {
                cpu: chance.next() * 1e5,
                memory: ((chance.next().powi(8) * 4e9) as i64) + 1_000_000,
                io: (chance.next() * 1e12) as i64,
                ..Process::new(pid, "worker", -100_000)
            };
            (lifetime, weight)
        };
        Host { processes: (1..=count).map(process).collect(), chance, next_pid: 100_000 }
    }

    /// Lets ten seconds pass until `second`; what each process used of CPU, by pid.
    fn pass(&mut self, second: i64) -> Vec<(i64, f64)> {
        for _ in 0..self.processes.len() / 200 {
            let i = (self.chance.next() * self.processes.len() as f64) as usize;
            self.next_pid += 1;
            self.processes[i].0 = Process { memory: 2_000_000, ..Process::new(self.next_pid, "young", second - 5) };
        }
        let mut used = Vec::new();
        for (process, weight) in &mut self.processes {
            let cpu = *weight * 8.0 * (0.5 + self.chance.next());
            process.cpu += cpu;
            process.io += (*weight * 1e8 * (0.5 + self.chance.next())) as i64;
            used.push((process.pid, cpu));
        }
        used
    }

    fn scrape(&self, second: i64) -> Batch {
        scrape("h", second, self.processes.iter().map(|(process, _)| process))
    }
}

fn share(all: &[(i64, f64)], kept: &BTreeSet<i64>) -> f64 {
    let total: f64 = all.iter().map(|(_, value)| value).sum();
    all.iter().filter(|(pid, _)| kept.contains(pid)).map(|(_, value)| value).sum::<f64>() / total
}

/// The pids with the largest values.
fn first(all: &[(i64, f64)], count: usize) -> BTreeSet<i64> {
    let mut all = all.to_vec();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.iter().take(count).map(|(pid, _)| *pid).collect()
}

#[test]
fn the_head_of_a_long_tail_stays_individual() {
    println!("  k | individual | precision | recall of top 20 | CPU | memory | I/O");
    for k in [20usize, 50, 100] {
        let site = Site::for_test("topk");
        let rank_by = "rank_by: [process.cpu.time, process.memory.usage, process.disk.io]";
        let mut by_cpu = vec![stage(&site, "topk", &format!("{{ k: {k}, rank_by: [process.cpu.time] }}"))];
        let mut by_all = vec![stage(&site, "topk", &format!("{{ k: {k}, {rank_by} }}"))];
        let mut host = Host::new(1000);
        let (mut hits, mut chosen, mut wanted, mut rounds) = (0usize, 0usize, 0usize, 0.0);
        let (mut individual, mut cpu, mut memory, mut io) = (0usize, 0.0, 0.0, 0.0);
        for round in 0..40 {
            let before: Vec<(i64, i64)> = host.processes.iter().map(|(p, _)| (p.pid, p.io)).collect();
            let used = host.pass(round * 10);
            let mut batch = host.scrape(round * 10);
            let marks = run(&mut by_cpu, &mut batch);
            let open = |batch: &Batch, marks: &Marks| -> BTreeSet<i64> {
                let open = decisions(batch, marks).into_iter().filter(|(_, decision)| *decision != Decision::Fold);
                open.map(|(pid, _)| pid).collect()
            };
            let kept_by_cpu = open(&batch, &marks);
            let marks = run(&mut by_all, &mut batch);
            let kept = open(&batch, &marks);
            if round == 0 {
                continue;
            }
            let levels: Vec<(i64, f64)> = host.processes.iter().map(|(p, _)| (p.pid, p.memory as f64)).collect();
            let bytes = |(p, _): &(Process, f64)| {
                let old = before.iter().find(|(pid, _)| *pid == p.pid).map_or(0, |(_, io)| *io);
                (p.pid, (p.io - old) as f64)
            };
            let bytes: Vec<(i64, f64)> = host.processes.iter().map(bytes).collect();
            for (sum, measure) in [(&mut cpu, &used), (&mut memory, &levels), (&mut io, &bytes)] {
                let (share, best) = (share(measure, &kept), share(measure, &first(measure, k)));
                assert!(share > 0.8 * best, "nearly what the first {k} of this interval have: {share} of {best}");
                *sum += share;
            }
            individual += kept.len();
            rounds += 1.0;
            let top = first(&used, 20);
            hits += top.intersection(&kept_by_cpu).count();
            wanted += top.len();
            chosen += kept_by_cpu.len();
        }
        let (precision, recall) = (hits as f64 / chosen as f64, hits as f64 / wanted as f64);
        let (cpu, memory, io) = (cpu / rounds, memory / rounds, io / rounds);
        println!(
            "{k:>3} | {:>10.0} | {precision:>9.3} | {recall:>16.3} | {cpu:.3} | {memory:.3} | {io:.3}",
            individual as f64 / rounds
        );
        assert!(recall > if k > 20 { 0.95 } else { 0.8 }, "the true top 20 are among the first {k}: {recall}");
        assert!(k > 20 || precision > 0.5, "{precision}");
        assert!(cpu > 0.45 && memory > 0.2 && io > 0.45, "{cpu} {memory} {io}");
        assert!(individual as f64 / rounds <= 3.0 * 2.0 * k as f64);
    }
}

const PRIORITY: &str = r#"
rules:
  - { class: critical, match: { process.executable.name: [db] } }
  - { class: low, match: { process.executable.name: [helper] } }
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Critical entities are never folded and low ones are unless they are unusual, in whatever order the stages stand.
    #[test]
    fn what_is_critical_is_kept_in_any_order(
        order in Just(["priority", "topk", "adaptive_filter"]).prop_shuffle(),
        kinds in prop::collection::vec((0..3usize, 0..1000i64), 1..60),
        rounds in 1..4i64,
    ) {
        let site = Site::for_test("x");
        let config = |name: &str| match name {
            "priority" => PRIORITY,
            "topk" => "{ k: 2, rank_by: [process.memory.usage], min_stay: 0s }",
            _ => "{ measures: { process.memory.usage: {} }, pressure: 1, unusual: { factor: 0 } }",
        };
        let mut stages: Vec<Box<dyn Processor>> = order.iter().map(|name| stage(&site, name, config(name))).collect();
        for round in 0..rounds {
            let names = ["db", "helper", "other"];
            let process = |(pid, (kind, memory)): (i64, &(usize, i64))| {
                Process { memory: memory * (round + pid) % 1009, ..Process::new(pid, names[*kind], -10) }
            };
            let processes: Vec<Process> = (1..).zip(&kinds).map(process).collect();
            let mut batch = scrape("h", round * 10, &processes);
            let marks = run(&mut stages, &mut batch);
            for (resource, (kind, _)) in batch.resources().zip(&kinds) {
                let mark = marks.of(Entity::Resource(resource.id()));
                match kind {
                    0 => prop_assert_eq!((mark.decision, mark.class), (Decision::Keep, Class::Critical)),
                    1 => prop_assert_eq!((mark.decision, mark.class), (Decision::Fold, Class::Low)),
                    _ => prop_assert!(mark.decision != Decision::Keep),
                }
            }
        }
    }
}

#[test]
fn the_log_tells_what_each_stage_said_and_is_written_only_on_change() {
    let site = Site::for_test("x");
    let mut stages = vec![
        stage(&site, "priority", PRIORITY),
        stage(&site, "topk", "{ k: 1, rank_by: [process.memory.usage] }"),
        stage(&site, "adaptive_filter", "{ measures: { process.memory.usage: {} }, unusual: { factor: 0 } }"),
    ];
    let process = |(pid, name, memory)| Process { memory, ..Process::new(pid, name, -10) };
    let host = [(1, "db", 1), (2, "helper", 2), (3, "other", 3), (4, "other", 4)].map(process);
    for second in (0..100).step_by(10) {
        run(&mut stages, &mut scrape("h", second, &host));
    }
    let ask = |pid| -> Vec<String> {
        let answer: serde_json::Value = serde_json::from_str(&site.explain.answer(&Question::Pid(pid))).unwrap();
        let decisions = answer["entities"][0]["decisions"].as_array().unwrap().iter();
        decisions
            .map(|told| {
                assert_eq!(told["time_unix_nano"], at(0).to_string(), "only the first time");
                format!("{} {} {}", told["stage"], told["decision"], told["reason"]).replace('"', "")
            })
            .collect()
    };
    assert_eq!(ask(1), ["priority keep priority_critical"]);
    assert_eq!(ask(2), ["priority fold priority_low"]);
    assert_eq!(ask(3), ["topk fold topk_rank"]);
    assert_eq!(ask(4), ["adaptive_filter individual adaptive_above", "topk individual topk_process.memory.usage"]);
}

/// A figure to look at, `cargo test --release -p phoenix-processors --test marks -- --nocapture cost`; asserted is only
/// that nothing is out of proportion, since tests also run unoptimised and beside others.
#[test]
fn the_cost_of_a_scrape_is_small() {
    let site = Site::for_test("x");
    let mut stages = [
        stage(&site, "priority", "presets: [node_essentials, container_runtimes, databases, init, self]"),
        stage(&site, "topk", ""),
        stage(&site, "adaptive_filter", ""),
    ];
    let mut host = Host::new(1000);
    let (mut best, mut marks) = ([f64::MAX; 3], Marks::default());
    for round in 0..20 {
        host.pass(round * 10);
        let mut batch = host.scrape(round * 10);
        assert_eq!(batch.points(), 9000);
        marks.clear();
        for (stage, best) in stages.iter_mut().zip(&mut best) {
            let mut delivery = Delivery::none();
            let begin = Instant::now();
            stage.process(&mut batch, &mut Context { now: begin, delivery: &mut delivery, marks: &mut marks });
            *best = best.min(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    println!(
        "1,000 processes x 9 points, microseconds: priority {:.0}, topk {:.0}, adaptive_filter {:.0}",
        best[0], best[1], best[2]
    );
    assert!(best.iter().sum::<f64>() < 100_000.0);
}
