//! Watches what the `cardinality` stage of a pipeline counts: explosions of series, who makes them, and how near the
//! budget is.
//!
//! Each metric has a detector of its own; the stage's attributes say which key and which executable is behind a finding.
//! Nothing here acts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_control::detect::{Culprit, Detector, DetectorSettings, Forecast, Kind, Risk, culprits, forecast, risk};
use phoenix_pipeline::estimates::Cardinality;
use serde_json::{Value, json};

/// The attribute that names a culprit.
const EXECUTABLE: &str = "process.executable.name";
/// An explosion is over when it has shown no sign for so long: a detector is silent between two bursts.
const QUIET: Duration = Duration::from_secs(120);
/// Explosions that are told apart; the largest.
const MOST: usize = 10;
/// Steps a forecast is made from: ten minutes at an interval of ten seconds.
const POINTS: usize = 60;

/// A metric whose series explode.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Explosion {
    pub(super) kind: Kind,
    pub(super) metric: Arc<str>,
    /// The key with most values: what makes the series different from one another.
    pub(super) attribute: Option<Arc<str>>,
    /// The executable with most of the new series, and its part of them.
    pub(super) executable: Option<(Arc<str>, f64)>,
    pub(super) new_per_minute: f64,
    /// New series beyond the usual.
    pub(super) excess: f64,
    /// Unix nanoseconds.
    since: u64,
    signed: Instant,
}

/// The name of a kind in JSON, metrics and text.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Jump => "jump",
        Kind::Leak => "leak",
        Kind::Ceiling => "ceiling",
    }
}

impl Explosion {
    pub(super) fn json(&self) -> Value {
        json!({
            "kind": kind_name(self.kind),
            "metric": &*self.metric,
            "attribute": self.attribute.as_deref(),
            "executable": self.executable.as_ref().map(|(name, _)| &**name),
            "share": self.executable.as_ref().map(|(_, share)| share),
            "new_per_minute": self.new_per_minute,
            "excess": self.excess,
            "since_unix_nano": self.since.to_string(),
        })
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let sign = match self.kind {
            Kind::Jump => "a jump",
            Kind::Leak => "a leak",
            Kind::Ceiling => "more than the ceiling",
        };
        let by = match &self.executable {
            Some((name, share)) => format!(", {:.0} % of the new ones by {name}", share * 100.0),
            None => String::new(),
        };
        let key = self.attribute.as_ref().map_or_else(String::new, |key| format!(", told apart by {key}"));
        format!("{} explodes ({sign}): {:.0} series beyond the usual{by}{key}", self.metric, self.excess)
    }
}

/// What became of the explosions at one step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) begun: Vec<Explosion>,
    pub(super) ended: Vec<Arc<str>>,
}

/// The watch over one pipeline.
pub(super) struct Observatory {
    detectors: HashMap<Arc<str>, Detector>,
    last: Option<Arc<Cardinality>>,
    explosions: Vec<Explosion>,
    /// Seconds, and what is steered in parts of the budget.
    levels: VecDeque<(f64, f64)>,
    began: Instant,
}

impl Observatory {
    pub(super) fn new(now: Instant) -> Self {
        Observatory {
            detectors: HashMap::new(),
            last: None,
            explosions: Vec::new(),
            levels: VecDeque::new(),
            began: now,
        }
    }

    /// What explodes, the largest first.
    pub(super) fn explosions(&self) -> &[Explosion] {
        &self.explosions
    }

    /// Takes a look at what was counted. The same count twice is looked at once.
    pub(super) fn look(&mut self, now: Instant, unix_nanos: u64, seen: Option<&Arc<Cardinality>>) -> News {
        let mut news = News::default();
        if let Some(seen) = seen
            && self.last.as_ref().is_none_or(|last| last.at < seen.at)
            && let Some(last) = self.last.replace(Arc::clone(seen))
        {
            self.compare(&last, seen, now, unix_nanos, &mut news);
        }
        let over = |explosion: &Explosion| now.saturating_duration_since(explosion.signed) >= QUIET;
        news.ended.extend(self.explosions.iter().filter(|one| over(one)).map(|one| Arc::clone(&one.metric)));
        self.explosions.retain(|explosion| !over(explosion));
        news
    }

    fn compare(&mut self, last: &Cardinality, seen: &Cardinality, now: Instant, unix_nanos: u64, news: &mut News) {
        let seconds = seen.at.saturating_duration_since(last.at).as_secs_f64();
        let before: HashMap<&str, f64> = last.metrics.iter().map(|share| (&*share.name, share.new)).collect();
        self.detectors.retain(|name, _| seen.metrics.iter().any(|share| share.name == *name));
        for share in &seen.metrics {
            // A count that fell began anew.
            let new = share.new - before.get(&*share.name).copied().filter(|new| *new <= share.new).unwrap_or(0.0);
            let detector = self.detectors.entry(Arc::clone(&share.name));
            let detector = detector.or_insert_with(|| Detector::new(DetectorSettings::default()));
            let Some(finding) = detector.step(new, share.series, seconds) else { continue };
            let lasted = (finding.lasted.max(0.0) * 1e9) as u64;
            let mut explosion = Explosion {
                kind: finding.kind,
                metric: Arc::clone(&share.name),
                attribute: seen.attributes.first().map(|row| Arc::clone(&row.key)),
                executable: executable(seen),
                new_per_minute: new / seconds * 60.0,
                excess: finding.excess,
                since: unix_nanos.saturating_sub(lasted),
                signed: now,
            };
            match self.explosions.iter_mut().find(|known| known.metric == explosion.metric) {
                Some(known) => {
                    explosion.since = known.since;
                    *known = explosion;
                }
                None => {
                    news.begun.push(explosion.clone());
                    self.explosions.push(explosion);
                }
            }
        }
        self.explosions.sort_by(|a, b| b.excess.total_cmp(&a.excess).then_with(|| a.metric.cmp(&b.metric)));
        self.explosions.truncate(MOST);
        news.begun.retain(|explosion| self.explosions.contains(explosion));
    }

    /// Takes down what is steered, in parts of the budget. Another profile's level is no slope of this one's.
    pub(super) fn level(&mut self, now: Instant, used: f64, switched: bool) {
        if switched {
            self.levels.clear();
        }
        self.levels.push_back((now.saturating_duration_since(self.began).as_secs_f64(), used));
        if self.levels.len() > POINTS {
            self.levels.pop_front();
        }
    }

    /// When the budget is reached, and how bad it may become within `reaction` seconds; `None` before anything is known.
    pub(super) fn outlook(&mut self, reaction: f64) -> Option<(Forecast, Risk)> {
        let points: &[(f64, f64)] = self.levels.make_contiguous();
        let (at, used) = points.last().copied()?;
        let forecast = forecast(points, 1.0);
        let residuals = || points.iter().map(|(then, level)| level + forecast.slope * (at - then) - used);
        let number = points.len() as f64;
        let mean = residuals().sum::<f64>() / number;
        let deviation = (residuals().map(|residual| (residual - mean).powi(2)).sum::<f64>() / number).sqrt();
        Some((forecast, risk(used, forecast.slope, deviation, reaction)))
    }
}

/// Who makes most of the new series.
fn executable(seen: &Cardinality) -> Option<(Arc<str>, f64)> {
    let row = seen.attributes.iter().find(|row| &*row.key == EXECUTABLE)?;
    let found = culprits(row.leading.iter().map(|share| ("", EXECUTABLE, &*share.name, share.new)));
    found.into_iter().next().map(|Culprit { executable, share, .. }| (executable.into(), share))
}

#[cfg(test)]
pub(super) fn explosion(metric: &str, executable: Option<(&str, f64)>) -> Explosion {
    Explosion {
        kind: Kind::Jump,
        metric: metric.into(),
        attribute: None,
        executable: executable.map(|(name, share)| (name.into(), share)),
        new_per_minute: 100.0,
        excess: 100.0,
        since: 0,
        signed: Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_pipeline::estimates::{AttributeEstimate, Count, Share};

    struct Bench {
        observatory: Observatory,
        began: Instant,
        seconds: u64,
        new: f64,
    }

    impl Bench {
        fn new() -> Self {
            let began = Instant::now();
            Bench { observatory: Observatory::new(began), began, seconds: 0, new: 0.0 }
        }

        /// Ten seconds with so many new series of one metric.
        fn step(&mut self, new: f64) -> News {
            self.seconds += 10;
            self.new += new;
            let share = |name: &str, series, new| Share { name: name.into(), series, new_per_minute: 0.0, new };
            let at = self.began + Duration::from_secs(self.seconds);
            let leading = vec![share("leaky", 100.0, 90.0), share("nginx", 300.0, 10.0)];
            let key = |key: &str, leading| AttributeEstimate { key: key.into(), values: Count::default(), leading };
            let seen = Cardinality {
                at,
                time: 0,
                series: Count::default(),
                new_per_minute: 0.0,
                gone_per_minute: 0.0,
                sampled: 1,
                metrics: vec![share("m", 400.0 + self.new, self.new), share("still", 5.0, 5.0)],
                attributes: vec![key("id", Vec::new()), key(EXECUTABLE, leading)],
            };
            let seen = Arc::new(seen);
            let news = self.observatory.look(at, self.seconds * 1_000_000_000, Some(&seen));
            assert_eq!(self.observatory.look(at, 0, Some(&seen)), News::default(), "the same is no news");
            news
        }
    }

    #[test]
    fn a_jump_is_found_named_and_over_in_its_time() {
        let mut bench = Bench::new();
        (0..60).for_each(|_| assert_eq!(bench.step(1.0), News::default()));
        let found = (0..12).map(|_| bench.step(200.0)).find(|news| !news.begun.is_empty()).expect("within two minutes");
        let explosion = &found.begun[0];
        assert_eq!((&*explosion.metric, explosion.attribute.as_deref()), ("m", Some("id")));
        assert_eq!(explosion.executable, Some(("leaky".into(), 0.9)));
        assert!(explosion.text().contains("90 % of the new ones by leaky, told apart by id"), "{}", explosion.text());
        assert_eq!(bench.observatory.explosions().len(), 1);
        let ended = (0..600).take_while(|_| bench.step(1.0).ended.is_empty()).count();
        assert!((11..599).contains(&ended), "{ended}");
        assert!(bench.observatory.explosions().is_empty());
    }

    #[test]
    fn the_outlook_follows_the_level_and_forgets_other_profiles() {
        let mut bench = Bench::new();
        assert_eq!(bench.observatory.outlook(20.0), None);
        for n in 0..60 {
            let now = bench.began + Duration::from_secs(n * 10);
            bench.observatory.level(now, 0.5 + n as f64 * 0.005, false);
        }
        let (forecast, risk) = bench.observatory.outlook(20.0).unwrap();
        assert!((forecast.robust.unwrap() - 410.0).abs() < 5.0 && risk.score < 1.0, "{forecast:?} {risk:?}");
        bench.observatory.level(bench.began + Duration::from_secs(610), 1.2, true);
        let (_, risk) = bench.observatory.outlook(20.0).unwrap();
        assert!(risk.score > 50.0, "{risk:?}");
    }
}
