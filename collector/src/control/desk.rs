//! Where the loop lays down what it saw and decided, and the admin endpoint picks it up. All of it is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use phoenix_pipeline::{Clock, ComponentId, Profiles};
use serde_json::{Value, json};

/// Decisions that are kept; older ones are in the log.
pub const KEPT: usize = 1000;
/// Steps that are kept of each stage: two hours at an interval of ten seconds.
const HISTORY: usize = 720;

/// What the columns of the history are.
const COLUMNS: [&str; 9] = [
    "time_unix_seconds",
    "series_in",
    "series_out",
    "steered",
    "pressure",
    "profile",
    "risk",
    "attribution",
    "cost_per_month",
];

/// One step, in the order of the columns.
pub(super) type Row = [Option<f64>; COLUMNS.len()];

/// What is shown of one stage.
#[derive(Default)]
struct Page {
    state: Value,
    /// When what the state shows was measured.
    measured: Option<Instant>,
    cost: Value,
    rows: VecDeque<Row>,
}

#[derive(Default)]
struct Shown {
    pages: BTreeMap<(Arc<str>, ComponentId), Page>,
    decisions: VecDeque<Value>,
    total: u64,
}

/// The desk. Cheap to clone; all clones are one desk.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<Shown>>);

impl Desk {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a page of this stage.
    pub(super) fn knows(&self, pipeline: &Arc<str>, processor: &ComponentId) -> bool {
        self.shown().pages.contains_key(&(Arc::clone(pipeline), processor.clone()))
    }

    /// Lays down what a stage looks like now. `row` is there if something new was seen.
    pub(super) fn show(
        &self,
        place: (&Arc<str>, &ComponentId),
        (state, measured): (Value, Option<Instant>),
        cost: Value,
        row: Option<Row>,
    ) {
        let mut shown = self.shown();
        let page = shown.pages.entry((Arc::clone(place.0), place.1.clone())).or_default();
        (page.state, page.measured, page.cost) = (state, measured, cost);
        page.rows.extend(row);
        while page.rows.len() > HISTORY {
            page.rows.pop_front();
        }
    }

    /// The stage is gone.
    pub(super) fn clear(&self, pipeline: &Arc<str>, processor: &ComponentId) {
        self.shown().pages.remove(&(Arc::clone(pipeline), processor.clone()));
    }

    /// Writes a decision down, under the next number.
    pub(super) fn write(&self, mut decision: Value) {
        let mut shown = self.shown();
        shown.total += 1;
        decision["id"] = shown.total.into();
        shown.decisions.push_front(decision);
        shown.decisions.truncate(KEPT);
    }

    /// `GET /control/state`.
    pub fn state(&self, clock: &Clock, profiles: &Profiles, version: &str) -> Value {
        let (now, states) = (clock.now(), profiles.list());
        let shown = self.shown();
        let stage = |((pipeline, processor), page): (&(Arc<str>, ComponentId), &Page)| {
            let mut state = page.state.clone();
            let age = page.measured.map(|at| now.saturating_duration_since(at).as_secs_f64());
            state["age_seconds"] = age.into();
            // A person's choice is shown as it is, not as it was when the loop looked last.
            let chosen = states.iter().find(|row| row.pipeline == *pipeline && row.processor == *processor);
            state["manual"] = chosen.filter(|row| row.by_hand).map_or(Value::Null, |row| {
                let left = row.expires_in.map(|left| left.as_secs_f64());
                json!({ "profile": &*row.active, "expires_in_seconds": left })
            });
            state
        };
        let stages: Vec<Value> = shown.pages.iter().map(stage).collect();
        json!({ "time_unix_nano": clock.unix_nanos().to_string(), "version": version, "stages": stages })
    }

    /// `GET /control/decisions`: at most `limit`, newest first.
    pub fn decisions(&self, limit: usize) -> Value {
        let shown = self.shown();
        let newest: Vec<&Value> = shown.decisions.iter().take(limit).collect();
        json!({ "total": shown.total, "kept": shown.decisions.len(), "decisions": newest })
    }

    /// `GET /control/history`, oldest first.
    pub fn history(&self) -> Value {
        let shown = self.shown();
        let stage = |((pipeline, processor), page): (&(Arc<str>, ComponentId), &Page)| {
            let names = page.state["profiles"].as_array().map_or(&[][..], Vec::as_slice);
            let names: Vec<&Value> = names.iter().map(|profile| &profile["name"]).collect();
            json!({
                "pipeline": &**pipeline,
                "processor": processor.as_str(),
                "budget": &page.state["budget"],
                "profiles": names,
                "columns": COLUMNS,
                "rows": page.rows,
            })
        };
        json!({ "stages": shown.pages.iter().map(stage).collect::<Vec<_>>() })
    }

    /// `GET /control/cost`.
    pub fn cost(&self) -> Value {
        json!({ "stages": self.shown().pages.values().map(|page| &page.cost).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_and_history_are_bounded_and_the_newest_stay() {
        let desk = Desk::default();
        for n in 0..KEPT + 5 {
            desk.write(json!({ "n": n }));
        }
        let shown = desk.decisions(2);
        assert_eq!((&shown["total"], &shown["kept"]), (&json!(KEPT + 5), &json!(KEPT)));
        assert_eq!(shown["decisions"], json!([{ "n": KEPT + 4, "id": KEPT + 5 }, { "n": KEPT + 3, "id": KEPT + 4 }]));
        let (pipeline, processor) = (Arc::from("metrics"), ComponentId::new("adaptive"));
        for n in 0..HISTORY + 3 {
            let row = [Some(n as f64); COLUMNS.len()];
            desk.show((&pipeline, &processor), (json!({}), None), json!({}), Some(row));
        }
        let rows = desk.history()["stages"][0]["rows"].as_array().unwrap().clone();
        assert_eq!((rows.len(), rows[0][0].as_f64()), (HISTORY, Some(3.0)));
        desk.clear(&pipeline, &processor);
        assert_eq!(desk.cost(), json!({ "stages": [] }));
    }
}
