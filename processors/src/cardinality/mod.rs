//! `cardinality`: how many series pass at its place, of which metrics and attributes, and how fast they come and go.
//!
//! The total is a windowed HyperLogLog. Everything else is read off a bounded set of series that are remembered one by
//! one: all of them while there is room, and then exact; a fair part of them, chosen by hash, when there is not. The stage
//! changes nothing, and its windows run by the agent's clock.

mod again;
mod attributes;
mod by_key;
mod by_metric;
mod config;
mod leading;
mod makers;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::Value;
use phoenix_pipeline::estimates::{Cardinality, Count, Publisher};
use phoenix_pipeline::{
    BuildError, Context, Handover, Instrument, Level, Processor, ProcessorFactory, Site, Stability,
};
use phoenix_sketch::{COMMON_SEED, Distinct, Met, STANDARD_ERROR, Sample, Window};
use phoenix_telemetry::{Batch, Point, Resource, Scope};

pub use config::Config;

use crate::shapes::{Content, Shapes, live};

use again::{Again, Left};
use attributes::{Attributes, Weight};
use by_key::ByKey;
use by_metric::ByMetric;
use leading::Leading;
use makers::{Makers, maker_of};

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
/// Parts of half a window.
const EPOCHS_OF_HALF: u64 = EPOCHS / 2;
const MINUTE: u64 = 60_000_000_000;
/// Least time between two snapshots.
const PAUSE: Duration = Duration::from_secs(1);

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    Ok(Box::new(Stage::new(site.settings(value)?, site)))
}

/// What is remembered of a series.
struct Known {
    /// Place in the table of metrics.
    metric: u32,
    /// The resource it came with, as [`Again`] knows it.
    with: u32,
    /// When it was last counted in the total, and its attributes in their half window; `NEVER` at first. Since then it may have
    /// been counted with its resource.
    epoch: u64,
}

const NEVER: u64 = u64::MAX;

/// The first of the scopes of each shape whose points are to be counted by their attributes, and how many there are of them.
type Alike<'b> = Shapes<(Scope<'b>, u64)>;

/// Whether two epochs are of one half of the window.
fn same_half(one: u64, other: u64) -> bool {
    one / EPOCHS_OF_HALF == other / EPOCHS_OF_HALF
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
    leading: Leading,
    began: Option<Instant>,
    published: Option<Instant>,
    time: u64,
    all: Window,
    sample: Sample<Known>,
    again: Again,
    /// What is in the scopes of the batch.
    contents: Shapes<Content>,
    metrics: ByMetric,
    attributes: Attributes,
    keys: ByKey,
    makers: Makers,
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
            leading: Leading::new(config.leading, &pipeline, site),
            began: None,
            published: None,
            time: 0,
            all: Window::new(window, EPOCHS, &Distinct::dense(COMMON_SEED)),
            sample: Sample::new(config.max_series, window, COMMON_SEED),
            again: Again::default(),
            contents: Shapes::default(),
            metrics: ByMetric::new(config.max_metrics),
            attributes: Attributes::new(config.max_attributes, config.leading),
            keys: ByKey::new(config.max_metrics, config.max_series, window),
            makers: Makers::default(),
            rates: Rates::default(),
            config,
        }
    }

    /// Moves on to a time, nanoseconds since it began: minutes end, series expire, halves turn.
    fn advance(&mut self, now: u64) {
        let before = self.half();
        self.all.advance(now);
        (0..(self.half() - before).min(2)).for_each(|_| {
            self.attributes.turn();
            self.makers.turn();
        });
        let minute = now / MINUTE;
        if minute > self.rates.minute {
            let Stage { sample, again, metrics, rates, .. } = self;
            let weight = sample.stands_for();
            let mut gone = 0;
            let forget = |known: &Known| {
                gone += weight;
                metrics.forget(known.metric as usize);
            };
            sample.expire(now, |known| again.last(known.with), forget);
            again.expire(now, nanos(self.config.window));
            if sample.stands_for() < weight {
                again.look_again();
            }
            // After a silence nothing came within the last full minute.
            let last = minute == rates.minute + 1;
            *rates = Rates {
                minute,
                last_new: if last { rates.new } else { 0 },
                last_gone: rates.gone + gone,
                ..Rates::default()
            };
            metrics.turn(last);
            self.keys.expire(now);
        }
    }

    /// The half window of the newest epoch.
    fn half(&self) -> u64 {
        self.all.epoch() / EPOCHS_OF_HALF
    }

    /// Counts the series of a resource, as far as it is not known that they were.
    fn meet<'b>(&mut self, resource: Resource<'b>, now: u64, alike: &mut Alike<'b>) {
        let mut content = Content::default();
        for scope in resource.scopes() {
            content = content.and(*self.contents.of(scope, Content::of));
            self.time = self.time.max(newest(scope));
        }
        match self.again.meet(content.within(resource.hash()), now, self.all.epoch()) {
            Left::Nothing => {}
            Left::Total => drop(self.count_total(resource)),
            Left::Half(place) if self.sample.stands_for() == 1 => {
                self.again.count(place, self.all.epoch());
                self.count_half(resource, now, alike);
            }
            Left::Half(place) | Left::All(place) => self.count_all(resource, place, now),
        }
    }

    /// Counts the series of a resource in the total alone, and says how many those are.
    fn count_total(&mut self, resource: Resource<'_>) -> u64 {
        let mut series = 0;
        for point in resource.scopes().flat_map(live) {
            self.all.insert(point.series());
            series += 1;
        }
        series
    }

    /// Counts a resource of which all series are remembered, in the total and by its attributes; those of its points are left
    /// for [`Stage::count_points`], once for all scopes that are `alike`. A host that is scraped every 10 s takes 150 instructions
    /// a point here so, and 260 where each series is looked at every half window.
    fn count_half<'b>(&mut self, resource: Resource<'b>, now: u64, alike: &mut Alike<'b>) {
        let all = self.count_total(resource);
        for scope in resource.scopes() {
            match alike.shared(scope) {
                Some(known) => known.get_or_insert((scope, 0)).1 += 1,
                None => self.count_points(scope, 1, now),
            }
        }
        self.count_attributes(resource, Weight { all, new: 0 });
    }

    /// Counts the attributes of the points of so many scopes that are as this one, none of them new.
    fn count_points(&mut self, scope: Scope<'_>, scopes: u64, now: u64) {
        for point in live(scope) {
            self.count_point(point, Weight { all: scopes, new: 0 }, now);
        }
    }

    fn count_point(&mut self, point: Point<'_>, weight: Weight, now: u64) {
        let metric = point.metric();
        for (key, value) in point.attributes().iter() {
            self.attributes.meet(key, value, weight);
            self.keys.meet((metric.hash(), metric.name()), key, value, now);
        }
    }

    fn count_attributes(&mut self, resource: Resource<'_>, weight: Weight) {
        for (key, value) in resource.attributes().iter() {
            self.attributes.meet(key, value, weight);
        }
    }

    /// Counts the series of a resource one by one; `with` is its place.
    fn count_all(&mut self, resource: Resource<'_>, with: u32, now: u64) {
        let (mut turned, mut maker, mut whole) = (Weight::default(), None, true);
        for point in resource.scopes().flat_map(live) {
            let (weight, place) = self.count(point, with, now);
            if weight.all == 0 {
                whole = false;
                continue;
            }
            if weight.new > 0 {
                let maker = maker.get_or_insert_with(|| maker_of(resource));
                self.makers.made(place, maker.as_ref(), weight.new);
            }
            turned = Weight { all: turned.all + weight.all, new: turned.new + weight.new };
            self.count_point(point, weight, now);
        }
        if turned.all > 0 {
            self.count_attributes(resource, turned);
        }
        self.again.found(with, whole && turned.all > 0);
    }

    /// Counts a series; returns its weight if its attributes are to be counted, and the place of its metric.
    #[inline]
    fn count(&mut self, point: Point<'_>, with: u32, now: u64) -> (Weight, usize) {
        let series = point.series();
        let Stage { sample, again, metrics, all, rates, .. } = self;
        let epoch = all.epoch();
        all.insert(series);
        let make = || Known { metric: 0, with, epoch: NEVER };
        let Some((met, known)) = sample.meet(series, now, make, |known| metrics.forget(known.metric as usize)) else {
            return (Weight::default(), 0);
        };
        let mut before = std::mem::replace(&mut known.epoch, epoch);
        if before != NEVER {
            before = before.max(again.counted(known.with));
        }
        if known.with != with {
            again.lose(std::mem::replace(&mut known.with, with));
        }
        if same_half(before, epoch) {
            return (Weight::default(), 0);
        }
        if before == NEVER {
            known.metric = metrics.admit(point.metric().name()) as u32;
        }
        let place = known.metric as usize;
        let weight = sample.stands_for();
        let new = if met == Met::First { weight } else { 0 };
        metrics.came(place, new);
        rates.new += new;
        (Weight { all: weight, new }, place)
    }

    fn publish(&mut self, at: Instant, now: u64) {
        if self.published.is_some_and(|last| at.saturating_duration_since(last) < PAUSE) {
            return;
        }
        self.published = Some(at);
        let sampled = self.sample.stands_for();
        let halves = (self.half().min(1) + 1) as f64 * nanos(self.config.window) as f64 / 2.0;
        let snapshot = Cardinality {
            at,
            time: self.time,
            series: Count { series: self.all.estimate(), error: STANDARD_ERROR },
            new_per_minute: self.rates.last_new as f64,
            gone_per_minute: self.rates.last_gone as f64,
            sampled,
            metrics: self.metrics.shares(sampled),
            attributes: self.attributes.estimate(halves.min(now as f64) / MINUTE as f64),
            keys: self.keys.estimate(),
            makers: self.makers.estimate(&self.metrics),
        };
        let values =
            [snapshot.series.series, snapshot.new_per_minute, snapshot.gone_per_minute, snapshot.sampled as f64];
        self.gauges.iter().zip(values).for_each(|(gauge, value)| gauge.set(value));
        self.leading.show(&snapshot);
        self.publisher.publish(snapshot);
    }
}

/// The newest time of a scope's points that hold a value.
fn newest(scope: Scope<'_>) -> u64 {
    let each = || live(scope).map(|point| point.time()).max();
    scope.column().map_or_else(|| each().unwrap_or(0), |column| column.time())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Processor for Stage {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        let began = *self.began.get_or_insert(cx.now);
        let now = nanos(cx.now.saturating_duration_since(began));
        self.advance(now);
        self.contents.clear();
        let mut alike = Alike::default();
        batch.resources().for_each(|resource| self.meet(resource, now, &mut alike));
        alike.into_shared().for_each(|(scope, scopes)| self.count_points(scope, scopes, now));
        self.publish(cx.now, now);
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Stage>() else { return Handover::default() };
        let pieces = previous.sample.len();
        // What the previous one shows is this one's to take off the page, whatever becomes of the rest.
        std::mem::swap(&mut self.leading, &mut previous.leading);
        if previous.config != self.config {
            return Handover { discarded: pieces, ..Handover::default() };
        }
        // All but where it publishes and counts.
        std::mem::swap(&mut self.leading, &mut previous.leading);
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
