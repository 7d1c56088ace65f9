//! The part of the sample that each metric has. Bounded: further metrics are counted together.

use std::collections::HashMap;
use std::sync::Arc;

use phoenix_pipeline::estimates::Share;

/// In the place of metrics for which there is no room.
pub(super) const OTHER: &str = "other";

/// One metric.
struct Row {
    name: Arc<str>,
    /// Of the sample.
    series: u64,
    /// New ones in the minute at hand and the one before, already times what each stands for.
    new: u64,
    last_new: u64,
    /// All that came, as above.
    all_new: u64,
}

impl Row {
    fn new(name: Arc<str>) -> Self {
        Row { name, series: 0, new: 0, last_new: 0, all_new: 0 }
    }
}

/// All metrics by their places; the first one is that of all others.
pub(super) struct ByMetric {
    room: usize,
    rows: Vec<Row>,
    places: HashMap<Arc<str>, usize>,
    /// Places of metrics that nobody sends any more.
    free: Vec<usize>,
}

impl ByMetric {
    pub(super) fn new(room: usize) -> Self {
        ByMetric { room, rows: vec![Row::new(OTHER.into())], places: HashMap::new(), free: Vec::new() }
    }

    /// The sample has one more series of a metric; returns the metric's place.
    pub(super) fn admit(&mut self, name: &str) -> usize {
        let place = self.place_of(name);
        if let Some(row) = self.rows.get_mut(place) {
            row.series += 1;
        }
        place
    }

    /// So many new series of a metric came.
    pub(super) fn came(&mut self, place: usize, new: u64) {
        if let Some(row) = self.rows.get_mut(place) {
            row.new += new;
            row.all_new += new;
        }
    }

    /// The sample has one less.
    pub(super) fn forget(&mut self, place: usize) {
        if let Some(row) = self.rows.get_mut(place) {
            row.series = row.series.saturating_sub(1);
        }
    }

    /// The name of the metric at a place.
    pub(super) fn name(&self, place: usize) -> Option<&Arc<str>> {
        self.rows.get(place).map(|row| &row.name)
    }

    /// A minute is over; `last` says that it is the one before this.
    pub(super) fn turn(&mut self, last: bool) {
        let ByMetric { rows, places, free, .. } = self;
        for row in rows.iter_mut() {
            row.last_new = if last { row.new } else { 0 };
            row.new = 0;
        }
        places.retain(|_, place| {
            let stays = rows.get(*place).is_some_and(|row| row.series + row.last_new > 0);
            if !stays {
                free.push(*place);
            }
            stays
        });
    }

    /// Those that have any, most series first; one of the sample stands for so many.
    pub(super) fn shares(&self, stands_for: u64) -> Vec<Share> {
        let share = |row: &Row| Share {
            name: Arc::clone(&row.name),
            series: (row.series * stands_for) as f64,
            new_per_minute: row.last_new as f64,
            new: row.all_new as f64,
        };
        let mut shares: Vec<Share> = self.rows.iter().filter(|row| row.series > 0).map(share).collect();
        shares.sort_by(|a, b| b.series.total_cmp(&a.series).then_with(|| a.name.cmp(&b.name)));
        shares
    }

    fn place_of(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let name: Arc<str> = name.into();
        let row = Row::new(Arc::clone(&name));
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.rows.len() > self.room => return 0,
            None => self.rows.len(),
        };
        match self.rows.get_mut(place) {
            Some(free) => *free = row,
            None => self.rows.push(row),
        }
        self.places.insert(name, place);
        place
    }
}
