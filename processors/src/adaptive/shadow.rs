//! What one profile lets out: counted from its marks while it is at work, and from those of stages of its own, which see
//! the same batches, while it is not.
//!
//! Individual series are those of the batch itself. Those of groups are foreseen ([`Folding`]). The stages of a shadow
//! count nothing in public and explain nothing; when the profile is chosen they give their state to the real ones.

use std::sync::Arc;
use std::time::Instant;

use phoenix_pipeline::estimates::{Attribution, Count, ProfileEstimate};
use phoenix_pipeline::{Context, Delivery, Marks, Stages};
use phoenix_sketch::{STANDARD_ERROR, Window};
use phoenix_telemetry::Batch;

use super::facts::{Facts, Shares};
use super::folding::Folding;
use crate::aggregate::folds;

/// The stages of a profile before its `aggregate`, and the rules of that.
pub(super) struct Followed {
    pub(super) stages: Stages,
    /// Whether a stage changes more than marks, so that it needs a batch of its own.
    pub(super) edits: bool,
    pub(super) folding: Option<Folding>,
}

/// One profile's estimate.
pub(super) struct Shadow {
    name: Arc<str>,
    pub(super) followed: Followed,
    window: Window,
    latest: ProfileEstimate,
    /// Reused from batch to batch.
    marks: Marks,
    hosts: Vec<u64>,
}

impl Shadow {
    pub(super) fn new(name: Arc<str>, followed: Followed, window: Window) -> Self {
        let latest = ProfileEstimate { name: Arc::clone(&name), ..ProfileEstimate::default() };
        Shadow { name, followed, window, latest, marks: Marks::default(), hosts: Vec::new() }
    }

    /// The profile's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Follows a batch with stages of its own, and leaves it as it is; `marks` are those of the stages before.
    pub(super) fn follow(&mut self, batch: &mut Batch, facts: &Facts, marks: &Marks, (now, at): (Instant, u64)) {
        let mut own = std::mem::take(&mut self.marks);
        own.clone_from(marks);
        let mut delivery = Delivery::none();
        let mut cx = Context { now, delivery: &mut delivery, marks: &mut own };
        if self.followed.edits {
            let mut own_batch = batch.clone();
            self.followed.stages.process(0, &mut own_batch, &mut cx);
            self.count(&own_batch, facts, &own, at);
        } else {
            self.followed.stages.process(0, batch, &mut cx);
            self.count(batch, facts, &own, at);
        }
        self.marks = own;
    }

    /// Counts what these marks would let out of a batch, at `now` (nanoseconds since the stage began).
    pub(super) fn count(&mut self, batch: &Batch, facts: &Facts, marks: &Marks, now: u64) {
        let Shadow { followed: Followed { folding, .. }, window, latest, hosts, .. } = self;
        window.advance(now);
        hosts.clear();
        let (mut all, mut kept, mut individual): (Shares, Shares, u64) = Default::default();
        for resource in batch.resources() {
            let of = facts.of_resource(resource.id());
            if hosts.last() != Some(&of.host) {
                hosts.push(of.host);
            }
            let mut group = None;
            for metric in resource.metrics() {
                let mut folding = folding.as_mut().filter(|folding| folding.takes(metric));
                for point in metric.points() {
                    let fact = facts.of(point.id());
                    fact.add_to(&mut all);
                    let into = folding.as_deref_mut().and_then(|folding| {
                        let mark = marks.decide(resource.id(), point.id());
                        let folded = folds(mark, folding.folds_all() && of.is_process);
                        let group = folded
                            .then(|| *group.get_or_insert_with(|| folding.group_of(of.host, resource, mark.class)));
                        group.flatten().map(|group| (folding, group))
                    });
                    let live = !point.no_recorded_value();
                    match into {
                        Some((folding, group)) if live => {
                            folding.feed((of.host, group), fact.identity, metric, now);
                        }
                        Some(_) => {}
                        None => {
                            fact.add_to(&mut kept);
                            if live {
                                window.insert(point.series());
                                individual += 1;
                            }
                        }
                    }
                }
            }
        }
        hosts.sort_unstable();
        hosts.dedup();
        let spoken = |folding: &mut Folding| folding.speak(hosts, now, |series| window.insert(series));
        latest.grouped = folding.as_mut().map_or(0, spoken);
        latest.individual = individual;
        let Attribution { cpu, memory, io } = &mut latest.attribution;
        for ((share, kept), all) in [cpu, memory, io].into_iter().zip(kept).zip(all) {
            if all > 0.0 {
                *share = Some(kept / all);
            }
        }
    }

    /// As of the newest batch.
    pub(super) fn estimate(&mut self, now: u64) -> ProfileEstimate {
        self.window.advance(now);
        self.latest.output = Count { series: self.window.estimate(), error: STANDARD_ERROR };
        self.latest.clone()
    }

    /// Takes over what another one of the same profile knows; its windows only where they are `alike`.
    pub(super) fn adopt(&mut self, previous: &mut Shadow, alike: bool) {
        self.followed.stages.inherit(&mut previous.followed.stages);
        if let (Some(folding), Some(previous)) = (&mut self.followed.folding, &mut previous.followed.folding) {
            folding.adopt(previous);
        }
        if alike {
            std::mem::swap(&mut self.window, &mut previous.window);
            self.latest = previous.latest.clone();
        }
    }
}
