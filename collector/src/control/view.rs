//! What a stage looks like, as JSON: the state, one row of its history, and its bill. Nothing here decides.

use std::sync::Arc;

use phoenix_control::Decision;
use phoenix_control::detect::{Culprit, Forecast, Risk};
use phoenix_pipeline::estimates::{Cardinality, Share, Thinning};
use phoenix_processors::cost::Bill;
use serde_json::{Value, json};

use super::Place;
use super::desk::Row;
use super::journal::culprit;
use super::observatory::Explosion;

/// Metrics, attributes and values that are shown, those with most series.
const LEADING: usize = 10;

/// All that is known of a stage at one step.
pub(super) struct Sight<'a> {
    pub(super) place: &'a Place,
    /// The profile at work.
    pub(super) active: Option<Arc<str>>,
    /// The profile the controller wants.
    pub(super) wanted: Option<usize>,
    pub(super) thinning: Option<&'a Thinning>,
    pub(super) cardinality: Option<&'a Cardinality>,
    /// The last decision.
    pub(super) decision: Option<&'a Decision>,
    pub(super) memory: Option<f64>,
    pub(super) explosions: &'a [Explosion],
    /// Who made the series that came lately.
    pub(super) culprits: &'a [Culprit],
    pub(super) remedies: Vec<Value>,
    pub(super) outlook: Option<(Forecast, Risk)>,
    /// Tighter and looser ones.
    pub(super) switches: (u64, u64),
    pub(super) bill: Option<&'a Bill>,
    /// Over how long the bill was measured, seconds.
    pub(super) billed: f64,
}

fn share(share: &Share) -> Value {
    json!({ "name": &*share.name, "series": share.series, "new_per_minute": share.new_per_minute })
}

impl Sight<'_> {
    fn cost_of(&self, profile: &str) -> Option<f64> {
        self.bill?.profiles.iter().find(|(name, _)| **name == *profile).map(|(_, cost)| *cost)
    }

    fn profiles(&self) -> Vec<Value> {
        let one = |name: &Arc<str>| {
            let known = self.thinning.and_then(|seen| seen.profiles.iter().find(|profile| profile.name == *name));
            let shares = known.map(|profile| profile.attribution).unwrap_or_default();
            json!({
                "name": &**name,
                "active": self.active.as_ref() == Some(name),
                "series": known.map(|profile| profile.output.series),
                "individual": known.map(|profile| profile.individual),
                "grouped": known.map(|profile| profile.grouped),
                "attribution": { "cpu": shares.cpu, "memory": shares.memory, "io": shares.io },
                "cost_per_month": self.cost_of(name),
            })
        };
        self.place.names.iter().map(one).collect()
    }

    /// For `GET /control/state`; what changes from moment to moment is added when it is asked for.
    pub(super) fn state(&self) -> Value {
        let Sight { place, thinning, cardinality, decision, .. } = self;
        let config = &place.config;
        let wanted = self.wanted.and_then(|wanted| place.names.get(wanted)).map(|name| &**name);
        let rates = cardinality.map(|seen| {
            json!({
                "new_per_minute": seen.new_per_minute,
                "gone_per_minute": seen.gone_per_minute,
                "sampled": seen.sampled,
            })
        });
        let attribute = |row: &phoenix_pipeline::estimates::AttributeEstimate| {
            let leading: Vec<Value> = row.leading.iter().take(LEADING).map(share).collect();
            json!({ "key": &*row.key, "values": row.values.series, "leading": leading })
        };
        let leading = cardinality.map(|seen| {
            json!({
                "metrics": seen.metrics.iter().take(LEADING).map(share).collect::<Vec<_>>(),
                "attributes": seen.attributes.iter().take(LEADING).map(attribute).collect::<Vec<_>>(),
            })
        });
        json!({
            "pipeline": &*place.pipeline,
            "processor": place.processor.as_str(),
            "controlled": config.budget.series > 0,
            "observe_only": config.budget.observe_only,
            "interval_seconds": config.budget.interval.as_secs_f64(),
            "profile": self.active.as_deref(),
            "wanted": wanted,
            "manual": null,
            "budget": Some(config.budget.series).filter(|series| *series > 0),
            "window_seconds": config.estimates.window.as_secs_f64(),
            "age_seconds": null,
            "series": {
                "in": thinning.map(|seen| seen.input.series),
                "out": thinning.map(|seen| seen.output.series),
                "steered": decision.and_then(|decision| decision.output),
                "error": thinning.map(|seen| seen.output.error),
            },
            "newest_points": thinning.map(|seen| seen.newest_points),
            "rates": rates,
            "profiles": self.profiles(),
            "pressure": decision.map(|decision| decision.pressure),
            "terms": decision.map(|decision| decision.terms),
            "attribution": decision.and_then(|decision| decision.attribution),
            "guards": decision.map_or(&[][..], |decision| decision.guards.as_slice()),
            "emergency": decision.and_then(|decision| decision.emergency),
            "conflict": decision.and_then(|decision| decision.conflict),
            "memory": self.memory,
            "switches": { "tighten": self.switches.0, "relax": self.switches.1 },
            "risk": self.outlook.as_ref().map(|(_, risk)| risk),
            "forecast": self.outlook.as_ref().map(|(forecast, _)| json!({
                "linear_seconds": forecast.linear,
                "robust_seconds": forecast.robust,
                "series_per_minute": forecast.slope * 60.0 * config.budget.series as f64,
            })),
            "explosions": self.explosions.iter().map(Explosion::json).collect::<Vec<_>>(),
            "culprits": self.culprits.iter().map(culprit).collect::<Vec<_>>(),
            "remediations": self.remedies,
            "leading": leading,
        })
    }

    /// One row of the history.
    pub(super) fn row(&self, unix_nanos: u64) -> Row {
        let active = self.active.as_ref();
        let place = active.and_then(|active| self.place.names.iter().position(|name| name == active));
        [
            Some(unix_nanos as f64 / 1e9),
            self.thinning.map(|seen| seen.input.series),
            self.thinning.map(|seen| seen.output.series),
            self.decision.and_then(|decision| decision.output),
            self.decision.map(|decision| decision.pressure),
            place.map(|place| place as f64),
            self.outlook.as_ref().map(|(_, risk)| risk.score),
            self.decision.and_then(|decision| decision.attribution),
            self.bill.map(|bill| bill.now),
        ]
    }

    /// For `GET /control/cost`.
    pub(super) fn cost(&self) -> Value {
        let Sight { place, bill, .. } = self;
        let profiles = place.names.iter().map(|name| json!({ "name": &**name, "cost": self.cost_of(name) }));
        let model = place.config.cost.model();
        json!({
            "pipeline": &*place.pipeline,
            "processor": place.processor.as_str(),
            "currency": "USD",
            "per": "month",
            "before": bill.map(|bill| bill.before),
            "now": bill.map(|bill| bill.now),
            "saved": bill.map(|bill| bill.before - bill.now),
            "profiles": profiles.collect::<Vec<_>>(),
            "model": model.map(|model| json!({
                "name": model.name,
                "unit": model.unit,
                "price": model.price,
                "per": model.per,
                "source": model.source,
            })),
            "measured_seconds": bill.map(|_| self.billed),
        })
    }
}
