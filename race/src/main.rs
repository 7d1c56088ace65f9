//! Whole agents side by side under the same load: what a million data points cost each of them, and whether any were lost.
//!
//! `relay` stands between a generator and a backend of its own and lets each contestant carry the same requests, in turns.
//! The contestant has core 0 where there are two, everything else core 1. What it costs is read from `/proc`: CPU time of
//! all its threads, peak resident memory. The figures of a run stand in one table with their ratios to the first
//! contestant; `--save FILE` keeps them as data.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "to print is all it does")]

mod contestant;
mod load;
mod payload;
mod result;
mod sink;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::contestant::{Contestant, Ports};
use crate::payload::{Coding, Payload, Shape, warm_up};
use crate::result::{Agent, Race, Run, Setup};
use crate::sink::Sink;

/// Why a race could not be run.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// OTLP's transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// HTTP/2 with gRPC's framing.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// What stands between receiver and exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Chain {
    /// Nothing.
    Pass,
    /// The top processes by three measures, all others folded by program; for a Collector the nearest: sums by program.
    Thin,
    /// What the embedded default config runs: memory_limiter, cardinality, and three profiles.
    Full,
}

#[derive(Parser)]
#[command(about = "Races agents that carry OTLP metrics: CPU-seconds per million points, memory, latency, lost")]
struct Line {
    /// A contestant: NAME=COMMAND. The command line is run by a shell with RACE_CONFIG (the file
    /// race/configs/NAME/CHAIN.yaml), RACE_GRPC, RACE_HTTP, RACE_SINK (ports of the loopback), RACE_EXPORTER (otlp,
    /// otlphttp), RACE_COMPRESSION and RACE_STATE (an empty directory) set; the first one is what others are compared with.
    /// NAME@WORD has the configs of NAME: two builds of one agent.
    #[arg(long = "agent", required = true, value_name = "NAME=COMMAND")]
    agents: Vec<String>,
    #[arg(long, value_enum, default_value = "pass")]
    chain: Chain,
    /// Transport on both sides.
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: Protocol,
    /// Compression of what comes in.
    #[arg(long, value_enum, default_value = "none")]
    coding: Coding,
    /// Compression of what goes out, by its Collector name.
    #[arg(long, default_value = "none")]
    out: String,
    /// Size of the requests: a whole scrape, a tenth or a hundredth of it.
    #[arg(long, value_enum, default_value = "large")]
    shape: Shape,
    /// Hosts whose scrapes come in; each has 1,000 processes of 9 points.
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// Senders, each with a connection and some of the hosts, one request at a time.
    #[arg(long, default_value_t = 1)]
    senders: usize,
    /// Points in millions that each contestant carries in a round, after a warm-up of a tenth of it.
    #[arg(long, default_value_t = 3.0)]
    million: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Appends the result to this file, as one line of JSON.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Fault::from).and_then(|runtime| runtime.block_on(race(&line))) {
        Ok(race) => {
            println!("{race}");
            if race.lost() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn race(line: &Line) -> Result<Race, Fault> {
    contestant::make_room()?;
    let payload = Payload::make(line.shape, line.hosts, line.senders, line.coding, line.protocol, line.million)?;
    let setup = Setup {
        chain: name(&line.chain),
        protocol: name(&line.protocol),
        coding: [name(&line.coding), line.out.clone()],
        senders: payload.senders.len(),
        points: payload.points,
        bytes: payload.bytes,
        series: payload.series,
    };
    let mut agents = Vec::new();
    for agent in &line.agents {
        let (name, command) = agent.split_once('=').ok_or("a contestant is NAME=COMMAND")?;
        agents.push((Agent::new(name, command), command));
    }
    for round in 0..line.rounds {
        for (agent, command) in &mut agents {
            let run = run(line, &payload, &setup.chain, &agent.name, command).await?;
            eprintln!("round {} of {}: {}: {run}", round + 1, line.rounds, agent.name);
            agent.runs.push(run);
        }
    }
    let race = Race::new(setup, agents.into_iter().map(|(agent, _)| agent).collect());
    if let Some(file) = &line.save {
        race.save(file)?;
    }
    Ok(race)
}

/// One contestant carries the whole payload.
async fn run(line: &Line, payload: &Payload, chain: &str, name: &str, command: &str) -> Result<Run, Fault> {
    let sink = Sink::start().await?;
    let ports = Ports::free(sink.port)?;
    let contestant = Contestant::start(name, command, chain, ports, line.protocol, &line.out).await?;
    let port = if line.protocol == Protocol::Grpc { ports.grpc } else { ports.http };
    let mut senders = load::connect(payload, port, line.protocol, line.coding).await?;
    load::send(&mut senders, |all| 0..warm_up(all)).await?;
    let (cpu, taken) = (contestant.cpu()?, sink.taken());
    let heard = load::send(&mut senders, |all| warm_up(all)..all).await?;
    // What was answered may still be on its way out, where a contestant answers early.
    let mut last = sink.taken();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = sink.taken();
        if now == last {
            break;
        }
        last = now;
    }
    let used = contestant.cpu()? - cpu;
    let memory = contestant.peak_memory()?;
    let out = last.points - taken.points;
    let run = Run::new(&heard, used, memory, out, (chain == "pass").then_some(heard.points));
    drop(senders);
    contestant.end().await?;
    Ok(run)
}

/// The name of a choice on the command line.
fn name(of: &impl ValueEnum) -> String {
    of.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
