//! One stage with profiles and its controller: a step from what was measured to what is done.
//!
//! A step decides only when there is something to decide on: a newer estimate, one that has become stale, a person's
//! choice, memory that runs short. So one scrape is never counted as two observations.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_control::detect::{Forecast, Risk};
use phoenix_control::{Conflict, Controller, Decision, Emergency, Guard, Manual, Move, Observation, Shadow};
use phoenix_pipeline::ProfileState;
use phoenix_pipeline::config::duration;
use phoenix_pipeline::estimates::{Cardinality, Thinning};
use phoenix_processors::cost::{Bill, bill};

use super::gauges::Gauges;
use super::journal::{Entry, Kind, Note};
use super::memory::Memory;
use super::observatory::{Explosion, Observatory};
use super::remedies::{Change, Remedies};
use super::saved::{self, Saved};
use super::view::Sight;
use super::{Desk, Place, World};

/// How often the state is written while nothing is switched.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// The bill is reckoned over at least so long: a batch more or less must not show.
const BILL_OVER: Duration = Duration::from_secs(60);

/// Gaps between two estimates that are remembered, to know how often they come.
const GAPS: usize = 5;
/// An estimate is not stale before so many usual gaps have passed: the next one may be late.
const PATIENCE: f64 = 2.5;

/// What was said last: an entry is written when this changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    wanted: usize,
    guards: Vec<Guard>,
    emergency: Option<Emergency>,
    conflict: Option<Conflict>,
}

/// A stage that is watched, and steered where it has a budget.
pub(super) struct Steered {
    place: Place,
    controller: Option<Controller>,
    gauges: Gauges,
    /// The origin of the controller's time.
    began: Instant,
    due: Instant,
    /// What the last decision was made on.
    seen: Option<Instant>,
    /// The last times between two estimates.
    gaps: VecDeque<Duration>,
    by_hand: bool,
    said: Option<Said>,
    decision: Option<Decision>,
    switches: (u64, u64),
    /// What the bill is reckoned from, and the bill.
    earlier: Option<Arc<Thinning>>,
    bill: Option<(Bill, f64)>,
    written: Instant,
    observatory: Observatory,
    remedies: Remedies,
    outlook: Option<(Forecast, Risk)>,
}

/// A word for settings: the state made under others is not gone on with.
fn checksum(place: &Place) -> u32 {
    crc32fast::hash(format!("{:?}", place.config.law()).as_bytes())
}

fn controller(place: &Place) -> Option<Controller> {
    let law = place.config.law()?;
    let settings = checksum(place);
    let saved = place.saved.as_ref().filter(|saved| saved.settings == settings);
    Some(match saved {
        Some(saved) => Controller::resume(law, saved.state.clone()),
        None => Controller::new(law),
    })
}

impl Steered {
    pub(super) fn new(place: Place, world: &World, desk: &Desk) -> Self {
        let now = world.clock.now();
        let floor = place.config.control.attribution_floor.unwrap_or(0.0);
        let stage = Steered {
            controller: controller(&place),
            gauges: Gauges::new(&world.metrics, &place.pipeline, &place.processor, floor),
            began: now,
            due: now + place.config.budget.interval,
            seen: None,
            gaps: VecDeque::new(),
            by_hand: false,
            said: None,
            decision: None,
            switches: (0, 0),
            earlier: None,
            bill: None,
            written: now,
            observatory: Observatory::new(place.config.control.detect, now),
            remedies: Remedies::default(),
            outlook: None,
            place,
        };
        stage.show(world, desk, None, None, None, false);
        stage
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Goes on under other settings; the controller does so only if those it was told are the same.
    pub(super) fn reconfigured(mut self, place: Place, world: &World, desk: &Desk) -> Self {
        let same = place.names == self.place.names && place.config.law() == self.place.config.law();
        let acted = self.place.acts();
        if !same {
            let mut next = Steered::new(place, world, desk);
            next.switches = self.switches;
            self = next;
        } else {
            self.due = self.due.min(world.clock.now() + place.config.budget.interval);
            self.place = place;
        }
        if acted && !self.place.acts() {
            self.release(world);
        }
        self
    }

    /// Takes its hands off: the profile at work stays, the pressure is the configured one again.
    fn release(&self, world: &World) {
        world.profiles.unsteer(&self.place.pipeline, &self.place.processor);
        world.profiles.press(&self.place.pipeline, &self.place.processor, None);
        world.profiles.fold(&self.place.pipeline, &self.place.processor, &[], &[]);
    }

    /// The stage is configured no more.
    pub(super) fn let_go(&mut self, world: &World, desk: &Desk) {
        self.release(world);
        desk.clear(&self.place.pipeline, &self.place.processor);
    }

    /// Looks, decides and acts.
    pub(super) fn step(&mut self, world: &World, memory: &Memory, desk: &Desk) {
        let now = world.clock.now();
        self.due = now + self.place.config.budget.interval;
        let Place { pipeline, processor, .. } = &self.place;
        let thinning = world.estimates.thinning.list().into_iter();
        let mut thinning = thinning.filter(|row| row.pipeline == *pipeline && row.processor == *processor);
        let thinning = thinning.next().map(|row| row.snapshot);
        let mut cardinality = world.estimates.cardinality.list().into_iter();
        let cardinality = cardinality.find(|row| row.pipeline == *pipeline).map(|row| row.snapshot);
        let used = memory.used(now);
        let fresh = thinning.as_ref().map(|seen| seen.at) != self.seen && thinning.is_some();
        if let (true, Some(last), Some(next)) = (fresh, self.seen, &thinning) {
            self.gaps.push_back(next.at.saturating_duration_since(last));
            if self.gaps.len() > GAPS {
                self.gaps.pop_front();
            }
        }
        self.reckon(thinning.as_ref());
        if let Some(stage) = self.stage(world) {
            self.watch(world, desk, &stage, cardinality.as_ref(), thinning.as_deref());
            self.decide(world, desk, &stage, (thinning.as_deref(), fresh), used);
            if now.saturating_duration_since(self.written) >= SAVE_EVERY {
                self.save();
                self.written = now;
            }
        }
        self.seen = thinning.as_ref().map(|seen| seen.at);
        let active = self.stage(world).map(|stage| stage.active);
        self.show(world, desk, active, thinning.as_deref().zip(Some(cardinality.as_deref())), used, fresh);
    }

    /// The stage's profiles as they stand.
    fn stage(&self, world: &World) -> Option<ProfileState> {
        let Place { pipeline, processor, .. } = &self.place;
        world.profiles.list().into_iter().find(|row| row.pipeline == *pipeline && row.processor == *processor)
    }

    /// Reckons what a month costs, between two snapshots that lie far enough apart.
    fn reckon(&mut self, thinning: Option<&Arc<Thinning>>) {
        let Some(later) = thinning else { return };
        let Some(earlier) = &self.earlier else {
            self.earlier = Some(Arc::clone(later));
            return;
        };
        let apart = later.at.saturating_duration_since(earlier.at);
        if later.points_in < earlier.points_in {
            // The stage is a new one: its counts began anew.
            self.earlier = Some(Arc::clone(later));
        } else if apart >= BILL_OVER {
            if let Some(bill) = bill(&self.place.config.cost, earlier, later) {
                self.gauges.cost(&bill);
                self.bill = Some((bill, apart.as_secs_f64()));
            }
            self.earlier = Some(Arc::clone(later));
        }
    }

    /// Looks for explosions, and does against them what is permitted.
    fn watch(
        &mut self,
        world: &World,
        desk: &Desk,
        stage: &ProfileState,
        cardinality: Option<&Arc<Cardinality>>,
        thinning: Option<&Thinning>,
    ) {
        let (now, unix_nanos) = (world.clock.now(), world.clock.unix_nanos());
        let news = self.observatory.look(now, unix_nanos, cardinality);
        self.gauges.explosions(self.observatory.explosions(), &news);
        let names = &self.place.names;
        let active = names.iter().position(|name| *name == stage.active).unwrap_or_default();
        let acts = self.place.acts();
        let (settings, explosions) = (&self.place.config.remediation, self.observatory.explosions());
        let changes = self.remedies.step(settings, (now, unix_nanos), explosions, (active, names.len()), acts);
        if acts {
            let (executables, attributes) = (self.remedies.folded(), self.remedies.summed_over());
            world.profiles.fold(&self.place.pipeline, &self.place.processor, &executables, &attributes);
        }
        let note = |kind, text, applied, culprits| {
            let note = Note {
                place: &self.place,
                unix_nanos,
                kind,
                profile: &stage.active,
                text,
                applied,
                culprits,
                decision: self.decision.as_ref(),
                output: thinning.map(|seen| seen.output.series),
            };
            desk.write(note.told());
        };
        for begun in &news.begun {
            note(Kind::Explosion, begun.text(), true, vec![begun.json()]);
        }
        for metric in &news.ended {
            note(Kind::Explosion, format!("{metric} explodes no more"), true, Vec::new());
        }
        for change in &changes {
            self.gauges.remedy(change);
            let (text, applied) = match change {
                Change::Begun(action) => {
                    let time = duration::format(settings.expires_after);
                    (format!("against the explosion, for {time}: {}", action.text(names)), true)
                }
                Change::Proposed(action) => {
                    (format!("proposed against the explosion, not permitted: {}", action.text(names)), false)
                }
                Change::Ended(action) => (format!("taken back: {}", action.text(names)), true),
            };
            note(Kind::Remediation, text, applied, explosions.iter().take(1).map(Explosion::json).collect());
        }
    }

    /// One decision, if there is something to decide on.
    fn decide(
        &mut self,
        world: &World,
        desk: &Desk,
        stage: &ProfileState,
        (thinning, fresh): (Option<&Thinning>, bool),
        memory: Option<f64>,
    ) {
        let now = world.clock.now();
        let patience = usual(&self.gaps).mul_f64(PATIENCE);
        let Some(controller) = &mut self.controller else { return };
        let settings = controller.settings();
        let age = thinning.map_or(Duration::MAX, |seen| now.saturating_duration_since(seen.at));
        let age = if age <= patience { age.min(settings.stale_after) } else { age };
        let chosen = stage.by_hand != self.by_hand;
        let short = memory.is_some_and(|used| used >= settings.memory_ceiling);
        let (floor, emergency) = (self.remedies.floor(), self.remedies.emergency());
        let tightest = self.place.names.len().saturating_sub(1);
        let remedied = stage.active != self.place.names.get(tightest).cloned().unwrap_or_default() && emergency;
        if !(fresh || chosen || short || remedied || age > settings.stale_after) {
            return;
        }
        self.by_hand = stage.by_hand;
        let Some(active) = self.place.names.iter().position(|name| *name == stage.active) else { return };
        let mut seen = observation(&self.place, thinning, age, active, memory, stage.by_hand);
        seen.explosion = emergency;
        // What is looser than a remedy allows is as if it were not known: it is not relaxed to.
        seen.profiles.iter_mut().take(floor.unwrap_or_default()).for_each(|shadow| shadow.series = None);
        let mut decision = controller.step(now.saturating_duration_since(self.began), &seen);
        if let Some(floor) = floor.filter(|floor| decision.after < *floor && !stage.by_hand) {
            (decision.after, decision.r#move) = (floor.min(tightest), Move::Tighten);
        }
        if let Some(output) = decision.output.filter(|_| fresh) {
            let switched = self.decision.as_ref();
            let switched = switched.is_some_and(|last| last.r#move != Move::Hold || last.after != active);
            self.observatory.level(now, output / decision.budget, switched);
            // The loop answers within two steps.
            let reaction = 2.0 * self.place.config.budget.interval.as_secs_f64();
            self.outlook = self.observatory.outlook(reaction);
            self.outlook.iter().for_each(|(forecast, risk)| self.gauges.outlook(forecast, risk));
        }
        let error = self.act(world, &decision, stage.by_hand);
        let kind = match (&error, chosen) {
            (Some(_), _) => Kind::Failed,
            (None, true) => Kind::Manual,
            (None, false) => Kind::of(&decision),
        };
        let said = self.words(&decision, kind);
        self.gauges.decided(&decision, said.wanted);
        if kind == Kind::Manual || kind == Kind::Failed || self.said.as_ref() != Some(&said) {
            let entry = Entry {
                place: &self.place,
                unix_nanos: world.clock.unix_nanos(),
                kind,
                decision: &decision,
                output: thinning.map(|seen| seen.output.series),
                by_hand: stage.by_hand,
                error,
                culprits: self.observatory.culprits(),
            };
            entry.log();
            desk.write(entry.json());
        }
        self.said = Some(said);
        self.decision = Some(decision);
        if matches!(kind, Kind::Tighten | Kind::Relax) {
            self.save();
        }
    }

    /// Does what was decided; says why it could not.
    fn act(&mut self, world: &World, decision: &Decision, by_hand: bool) -> Option<String> {
        if !self.place.acts() {
            return None;
        }
        let Place { pipeline, processor, names, .. } = &self.place;
        world.profiles.press(pipeline, processor, Some(decision.pressure));
        let after = names.get(decision.after).filter(|_| decision.r#move != Move::Hold && !by_hand)?;
        match world.profiles.steer(pipeline, processor, after) {
            Ok(()) => {
                let tighter = decision.r#move == Move::Tighten;
                self.gauges.switched(tighter);
                *(if tighter { &mut self.switches.0 } else { &mut self.switches.1 }) += 1;
                None
            }
            Err(error) => {
                self.gauges.failed();
                Some(error.to_string())
            }
        }
    }

    /// What this decision says. A profile that is only proposed stays so until another is, or nothing holds this one.
    fn words(&self, decision: &Decision, kind: Kind) -> Said {
        let proposed = self.said.as_ref().map(|said| said.wanted).filter(|_| self.place.config.budget.observe_only);
        let waits = decision.guards.iter().any(|guard| matches!(guard, Guard::Dwell | Guard::Confirmation));
        let wanted = match decision.r#move {
            Move::Hold if waits => proposed.unwrap_or(decision.after),
            _ => decision.after,
        };
        let standing = proposed == Some(wanted) && kind != Kind::Manual && wanted != decision.before;
        match (standing, &self.said) {
            // The same proposal again: that it was made a moment ago is no news.
            (true, Some(said)) => Said { emergency: decision.emergency, conflict: decision.conflict, ..said.clone() },
            _ => Said {
                wanted,
                guards: decision.guards.clone(),
                emergency: decision.emergency,
                conflict: decision.conflict,
            },
        }
    }

    /// Writes down what must survive a restart.
    pub(super) fn save(&mut self) {
        let (Some(directory), Some(controller), Some(said)) = (&self.place.directory, &self.controller, &self.said)
        else {
            return;
        };
        // A person's choice ends with the process.
        let own = self.place.acts() && !self.by_hand;
        let Some(profile) = self.place.names.get(said.wanted).filter(|_| own) else { return };
        let saved = Saved {
            profile: profile.to_string(),
            profiles: self.place.names.iter().map(|name| name.to_string()).collect(),
            settings: checksum(&self.place),
            state: controller.state().clone(),
        };
        if let Err(error) = saved::write(directory, &saved) {
            tracing::warn!(directory = %directory.display(), %error, "the state of the control loop cannot be written");
        }
    }

    fn show(
        &self,
        world: &World,
        desk: &Desk,
        active: Option<Arc<str>>,
        seen: Option<(&Thinning, Option<&Cardinality>)>,
        memory: Option<f64>,
        fresh: bool,
    ) {
        let (thinning, cardinality) =
            seen.map_or((None, None), |(thinning, cardinality)| (Some(thinning), cardinality));
        let sight = Sight {
            place: &self.place,
            active,
            wanted: self.said.as_ref().map(|said| said.wanted),
            thinning,
            cardinality,
            decision: self.decision.as_ref(),
            memory,
            explosions: self.observatory.explosions(),
            culprits: self.observatory.culprits(),
            remedies: self
                .remedies
                .list()
                .iter()
                .map(|remedy| remedy.json(world.clock.now(), &self.place.names))
                .collect(),
            outlook: self.outlook,
            switches: self.switches,
            bill: self.bill.as_ref().map(|(bill, _)| bill),
            billed: self.bill.as_ref().map_or(0.0, |(_, seconds)| *seconds),
        };
        let row = fresh.then(|| sight.row(world.clock.unix_nanos()));
        let place = (&self.place.pipeline, &self.place.processor);
        desk.show(place, (sight.state(), thinning.map(|seen| seen.at)), sight.cost(), row);
    }
}

/// The middle one of some gaps: how often something comes, whatever single pauses there were. 0 of fewer than three.
fn usual(gaps: &VecDeque<Duration>) -> Duration {
    let mut sorted: Vec<Duration> = gaps.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().filter(|_| sorted.len() > 2).unwrap_or_default()
}

/// What the controller is told.
fn observation(
    place: &Place,
    thinning: Option<&Thinning>,
    age: Duration,
    active: usize,
    memory: Option<f64>,
    by_hand: bool,
) -> Observation {
    let shadow = |name: &Arc<str>| {
        let known = thinning.and_then(|seen| seen.profiles.iter().find(|profile| profile.name == *name));
        known.map_or_else(Shadow::default, |profile| Shadow {
            series: Some(profile.output.series),
            attribution: profile.attribution.cpu,
        })
    };
    Observation {
        // Nothing measured yet is missing, not stale.
        age: if thinning.is_some() { age } else { Duration::ZERO },
        output: thinning.map(|seen| seen.output.series),
        error: thinning.map_or(0.0, |seen| seen.output.error),
        input: thinning.map(|seen| seen.input.series),
        active,
        profiles: place.names.iter().map(shadow).collect(),
        memory,
        explosion: false,
        // When it ends is the register's to say.
        manual: by_hand.then_some(Manual { profile: active, until: None }),
    }
}
