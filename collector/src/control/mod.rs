//! The loop around the brain: reads what the stages measured, lets `phoenix-control` decide, and does what it says.
//!
//! One thread steps every stage with profiles at its own interval. It is a thread of its own because putting a profile to
//! work builds stages and waits for a lane: neither the asynchronous runtime nor a lane may do that. What it saw and
//! decided lies on the [`Desk`], where the admin endpoint reads it. The thread never touches data.

mod desk;
mod gauges;
mod journal;
mod memory;
mod observatory;
mod remedies;
mod saved;
mod stage;
#[cfg(test)]
mod tests;
mod view;

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use phoenix_pipeline::config::read;
use phoenix_pipeline::{Clock, ComponentId, Estimates, Metrics, Profiles};
use phoenix_processors::adaptive;

pub use desk::{Desk, KEPT};

use crate::config::Model;
use crate::state::StateDir;
use memory::Memory;
use saved::Saved;
use stage::Steered;

/// What the loop reads and turns.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Clock,
    /// Where it counts.
    pub metrics: Metrics,
    /// What the stages measured.
    pub estimates: Estimates,
    /// The profiles and their levers.
    pub profiles: Profiles,
}

/// One stage with profiles, as it is configured.
#[derive(Clone, Debug)]
pub struct Place {
    pipeline: Arc<str>,
    processor: ComponentId,
    config: adaptive::Config,
    names: Vec<Arc<str>>,
    directory: Option<Arc<Path>>,
    /// What an earlier run left.
    saved: Option<Saved>,
}

impl Place {
    fn is(&self, other: &Place) -> bool {
        self.pipeline == other.pipeline && self.processor == other.processor
    }

    /// Whether profiles are changed here, and not only watched.
    fn acts(&self) -> bool {
        self.config.budget.series > 0 && !self.config.budget.observe_only
    }
}

enum Order {
    /// These are the stages there are.
    Steer(Vec<Place>),
    /// Something has changed: look at once.
    Look,
    End,
}

/// The loop, from the outside. Cheap to clone; all clones are one loop.
#[derive(Clone)]
pub struct Control {
    world: World,
    desk: Desk,
    orders: Sender<Order>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Control {
    /// Starts the loop, with nothing to steer yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(world: World) -> std::io::Result<Control> {
        let (orders, waiting) = channel();
        let desk = Desk::default();
        let (inner, shown) = (world.clone(), desk.clone());
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || run(&inner, &shown, &waiting))?;
        Ok(Control { world, desk, orders, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// What was seen and decided.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The stages of a model that have profiles. A stage that is new here starts with the profile an earlier run left, so
    /// this comes before stages are built.
    pub fn prepare(&self, model: &Model, state: Option<&StateDir>) -> Vec<Place> {
        let mut places = places(model, state);
        for place in places.iter_mut().filter(|place| place.acts()) {
            if self.desk.knows(&place.pipeline, &place.processor) {
                continue;
            }
            place.saved = place.directory.as_deref().and_then(|directory| saved::read(directory, &place.names));
            if let Some(saved) = &place.saved
                // There is no stage yet that could refuse.
                && self.world.profiles.steer(&place.pipeline, &place.processor, &saved.profile.as_str().into()).is_ok()
            {
                let (pipeline, processor, profile) = (&*place.pipeline, &place.processor, saved.profile.as_str());
                tracing::info!(pipeline, %processor, profile, "goes on with the profile of the last run");
            }
        }
        places
    }

    /// Steers these stages from now on, and no others. What is known of a stage whose settings stay is kept.
    pub fn steer(&self, places: Vec<Place>) {
        self.order(Order::Steer(places));
    }

    /// Looks at once: a person has chosen something.
    pub fn look(&self) {
        self.order(Order::Look);
    }

    fn order(&self, order: Order) {
        // It fails only when the thread has ended, and then there is nothing to steer.
        let _ = self.orders.send(order);
    }

    /// Ends the loop; what must survive a restart is written. Waits, so not on the asynchronous runtime.
    pub fn stop(&self) {
        self.order(Order::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the control loop did not end cleanly");
        }
    }
}

fn places(model: &Model, state: Option<&StateDir>) -> Vec<Place> {
    let stages = model.pipelines.iter().flat_map(|pipeline| pipeline.processors.iter().map(move |id| (pipeline, id)));
    let place = |(pipeline, id): (&crate::config::Pipeline, &ComponentId)| {
        let (_, value) = model.processors.iter().find(|(known, _)| known == id)?;
        // It was checked when the model was made.
        let config: adaptive::Config = read(value).ok()?;
        Some(Place {
            pipeline: pipeline.name.as_str().into(),
            processor: id.clone(),
            names: config.profiles.0.iter().map(|(name, _)| name.as_str().into()).collect(),
            config,
            directory: state.map(|state| state.of("control", id, Some(&pipeline.name))),
            saved: None,
        })
    };
    stages.filter(|(_, id)| adaptive::FACTORY.answers_to(id.kind())).filter_map(place).collect()
}

/// The thread.
fn run(world: &World, desk: &Desk, orders: &Receiver<Order>) {
    let memory = Memory::of_this_process(world.estimates.clone());
    let mut stages: Vec<Steered> = Vec::new();
    loop {
        let soonest = stages.iter().map(Steered::due).min();
        let order = match soonest {
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => orders.recv_timeout(due.saturating_duration_since(world.clock.now())),
        };
        match order {
            Ok(Order::Steer(places)) => stages = arranged(stages, places, world, desk),
            Ok(Order::Look) => stages.iter_mut().for_each(|stage| stage.step(world, &memory, desk)),
            Err(RecvTimeoutError::Timeout) => {
                let now = world.clock.now();
                stages.iter_mut().filter(|stage| stage.due() <= now).for_each(|stage| stage.step(world, &memory, desk));
            }
            Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    stages.iter_mut().for_each(Steered::save);
}

/// The stages of these places: those that are known go on, and what is there no more is let go.
fn arranged(mut known: Vec<Steered>, places: Vec<Place>, world: &World, desk: &Desk) -> Vec<Steered> {
    let stages = places.into_iter().map(|place| match known.iter().position(|stage| stage.place().is(&place)) {
        Some(at) => known.swap_remove(at).reconfigured(place, world, desk),
        None => Steered::new(place, world, desk),
    });
    let stages = stages.collect();
    known.into_iter().for_each(|mut gone| gone.let_go(world, desk));
    stages
}
