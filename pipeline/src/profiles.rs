//! Which profile is at work, and how another one is chosen while the agent runs.
//!
//! A stage that holds profiles registers its [`Switch`] here. A person chooses with [`Profiles::set`], for a time or to
//! stay, and gives the choice back with [`Profiles::release`]; a controller chooses for one stage with
//! [`Profiles::steer`], and what it chose is at work while no person's choice is. Choices outlive a reload as long as the
//! profile of that name does. Everything new is built before anything changes: if one stage cannot build its profile, no
//! stage changes.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::{AttributeFold, Clock, ComponentId};

/// How long [`Profiles::set`] waits for the lanes: far longer than a batch takes; a lane that is busier takes the
/// profile up later.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the return to the base is tried again after it could not be built.
const RETRY: Duration = Duration::from_secs(10);
/// Longest time a temporary choice may have: a year; what is meant to last longer is a base.
pub const MAX_EXPIRY: Duration = Duration::from_secs(366 * 24 * 3600);

/// Puts what was built in the lane's way; the receiver hears when it was taken up.
pub type Publish = Box<dyn FnOnce() -> Receiver<()>>;

/// A stage that holds profiles, from the outside.
pub trait Switch: Send + Sync {
    /// The names, from the least to the most thinning.
    fn names(&self) -> Vec<Arc<str>>;

    /// The one that is at work on the lane.
    fn active(&self) -> Arc<str>;

    /// Builds a profile and publishes nothing yet. `None` if it is the newest published already.
    ///
    /// # Errors
    /// There is no such profile, or why it cannot be built.
    fn prepare(&self, profile: &str) -> Result<Option<Publish>, String>;

    /// Turns the pressure of its members that have one, in whichever profile, from the next batch on: 0 to 1, `None` =
    /// what they are configured with. A stage without such members does nothing.
    fn press(&self, pressure: Option<f64>) {
        let _ = pressure;
    }

    /// Marks the processes of these executables to be folded and these attributes to be summed over, in whichever profile,
    /// from the next batch on, and no others. What a rule keeps stays individual. A stage that folds nothing does nothing.
    fn fold(&self, executables: &[Arc<str>], attributes: &[AttributeFold]) {
        let _ = (executables, attributes);
    }
}

/// Why the profile was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Nothing in the configuration has profiles.
    #[error("no pipeline has a processor with profiles; an adaptive processor holds them")]
    None,
    /// No stage has a profile of this name.
    #[error("no profile is named {0:?}; there are: {1}")]
    Unknown(String, String),
    /// A stage could not build it; nothing has changed.
    #[error("profile {0:?} cannot be built, nothing has changed: {1}")]
    Build(String, String),
}

/// One stage that holds profiles, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileState {
    /// The pipeline it stands in.
    pub pipeline: Arc<str>,
    /// Its id.
    pub processor: ComponentId,
    /// Its profiles, from the least to the most thinning.
    pub profiles: Vec<Arc<str>>,
    /// The one at work.
    pub active: Arc<str>,
    /// The one that is at work when nothing temporary is.
    pub base: Arc<str>,
    /// Whether a person chose the one that is wanted now.
    pub by_hand: bool,
    /// How long the temporary one still has.
    pub expires_in: Option<Duration>,
}

struct Entry {
    pipeline: Arc<str>,
    processor: ComponentId,
    switch: Weak<dyn Switch>,
    /// What the configuration starts with.
    configured: Arc<str>,
    /// A person's choice that stays.
    chosen: Option<Arc<str>>,
    /// A person's choice for a time.
    temporary: Option<(Arc<str>, Instant)>,
}

impl Entry {
    fn is(&self, pipeline: &str, processor: &ComponentId) -> bool {
        *self.pipeline == *pipeline && self.processor == *processor
    }

    /// The temporary choice, while it is in force.
    fn for_now(&self, now: Instant) -> Option<&Arc<str>> {
        self.temporary.as_ref().filter(|(_, until)| *until > now).map(|(name, _)| name)
    }
}

/// What a controller chose for a stage. It is known before the stage is, so that the stage starts with it.
struct Steered {
    pipeline: Arc<str>,
    processor: ComponentId,
    profile: Arc<str>,
}

#[derive(Default)]
struct Register {
    entries: Vec<Entry>,
    steered: Vec<Steered>,
}

impl Register {
    fn steered(&self, pipeline: &str, processor: &ComponentId) -> Option<&Arc<str>> {
        let found = self.steered.iter().find(|row| *row.pipeline == *pipeline && row.processor == *processor);
        found.map(|row| &row.profile)
    }

    /// What is at work on a stage when nothing temporary is.
    fn base<'r>(&'r self, entry: &'r Entry) -> &'r Arc<str> {
        let steered = || self.steered(&entry.pipeline, &entry.processor);
        entry.chosen.as_ref().or_else(steered).unwrap_or(&entry.configured)
    }
}

#[derive(Default)]
struct Shared {
    register: Mutex<Register>,
    /// One change at a time, builds included.
    changing: Mutex<()>,
    changed: Notify,
    clock: Clock,
}

/// The register. Cheap to clone; all clones are one register.
#[derive(Clone, Default)]
pub struct Profiles(Arc<Shared>);

impl std::fmt::Debug for Profiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Profiles {
    /// An empty register whose expiries follow this clock.
    pub fn new(clock: Clock) -> Self {
        Profiles(Arc::new(Shared { clock, ..Shared::default() }))
    }

    fn book(&self) -> MutexGuard<'_, Register> {
        self.0.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With which profile a stage that is about to be built should start: the one that was chosen, if it still has it.
    pub fn start(&self, pipeline: &str, processor: &ComponentId, names: &[Arc<str>]) -> Option<Arc<str>> {
        let now = self.0.clock.now();
        let register = self.book();
        let known = register.entries.iter().find(|entry| entry.is(pipeline, processor));
        let by_hand = known.and_then(|known| known.for_now(now).or(known.chosen.as_ref()));
        let mut chosen = [by_hand, register.steered(pipeline, processor)].into_iter().flatten();
        chosen.find(|name| names.contains(name)).cloned()
    }

    /// Enters a stage that is at work, in the place of an older one of the same id and pipeline.
    pub fn register(
        &self,
        pipeline: &Arc<str>,
        processor: &ComponentId,
        configured: &Arc<str>,
        switch: &Arc<dyn Switch>,
    ) {
        let names = switch.names();
        let mut register = self.book();
        let entries = &mut register.entries;
        let before = entries.iter().position(|entry| entry.is(pipeline, processor));
        let before = before.map(|at| entries.swap_remove(at));
        let (chosen, temporary) = before.map_or((None, None), |before| (before.chosen, before.temporary));
        entries.retain(|entry| entry.switch.strong_count() > 0);
        entries.push(Entry {
            pipeline: Arc::clone(pipeline),
            processor: processor.clone(),
            switch: Arc::downgrade(switch),
            configured: Arc::clone(configured),
            chosen: chosen.filter(|name| names.contains(name)),
            temporary: temporary.filter(|(name, _)| names.contains(name)),
        });
        // What a controller chose among other profiles says nothing of these.
        register
            .steered
            .retain(|row| *row.pipeline != **pipeline || row.processor != *processor || names.contains(&row.profile));
    }

    /// Every stage that holds profiles, by pipeline and id.
    pub fn list(&self) -> Vec<ProfileState> {
        let now = self.0.clock.now();
        let register = self.book();
        let mut states: Vec<ProfileState> = register
            .entries
            .iter()
            .filter_map(|entry| {
                let switch = entry.switch.upgrade()?;
                let until = entry.temporary.as_ref().map(|(_, until)| until.saturating_duration_since(now));
                Some(ProfileState {
                    pipeline: Arc::clone(&entry.pipeline),
                    processor: entry.processor.clone(),
                    profiles: switch.names(),
                    active: switch.active(),
                    base: Arc::clone(register.base(entry)),
                    by_hand: entry.chosen.is_some() || entry.for_now(now).is_some(),
                    expires_in: until.filter(|left| !left.is_zero()),
                })
            })
            .collect();
        states.sort_by(|a, b| (&a.pipeline, &a.processor).cmp(&(&b.pipeline, &b.processor)));
        states
    }

    /// Puts a profile to work on every stage that has one of this name; with `expires_in` for that time only. Builds on
    /// the caller's thread and waits a moment for the lanes: not to be called on a lane or on the asynchronous runtime.
    ///
    /// # Errors
    /// Nobody has such a profile, or one stage cannot build it; then nothing has changed.
    pub fn set(&self, profile: &str, expires_in: Option<Duration>) -> Result<(), ProfileError> {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let switches: Vec<Arc<dyn Switch>> =
            self.book().entries.iter().filter_map(|entry| entry.switch.upgrade()).collect();
        let all: Vec<Arc<str>> = switches.iter().flat_map(|switch| switch.names()).collect();
        if all.is_empty() {
            return Err(ProfileError::None);
        }
        let Some(name) = all.iter().find(|name| ***name == *profile).cloned() else {
            let mut names: Vec<&str> = Vec::new();
            all.iter().for_each(|name| {
                if !names.contains(&&**name) {
                    names.push(name)
                }
            });
            return Err(ProfileError::Unknown(profile.to_owned(), names.join(", ")));
        };
        let having = switches.iter().filter(|switch| switch.names().contains(&name));
        let prepared = having.map(|switch| switch.prepare(&name)).collect::<Result<Vec<_>, _>>();
        let prepared = prepared.map_err(|why| ProfileError::Build(name.to_string(), why))?;
        let until = expires_in.map(|time| self.0.clock.now() + time.min(MAX_EXPIRY));
        for entry in self.book().entries.iter_mut() {
            if entry.switch.upgrade().is_some_and(|switch| switch.names().contains(&name)) {
                match until {
                    Some(until) => entry.temporary = Some((Arc::clone(&name), until)),
                    None => (entry.chosen, entry.temporary) = (Some(Arc::clone(&name)), None),
                }
            }
        }
        publish(prepared);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Gives every choice a person made back to the controller, or to the configuration where there is none. Builds on
    /// the caller's thread, as [`Profiles::set`].
    ///
    /// # Errors
    /// Nobody has profiles, or one stage cannot build what comes back; then nothing has changed.
    pub fn release(&self) -> Result<(), ProfileError> {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let back = |register: &Register, entry: &Entry| {
            let steered = register.steered(&entry.pipeline, &entry.processor);
            Some((entry.switch.upgrade()?, Arc::clone(steered.unwrap_or(&entry.configured))))
        };
        let due: Vec<_> = {
            let register = self.book();
            register.entries.iter().filter_map(|entry| back(&register, entry)).collect()
        };
        if due.is_empty() {
            return Err(ProfileError::None);
        }
        let prepare = |(switch, name): &(Arc<dyn Switch>, Arc<str>)| {
            switch.prepare(name).map_err(|why| ProfileError::Build(name.to_string(), why))
        };
        let prepared = due.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        for entry in self.book().entries.iter_mut() {
            (entry.chosen, entry.temporary) = (None, None);
        }
        publish(prepared);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Puts a profile to work on the stage of this id in a pipeline, for a controller: at once if no person has chosen,
    /// else when that choice ends. A stage that is not there yet starts with it. Builds on the caller's thread, as
    /// [`Profiles::set`].
    ///
    /// # Errors
    /// There is no such profile, or it cannot be built; then nothing has changed.
    pub fn steer(&self, pipeline: &Arc<str>, processor: &ComponentId, profile: &Arc<str>) -> Result<(), ProfileError> {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.0.clock.now();
        let switch = {
            let register = self.book();
            let entry = register.entries.iter().find(|entry| entry.is(pipeline, processor));
            let free = entry.filter(|entry| entry.chosen.is_none() && entry.for_now(now).is_none());
            free.and_then(|entry| entry.switch.upgrade())
        };
        let prepared = switch.map(|switch| switch.prepare(profile)).transpose();
        let prepared = prepared.map_err(|why| ProfileError::Build(profile.to_string(), why))?;
        let (pipeline, processor, profile) = (Arc::clone(pipeline), processor.clone(), Arc::clone(profile));
        let mut register = self.book();
        register.steered.retain(|row| row.pipeline != pipeline || row.processor != processor);
        register.steered.push(Steered { pipeline, processor, profile });
        drop(register);
        publish(prepared.into_iter().collect());
        Ok(())
    }

    /// Forgets what a controller chose for a stage; what is at work stays until something else is chosen.
    pub fn unsteer(&self, pipeline: &str, processor: &ComponentId) {
        let mut register = self.book();
        register.steered.retain(|row| *row.pipeline != *pipeline || row.processor != *processor);
    }

    /// Turns the pressure of the stage of this id in a pipeline, see [`Switch::press`]; says whether there is one. Waits
    /// for nobody.
    pub fn press(&self, pipeline: &str, processor: &ComponentId, pressure: Option<f64>) -> bool {
        self.switch(pipeline, processor).map(|switch| switch.press(pressure)).is_some()
    }

    /// Names the executables and attributes that the stage of this id in a pipeline is to fold, see [`Switch::fold`]; says
    /// whether there is one. Waits for nobody.
    pub fn fold(
        &self,
        pipeline: &str,
        processor: &ComponentId,
        executables: &[Arc<str>],
        attributes: &[AttributeFold],
    ) -> bool {
        self.switch(pipeline, processor).map(|switch| switch.fold(executables, attributes)).is_some()
    }

    fn switch(&self, pipeline: &str, processor: &ComponentId) -> Option<Arc<dyn Switch>> {
        let register = self.book();
        let found = register.entries.iter().find(|entry| entry.is(pipeline, processor));
        found.and_then(|entry| entry.switch.upgrade())
    }

    /// Brings the base back where a temporary choice has run out. Builds on the caller's thread, as [`Profiles::set`].
    pub fn expire(&self) {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.0.clock.now();
        let over = |entry: &Entry| entry.temporary.as_ref().is_some_and(|(_, until)| *until <= now);
        let due: Vec<_> = {
            let register = self.book();
            let over = register.entries.iter().filter(|entry| over(entry));
            over.filter_map(|entry| Some((entry.switch.upgrade()?, Arc::clone(register.base(entry))))).collect()
        };
        let mut prepared = Vec::new();
        for (switch, base) in due {
            let outcome = switch.prepare(&base);
            let failed = outcome.is_err();
            match outcome {
                Ok(ready) => prepared.push(ready),
                Err(why) => {
                    tracing::error!(profile = &*base, "cannot return to the profile: {why}; trying again later")
                }
            }
            for entry in self.book().entries.iter_mut().filter(|entry| over(entry)) {
                if entry.switch.upgrade().is_some_and(|of| Arc::ptr_eq(&of, &switch)) {
                    entry.temporary = entry.temporary.take().filter(|_| failed).map(|(name, _)| (name, now + RETRY));
                }
            }
        }
        publish(prepared);
    }

    /// Calls [`Profiles::expire`] whenever a temporary choice runs out. Runs until it is dropped; one is enough.
    pub async fn watch(self) {
        loop {
            let soonest = {
                let register = self.book();
                register.entries.iter().filter_map(|entry| entry.temporary.as_ref().map(|(_, until)| *until)).min()
            };
            match soonest {
                None => self.0.changed.notified().await,
                Some(until) => {
                    let left = until.saturating_duration_since(self.0.clock.now());
                    tokio::select! {
                        () = self.0.changed.notified() => {}
                        () = tokio::time::sleep(left) => {
                            let register = self.clone();
                            // It fails only if a stage's build panics; that has been logged, and the next change goes on.
                            let _ = tokio::task::spawn_blocking(move || register.expire()).await;
                        }
                    }
                }
            }
        }
    }
}

/// Publishes all, then waits until the lanes have taken them up.
fn publish(prepared: Vec<Option<Publish>>) {
    let taken: Vec<Receiver<()>> = prepared.into_iter().flatten().map(|publish| publish()).collect();
    let deadline = Instant::now() + PATIENCE;
    for taken in taken {
        if taken.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            tracing::warn!(
                "the pipeline is busy and has not taken up the profile yet; it will after the batch at hand"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    struct Fake {
        names: Vec<Arc<str>>,
        active: Arc<Mutex<Arc<str>>>,
        broken: Option<&'static str>,
    }

    impl Fake {
        fn new(names: &[&str], broken: Option<&'static str>) -> Arc<Fake> {
            let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
            let active = Arc::new(Mutex::new(Arc::clone(&names[0])));
            Arc::new(Fake { names, active, broken })
        }
    }

    impl Switch for Fake {
        fn names(&self) -> Vec<Arc<str>> {
            self.names.clone()
        }
        fn active(&self) -> Arc<str> {
            self.active.lock().unwrap().clone()
        }
        fn prepare(&self, profile: &str) -> Result<Option<Publish>, String> {
            if self.broken == Some(profile) {
                return Err("no such file".into());
            }
            let (active, name) = (Arc::clone(&self.active), Arc::from(profile));
            Ok(Some(Box::new(move || {
                *active.lock().unwrap() = name;
                let (done, taken) = sync_channel(1);
                done.send(()).unwrap();
                taken
            })))
        }
    }

    fn register(profiles: &Profiles, pipeline: &str, fake: &Arc<Fake>) {
        let switch: Arc<dyn Switch> = Arc::clone(fake) as Arc<dyn Switch>;
        profiles.register(&pipeline.into(), &ComponentId::new("adaptive"), &fake.names[0], &switch);
    }

    #[test]
    fn a_temporary_choice_ends_by_the_clock_and_a_base_stays() {
        let clock = Clock::manual(0);
        let (profiles, fake) = (Profiles::new(clock.clone()), Fake::new(&["a", "b", "c"], None));
        assert_eq!(profiles.set("a", None), Err(ProfileError::None));
        register(&profiles, "metrics", &fake);
        profiles.set("b", Some(Duration::from_secs(60))).unwrap();
        let state = profiles.list().remove(0);
        assert_eq!((&*state.active, &*state.base, state.expires_in), ("b", "a", Some(Duration::from_secs(60))));
        clock.advance(Duration::from_secs(59));
        profiles.expire();
        assert_eq!(&*fake.active(), "b");
        clock.advance(Duration::from_secs(1));
        profiles.expire();
        assert_eq!(&*fake.active(), "a");
        profiles.set("c", None).unwrap();
        clock.advance(Duration::from_secs(1000));
        profiles.expire();
        assert_eq!((&*fake.active(), &*profiles.list()[0].base), ("c", "c"));
        assert!(profiles.set("d", None).unwrap_err().to_string().contains("there are: a, b, c"));
    }

    #[test]
    fn one_stage_that_cannot_build_keeps_all_as_they_are() {
        let profiles = Profiles::new(Clock::manual(0));
        let (one, two) = (Fake::new(&["a", "b"], None), Fake::new(&["a", "b"], Some("b")));
        register(&profiles, "metrics", &one);
        register(&profiles, "metrics/2", &two);
        let error = profiles.set("b", None).unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
        assert_eq!((&*one.active(), &*two.active()), ("a", "a"));
        assert!(profiles.list().iter().all(|state| &*state.base == "a"));
    }

    #[test]
    fn a_choice_outlives_a_reload_while_its_profile_does() {
        let profiles = Profiles::new(Clock::manual(0));
        let (id, fake) = (ComponentId::new("adaptive"), Fake::new(&["a", "b"], None));
        register(&profiles, "metrics", &fake);
        profiles.set("b", None).unwrap();
        let names = fake.names();
        assert_eq!(profiles.start("metrics", &id, &names).as_deref(), Some("b"));
        assert_eq!(profiles.start("metrics", &id, &names[..1]), None);
        let next = Fake::new(&["a", "c"], None);
        register(&profiles, "metrics", &next);
        drop(fake);
        assert_eq!(&*profiles.list()[0].base, "a");
    }

    #[test]
    fn a_controller_steers_one_stage_and_gives_way_to_a_person() {
        let clock = Clock::manual(0);
        let profiles = Profiles::new(clock.clone());
        let (id, metrics): (_, Arc<str>) = (ComponentId::new("adaptive"), "metrics".into());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        profiles.steer(&metrics, &id, &b).unwrap();
        let (one, two) = (Fake::new(&["a", "b"], None), Fake::new(&["a", "b"], None));
        assert_eq!(profiles.start("metrics", &id, &one.names()).as_deref(), Some("b"), "known before the stage is");
        register(&profiles, "metrics", &one);
        register(&profiles, "metrics/2", &two);
        profiles.steer(&metrics, &id, &a).unwrap();
        profiles.steer(&metrics, &id, &b).unwrap();
        assert_eq!((&*one.active(), &*two.active()), ("b", "a"), "no other stage is touched");
        profiles.set("a", Some(Duration::from_secs(60))).unwrap();
        let state = profiles.list().remove(0);
        assert_eq!((&*state.active, &*state.base, state.by_hand), ("a", "b", true));
        profiles.steer(&metrics, &id, &b).unwrap();
        assert_eq!(&*one.active(), "a", "a person's choice stands");
        clock.advance(Duration::from_secs(60));
        profiles.expire();
        assert_eq!((&*one.active(), &*two.active()), ("b", "a"));
        profiles.set("a", None).unwrap();
        assert!(profiles.list()[0].by_hand);
        profiles.release().unwrap();
        let state = profiles.list().remove(0);
        assert_eq!((&*state.active, state.by_hand), ("b", false));
        assert!(profiles.steer(&metrics, &id, &"c".into()).is_ok(), "the fake builds anything");
        profiles.unsteer("metrics", &id);
        assert_eq!(&*profiles.list()[0].base, "a", "the configuration's");
    }

    #[tokio::test]
    async fn the_watch_brings_the_base_back() {
        let (profiles, fake) = (Profiles::default(), Fake::new(&["a", "b"], None));
        register(&profiles, "metrics", &fake);
        let watch = tokio::spawn(profiles.clone().watch());
        let setter = profiles.clone();
        tokio::task::spawn_blocking(move || setter.set("b", Some(Duration::from_millis(50)))).await.unwrap().unwrap();
        for _ in 0..200 {
            if &*fake.active() == "a" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(&*fake.active(), "a");
        watch.abort();
    }
}
