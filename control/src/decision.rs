//! What the controller says, with all that a log needs to tell why.

use crate::Terms;
use serde::Serialize;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// The profile stays.
    Hold,
    /// One that thins more.
    Tighten,
    /// One that thins less.
    Relax,
}

/// What held a wish back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// The observation is too old.
    Stale,
    /// There is no count, or it is no number.
    Missing,
    /// A person chose.
    Manual,
    /// Too few observations above the budget yet.
    Confirmation,
    /// The last switch was too short ago.
    Dwell,
    /// The looser profile is not measured.
    ShadowUnknown,
    /// The looser profile would not stay in band.
    ShadowAbove,
    /// The looser profile has not fitted long enough.
    ShadowRecent,
    /// Too many looser profiles within the window.
    RateLimit,
    /// The loop oscillated.
    OscillationLockout,
    /// An emergency was a short time ago.
    EmergencyLockout,
    /// A tighter profile would attribute less than the floor.
    AttributionFloor,
    /// There is no tighter profile.
    NothingTighter,
}

/// Why nothing was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emergency {
    /// The output is beyond the hard ceiling.
    HardCeiling,
    /// Memory is short.
    Memory,
    /// A detector says that series explode.
    Explosion,
}

/// Goals that cannot be met at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// Even the tightest profile is above the budget.
    BudgetOutOfReach,
    /// The budget is kept, attribution is below its floor, and no looser profile fits.
    AttributionGaveWay,
    /// Attribution is kept, and the budget is exceeded.
    BudgetGaveWay,
    /// A person's choice exceeds the budget.
    ManualAboveBudget,
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The profile at work before.
    pub before: usize,
    /// The profile to be at work now.
    pub after: usize,
    /// What was done.
    pub r#move: Move,
    /// Pressure within the profile, 0 to 1.
    pub pressure: f64,
    /// The budget, in series.
    pub budget: f64,
    /// The count that was steered by, in series; `None` if there was none.
    pub output: Option<f64>,
    /// What came in, in series.
    pub input: Option<f64>,
    /// Attribution of the profile at work, 0 to 1.
    pub attribution: Option<f64>,
    /// The terms of the PID.
    pub terms: Terms,
    /// What held a wish back, in the order met.
    pub guards: Vec<Guard>,
    /// Why nothing was waited for.
    pub emergency: Option<Emergency>,
    /// Goals that cannot be met at once.
    pub conflict: Option<Conflict>,
}
