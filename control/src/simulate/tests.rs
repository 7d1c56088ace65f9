use super::*;
use crate::Settings;

const BUDGET: f64 = 2000.0;

fn of(decider: &mut dyn Decider, scenario: Scenario, hours: u64, seed: u64) -> (Report, Vec<Sample>) {
    run(decider, &mut Host::new(scenario, hours, seed), BUDGET, seed ^ 1)
}

fn controller() -> Controller {
    Controller::new(Settings { budget: BUDGET, ..Settings::default() })
}

#[test]
fn a_day_of_constant_noisy_load_has_no_oscillation() {
    for seed in 0..10 {
        let (report, _) = of(&mut controller(), Scenario::Constant, 24, seed);
        assert!(report.switches <= 1 && report.reversals == 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn a_threefold_step_is_answered_within_two_cycles() {
    for seed in 0..10 {
        let (report, samples) = of(&mut controller(), Scenario::Step, 8, seed);
        assert_eq!(report.breaches, 1, "seed {seed}: {report:?}");
        assert!(report.settling <= 2 * CYCLE, "seed {seed}: {report:?}");
        assert_eq!(samples.last().map(|sample| sample.profile), Some(0), "seed {seed}: it relaxes again");
    }
}

#[test]
fn it_beats_both_plain_switches_on_breaches_and_reversals_together() {
    for scenario in Scenario::ALL {
        for seed in 0..2 {
            let score = |decider: &mut dyn Decider| {
                let report = of(decider, scenario, 48, seed).0;
                report.breaches + report.reversals
            };
            let ours = score(&mut controller());
            let theirs = [score(&mut Thresholds { budget: BUDGET }), score(&mut Ewma::new(BUDGET))];
            assert!(theirs.iter().all(|theirs| ours <= *theirs), "{scenario:?} {seed}: {ours} {theirs:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_a_recording_gives_it_back() {
    let one = of(&mut controller(), Scenario::Diurnal, 24, 7);
    assert_eq!(one, of(&mut controller(), Scenario::Diurnal, 24, 7));
    let truth = Truth { input: 2500.0, profiles: vec![(2500.0, 1.0), (900.0, 0.8)], readable: true };
    let (report, samples) = run(&mut controller(), &mut Recording::new(vec![truth; 20]), BUDGET, 1);
    assert_eq!((samples.len(), report.switches, report.breaches), (20, 1, 1));
}

#[test]
fn a_plot_holds_the_highest_breach_of_a_week() {
    let (report, samples) = of(&mut controller(), Scenario::Burst, 168, 1);
    let picture = svg("a <b>", &samples, BUDGET);
    assert!(report.overshoot > 0.0 && picture.contains("a &lt;b>") && picture.len() < 100_000);
    // The highest sample stands 5 % below the upper end.
    assert!(picture.contains(&format!(",{:.1} ", 300.0 * (1.0 - 1.0 / 1.05))));
}
