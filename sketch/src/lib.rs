//! Estimates that are bounded in memory, need no clock and no chance, and can be merged.
//!
//! [`Distribution`] answers quantiles of positive numbers within a known relative error, [`Recent`] keeps one over a
//! moving window, and [`Habit`] knows what is usual for a single value. Nothing here knows telemetry.
#![forbid(unsafe_code)]

mod distribution;
mod habit;
mod recent;

pub use distribution::Distribution;
pub use habit::Habit;
pub use recent::Recent;
