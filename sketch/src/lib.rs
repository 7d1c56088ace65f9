//! Estimates that are bounded in memory, need no clock and no chance, and can be merged.
//!
//! [`Distinct`] says how many different hashes were seen, and [`Window`] how many lately; [`Sample`] remembers a fair part
//! of them one by one, [`Order`] foresees who comes next, [`Ordered`] finds so what it knows of a hash, and [`Leaders`] who comes
//! most often. [`Distribution`] answers quantiles of positive numbers within a known relative error, [`Recent`] keeps one over
//! a moving window, and [`Habit`] knows what is usual for a single value. Nothing here knows telemetry.
#![forbid(unsafe_code)]

mod distinct;
mod distribution;
mod habit;
mod leaders;
mod order;
mod ordered;
mod recent;
mod sample;
mod window;

pub use distinct::{COMMON_SEED, Distinct, STANDARD_ERROR, SketchError};
pub use distribution::Distribution;
pub use habit::Habit;
pub use leaders::{Leader, Leaders};
pub use order::Order;
pub use ordered::Ordered;
pub use recent::Recent;
pub use sample::{Met, Sample};
pub use window::Window;
