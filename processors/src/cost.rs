//! What a month of metrics costs: before thinning, now, and under each profile, in US dollars.
//!
//! A pure function of two snapshots of [`Thinning`] and a backend's way to charge. List prices change and contracts
//! differ, so every figure can be overridden and carries its source and date. It estimates what one more host costs:
//! allowances and lower tiers belong to an account with all its hosts, so none is assumed.

use phoenix_pipeline::config::{Report, Settings};
use phoenix_pipeline::estimates::Thinning;
use serde::{Deserialize, Serialize};

/// A month for billing: 30 days.
const MINUTES: f64 = 30.0 * 24.0 * 60.0;

/// What is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 10^9 bytes taken in.
    Gigabytes,
    /// Active series, or points a minute where those are more.
    ActiveSeries,
    /// Different combinations of name and attributes, however often they are sent.
    CustomMetrics,
    /// Data points taken in.
    Samples,
}

/// A backend's way to charge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// What it is called in settings.
    pub name: &'static str,
    /// What is charged for.
    pub unit: Unit,
    /// US dollars for `per` units a month.
    pub price: f64,
    /// See `price`.
    pub per: f64,
    /// Where the price was read and when, and how sure it is.
    pub source: &'static str,
}

const fn model(name: &'static str, unit: Unit, price: f64, per: f64, source: &'static str) -> Model {
    Model { name, unit, price, per, source }
}

/// The backends whose way to charge is known.
pub const MODELS: &[Model] = &[
    model(
        "new_relic",
        Unit::Gigabytes,
        0.40,
        1.0,
        "Original data, US; secondary source, 2026 (its docs of an unknown date say 0.30)",
    ),
    model(
        "datadog",
        Unit::CustomMetrics,
        5.0,
        100.0,
        "docs custom_metrics.md for the rule; price from a secondary source, 2026",
    ),
    model(
        "grafana_cloud",
        Unit::ActiveSeries,
        6.50,
        1_000.0,
        "Pro, one point a minute included; rule read 2026, price from a secondary source of 2026-08-11",
    ),
    model(
        "cloudwatch",
        Unit::CustomMetrics,
        0.30,
        1.0,
        "first 10,000 metrics; secondary source for aws.amazon.com/cloudwatch/pricing, undated",
    ),
    model(
        "amazon_prometheus",
        Unit::Samples,
        0.90,
        10e6,
        "first 2 billion samples, storage and queries left out; secondary source, 2025-2026",
    ),
    model(
        "google_prometheus",
        Unit::Samples,
        0.06,
        1e6,
        "first 50 billion samples; secondary source, undated (its page of 2023 had 0.15)",
    ),
    model("azure_prometheus", Unit::Samples, 0.16, 10e6, "queries left out; secondary source, undated"),
];

/// Settings of the estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The backend, one of [`MODELS`]. New Relic: by bytes, the rule that rewards every kind of thinning.
    pub model: String,
    /// What is charged for, in the place of the model's. None: the model knows.
    pub unit: Option<Unit>,
    /// US dollars for `per` units a month, in the place of the list price. None: the list price.
    pub price: Option<f64>,
    /// Units the price is for. None: the model's.
    pub per: Option<f64>,
    /// Units a month that cost nothing. 0: allowances are an account's.
    pub included: f64,
    /// Points a minute that every active series includes. 1: what Grafana Cloud Pro does.
    pub included_points_per_minute: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            model: "new_relic".into(),
            unit: None,
            price: None,
            per: None,
            included: 0.0,
            included_points_per_minute: 1.0,
        }
    }
}

impl Config {
    /// The model it names, with what is overridden.
    pub fn model(&self) -> Option<Model> {
        let listed = MODELS.iter().find(|model| model.name == self.model)?;
        let own = self.price.is_some() || self.unit.is_some() || self.per.is_some();
        Some(Model {
            unit: self.unit.unwrap_or(listed.unit),
            price: self.price.unwrap_or(listed.price),
            per: self.per.unwrap_or(listed.per),
            source: if own { "configured" } else { listed.source },
            ..*listed
        })
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.model().is_none() {
            let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
            report.error("model", format!("no backend is named {:?}; there are: {}", self.model, names.join(", ")));
        }
        let not_below = |value: f64| value.is_finite() && value >= 0.0;
        for (key, right) in [("price", self.price.is_none_or(not_below)), ("included", not_below(self.included))] {
            if !right {
                report.error(key, "must be a number of 0 or more");
            }
        }
        let above = |value: f64| value.is_finite() && value > 0.0;
        for (key, right) in [
            ("per", self.per.is_none_or(above)),
            ("included_points_per_minute", above(self.included_points_per_minute)),
        ] {
            if !right {
                report.error(key, "must be a number above 0");
            }
        }
    }
}

/// What a backend takes in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Active series.
    pub series: f64,
    /// Data points a minute.
    pub points: f64,
    /// Bytes a minute, uncompressed on the wire; what a backend stores may differ.
    pub bytes: f64,
}

/// What a month costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Bill {
    /// US dollars if nothing were thinned.
    pub before: f64,
    /// US dollars as things are.
    pub now: f64,
    /// US dollars under each profile that is followed.
    pub profiles: Vec<(std::sync::Arc<str>, f64)>,
    /// How it was reckoned: unit, price and source.
    pub model: Model,
}

/// US dollars a month for this usage.
pub fn monthly(config: &Config, model: &Model, usage: Usage) -> f64 {
    let units = match model.unit {
        Unit::Gigabytes => usage.bytes * MINUTES / 1e9,
        Unit::ActiveSeries => usage.series.max(usage.points / config.included_points_per_minute),
        Unit::CustomMetrics => usage.series,
        Unit::Samples => usage.points * MINUTES,
    };
    (units - config.included).max(0.0) / model.per * model.price
}

/// The bill by what happened between two snapshots of one stage; `None` if no time lies between them, or the settings name
/// no model.
pub fn bill(config: &Config, earlier: &Thinning, later: &Thinning) -> Option<Bill> {
    let model = config.model()?;
    let minutes = later.at.saturating_duration_since(earlier.at).as_secs_f64() / 60.0;
    if minutes <= 0.0 {
        return None;
    }
    let rate = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64 / minutes;
    let usage = |series, points, bytes| Usage { series, points, bytes };
    let came =
        usage(later.input.series, rate(later.points_in, earlier.points_in), rate(later.bytes_in, earlier.bytes_in));
    let went = usage(
        later.output.series,
        rate(later.points_out, earlier.points_out),
        rate(later.bytes_out, earlier.bytes_out),
    );
    let size = if went.points > 0.0 { went.bytes / went.points } else { 0.0 };
    let profiles = later.profiles.iter().map(|profile| {
        // Points as in the newest batch, bytes as points have them now.
        let part = (profile.individual + profile.grouped) as f64 / later.newest_points.max(1) as f64;
        let points = came.points * part;
        let usage = usage(profile.output.series, points, points * size);
        (std::sync::Arc::clone(&profile.name), monthly(config, &model, usage))
    });
    let profiles = profiles.collect();
    Some(Bill { before: monthly(config, &model, came), now: monthly(config, &model, went), profiles, model })
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_pipeline::config::{parse, read};
    use phoenix_pipeline::estimates::{Count, ProfileEstimate};
    use std::time::{Duration, Instant};

    fn snapshot(at: Instant, points: u64) -> Thinning {
        let count = |series| Count { series, error: 0.0 };
        let profile = |name: &str, series, individual| ProfileEstimate {
            name: name.into(),
            output: count(series),
            individual,
            ..ProfileEstimate::default()
        };
        Thinning {
            at,
            time: 0,
            window: 300.0,
            input: count(9_000.0),
            output: count(900.0),
            newest_points: 9_000,
            points_in: points,
            bytes_in: points * 140,
            points_out: points / 10,
            bytes_out: points / 10 * 150,
            active: "b".into(),
            profiles: vec![profile("a", 9_000.0, 9_000), profile("b", 900.0, 900)],
        }
    }

    fn of(text: &str) -> Bill {
        let config: Config = read(&parse("cost.yaml", text).unwrap()).unwrap();
        let at = Instant::now();
        // 9,000 points every ten seconds.
        let bill = bill(&config, &snapshot(at, 0), &snapshot(at + Duration::from_secs(60), 54_000)).unwrap();
        assert_eq!(bill.profiles[1].1, bill.now, "the profile at work is what is");
        assert!(!bill.model.source.is_empty());
        bill
    }

    #[test]
    fn bills_follow_each_backends_rule() {
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} for {b}");
        // 54,000 points a minute of 140 bytes: 326.6 GB a month.
        let bill = of("{}");
        near(bill.before, 54_000.0 * 43_200.0 * 140.0 / 1e9 * 0.40);
        near(bill.now, 5_400.0 * 43_200.0 * 150.0 / 1e9 * 0.40);
        near(bill.profiles[0].1, 54_000.0 * 43_200.0 * 150.0 / 1e9 * 0.40);
        near(of("model: datadog").before, 450.0);
        // Six points a minute where one is included: six times the series.
        near(of("model: grafana_cloud").before, 6.0 * 9.0 * 6.50);
        near(of("{ model: grafana_cloud, included_points_per_minute: 12 }").before, 9.0 * 6.50);
        near(of("model: cloudwatch").now, 270.0);
        near(of("model: amazon_prometheus").before, 54_000.0 * 43_200.0 / 1e7 * 0.90);
        near(of("{ model: google_prometheus, price: 1 }").before, 54_000.0 * 43_200.0 / 1e6);
        let own = of("{ unit: samples, price: 2, per: 1000, included: 1000 }");
        near(own.before, (54_000.0 * 43_200.0 - 1_000.0) / 1_000.0 * 2.0);
        assert_eq!(own.model.source, "configured");
        assert_eq!(of("{ model: datadog, included: 10000 }").before, 0.0);
        let at = Instant::now();
        assert_eq!(super::bill(&Config::default(), &snapshot(at, 0), &snapshot(at, 5)), None);
    }

    #[test]
    fn every_mistake_is_named() {
        let text = "{ model: x, price: -1, per: 0, included: -2, included_points_per_minute: 0 }";
        let found = read::<Config>(&parse("cost.yaml", text).unwrap()).unwrap_err();
        let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(found.contains("there are: new_relic, datadog"), "{found}");
        for key in ["price", "per", "included", "included_points_per_minute"] {
            assert!(found.contains(&format!("{key}: must be")), "{key}: {found}");
        }
    }
}
