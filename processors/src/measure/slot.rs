//! An entity as a marking stage remembers it, and what of a batch belongs to it.

use phoenix_pipeline::{Entity, Mark};
use phoenix_telemetry::PointId;

use super::EXPIRY;
use super::readings::Readings;

/// One entity.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    /// Its identity: the hash of the resource, or of the attributes that make it.
    pub(crate) key: u64,
    pub(crate) scope: u64,
    /// Newest time of a point, Unix nanoseconds.
    pub(crate) time: u64,
    /// Number of the scrape of its scope that last showed it.
    pub(super) scrape: u64,
    pub(super) batch: u32,
    /// Number of the batch that last began a new life.
    pub(super) reborn: u32,
    /// Newest time the batch at hand brought.
    pub(super) newest: u64,
    pub(super) readings: Readings,
    /// What was last said of it.
    pub(super) told: Option<Mark>,
    /// What the stage keeps of it.
    pub(crate) state: S,
}

impl<S> Slot<S> {
    /// A batch of that number shows it, with a point of that time; whether for the first time.
    pub(super) fn show(&mut self, batch: u32, time: u64) -> bool {
        let first = self.batch != batch;
        self.newest = if first { time } else { self.newest.max(time) };
        self.batch = batch;
        first
    }

    /// Whether another batch than that one measured it, in that scrape or a later one.
    pub(super) fn is_elsewhere(&self, batch: u32, since: u64) -> bool {
        self.time > 0 && self.batch != batch && self.scrape >= since
    }

    /// The value of a measure as of the newest batch that had it.
    pub(crate) fn value(&self, measure: usize) -> Option<f64> {
        self.read(measure, false).map(|(value, _)| value)
    }

    /// The value of a measure, if the newest batch with this entity had it.
    pub(crate) fn fresh(&self, measure: usize) -> Option<f64> {
        self.read(measure, true).map(|(value, _)| value)
    }

    /// The value of a measure, and whether it is an average over a life, for want of a window; with `fresh`, only if the newest
    /// batch with this entity had it.
    #[inline]
    pub(crate) fn read(&self, measure: usize, fresh: bool) -> Option<(f64, bool)> {
        let is_asked_for = |batch| !fresh || batch == self.batch;
        match &self.readings {
            Readings::Row(row) => {
                row.value(measure).filter(|_| is_asked_for(row.newest().1)).map(|value| (value, false))
            }
            Readings::Apart(_) => {
                let reading = self.readings.get(measure).filter(|reading| is_asked_for(reading.batch))?;
                Some((reading.value()?, reading.is_estimated()))
            }
        }
    }

    /// Whether a value is an average over a life, for want of a window.
    pub(crate) fn is_estimated(&self, measure: usize) -> bool {
        self.readings.get(measure).is_some_and(|reading| reading.is_estimated())
    }

    /// Whether the newest batch with this entity showed another life than the one before: the same pid, started since.
    pub(crate) fn is_reborn(&self) -> bool {
        self.reborn == self.batch
    }

    /// Whether a measure was read within the time an entity is remembered.
    pub(crate) fn is_recent(&self, measure: usize) -> bool {
        self.readings.get(measure).is_some_and(|reading| reading.time() + EXPIRY > self.time)
    }
}

/// Something of the batch that belongs to an entity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) key: u64,
    pub(crate) entity: Entity,
    /// One of its points, by which it can be looked at again.
    pub(crate) sample: PointId,
    pub(crate) place: Place,
}

/// Where an entity is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it never had a measure.
    None,
    /// Here.
    At(u32),
    /// There was no room for it.
    Overflow,
}
