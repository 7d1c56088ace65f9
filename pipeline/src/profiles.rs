//! Which profile is at work, and how another one is chosen while the agent runs.
//!
//! A stage that holds profiles registers its [`Switch`] here; whoever wants another profile (a person, a controller) asks
//! [`Profiles::set`]. What is chosen is either the base, which stays, or temporary, and then the base comes back by the
//! clock. Choices outlive a reload as long as the profile of that name does. Everything new is built before anything
//! changes: if one stage cannot build its profile, no stage changes.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::{Clock, ComponentId};

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
    /// How long the temporary one still has.
    pub expires_in: Option<Duration>,
}

struct Entry {
    pipeline: Arc<str>,
    processor: ComponentId,
    switch: Weak<dyn Switch>,
    /// What the configuration starts with.
    configured: Arc<str>,
    base: Arc<str>,
    temporary: Option<(Arc<str>, Instant)>,
}

impl Entry {
    fn wanted(&self, now: Instant) -> &Arc<str> {
        match &self.temporary {
            Some((name, until)) if *until > now => name,
            _ => &self.base,
        }
    }
}

#[derive(Default)]
struct Shared {
    entries: Mutex<Vec<Entry>>,
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

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With which profile a stage that is about to be built should start: the one chosen by hand, if it still has it.
    pub fn start(
        &self,
        pipeline: &str,
        processor: &ComponentId,
        names: &[Arc<str>],
        configured: &str,
    ) -> Option<Arc<str>> {
        let now = self.0.clock.now();
        let entries = self.entries();
        let known = entries.iter().find(|entry| *entry.pipeline == *pipeline && entry.processor == *processor)?;
        let chosen = known.wanted(now);
        let by_hand = known.temporary.is_some() || *known.base != *known.configured || *known.configured == *configured;
        (by_hand && names.contains(chosen)).then(|| Arc::clone(chosen))
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
        let mut entries = self.entries();
        let before = entries.iter().position(|entry| entry.pipeline == *pipeline && entry.processor == *processor);
        let before = before.map(|at| entries.swap_remove(at));
        let (base, temporary) = match before {
            Some(before) => {
                let by_hand = before.base != before.configured && names.contains(&before.base);
                let base = if by_hand { before.base } else { Arc::clone(configured) };
                (base, before.temporary.filter(|(name, _)| names.contains(name)))
            }
            None => (Arc::clone(configured), None),
        };
        entries.retain(|entry| entry.switch.strong_count() > 0);
        entries.push(Entry {
            pipeline: Arc::clone(pipeline),
            processor: processor.clone(),
            switch: Arc::downgrade(switch),
            configured: Arc::clone(configured),
            base,
            temporary,
        });
    }

    /// Every stage that holds profiles, by pipeline and id.
    pub fn list(&self) -> Vec<ProfileState> {
        let now = self.0.clock.now();
        let entries = self.entries();
        let mut states: Vec<ProfileState> = entries
            .iter()
            .filter_map(|entry| {
                let switch = entry.switch.upgrade()?;
                let until = entry.temporary.as_ref().map(|(_, until)| until.saturating_duration_since(now));
                Some(ProfileState {
                    pipeline: Arc::clone(&entry.pipeline),
                    processor: entry.processor.clone(),
                    profiles: switch.names(),
                    active: switch.active(),
                    base: Arc::clone(&entry.base),
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
        let switches: Vec<Arc<dyn Switch>> = self.entries().iter().filter_map(|entry| entry.switch.upgrade()).collect();
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
        for entry in self.entries().iter_mut() {
            if entry.switch.upgrade().is_some_and(|switch| switch.names().contains(&name)) {
                match until {
                    Some(until) => entry.temporary = Some((Arc::clone(&name), until)),
                    None => (entry.base, entry.temporary) = (Arc::clone(&name), None),
                }
            }
        }
        publish(prepared);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Turns the pressure of the stage of this id in a pipeline, see [`Switch::press`]; says whether there is one. Waits
    /// for nobody.
    pub fn press(&self, pipeline: &str, processor: &ComponentId, pressure: Option<f64>) -> bool {
        let entries = self.entries();
        let found = entries.iter().find(|entry| *entry.pipeline == *pipeline && entry.processor == *processor);
        let switch = found.and_then(|entry| entry.switch.upgrade());
        switch.map(|switch| switch.press(pressure)).is_some()
    }

    /// Brings the base back where a temporary choice has run out. Builds on the caller's thread, as [`Profiles::set`].
    pub fn expire(&self) {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.0.clock.now();
        let over = |entry: &Entry| entry.temporary.as_ref().is_some_and(|(_, until)| *until <= now);
        let due: Vec<_> = self
            .entries()
            .iter()
            .filter(|entry| over(entry))
            .filter_map(|entry| Some((entry.switch.upgrade()?, Arc::clone(&entry.base))))
            .collect();
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
            for entry in self.entries().iter_mut().filter(|entry| over(entry)) {
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
            let soonest =
                self.entries().iter().filter_map(|entry| entry.temporary.as_ref().map(|(_, until)| *until)).min();
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
        assert_eq!(profiles.start("metrics", &id, &names, "a").as_deref(), Some("b"));
        assert_eq!(profiles.start("metrics", &id, &names[..1], "a"), None);
        let next = Fake::new(&["a", "c"], None);
        register(&profiles, "metrics", &next);
        drop(fake);
        assert_eq!(&*profiles.list()[0].base, "a");
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
