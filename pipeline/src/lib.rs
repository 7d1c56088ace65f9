//! The contracts of the house: what a receiver, a processor and an exporter are, and the machinery between them.
//!
//! The one decision of this crate: **the chain is synchronous code on its own thread, a [`Lane`]; only the edges are
//! asynchronous.** A receiver sends a [`Batch`](phoenix_telemetry::Batch) through its [`Outlet`] into a bounded
//! channel; the lane runs it through a [`Chain`] of [`Processor`]s and hands the result, encoded at most once, to every
//! [`Exporter`]. A full channel is back-pressure, never silent loss: a [`Delivery`] says in the end what became of the
//! data. A new chain is built off the path, published, and taken up by the lane between two batches.
//!
//! Nothing here knows a concrete component; components are found in plain tables of [`Factory`]s.

#![forbid(unsafe_code)]

pub mod admission;
pub mod auth;
pub mod cgroup;
mod chain;
mod clock;
mod component;
pub mod config;
mod delivery;
pub mod estimates;
pub mod explain;
pub mod folded;
mod lane;
mod listen;
mod marks;
pub mod memory;
mod metrics;
mod outlet;
mod page;
mod profiles;
mod status;
pub mod storage;
pub mod swap;

pub use chain::{Chain, Stage, Stages};
pub use clock::Clock;
pub use component::{
    BoxFuture, BuildError, ComponentId, Context, Exporter, ExporterFactory, Extension, ExtensionFactory, Factory,
    Handover, Processor, ProcessorFactory, Receiver, ReceiverFactory, Shipment, Siblings, Site, Stability,
};
pub use delivery::{Ack, Delivery, Refusal};
pub use estimates::Estimates;
pub use explain::Explain;
pub use folded::Folded;
pub use lane::{Lane, LaneHandle};
pub use listen::{Listener, Listeners, UnixSocket};
pub use marks::{AttributeFold, Class, Decision, Entity, Mark, Marks};
pub use metrics::{Histogram, Instrument, Level, Metrics, Observed};
pub use outlet::{Outlet, Target};
pub use page::{Handler, Handshake, PageServer, Secured, Wire, serve, serve_requests};
pub use profiles::{MAX_EXPIRY, ProfileError, ProfileState, Profiles, Publish, Switch};
pub use status::{Health, Status, StatusBoard};
