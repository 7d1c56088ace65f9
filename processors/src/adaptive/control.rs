//! The stage from the outside: builds the stages of a profile on the caller's thread and puts them in the lane's way.
//!
//! It never touches the stages at work.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use phoenix_pipeline::{
    AttributeFold, BuildError, ComponentId, Decision, Entity, Estimates, Explain, Instrument, Level, Marks, Metrics,
    Publish, Siblings, Site, Stage, Stages, Switch, swap,
};
use phoenix_telemetry::Batch;

use super::folding::Folding;
use super::followed::Path;
use crate::aggregate::settings_of;

/// Processors that only mark: a shadow runs them on the batch of the profile at work.
const MARKS: [&str; 3] = ["priority", "topk", "adaptive_filter"];
/// Processors that change a batch and keep nothing of it back: a shadow runs them on a copy.
const EDITS: [&str; 4] = ["filter", "attributes", "resource", "cardinality"];

static ACTIVE: Instrument = Instrument {
    name: "phoenix_profile_active",
    unit: "1",
    description: "1 for the profile that is at work, 0 for the others.",
    level: Level::Basic,
};

/// One profile.
struct Profile {
    name: Arc<str>,
    members: Vec<ComponentId>,
    active: metrics::Gauge,
}

/// Stages of a profile on their way to the lane.
pub(super) struct Built {
    pub(super) profile: usize,
    pub(super) stages: Stages,
    /// Told when the lane has taken them up.
    pub(super) done: SyncSender<()>,
}

/// Taken out once; `since` is the deadline that calls the lane.
struct Slot {
    built: Mutex<Option<Built>>,
    since: Instant,
}

/// What the stage and whoever steers it share.
pub(super) struct Control {
    profiles: Vec<Profile>,
    site: Site,
    siblings: Siblings,
    slot: Arc<ArcSwapOption<Slot>>,
    /// The newest published profile, which the lane may not have taken up yet.
    newest: Arc<AtomicUsize>,
    active: AtomicUsize,
    /// Asked for from outside, as bits; no number = nothing.
    pressure: AtomicU64,
    /// What is to be folded, as somebody outside asked.
    folded: ArcSwap<Folded>,
}

/// Executables that are to be folded, and attributes that are to be summed over.
#[derive(Default)]
struct Folded {
    executables: Vec<Arc<str>>,
    attributes: Arc<[AttributeFold]>,
}

/// What names a process's executable.
const EXECUTABLE: &str = "process.executable.name";
/// Why a process was marked here.
const REMEDY: &str = "remediation";

impl Control {
    pub(super) fn new(
        profiles: Vec<(Arc<str>, Vec<ComponentId>)>,
        start: usize,
        site: &Site,
        siblings: Siblings,
    ) -> Self {
        let pipeline = site.pipeline.as_deref().unwrap_or_default();
        let profile = |(name, members): (Arc<str>, Vec<ComponentId>)| {
            let labels = [("pipeline", pipeline), ("processor", site.id.as_str()), ("profile", &name)];
            Profile { active: site.metrics.gauge(&ACTIVE, &labels), name, members }
        };
        let profiles = profiles.into_iter().map(profile).collect();
        Control {
            profiles,
            site: site.clone(),
            siblings,
            slot: Arc::default(),
            newest: Arc::new(AtomicUsize::new(start)),
            active: AtomicUsize::new(start),
            pressure: AtomicU64::new(f64::NAN.to_bits()),
            folded: ArcSwap::default(),
        }
    }

    /// Marks what is to be folded. What a rule keeps stays.
    pub(super) fn mark_folded(&self, batch: &Batch, marks: &mut Marks) {
        let folded = self.folded.load();
        if !folded.attributes.is_empty() {
            marks.fold_attributes(&folded.attributes);
        }
        if folded.executables.is_empty() {
            return;
        }
        for resource in batch.resources() {
            let name = resource.attributes().get_str(EXECUTABLE);
            if name.is_some_and(|name| folded.executables.iter().any(|folded| **folded == *name)) {
                marks.mark(Entity::Resource(resource.id()), Decision::Fold, REMEDY);
            }
        }
    }

    /// Takes over what the stage this one replaces was asked to fold.
    pub(super) fn take_folded(&self, previous: &Control) {
        self.folded.store(previous.folded.load_full());
    }

    /// The stages of a profile, with no state.
    pub(super) fn build(&self, profile: usize) -> Result<Stages, BuildError> {
        let members = self.profiles.get(profile).map(|profile| profile.members.as_slice()).unwrap_or_default();
        let stage = |id: &ComponentId| {
            let processor = (self.siblings)(id, &self.site)?;
            Ok(Stage::new(id.clone(), processor, &self.site.metrics))
        };
        members.iter().map(stage).collect::<Result<_, BuildError>>().map(Stages::new)
    }

    /// A profile's stages before its `aggregate`, to be followed without being at work: they count nothing in public and
    /// explain nothing; and the rules of that. `None` where one of them holds batches back, or cannot be built (then the
    /// profile cannot either).
    pub(super) fn follow(&self, profile: usize) -> Option<Path> {
        let members = self.profiles.get(profile).map(|profile| profile.members.as_slice()).unwrap_or_default();
        let before = members.iter().position(|id| id.kind() == "aggregate").unwrap_or(members.len());
        let (before, after) = members.split_at_checked(before)?;
        let site = Site {
            metrics: Metrics::new(&self.site.clock, Vec::new()),
            explain: Explain::default(),
            estimates: Estimates::default(),
            ..self.site.clone()
        };
        let mut stages = Vec::new();
        let mut edits = false;
        for id in before {
            match id.kind() {
                kind if MARKS.contains(&kind) => {}
                kind if EDITS.contains(&kind) => edits = true,
                _ => return None,
            }
            stages.push(Stage::new(id.clone(), (self.siblings)(id, &site).ok()?, &site.metrics));
        }
        let folding = match after.first() {
            None => None,
            Some(id) => Some(Folding::new(settings_of((self.siblings)(id, &site).ok()?.as_mut())?)),
        };
        Some(Path { stages, edits, folding })
    }

    /// The pressure that was asked for.
    pub(super) fn pressure(&self) -> Option<f64> {
        Some(f64::from_bits(self.pressure.load(Ordering::Relaxed))).filter(|pressure| !pressure.is_nan())
    }

    /// What waits for the lane: since when.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.slot.load().as_ref().map(|slot| slot.since)
    }

    /// What waits for the lane.
    pub(super) fn take(&self) -> Option<Built> {
        self.slot.swap(None)?.built.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A profile's name.
    pub(super) fn name(&self, profile: usize) -> Arc<str> {
        self.profiles.get(profile).map_or_else(|| Arc::from(""), |profile| Arc::clone(&profile.name))
    }

    /// Says that a profile is at work.
    pub(super) fn activate(&self, profile: usize) {
        self.active.store(profile, Ordering::Release);
        for (i, other) in self.profiles.iter().enumerate() {
            other.active.set(if i == profile { 1.0 } else { 0.0 });
        }
    }

    /// Says that none is at work here any more.
    pub(super) fn retire(&self) {
        self.profiles.iter().for_each(|profile| profile.active.set(0.0));
    }
}

impl Switch for Control {
    fn names(&self) -> Vec<Arc<str>> {
        self.profiles.iter().map(|profile| Arc::clone(&profile.name)).collect()
    }

    fn active(&self) -> Arc<str> {
        self.name(self.active.load(Ordering::Acquire))
    }

    fn press(&self, pressure: Option<f64>) {
        self.pressure.store(pressure.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    fn fold(&self, executables: &[Arc<str>], attributes: &[AttributeFold]) {
        let folded = self.folded.load();
        if folded.executables != executables || *folded.attributes != *attributes {
            let (executables, attributes) = (executables.to_vec(), attributes.into());
            self.folded.store(Arc::new(Folded { executables, attributes }));
        }
    }

    fn prepare(&self, profile: &str) -> Result<Option<Publish>, String> {
        let found = self.profiles.iter().position(|known| *known.name == *profile);
        let wanted = found.ok_or_else(|| format!("{} has no such profile", self.site.id))?;
        if self.newest.load(Ordering::Acquire) == wanted {
            return Ok(None);
        }
        let stages = self.build(wanted).map_err(|error| {
            swap::failed(&self.site.metrics);
            error.to_string()
        })?;
        let (slot, newest, lane) = (Arc::clone(&self.slot), Arc::clone(&self.newest), self.site.lane.clone());
        let since = self.site.clock.now();
        Ok(Some(Box::new(move || {
            let (done, taken) = sync_channel(1);
            let built = Mutex::new(Some(Built { profile: wanted, stages, done }));
            newest.store(wanted, Ordering::Release);
            slot.store(Some(Arc::new(Slot { built, since })));
            if let Some(lane) = lane {
                lane.wake();
            }
            taken
        })))
    }
}
