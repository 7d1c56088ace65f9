//! Whom the rankings keep, published for a person: the first of each, by name. Nothing decides by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::Site;
use phoenix_pipeline::estimates::{Kept, Publisher, Ranking};
use phoenix_telemetry::{Batch, Point, PointId};

use super::State;
use crate::entity::EntityBy;
use crate::measure::{Target, Tracker};

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
        let is_early = self.published.is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        if is_early || !self.publisher.is_read() {
            return;
        }
        self.published = Some(now);
        // All rankings in one pass over the entities: to look at these costs more than to sort the few that are inside.
        let mut rankings: Vec<Vec<Leader>> = vec![Vec::new(); self.names.len()];
        for (_, at) in tracker.seen() {
            let Some(slot) = tracker.at(*at).filter(|slot| slot.state.open) else { continue };
            for (standing, inside) in slot.state.standings.iter().zip(&mut rankings) {
                if standing.place.inside {
                    inside.push((standing.score, slot.key, *at));
                }
            }
        }
        for inside in &mut rankings {
            inside.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        let samples = samples(tracker, rankings.iter().flat_map(|inside| inside.iter().take(Ranking::MOST)));
        let measures = self.names.iter().zip(rankings).enumerate().map(|(ranking, (name, inside))| {
            let listed = inside.iter().take(Ranking::MOST).zip(1..).filter_map(|((_, key, at), rank)| {
                let sample = samples.binary_search_by_key(key, |(key, _)| *key).ok().map(|found| samples[found].1)?;
                self.kept(tracker, batch.point(sample)?, *at, (ranking, rank))
            });
            (Arc::clone(name), inside.len(), listed.collect())
        });
        self.publisher.publish(Ranking { at: now, measures: measures.collect() });
    }

    fn kept(
        &self,
        tracker: &Tracker<State>,
        point: Point<'_>,
        at: u32,
        (ranking, rank): (usize, usize),
    ) -> Option<Kept> {
        let standing = *tracker.at(at)?.state.standings.get(ranking)?;
        let attributes = point.metric().resource().attributes();
        let host = attributes.get_str("host.name").map(|host| Arc::from(short(host)));
        // Before the first reading there is only the estimate that it is ranked by.
        let (value, since) = (standing.history.newest().unwrap_or(standing.score), standing.place.since);
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

/// A point of each of these entities in the batch, by key: found in one pass, as a search for each would cost more than
/// all else here.
fn samples<'l>(tracker: &Tracker<State>, leaders: impl Iterator<Item = &'l Leader>) -> Vec<(u64, PointId)> {
    let mut keys: Vec<u64> = leaders.map(|(_, key, _)| *key).collect();
    keys.sort_unstable();
    let wanted = |target: &&Target| keys.binary_search(&target.key).is_ok();
    let mut samples: Vec<_> =
        tracker.targets().iter().filter(wanted).map(|target| (target.key, target.sample)).collect();
    samples.sort_by_key(|(key, _)| *key);
    samples.dedup_by_key(|(key, _)| *key);
    samples
}

fn short(text: &str) -> &str {
    text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
