//! What became of the entities: how many stay individual, how many are folded, into how many groups, and why.
//!
//! The numbers are `aggregate`'s own metrics, read when somebody asks, so that the page and `phoenix top` need no second
//! address. Which entities they are, `/debug/explain` says.

use std::collections::BTreeMap;

use phoenix_pipeline::{Level, Metrics};
use phoenix_telemetry::{Number, Point};
use serde_json::{Value, json};

/// What one `aggregate` says.
#[derive(Default)]
struct Row {
    groups: Option<f64>,
    entities: Vec<Value>,
}

/// `{"processors": [{processor, groups, entities: [{verdict, reason, count}]}]}`, most entities first; `groups` is null
/// where it is not known.
pub(super) fn answer(metrics: &Metrics) -> Value {
    // The time of the points is of no interest here.
    let batch = metrics.gather(0, Level::Normal);
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for point in batch.series() {
        let name = point.metric().name();
        if !matches!(name, "phoenix_groups" | "phoenix_entities") {
            continue;
        }
        let text = |key: &str| point.attributes().get_str(key).unwrap_or_default().to_owned();
        let row = rows.entry(text("processor")).or_default();
        match value(point) {
            found if name == "phoenix_groups" => row.groups = found,
            Some(count) if count > 0.0 => {
                row.entities.push(json!({ "verdict": text("verdict"), "reason": text("reason"), "count": count }));
            }
            _ => {}
        }
    }
    let count = |entity: &Value| entity.get("count").and_then(Value::as_f64).unwrap_or_default();
    let processors: Vec<Value> = rows
        .into_iter()
        .map(|(processor, mut row)| {
            row.entities.sort_by(|a, b| count(b).total_cmp(&count(a)));
            json!({ "processor": processor, "groups": row.groups, "entities": row.entities })
        })
        .collect();
    json!({ "processors": processors })
}

fn value(point: Point<'_>) -> Option<f64> {
    match point.value()? {
        Number::Int(value) => Some(value as f64),
        Number::Double(value) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_pipeline::{Clock, Instrument};

    const fn instrument(name: &'static str) -> Instrument {
        Instrument { name, unit: "", description: "", level: Level::Basic }
    }
    static GROUPS: Instrument = instrument("phoenix_groups");
    static ENTITIES: Instrument = instrument("phoenix_entities");
    static OTHER: Instrument = instrument("phoenix_other");

    #[test]
    fn what_is_there_is_listed_by_processor_most_first() {
        let metrics = Metrics::new(&Clock::manual(7), Vec::new());
        assert_eq!(answer(&metrics), json!({ "processors": [] }));
        metrics.gauge(&GROUPS, &[("processor", "aggregate")]).set(2.0);
        metrics.gauge(&OTHER, &[("processor", "other")]).set(2.0);
        for (verdict, reason, count) in
            [("individual", "unmarked", 3.0), ("fold", "topk_rank", 9.0), ("fold", "x", 0.0)]
        {
            let labels = [("processor", "aggregate"), ("verdict", verdict), ("reason", reason)];
            metrics.gauge(&ENTITIES, &labels).set(count);
        }
        let entities = json!([
            { "verdict": "fold", "reason": "topk_rank", "count": 9.0 },
            { "verdict": "individual", "reason": "unmarked", "count": 3.0 },
        ]);
        let expected = json!({ "processors": [{ "processor": "aggregate", "groups": 2.0, "entities": entities }] });
        assert_eq!(answer(&metrics), expected);
    }
}
