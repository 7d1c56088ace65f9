//! `cardinality`: how many series pass at its place, of which metrics and attributes, and how fast they come and go.
//!
//! The total is a windowed HyperLogLog. Everything else is read off a bounded set of series that are remembered one by
//! one: all of them while there is room, and then exact; a fair part of them, chosen by hash, when there is not. The stage
//! changes nothing, and its windows run by the agent's clock.

mod attributes;
mod config;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::Value;
use phoenix_pipeline::estimates::{Cardinality, Count, Publisher, Share};
use phoenix_pipeline::{
    BuildError, Context, Handover, Instrument, Level, Processor, ProcessorFactory, Site, Stability,
};
use phoenix_sketch::{COMMON_SEED, Distinct, Met, STANDARD_ERROR, Sample, Window};
use phoenix_telemetry::{Batch, Point};

pub use config::Config;

use attributes::Attributes;

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "cardinality",
    "counts the series that pass, by metric and attribute, and how fast they come and go",
    Stability::Alpha,
    build,
);

static SERIES: Instrument = Instrument {
    name: "phoenix_series",
    unit: "{series}",
    description: "Distinct series within the window that pass here; an estimate.",
    level: Level::Basic,
};
static NEW: Instrument = Instrument {
    name: "phoenix_series_new_per_minute",
    unit: "{series}/min",
    description: "Series that came within the last full minute.",
    level: Level::Basic,
};
static GONE: Instrument = Instrument {
    name: "phoenix_series_gone_per_minute",
    unit: "{series}/min",
    description: "Series that went out of the window within the last full minute.",
    level: Level::Normal,
};
static SAMPLED: Instrument = Instrument {
    name: "phoenix_series_sampled",
    unit: "1",
    description: "One series of so many is remembered by itself; 1 = all, and rates are exact.",
    level: Level::Normal,
};

/// Parts of the window of the total.
const EPOCHS: u64 = 10;
const MINUTE: u64 = 60_000_000_000;
/// Least time between two snapshots.
const PAUSE: Duration = Duration::from_secs(1);
/// In the place of metrics for which there is no room.
const OTHER: &str = "other";

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    Ok(Box::new(Stage::new(site.settings(value)?, site)))
}

/// What is remembered of a series.
struct Known {
    /// Place in the table of metrics.
    metric: usize,
    /// The half window in which its attributes were last counted.
    half: u64,
}

/// A metric and its part of the sample.
struct ByMetric {
    name: Arc<str>,
    series: u64,
    /// New ones in the minute at hand and the one before, already times what each stands for.
    new: u64,
    last_new: u64,
}

impl ByMetric {
    fn new(name: Arc<str>) -> Self {
        ByMetric { name, series: 0, new: 0, last_new: 0 }
    }
}

/// Series that come and go, by minute.
#[derive(Default)]
struct Rates {
    minute: u64,
    new: u64,
    gone: u64,
    last_new: u64,
    last_gone: u64,
}

/// The stage.
struct Stage {
    config: Config,
    publisher: Publisher<Cardinality>,
    gauges: [metrics::Gauge; 4],
    began: Option<Instant>,
    published: Option<Instant>,
    time: u64,
    all: Window,
    sample: Sample<Known>,
    metrics: Vec<ByMetric>,
    places: HashMap<Arc<str>, usize>,
    /// Places of metrics that nobody sends any more.
    free: Vec<usize>,
    attributes: Attributes,
    half: u64,
    rates: Rates,
}

impl Stage {
    fn new(config: Config, site: &Site) -> Self {
        let pipeline: Arc<str> = site.pipeline.clone().unwrap_or_default();
        let labels = [("pipeline", &*pipeline), ("processor", site.id.as_str())];
        let window = nanos(config.window);
        Stage {
            publisher: site.estimates.cardinality.publisher(&pipeline, &site.id),
            gauges: [&SERIES, &NEW, &GONE, &SAMPLED].map(|instrument| site.metrics.gauge(instrument, &labels)),
            began: None,
            published: None,
            time: 0,
            all: Window::new(window, EPOCHS, &Distinct::dense(COMMON_SEED)),
            sample: Sample::new(config.max_series, window, COMMON_SEED),
            metrics: vec![ByMetric::new(OTHER.into())],
            places: HashMap::new(),
            free: Vec::new(),
            attributes: Attributes::new(config.max_attributes, config.leading),
            half: 0,
            rates: Rates::default(),
            config,
        }
    }

    /// Moves on to a time, nanoseconds since it began: minutes end, series expire, halves turn.
    fn advance(&mut self, now: u64) {
        self.all.advance(now);
        let half = now / (nanos(self.config.window) / 2).max(1);
        if half > self.half {
            (0..(half - self.half).min(2)).for_each(|_| self.attributes.turn());
            self.half = half;
        }
        let minute = now / MINUTE;
        let Stage { sample, metrics, rates, places, free, .. } = self;
        if minute > rates.minute {
            let weight = sample.stands_for();
            let mut gone = 0;
            sample.expire(now, |known| {
                gone += weight;
                if let Some(metric) = metrics.get_mut(known.metric) {
                    metric.series = metric.series.saturating_sub(1);
                }
            });
            // After a silence nothing came within the last full minute.
            let next = minute == rates.minute + 1;
            *rates = Rates {
                minute,
                last_new: if next { rates.new } else { 0 },
                last_gone: rates.gone + gone,
                ..Rates::default()
            };
            for metric in metrics.iter_mut() {
                metric.last_new = if next { metric.new } else { 0 };
                metric.new = 0;
            }
            places.retain(|_, place| {
                let stays = metrics.get(*place).is_some_and(|metric| metric.series + metric.last_new > 0);
                if !stays {
                    free.push(*place);
                }
                stays
            });
        }
    }

    fn meet(&mut self, point: Point<'_>, metric: usize, now: u64) {
        self.time = self.time.max(point.time());
        let series = point.series();
        self.all.insert(series);
        let Stage { sample, metrics, attributes, rates, half, .. } = self;
        let mut forgotten = Vec::new();
        let mut made = false;
        let met = sample.meet(
            series,
            now,
            || {
                made = true;
                Known { metric, half: u64::MAX }
            },
            |known| forgotten.push(known.metric),
        );
        let (met, turned) = match met {
            None => (None, false),
            Some((met, known)) => {
                let turned = known.half != *half;
                known.half = *half;
                (Some(met), turned)
            }
        };
        for place in forgotten {
            if let Some(metric) = metrics.get_mut(place) {
                metric.series = metric.series.saturating_sub(1);
            }
        }
        let weight = sample.stands_for();
        let is_new = met == Some(Met::First);
        if let Some(metric) = metrics.get_mut(metric) {
            metric.series += u64::from(made);
            metric.new += if is_new { weight } else { 0 };
        }
        rates.new += if is_new { weight } else { 0 };
        if turned {
            let resource = point.metric().resource().attributes();
            for (key, value) in resource.iter().chain(point.attributes().iter()) {
                attributes.meet(key, value, is_new, weight);
            }
        }
    }

    /// The place of a metric in the table.
    fn place_of(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let name: Arc<str> = name.into();
        let metric = ByMetric::new(Arc::clone(&name));
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.metrics.len() > self.config.max_metrics => return 0,
            None => self.metrics.len(),
        };
        match self.metrics.get_mut(place) {
            Some(free) => *free = metric,
            None => self.metrics.push(metric),
        }
        self.places.insert(name, place);
        place
    }

    fn publish(&mut self, at: Instant, now: u64) {
        if self.published.is_some_and(|last| at.saturating_duration_since(last) < PAUSE) {
            return;
        }
        self.published = Some(at);
        let sampled = self.sample.stands_for();
        let share = |metric: &ByMetric| Share {
            name: Arc::clone(&metric.name),
            series: (metric.series * sampled) as f64,
            new_per_minute: metric.last_new as f64,
        };
        let mut metrics: Vec<Share> = self.metrics.iter().filter(|metric| metric.series > 0).map(share).collect();
        metrics.sort_by(|a, b| b.series.total_cmp(&a.series).then_with(|| a.name.cmp(&b.name)));
        let halves = (self.half.min(1) + 1) as f64 * nanos(self.config.window) as f64 / 2.0;
        let snapshot = Cardinality {
            at,
            time: self.time,
            series: Count { series: self.all.estimate(), error: STANDARD_ERROR },
            new_per_minute: self.rates.last_new as f64,
            gone_per_minute: self.rates.last_gone as f64,
            sampled,
            metrics,
            attributes: self.attributes.estimate(halves.min(now as f64) / MINUTE as f64),
        };
        let values =
            [snapshot.series.series, snapshot.new_per_minute, snapshot.gone_per_minute, snapshot.sampled as f64];
        self.gauges.iter().zip(values).for_each(|(gauge, value)| gauge.set(value));
        self.publisher.publish(snapshot);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Processor for Stage {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        let began = *self.began.get_or_insert(cx.now);
        let now = nanos(cx.now.saturating_duration_since(began));
        self.advance(now);
        for metric in batch.resources().flat_map(|resource| resource.metrics()) {
            let place = self.place_of(metric.name());
            for point in metric.points().filter(|point| !point.no_recorded_value()) {
                self.meet(point, place, now);
            }
        }
        self.publish(cx.now, now);
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Stage>() else { return Handover::default() };
        let pieces = previous.sample.len();
        if previous.config != self.config {
            return Handover { discarded: pieces, ..Handover::default() };
        }
        // All but where it publishes and counts.
        std::mem::swap(&mut self.publisher, &mut previous.publisher);
        std::mem::swap(&mut self.gauges, &mut previous.gauges);
        std::mem::swap(self, previous);
        Handover { carried: pieces, ..Handover::default() }
    }

    fn pieces(&self) -> usize {
        self.sample.len()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
