//! The metrics with most series and the attributes with most values, in the agent's own metrics.
//!
//! Only as many as `leading` says, and one that leads no longer leaves the page: what watches the number of series must
//! not make many itself.

use std::sync::Arc;

use phoenix_pipeline::estimates::Cardinality;
use phoenix_pipeline::{Instrument, Level, Metrics, Site};

static OF_METRIC: Instrument = Instrument {
    name: "phoenix_metric_series",
    unit: "{series}",
    description: "Series of the metrics with most, as far as they are remembered one by one.",
    level: Level::Normal,
};
static OF_ATTRIBUTE: Instrument = Instrument {
    name: "phoenix_attribute_values",
    unit: "{value}",
    description: "Distinct values within the window of the attributes with most; an estimate.",
    level: Level::Normal,
};

/// The gauges of one instrument, by the label that tells them apart.
struct Shown {
    instrument: &'static Instrument,
    key: &'static str,
    gauges: Vec<(Arc<str>, metrics::Gauge)>,
}

/// What leads at the moment.
pub(super) struct Leading {
    metrics: Metrics,
    pipeline: Arc<str>,
    processor: String,
    most: usize,
    shown: [Shown; 2],
}

impl Leading {
    pub(super) fn new(most: usize, pipeline: &Arc<str>, site: &Site) -> Self {
        let shown = |instrument, key| Shown { instrument, key, gauges: Vec::new() };
        Leading {
            metrics: site.metrics.clone(),
            pipeline: Arc::clone(pipeline),
            processor: site.id.to_string(),
            most,
            shown: [shown(&OF_METRIC, "metric"), shown(&OF_ATTRIBUTE, "attribute")],
        }
    }

    pub(super) fn show(&mut self, seen: &Cardinality) {
        let of_metric = seen.metrics.iter().map(|share| (&share.name, share.series));
        let of_attribute = seen.attributes.iter().map(|row| (&row.key, row.values.series));
        self.set(0, of_metric.take(self.most).collect());
        self.set(1, of_attribute.take(self.most).collect());
    }

    fn set(&mut self, which: usize, rows: Vec<(&Arc<str>, f64)>) {
        let Leading { metrics, pipeline, processor, shown, .. } = self;
        let Some(Shown { instrument, key, gauges }) = shown.get_mut(which) else { return };
        let own: [(&'static str, &str); 2] = [("pipeline", pipeline), ("processor", processor)];
        gauges.retain(|(name, _)| {
            let leads = rows.iter().any(|(row, _)| *row == name);
            if !leads {
                metrics.forget(instrument, &[own[0], own[1], (key, name)]);
            }
            leads
        });
        for (name, value) in rows {
            if let Some((_, gauge)) = gauges.iter().find(|(known, _)| known == name) {
                gauge.set(value);
            } else {
                let gauge = metrics.gauge(instrument, &[own[0], own[1], (key, name)]);
                gauge.set(value);
                gauges.push((Arc::clone(name), gauge));
            }
        }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        (0..self.shown.len()).for_each(|which| self.set(which, Vec::new()));
    }
}
