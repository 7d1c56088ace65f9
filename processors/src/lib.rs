//! The stages of a chain: what happens to a batch between the receivers and the exporters.
//!
//! Each component has a folder of its own and shows three things: its settings, its [`ProcessorFactory`], and nothing
//! else. What two components share (matching of names and values, actions on attributes) stands beside them. No
//! component starts a thread, blocks, or knows a receiver, an exporter or another component.

#![deny(unsafe_code)]

mod actions;
pub mod attributes;
pub mod batch;
pub mod filter;
mod flaws;
mod matching;
pub mod memory_limiter;
pub mod resource;
pub mod resource_detection;
#[cfg(test)]
mod testing;
mod value;

use phoenix_pipeline::ProcessorFactory;

pub use actions::{Action, ActionConfig, ConvertedType};
pub use matching::{AttributeMatch, MatchType, RegexpOptions};
pub use value::ConfigValue;

/// Every processor, in the order in which a pipeline usually names them.
pub const PROCESSORS: &[ProcessorFactory] = &[
    memory_limiter::FACTORY,
    resource_detection::FACTORY,
    resource::FACTORY,
    attributes::FACTORY,
    filter::FACTORY,
    batch::FACTORY,
];
