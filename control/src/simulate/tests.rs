use super::*;
use crate::Settings;

const BUDGET: f64 = 2000.0;

fn of(decider: &mut dyn Decider, scenario: Scenario, hours: u64, seed: u64) -> (Report, Vec<Sample>) {
    run(decider, &mut Host::new(scenario, hours, seed), BUDGET, Some(!seed))
}

fn controller() -> Controller {
    Controller::new(Settings { budget: BUDGET, ..Settings::default() })
}

#[test]
fn a_day_of_constant_noisy_load_has_no_oscillation() {
    for seed in HELD_OUT {
        let (report, _) = of(&mut controller(), Scenario::Constant, 24, seed);
        // Once to each tighter profile, and never back.
        assert!(report.switches <= 2 && report.reversals == 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn a_threefold_step_is_answered_within_two_cycles() {
    for seed in HELD_OUT {
        let (_, samples) = of(&mut controller(), Scenario::Step, 8, seed);
        let step = samples.iter().position(|sample| sample.output > BUDGET).unwrap();
        // On the largest hosts three times the load is more than the tightest profile can take.
        let answered = samples[step + 2];
        let held = answered.output <= BUDGET || answered.profile == 2;
        assert!(answered.profile > 0 && held, "seed {seed}: {answered:?}");
        assert_eq!(samples.last().map(|sample| sample.profile), Some(0), "seed {seed}: it relaxes again");
    }
}

/// Over all scenarios; `docs/control.md` says in which it does not.
#[test]
fn it_beats_both_plain_switches_on_breaches_and_reversals_together() {
    let score = |decider: fn() -> Box<dyn Decider>| {
        let runs = HELD_OUT.take(3).flat_map(|seed| Scenario::ALL.map(|scenario| (scenario, seed)));
        let reports = runs.map(|(scenario, seed)| of(decider().as_mut(), scenario, 24, seed).0);
        reports.map(|report| report.breaches + report.reversals).sum::<u32>()
    };
    let ours = score(|| Box::new(controller()));
    let theirs = [score(|| Box::new(Switch::thresholds(BUDGET))), score(|| Box::new(Switch::ewma(BUDGET)))];
    assert!(theirs.iter().all(|theirs| ours < *theirs), "{ours} {theirs:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_a_recording_gives_it_back() {
    let one = of(&mut controller(), Scenario::Diurnal, 24, 7);
    assert_eq!(one, of(&mut controller(), Scenario::Diurnal, 24, 7));
    let truth =
        Truth { input: 2500.0, profiles: vec![(2500.0, 1.0), (900.0, 0.8)], readable: true, ..Truth::default() };
    let (report, samples) = run(&mut controller(), &mut Recording::new(vec![truth; 20]), BUDGET, None);
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
