//! Chains as a lane runs them, from the bytes of a request to the bytes of what is sent on, without sockets or threads.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use phoenix_pipeline::config::{Value, parse};
use phoenix_pipeline::{
    BoxFuture, BuildError, Chain, ComponentId, Delivery, Exporter, Processor, Shipment, Siblings, Site, Stage,
};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{Batch, Limits};

use crate::{Host, INTERVAL};

/// Settings of the processors that [`chain`] builds: the embedded default's, with room for the processes of many hosts, and with
/// one profile at work and three that are only foreseen.
const CONFIG: &str = "
memory_limiter: { check_interval: 1s, limit_mib: 4096 }
cardinality: {}
priority: { presets: [node_essentials, container_runtimes, databases, init, self], max_entities: 200000 }
topk: { k: 50, rank_by: [process.cpu.time, process.memory.usage, process.disk.io], max_entities: 200000 }
topk/tight: { k: 10, rank_by: [process.cpu.time], max_entities: 200000 }
adaptive_filter: { max_entities: 200000 }
aggregate: {}
adaptive:
  profile: balanced
  profiles:
    conservative: [priority, aggregate]
    balanced: [priority, topk, aggregate]
    tight: [priority, topk/tight, aggregate]
    aggressive: [priority, topk, adaptive_filter, aggregate]
";

/// The chain that thins.
pub const THIN: &[&str] = &["topk", "aggregate"];
/// The whole chain of the embedded default.
pub const FULL: &[&str] = &["memory_limiter", "cardinality", "adaptive"];

/// Builds a chain of these processors with these exporters.
///
/// # Errors
/// One of them is unknown here, or refuses its settings.
pub fn chain(ids: &[&str], exporters: Vec<Arc<dyn Exporter>>, site: &Site) -> Result<Chain, BuildError> {
    let config = Arc::new(parse("bench.yaml", CONFIG).map_err(BuildError::Config)?);
    let of_siblings = Arc::clone(&config);
    let siblings: Siblings =
        Arc::new(move |id, site| processor(&of_siblings, id, &Site { siblings: None, ..site.clone() }));
    let site = Site { siblings: Some(siblings), ..site.clone() };
    // As in the agent, somebody may look at what is measured for as long as the chain lives.
    std::mem::forget(site.estimates.clone());
    let stage = |id: &&str| {
        let id = ComponentId::new(id);
        let processor = processor(&config, &id, &site)?;
        Ok(Stage::new(id, processor, &site.metrics))
    };
    let stages = ids.iter().map(stage).collect::<Result<_, BuildError>>()?;
    Ok(Chain::new("metrics", stages, exporters, &site.metrics))
}

fn processor(config: &Value, id: &ComponentId, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let factory = PROCESSORS.iter().find(|factory| factory.answers_to(id.kind()));
    let factory = factory.ok_or_else(|| format!("{id} is no processor"))?;
    let settings = config.get(id.as_str()).ok_or_else(|| format!("{id} is not configured"))?;
    (factory.build)(settings, &Site { id: id.clone(), ..site.clone() })
}

/// An exporter that encodes what it is given and lets it go.
pub struct Encode;

impl Exporter for Encode {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        black_box(shipment.bytes());
        delivery.delivered();
    }

    fn shutdown(&self, _: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Hosts whose scrapes come in one after the other, and what time it is by them.
pub struct Load {
    hosts: Vec<Host>,
    next: usize,
    now: Instant,
}

impl Load {
    /// So many hosts of so many processes each, with names if there are several.
    pub fn new(hosts: usize, processes: usize) -> Self {
        let host = |number: usize| {
            let host = Host::seeded(processes, number as u64 + 7);
            if hosts == 1 { host } else { host.named(format!("node-{number:04}.example.com")) }
        };
        Load { hosts: (0..hosts).map(host).collect(), next: 0, now: Instant::now() }
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// The next scrape, and when it comes in.
    pub fn scrape(&mut self) -> (Bytes, Instant) {
        if self.next == 0 {
            self.now += Duration::from_secs(INTERVAL);
        }
        let at = self.next;
        self.next = (at + 1) % self.hosts.len().max(1);
        let Some(host) = self.hosts.get_mut(at) else { return (Bytes::new(), self.now) };
        host.pass();
        (Bytes::from(host.scrape()), self.now)
    }
}

/// Carries a request through a chain; nothing leaves for bytes that are no request.
pub fn carry(chain: &mut Chain, bytes: Bytes, now: Instant) {
    if let Ok(batch) = Batch::decode(bytes, &Limits::default()) {
        chain.push(batch, Delivery::none(), now);
    }
}
