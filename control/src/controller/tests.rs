use super::*;
use proptest::prelude::*;

const CYCLE: u64 = 10;

fn seen(active: usize, series: &[f64]) -> Observation {
    let profiles = series.iter().map(|series| crate::Shadow { series: Some(*series), attribution: None }).collect();
    Observation { error: 0.0081, active, profiles, ..Observation::default() }
}

/// Runs cycles of the same load and answers the profile at the end and all decisions.
fn run(controller: &mut Controller, from: u64, cycles: u64, start: usize, load: &[f64]) -> Vec<Decision> {
    let mut active = start;
    (0..cycles)
        .map(|cycle| {
            let decision = controller.step(Duration::from_secs((from + cycle) * CYCLE), &seen(active, load));
            active = decision.after;
            decision
        })
        .collect()
}

#[test]
fn under_the_budget_nothing_is_folded() {
    let decisions = run(&mut Controller::new(Settings::default()), 0, 1000, 0, &[1900.0, 500.0, 200.0]);
    assert!(decisions.iter().all(|d| d.after == 0 && d.pressure == 0.0));
}

#[test]
fn a_threefold_step_is_answered_by_the_loosest_profile_that_fits() {
    let mut controller = Controller::new(Settings::default());
    run(&mut controller, 0, 30, 0, &[900.0, 500.0, 200.0]);
    let after = run(&mut controller, 30, 2, 0, &[2700.0, 1500.0, 600.0]);
    assert_eq!(after[0].after, 1, "{after:?}");
    assert_eq!(after[1].after, 1);
}

#[test]
fn a_little_above_is_confirmed_first() {
    let mut controller = Controller::new(Settings::default());
    let decisions = run(&mut controller, 0, 2, 0, &[2020.0, 900.0]);
    assert_eq!(decisions[0].guards, [Guard::Confirmation]);
    assert_eq!(decisions[1].r#move, Move::Tighten);
}

#[test]
fn it_relaxes_only_when_a_looser_shadow_has_fitted_for_a_window() {
    let mut controller = Controller::new(Settings::default());
    assert_eq!(run(&mut controller, 0, 40, 1, &[1830.0, 900.0]).last().unwrap().guards, [Guard::ShadowAbove]);
    let decisions = run(&mut controller, 40, 40, 1, &[1700.0, 900.0]);
    let at = decisions.iter().position(|d| d.r#move == Move::Relax).unwrap();
    assert_eq!(at as u64, 300 / CYCLE);
    let mut blind = seen(1, &[0.0, 900.0]);
    blind.profiles[0].series = None;
    let decision = Controller::new(Settings::default()).step(Duration::ZERO, &blind);
    assert_eq!(decision.guards, [Guard::ShadowUnknown]);
}

#[test]
fn from_any_switch_it_waits_for_the_dwell() {
    let mut controller = Controller::new(Settings::default());
    let up = run(&mut controller, 0, 2, 0, &[3500.0, 900.0]);
    assert_eq!(up[1].after, 1);
    let decisions = run(&mut controller, 2, 400, 1, &[1000.0, 900.0]);
    let at = decisions.iter().position(|d| d.r#move == Move::Relax).unwrap() as u64;
    assert!((at + 2) * CYCLE >= Settings::default().relax_dwell.as_secs(), "{at}");
}

/// A profile that thins may let out more than the one before it: what comes and goes in it costs series too.
#[test]
fn a_profile_that_does_not_fit_is_passed_over_both_ways() {
    let mut controller = Controller::new(Settings::default());
    let up = run(&mut controller, 0, 2, 0, &[2300.0, 2500.0, 1500.0]);
    assert_eq!(up[1].after, 2);
    let down = run(&mut controller, 2, 400, 2, &[1600.0, 1850.0, 1100.0]);
    assert_eq!(down.last().unwrap().after, 0);
    assert!(down.iter().all(|decision| decision.after != 1));
}

#[test]
fn an_oscillating_load_is_locked_out_and_a_rate_limited_one_held() {
    let mut controller = Controller::new(Settings::default());
    let (mut active, mut switches, mut locked) = (0, 0, false);
    for cycle in 0..6 * 360_u64 {
        let load: &[f64] = if (cycle / 40) % 2 == 0 { &[2500.0, 900.0] } else { &[1000.0, 400.0] };
        let decision = controller.step(Duration::from_secs(cycle * CYCLE), &seen(active, load));
        switches += usize::from(decision.after != active);
        locked |= decision.guards.contains(&Guard::OscillationLockout);
        active = decision.after;
    }
    assert!(locked);
    assert!(switches <= 16, "{switches} in six hours, of 54 changes of the load");
}

#[test]
fn emergencies_wait_for_nothing_and_hold_for_their_lockout() {
    for (emergency, set) in [
        (Emergency::Memory, (|o: &mut Observation| o.memory = Some(0.95)) as fn(&mut Observation)),
        (Emergency::Explosion, |o| o.explosion = true),
    ] {
        let mut controller = Controller::new(Settings::default());
        let mut now = seen(0, &[100.0, 50.0, 20.0]);
        set(&mut now);
        let decision = controller.step(Duration::from_secs(10), &now);
        assert_eq!((decision.after, decision.pressure, decision.emergency), (2, 1.0, Some(emergency)));
        let calm = run(&mut controller, 2, 200, 2, &[100.0, 50.0, 20.0]);
        let relaxed = calm.iter().position(|d| d.r#move == Move::Relax).unwrap() as u64;
        assert!(relaxed * CYCLE + 10 >= 600, "{relaxed}");
    }
    let mut controller = Controller::new(Settings::default());
    let decision = controller.step(Duration::ZERO, &seen(0, &[3100.0, 2500.0, 1500.0]));
    assert_eq!((decision.after, decision.emergency), (2, Some(Emergency::HardCeiling)));
}

#[test]
fn a_person_wins_until_the_choice_expires() {
    let mut controller = Controller::new(Settings::default());
    let mut now = seen(1, &[3000.0, 900.0]);
    now.manual = Some(crate::Manual { profile: 0, until: Some(Duration::from_secs(60)) });
    let decision = controller.step(Duration::from_secs(10), &now);
    assert_eq!((decision.after, decision.guards.as_slice()), (0, &[Guard::Manual][..]));
    now.active = 0;
    let decision = controller.step(Duration::from_secs(20), &now);
    assert_eq!(decision.conflict, Some(Conflict::ManualAboveBudget));
    assert_eq!(controller.step(Duration::from_secs(60), &now).after, 1);
}

#[test]
fn without_a_sound_reading_nothing_moves() {
    let mut controller = Controller::new(Settings::default());
    run(&mut controller, 0, 10, 1, &[1000.0, 900.0]);
    let held = controller.state().pressure;
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let decision = controller.step(Duration::from_secs(200), &seen(1, &[bad, bad]));
        assert_eq!((decision.after, decision.pressure, decision.guards), (1, held, vec![Guard::Missing]));
    }
    let old = Observation { age: Duration::from_secs(61), ..seen(1, &[9000.0, 9000.0]) };
    assert_eq!(controller.step(Duration::from_secs(210), &old).guards, [Guard::Stale]);
}

#[test]
fn the_floor_wins_or_gives_way_as_told() {
    let mut load = seen(0, &[3500.0, 1500.0]);
    load.profiles[0].attribution = Some(1.0);
    load.profiles[1].attribution = Some(0.8);
    let floor = Settings { attribution_floor: Some(0.95), ..Settings::default() };
    let mut budget = Controller::new(floor.clone());
    assert_eq!(budget.step(Duration::ZERO, &load).after, 1);
    load.active = 1;
    assert_eq!(budget.step(Duration::from_secs(10), &load).conflict, Some(Conflict::AttributionGaveWay));
    let mut kept = Controller::new(Settings { wins: Wins::Attribution, ..floor });
    assert_eq!(kept.step(Duration::ZERO, &load).after, 0);
    load.active = 0;
    let decision = kept.step(Duration::from_secs(40), &load);
    assert_eq!((decision.after, decision.conflict), (0, Some(Conflict::BudgetGaveWay)));
}

#[test]
fn a_floor_that_wins_lets_the_pressure_go() {
    let floor = Settings { attribution_floor: Some(0.9), wins: Wins::Attribution, ..Settings::default() };
    let mut controller = Controller::new(floor);
    let mut load = seen(0, &[2500.0]);
    load.profiles[0].attribution = Some(0.99);
    let mut pressures: Vec<f64> =
        (0..20).map(|cycle| controller.step(Duration::from_secs(cycle * CYCLE), &load).pressure).collect();
    assert_eq!(pressures.pop(), Some(1.0));
    load.profiles[0].attribution = Some(0.905);
    assert_eq!(controller.step(Duration::from_secs(200), &load).pressure, 1.0, "close to the floor it stays");
    load.profiles[0].attribution = Some(0.8);
    let falling: Vec<f64> =
        (21..40).map(|cycle| controller.step(Duration::from_secs(cycle * CYCLE), &load).pressure).collect();
    assert!(falling.windows(2).all(|two| two[1] <= two[0]) && falling.last() == Some(&0.0), "{falling:?}");
}

#[test]
fn a_state_survives_as_text_and_a_broken_one_counts_as_none() {
    let mut one = Controller::new(Settings::default());
    run(&mut one, 0, 50, 0, &[2500.0, 900.0]);
    let text = serde_json::to_string(one.state()).unwrap();
    let two = Controller::resume(Settings::default(), serde_json::from_str(&text).unwrap());
    assert_eq!(State { last: None, ..one.state().clone() }, *two.state());
    let broken = State { pressure: 7.0, ..State::default() };
    assert_eq!(*Controller::resume(Settings::default(), broken).state(), State::default());
}

fn number() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![8 => (0.0..10_000.0).prop_map(Some), 1 => Just(None), 1 => any::<f64>().prop_map(Some)]
}

/// Moments in seconds: mostly a cycle apart or so, with pauses, and with jumps to anywhere.
fn moments(most: usize) -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![
        12 => (0u64..20).prop_map(Ok),
        2 => (20u64..600).prop_map(Ok),
        1 => any::<u32>().prop_map(Err),
    ];
    proptest::collection::vec(step, 1..most).prop_map(|steps| {
        let mut now = 1_000;
        let moment = |step: Result<u64, u32>| {
            now = step.map_or_else(u64::from, |step| now + step);
            now
        };
        steps.into_iter().map(moment).collect()
    })
}

proptest! {
    #[test]
    fn any_input_gives_a_bounded_answer_and_dwell_bounds_switches(
        moments in moments(200),
        seen_then in proptest::collection::vec(([number(), number(), number()], number(), 0usize..5), 200)
    ) {
        let settings = Settings::default();
        let mut controller = Controller::new(settings.clone());
        let (mut active, mut relaxes) = (0, Vec::new());
        for (at, (series, memory, claimed)) in moments.into_iter().zip(seen_then) {
            let mut now = seen(active, &[0.0; 3]);
            for (profile, series) in now.profiles.iter_mut().zip(series) {
                profile.series = series;
                profile.attribution = series;
            }
            now.memory = memory;
            now.active = if claimed == 4 { active } else { claimed.min(2) };
            let decision = controller.step(Duration::from_secs(at), &now);
            prop_assert!(decision.after < 3 && (0.0..=1.0).contains(&decision.pressure));
            prop_assert!(decision.terms.demand.is_finite());
            prop_assert!(controller.state().is_sound());
            if decision.r#move == Move::Relax {
                relaxes.push(controller.state().clock);
            }
            active = decision.after;
        }
        prop_assert!(relaxes.windows(2).all(|two| two[1] - two[0] >= settings.relax_dwell.as_secs_f64()));
        let hour = settings.switch_window.as_secs_f64();
        prop_assert!(relaxes.windows(settings.max_relaxes + 1).all(|some| some[settings.max_relaxes] - some[0] >= hour));
    }

    /// Whatever the load does: a looser profile waits for its dwell, and each one lets in no more tighter ones than there
    /// are profiles.
    #[test]
    fn dwell_bounds_the_number_of_switches(loads in proptest::collection::vec((0.0..6000.0f64, 1u64..90), 1..120)) {
        let settings = Settings::default();
        let mut controller = Controller::new(settings.clone());
        let (mut active, mut at, mut switches) = (0, 0, 0);
        for (load, cycles) in loads {
            for decision in run(&mut controller, at, cycles, active, &[load, load * 0.6, load * 0.3]) {
                switches += u64::from(decision.after != decision.before);
                active = decision.after;
            }
            at += cycles;
        }
        let relaxes = at * CYCLE / settings.relax_dwell.as_secs() + 1;
        prop_assert!(switches <= 2 + 3 * relaxes, "{switches} in {} s", at * CYCLE);
    }

    /// After a switch the clock jumps anywhere: that is no time that has passed.
    #[test]
    fn a_jump_of_the_clock_ends_no_dwell(jump in any::<u32>(), before in 0u64..1_000_000) {
        let settings = Settings::default();
        let mut controller = Controller::new(settings.clone());
        let step = |controller: &mut Controller, at: u64, active, load: &[f64]| {
            controller.step(Duration::from_secs(at), &seen(active, load)).after
        };
        let mut active = step(&mut controller, before, 0, &[3500.0, 900.0]);
        prop_assert_eq!(active, 1);
        let mut cycles = 0;
        while active == 1 && cycles < 1_000 {
            active = step(&mut controller, u64::from(jump) + cycles * CYCLE, active, &[1000.0, 900.0]);
            cycles += 1;
        }
        let passed = cycles * CYCLE + settings.max_step.as_secs();
        prop_assert!(active == 0 && passed >= settings.relax_dwell.as_secs(), "{passed} s");
        prop_assert!(cycles * CYCLE <= settings.relax_dwell.as_secs() + 2 * CYCLE, "nor does it prolong it: {cycles}");
    }

    #[test]
    fn more_series_never_ask_for_a_looser_answer(low in 0.0..6000.0f64, more in 0.0..3000.0f64, active in 0usize..3) {
        let answer = |output: f64| {
            let load = [output, output * 0.6, output * 0.3];
            run(&mut Controller::new(Settings::default()), 0, 3, active, &load).pop().unwrap().after
        };
        prop_assert!(answer(low) <= answer(low + more));
    }

    /// Within one profile: a switch keeps the pressure that is. Smaller steps are not made.
    #[test]
    fn more_series_never_ask_for_less_pressure(low in 0.0..6000.0f64, more in 0.0..3000.0f64, cycles in 1u64..60) {
        let answer = |output| run(&mut Controller::new(Settings::default()), 0, cycles, 0, &[output]).pop().unwrap().pressure;
        prop_assert!(answer(low) <= answer(low + more) + PRESSURE_STEP);
    }
}
