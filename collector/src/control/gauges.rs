//! The loop in the agent's own metrics.

use phoenix_control::detect::{Forecast, Risk};
use phoenix_control::{Conflict, Decision, Emergency, Guard, Move};
use phoenix_pipeline::{ComponentId, Instrument, Level, Metrics};
use phoenix_processors::cost::Bill;

use super::observatory::{Explosion, News, kind_name};
use super::remedies::Change;

macro_rules! instruments {
    ($($name:ident = $metric:literal, $unit:literal, $about:literal, $level:ident;)*) => {
        $(static $name: Instrument =
            Instrument { name: $metric, unit: $unit, description: $about, level: Level::$level };)*
    };
}

instruments! {
    BUDGET = "phoenix_control_budget", "{series}", "Series that may leave within the window.", Basic;
    FLOOR = "phoenix_control_attribution_floor", "1", "Part of CPU that should stay individually attributed; 0 = no floor is set.", Basic;
    STEERED = "phoenix_control_series", "{series}", "Series the budget is held against: those of the profile at work.", Basic;
    ERROR = "phoenix_control_error", "1", "Distance from the band in parts of the budget; 0 inside of it.", Basic;
    TERM = "phoenix_control_term", "1", "Terms of the PID: p, i and d.", Normal;
    PRESSURE = "phoenix_control_pressure", "1", "Pressure within the profile, 0 to 1.", Basic;
    WANTED = "phoenix_control_profile_wanted", "1", "Place of the profile that is wanted, 0 = the least thinning.", Basic;
    SWITCHES = "phoenix_control_switches_total", "{switch}", "Changes of profile by the controller.", Basic;
    DECISIONS = "phoenix_control_decisions_total", "{decision}", "Decisions, by what was decided.", Normal;
    HELD = "phoenix_control_held_total", "{decision}", "Decisions in which a guard held a change back.", Normal;
    EMERGENCY = "phoenix_control_emergency", "1", "1 while nothing is waited for, by why.", Basic;
    CONFLICT = "phoenix_control_conflict", "1", "1 while two goals cannot both be met, by which.", Basic;
    FAILURES = "phoenix_control_failures_total", "{decision}", "Decisions that could not be carried out.", Basic;
    RISK = "phoenix_risk_score", "1", "Chance that the budget is exceeded before the loop can react, times what that would cost, 0 to 100.", Basic;
    EXHAUSTED = "phoenix_budget_exhausted_seconds", "s", "Seconds until the budget is reached if things go on as they do; -1 = not in sight.", Basic;
    EXPLODING = "phoenix_explosion_active", "{metric}", "Metrics whose series explode.", Basic;
    EXPLOSIONS = "phoenix_explosions_total", "{explosion}", "Explosions of series found, by the first sign.", Basic;
    EXCESS = "phoenix_explosion_excess_series", "{series}", "New series beyond the usual since the explosion began, by metric; 0 = over.", Basic;
    REMEDIES = "phoenix_remediation_active", "1", "Remedies at work, by action.", Basic;
    REMEDIED = "phoenix_remediations_total", "{remediation}", "Remedies begun or proposed, by action.", Basic;
    COST = "phoenix_cost_per_month", "{USD}", "US dollars a month by the configured backend's rule, before thinning and now.", Basic;
    PROFILE_COST = "phoenix_profile_cost_per_month", "{USD}", "US dollars a month under each profile.", Basic;
}

const MOVES: [(Move, &str); 3] = [(Move::Hold, "hold"), (Move::Tighten, "tighten"), (Move::Relax, "relax")];
const EMERGENCIES: [(Emergency, &str); 3] =
    [(Emergency::HardCeiling, "hard_ceiling"), (Emergency::Memory, "memory"), (Emergency::Explosion, "explosion")];
const CONFLICTS: [(Conflict, &str); 4] = [
    (Conflict::BudgetOutOfReach, "budget_out_of_reach"),
    (Conflict::AttributionGaveWay, "attribution_gave_way"),
    (Conflict::BudgetGaveWay, "budget_gave_way"),
    (Conflict::ManualAboveBudget, "manual_above_budget"),
];

/// The name of a guard in metrics, JSON and text.
pub(super) fn guard_name(guard: Guard) -> &'static str {
    match guard {
        Guard::Stale => "stale",
        Guard::Missing => "missing",
        Guard::Manual => "manual",
        Guard::Confirmation => "confirmation",
        Guard::Dwell => "dwell",
        Guard::ShadowUnknown => "shadow_unknown",
        Guard::ShadowAbove => "shadow_above",
        Guard::ShadowRecent => "shadow_recent",
        Guard::RateLimit => "rate_limit",
        Guard::OscillationLockout => "oscillation_lockout",
        Guard::EmergencyLockout => "emergency_lockout",
        Guard::AttributionFloor => "attribution_floor",
        Guard::NothingTighter => "nothing_tighter",
    }
}

/// The handles of one stage.
pub(super) struct Gauges {
    metrics: Metrics,
    labels: [(&'static str, String); 2],
    budget: metrics::Gauge,
    steered: metrics::Gauge,
    error: metrics::Gauge,
    terms: [metrics::Gauge; 3],
    pressure: metrics::Gauge,
    wanted: metrics::Gauge,
    failures: metrics::Counter,
}

impl Gauges {
    /// `floor` is the attribution floor, 0 if there is none.
    pub(super) fn new(metrics: &Metrics, pipeline: &str, processor: &ComponentId, floor: f64) -> Self {
        let own = [("pipeline", pipeline), ("processor", processor.as_str())];
        metrics.gauge(&FLOOR, &own).set(floor);
        let [a, b] = own;
        Gauges {
            budget: metrics.gauge(&BUDGET, &own),
            steered: metrics.gauge(&STEERED, &own),
            error: metrics.gauge(&ERROR, &own),
            terms: ["p", "i", "d"].map(|term| metrics.gauge(&TERM, &[a, b, ("term", term)])),
            pressure: metrics.gauge(&PRESSURE, &own),
            wanted: metrics.gauge(&WANTED, &own),
            failures: metrics.counter(&FAILURES, &own),
            metrics: metrics.clone(),
            labels: own.map(|(key, value)| (key, value.to_owned())),
        }
    }

    fn with<T>(&self, key: &'static str, value: &str, make: impl FnOnce(&[(&'static str, &str)]) -> T) -> T {
        let [a, b] = &self.labels;
        make(&[(a.0, &a.1), (b.0, &b.1), (key, value)])
    }

    /// One decision, a few times a minute at most: handles of rare labels are looked up when they are needed.
    pub(super) fn decided(&self, decision: &Decision, wanted: usize) {
        self.budget.set(decision.budget);
        if let Some(steered) = decision.output {
            self.steered.set(steered);
        }
        let terms = decision.terms;
        self.error.set(terms.error);
        self.terms.iter().zip([terms.p, terms.i, terms.d]).for_each(|(gauge, term)| gauge.set(term));
        self.pressure.set(decision.pressure);
        self.wanted.set(wanted as f64);
        for (_, name) in MOVES.iter().filter(|(kind, _)| *kind == decision.r#move) {
            self.with("move", name, |labels| self.metrics.counter(&DECISIONS, labels)).increment(1);
        }
        for guard in &decision.guards {
            self.with("guard", guard_name(*guard), |labels| self.metrics.counter(&HELD, labels)).increment(1);
        }
        let flag = |on| if on { 1.0 } else { 0.0 };
        for (kind, name) in EMERGENCIES {
            let gauge = self.with("why", name, |labels| self.metrics.gauge(&EMERGENCY, labels));
            gauge.set(flag(decision.emergency == Some(kind)));
        }
        for (kind, name) in CONFLICTS {
            let gauge = self.with("which", name, |labels| self.metrics.gauge(&CONFLICT, labels));
            gauge.set(flag(decision.conflict == Some(kind)));
        }
    }

    /// The controller changed the profile.
    pub(super) fn switched(&self, tighter: bool) {
        let name = if tighter { "tighten" } else { "relax" };
        self.with("direction", name, |labels| self.metrics.counter(&SWITCHES, labels)).increment(1);
    }

    /// A decision could not be carried out.
    pub(super) fn failed(&self) {
        self.failures.increment(1);
    }

    /// How near the budget is.
    pub(super) fn outlook(&self, forecast: &Forecast, risk: &Risk) {
        let own = self.labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        self.metrics.gauge(&RISK, &own).set(risk.score);
        self.metrics.gauge(&EXHAUSTED, &own).set(forecast.robust.unwrap_or(-1.0));
    }

    /// What explodes, and what has just begun and ended to.
    pub(super) fn explosions(&self, explosions: &[Explosion], news: &News) {
        let own = self.labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        self.metrics.gauge(&EXPLODING, &own).set(explosions.len() as f64);
        let excess = |metric: &str| self.with("metric", metric, |labels| self.metrics.gauge(&EXCESS, labels));
        explosions.iter().for_each(|explosion| excess(&explosion.metric).set(explosion.excess));
        news.ended.iter().for_each(|metric| excess(metric).set(0.0));
        for begun in &news.begun {
            let kind = kind_name(begun.kind);
            self.with("kind", kind, |labels| self.metrics.counter(&EXPLOSIONS, labels)).increment(1);
        }
    }

    /// What became of a remedy.
    pub(super) fn remedy(&self, change: &Change) {
        let [a, b] = self.labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        let (action, status, step) = match change {
            Change::Begun(action) => (action, Some("begun"), 1.0),
            Change::Proposed(action) => (action, Some("proposed"), 0.0),
            Change::Ended(action) => (action, None, -1.0),
        };
        let action = ("action", action.name());
        if let Some(status) = status {
            self.metrics.counter(&REMEDIED, &[a, b, action, ("status", status)]).increment(1);
        }
        self.metrics.gauge(&REMEDIES, &[a, b, action]).increment(step);
    }

    /// What a month costs.
    pub(super) fn cost(&self, bill: &Bill) {
        for (of, dollars) in [("before", bill.before), ("now", bill.now)] {
            self.with("of", of, |labels| self.metrics.gauge(&COST, labels)).set(dollars);
        }
        for (profile, dollars) in &bill.profiles {
            self.with("profile", profile, |labels| self.metrics.gauge(&PROFILE_COST, labels)).set(*dollars);
        }
    }
}
