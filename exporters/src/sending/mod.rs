//! What every exporter that talks to a peer over a network shares: a bounded queue in memory or on disk, batches, retries,
//! one pace for all requests to a destination, and an account of what became of every data point.
//!
//! An exporter brings a [`Destination`] (how one attempt is made) and gets a [`Sender`] (when attempts are made, how
//! often, and what is said about it). The lane hands a shipment over and returns at once; everything that waits is a
//! task on the agent's runtime. The words and defaults of the settings are the Collector's.
//!
//! A data point that enters here leaves in exactly one of four ways, each counted: *sent*, *rejected* by the peer in an
//! answer that otherwise took the data, *dropped* with a cause, or *refused at the queue*. What is on disk when the agent
//! ends has not left. Who waits for data hears as soon as it is as safe as was asked ([`phoenix_pipeline::Ack`]).
//!
//! What this never does: it never blocks a lane, never keeps more than the queue's limits allow (what is in flight
//! counts), and never looks inside a point.

mod backoff;
mod gate;
mod journal;
mod keeper;
mod leftover;
mod load;
mod merge;
mod pace;
mod queue;
mod recent;
mod sender;
mod settings;
mod spool;
#[cfg(test)]
mod tests;
mod worker;

pub use backoff::{Backoff, Verdict};
pub use leftover::{Leftover, leftovers};
pub use sender::Sender;
pub use settings::{BatchSettings, BatchSizer, OnFull, QueueSettings, RetrySettings, Sizer};

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use phoenix_pipeline::Shipment;

/// How a shipment reaches one peer. Everything about *when* is the [`Sender`]'s.
pub trait Destination: Send + Sync + 'static {
    /// A request made ready once (encoded, compressed) and repeated as it is. Cloning must be cheap.
    type Request: Clone + Send + 'static;

    /// Makes the request of a shipment. May take CPU time, never waits.
    ///
    /// # Errors
    /// A sentence that says why this shipment can never be sent.
    fn prepare(&self, shipment: &Shipment) -> Result<Self::Request, String>;

    /// Whether [`prepare`](Destination::prepare) does more than copy: compresses, or writes another encoding.
    fn transforms(&self) -> bool;

    /// Bytes of a request as it goes over the wire.
    fn size(&self, request: &Self::Request) -> usize;

    /// One attempt. It is dropped when its time is over.
    fn attempt(&self, request: Self::Request) -> impl Future<Output = Result<Accepted, Failure>> + Send;
}

/// The peer has taken the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Data points the peer says it did not take all the same (partial success). They are not sent again.
    pub rejected: u64,
    /// What the peer, or this side reading its answer, has to say about it; empty when all is well.
    pub message: String,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind in one word for counters and for telling a new trouble from the same one ("503", "UNAVAILABLE").
    pub cause: Cow<'static, str>,
    /// For people. Never holds a secret.
    pub reason: String,
    /// Whether another attempt with the same request can help.
    pub retry: Retry,
}

/// Whether and when a failed attempt may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never: the same request would fail again.
    Never,
    /// Not as it is: it is too large, and parts of it may be taken.
    Smaller,
    /// After the sender's own backoff.
    Backoff,
    /// Not before this time has passed: the peer asked for it.
    After(Duration),
}
