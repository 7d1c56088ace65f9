//! What is done by itself against an explosion: the mildest thing that is permitted, for a time, and then it is taken back.
//!
//! The ladder: sum over the attribute that tells the new series apart, fold the executable that makes most of them, the next
//! tighter profile, the tightest one. A rung
//! that is not permitted is proposed instead; the next permitted one follows if the explosion goes on. Pure: nothing is
//! folded or switched here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::AttributeFold;
use phoenix_processors::adaptive::Remediation;
use serde_json::{Value, json};

use super::observatory::Explosion;

/// How long an action is given before the next one.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the limit on actions counts over.
const HOUR: Duration = Duration::from_secs(3600);
/// Part of the new series an executable must make to be folded for them.
const CULPABLE: f64 = 0.5;
/// The attribute that executables are folded by.
const EXECUTABLE: &str = "process.executable.name";

/// What can be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Sum over this attribute of the points of this metric.
    FoldAttribute(AttributeFold),
    /// Fold this executable.
    FoldExecutable(Arc<str>),
    /// No profile looser than this place.
    TightenProfile(usize),
    /// The tightest profile, at once.
    EmergencyProfile,
}

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::FoldAttribute(_) => "fold_attribute",
            Action::FoldExecutable(_) => "fold_executable",
            Action::TightenProfile(_) => "tighten_profile",
            Action::EmergencyProfile => "emergency_profile",
        }
    }

    /// Whether it is the same kind of thing against the same target.
    fn is(&self, other: &Action) -> bool {
        match (self, other) {
            (Action::TightenProfile(_), Action::TightenProfile(_)) => true,
            _ => self == other,
        }
    }

    fn permitted(&self, settings: &Remediation) -> bool {
        match self {
            Action::FoldAttribute(_) => settings.fold_attribute,
            Action::FoldExecutable(_) => settings.fold_executable,
            Action::TightenProfile(_) => settings.tighten_profile,
            Action::EmergencyProfile => settings.emergency_profile,
        }
    }

    fn target(&self, profiles: &[Arc<str>]) -> Option<Arc<str>> {
        match self {
            Action::FoldAttribute(fold) => Some(format!("{} of {}", fold.attribute, fold.metric).into()),
            Action::FoldExecutable(name) => Some(Arc::clone(name)),
            Action::TightenProfile(place) => profiles.get(*place).cloned(),
            Action::EmergencyProfile => profiles.last().cloned(),
        }
    }

    /// In words, as an order.
    pub(super) fn text(&self, profiles: &[Arc<str>]) -> String {
        let target = self.target(profiles).unwrap_or_default();
        match self {
            Action::FoldAttribute(_) => format!("sum over {target}"),
            Action::FoldExecutable(_) => format!("fold the executable {target}"),
            Action::TightenProfile(_) => format!("no profile looser than {target}"),
            Action::EmergencyProfile => format!("the tightest profile, {target}"),
        }
    }
}

/// One that was begun or proposed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Remedy {
    id: u64,
    pub(super) action: Action,
    /// Unix nanoseconds.
    since: u64,
    /// `None` where it is only proposed.
    until: Option<Instant>,
}

impl Remedy {
    pub(super) fn json(&self, now: Instant, profiles: &[Arc<str>]) -> Value {
        json!({
            "id": self.id,
            "action": self.action.name(),
            "target": self.action.target(profiles).as_deref(),
            "status": if self.until.is_some() { "active" } else { "proposed" },
            "since_unix_nano": self.since.to_string(),
            "expires_in_seconds": self.until.map(|until| until.saturating_duration_since(now).as_secs_f64()),
        })
    }
}

/// What became of a remedy.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Begun(Action),
    Proposed(Action),
    Ended(Action),
}

/// All remedies of a stage.
#[derive(Default)]
pub(super) struct Remedies {
    listed: Vec<Remedy>,
    begun: VecDeque<Instant>,
    next: u64,
}

impl Remedies {
    pub(super) fn list(&self) -> &[Remedy] {
        &self.listed
    }

    fn at_work(&self) -> impl Iterator<Item = &Action> {
        self.listed.iter().filter(|remedy| remedy.until.is_some()).map(|remedy| &remedy.action)
    }

    /// The executables to be folded.
    pub(super) fn folded(&self) -> Vec<Arc<str>> {
        let name = |action: &Action| match action {
            Action::FoldExecutable(name) => Some(Arc::clone(name)),
            _ => None,
        };
        self.at_work().filter_map(name).collect()
    }

    /// The attributes to be summed over.
    pub(super) fn summed_over(&self) -> Vec<AttributeFold> {
        let fold = |action: &Action| match action {
            Action::FoldAttribute(fold) => Some(fold.clone()),
            _ => None,
        };
        self.at_work().filter_map(fold).collect()
    }

    /// Whether an attribute is summed over already, so that what explodes leaves as few series as before.
    fn answers(&self, explosion: &Explosion) -> bool {
        let fold = attribute_of(explosion);
        fold.is_some_and(|fold| self.at_work().any(|action| *action == Action::FoldAttribute(fold.clone())))
    }

    /// The loosest profile that may be at work.
    pub(super) fn floor(&self) -> Option<usize> {
        let place = |action: &Action| match action {
            Action::TightenProfile(place) => Some(*place),
            _ => None,
        };
        self.at_work().filter_map(place).max()
    }

    /// Whether the tightest profile is to be at work.
    pub(super) fn emergency(&self) -> bool {
        self.at_work().any(|action| *action == Action::EmergencyProfile)
    }

    /// Moves on. `active` is the place of the profile at work among `profiles`; with `acts` false all is proposed.
    pub(super) fn step(
        &mut self,
        settings: &Remediation,
        (now, unix_nanos): (Instant, u64),
        explosions: &[Explosion],
        (active, profiles): (usize, usize),
        acts: bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let over = |remedy: &Remedy| match remedy.until {
            Some(until) => until <= now,
            None => explosions.is_empty(),
        };
        let ended = self.listed.iter().filter(|remedy| over(remedy) && remedy.until.is_some());
        changes.extend(ended.map(|remedy| Change::Ended(remedy.action.clone())));
        self.listed.retain(|remedy| !over(remedy));
        while self.begun.front().is_some_and(|at| now.saturating_duration_since(*at) >= HOUR) {
            self.begun.pop_front();
        }
        let Some(worst) = explosions.iter().find(|explosion| !self.answers(explosion)) else { return changes };
        for action in ladder(worst, active, profiles) {
            if self.listed.iter().any(|remedy| remedy.action.is(&action)) {
                continue;
            }
            let permitted = acts && action.permitted(settings) && self.begun.len() < settings.max_per_hour;
            if permitted && self.begun.back().is_some_and(|at| now.saturating_duration_since(*at) < PATIENCE) {
                break;
            }
            self.next += 1;
            let until = permitted.then(|| now + settings.expires_after);
            self.listed.push(Remedy { id: self.next, action: action.clone(), since: unix_nanos, until });
            if permitted {
                self.begun.push_back(now);
                changes.push(Change::Begun(action));
                break;
            }
            changes.push(Change::Proposed(action));
        }
        changes
    }
}

/// What could be done, mildest first.
fn ladder(worst: &Explosion, active: usize, profiles: usize) -> Vec<Action> {
    let sum = attribute_of(worst).map(Action::FoldAttribute);
    let culprit = worst.maker.as_ref().filter(|(maker, share)| *share >= CULPABLE && maker.name_of == EXECUTABLE);
    let fold = culprit.map(|(maker, _)| Action::FoldExecutable(maker.name.as_str().into()));
    let tighter = active + 1 < profiles;
    let tighten = tighter.then_some(Action::TightenProfile(active + 1));
    let emergency = tighter.then_some(Action::EmergencyProfile);
    sum.into_iter().chain(fold).chain(tighten).chain(emergency).collect()
}

/// The attribute of points that could be summed over.
fn attribute_of(explosion: &Explosion) -> Option<AttributeFold> {
    let attribute = explosion.attribute.as_ref().filter(|_| explosion.of_points.is_some())?;
    Some(AttributeFold { metric: Arc::clone(&explosion.metric), attribute: Arc::clone(attribute) })
}

#[cfg(test)]
mod tests {
    use super::super::observatory::explosion;
    use super::*;

    fn executable(name: &str, share: f64) -> Option<(&str, &str, f64)> {
        Some((EXECUTABLE, name, share))
    }

    struct Bench {
        remedies: Remedies,
        settings: Remediation,
        began: Instant,
    }

    impl Bench {
        fn new(settings: Remediation) -> Self {
            Bench { remedies: Remedies::default(), settings, began: Instant::now() }
        }

        fn at(&mut self, seconds: u64, explosions: &[Explosion], active: usize, acts: bool) -> Vec<Change> {
            let now = self.began + Duration::from_secs(seconds);
            self.remedies.step(&self.settings, (now, 0), explosions, (active, 3), acts)
        }
    }

    fn all() -> Remediation {
        Remediation { fold_executable: true, tighten_profile: true, emergency_profile: true, ..Remediation::default() }
    }

    #[test]
    fn the_mildest_comes_first_the_next_if_it_goes_on_and_all_of_it_ends() {
        let (mut bench, worst) = (Bench::new(all()), [explosion("m", executable("leaky", 0.9))]);
        let leaky = Action::FoldExecutable("leaky".into());
        assert_eq!(bench.at(0, &worst, 0, true), [Change::Begun(leaky.clone())]);
        assert_eq!(bench.remedies.folded(), ["leaky".into()]);
        assert_eq!(bench.at(60, &worst, 0, true), [], "it is given time");
        assert_eq!(bench.at(120, &worst, 0, true), [Change::Begun(Action::TightenProfile(1))]);
        assert_eq!(bench.remedies.floor(), Some(1));
        assert_eq!(bench.at(240, &worst, 1, true), [Change::Begun(Action::EmergencyProfile)]);
        assert!(bench.remedies.emergency());
        assert_eq!(bench.at(1799, &[], 2, true), [], "they hold though it is over");
        assert_eq!(bench.at(1800, &[], 2, true), [Change::Ended(leaky)]);
        assert_eq!(bench.at(2040, &[], 2, true).len(), 2);
        assert!(bench.remedies.list().is_empty());
    }

    #[test]
    fn an_attribute_is_summed_over_first_and_then_its_explosion_is_answered() {
        let settings = Remediation { fold_attribute: true, expires_after: Duration::from_secs(300), ..all() };
        let mut told_apart = explosion("m", executable("leaky", 0.9));
        told_apart.of_points = Some(0.9);
        let fold = AttributeFold { metric: "m".into(), attribute: "id".into() };
        let mut bench = Bench::new(settings);
        let worst = [told_apart.clone()];
        assert_eq!(bench.at(0, &worst, 0, true), [Change::Begun(Action::FoldAttribute(fold.clone()))]);
        assert_eq!((bench.remedies.summed_over(), bench.remedies.folded()), (vec![fold.clone()], Vec::new()));
        assert_eq!(bench.remedies.list()[0].json(bench.began, &[])["target"], "id of m");
        assert_eq!(bench.at(250, &worst, 0, true), [], "it goes on where it is counted, and leaves no more");
        let other = [told_apart.clone(), explosion("other", None)];
        assert_eq!(
            bench.at(260, &other, 0, true),
            [Change::Begun(Action::TightenProfile(1))],
            "another one is not answered"
        );
        let again = bench.at(300, &worst, 0, true);
        assert_eq!(again[0], Change::Ended(Action::FoldAttribute(fold.clone())));
        assert!(
            bench.at(400, &worst, 0, true).contains(&Change::Begun(Action::FoldAttribute(fold))),
            "it still goes on"
        );
        // Without consent, and where only is watched, it is proposed.
        for (settings, acts) in [(Remediation::default(), true), (Remediation { fold_attribute: true, ..all() }, false)]
        {
            let mut bench = Bench::new(settings);
            let changes = bench.at(0, &worst, 0, acts);
            assert!(changes.len() == 4 && changes.iter().all(|change| matches!(change, Change::Proposed(_))));
            assert!(bench.remedies.summed_over().is_empty());
        }
    }

    #[test]
    fn what_is_not_permitted_is_proposed_once() {
        let worst = [explosion("m", executable("leaky", 0.9))];
        for (settings, acts) in [(Remediation::default(), true), (all(), false)] {
            let mut bench = Bench::new(settings);
            let changes = bench.at(0, &worst, 0, acts);
            assert!(changes.len() == 3 && changes.iter().all(|change| matches!(change, Change::Proposed(_))));
            assert_eq!(bench.at(500, &worst, 0, acts), []);
            assert_eq!(
                (bench.remedies.folded().len(), bench.remedies.floor(), bench.remedies.emergency()),
                (0, None, false)
            );
            assert_eq!(bench.at(600, &[], 0, acts), []);
            assert!(bench.remedies.list().is_empty(), "a proposal ends with its reason");
        }
        let mut bench = Bench::new(Remediation { emergency_profile: true, ..Remediation::default() });
        let changes = bench.at(0, &[explosion("m", executable("small", 0.2))], 0, true);
        let expected = [Change::Proposed(Action::TightenProfile(1)), Change::Begun(Action::EmergencyProfile)];
        assert_eq!(changes, expected, "nobody is folded who makes a fifth");
        let mut bench = Bench::new(all());
        let changes = bench.at(0, &[explosion("m", Some(("service.name", "shop", 0.9)))], 0, true);
        assert_eq!(
            changes,
            [Change::Begun(Action::TightenProfile(1))],
            "a service is no executable that could be folded"
        );
    }

    #[test]
    fn no_more_are_begun_than_the_hour_allows() {
        let mut bench = Bench::new(Remediation { max_per_hour: 2, expires_after: Duration::from_secs(200), ..all() });
        let culprits = ["a", "b", "c", "d"];
        let changes: Vec<Change> = (0..4)
            .flat_map(|n| bench.at(n * 130, &[explosion("m", executable(culprits[n as usize], 0.9))], 2, true))
            .filter(|change| matches!(change, Change::Begun(_)))
            .collect();
        assert_eq!(changes.len(), 2);
        let later = bench.at(3700, &[explosion("m", executable("e", 0.9))], 2, true);
        assert!(later.iter().any(|change| matches!(change, Change::Begun(_))));
    }
}
