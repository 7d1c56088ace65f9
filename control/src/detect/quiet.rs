//! How often detectors fire on a host where nothing is wrong, and how soon they find what is.
//!
//! A model of what `cardinality` counts: values are new when they were not met for a window of five minutes. Days go up and
//! down with people; programs are deployed, jobs start by the clock, and requests come in bursts.

use std::collections::HashMap;
use std::ops::Range;

use super::*;
use crate::simulate::Noise;

/// One interval is ten seconds.
const SECONDS: f64 = 10.0;
const DAY: usize = 8640;
/// Intervals that a value counts for after it was last met.
const WINDOW: usize = 30;

/// Hosts that the detectors were looked at with while they were chosen, and those they are held to.
const TRAINING: Range<u64> = 0..10;
const HELD_OUT: Range<u64> = 90_000..90_010;

/// What makes the values of an attribute, or the series of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Processes: births that a day goes through, a job every minute, a larger one every hour, a backup at night.
    Processes,
    /// 40 routes, a few of them popular: most are met within any window by day, few by night.
    Routes,
    /// 12 codes and kinds, most of them rare.
    Codes,
    /// 3,000 customers, exported only while they do something: up to four new ones a second.
    Customers,
    /// Containers that are scaled with the load, every quarter of an hour.
    Containers,
    /// Files, tables, queues: constant, but for a new one now and then.
    Things,
}

const KEYS: [Key; 6] = [Key::Processes, Key::Routes, Key::Codes, Key::Customers, Key::Containers, Key::Things];

/// Values of one key on one host.
struct World {
    key: Key,
    noise: Noise,
    /// Part of the greatest load that is there, and how far bursts take it.
    size: f64,
    burst: f64,
    /// When each value was last met.
    met: HashMap<u64, usize>,
    /// Processes and containers by when they end.
    alive: Vec<(u64, usize)>,
    next: u64,
    deploys: Vec<usize>,
}

impl World {
    fn new(key: Key, seed: u64, days: usize) -> Self {
        let mut noise = Noise::new(seed.wrapping_mul(31).wrapping_add(key as u64));
        // Two a day, in working hours.
        let deploys =
            (0..2 * days).map(|n| n / 2 * DAY + DAY / 3 + (noise.even() * DAY as f64 / 3.0) as usize).collect();
        let size = 0.3 + 0.7 * noise.even();
        World { key, noise, size, burst: 0.0, met: HashMap::new(), alive: Vec::new(), next: 0, deploys }
    }

    /// A count with this mean (Poisson; of large means its normal neighbour).
    fn count(&mut self, mean: f64) -> usize {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.noise.normal()).max(0.0).round() as usize;
        }
        let (mut left, mut count) = (self.noise.even().max(1e-12), 0);
        let end = (-mean).exp();
        while left > end {
            left *= self.noise.even();
            count += 1;
        }
        count
    }

    /// One of `of`, popular ones more often (Zipf).
    fn popular(&mut self, of: f64) -> u64 {
        (of.powf(self.noise.even()) - 1.0) as u64
    }

    fn live(&mut self, now: usize, number: usize, intervals: f64) {
        for _ in 0..number {
            let ends = now + (-self.noise.even().max(1e-9).ln() * intervals) as usize;
            self.next += 1;
            self.alive.push((self.next, ends));
        }
    }

    /// New values within this interval, and values that are there.
    fn step(&mut self, now: usize) -> (f64, f64) {
        let hour = (now % DAY) as f64 / 360.0;
        let week_end = if now / DAY % 7 >= 5 { 0.5 } else { 1.0 };
        // From a tenth of the load at four in the morning to all of it at four in the afternoon.
        let people = week_end * (0.55 - 0.45 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos());
        let World { noise, burst, .. } = self;
        noise.drift(burst, 0.4, 0.95);
        let load = self.size * people * self.burst.exp();
        let deploys = self.deploys.iter().filter(|at| (**at..**at + 18).contains(&now)).count() as f64;
        let mut seen: Vec<u64> = Vec::new();
        match self.key {
            Key::Processes => {
                if now == 0 {
                    self.live(now, 150, 1e9);
                }
                let births = self.count(2.0 * load + deploys * 8.0);
                self.live(now, births, 12.0);
                let by_clock = if now.is_multiple_of(6) { 3 } else { 0 }
                    + if now.is_multiple_of(360) { 25 } else { 0 }
                    + if (2880..2940).contains(&(now % DAY)) { 4 } else { 0 };
                self.live(now, by_clock, 2.0);
            }
            Key::Containers => {
                if now == 0 {
                    self.live(now, 30, 1e9);
                }
                // Scaled up and down in steps, and all of it replaced by a deploy.
                let asked = if now.is_multiple_of(90) { (40.0 * load) as usize } else { 0 };
                let more = asked.saturating_sub(self.alive.len().saturating_sub(30));
                self.live(now, more, 270.0);
                self.live(now, (deploys * 2.0) as usize, 360.0);
            }
            Key::Routes | Key::Codes | Key::Customers => {
                let (of, rate) = match self.key {
                    Key::Routes => (40.0, 60.0),
                    Key::Codes => (12.0, 60.0),
                    _ => (3_000.0, 40.0),
                };
                for _ in 0..self.count(rate * load) {
                    seen.push(self.popular(of));
                }
                // What a deploy brings: a few routes or kinds more.
                if deploys > 0.0 && self.noise.even() < 0.2 {
                    self.next += 1;
                    seen.push(10_000 + self.next % 8);
                }
            }
            Key::Things => {
                if now == 0 {
                    self.live(now, 60, 1e9);
                }
                let born = self.count(0.01);
                self.live(now, born, 1e9);
            }
        }
        self.alive.retain(|(_, ends)| *ends >= now);
        seen.extend(self.alive.iter().map(|(value, _)| 1_000_000 + *value));
        let new = seen.iter().filter(|value| self.met.insert(**value, now).is_none()).count();
        self.met.retain(|_, at| now - *at < WINDOW);
        (new as f64, self.met.len() as f64)
    }
}

/// Something wrong: so many new values a second, for so many intervals.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Incident {
    rate: f64,
    intervals: usize,
}

/// Alarms of a key on the agent's first day and on those after it, as the agent counts them: signs less than two minutes apart
/// are one.
fn alarms(settings: DetectorSettings, key: Key, seed: u64, days: usize) -> [usize; 2] {
    let (mut world, mut detector) = (World::new(key, seed, days), Detector::new(settings));
    let (mut alarms, mut last) = ([0; 2], None::<usize>);
    for now in 0..days * DAY {
        let (new, there) = world.step(now);
        if detector.step(new, there, SECONDS).is_some() {
            if last.is_none_or(|last| now - last > 12) {
                alarms[usize::from(now >= DAY)] += 1;
            }
            last = Some(now);
        }
    }
    alarms
}

/// Seconds until an incident is found that begins two to sixteen hours after the agent did; `None` if it is not found while it
/// lasts. What was called in the two minutes before it is no find.
fn delay(settings: DetectorSettings, key: Key, seed: u64, incident: Incident) -> Option<f64> {
    let mut world = World::new(key, seed, 1);
    let mut last = 0;
    let begins = 720 + (Noise::new(!seed).even() * 5000.0) as usize;
    let (mut detector, mut added) = (Detector::new(settings), VecDeque::new());
    for now in 0..begins + incident.intervals {
        let (mut new, mut there) = world.step(now);
        if now >= begins {
            let more = incident.rate * SECONDS;
            new += more;
            added.push_back(more);
            if added.len() > WINDOW {
                added.pop_front();
            }
            there += added.iter().sum::<f64>();
        }
        if detector.step(new, there, SECONDS).is_some() {
            if now >= begins {
                return (now - last > 12).then_some((now - begins + 1) as f64 * SECONDS);
            }
            last = now;
        }
    }
    None
}

const KINDS: [Incident; 2] = [Incident { rate: 20.0, intervals: 18 }, Incident { rate: 2.0, intervals: 60 }];

/// What was found of one key.
struct Row {
    key: Key,
    /// False alarms on the first day, and a day after it.
    alarms: [f64; 2],
    /// Part found, and seconds until then in the mean, of each of [`KINDS`].
    found: [(f64, f64); 2],
}

/// Alarms of a host.
fn total(rows: &[Row]) -> [f64; 2] {
    [0, 1].map(|day| rows.iter().map(|row| row.alarms[day]).sum())
}

fn rows(settings: DetectorSettings, seeds: Range<u64>, days: usize) -> Vec<Row> {
    let number = seeds.clone().count() as f64;
    let rows = KEYS.map(|key| {
        let each: Vec<[usize; 2]> = seeds.clone().map(|seed| alarms(settings, key, seed, days)).collect();
        let all = |day: usize| each.iter().map(|alarms| alarms[day]).sum::<usize>() as f64 / number;
        let found = KINDS.map(|incident| {
            let delays: Vec<f64> = seeds.clone().filter_map(|seed| delay(settings, key, seed, incident)).collect();
            (delays.len() as f64 / number, delays.iter().sum::<f64>() / delays.len().max(1) as f64)
        });
        let row = Row { key, alarms: [all(0), all(1) / (days - 1) as f64], found };
        let [(jumps, jump), (leaks, leak)] = row.found;
        println!(
            "{key:?}: {:.3} false alarms on the first day, {:.3} a day after it; jump {jumps:.2} found, {jump:.0} s; leak {leaks:.2} found, {leak:.0} s",
            row.alarms[0], row.alarms[1]
        );
        row
    });
    println!("all: {:?}", total(&rows));
    rows.into()
}

#[test]
#[ignore = "weeks take minutes; days are held below"]
fn weeks_of_training_and_of_hosts_that_were_held_out() {
    for (name, seeds) in [("training", TRAINING), ("held out", HELD_OUT)] {
        println!("{name}");
        rows(DetectorSettings::default(), seeds, 7);
    }
}

#[test]
fn quiet_days_are_quiet_and_what_is_wrong_is_found_attribute_by_attribute() {
    const DAYS: usize = 3;
    let rows = rows(DetectorSettings::default(), HELD_OUT.start..HELD_OUT.start + 6, DAYS);
    let [first, later] = total(&rows);
    assert!(first <= 5.0 && later <= 1.0, "{first} false alarms of a host on its first day, {later} a day after it");
    for Row { key, found: [(jumps, jump), (leaks, leak)], .. } in rows {
        assert!(jumps == 1.0 && jump <= 60.0, "{key:?}: {jumps} of the jumps in {jump} s");
        // What 2 a second are beside as many in bursts takes longer than the ten minutes to tell, now and then.
        let least = if key == Key::Customers { 0.6 } else { 0.9 };
        assert!(leaks >= least && leak <= 300.0, "{key:?}: {leaks} of the leaks in {leak} s");
    }
}
