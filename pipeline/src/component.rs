//! What a component is: the three traits, the table entry it is found by, and what it is given when it is built.
//!
//! A factory keeps `validate` and `build` apart, so that `phoenix validate` checks everything and starts nothing. The
//! tables are plain slices of [`Factory`] that can be read, searched and ordered; nothing registers itself.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use phoenix_telemetry::{Batch, Limits};

use crate::admission::Budget;
use crate::auth::{Authenticator, Authenticators};
use crate::config::{Mistake, Settings, Value, read};
use crate::storage::{Storage, Storages};
use crate::{
    Ack, Clock, Delivery, Estimates, Explain, Folded, LaneHandle, Listeners, Marks, Metrics, Outlet, Profiles, Refusal,
    Status, StatusBoard,
};

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `TYPE[/NAME]`, the way the configuration names a component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId(Arc<str>);

impl ComponentId {
    /// Takes the text as it stands in the configuration (the loader has checked its form).
    pub fn new(text: &str) -> Self {
        ComponentId(text.into())
    }

    /// The part before the slash: which factory builds it.
    pub fn kind(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(kind, _)| kind)
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a component could not be built or started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is wrong; every mistake names its place.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Mistake>),
    /// The configuration is right, but the host does not allow it (a taken port, a directory that is not there).
    #[error("{0}")]
    Failed(String),
}

impl From<String> for BuildError {
    fn from(why: String) -> Self {
        BuildError::Failed(why)
    }
}

impl From<&str> for BuildError {
    fn from(why: &str) -> Self {
        BuildError::Failed(why.into())
    }
}

/// How settled a component's behaviour and configuration are, in the Collector's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// May change without notice.
    Alpha,
    /// Changes are announced.
    Beta,
    /// Changes only with a new major version.
    Stable,
}

impl fmt::Display for Stability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stability::Alpha => "Alpha",
            Stability::Beta => "Beta",
            Stability::Stable => "Stable",
        })
    }
}

/// One row of a table of components; `C` is what it builds.
pub struct Factory<C: 'static> {
    /// The type name in a configuration.
    pub name: &'static str,
    /// Older names that still work.
    pub aliases: &'static [&'static str],
    /// One line for `phoenix components`.
    pub about: &'static str,
    /// How settled it is.
    pub stability: Stability,
    /// Its default settings, for documentation and completion.
    pub defaults: fn() -> serde_yaml::Value,
    /// Every mistake of a block of configuration; starts and opens nothing.
    pub validate: fn(&Value) -> Vec<Mistake>,
    /// Builds the component.
    pub build: fn(&Value, &Site) -> Result<C, BuildError>,
}

impl<C> Factory<C> {
    /// A factory whose settings are `S`.
    pub const fn new<S: Settings>(
        name: &'static str,
        about: &'static str,
        stability: Stability,
        build: fn(&Value, &Site) -> Result<C, BuildError>,
    ) -> Self {
        Factory { name, aliases: &[], about, stability, defaults: defaults::<S>, validate: mistakes::<S>, build }
    }

    /// The same factory under further names.
    pub const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Whether a configuration's type name means this factory.
    pub fn answers_to(&self, kind: &str) -> bool {
        self.name == kind || self.aliases.contains(&kind)
    }
}

fn defaults<S: Settings>() -> serde_yaml::Value {
    // A settings struct serialises by derive; one that cannot shows up as null in the documentation test.
    serde_yaml::to_value(S::default()).unwrap_or_default()
}

fn mistakes<S: Settings>(value: &Value) -> Vec<Mistake> {
    read::<S>(value).err().unwrap_or_default()
}

/// A row of the table of receivers.
pub type ReceiverFactory = Factory<Box<dyn Receiver>>;
/// A row of the table of processors.
pub type ProcessorFactory = Factory<Box<dyn Processor>>;
/// A row of the table of exporters.
pub type ExporterFactory = Factory<Arc<dyn Exporter>>;

/// A row of the table of extensions.
pub type ExtensionFactory = Factory<Box<dyn Extension>>;

/// Builds another processor of the same configuration by its id, for a stage that is made of others. It gets a site of
/// its own: the given one with its id and its state, and without siblings.
pub type Siblings = Arc<dyn Fn(&ComponentId, &Site) -> Result<Box<dyn Processor>, BuildError> + Send + Sync>;

/// What a component is given when it is built.
#[derive(Clone)]
pub struct Site {
    /// Its id in the configuration.
    pub id: ComponentId,
    /// The pipeline a processor stands in; receivers and exporters are shared and have none.
    pub pipeline: Option<Arc<str>>,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where it reads the time.
    pub clock: Clock,
    /// Where its asynchronous edges run.
    pub runtime: tokio::runtime::Handle,
    /// Its line on the health page.
    pub status: Status,
    /// Where it gets listening sockets.
    pub listeners: Listeners,
    /// Where it finds what its `auth.authenticator` names.
    pub authenticators: Authenticators,
    /// Where it finds what its `sending_queue.storage` names.
    pub storages: Storages,
    /// A directory of its own for state that survives a restart; none where the agent keeps no state.
    pub state: Option<Arc<Path>>,
    /// Where stages write down why they decided what.
    pub explain: Explain,
    /// Where stages say how many series they let through.
    pub estimates: Estimates,
    /// Where receivers learn which processes a stage folded.
    pub folded: Folded,
    /// Where a stage that holds profiles can be told to change.
    pub profiles: Profiles,
    /// For a processor that is made of others; none inside such a one.
    pub siblings: Option<Siblings>,
    /// The lane a processor runs on, to be woken.
    pub lane: Option<LaneHandle>,
    /// Room in the agent's memory for data that comes in.
    pub admission: Budget,
    /// Places for connections of senders, as far as descriptors go; counted in connections.
    pub connections: Budget,
    /// The agent's version.
    pub version: &'static str,
}

impl Site {
    /// The component's settings out of its block of configuration.
    ///
    /// # Errors
    /// [`BuildError::Config`] with every mistake of the block.
    pub fn settings<S: Settings>(&self, value: &Value) -> Result<S, BuildError> {
        read(value).map_err(BuildError::Config)
    }

    /// A site for tests: a board, a registry and listeners of its own. Runs on the current runtime, or on one that is
    /// made for it and lives as long as the process.
    pub fn for_test(id: &str) -> Site {
        static RUNTIME: OnceLock<Option<tokio::runtime::Handle>> = OnceLock::new();
        let own = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let handle = runtime.handle().clone();
            std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
            Some(handle)
        };
        let current = tokio::runtime::Handle::try_current().ok();
        let Some(runtime) = current.or_else(|| RUNTIME.get_or_init(own).clone()) else {
            unreachable!("a current-thread runtime needs nothing that a test host lacks")
        };
        let board = StatusBoard::default();
        Site {
            id: ComponentId::new(id),
            pipeline: Some("metrics".into()),
            metrics: Metrics::new(&Clock::system(), Vec::new()),
            clock: Clock::system(),
            runtime,
            status: board.status(id),
            listeners: Listeners::default(),
            authenticators: Authenticators::default(),
            storages: Storages::default(),
            state: None,
            explain: Explain::default(),
            estimates: Estimates::default(),
            folded: Folded::default(),
            profiles: Profiles::default(),
            siblings: None,
            lane: None,
            admission: Budget::of_memory(u64::MAX),
            connections: Budget::new(usize::MAX),
            version: "0.0.0-test",
        }
    }
}

/// Where metrics come in. Shared by all pipelines that name it.
pub trait Receiver: Send {
    /// Starts to take in and to send through `outlet`.
    ///
    /// # Errors
    /// What the host refuses: a port, a file, a thread.
    fn start(&mut self, outlet: Outlet) -> Result<(), BuildError>;

    /// Stops. When it resolves, nothing more is sent.
    fn shutdown(&mut self) -> BoxFuture<'_, ()>;

    /// What its configuration promises its senders, if it says so; a promise that the exporters behind it cannot keep is
    /// a mistake of the configuration.
    fn ack(&self) -> Option<Ack> {
        None
    }
}

/// A stage of the chain. Runs on a lane; never blocks, never awaits.
pub trait Processor: Send {
    /// Works on the batch in place. A stage may keep the data (`std::mem::take`) together with `cx.delivery.take()`; an
    /// empty batch ends the run through the chain.
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>);

    /// When the stage wants to speak by itself; the lane then calls [`Processor::flush`].
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Writes what is due into the (empty) batch and its promise into `cx.delivery`: at the deadline, and with `all`
    /// before the end and before a swap, again and again until the batch stays empty.
    fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
        let _ = (batch, cx, all);
    }

    /// Takes what it can from the stage of the same id that it replaces; says what became of the rest. Data that is
    /// still held by the old stage is flushed through the old chain afterwards.
    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let _ = previous;
        Handover::default()
    }

    /// How many pieces of state it holds, counted as in [`Handover`]: what is lost when no stage takes it over.
    fn pieces(&self) -> usize {
        0
    }

    /// For [`Processor::adopt`], to recognise a stage of one's own type.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What became of a replaced stage's state, in pieces (entities, groups, windows: whatever the stage counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Pieces that live on in the new stage.
    pub carried: usize,
    /// Pieces that were sent on early.
    pub flushed: usize,
    /// Pieces that were given up.
    pub discarded: usize,
}

/// What a stage is told and given during one call.
pub struct Context<'a> {
    /// Monotonic time of this run through the chain.
    pub now: Instant,
    /// The promise of the batch at hand.
    pub delivery: &'a mut Delivery,
    /// What earlier stages said about the batch at hand.
    pub marks: &'a mut Marks,
}

impl Context<'_> {
    /// Refuses the batch: empties it and tells whoever waits for it.
    pub fn refuse(&mut self, batch: &mut Batch, refusal: Refusal) {
        *batch = Batch::default();
        self.delivery.take().refused(refusal);
    }
}

/// Where metrics go. Shared by all pipelines that name it.
pub trait Exporter: Send + Sync {
    /// Takes a batch over. Called on a lane: hands over to a queue of its own and returns at once.
    fn export(&self, shipment: Shipment, delivery: Delivery);

    /// Whether its queue is on disk, so that [`crate::Ack::OnDisk`] can be promised.
    fn durable(&self) -> bool {
        false
    }

    /// Sends what is left until `deadline`, then gives up and counts what was lost.
    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()>;
}

/// What stands beside the pipelines: health, storage, debugging. It works from the moment it is built.
pub trait Extension: Send {
    /// What it offers to those that name it in `auth.authenticator`.
    fn authenticator(&self) -> Option<Authenticator> {
        None
    }

    /// What it offers to those that name it in `sending_queue.storage`.
    fn storage(&self) -> Option<Storage> {
        None
    }

    /// Stops.
    fn shutdown(&mut self) -> BoxFuture<'_, ()>;
}

/// A batch on its way out: shared by all exporters of a pipeline, encoded at most once, and decoded only to be looked into.
#[derive(Clone)]
pub struct Shipment(Arc<Content>);

/// At least one of `batch` and `bytes` is there from the beginning; the other is made when it is asked for.
struct Content {
    batch: OnceLock<Batch>,
    bytes: OnceLock<Bytes>,
    points: usize,
}

impl Shipment {
    /// Seals a batch.
    pub fn new(batch: Batch) -> Self {
        let points = batch.points();
        Shipment(Arc::new(Content { batch: batch.into(), bytes: OnceLock::new(), points }))
    }

    /// What [`Shipment::bytes`] was, with that many data points.
    pub fn encoded(bytes: Bytes, points: usize) -> Self {
        Shipment(Arc::new(Content { batch: OnceLock::new(), bytes: bytes.into(), points }))
    }

    /// The batch, to be read. Of a shipment that was given bytes which are no request it is empty, whatever
    /// [`Shipment::points`] says.
    pub fn batch(&self) -> &Batch {
        let decode = |bytes: &Bytes| {
            // It was a batch before: what it could hold then, it may hold now.
            let limits = Limits { max_bytes: usize::MAX, max_points: usize::MAX, ..Limits::default() };
            Batch::decode(bytes.clone(), &limits).ok()
        };
        self.0.batch.get_or_init(|| self.0.bytes.get().and_then(decode).unwrap_or_default())
    }

    /// The batch as an `ExportMetricsServiceRequest`.
    pub fn bytes(&self) -> Bytes {
        self.0.bytes.get_or_init(|| self.batch().encode()).clone()
    }

    /// The length of [`Shipment::bytes`], without encoding.
    pub fn encoded_len(&self) -> usize {
        self.0.bytes.get().map_or_else(|| self.batch().encoded_len(), Bytes::len)
    }

    /// How many data points it holds.
    pub fn points(&self) -> usize {
        self.0.points
    }
}

#[cfg(test)]
mod tests {
    use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape};

    use super::*;

    #[test]
    fn what_was_encoded_is_sent_as_it_is_and_decoded_when_it_is_looked_into() {
        let mut builder = BatchBuilder::new();
        let descriptor = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
        let mut resource = builder.resource();
        let mut scope = resource.scope("tests", "1");
        let mut metric = scope.metric(&descriptor);
        metric.point(0, 7, Number::Int(1), &[]);
        metric.point(0, 8, Number::Int(2), &[]);
        drop(metric);
        drop(scope);
        drop(resource);
        let sealed = Shipment::new(builder.finish());
        let again = Shipment::encoded(sealed.bytes(), sealed.points());
        assert_eq!((again.points(), again.encoded_len()), (2, sealed.encoded_len()));
        assert_eq!((again.bytes(), again.batch().points()), (sealed.bytes(), 2));
        assert_eq!(sealed.batch().encode(), again.batch().encode());

        let none = Shipment::encoded(Bytes::from_static(b"no request"), 5);
        assert_eq!((none.points(), none.batch().points(), none.bytes().len()), (5, 0, 10));
    }
}
