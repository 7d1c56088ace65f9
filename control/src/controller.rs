//! Holds a budget of series: a pressure by PID, profiles by hysteresis, and guards around both.
//!
//! A profile is left for a tighter one when the budget is exceeded or the pressure is at its end, at once for the loosest
//! one whose shadow fits; it is left for a looser one only when that one's shadow has fitted for a while. Time is
//! counted by an own clock that no jump of the outer one can move far. Nothing is switched here: a decision is said.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::observation::count;
use crate::pid::Pid;
use crate::{Conflict, Decision, Emergency, Guard, Move, Observation, Settings, Terms, Wins};

/// Beyond this part of the budget one observation is enough: more than ten standard errors are no noise.
const PLAINLY_ABOVE: f64 = 1.1;
/// Pressure moves in steps no smaller than this, so that noise does not turn it.
const PRESSURE_STEP: f64 = 0.02;
/// Seconds for which a looser profile must have fitted at least, or the dwell where that is shorter: a backend's window.
const FITTED: f64 = 300.0;
/// Hysteresis of the attribution floor.
const FLOOR_SLACK: f64 = 0.01;
/// Pressure let go in a step while attribution is below a floor that wins: all of it within ten steps.
const LET_GO: f64 = 0.1;
/// Switches remembered at most; the rate limit's own bound lies at 100 looser ones and as many tighter ones.
const MAX_SWITCHES: usize = 256;

/// One switch of the past.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Switch {
    at: f64,
    tighter: bool,
}

/// What is remembered; it survives restarts. Times are seconds of the controller's own clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The last `now`, seconds.
    last: Option<f64>,
    clock: f64,
    pid: Pid,
    pressure: f64,
    active: Option<usize>,
    above: u32,
    /// Since when each looser profile fits.
    fits_since: Vec<Option<f64>>,
    switches: VecDeque<Switch>,
    relax_locked_until: f64,
    emergency_until: f64,
}

impl State {
    /// Whether every number in it can be reckoned with; what was read from a file may be anything.
    fn is_sound(&self) -> bool {
        let times = [self.clock, self.relax_locked_until, self.emergency_until];
        let switches = self.switches.iter().map(|switch| switch.at);
        times
            .into_iter()
            .chain(switches)
            .chain(self.fits_since.iter().flatten().copied())
            .all(|time| time.is_finite() && time >= 0.0)
            && (0.0..=1.0).contains(&self.pressure)
            && self.pid.is_sound()
    }
}

/// Holds a budget of series.
#[derive(Clone, Debug)]
pub struct Controller {
    settings: Settings,
    state: State,
}

impl Controller {
    /// A controller that has seen nothing. The settings must pass [`Settings::check`].
    pub fn new(settings: Settings) -> Self {
        Controller { settings, state: State::default() }
    }

    /// Goes on from a state; one that holds impossible numbers counts as none.
    pub fn resume(settings: Settings, state: State) -> Self {
        let state = if state.is_sound() { State { last: None, ..state } } else { State::default() };
        Controller { settings, state }
    }

    /// What must be kept over a restart.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it was told once.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Decides. `now` is any clock that mostly goes forward.
    pub fn step(&mut self, now: Duration, seen: &Observation) -> Decision {
        let dt = self.advance(now);
        self.follow(seen.active);
        let mut decision = Decision {
            before: seen.active,
            after: seen.active,
            r#move: Move::Hold,
            pressure: self.state.pressure,
            budget: self.settings.budget,
            output: None,
            input: count(seen.input),
            attribution: seen.attribution(seen.active),
            terms: Terms::default(),
            guards: Vec::new(),
            emergency: None,
            conflict: None,
        };
        let stale = seen.age > self.settings.stale_after;
        let output = seen.steered().filter(|_| !stale);
        decision.output = output;
        match output {
            Some(output) => {
                let used = output / self.settings.budget;
                decision.terms = self.state.pid.step(used, dt, &self.settings);
                self.state.above = if used > 1.0 { self.state.above.saturating_add(1) } else { 0 };
            }
            None => {
                decision.guards.push(if stale { Guard::Stale } else { Guard::Missing });
                self.state.pid.gap();
                self.state.above = 0;
                self.state.fits_since.clear();
            }
        }
        decision.emergency = self.emergency(seen, output);
        if decision.emergency.is_some() {
            self.state.emergency_until = self.state.clock + self.settings.emergency_lockout.as_secs_f64();
        }
        decision.after = self.target(now, seen, &mut decision);
        self.settle(&mut decision);
        decision
    }

    /// Moves the own clock on, by no more than a step may stand for; answers by how much.
    fn advance(&mut self, now: Duration) -> f64 {
        let now = now.as_secs_f64();
        let dt = self.state.last.map_or(0.0, |last| (now - last).clamp(0.0, self.settings.max_step.as_secs_f64()));
        self.state.last = Some(now);
        self.state.clock += dt;
        dt
    }

    /// Takes note of a profile that somebody else put to work.
    fn follow(&mut self, active: usize) {
        if self.state.active.is_some_and(|known| known != active) {
            self.state.pid.transfer(self.state.pressure);
            self.state.fits_since.clear();
        }
        self.state.active = Some(active);
    }

    fn emergency(&self, seen: &Observation, output: Option<f64>) -> Option<Emergency> {
        if count(seen.memory).is_some_and(|memory| memory >= self.settings.memory_ceiling) {
            Some(Emergency::Memory)
        } else if seen.explosion {
            Some(Emergency::Explosion)
        } else {
            output
                .is_some_and(|output| output > self.settings.hard_ceiling * self.settings.budget)
                .then_some(Emergency::HardCeiling)
        }
    }

    /// The profile to be at work.
    fn target(&mut self, now: Duration, seen: &Observation, decision: &mut Decision) -> usize {
        let tightest = seen.profiles.len().saturating_sub(1);
        if let Some(manual) = seen.manual.filter(|manual| manual.until.is_none_or(|until| now < until)) {
            decision.guards.push(Guard::Manual);
            decision.conflict = decision
                .output
                .is_some_and(|output| output > self.settings.budget)
                .then_some(Conflict::ManualAboveBudget);
            self.state.fits_since.clear();
            return manual.profile.min(tightest);
        }
        if matches!(decision.emergency, Some(Emergency::Memory | Emergency::Explosion)) {
            return tightest.max(seen.active);
        }
        let Some(output) = decision.output else { return seen.active };
        if let Some(looser) = self.for_attribution(seen, decision) {
            return looser;
        }
        let used = output / self.settings.budget;
        if used > 1.0 || (used > self.settings.band_high && decision.terms.demand >= 1.0) {
            self.state.fits_since.clear();
            return self.tighter(seen, used, decision);
        }
        self.looser(seen, decision)
    }

    /// Where attribution wins: the next looser profile while the one at work is below the floor.
    fn for_attribution(&mut self, seen: &Observation, decision: &mut Decision) -> Option<usize> {
        let floor = self.settings.attribution_floor.filter(|_| self.settings.wins == Wins::Attribution)?;
        if decision.attribution.is_none_or(|kept| kept >= floor - FLOOR_SLACK) || seen.active == 0 {
            return None;
        }
        if !self.rested(self.settings.tighten_dwell) {
            decision.guards.push(Guard::Dwell);
            return Some(seen.active);
        }
        Some(seen.active - 1)
    }

    /// The loosest tighter profile that fits, if nothing holds it back.
    fn tighter(&mut self, seen: &Observation, used: f64, decision: &mut Decision) -> usize {
        let urgent = decision.emergency.is_some();
        let settings = &self.settings;
        if !urgent && used > 1.0 && used <= PLAINLY_ABOVE && self.state.above < settings.confirmations {
            decision.guards.push(Guard::Confirmation);
            return seen.active;
        }
        if !urgent && !self.rested(settings.tighten_dwell) {
            decision.guards.push(Guard::Dwell);
            return seen.active;
        }
        let floor = settings.attribution_floor.filter(|_| settings.wins == Wins::Attribution).unwrap_or(0.0);
        let all = seen.active + 1..seen.profiles.len();
        if all.is_empty() {
            decision.guards.push(Guard::NothingTighter);
            decision.conflict = (used > 1.0).then_some(Conflict::BudgetOutOfReach);
            return seen.active;
        }
        let allowed: Vec<usize> = all.filter(|p| seen.attribution(*p).is_none_or(|kept| kept >= floor)).collect();
        let Some(last) = allowed.last().copied() else {
            decision.guards.push(Guard::AttributionFloor);
            decision.conflict = (used > 1.0).then_some(Conflict::BudgetGaveWay);
            return seen.active;
        };
        let fits = |p: &usize| seen.at_most(*p).is_some_and(|series| series <= settings.band_high * settings.budget);
        if let Some(fitting) = allowed.iter().copied().find(fits) {
            return fitting;
        }
        // Nothing is known to fit: one step where something is unknown, the tightest where all is known or haste is due.
        let unknown = allowed.iter().copied().find(|p| seen.at_most(*p).is_none()).filter(|_| !urgent);
        unknown.unwrap_or(last)
    }

    /// The loosest profile that has fitted for long enough, if nothing else holds it back.
    fn looser(&mut self, seen: &Observation, decision: &mut Decision) -> usize {
        let (settings, clock) = (&self.settings, self.state.clock);
        if seen.active == 0 {
            return seen.active;
        }
        // A profile that is not the next one may fit where the next does not: what comes and goes costs series too.
        let most = settings.band_low * settings.budget;
        self.state.fits_since.resize(seen.active.min(seen.profiles.len()), None);
        for (profile, since) in self.state.fits_since.iter_mut().enumerate() {
            *since = seen.at_most(profile).filter(|series| *series <= most).map(|_| since.unwrap_or(clock));
        }
        let fitting =
            || self.state.fits_since.iter().enumerate().filter_map(|(profile, since)| Some((profile, (*since)?)));
        if fitting().next().is_none() {
            let known = (0..seen.active).any(|profile| seen.at_most(profile).is_some());
            decision.guards.push(if known { Guard::ShadowAbove } else { Guard::ShadowUnknown });
            let below = |floor| decision.attribution.is_some_and(|kept| kept < floor);
            if known && settings.attribution_floor.is_some_and(below) {
                decision.conflict = Some(Conflict::AttributionGaveWay);
            }
            return seen.active;
        }
        let fitted = settings.relax_dwell.as_secs_f64().min(FITTED);
        let chosen = fitting().find(|(_, since)| clock - since >= fitted);
        let recent = clock - settings.switch_window.as_secs_f64();
        let relaxes = self.state.switches.iter().filter(|switch| !switch.tighter && switch.at > recent).count();
        let guards = [
            (clock < self.state.emergency_until, Guard::EmergencyLockout),
            (clock < self.state.relax_locked_until, Guard::OscillationLockout),
            (relaxes >= settings.max_relaxes, Guard::RateLimit),
            (!self.rested(settings.relax_dwell), Guard::Dwell),
            (chosen.is_none(), Guard::ShadowRecent),
        ];
        let before = decision.guards.len();
        decision.guards.extend(guards.into_iter().filter(|(held, _)| *held).map(|(_, guard)| guard));
        chosen.filter(|_| decision.guards.len() == before).map_or(seen.active, |(profile, _)| profile)
    }

    /// Whether the last switch is at least so long ago.
    fn rested(&self, dwell: Duration) -> bool {
        self.state.switches.back().is_none_or(|switch| self.state.clock - switch.at >= dwell.as_secs_f64())
    }

    /// Writes down what became of it.
    fn settle(&mut self, decision: &mut Decision) {
        let by_hand = decision.guards.contains(&Guard::Manual);
        if decision.after != decision.before {
            let tighter = decision.after > decision.before;
            decision.r#move = if tighter { Move::Tighten } else { Move::Relax };
            if !by_hand {
                self.remember(tighter);
            }
            // The shadows were measured under the pressure that is: it stays, and the integral takes it over.
            self.state.pid.transfer(self.state.pressure);
            self.state.active = Some(decision.after);
            self.state.fits_since.clear();
            self.state.above = 0;
        } else if decision.output.is_some() && !by_hand {
            let asked = self.spared(decision, decision.terms.demand.clamp(0.0, 1.0));
            let end = asked == 0.0 || asked == 1.0;
            if end || (asked - self.state.pressure).abs() >= PRESSURE_STEP {
                self.state.pressure = asked;
            }
        }
        if matches!(decision.emergency, Some(Emergency::Memory | Emergency::Explosion)) && !by_hand {
            self.state.pressure = 1.0;
            self.state.pid.transfer(1.0);
        }
        decision.pressure = self.state.pressure;
    }

    /// The pressure to be, where attribution wins: it does not grow close to the floor, and is let go below it.
    fn spared(&mut self, decision: &Decision, asked: f64) -> f64 {
        let floor = self.settings.attribution_floor.filter(|_| self.settings.wins == Wins::Attribution);
        let Some((floor, kept)) = floor.zip(decision.attribution) else { return asked };
        let most = match kept {
            kept if kept < floor => (self.state.pressure - LET_GO).max(0.0),
            kept if kept < floor + FLOOR_SLACK => self.state.pressure,
            _ => return asked,
        };
        if asked > most {
            self.state.pid.transfer(most);
        }
        asked.min(most)
    }

    /// Adds a switch, and locks looser profiles when the direction changed too often.
    fn remember(&mut self, tighter: bool) {
        let clock = self.state.clock;
        self.state.switches.push_back(Switch { at: clock, tighter });
        let recent = clock - self.settings.switch_window.as_secs_f64();
        // The newest always stays: dwell is counted from it.
        let old = |switches: &VecDeque<Switch>| switches.front().is_some_and(|switch| switch.at <= recent);
        while self.state.switches.len() > MAX_SWITCHES || (self.state.switches.len() > 1 && old(&self.state.switches)) {
            self.state.switches.pop_front();
        }
        let pairs = self.state.switches.iter().zip(self.state.switches.iter().skip(1));
        let reversals = pairs.filter(|(one, next)| one.tighter != next.tighter).count();
        if reversals >= self.settings.max_reversals {
            self.state.relax_locked_until = clock + self.settings.oscillation_lockout.as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests;
