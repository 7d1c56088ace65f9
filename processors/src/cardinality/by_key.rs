//! How many values each attribute of the points of each metric has, and how many came: what says which attribute makes a
//! metric's series many.
//!
//! Values are remembered by their hashes alone, all of them while there is room and a fair part when there is not. Rows are
//! bounded; further attributes are left out.

use std::collections::HashMap;
use std::sync::Arc;

use phoenix_pipeline::estimates::KeyEstimate;
use phoenix_sketch::{COMMON_SEED, Met, Sample};
use phoenix_telemetry::AnyValue;

use crate::entity::{hash_of, mix};

/// An attribute of the points of one metric.
struct Row {
    id: u64,
    metric: Arc<str>,
    key: Arc<str>,
    /// Values in the sample.
    values: u64,
    /// All that came, already times what each stands for.
    new: u64,
}

/// All of them.
pub(super) struct ByKey {
    room: usize,
    values: Sample<usize>,
    rows: Vec<Option<Row>>,
    places: HashMap<u64, usize>,
}

impl ByKey {
    /// `room` for attributes, `values` for values within `window` nanoseconds.
    pub(super) fn new(room: usize, values: usize, window: u64) -> Self {
        let values = Sample::new(values, window, COMMON_SEED);
        ByKey { room, values, rows: Vec::new(), places: HashMap::new() }
    }

    /// A point of a metric, named by its hash too, has this attribute.
    pub(super) fn meet(&mut self, (metric, name): (u64, &str), key: &str, value: AnyValue<'_>, now: u64) {
        let id = mix(metric, hash_of(AnyValue::Str(key)));
        let Some(place) = self.place_of(id, name, key) else { return };
        let ByKey { values, rows, .. } = self;
        let forget = |place: &usize| forgotten(rows, *place);
        let Some((met, _)) = values.meet(mix(id, hash_of(value)), now, || place, forget) else { return };
        let stands_for = values.stands_for();
        if let (Met::First, Some(Some(row))) = (met, rows.get_mut(place)) {
            row.values += 1;
            row.new += stands_for;
        }
    }

    fn place_of(&mut self, id: u64, metric: &str, key: &str) -> Option<usize> {
        if let Some(place) = self.places.get(&id) {
            return Some(*place);
        }
        if self.places.len() >= self.room {
            return None;
        }
        let row = Some(Row { id, metric: metric.into(), key: key.into(), values: 0, new: 0 });
        let place = self.rows.iter().position(Option::is_none).unwrap_or(self.rows.len());
        match self.rows.get_mut(place) {
            Some(free) => *free = row,
            None => self.rows.push(row),
        }
        self.places.insert(id, place);
        Some(place)
    }

    /// Forgets values that were not met within the window, and attributes that have none.
    pub(super) fn expire(&mut self, now: u64) {
        let ByKey { values, rows, places, .. } = self;
        values.expire(now, |_| 0, |place| forgotten(rows, *place));
        for row in rows.iter_mut() {
            if let Some(gone) = row.take_if(|row| row.values == 0) {
                places.remove(&gone.id);
            }
        }
    }

    /// Those that have any, most values first.
    pub(super) fn estimate(&self) -> Vec<KeyEstimate> {
        let stands_for = self.values.stands_for();
        let one = |row: &Row| KeyEstimate {
            metric: Arc::clone(&row.metric),
            key: Arc::clone(&row.key),
            values: (row.values * stands_for) as f64,
            new: row.new as f64,
        };
        let mut all: Vec<KeyEstimate> = self.rows.iter().flatten().filter(|row| row.values > 0).map(one).collect();
        all.sort_by(|a, b| b.values.total_cmp(&a.values).then_with(|| (&a.metric, &a.key).cmp(&(&b.metric, &b.key))));
        all
    }
}

fn forgotten(rows: &mut [Option<Row>], place: usize) {
    if let Some(Some(row)) = rows.get_mut(place) {
        row.values = row.values.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_metric_and_attribute_and_forgotten_with_their_window() {
        let mut keys = ByKey::new(2, 1_000, 100);
        for n in 0..50 {
            keys.meet((1, "requests"), "request.id", AnyValue::Int(n), 0);
            keys.meet((1, "requests"), "method", AnyValue::Str("GET"), 0);
            keys.meet((2, "latency"), "request.id", AnyValue::Int(n), 0);
        }
        let named = |keys: &ByKey| -> Vec<(String, f64, f64)> {
            keys.estimate()
                .into_iter()
                .map(|row| (format!("{} {}", row.metric, row.key), row.values, row.new))
                .collect()
        };
        let both = [("requests request.id".to_owned(), 50.0, 50.0), ("requests method".to_owned(), 1.0, 1.0)];
        assert_eq!(named(&keys), both, "there is room for two");
        keys.meet((1, "requests"), "method", AnyValue::Str("PUT"), 90);
        keys.expire(150);
        assert_eq!(named(&keys), [("requests method".to_owned(), 1.0, 2.0)]);
        keys.meet((2, "latency"), "request.id", AnyValue::Int(1), 150);
        assert_eq!(named(&keys).len(), 2, "what is gone makes room");
    }
}
