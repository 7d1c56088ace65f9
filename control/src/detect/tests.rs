use super::*;
use crate::simulate::{Host, Noise, Scenario, Source};
use std::ops::Range;

/// One interval is ten seconds.
const SECONDS: f64 = 10.0;
/// Keys that the settings' defaults were chosen with.
const TRAINING: Range<u64> = 0..200;
/// Keys that were looked at once, after that.
const HELD_OUT: Range<u64> = 50_000..50_200;

/// Hosts that the risk's numbers were chosen with, and those that it was shown with, which were looked at once after that.
const RISK_TRAINING: Range<u64> = 0..24;
const RISK_HELD_OUT: Range<u64> = 70_000..70_004;

/// What happens to a key in the second half hour.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Incident {
    None,
    /// Everything renewed, evenly within so many intervals.
    Deploy(usize),
    /// A tenth renewed at once, every twenty minutes.
    Restarts,
    /// The agent begins anew: all series are new at once, and the past is empty.
    Agent,
    /// This many new series a second that stay, from then on.
    Rise(f64),
    /// So many a second from the beginning: nothing but the ceiling can tell.
    Always(f64),
}

/// Seconds from the start of the incident to what was called first, over an hour and a half; negative before it.
fn called(incident: Incident, seed: u64) -> Option<(Kind, f64)> {
    const START: usize = 180;
    let mut noise = Noise::new(seed);
    let standing = 100.0 + 300.0 * noise.even();
    let churn = 0.5 + 3.0 * noise.even();
    let (mut detector, mut leaked) = (Detector::new(DetectorSettings::default()), 0.0);
    for interval in 0..540 {
        let mut new = (churn * (1.0 + 0.5 * noise.normal())).max(0.0).round();
        match incident {
            Incident::Deploy(length) if (START..START + length).contains(&interval) => new += standing / length as f64,
            Incident::Restarts if interval % 120 == 60 => new += 0.1 * standing,
            Incident::Agent if interval == START => {
                detector = Detector::new(DetectorSettings::default());
                new += standing;
            }
            Incident::Rise(rate) if interval >= START => {
                new += rate * SECONDS;
                leaked += rate * SECONDS;
            }
            Incident::Always(rate) => {
                new += rate * SECONDS;
                leaked += rate * SECONDS;
            }
            _ => {}
        }
        if let Some(finding) = detector.step(new, standing + leaked, SECONDS) {
            let start = if matches!(incident, Incident::Always(_)) { 0.0 } else { START as f64 };
            return Some((finding.kind, (interval as f64 - start) * SECONDS));
        }
    }
    None
}

const QUIET: [Incident; 6] = [
    Incident::None,
    Incident::Deploy(6),
    Incident::Deploy(30),
    Incident::Deploy(90),
    Incident::Restarts,
    Incident::Agent,
];

/// Recall within a time, precision against as many quiet keys, and mean delay, of one kind of incident.
fn figures(incident: Incident, within: f64, alarms: f64, seeds: Range<u64>) -> (f64, f64, f64) {
    let number = seeds.clone().count() as f64;
    let delays: Vec<f64> = seeds
        .filter_map(|seed| called(incident, seed))
        .filter_map(|(_, delay)| (0.0..=within).contains(&delay).then_some(delay))
        .collect();
    let recall = delays.len() as f64 / number;
    (recall, recall / (recall + alarms).max(1e-9), delays.iter().sum::<f64>() / delays.len().max(1) as f64)
}

/// Part of the keys for which something is called that is none.
fn alarms(quiet: Incident, seeds: Range<u64>) -> f64 {
    let number = seeds.clone().count() as f64;
    seeds.filter(|seed| called(quiet, *seed).is_some()).count() as f64 / number
}

fn table(seeds: Range<u64>) -> Vec<(Incident, f64, f64)> {
    let false_alarms = QUIET.map(|quiet| (quiet, alarms(quiet, seeds.clone())));
    let mean = false_alarms.iter().map(|(_, alarms)| alarms).sum::<f64>() / QUIET.len() as f64;
    for (quiet, alarms) in false_alarms {
        println!("{quiet:?}: false alarms {alarms:.3}");
    }
    let kinds = [
        (Incident::Rise(20.0), 180.0),
        (Incident::Rise(2.0), 300.0),
        (Incident::Rise(0.5), 1500.0),
        (Incident::Always(4.0), 3600.0),
    ];
    let mut rows: Vec<_> = false_alarms.map(|(quiet, alarms)| (quiet, 0.0, alarms)).into();
    for (incident, within) in kinds {
        let (recall, precision, delay) = figures(incident, within, mean, seeds.clone());
        println!(
            "{incident:?}: recall {recall:.3} within {within} s, precision {precision:.3}, mean delay {delay:.0} s"
        );
        rows.push((incident, recall, 1.0 - precision));
    }
    rows
}

fn holds(seeds: Range<u64>) {
    for (incident, recall, alarms) in table(seeds) {
        assert!(alarms < 0.05, "{incident:?}: {alarms}");
        assert!(QUIET.contains(&incident) || recall >= 0.95, "{incident:?}: {recall}");
    }
}

#[test]
#[ignore = "the keys the defaults were chosen with; the others are held"]
fn incidents_of_training_are_found() {
    holds(TRAINING);
}

#[test]
fn incidents_are_found_and_quiet_keys_are_not() {
    holds(HELD_OUT);
}

#[test]
fn the_start_hides_no_leak_soon_after() {
    let mut detector = Detector::new(DetectorSettings::default());
    let mut step = |new: f64| detector.step(new, 400.0, SECONDS);
    assert_eq!(step(400.0), None, "the agent starts");
    (0..120).for_each(|n| assert_eq!(step(f64::from(n % 2)), None));
    let found = (1..=60).find(|_| step(20.0).is_some());
    assert!(found.is_some_and(|after| after <= 40), "{found:?}");
}

#[test]
fn the_ceiling_needs_no_past_and_nonsense_is_passed_over() {
    let mut detector = Detector::new(DetectorSettings::default());
    assert_eq!(detector.step(f64::NAN, 1e9, SECONDS), None);
    assert_eq!(detector.step(0.0, 10_001.0, SECONDS).map(|finding| finding.kind), Some(Kind::Ceiling));
}

#[test]
fn culprits_come_with_their_share() {
    let found = culprits([
        ("a", "id", None, 90.0),
        ("b", "id", None, 5.0),
        ("c", "id", None, f64::NAN),
        ("d", "k", None, 15.0),
    ]);
    let named: Vec<_> = found.iter().map(|c| (c.metric.as_str(), (c.share * 110.0).round())).collect();
    assert_eq!(named, [("a", 90.0), ("d", 15.0)]);
}

#[test]
fn the_robust_forecast_does_not_see_outliers() {
    let line: Vec<_> = (0..60).map(|n| (f64::from(n) * 10.0, 1000.0 + f64::from(n) * 5.0)).collect();
    let straight = forecast(&line, 2000.0);
    assert!((straight.linear.unwrap() - 1410.0).abs() < 1e-6 && (straight.robust.unwrap() - 1410.0).abs() < 1e-6);
    let wild: Vec<_> = line.iter().enumerate().map(|(n, p)| if n % 5 == 0 { (p.0, 9000.0) } else { *p }).collect();
    assert!((forecast(&wild, 2000.0).robust.unwrap() - 1410.0).abs() < 150.0);
    assert_eq!(forecast(&[(0.0, 5.0), (1.0, 4.0)], 10.0).robust, None);
    assert_eq!(forecast(&[], 10.0), Forecast::default());
}

/// Moments near the budget, by what is read, of hosts that nobody steers: the risk that was said, as the agent reckons it,
/// whether the true level was above the budget then or within the reaction time, and how far within ten, in parts of it.
fn moments(seeds: Range<u64>) -> Vec<(Risk, bool, f64)> {
    const REACTION: usize = 2;
    let mut found = Vec::new();
    for (scenario, seed) in seeds.flat_map(|seed| Scenario::ALL.map(|scenario| (scenario, seed))) {
        let (mut host, mut noise, mut error) = (Host::new(scenario, 24, seed), Noise::new(!seed), 0.0);
        let levels: Vec<f64> = std::iter::from_fn(|| host.next(0, 0.0)).map(|truth| truth.profiles[0].0).collect();
        let budget = [1400.0, 1700.0, 2000.0, 2600.0][seed as usize % 4];
        let read: Vec<f64> = levels
            .iter()
            .map(|level| {
                noise.drift(&mut error, 0.0081, 0.9);
                level * (1.0 + error) / budget
            })
            .collect();
        for now in (60..levels.len() - 10 * REACTION).step_by(11).filter(|now| (0.8..1.2).contains(&read[*now])) {
            let points: Vec<(f64, f64)> = (now - 59..=now).map(|at| (at as f64 * SECONDS, read[at])).collect();
            let most = |cycles: usize| levels[now..=now + cycles].iter().copied().fold(0.0, f64::max) / budget - 1.0;
            let said = outlook(&points, 1.0, REACTION as f64 * SECONDS).1;
            found.push((said, most(REACTION) > 0.0, most(10 * REACTION).max(0.0)));
        }
    }
    found
}

/// Number, mean of what was said and part of what came, by bins of what was said; and the same of the cost.
fn reliability(seeds: Range<u64>) -> Vec<(f64, f64, f64)> {
    const ENDS: [f64; 8] = [0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 1.01];
    let moments = moments(seeds);
    let bins = ENDS.windows(2).map(|ends| {
        let within = |said: f64| (ends[0]..ends[1]).contains(&said);
        let mut sum = (0.0, 0.0, 0.0);
        for (risk, came, _) in moments.iter().filter(|(risk, ..)| within(risk.probability)) {
            sum = (sum.0 + 1.0, sum.1 + risk.probability, sum.2 + f64::from(u8::from(*came)));
        }
        let (number, said, came) = sum;
        println!("chance {:?}: {number} moments, said {:.3}, came {:.3}", ends, said / number, came / number);
        (number, said / number, came / number)
    });
    let bins = bins.collect();
    for ends in [0.5, 0.525, 0.55, 0.6, 0.65].windows(2) {
        let within = |risk: &Risk| (ends[0]..ends[1]).contains(&risk.cost) && risk.probability > 0.5;
        let some: Vec<_> = moments.iter().filter(|(risk, came, _)| *came && within(risk)).collect();
        let number = some.len() as f64;
        let said = some.iter().map(|(risk, ..)| 2.0 * risk.cost - 1.0).sum::<f64>() / number;
        println!(
            "cost: {number} breaches, said {said:.3} above, came {:.3}",
            some.iter().map(|m| m.2).sum::<f64>() / number
        );
    }
    bins
}

/// What was said and what came differ by less than 1 % in the mean of all moments, and by less than 15 % in any bin,
/// as one of a hundred moments of a few hosts scatters by a third of that.
fn is_reliable(seeds: Range<u64>) {
    let bins = reliability(seeds);
    let all: f64 = bins.iter().map(|(number, ..)| number).sum();
    let error: f64 = bins.iter().map(|(number, said, came)| number / all * (said - came).abs()).sum();
    assert!(error < 0.01, "{error}: {bins:?}");
    let worst = bins.iter().map(|(_, said, came)| (said - came).abs()).fold(0.0, f64::max);
    assert!(worst < 0.15, "{worst}: {bins:?}");
}

#[test]
#[ignore = "the hosts the numbers were chosen with; the others are held"]
fn the_risk_is_reliable_on_training() {
    is_reliable(RISK_TRAINING);
}

#[test]
fn the_risk_s_chance_is_what_comes_on_simulated_incidents() {
    is_reliable(RISK_HELD_OUT);
    assert!(
        risk(1.5, 0.01, 0.01, 20.0).score > 75.0
            && risk(2.0, 0.0, 0.01, 20.0).score > 99.0
            && risk(0.5, 0.0, 0.01, 20.0).score < 1.0
    );
    assert_eq!(risk(f64::NAN, 0.0, 0.0, 20.0), Risk::default());
}
