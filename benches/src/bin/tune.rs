//! Chooses the numbers of the plain switches on the training seeds; with `training` or `held-out` prints how they and the
//! controller do on those seeds: the table of `docs/control.md`.
#![allow(clippy::print_stdout, reason = "to print is all it does")]

use phoenix_control::simulate::{Decider, HELD_OUT, Host, Report, Scenario, Switch, TABLE, TRAINING, run};
use phoenix_control::{Controller, Settings};

const BUDGET: f64 = 2000.0;
const HOURS: u64 = 24;

/// What a decider comes to under one scenario, the sums of all seeds and the mean attribution.
fn sum(scenario: Scenario, seeds: std::ops::Range<u64>, mut decider: impl FnMut() -> Box<dyn Decider>) -> Report {
    let number = seeds.clone().count() as f64;
    let mut sum = Report::default();
    for seed in seeds {
        let (one, _) = run(decider().as_mut(), &mut Host::new(scenario, HOURS, seed), BUDGET, Some(!seed));
        sum.switches += one.switches;
        sum.reversals += one.reversals;
        sum.breaches += one.breaches;
        sum.above += one.above;
        sum.billed += one.billed;
        sum.settling = sum.settling.max(one.settling);
        sum.overshoot = sum.overshoot.max(one.overshoot);
        sum.attribution += one.attribution / number;
    }
    sum
}

/// Breaches and reversals, and mean attribution, over all scenarios.
fn score(seeds: std::ops::Range<u64>, decider: impl Fn() -> Box<dyn Decider>) -> (u32, f64) {
    let all: Vec<Report> = Scenario::ALL.into_iter().map(|scenario| sum(scenario, seeds.clone(), &decider)).collect();
    let kept = all.iter().map(|report| report.attribution).sum::<f64>() / all.len() as f64;
    (all.iter().map(|report| report.breaches + report.reversals).sum(), kept)
}

fn controller() -> Box<dyn Decider> {
    Box::new(Controller::new(Settings { budget: BUDGET, ..Settings::default() }))
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("training") => return table(TRAINING),
        Some("held-out") => return table(HELD_OUT),
        _ => {}
    }
    let (ours, kept) = score(TRAINING, controller);
    println!("controller: {ours} breaches and reversals, attribution {kept:.4}");
    for kind in [Switch::thresholds(BUDGET), Switch::ewma(BUDGET)] {
        let mut all: Vec<_> = kind.all().map(|switch| (score(TRAINING, || Box::new(switch)), switch)).collect();
        all.sort_by(|a, b| a.0.0.cmp(&b.0.0).then(b.0.1.total_cmp(&a.0.1)));
        for ((bad, attribution), switch) in all.iter().filter(|(score, _)| score.1 >= kept).take(3) {
            println!("{bad} breaches and reversals, attribution {attribution:.4}: {switch:?}");
        }
        if let Some(((bad, attribution), switch)) = all.first() {
            println!("whatever it keeps: {bad}, attribution {attribution:.4}: {switch:?}");
        }
    }
}

fn table(seeds: std::ops::Range<u64>) {
    println!("{TABLE}");
    for scenario in Scenario::ALL {
        let deciders: [fn() -> Box<dyn Decider>; 3] =
            [controller, || Box::new(Switch::thresholds(BUDGET)), || Box::new(Switch::ewma(BUDGET))];
        for decider in deciders {
            let report = sum(scenario, seeds.clone(), decider);
            println!("{}", report.row(scenario.name(), decider().name()));
        }
    }
}
