//! The brain: pure functions of numbers and time. No clock, no I/O, no chance that is not a seed.
//!
//! [`Controller::step`] holds a budget of series by choosing among profiles, from the least to the most thinning, and by a
//! pressure within one. What it is told is an [`Observation`], what it says a [`Decision`] that carries all of its reasons.
#![forbid(unsafe_code)]

mod controller;
mod decision;
pub mod detect;
mod observation;
mod pid;
mod settings;
pub mod simulate;

pub use controller::{Controller, State};
pub use decision::{Conflict, Decision, Emergency, Guard, Move};
pub use observation::{Manual, Observation, Shadow};
pub use pid::Terms;
pub use settings::{Gains, Settings, Wins};
