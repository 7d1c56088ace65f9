//! What the admin endpoint says, as `phoenix top` reads it.
//!
//! A key the agent leaves out or does not know is `None` and shown as such: an agent of another version can be looked at.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Everything of one look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The state.
    pub state: State,
    /// What was measured before, for the plot.
    pub history: Part<History>,
    /// The latest decisions.
    pub decisions: Part<Decisions>,
    /// What the series cost.
    pub cost: Part<Costs>,
    /// What became of the entities.
    pub folding: Part<Folding>,
    /// What the stages last said of entities.
    pub explained: Part<Explained>,
}

/// One answer, or why there is none.
pub(super) type Part<T> = Result<T, String>;

impl Look {
    /// Asks for all parts.
    ///
    /// # Errors
    /// There is no state; then nothing else is asked.
    pub fn take(ask: impl Fn(&str) -> Result<Value, String>) -> Result<Look, String> {
        Ok(Look {
            state: read(ask("/control/state"))?,
            history: read(ask("/control/history")),
            decisions: read(ask("/control/decisions?limit=50")),
            cost: read(ask("/control/cost")),
            folding: read(ask("/debug/entities")),
            explained: read(ask("/debug/explain?resource=*")),
        })
    }
}

fn read<T: DeserializeOwned>(answer: Result<Value, String>) -> Part<T> {
    serde_json::from_value(answer?).map_err(|error| format!("the answer is of another version: {error}"))
}

/// `GET /control/state`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub time_unix_nano: String,
    pub version: Option<String>,
    pub stages: Vec<Stage>,
}

/// One stage with profiles.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stage {
    pub pipeline: String,
    pub processor: String,
    pub controlled: bool,
    pub observe_only: Option<bool>,
    pub profile: Option<String>,
    pub wanted: Option<String>,
    pub manual: Option<Manual>,
    pub budget: Option<f64>,
    pub age_seconds: Option<f64>,
    pub series: Option<Series>,
    pub rates: Option<Rates>,
    pub profiles: Option<Vec<Profile>>,
    pub pressure: Option<f64>,
    pub terms: Option<Terms>,
    pub guards: Option<Vec<String>>,
    pub emergency: Option<String>,
    pub conflict: Option<String>,
    pub memory: Option<f64>,
    pub switches: Option<Switches>,
    pub risk: Option<Risk>,
    pub forecast: Option<Forecast>,
    pub explosions: Option<Vec<Explosion>>,
    pub culprits: Vec<Culprit>,
    pub remediations: Option<Vec<Remediation>>,
    pub leading: Option<Leading>,
}

/// A person's choice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Manual {
    pub profile: String,
    pub expires_in_seconds: Option<f64>,
}

/// Series within the window.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Series {
    #[serde(rename = "in")]
    pub incoming: Option<f64>,
    pub out: Option<f64>,
    pub steered: Option<f64>,
    pub error: Option<f64>,
}

/// How fast series come and go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rates {
    pub new_per_minute: Option<f64>,
    pub gone_per_minute: Option<f64>,
}

/// One profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Profile {
    pub name: String,
    pub active: bool,
    pub series: Option<f64>,
    pub attribution: Option<Attribution>,
    pub cost_per_month: Option<f64>,
}

/// What stays individually attributed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attribution {
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    pub io: Option<f64>,
}

/// The controller's terms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Terms {
    pub error: Option<f64>,
    pub p: Option<f64>,
    pub i: Option<f64>,
    pub d: Option<f64>,
    pub demand: Option<f64>,
}

/// Changes of profile since the start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Switches {
    pub tighten: Option<u64>,
    pub relax: Option<u64>,
}

/// The risk score.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Risk {
    pub score: Option<f64>,
}

/// When the budget is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Forecast {
    pub robust_seconds: Option<f64>,
    pub series_per_minute: Option<f64>,
}

/// What grows too fast, and who is behind it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Explosion {
    pub kind: String,
    pub metric: Option<String>,
    pub attribute: Option<String>,
    pub name: Option<String>,
    pub name_of: Option<String>,
    pub share: Option<f64>,
    pub new_per_minute: Option<f64>,
    pub since_unix_nano: Option<String>,
}

/// Who makes new series, whether or not there are too many.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Culprit {
    pub metric: String,
    pub attribute: Option<String>,
    pub name: Option<String>,
    pub name_of: Option<String>,
    pub share: Option<f64>,
}

/// What is done about it, or would be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Remediation {
    pub action: String,
    pub target: Option<String>,
    pub status: String,
    pub expires_in_seconds: Option<f64>,
}

/// What has most series.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Leading {
    pub metrics: Vec<Leader>,
    pub attributes: Vec<Attribute>,
}

/// A metric or a value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Leader {
    pub name: String,
    pub series: Option<f64>,
    pub new_per_minute: Option<f64>,
}

/// An attribute and its values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attribute {
    pub key: String,
    pub values: Option<f64>,
    pub leading: Vec<Leader>,
}

/// `GET /control/history`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub stages: Vec<Rows>,
}

/// The history of one stage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rows {
    pub pipeline: String,
    pub processor: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<f64>>>,
}

impl Rows {
    /// One column over time: `(Unix seconds, value)`, without what is not known.
    pub fn column(&self, name: &str) -> Vec<(f64, f64)> {
        let at = |name: &str| self.columns.iter().position(|column| column == name);
        let (Some(time), Some(value)) = (at("time_unix_seconds"), at(name)) else { return Vec::new() };
        let cell = |row: &Vec<Option<f64>>, at: usize| row.get(at).copied().flatten();
        self.rows.iter().filter_map(|row| Some((cell(row, time)?, cell(row, value)?))).collect()
    }
}

/// `GET /control/decisions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Decisions {
    pub total: u64,
    pub decisions: Vec<Decision>,
}

/// One decision of the controller.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Decision {
    pub time_unix_nano: String,
    pub pipeline: String,
    pub processor: String,
    pub kind: String,
    pub text: String,
}

/// `GET /control/cost`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Costs {
    pub stages: Vec<Cost>,
}

/// What the series of one stage cost, US dollars a month.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cost {
    pub pipeline: String,
    pub processor: String,
    pub before: Option<f64>,
    pub now: Option<f64>,
    pub model: Option<CostModel>,
}

/// By whose prices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CostModel {
    pub name: Option<String>,
}

/// `GET /debug/entities`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Folding {
    pub processors: Vec<Folder>,
    pub rankings: Vec<Ranking>,
}

/// Whom one ranking keeps.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ranking {
    pub measure: String,
    pub kept: Option<f64>,
    pub first: Vec<Ranked>,
}

/// One of the first of a ranking.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ranked {
    pub entity: String,
}

/// What one `aggregate` made of its entities.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Folder {
    pub processor: String,
    pub groups: Option<f64>,
    pub entities: Vec<Counted>,
}

/// Entities of one verdict.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counted {
    pub verdict: String,
    pub reason: String,
    pub count: f64,
}

/// `GET /debug/explain`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Explained {
    pub entities: Vec<Entity>,
}

/// An entity and what was decided about it, newest first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entity {
    pub pid: Option<i64>,
    pub name: Option<String>,
    pub decisions: Vec<Word>,
}

/// One word of one stage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Word {
    pub time_unix_nano: String,
    pub stage: String,
    pub decision: String,
    pub class: String,
    pub reason: String,
}

impl Entity {
    /// The word that counts: the last ones of all stages together, `keep` before `fold` before `individual`, as they are
    /// joined in the chain.
    pub fn verdict(&self) -> Option<&Word> {
        let last = |(at, word): &(usize, &Word)| self.decisions.iter().take(*at).all(|newer| newer.stage != word.stage);
        let words = self.decisions.iter().enumerate().filter(last).map(|(_, word)| word);
        words.min_by_key(|word| match word.decision.as_str() {
            "keep" => 0,
            "fold" => 1,
            _ => 2,
        })
    }
}

/// Seconds between two times as the agent writes them; `None` where one is no time.
pub(super) fn seconds_between(earlier: &str, later: &str) -> Option<f64> {
    let [earlier, later] = [earlier, later].map(|text| text.parse::<u64>().ok());
    Some(later?.saturating_sub(earlier?) as f64 / 1e9)
}
