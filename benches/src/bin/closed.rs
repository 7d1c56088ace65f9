//! The controller on the real chain and on the simulator's model of it, under the same loads:
//! `cargo run --release -p phoenix-benches --bin closed -- [HOURS [SCENARIO..]]`. Two hours of all scenarios by default.
#![allow(clippy::print_stdout, reason = "to print is all it does")]

use std::error::Error;

use phoenix_benches::closed::Chain;
use phoenix_control::simulate::{Host, Scenario, Source, TABLE, run};
use phoenix_control::{Controller, Settings};

/// A host that neither the controller nor the baselines were chosen with.
const SEED: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let hours = arguments.next().map_or(Ok(2), |hours| hours.parse())?;
    let wanted: Vec<String> = arguments.collect();
    println!("{TABLE}  MEAN");
    for scenario in Scenario::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == scenario.name()) {
            continue;
        }
        let mut chain = Chain::new(scenario, hours, SEED).map_err(|error| format!("{error:?}"))?;
        let mut model = Host::new(scenario, hours, SEED);
        let plants: [(&str, &mut dyn Source, Option<u64>); 2] =
            [("chain", &mut chain, None), ("model", &mut model, Some(SEED))];
        for (plant, source, seed) in plants {
            let settings = Settings::default();
            let budget = settings.budget;
            let (report, samples) = run(&mut Controller::new(settings), source, budget, seed);
            let mean = samples.iter().map(|sample| sample.output).sum::<f64>() / samples.len().max(1) as f64;
            println!("{}  {mean:.0}", report.row(scenario.name(), plant));
        }
    }
    Ok(())
}
