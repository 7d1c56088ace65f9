//! What became of the entities: how many stay individual, how many are folded, into how many groups, and why; and whom
//! the rankings keep.
//!
//! The numbers are `aggregate`'s own metrics, read when somebody asks, so that the page and `phoenix top` need no second
//! address; the rankings are what `topk` published last. Why an entity is where it is, `/debug/explain` says.

use std::collections::BTreeMap;

use phoenix_pipeline::estimates::{Kept, Ranking};
use phoenix_pipeline::{Estimates, Level, Metrics};
use phoenix_telemetry::{Number, Point};
use serde_json::{Value, json};

/// What one `aggregate` says.
#[derive(Default)]
struct Row {
    groups: Option<f64>,
    entities: Vec<Value>,
}

/// `{"processors": [{processor, groups, entities: [{verdict, reason, count}]}], "rankings": [{pipeline, processor, measure,
/// kept, first: [{rank, entity, host, value, since_unix_nano}]}]}`, most entities and first ranks first; `groups`, `host`
/// and `since_unix_nano` are null where they are not known.
pub(super) fn answer(metrics: &Metrics, estimates: &Estimates) -> Value {
    json!({ "processors": processors(metrics), "rankings": rankings(estimates) })
}

fn rankings(estimates: &Estimates) -> Vec<Value> {
    let one = |kept: &Kept| {
        let since = (kept.since > 0).then(|| kept.since.to_string());
        let Kept { entity, host, rank, value, .. } = kept;
        json!({ "rank": rank, "entity": &**entity, "host": host.as_deref(), "value": value, "since_unix_nano": since })
    };
    let mut all = Vec::new();
    for stage in estimates.rankings.list() {
        let Ranking { measures, .. } = &*stage.snapshot;
        all.extend(measures.iter().map(|(measure, kept, first)| {
            let first: Vec<Value> = first.iter().map(one).collect();
            json!({ "pipeline": &*stage.pipeline, "processor": stage.processor.as_str(), "measure": &**measure,
                "kept": kept, "first": first })
        }));
    }
    all
}

fn processors(metrics: &Metrics) -> Vec<Value> {
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
    rows.into_iter()
        .map(|(processor, mut row)| {
            row.entities.sort_by(|a, b| count(b).total_cmp(&count(a)));
            json!({ "processor": processor, "groups": row.groups, "entities": row.entities })
        })
        .collect()
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
    use phoenix_pipeline::{Clock, ComponentId, Instrument};
    use std::time::Instant;

    const fn instrument(name: &'static str) -> Instrument {
        Instrument { name, unit: "", description: "", level: Level::Basic }
    }
    static GROUPS: Instrument = instrument("phoenix_groups");
    static ENTITIES: Instrument = instrument("phoenix_entities");
    static OTHER: Instrument = instrument("phoenix_other");

    #[test]
    fn what_is_there_is_listed_by_processor_most_first() {
        let metrics = Metrics::new(&Clock::manual(7), Vec::new());
        let estimates = Estimates::default();
        assert_eq!(answer(&metrics, &estimates), json!({ "processors": [], "rankings": [] }));
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
        let processors = json!([{ "processor": "aggregate", "groups": 2.0, "entities": entities }]);
        let topk = estimates.rankings.publisher(&"metrics".into(), &ComponentId::new("topk"));
        let (entity, since) = ("nginx 7".into(), 1763719200000000000);
        let first = vec![Kept { entity, host: Some("a".into()), rank: 1, value: 0.5, since }];
        topk.publish(Ranking { at: Instant::now(), measures: vec![("process.cpu.time".into(), 9, first)] });
        let first = json!([{ "rank": 1, "entity": "nginx 7", "host": "a", "value": 0.5, "since_unix_nano": "1763719200000000000" }]);
        let rankings = json!([{ "pipeline": "metrics", "processor": "topk", "measure": "process.cpu.time", "kept": 9, "first": first }]);
        assert_eq!(answer(&metrics, &estimates), json!({ "processors": processors, "rankings": rankings }));
    }
}
