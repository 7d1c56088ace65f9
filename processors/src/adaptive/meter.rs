//! How many series come in, go out, and would go out under the other profiles.
//!
//! Windows run by the agent's clock, not by the points': one sender's wild clock must not empty them. Points that say that
//! a series has ended are no series. The figures are published once a second at most, however small the batches are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::estimates::{Count, Publisher, Thinning};
use phoenix_pipeline::{ComponentId, Handover, Instrument, Level, Marks, Metrics, Processor, Site, Stages};
use phoenix_sketch::{COMMON_SEED, Distinct, STANDARD_ERROR, Window};
use phoenix_telemetry::Batch;

use super::config::Estimation;
use super::facts::Facts;
use super::followed::{Followed, Path};
use super::shadow::Shadow;

static SERIES: Instrument = Instrument {
    name: "phoenix_adaptive_series",
    unit: "{series}",
    description: "Distinct series within the window that came in and that went out, by direction; an estimate.",
    level: Level::Basic,
};
static BY_PROFILE: Instrument = Instrument {
    name: "phoenix_profile_series",
    unit: "{series}",
    description: "Distinct series within the window that each profile lets out, or would; an estimate.",
    level: Level::Basic,
};
static ATTRIBUTION: Instrument = Instrument {
    name: "phoenix_profile_attribution_ratio",
    unit: "1",
    description: "Part of CPU, memory and I/O that stays individually attributed under each profile, in the newest batch.",
    level: Level::Normal,
};

/// Parts of a window: it is right to within a tenth of its length.
const EPOCHS: u64 = 10;
/// Least time between two snapshots.
const PAUSE: Duration = Duration::from_secs(1);

struct Gauges {
    series: metrics::Gauge,
    /// CPU, memory, I/O.
    attribution: [metrics::Gauge; 3],
}

/// All that is measured around one stage.
pub(super) struct Meter {
    settings: Estimation,
    publisher: Publisher<Thinning>,
    began: Option<Instant>,
    published: Option<Instant>,
    facts: Facts,
    input: Window,
    output: Window,
    /// Of the newest batch that came in.
    newest: u64,
    points: (u64, u64),
    bytes: (u64, u64),
    /// By profile; none where it cannot be followed.
    shadows: Vec<Option<Shadow>>,
    followed: Followed,
    gauges: Vec<Gauges>,
    series: [metrics::Gauge; 2],
}

impl Meter {
    /// `profiles` are all in order, by name.
    pub(super) fn new(
        settings: Estimation,
        profiles: Vec<(Arc<str>, Option<Path>)>,
        pipeline: &Arc<str>,
        site: &Site,
    ) -> Self {
        let length = u64::try_from(settings.window.as_nanos()).unwrap_or(u64::MAX);
        let window = || Window::new(length, EPOCHS, &Distinct::dense(COMMON_SEED));
        let labels = |direction| [("pipeline", &**pipeline), ("processor", site.id.as_str()), ("direction", direction)];
        let gauges = profiles.iter().map(|(name, _)| gauges(&site.metrics, pipeline, &site.id, name)).collect();
        let (mut shadows, mut paths) = (Vec::new(), Vec::new());
        for (name, mut path) in profiles {
            let shadow = path.as_mut().map(|path| Shadow::new(name, path.edits, path.folding.take(), window()));
            shadows.push(shadow);
            paths.push(path);
        }
        Meter {
            publisher: site.estimates.thinning.publisher(pipeline, &site.id),
            began: None,
            published: None,
            facts: Facts::default(),
            input: window(),
            output: window(),
            newest: 0,
            points: (0, 0),
            bytes: (0, 0),
            gauges,
            shadows,
            followed: Followed::new(paths),
            series: ["in", "out"].map(|direction| site.metrics.gauge(&SERIES, &labels(direction))),
            settings,
        }
    }

    /// Nanoseconds since it began.
    fn since(&mut self, now: Instant) -> u64 {
        let began = *self.began.get_or_insert(now);
        u64::try_from(now.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A batch came in.
    pub(super) fn came_in(&mut self, batch: &Batch, now: Instant) {
        let at = self.since(now);
        self.newest = batch.points() as u64;
        self.points.0 += self.newest;
        self.bytes.0 += batch.encoded_len() as u64;
        self.input.advance(at);
        let Meter { facts, input, .. } = self;
        facts.read(batch, (at, input.epoch()), |series| input.insert(series));
    }

    /// The first `done` stages of the profile at work have marked it: those profiles follow that have no more in common with it.
    pub(super) fn follow(&mut self, active: (usize, usize), batch: &mut Batch, marks: &Marks, now: Instant) {
        if !self.settings.shadows {
            return;
        }
        let at = self.since(now);
        let Meter { shadows, facts, followed, .. } = self;
        followed.follow(active, batch, marks, now, &mut |profile, batch, marks| {
            if let Some(Some(shadow)) = shadows.get_mut(profile) {
                shadow.count(batch, facts, marks, at);
            }
        });
    }

    /// The profile at work has marked a batch and is about to fold.
    pub(super) fn decided(&mut self, active: usize, batch: &Batch, marks: &Marks, now: Instant) {
        let at = self.since(now);
        if let Some(Some(shadow)) = self.shadows.get_mut(active) {
            shadow.count(batch, &self.facts, marks, at);
        }
    }

    /// A batch leaves.
    pub(super) fn went_out(&mut self, batch: &Batch, now: Instant) {
        let at = self.since(now);
        self.points.1 += batch.points() as u64;
        self.bytes.1 += batch.encoded_len() as u64;
        self.output.advance(at);
        let live = batch.series().filter(|point| !point.no_recorded_value());
        live.for_each(|point| self.output.insert(point.series()));
    }

    /// Publishes what is known, if it is time.
    pub(super) fn publish(&mut self, active: usize, name: &Arc<str>, now: Instant) {
        if self.published.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            return;
        }
        self.published = Some(now);
        let at = self.since(now);
        let count = |window: &mut Window| {
            window.advance(at);
            Count { series: window.estimate(), error: STANDARD_ERROR }
        };
        let (input, output) = (count(&mut self.input), count(&mut self.output));
        let Meter { shadows, settings, .. } = self;
        let listed = shadows.iter_mut().enumerate().filter(|(profile, _)| settings.shadows || *profile == active);
        let mut profiles = Vec::new();
        for ((_, shadow), gauges) in listed.zip(&self.gauges) {
            let Some(shadow) = shadow else { continue };
            let estimate = shadow.estimate(at);
            gauges.series.set(estimate.output.series);
            let shares = estimate.attribution;
            for (gauge, share) in gauges.attribution.iter().zip([shares.cpu, shares.memory, shares.io]) {
                share.into_iter().for_each(|share| gauge.set(share));
            }
            profiles.push(estimate);
        }
        for (gauge, count) in self.series.iter().zip([input, output]) {
            gauge.set(count.series);
        }
        self.publisher.publish(Thinning {
            at: now,
            time: self.facts.time,
            window: Duration::from_nanos(at).min(self.settings.window).as_secs_f64(),
            input,
            output,
            newest_points: self.newest,
            points_in: self.points.0,
            bytes_in: self.bytes.0,
            points_out: self.points.1,
            bytes_out: self.bytes.1,
            active: Arc::clone(name),
            profiles,
        });
    }

    /// The processors of all shadows.
    pub(super) fn processors(&mut self) -> impl Iterator<Item = &mut dyn Processor> {
        self.followed.processors()
    }

    /// One profile gives way to another, see [`Followed::exchange`]; without shadows only what both have goes on.
    pub(super) fn exchange(
        &mut self,
        old: (usize, &mut Stages),
        new: (usize, &mut Stages),
    ) -> Vec<(ComponentId, Handover)> {
        if self.settings.shadows { self.followed.exchange(old, new) } else { new.1.adopt(old.1) }
    }

    /// Takes over what the meter it replaces knows.
    pub(super) fn adopt(&mut self, previous: &mut Meter) {
        let alike = previous.settings.window == self.settings.window;
        if alike {
            std::mem::swap(&mut self.input, &mut previous.input);
            std::mem::swap(&mut self.output, &mut previous.output);
        }
        self.began = previous.began;
        (self.points, self.bytes) = (previous.points, previous.bytes);
        std::mem::swap(&mut self.facts, &mut previous.facts);
        if !alike {
            // The window is a new one.
            self.facts.forget_told();
        }
        let mut same = Vec::new();
        for (ours, shadow) in self.shadows.iter_mut().enumerate() {
            let Some(shadow) = shadow else { continue };
            let others = previous.shadows.iter_mut().enumerate();
            let named = |(theirs, other): (usize, _)| Some((theirs, Option::as_mut(other)?));
            if let Some((theirs, other)) = others.filter_map(named).find(|(_, other)| other.name() == shadow.name()) {
                shadow.adopt(other, alike);
                same.push((ours, theirs));
            }
        }
        self.followed.adopt(&mut previous.followed, &same);
    }
}

fn gauges(metrics: &Metrics, pipeline: &str, id: &ComponentId, profile: &str) -> Gauges {
    let own = [("pipeline", pipeline), ("processor", id.as_str()), ("profile", profile)];
    let attribution = |measure| {
        let [a, b, c] = own;
        metrics.gauge(&ATTRIBUTION, &[a, b, c, ("measure", measure)])
    };
    Gauges { series: metrics.gauge(&BY_PROFILE, &own), attribution: ["cpu", "memory", "io"].map(attribution) }
}
