//! Whom the rankings keep, published for a person: the first of each, by name. Nothing decides by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::Site;
use phoenix_pipeline::estimates::{Kept, Publisher, Ranking};
use phoenix_telemetry::{Batch, Point};

use super::State;
use crate::entity::EntityBy;
use crate::measure::Tracker;

/// What is shown does not change faster than a person reads.
const PAUSE: Duration = Duration::from_secs(1);
/// Characters of a name at most.
const LONGEST: usize = 80;

/// Where a stage says whom it keeps.
pub(super) struct Leaders {
    publisher: Publisher<Ranking>,
    names: Vec<Arc<str>>,
    entity: EntityBy,
    published: Option<Instant>,
}

/// One of a ranking's, before its name is looked up: score, key, place of its slot.
type Leader = (f64, u64, u32);

impl Leaders {
    pub(super) fn new(site: &Site, names: Vec<Arc<str>>, entity: EntityBy) -> Self {
        let pipeline = site.pipeline.clone().unwrap_or_default();
        Leaders { publisher: site.estimates.rankings.publisher(&pipeline, &site.id), names, entity, published: None }
    }

    /// Publishes who leads among the entities of this batch, if it is time.
    pub(super) fn publish(&mut self, tracker: &Tracker<State>, batch: &Batch, now: Instant) {
        if self.published.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            return;
        }
        self.published = Some(now);
        let measures = self.names.iter().enumerate().map(|(ranking, name)| {
            let mut all: Vec<Leader> =
                tracker.seen().iter().filter_map(|(_, at)| leader(tracker, *at, ranking)).collect();
            all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let first = all.iter().take(Ranking::MOST).zip(1..);
            let listed =
                first.filter_map(|((_, key, at), rank)| self.kept(tracker, batch, (*key, *at), (ranking, rank)));
            (Arc::clone(name), all.len(), listed.collect())
        });
        self.publisher.publish(Ranking { at: now, measures: measures.collect() });
    }

    fn kept(
        &self,
        tracker: &Tracker<State>,
        batch: &Batch,
        (key, at): (u64, u32),
        (ranking, rank): (usize, usize),
    ) -> Option<Kept> {
        let standing = *tracker.at(at)?.state.standings.get(ranking)?;
        let sample = tracker.targets().iter().find(|target| target.key == key)?.sample;
        let point = batch.point(sample)?;
        let attributes = point.metric().resource().attributes();
        let host = attributes.get_str("host.name").map(|host| Arc::from(short(host)));
        let (value, since) = (standing.history.newest(), standing.place.since);
        Some(Kept { entity: self.name(point).into(), host, rank, value, since })
    }

    /// What an entity is called.
    fn name(&self, point: Point<'_>) -> String {
        let of_resource = point.metric().resource().attributes();
        let of_point = point.attributes();
        let text = |key: &str| of_point.get(key).or_else(|| of_resource.get(key)).map(|value| value.to_string());
        let keys: Vec<&str> = match &self.entity {
            EntityBy::Resource => vec!["process.executable.name", "process.pid"],
            EntityBy::Attributes(keys) => keys.iter().map(String::as_str).collect(),
        };
        short(&keys.into_iter().filter_map(text).collect::<Vec<_>>().join(" ")).to_owned()
    }
}

/// Score, identity and place of an entity that a ranking keeps.
fn leader(tracker: &Tracker<State>, at: u32, ranking: usize) -> Option<Leader> {
    let slot = tracker.at(at)?;
    let standing = slot.state.standings.get(ranking).filter(|standing| standing.place.inside && slot.state.open)?;
    Some((standing.score, slot.key, at))
}

fn short(text: &str) -> &str {
    text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
