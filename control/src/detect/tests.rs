use super::*;
use crate::simulate::Noise;

/// One interval is ten seconds.
const SECONDS: f64 = 10.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Incident {
    None,
    /// Everything renewed, within so many intervals.
    Deploy(usize),
    /// This many new series a second from the half on.
    Rise(f64),
}

/// The interval after the start of the incident at which something was called, over an hour and a half.
fn delay(incident: Incident, seed: u64) -> Option<usize> {
    const START: usize = 180;
    let mut noise = Noise::new(seed);
    let standing = 100.0 + 300.0 * noise.even();
    let churn = 0.5 + 3.0 * noise.even();
    let (mut detector, mut leaked) = (Detector::new(DetectorSettings::default()), 0.0);
    for interval in 0..540 {
        let mut new = (churn * (1.0 + 0.5 * noise.normal())).max(0.0).round();
        match incident {
            Incident::Deploy(length) if (START..START + length).contains(&interval) => new += standing / length as f64,
            Incident::Rise(rate) if interval >= START => {
                new += rate * SECONDS;
                leaked += rate * SECONDS;
            }
            _ => {}
        }
        if detector.step(new, standing + leaked, SECONDS).is_some() {
            return Some(interval.saturating_sub(START));
        }
    }
    None
}

#[test]
fn incidents_are_found_and_quiet_keys_are_not() {
    let share = |incident, within: usize| {
        let found = (3000..3200).filter(|seed| delay(incident, *seed).is_some_and(|delay| delay <= within));
        found.count() as f64 / 200.0
    };
    // A fast jump within three minutes, a leak of two a second within five; one in two seconds is below what is promised, and only shown.
    for (rate, within, least) in [(20.0, 18, 0.95), (2.0, 30, 0.95), (0.5, 120, 0.0)] {
        let recall = share(Incident::Rise(rate), within);
        println!("{rate} new series a second: {recall} found within {} s", within * 10);
        assert!(recall >= least, "{rate}: {recall}");
    }
    for quiet in [Incident::None, Incident::Deploy(6), Incident::Deploy(30)] {
        let alarms = share(quiet, usize::MAX);
        println!("{quiet:?}: false alarms {alarms}");
        assert!(alarms < 0.05, "{quiet:?}: {alarms}");
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
