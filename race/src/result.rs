//! What came of a race: one row for each contestant, the medians of its rounds, as a table and as data.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::Fault;
use crate::load::Heard;

/// One round of one contestant.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Points that were acknowledged.
    points: u64,
    /// Acknowledged points a second.
    rate: f64,
    /// CPU-seconds per million points.
    cost: f64,
    /// Peak resident memory, MB.
    memory: f64,
    /// Milliseconds until an OK: half of all, and 99 %.
    latency: [f64; 2],
    /// Points that the backend has got for each that was acknowledged.
    out: f64,
    /// Requests that were not acknowledged, and points that should have reached the backend and did not.
    lost: u64,
    #[serde(skip)]
    refused: String,
}

impl Run {
    /// `expected`: points that must have come out, where the chain leaves all.
    pub fn new(heard: &Heard, cpu: f64, memory: u64, out: u64, expected: Option<u64>) -> Self {
        let million = heard.points as f64 / 1e6;
        let quantile = |part: f64| {
            let last = heard.latencies.len().saturating_sub(1);
            heard.latencies.get((part * last as f64) as usize).map_or(f64::NAN, |seconds| seconds * 1e3)
        };
        let refused: u64 = heard.refused.values().sum();
        let words: Vec<String> = heard.refused.iter().map(|(answer, count)| format!("{count} x {answer}")).collect();
        Run {
            points: heard.points,
            rate: heard.points as f64 / heard.seconds,
            cost: cpu / million,
            memory: memory as f64 / 1e6,
            latency: [quantile(0.5), quantile(0.99)],
            out: out as f64 / heard.points as f64,
            lost: refused + expected.map_or(0, |expected| expected.saturating_sub(out)),
            refused: words.join(", "),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { cost, rate, memory, lost, refused, .. } = self;
        write!(f, "{cost:.3} s/Mdp, {:.2} Mdp/s, {memory:.0} MB, {lost} lost", rate / 1e6)?;
        if refused.is_empty() { Ok(()) } else { write!(f, " ({refused})") }
    }
}

/// What all contestants had to carry, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    pub chain: String,
    pub protocol: String,
    /// Compression of what comes in, and of what goes out.
    pub coding: [String; 2],
    pub senders: usize,
    /// Data points and bytes on the wire of a request, in the mean.
    pub points: usize,
    pub bytes: usize,
    /// Series that live at any time.
    pub series: usize,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { chain, protocol, coding: [coding, out], senders, points, bytes, series } = self;
        let kb = bytes.div_ceil(1000);
        write!(
            f,
            "{chain}, {protocol} in, {protocol} out, {senders} senders, requests of {points} points ({kb} KB), "
        )?;
        write!(f, "{series} live series, {coding} in, {out} out")
    }
}

/// A contestant and what came of each of its rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    pub name: String,
    /// What its program says to `--version`, if anything.
    pub version: String,
    pub runs: Vec<Run>,
}

impl Agent {
    /// One that has not run yet, by its command line.
    pub fn new(name: &str, command: &str) -> Self {
        // The first word is the program, unless somebody sets a variable before it.
        let program = command.split_whitespace().next().unwrap_or_default();
        let version = said("timeout", &["5", program, "--version"]).unwrap_or_default();
        Agent { name: name.to_owned(), version, runs: Vec::new() }
    }
}

/// The first line that a program writes.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned())
}

/// All rounds of all contestants.
#[derive(Clone, Debug, Serialize)]
pub struct Race {
    setup: Setup,
    machine: String,
    date: String,
    agents: Vec<Agent>,
}

impl Race {
    pub fn new(setup: Setup, agents: Vec<Agent>) -> Self {
        let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cores.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let count = cores.lines().filter(|line| line.starts_with("processor")).count();
        let model = model.trim_start_matches([' ', '\t', ':']);
        let kernel = said("uname", &["-sr"]).unwrap_or_default();
        let date = said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default();
        Race { setup, machine: format!("{count} cores, {model}, {kernel}"), date, agents }
    }

    /// What was lost by anybody.
    pub fn lost(&self) -> u64 {
        self.agents.iter().flat_map(|agent| &agent.runs).map(|run| run.lost).sum()
    }

    /// Appends it to a file, as a line of JSON.
    pub fn save(&self, file: &Path) -> Result<(), Fault> {
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        Ok(writeln!(file, "{}", serde_json::to_string(self)?)?)
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half.wrapping_sub(1)), values.get(half)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}; {}\n", self.setup, self.machine, self.date)?;
        writeln!(
            f,
            "| Agent | CPU-s per million points (all rounds) | ratio | Mdp/s | peak MB | OK in ms, 99 % | points out per point in | lost |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        let first = self.agents.first().map_or(f64::NAN, |agent| median(&agent.runs, |run| run.cost));
        for Agent { name, runs, .. } in &self.agents {
            let cost = median(runs, |run| run.cost);
            let all: Vec<String> = runs.iter().map(|run| format!("{:.3}", run.cost)).collect();
            let [rate, memory] = [median(runs, |run| run.rate / 1e6), median(runs, |run| run.memory)];
            let [p50, p99] = [median(runs, |run| run.latency[0]), median(runs, |run| run.latency[1])];
            let (out, lost) = (median(runs, |run| run.out), runs.iter().map(|run| run.lost).sum::<u64>());
            writeln!(
                f,
                "| {name} | **{cost:.3}** ({}) | {:.1} | {rate:.2} | {memory:.0} | {p50:.1}, {p99:.1} | {out:.3} | {lost} |",
                all.join(", "),
                cost / first,
            )?;
        }
        Ok(())
    }
}
