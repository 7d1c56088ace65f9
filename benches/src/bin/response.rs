//! Measures the response of each profile on the real chain and prints `control/src/simulate/measured.rs`:
//! `cargo run --release -p phoenix-benches --bin response > measured.rs`, then put it in its place.
#![allow(clippy::print_stdout, reason = "to print is all it does")]

use std::error::Error;

use phoenix_benches::adaptive::{CHURN, PRESSURE, PROCESSES, PROFILES, response};

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "//! Written by `cargo run --release -p phoenix-benches --bin response`; a test there holds it to the code.\n"
    );
    println!("/// Profiles of the table.\npub const PROFILES: usize = {};", PROFILES.len());
    println!("/// Their names, least thinning first.\npub const NAMES: [&str; PROFILES] = {PROFILES:?};");
    println!("/// Processes.\npub(super) const PROCESSES: [f64; {}] = {PROCESSES:?};", PROCESSES.len());
    println!("/// Processes replaced in a cycle.\npub(super) const CHURN: [f64; {}] = {CHURN:?};", CHURN.len());
    println!("pub(super) const PRESSURE: [f64; {}] = {PRESSURE:?};", PRESSURE.len());
    println!("/// By processes, churn, pressure and profile: individual, grouped, window, attribution.");
    println!("#[rustfmt::skip]");
    let shape = format!("[[[[[f64; 4]; PROFILES]; {}]; {}]; {}]", PRESSURE.len(), CHURN.len(), PROCESSES.len());
    println!("pub(super) const MEASURED: {shape} = [");
    for processes in PROCESSES {
        println!("    [ // {processes} processes");
        for churn in CHURN {
            println!("        [");
            for pressure in PRESSURE {
                let profiles: Vec<String> = response(processes, churn, pressure)
                    .map_err(|error| format!("{error:?}"))?
                    .iter()
                    .map(|r| {
                        format!(
                            "[{:.0}.0, {:.0}.0, {:.0}.0, {:?}]",
                            r.individual,
                            r.grouped,
                            r.window,
                            (r.attribution * 1e3).round() / 1e3
                        )
                    })
                    .collect();
                println!("            [{}],", profiles.join(", "));
            }
            println!("        ],");
        }
        println!("    ],");
    }
    println!("];");
    Ok(())
}
