//! What stages measure of the series they let through, for whoever decides, shows or bills by it.
//!
//! A stage takes a [`Publisher`] and puts a new snapshot in its place now and then; readers take the newest. Neither
//! waits for the other. A stage that is gone is gone from the register. Nothing here measures or decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use crate::ComponentId;

/// How many series, and how sure that is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Distinct series within the window.
    pub series: f64,
    /// Relative standard error of `series`; 0 = exact.
    pub error: f64,
}

/// The part of a host's use that entities which stay individual account for, 0 to 1, in the newest batch that had the
/// measure: the value-weighted share, over all hosts of that batch. `None` where nothing was measured yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attribution {
    /// Of the increments of `process.cpu.time`.
    pub cpu: Option<f64>,
    /// Of the sum of `process.memory.usage`.
    pub memory: Option<f64>,
    /// Of the increments of `process.disk.io`.
    pub io: Option<f64>,
}

/// What one profile lets out, or would if it were at work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileEstimate {
    /// Its name.
    pub name: Arc<str>,
    /// Distinct series within the window, groups' and individual ones, as if it had been at work all the time.
    pub output: Count,
    /// Points of the newest batch that stay individual.
    pub individual: u64,
    /// Points groups would write beside that batch.
    pub grouped: u64,
    /// What stays individually attributed.
    pub attribution: Attribution,
}

/// What a stage with profiles measured.
#[derive(Clone, Debug)]
pub struct Thinning {
    /// When it was measured, on the agent's clock: what is older than a few scrape intervals is stale.
    pub at: Instant,
    /// Newest time of a point, Unix nanoseconds.
    pub time: u64,
    /// Seconds of points' time that the window holds by now, up to its length.
    pub window: f64,
    /// What came in.
    pub input: Count,
    /// What went out, by whichever profiles were at work within the window: what a backend counts as active series.
    pub output: Count,
    /// Points of the newest batch that came in.
    pub newest_points: u64,
    /// Points and encoded bytes since the stage began: rates are the differences of two snapshots.
    pub points_in: u64,
    /// See `points_in`.
    pub bytes_in: u64,
    /// See `points_in`.
    pub points_out: u64,
    /// See `points_in`.
    pub bytes_out: u64,
    /// The profile at work.
    pub active: Arc<str>,
    /// From the least to the most thinning, the one at work among them. One that holds stages which cannot be shadowed is
    /// missing, and without shadows all but the one at work.
    pub profiles: Vec<ProfileEstimate>,
}

/// One of a few, with its part.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// A metric's name, or an attribute's value as text.
    pub name: Arc<str>,
    /// Series within the window.
    pub series: f64,
    /// New series within the last full minute.
    pub new_per_minute: f64,
    /// New series so far. Of a metric since the stage has known it, so that the difference of two snapshots is what came
    /// between them; of a value within the window or a little longer.
    pub new: f64,
}

/// An attribute and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeEstimate {
    /// The key.
    pub key: Arc<str>,
    /// Distinct values within the window, or a little longer.
    pub values: Count,
    /// The values most new series have had, most first; at least so many: of
    /// many values that few have, some may be forgotten for want of room.
    pub leading: Vec<Share>,
}

/// An attribute of the points of one metric. Where values are many, a fair part of them is counted and stands for all.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyEstimate {
    /// The metric's name.
    pub metric: Arc<str>,
    /// The attribute's key.
    pub key: Arc<str>,
    /// Distinct values within the window, or a little longer.
    pub values: f64,
    /// Values that came, since the stage has known the attribute: the difference of two snapshots is what came between them.
    pub new: f64,
}

/// Who makes new series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MakerEstimate {
    /// The metric's name.
    pub metric: Arc<str>,
    /// The attribute of resources that names who: the first there is of an order, `process.executable.name` before all.
    pub name_of: &'static str,
    /// Its value.
    pub name: Arc<str>,
    /// Part of the metric's new series, 0 to 1, at least.
    pub share: f64,
}

/// What the stage `cardinality` measured at its place.
#[derive(Clone, Debug)]
pub struct Cardinality {
    /// When it was measured, on the agent's clock.
    pub at: Instant,
    /// Newest time of a point, Unix nanoseconds.
    pub time: u64,
    /// Distinct series within the window.
    pub series: Count,
    /// Series that came within the last full minute; exact while the admitted set holds all (`sampled` is 1).
    pub new_per_minute: f64,
    /// Series that went out of the window within the last full minute.
    pub gone_per_minute: f64,
    /// One series of so many is in the admitted set, a power of two.
    pub sampled: u64,
    /// By metric, most series first.
    pub metrics: Vec<Share>,
    /// By attribute, most values first.
    pub attributes: Vec<AttributeEstimate>,
    /// By metric and attribute of its points, most values first; attributes of resources are not among them.
    pub keys: Vec<KeyEstimate>,
    /// Who made new series of which metric, within the window or a little less; those who made a tenth of a metric's, by
    /// metric, most first.
    pub makers: Vec<MakerEstimate>,
}

/// What a memory limiter read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryUse {
    /// When, on the agent's clock.
    pub at: Instant,
    /// Resident bytes in parts of the limit from which data is refused; 1 = it is.
    pub used: f64,
}

/// An entity that a ranking keeps individual.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Who: its executable and pid, or the values of the attributes it is told by.
    pub entity: Arc<str>,
    /// Its `host.name`, where it has one.
    pub host: Option<Arc<str>>,
    /// Place in the ranking, the first is 1.
    pub rank: usize,
    /// Newest value of the measure, by second for what counts, else in the metric's unit; of a score, a part of all.
    pub value: f64,
    /// Since when it has been kept, Unix nanoseconds; 0 = not known yet.
    pub since: u64,
}

/// Whom a stage that ranks keeps, as of its newest batch.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// When, on the agent's clock.
    pub at: Instant,
    /// By measure (a metric's name, or `score`): how many are kept, and the first [`Ranking::MOST`] of them.
    pub measures: Vec<(Arc<str>, usize, Vec<Kept>)>,
}

impl Ranking {
    /// Entities listed by measure at most: what a person reads.
    pub const MOST: usize = 20;
}

struct Entry<T> {
    pipeline: Arc<str>,
    processor: ComponentId,
    slot: Weak<ArcSwapOption<T>>,
}

/// Stages of one kind and their newest snapshots. Cheap to clone; all clones are one.
pub struct Board<T>(Arc<Mutex<Vec<Entry<T>>>>);

/// Where one stage publishes; dropping it takes the stage off the board.
#[derive(Debug)]
pub struct Publisher<T>(Arc<ArcSwapOption<T>>);

/// A snapshot and whose it is.
#[derive(Clone, Debug)]
pub struct Published<T> {
    /// The pipeline the stage stands in.
    pub pipeline: Arc<str>,
    /// Its id.
    pub processor: ComponentId,
    /// The newest snapshot.
    pub snapshot: Arc<T>,
}

impl<T> Clone for Board<T> {
    fn clone(&self) -> Self {
        Board(Arc::clone(&self.0))
    }
}

impl<T> Default for Board<T> {
    fn default() -> Self {
        Board(Arc::default())
    }
}

impl<T> Board<T> {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stage's snapshots. Nothing is on the board before the first of them.
    pub fn publisher(&self, pipeline: &Arc<str>, processor: &ComponentId) -> Publisher<T> {
        let slot = Arc::default();
        let mut entries = self.entries();
        entries.retain(|entry| entry.slot.strong_count() > 0);
        entries.push(Entry {
            pipeline: Arc::clone(pipeline),
            processor: processor.clone(),
            slot: Arc::downgrade(&slot),
        });
        Publisher(slot)
    }

    /// The newest snapshots of all stages, by pipeline and id. After a reload the old stage's snapshot stands until the
    /// new one has measured something or the old one is gone.
    pub fn list(&self) -> Vec<Published<T>> {
        let one = |entry: &Entry<T>| {
            let snapshot = entry.slot.upgrade()?.load_full()?;
            Some(Published { pipeline: Arc::clone(&entry.pipeline), processor: entry.processor.clone(), snapshot })
        };
        let mut all: Vec<Published<T>> = self.entries().iter().rev().filter_map(one).collect();
        // Stable, and the newest stage of a place comes first.
        all.sort_by(|a, b| (&a.pipeline, &a.processor).cmp(&(&b.pipeline, &b.processor)));
        all.dedup_by(|a, b| a.pipeline == b.pipeline && a.processor == b.processor);
        all
    }
}

impl<T> Publisher<T> {
    /// Whether there is a board that shows the snapshots: a stage that is only followed publishes for nobody.
    pub fn is_read(&self) -> bool {
        Arc::weak_count(&self.0) > 0
    }

    /// Puts a snapshot in the place of the last one.
    pub fn publish(&self, snapshot: T) {
        self.0.store(Some(Arc::new(snapshot)));
    }
}

/// The register of all that is measured. Cheap to clone; all clones are one register.
#[derive(Clone, Default)]
pub struct Estimates {
    /// Of stages with profiles.
    pub thinning: Board<Thinning>,
    /// Of stages that measure at their place.
    pub cardinality: Board<Cardinality>,
    /// Of stages that limit memory.
    pub memory: Board<MemoryUse>,
    /// Of stages that rank entities.
    pub rankings: Board<Ranking>,
}

impl std::fmt::Debug for Estimates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Estimates { thinning, cardinality, memory, rankings } = self;
        f.debug_struct("Estimates")
            .field("thinning", &thinning.list())
            .field("cardinality", &cardinality.list())
            .field("memory", &memory.list())
            .field("rankings", &rankings.list())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stage_of_a_place_speaks_as_soon_as_it_has_something_to_say() {
        let board = Board::<u32>::default();
        let (pipeline, id) = (Arc::from("metrics"), ComponentId::new("adaptive"));
        let values = |board: &Board<u32>| board.list().iter().map(|row| *row.snapshot).collect::<Vec<_>>();
        let old = board.publisher(&pipeline, &id);
        assert!(values(&board).is_empty());
        old.publish(1);
        old.publish(2);
        assert_eq!(values(&board), [2]);
        let new = board.clone().publisher(&pipeline, &id);
        assert_eq!(values(&board), [2]);
        new.publish(3);
        assert_eq!(values(&board), [3]);
        drop(new);
        assert_eq!(values(&board), [2]);
        let _other = board.publisher(&Arc::from("logs"), &id);
        drop(old);
        assert!(values(&board).is_empty());
        assert_eq!(board.entries().len(), 2, "what is gone is forgotten with the next stage");
        let last = board.publisher(&pipeline, &id);
        assert_eq!(board.entries().len(), 2);
        assert!(last.is_read());
        drop(board);
        assert!(!last.is_read(), "nobody can look at it any more");
    }
}
