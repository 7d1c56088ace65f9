use super::*;
use crate::simulate::Noise;
use std::ops::Range;

/// One interval is ten seconds.
const SECONDS: f64 = 10.0;
/// Keys that the settings' defaults were chosen with.
const TRAINING: Range<u64> = 0..200;
/// Keys that were looked at once, after that.
const HELD_OUT: Range<u64> = 50_000..50_200;

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

#[test]
#[ignore = "for choosing defaults"]
fn training() {
    table(TRAINING);
}

#[test]
fn incidents_are_found_and_quiet_keys_are_not() {
    for (incident, recall, alarms) in table(HELD_OUT) {
        assert!(alarms < 0.05, "{incident:?}: {alarms}");
        assert!(QUIET.contains(&incident) || recall >= 0.95, "{incident:?}: {recall}");
    }
}

#[test]
fn the_ceiling_needs_no_past_and_nonsense_is_passed_over() {
    let mut detector = Detector::new(DetectorSettings::default());
    assert_eq!(detector.step(f64::NAN, 1e9, SECONDS), None);
    assert_eq!(detector.step(0.0, 10_001.0, SECONDS).map(|finding| finding.kind), Some(Kind::Ceiling));
}

#[test]
fn culprits_come_with_their_share() {
    let found =
        culprits([("a", "id", "x", 90.0), ("b", "id", "y", 5.0), ("c", "id", "z", f64::NAN), ("d", "k", "w", 15.0)]);
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

#[test]
fn the_risks_chance_is_calibrated() {
    // Levels that grow and are read with noise: what was said against what came.
    let (mut noise, mut bins) = (Noise::new(3), [(0.0, 0.0, 0.0); 5]);
    for _ in 0..20_000 {
        let (used, slope) = (0.7 + 0.4 * noise.even(), 0.002 * (noise.even() - 0.3));
        let said = risk(used, slope, 0.03, 20.0).probability;
        let came = f64::from(u8::from(used + slope * 20.0 + 0.03 * noise.normal() > 1.0));
        let bin = &mut bins[((said * 5.0) as usize).min(4)];
        *bin = (bin.0 + 1.0, bin.1 + said, bin.2 + came);
    }
    for (number, said, came) in bins {
        println!("{number} cases: said {:.3}, came {:.3}", said / number, came / number);
        assert!((said / number - came / number).abs() < 0.05);
    }
    assert!(risk(1.5, 0.01, 0.01, 20.0).score > 99.0 && risk(0.5, 0.0, 0.01, 20.0).score < 1.0);
    assert_eq!(risk(f64::NAN, 0.0, 0.0, 20.0), Risk::default());
}
