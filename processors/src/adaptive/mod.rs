//! `adaptive`: several chains of processors, one of which is at work; another one takes over between two batches.
//!
//! The members are processors of the same configuration, named by id. They see the batch, its promise and its marks as
//! if they stood in the pipeline themselves. A new profile is built on the thread of whoever asks for it; the lane only
//! takes it up: state crosses by component id through [`Processor::adopt`], what the old stages still hold is sent on
//! through them, and what no stage takes over is counted as discarded. It happens in [`Processor::flush`], so never
//! inside the run of a batch.
//!
//! Around its members the stage measures: `meter` what comes in and goes out, `shadow` what every profile lets out or
//! would, by the marks that the stages of all profiles in `followed` make, by `facts` of a batch that are found once, and by
//! `folding`, which foresees what `aggregate` writes.

mod config;
mod control;
mod facts;
mod folding;
mod followed;
mod meter;
mod shadow;
mod steering;

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    BuildError, ComponentId, Context, Handover, Processor, ProcessorFactory, Site, Stability, Stages, Switch, swap,
};
use phoenix_telemetry::Batch;

pub(crate) use config::WINDOWS;
pub use config::{Budget, Config, Estimation, Profiles};
use control::{Built, Control};
use meter::Meter;
pub use steering::Remediation;

use crate::adaptive_filter::AdaptiveFilter;

/// The `adaptive` processor.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "adaptive",
    "Profiles of other processors, of which one is at work and can be changed while it runs",
    Stability::Alpha,
    build,
);

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let siblings = site.siblings.clone().ok_or("profiles cannot hold profiles")?;
    let pipeline: Arc<str> = site.pipeline.clone().unwrap_or_default();
    let names: Vec<Arc<str>> = config.profiles.0.iter().map(|(name, _)| Arc::from(name.as_str())).collect();
    let place = |wanted: &str| names.iter().position(|name| **name == *wanted);
    let configured = place(&config.profile).unwrap_or_default();
    let configured_name = names.get(configured).cloned().unwrap_or_default();
    let chosen = site.profiles.start(&pipeline, &site.id, &names);
    let start = chosen.and_then(|name| place(&name)).unwrap_or(configured);
    let members = config.profiles.0.iter().map(|(_, members)| members.iter().map(|id| ComponentId::new(id)).collect());
    let control = Control::new(names.iter().cloned().zip(members).collect(), start, site, siblings);
    let stages = control.build(start)?;
    let followed = names.iter().cloned().enumerate().map(|(profile, name)| (name, control.follow(profile))).collect();
    let meter = Meter::new(config.estimates, followed, &pipeline, site);
    Ok(Box::new(Adaptive {
        control: Arc::new(control),
        profile: start,
        folds_at: stages.place_of("aggregate"),
        stages,
        meter,
        pressed: None,
        site: site.clone(),
        pipeline,
        configured: configured_name,
        retiring: None,
        unregistered: Some(site.clock.now()),
    }))
}

/// The stage.
struct Adaptive {
    control: Arc<Control>,
    profile: usize,
    stages: Stages,
    /// The place of the first stage that folds.
    folds_at: usize,
    meter: Meter,
    /// The pressure that the members have been told of, all of them.
    pressed: Option<Option<f64>>,
    site: Site,
    pipeline: Arc<str>,
    configured: Arc<str>,
    retiring: Option<Retiring>,
    /// Set until the lane has the stage: one that was built and never put in place is not to be steered.
    unregistered: Option<Instant>,
}

/// The stages that were replaced, until they have sent what they held.
struct Retiring {
    stages: Stages,
    since: Instant,
    from: Arc<str>,
    handover: Handover,
}

impl Adaptive {
    /// Shows itself to whoever chooses profiles, as soon as it is at work.
    fn register(&mut self) {
        if self.unregistered.take().is_some() {
            let switch: Arc<dyn Switch> = Arc::clone(&self.control) as Arc<dyn Switch>;
            self.site.profiles.register(&self.pipeline, &self.site.id, &self.configured, &switch);
            self.control.activate(self.profile);
        }
    }

    /// Tells the members what pressure was asked for, those of the shadows too.
    fn press(&mut self) {
        let pressure = self.control.pressure();
        if self.pressed == Some(pressure) || self.pressed.is_none() && pressure.is_none() {
            return;
        }
        self.pressed = Some(pressure);
        for member in self.meter.processors().chain(self.stages.processors()) {
            if let Some(filter) = member.as_any().downcast_ref::<AdaptiveFilter>() {
                filter.press(pressure);
            }
        }
    }

    /// Measures what leaves.
    fn sent(&mut self, batch: &Batch, now: Instant) {
        self.meter.went_out(batch, now);
        self.meter.publish(self.profile, &self.control.name(self.profile), now);
    }

    /// Puts a profile that was built in the place of the one at work.
    fn take_up(&mut self, built: Built, now: Instant) {
        let mut old = std::mem::replace(&mut self.stages, built.stages);
        self.folds_at = self.stages.place_of("aggregate");
        self.pressed = None;
        let mut total = Handover::default();
        for (id, handover) in self.meter.exchange((self.profile, &mut old), (built.profile, &mut self.stages)) {
            swap::pieces(&self.site.metrics, &id, handover);
            total = joined(total, handover);
        }
        let from = self.control.name(std::mem::replace(&mut self.profile, built.profile));
        self.retiring = Some(Retiring { stages: old, since: now, from, handover: total });
        self.control.activate(built.profile);
        swap::taken_up(&self.site.metrics);
        // Whoever asked may have stopped waiting.
        let _ = built.done.try_send(());
    }

    /// Sends the next batch of what the replaced stages hold; says in one line what became of it when nothing is left.
    fn retire(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        let Some(retiring) = &mut self.retiring else { return };
        retiring.stages.flush(batch, cx, true);
        retiring.handover.flushed += batch.points();
        if !batch.is_empty() {
            let flushed = Handover { flushed: batch.points(), ..Handover::default() };
            return swap::pieces(&self.site.metrics, &self.site.id, flushed);
        }
        let Handover { carried, flushed, discarded } = retiring.handover;
        let (pipeline, processor) = (&*self.pipeline, &self.site.id);
        let (from, to) = (&*retiring.from, &*self.control.name(self.profile));
        tracing::info!(pipeline, %processor, from, to, carried, flushed, discarded, "another profile is at work");
        self.retiring = None;
    }
}

impl Processor for Adaptive {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        self.register();
        self.press();
        self.control.mark_folded(batch, cx.marks);
        self.meter.came_in(batch, cx.now);
        for done in 0..=self.folds_at {
            self.meter.follow((self.profile, done), batch, cx.marks, cx.now);
            self.stages.process_some(done..self.folds_at.min(done + 1), batch, cx);
            if batch.is_empty() {
                break;
            }
        }
        if !batch.is_empty() {
            self.meter.decided(self.profile, batch, cx.marks, cx.now);
            self.stages.process(self.folds_at, batch, cx);
        }
        self.sent(batch, cx.now);
    }

    fn deadline(&self) -> Option<Instant> {
        let own = [self.unregistered, self.control.waiting_since(), self.retiring.as_ref().map(|old| old.since)];
        own.into_iter().flatten().chain(self.stages.deadline()).min()
    }

    fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
        self.register();
        // At the end, and while the last profile still has something to send, no other one is begun.
        if !all
            && self.retiring.is_none()
            && let Some(built) = self.control.take()
        {
            self.take_up(built, cx.now);
        }
        self.retire(batch, cx);
        if batch.is_empty() {
            self.stages.flush(batch, cx, all);
        }
        if !batch.is_empty() {
            self.sent(batch, cx.now);
        }
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Adaptive>() else { return Handover::default() };
        previous.control.retire();
        previous.unregistered = None;
        let report = self.stages.adopt(&mut previous.stages);
        self.meter.adopt(&mut previous.meter);
        self.control.press(previous.control.pressure());
        self.control.take_folded(&previous.control);
        self.register();
        report.into_iter().fold(Handover::default(), |total, (_, handover)| joined(total, handover))
    }

    fn pieces(&self) -> usize {
        self.stages.pieces()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

fn joined(a: Handover, b: Handover) -> Handover {
    Handover { carried: a.carried + b.carried, flushed: a.flushed + b.flushed, discarded: a.discarded + b.discarded }
}

#[cfg(test)]
mod tests;
