//! The fault list, run against a real agent: `list`, `run NAME...`, `all`, each in a short and a `--long` form.
//!
//! A load and a backend that this program controls stand around an agent process. A fault is injected, everything is left to
//! drain, and an oracle that saw every request and every answer says what became of each acknowledged point. Exit status 1
//! says that the promise of `docs/reliability.md` was broken. Nothing of the agent's code is used here but its program.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)]

mod agent;
mod faults;
mod load;
mod oracle;
mod relay;
mod sink;
mod world;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::faults::{ALL, COST, Case, Form};
use crate::relay::Relay;
use crate::world::Outcome;

/// Why a fault could not be run to its end.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Runs the fault list against a real agent")]
struct Line {
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Names the faults.
    List,
    /// Runs the named faults.
    Run {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Runs all faults.
    All {
        #[command(flatten)]
        how: How,
    },
    /// A wire between two ports, as a process that can be stopped.
    #[command(hide = true)]
    Relay { port: u16, to: u16 },
}

#[derive(clap::Args)]
struct How {
    /// The long forms: minutes instead of seconds each.
    #[arg(long)]
    long: bool,
    /// The agent's program; else it is built, with this program's profile.
    #[arg(long)]
    agent: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Line::parse().order {
        Order::List => {
            for case in ALL.iter().chain([&COST]) {
                println!("{:<18} {}", case.name, case.about);
            }
            ExitCode::SUCCESS
        }
        Order::Run { names, how } => {
            let known =
                |name: &String| ALL.iter().chain([&COST]).find(|case| case.name == name).ok_or_else(|| name.clone());
            match names.iter().map(known).collect::<Result<Vec<_>, _>>() {
                Ok(cases) => run(&cases, &how),
                Err(name) => fail(&format!("there is no fault {name}; `list` names them").into()),
            }
        }
        Order::All { how } => run(&ALL.iter().collect::<Vec<_>>(), &how),
        Order::Relay { port, to } => match runtime().and_then(|runtime| runtime.block_on(relay(port, to))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
    }
}

fn fail(error: &Fault) -> ExitCode {
    println!("{error}");
    ExitCode::FAILURE
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn relay(port: u16, to: u16) -> Result<(), Fault> {
    let _relay = Relay::at(port, to).await?;
    std::future::pending().await
}

/// The agent's program, built if none is named.
fn program(how: &How) -> Result<PathBuf, Fault> {
    if let Some(path) = &how.agent {
        return Ok(path.canonicalize()?);
    }
    let own = std::env::current_exe()?;
    let directory = own.parent().ok_or("this program lies nowhere")?;
    let profile = if directory.ends_with("release") { "release" } else { "dev" };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let target = directory.parent().ok_or("this program lies nowhere")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "-p",
        "phoenix",
        "--profile",
        profile,
        "--manifest-path",
        manifest,
        "--target-dir",
    ]);
    if !build.arg(target).status()?.success() {
        return Err("the agent does not build".into());
    }
    Ok(directory.join("phoenix"))
}

/// Runs faults one after the other and prints a table.
fn run(cases: &[&Case], how: &How) -> ExitCode {
    let agent = match program(how) {
        Ok(agent) => agent,
        Err(error) => return fail(&error),
    };
    let form = Form { long: how.long, agent };
    println!(
        "| fault | result | acknowledged | delivered | lost | given up, as counted | duplicates | seconds | seen |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut passed = true;
    for case in cases {
        passed &= one(case, &form);
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one fault and prints its line. Whether the promise was kept.
fn one(case: &Case, form: &Form) -> bool {
    if case.mounts && std::env::var_os(faults::OWN_MOUNTS).is_none() {
        return faults::in_own_mounts(case.name, form);
    }
    let began = Instant::now();
    let limit = Duration::from_secs(if form.long { 600 } else { 120 });
    let outcome = runtime().and_then(|runtime| {
        let ran = runtime.block_on(async { tokio::time::timeout(limit, (case.run)(form.clone())).await });
        ran.unwrap_or_else(|_| Err(format!("not done after {limit:?}").into()))
    });
    let seconds = began.elapsed().as_secs_f64();
    match outcome {
        Ok(outcome) => {
            let passed = outcome.passed();
            println!("{}", line(case.name, &outcome, seconds));
            passed
        }
        Err(error) => {
            println!("| {} | FAILED | | | | | | {seconds:.0} | {error} |", case.name);
            false
        }
    }
}

fn line(name: &str, outcome: &Outcome, seconds: f64) -> String {
    let result = if outcome.passed() { "kept" } else { "BROKEN" };
    let counted: Vec<String> = outcome.counted.iter().map(|(cause, points)| format!("{points} {cause}")).collect();
    let mut seen = outcome.notes.clone();
    seen.extend(outcome.wrong.iter().map(|wrong| format!("WRONG: {wrong}")));
    if outcome.verdict.altered > 0 {
        seen.push(format!("WRONG: {} points altered", outcome.verdict.altered));
    }
    let verdict = &outcome.verdict;
    format!(
        "| {name} | {result} | {} | {} | {} | {} | {} | {seconds:.0} | {} |",
        verdict.acknowledged,
        verdict.delivered,
        outcome.lost,
        counted.join(", "),
        verdict.duplicates,
        seen.join("; "),
    )
}
