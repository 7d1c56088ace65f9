//! Loads for the benches and what is measured with them: process metrics as the Collector's hostmetrics receiver emits
//! them, a host with a long tail, and what each config of the catalog makes of it.

pub mod adaptive;
pub mod catalog;
pub mod chain;
pub mod closed;
mod host;
mod process;

pub use host::{Host, INTERVAL, Used};
pub use process::{POINTS_PER_PROCESS, Process, process_metrics};
