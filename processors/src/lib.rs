//! The stages of a chain: what happens to a batch between the receivers and the exporters.
//!
//! Each component has a folder of its own and shows three things: its settings, its [`ProcessorFactory`], and nothing
//! else. What two components share (matching of names and values, actions on attributes) stands beside them. No
//! component starts a thread, blocks, or knows a receiver, an exporter or another component.

#![deny(unsafe_code)]

mod actions;
pub mod adaptive;
pub mod adaptive_filter;
pub mod aggregate;
pub mod attributes;
pub mod batch;
pub mod cardinality;
pub mod cost;
mod entity;
pub mod filter;
mod flaws;
mod machine;
mod matching;
mod measure;
pub mod memory_limiter;
pub mod priority;
pub mod resource;
pub mod resource_detection;
mod shapes;
#[cfg(test)]
mod testing;
pub mod topk;
mod value;

use phoenix_pipeline::ProcessorFactory;

pub use actions::{Action, ActionConfig, ConvertedType};
pub use entity::{EntityBy, ScopeBy};
pub use matching::{AttributeMatch, MatchType, RegexpOptions};
pub use value::ConfigValue;

/// Every processor, in the order in which a pipeline usually names them.
pub const PROCESSORS: &[ProcessorFactory] = &[
    memory_limiter::FACTORY,
    resource_detection::FACTORY,
    resource::FACTORY,
    attributes::FACTORY,
    filter::FACTORY,
    cardinality::FACTORY,
    priority::FACTORY,
    topk::FACTORY,
    adaptive_filter::FACTORY,
    aggregate::FACTORY,
    adaptive::FACTORY,
    batch::FACTORY,
];
