//! `phoenix simulate`: the agent's controller against a modelled host or a recording, and two plain switches beside it.
//!
//! Answers with a table; writes a plot where it is asked to. No agent is needed or touched.

use clap::{Args, ValueEnum};
use phoenix_control::simulate::{Decider, Host, Recording, Report, Sample, Scenario, Switch, TABLE, Truth, run, svg};
use phoenix_control::{Controller, Settings};
use serde::Deserialize;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};

/// What is simulated.
#[derive(Args, Clone, Debug, PartialEq)]
pub(super) struct SimulateArgs {
    /// The load over time: constant, step, ramp, burst, leak, deploy, dead-sensor, diurnal or all
    #[arg(long, value_name = "NAME", default_value = "all")]
    scenario: String,
    /// How long
    #[arg(long, default_value_t = 168, value_parser = clap::value_parser!(u64).range(1..=8784))]
    hours: u64,
    /// The seed of all chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Series let out at most
    #[arg(long, value_name = "SERIES", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    budget: u32,
    /// Writes series out and the profile at work of the controller's run, as SVG; of one scenario only
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// What the controller is held against
    #[arg(long, value_enum, value_delimiter = ',')]
    against: Vec<Baseline>,
    /// Recorded estimates instead of a scenario: a line of JSON every 10 s, an agent's answer to GET /control/state or {"input": SERIES, "profiles": [[SERIES, ATTRIBUTION], ...]}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "hours"])]
    recording: Option<PathBuf>,
}

/// What the controller is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Baseline {
    /// Two thresholds on the series out, with dwell
    Thresholds,
    /// Two thresholds on their moving average, with dwell
    Ewma,
}

/// Where the numbers come from.
enum Load {
    Model(Scenario),
    Recorded(Vec<Truth>),
}

/// Runs what is asked for.
///
/// # Errors
/// An unknown scenario, a file that cannot be read or written, or a recording's line that is wrong.
pub(super) fn text(args: &SimulateArgs) -> Result<String, String> {
    let loads = match &args.recording {
        Some(path) => vec![("recording", Load::Recorded(recorded(path)?))],
        None => scenarios(&args.scenario)?.into_iter().map(|s| (s.name(), Load::Model(s))).collect(),
    };
    if args.plot.is_some() && loads.len() != 1 {
        return Err("--plot draws one scenario; name it with --scenario".into());
    }
    let mut out = format!("{TABLE}\n");
    for (name, load) in &loads {
        let budget = f64::from(args.budget);
        let mut controller = Controller::new(Settings { budget, ..Settings::default() });
        let (report, samples) = one(&mut controller, load, args);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", report.row(name, controller.name()));
        if let Some(path) = &args.plot {
            std::fs::write(path, svg(name, &samples, budget))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        for baseline in &args.against {
            let mut baseline = match baseline {
                Baseline::Thresholds => Switch::thresholds(budget),
                Baseline::Ewma => Switch::ewma(budget),
            };
            let (report, _) = one(&mut baseline, load, args);
            let _ = writeln!(out, "{}", report.row(name, baseline.name()));
        }
    }
    Ok(out)
}

fn one(decider: &mut dyn Decider, load: &Load, args: &SimulateArgs) -> (Report, Vec<Sample>) {
    let budget = f64::from(args.budget);
    match load {
        Load::Model(scenario) => {
            run(decider, &mut Host::new(*scenario, args.hours, args.seed), budget, Some(!args.seed))
        }
        Load::Recorded(moments) => run(decider, &mut Recording::new(moments.clone()), budget, None),
    }
}

fn scenarios(name: &str) -> Result<Vec<Scenario>, String> {
    let found: Vec<_> = Scenario::ALL.into_iter().filter(|scenario| name == "all" || name == scenario.name()).collect();
    if found.is_empty() {
        let names = Scenario::ALL.map(Scenario::name).join(", ");
        return Err(format!("no such scenario: {name:?}; there are {names} and all"));
    }
    Ok(found)
}

/// A line of a recording: what an agent answers to `GET /control/state`, of which the first stage with a budget counts, or
/// the numbers alone. Where one is missing the moment is unreadable.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Agent { stages: Vec<Stage> },
    Numbers { input: Option<f64>, profiles: Vec<(f64, f64)> },
}

#[derive(Deserialize)]
struct Stage {
    controlled: bool,
    series: Series,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(rename = "in")]
    input: Option<f64>,
}

#[derive(Deserialize)]
struct Profile {
    series: Option<f64>,
    attribution: Attribution,
}

#[derive(Deserialize)]
struct Attribution {
    cpu: Option<f64>,
}

impl Line {
    /// Series in, and series and attribution of each profile.
    fn numbers(self) -> (Option<f64>, Option<Vec<(f64, f64)>>) {
        match self {
            Line::Numbers { input, profiles } => (input, Some(profiles)),
            Line::Agent { stages } => stages.into_iter().find(|stage| stage.controlled).map_or((None, None), |stage| {
                // What nobody uses is attributed whole.
                let one = |profile: Profile| Some((profile.series?, profile.attribution.cpu.unwrap_or(1.0)));
                (stage.series.input, stage.profiles.into_iter().map(one).collect())
            }),
        }
    }
}

fn recorded(path: &Path) -> Result<Vec<Truth>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut moments: Vec<Truth> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |error: &dyn Display| format!("{}:{}: {error}", path.display(), number + 1);
        let (input, profiles) = serde_json::from_str::<Line>(line).map_err(|error| wrong(&error))?.numbers();
        let readable = input.is_some() && profiles.is_some();
        let before = moments.last().map(|last| &last.profiles);
        // Before the first estimate there is nothing to begin with.
        let Some(profiles) = profiles.or_else(|| before.cloned()) else { continue };
        if before.is_some_and(|before| before.len() != profiles.len()) {
            return Err(wrong(&"another number of profiles than in the line before"));
        }
        moments.push(Truth { input: input.unwrap_or_default(), profiles, readable, ..Truth::default() });
    }
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(scenario: &str) -> SimulateArgs {
        SimulateArgs {
            scenario: scenario.into(),
            hours: 8,
            seed: 1,
            budget: 2000,
            plot: None,
            against: vec![Baseline::Thresholds, Baseline::Ewma],
            recording: None,
        }
    }

    #[test]
    fn a_row_for_each_decider_and_a_plot() {
        let directory = tempfile::tempdir().unwrap();
        let plot = directory.path().join("step.svg");
        let table = text(&SimulateArgs { plot: Some(plot.clone()), ..args("step") }).unwrap();
        let deciders: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(deciders, ["controller", "thresholds", "ewma"]);
        assert!(std::fs::read_to_string(plot).unwrap().starts_with("<svg"));
        assert_eq!(text(&args("all")).unwrap().lines().count(), 1 + 3 * Scenario::ALL.len());
        assert!(text(&args("tide")).unwrap_err().contains("diurnal"));
        assert!(text(&SimulateArgs { plot: Some("x".into()), ..args("all") }).is_err());
    }

    #[test]
    fn a_recording_is_played_and_its_mistakes_have_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("recording");
        let played = |content: &str| {
            std::fs::write(&file, content).unwrap();
            text(&SimulateArgs { recording: Some(file.clone()), against: Vec::new(), ..args("all") })
        };
        let line = r#"{"input": 2600, "profiles": [[2600, 1], [900, 0.8]]}"#;
        let table = played(&format!("{line}\n{line}\n{line}\n")).unwrap();
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..6], ["recording", "controller", "1", "0", "1", "10"]);
        assert!(played(&format!("{line}\n{{\n")).unwrap_err().contains(":2: "));
        let fewer = r#"{"input": 2600, "profiles": [[2600, 1]]}"#;
        assert!(played(&format!("{line}\n{fewer}\n")).unwrap_err().contains(":2: another number"));
        // The same as an agent tells it, whose first answers are of nothing measured yet.
        let told = |input: &str, one: &str, other: &str| {
            let profiles = format!(
                r#"[{{"name": "a", "series": {one}, "attribution": {{"cpu": null}}}}, {{"name": "b", "series": {other}, "attribution": {{"cpu": 0.8}}}}]"#
            );
            format!(
                r#"{{"version": "1", "stages": [{{"controlled": false, "series": {{"in": 1}}, "profiles": []}}, {{"controlled": true, "series": {{"in": {input}, "out": 1}}, "profiles": {profiles}}}]}}"#
            )
        };
        let (none, some) = (told("null", "null", "null"), told("2600", "2600", "900"));
        assert_eq!(played(&format!("{none}\n{some}\n{some}\n{some}\n")).unwrap(), table);
        assert!(played(&format!("{some}\n{none}\n{some}\n{some}\n")).is_ok());
    }
}
