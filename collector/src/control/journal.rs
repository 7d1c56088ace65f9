//! Decisions in words: one sentence for the log, one entry for the list of decisions.

use phoenix_control::detect::Culprit;
use phoenix_control::{Conflict, Decision, Emergency, Move};
use serde_json::{Value, json};

use super::Place;
use super::gauges::guard_name;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tighter profile.
    Tighten,
    /// A looser profile.
    Relax,
    /// The profile stays, for other reasons than before.
    Hold,
    /// A person chose, or gave the choice back.
    Manual,
    /// A decision could not be carried out.
    Failed,
    /// Series explode, or do so no more.
    Explosion,
    /// A remedy was begun, proposed or taken back.
    Remediation,
}

impl Kind {
    /// By the decision.
    pub(super) fn of(decision: &Decision) -> Kind {
        match decision.r#move {
            Move::Tighten => Kind::Tighten,
            Move::Relax => Kind::Relax,
            Move::Hold => Kind::Hold,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Tighten => "tighten",
            Kind::Relax => "relax",
            Kind::Hold => "hold",
            Kind::Manual => "manual",
            Kind::Failed => "failed",
            Kind::Explosion => "explosion",
            Kind::Remediation => "remediation",
        }
    }
}

/// What was seen or done beside the decisions, as an entry: `applied` is false for what is only proposed.
pub(super) struct Note<'a> {
    pub(super) place: &'a Place,
    pub(super) unix_nanos: u64,
    pub(super) kind: Kind,
    /// The profile at work.
    pub(super) profile: &'a str,
    pub(super) text: String,
    pub(super) applied: bool,
    pub(super) culprits: Vec<Value>,
    /// The last decision.
    pub(super) decision: Option<&'a Decision>,
    pub(super) output: Option<f64>,
}

impl Note<'_> {
    /// The line in the log and the entry, without its number.
    pub(super) fn told(self) -> Value {
        let Note { place, unix_nanos, kind, profile, text, applied, culprits, decision, output } = self;
        let (pipeline, processor) = (&*place.pipeline, &place.processor);
        tracing::warn!(pipeline, %processor, "control: {text}");
        let about = About { place, unix_nanos, kind, text: &text };
        about.json(decision, output, (profile, profile), applied, None, culprits)
    }
}

/// What every entry says.
struct About<'a> {
    place: &'a Place,
    unix_nanos: u64,
    kind: Kind,
    text: &'a str,
}

impl About<'_> {
    fn json(
        &self,
        decision: Option<&Decision>,
        output: Option<f64>,
        (before, after): (&str, &str),
        applied: bool,
        error: Option<&str>,
        culprits: Vec<Value>,
    ) -> Value {
        let About { place, .. } = self;
        json!({
            "id": null,
            "time_unix_nano": self.unix_nanos.to_string(),
            "pipeline": &*place.pipeline,
            "processor": place.processor.as_str(),
            "kind": self.kind.name(),
            "text": self.text,
            "before": before,
            "after": after,
            "applied": applied,
            "observe_only": place.config.budget.observe_only,
            "error": error,
            "budget": Some(place.config.budget.series).filter(|series| *series > 0),
            "series": {
                "in": decision.and_then(|decision| decision.input),
                "out": output,
                "steered": decision.and_then(|decision| decision.output),
            },
            "attribution": decision.and_then(|decision| decision.attribution),
            "pressure": decision.map(|decision| decision.pressure),
            "terms": decision.map(|decision| decision.terms),
            "guards": decision.map_or(&[][..], |decision| decision.guards.as_slice()),
            "emergency": decision.and_then(|decision| decision.emergency),
            "conflict": decision.and_then(|decision| decision.conflict),
            "culprits": culprits,
        })
    }
}

/// Who makes new series, as JSON.
pub(super) fn culprit(culprit: &Culprit) -> Value {
    let known = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    json!({
        "metric": culprit.metric,
        "attribute": known(&culprit.attribute),
        "name": culprit.maker.as_ref().map(|maker| &maker.name),
        "name_of": culprit.maker.as_ref().map(|maker| &maker.name_of),
        "new": culprit.new,
        "share": culprit.share,
    })
}

/// One decision and what became of it.
pub(super) struct Entry<'a> {
    pub(super) place: &'a Place,
    pub(super) unix_nanos: u64,
    pub(super) kind: Kind,
    pub(super) decision: &'a Decision,
    /// What went out within the window, by whichever profiles were at work.
    pub(super) output: Option<f64>,
    pub(super) by_hand: bool,
    /// Why it was not carried out.
    pub(super) error: Option<String>,
    /// Who made the series that came lately.
    pub(super) culprits: &'a [Culprit],
}

impl Entry<'_> {
    fn name(&self, profile: usize) -> &str {
        self.place.names.get(profile).map_or("", |name| name)
    }

    /// The sentence.
    pub(super) fn text(&self) -> String {
        let decision = self.decision;
        let (before, after) = (self.name(decision.before), self.name(decision.after));
        let series = match decision.output {
            Some(output) => format!("{output:.0} series for a budget of {:.0}", decision.budget),
            None => "the series are not known".to_owned(),
        };
        let only = if self.place.config.budget.observe_only { " (observed only, nothing is changed)" } else { "" };
        let why = match decision.emergency {
            Some(Emergency::HardCeiling) => ", beyond the hard ceiling",
            Some(Emergency::Memory) => ", memory is short",
            Some(Emergency::Explosion) => ", series explode",
            None => "",
        };
        let conflict = match decision.conflict {
            Some(Conflict::BudgetOutOfReach) => "; even the tightest profile is above the budget",
            Some(Conflict::AttributionGaveWay) => "; attribution is below its floor and gives way to the budget",
            Some(Conflict::BudgetGaveWay) => "; the budget gives way to the floor of attribution",
            Some(Conflict::ManualAboveBudget) => "; the choice is above the budget",
            None => "",
        };
        let what = match self.kind {
            Kind::Tighten | Kind::Relax => format!("{before} gives way to {after}"),
            Kind::Failed => {
                let why = self.error.as_deref().unwrap_or_default();
                format!("{after} cannot be put to work, {before} stays: {why}")
            }
            Kind::Manual if self.by_hand => format!("a person chose {before}"),
            Kind::Manual => format!("{before} is no person's choice any more"),
            Kind::Hold | Kind::Explosion | Kind::Remediation => {
                let guards: Vec<&str> = decision.guards.iter().map(|guard| guard_name(*guard)).collect();
                match guards.is_empty() {
                    true => format!("{before} stays"),
                    false => format!("{before} stays, held by {}", guards.join(", ")),
                }
            }
        };
        format!("{what}: {series}{why}{conflict}{only}")
    }

    /// The line in the log: what changes something is said, what only explains is for those who look for it.
    pub(super) fn log(&self) {
        let (pipeline, processor, text) = (&*self.place.pipeline, &self.place.processor, self.text());
        match self.kind {
            Kind::Failed => tracing::error!(pipeline, %processor, "control: {text}"),
            Kind::Hold if self.decision.conflict.is_some() || self.decision.emergency.is_some() => {
                tracing::warn!(pipeline, %processor, "control: {text}")
            }
            Kind::Hold => tracing::debug!(pipeline, %processor, "control: {text}"),
            _ => tracing::info!(pipeline, %processor, "control: {text}"),
        }
    }

    /// The entry as JSON, without its number.
    pub(super) fn json(&self) -> Value {
        let Entry { place, decision, .. } = self;
        let only = place.config.budget.observe_only && matches!(self.kind, Kind::Tighten | Kind::Relax);
        let profiles = (self.name(decision.before), self.name(decision.after));
        let (text, error) = (self.text(), self.error.as_deref());
        let about = About { place, unix_nanos: self.unix_nanos, kind: self.kind, text: &text };
        about.json(
            Some(decision),
            self.output,
            profiles,
            error.is_none() && !only,
            error,
            self.culprits.iter().map(culprit).collect(),
        )
    }
}
