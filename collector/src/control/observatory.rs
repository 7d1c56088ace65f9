//! Watches what the `cardinality` stage of a pipeline counts: explosions of series, who makes them, and how near the
//! budget is.
//!
//! Each metric has a detector of its own, and each attribute of its points; the stage's counts say which key is behind a
//! finding, and who. Nothing here acts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_control::detect::{
    self, Culprit, Detector, DetectorSettings, Finding, Forecast, Kind, Maker, Risk, culprits,
};
use phoenix_pipeline::estimates::{Cardinality, KeyEstimate, MakerEstimate};
use serde_json::{Value, json};

/// An explosion is over when it has shown no sign for so long: a detector is silent between two bursts.
const QUIET: Duration = Duration::from_secs(120);
/// Explosions that are told apart; the largest.
const MOST: usize = 10;
/// Culprits are those of so long: of one scrape there may be none, and of an hour they are history.
const LATELY: Duration = Duration::from_secs(60);
/// Counts that are kept for that.
const COUNTS: usize = 16;
/// Part of the new series that an attribute must tell apart to be named for them.
const TELLING: f64 = 0.5;
/// Steps a forecast is made from: ten minutes at an interval of ten seconds.
const POINTS: usize = 60;

/// A metric whose series explode.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Explosion {
    pub(super) kind: Kind,
    pub(super) metric: Arc<str>,
    /// What makes the series different from one another.
    pub(super) attribute: Option<Arc<str>>,
    /// It is one of the metric's points, with so many new values for each new series; else one of resources.
    pub(super) of_points: Option<f64>,
    /// Who makes most of its new series, and the part of them.
    pub(super) maker: Option<(Maker, f64)>,
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
            "attribute_of": if self.of_points.is_some() { "points" } else { "resources" },
            "name": self.maker.as_ref().map(|(maker, _)| &maker.name),
            "name_of": self.maker.as_ref().map(|(maker, _)| &maker.name_of),
            "share": self.maker.as_ref().map(|(_, share)| share),
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
        let by = match &self.maker {
            Some((Maker { name_of, name }, share)) => {
                format!(", {:.0} % of the new ones by {name} ({name_of})", share * 100.0)
            }
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
    settings: DetectorSettings,
    /// By metric, and by attribute of its points.
    detectors: HashMap<(Arc<str>, Option<Arc<str>>), Detector>,
    /// What was counted lately, oldest first.
    counts: VecDeque<Arc<Cardinality>>,
    culprits: Vec<Culprit>,
    explosions: Vec<Explosion>,
    /// Seconds, and what is steered in parts of the budget.
    levels: VecDeque<(f64, f64)>,
    began: Instant,
}

impl Observatory {
    pub(super) fn new(settings: DetectorSettings, now: Instant) -> Self {
        Observatory {
            settings,
            detectors: HashMap::new(),
            counts: VecDeque::new(),
            culprits: Vec::new(),
            explosions: Vec::new(),
            levels: VecDeque::new(),
            began: now,
        }
    }

    /// What explodes, the largest first.
    pub(super) fn explosions(&self) -> &[Explosion] {
        &self.explosions
    }

    /// Who makes the new series of the last minute, in the order of their parts; whether or not anything explodes.
    pub(super) fn culprits(&self) -> &[Culprit] {
        &self.culprits
    }

    /// Takes a look at what was counted. The same count twice is looked at once.
    pub(super) fn look(&mut self, now: Instant, unix_nanos: u64, seen: Option<&Arc<Cardinality>>) -> News {
        let mut news = News::default();
        if let Some(seen) = seen
            && self.counts.back().is_none_or(|last| last.at < seen.at)
        {
            if let Some(last) = self.counts.back().map(Arc::clone) {
                self.compare(&last, seen, now, unix_nanos, &mut news);
            }
            self.counts.push_back(Arc::clone(seen));
            let old = |at: Instant| seen.at.saturating_duration_since(at) >= LATELY;
            while self.counts.len() > COUNTS || self.counts.get(1).is_some_and(|next| old(next.at)) {
                self.counts.pop_front();
            }
            self.culprits = self.counts.front().map(|before| named(before, seen)).unwrap_or_default();
        }
        let over = |explosion: &Explosion| now.saturating_duration_since(explosion.signed) >= QUIET;
        news.ended.extend(self.explosions.iter().filter(|one| over(one)).map(|one| Arc::clone(&one.metric)));
        self.explosions.retain(|explosion| !over(explosion));
        news
    }

    fn compare(&mut self, last: &Cardinality, seen: &Cardinality, now: Instant, unix_nanos: u64, news: &mut News) {
        let seconds = seen.at.saturating_duration_since(last.at).as_secs_f64();
        let of_keys = new_values(last, seen);
        let mut found: HashMap<Arc<str>, Finding> = HashMap::new();
        let mut looked = HashMap::new();
        let metrics = new_series(last, seen);
        let series = seen.metrics.iter().map(|share| (Arc::clone(&share.name), None, share.series));
        let values = seen.keys.iter().map(|row| (Arc::clone(&row.metric), Some(Arc::clone(&row.key)), row.values));
        let new = metrics.iter().map(|(_, new)| *new).chain(of_keys.iter().map(|(_, new)| *new));
        for ((metric, key, there), new) in series.chain(values).zip(new) {
            let of = (metric, key);
            let known = self.detectors.remove(&of);
            let mut detector = known.unwrap_or_else(|| Detector::new(self.settings));
            if let Some(finding) = detector.step(new, there, seconds) {
                // What is found of the metric itself says more than what is found of an attribute.
                found.entry(Arc::clone(&of.0)).or_insert(finding);
            }
            looked.insert(of, detector);
        }
        self.detectors = looked;
        for (metric, finding) in found {
            let new = metrics.iter().find(|(name, _)| **name == metric).map_or(0.0, |(_, new)| *new);
            let telling = telling(&metric, new, &of_keys);
            let maker = makers(seen, &metric).next().map(|row| (maker(row), row.share));
            let lasted = (finding.lasted.max(0.0) * 1e9) as u64;
            let mut explosion = Explosion {
                kind: finding.kind,
                attribute: match telling {
                    Some((key, _)) => Some(Arc::clone(key)),
                    None => seen.attributes.first().map(|row| Arc::clone(&row.key)),
                },
                of_points: telling.map(|(_, share)| share),
                maker,
                metric,
                new_per_minute: new / seconds * 60.0,
                excess: finding.excess,
                since: unix_nanos.saturating_sub(lasted),
                signed: now,
            };
            match self.explosions.iter_mut().find(|known| known.metric == explosion.metric) {
                Some(known) => {
                    explosion.since = known.since;
                    if explosion.of_points.is_none() && known.of_points.is_some() {
                        // A pause in what came says nothing of what it is told apart by.
                        (explosion.attribute, explosion.of_points) = (known.attribute.clone(), known.of_points);
                    }
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
        (!points.is_empty()).then(|| detect::outlook(points, 1.0, reaction))
    }
}

/// New series of each metric between two counts.
fn new_series<'a>(last: &Cardinality, seen: &'a Cardinality) -> Vec<(&'a Arc<str>, f64)> {
    let before: HashMap<&str, f64> = last.metrics.iter().map(|share| (&*share.name, share.new)).collect();
    let of = |name: &Arc<str>, new: f64| since(before.get(&**name).copied(), new);
    seen.metrics.iter().map(|share| (&share.name, of(&share.name, share.new))).collect()
}

/// New values of each attribute of each metric between two counts.
fn new_values<'a>(last: &Cardinality, seen: &'a Cardinality) -> Vec<(&'a KeyEstimate, f64)> {
    let name = |row: &'a KeyEstimate| (&*row.metric, &*row.key);
    let before: HashMap<(&str, &str), f64> = last.keys.iter().map(|row| ((&*row.metric, &*row.key), row.new)).collect();
    seen.keys.iter().map(|row| (row, since(before.get(&name(row)).copied(), row.new))).collect()
}

/// What came between two counts; one that fell began anew.
fn since(before: Option<f64>, now: f64) -> f64 {
    now - before.filter(|before| *before <= now).unwrap_or(0.0)
}

/// The attribute of a metric's points that has a new value for at least half of its new series, and for what part of them.
fn telling<'a>(metric: &str, new: f64, keys: &[(&'a KeyEstimate, f64)]) -> Option<(&'a Arc<str>, f64)> {
    let own = keys.iter().filter(|(row, _)| *row.metric == *metric);
    let (row, values) = own.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let share = (values / new).min(1.0);
    (*values > 0.0 && share >= TELLING).then_some((&row.key, share))
}

/// Who made the series that came between two counts: metrics, with the attribute that tells theirs apart.
fn named(before: &Cardinality, seen: &Cardinality) -> Vec<Culprit> {
    let (metrics, keys) = (new_series(before, seen), new_values(before, seen));
    let counts = metrics.iter().flat_map(|(metric, new)| {
        let key = telling(metric, *new, &keys).map(|(key, _)| key).or(seen.attributes.first().map(|row| &row.key));
        let one = move |maker, share| (&***metric, key.map_or("", |key| key), maker, new * share);
        let known = makers(seen, metric).map(move |row| one(Some(maker(row)), row.share));
        let rest = 1.0 - makers(seen, metric).map(|row| row.share).sum::<f64>();
        known.chain([one(None, rest.max(0.0))])
    });
    culprits(counts)
}

/// Who makes the new series of a metric, most first.
fn makers<'a>(seen: &'a Cardinality, metric: &'a str) -> impl Iterator<Item = &'a MakerEstimate> {
    seen.makers.iter().filter(move |row| *row.metric == *metric)
}

fn maker(row: &MakerEstimate) -> Maker {
    Maker { name_of: row.name_of.to_owned(), name: row.name.to_string() }
}

#[cfg(test)]
pub(super) fn explosion(metric: &str, maker: Option<(&str, &str, f64)>) -> Explosion {
    Explosion {
        kind: Kind::Jump,
        metric: metric.into(),
        attribute: Some("id".into()),
        of_points: None,
        maker: maker.map(|(name_of, name, share)| (Maker { name_of: name_of.into(), name: name.into() }, share)),
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
        values: f64,
    }

    impl Bench {
        fn new() -> Self {
            let began = Instant::now();
            Bench {
                observatory: Observatory::new(DetectorSettings::default(), began),
                began,
                seconds: 0,
                new: 0.0,
                values: 0.0,
            }
        }

        /// Ten seconds with so many new series of one metric.
        fn step(&mut self, new: f64) -> News {
            self.told_apart(new, 0.0)
        }

        /// The same, told apart by so many new values of an attribute.
        fn told_apart(&mut self, new: f64, values: f64) -> News {
            self.seconds += 10;
            self.new += new;
            self.values += values;
            let share = |name: &str, series, new| Share { name: name.into(), series, new_per_minute: 0.0, new };
            let at = self.began + Duration::from_secs(self.seconds);
            let leading = vec![share("leaky", 100.0, 90.0), share("nginx", 300.0, 10.0)];
            let key = |key: &str, leading| AttributeEstimate { key: key.into(), values: Count::default(), leading };
            let row = |metric: &str, key: &str, values, new| KeyEstimate {
                metric: metric.into(),
                key: key.into(),
                values,
                new,
            };
            let made = |metric: &str, name: &str, share| MakerEstimate {
                metric: metric.into(),
                name_of: "process.executable.name",
                name: name.into(),
                share,
            };
            let seen = Cardinality {
                at,
                time: 0,
                series: Count::default(),
                new_per_minute: 0.0,
                gone_per_minute: 0.0,
                sampled: 1,
                metrics: vec![share("m", 400.0 + self.new, self.new), share("still", 5.0, 5.0)],
                attributes: vec![key("id", Vec::new()), key("group", leading)],
                keys: vec![row("m", "request.id", 4.0 + self.values, self.values), row("m", "method", 3.0, 3.0)],
                makers: vec![made("m", "leaky", 0.9), made("still", "nginx", 1.0)],
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
        assert_eq!(explosion.json()["name"], "leaky");
        assert_eq!(
            (&explosion.json()["name_of"], &explosion.json()["share"]),
            (&"process.executable.name".into(), &0.9.into())
        );
        assert!(
            explosion.text().contains("90 % of the new ones by leaky (process.executable.name), told apart by id"),
            "{}",
            explosion.text()
        );
        assert_eq!(bench.observatory.explosions().len(), 1);
        let ended = (0..600).take_while(|_| bench.step(1.0).ended.is_empty()).count();
        assert!((11..599).contains(&ended), "{ended}");
        assert!(bench.observatory.explosions().is_empty());
    }

    #[test]
    fn the_attribute_that_tells_new_series_apart_is_named_and_found_by_itself() {
        let mut bench = Bench::new();
        (0..60).for_each(|_| assert_eq!(bench.told_apart(1.0, 0.0), News::default()));
        assert_eq!(bench.observatory.culprits()[0].attribute, "id", "of the resources, if of nothing else");
        let found = (0..12).map(|_| bench.told_apart(200.0, 150.0)).find(|news| !news.begun.is_empty());
        let explosion = &found.expect("within two minutes").begun[0];
        assert_eq!((explosion.attribute.as_deref(), explosion.of_points), (Some("request.id"), Some(0.75)));
        assert_eq!(explosion.json()["attribute_of"], "points");
        let culprit = &bench.observatory.culprits()[0];
        let named =
            (culprit.metric.as_str(), culprit.attribute.as_str(), culprit.maker.as_ref().unwrap().name.as_str());
        assert_eq!((named, culprit.share), (("m", "request.id", "leaky"), 0.9));
        // Values that come and go, and the series of the metric that do not show it.
        let mut bench = Bench::new();
        let noise = |bench: &Bench| 20.0 + (bench.seconds % 70) as f64 / 2.0;
        (0..60).for_each(|_| drop(bench.told_apart(noise(&bench), 0.0)));
        let found = (0..30).map(|_| bench.told_apart(noise(&bench), 20.0)).find(|news| !news.begun.is_empty());
        assert_eq!(found.expect("by its attribute").begun[0].metric, "m".into());
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
