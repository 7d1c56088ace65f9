//! What the parcels of a line hold together, counted so that nothing is forgotten: every part is given back when its guard
//! is dropped, wherever that happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Gauge;

/// What all parcels of a line hold together.
pub(super) struct Load {
    units: AtomicU64,
    points: AtomicU64,
    memory: AtomicU64,
    size: Gauge,
}

impl Load {
    /// Nothing yet; `size` shows the units.
    pub fn new(size: Gauge) -> Arc<Self> {
        Arc::new(Load { units: AtomicU64::new(0), points: AtomicU64::new(0), memory: AtomicU64::new(0), size })
    }

    /// Units of the sizer that are taken.
    pub fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Bytes of memory that are taken.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Data points that have entered and not yet ended.
    pub fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }
}

/// One shipment's part of the line's limits, until the last parcel that carries some of it ends.
pub(super) struct Charge {
    load: Arc<Load>,
    units: u64,
    memory: u64,
}

impl Charge {
    /// Takes its part.
    pub fn new(load: &Arc<Load>, units: u64, memory: u64) -> Self {
        load.units.fetch_add(units, Ordering::Relaxed);
        load.memory.fetch_add(memory, Ordering::Relaxed);
        load.size.increment(units as f64);
        Charge { load: Arc::clone(load), units, memory }
    }

    /// Bytes of memory it stands for.
    pub fn memory(&self) -> u64 {
        self.memory
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.load.units.fetch_sub(self.units, Ordering::Relaxed);
        self.load.memory.fetch_sub(self.memory, Ordering::Relaxed);
        self.load.size.decrement(self.units as f64);
    }
}

/// The data points of one parcel, until it ends.
pub(super) struct Held {
    load: Arc<Load>,
    points: u64,
}

impl Held {
    /// So many enter.
    pub fn new(load: &Arc<Load>, points: u64) -> Self {
        load.points.fetch_add(points, Ordering::Relaxed);
        Held { load: Arc::clone(load), points }
    }

    /// Those of another parcel as well.
    pub fn join(&mut self, mut other: Held) {
        self.points += std::mem::take(&mut other.points);
    }

    /// So many of them, for a parcel of their own.
    pub fn split_off(&mut self, points: u64) -> Held {
        let points = points.min(self.points);
        self.points -= points;
        Held { load: Arc::clone(&self.load), points }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.load.points.fetch_sub(self.points, Ordering::Relaxed);
    }
}
