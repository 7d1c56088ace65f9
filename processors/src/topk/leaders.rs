//! Whom the rankings keep, published for a person: the first of each, by name. Nothing decides by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::Site;
use phoenix_pipeline::estimates::{Kept, Publisher, Ranking};
use phoenix_telemetry::{Batch, Point, PointId};

use super::State;
use crate::entity::EntityBy;
use crate::measure::{ByKey, Target, Tracker};

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
    /// Those last published: to read names costs more than all else here.
    known: ByKey<Named>,
}

/// What an entity is called, and its host.
type Named = (Arc<str>, Option<Arc<str>>);

/// One of a ranking's, before its name is looked up: score, key, place of its slot.
type Leader = (f64, u64, u32);

impl Leaders {
    pub(super) fn new(site: &Site, names: Vec<Arc<str>>, entity: EntityBy) -> Self {
        let pipeline = site.pipeline.clone().unwrap_or_default();
        Leaders {
            publisher: site.estimates.rankings.publisher(&pipeline, &site.id),
            names,
            entity,
            published: None,
            known: ByKey::default(),
        }
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
            let Some(slot) = tracker.at(*at).filter(|slot| slot.state.open && slot.state.inside > 0) else { continue };
            for (standing, inside) in slot.state.standings.iter().zip(&mut rankings) {
                if standing.place.inside {
                    inside.push((standing.score, slot.key, *at));
                }
            }
        }
        for inside in &mut rankings {
            let before = |a: &Leader, b: &Leader| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if inside.len() > Ranking::MOST {
                inside.select_nth_unstable_by(Ranking::MOST, before);
            }
            let first = inside.len().min(Ranking::MOST);
            inside.get_mut(..first).unwrap_or_default().sort_unstable_by(before);
        }
        let listed = || rankings.iter().flat_map(|inside| inside.iter().take(Ranking::MOST)).map(|(_, key, _)| *key);
        let mut known: ByKey<Named> = listed().filter_map(|key| Some((key, self.known.get(&key)?.clone()))).collect();
        let unknown: Vec<u64> = listed().filter(|key| !known.contains_key(key)).collect();
        // Mostly all are known, and there is nobody to look for.
        for (key, sample) in (!unknown.is_empty()).then(|| samples(tracker, unknown)).into_iter().flatten() {
            let Some(point) = batch.point(sample) else { continue };
            known.entry(key).or_insert_with(|| self.named(point));
        }
        let measures = self.names.iter().zip(&rankings).enumerate().map(|(ranking, (name, inside))| {
            let kept = inside.iter().take(Ranking::MOST).zip(1..).filter_map(|((_, key, at), rank)| {
                let (entity, host) = known.get(key)?.clone();
                let standing = tracker.at(*at)?.state.standings.get(ranking)?;
                // Before the first reading there is only the estimate that it is ranked by.
                let (value, since) = (standing.history.newest().unwrap_or(standing.score), standing.place.since);
                Some(Kept { entity, host, rank, value, since })
            });
            (Arc::clone(name), inside.len(), kept.collect())
        });
        self.publisher.publish(Ranking { at: now, measures: measures.collect() });
        self.known = match &self.entity {
            EntityBy::Resource => known,
            // The same entity may come from another host.
            EntityBy::Attributes(_) => ByKey::default(),
        };
    }

    fn named(&self, point: Point<'_>) -> Named {
        let host = point.metric().resource().attributes().get_str("host.name").map(|host| Arc::from(short(host)));
        (self.name(point).into(), host)
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
fn samples(tracker: &Tracker<State>, mut keys: Vec<u64>) -> impl Iterator<Item = (u64, PointId)> {
    keys.sort_unstable();
    let wanted = move |target: &&Target| keys.binary_search(&target.key).is_ok();
    tracker.targets().iter().filter(wanted).map(|target| (target.key, target.sample))
}

fn short(text: &str) -> &str {
    text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
