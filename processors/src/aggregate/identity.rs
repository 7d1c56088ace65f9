//! What series and groups are known by, kept in the form in which they are written again.
//!
//! Descriptions of metrics, sets of attributes and what they make together are held once, however many series share them: what
//! is equal is at one address. The keys of resources are 128 bits: the stable hash and a second one with a key of this process,
//! so that no sender can make two collide.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::config::Output;
use super::layouts::{Form, Layout, Rest};
use crate::measure::ByKey;
use phoenix_telemetry::write::{put_attribute, put_bytes, put_number};
use phoenix_telemetry::{AnyValue, Metric, MetricKind, Point, Resource, Scope, Temporality};

/// A resource.
pub(crate) type Key = (u64, u64);

/// The key of a resource, and its attributes as they came, encoded.
pub(crate) struct Keyed {
    pub(crate) key: Key,
    attributes: Vec<u8>,
}

/// What a metric is to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A CPU time, `*.cpu.time`.
    CpuTime,
    /// A share of it, `*.cpu.utilization`.
    CpuShare,
    Other,
}

const CPU_TIME: &str = ".cpu.time";
const CPU_SHARE: &str = ".cpu.utilization";

impl Role {
    fn of(name: &str, kind: MetricKind, monotonic: bool) -> Role {
        match kind {
            MetricKind::Sum if monotonic && name.ends_with(CPU_TIME) => Role::CpuTime,
            MetricKind::Gauge if name.ends_with(CPU_SHARE) => Role::CpuShare,
            _ => Role::Other,
        }
    }
}

/// Whether a metric is a share of CPU time.
pub(crate) fn is_cpu_share(metric: Metric<'_>) -> bool {
    Role::of(metric.name(), metric.kind(), metric.is_monotonic()) == Role::CpuShare
}

/// Whether a metric is CPU time or a share of it: they keep all their attributes.
pub(crate) fn is_cpu(metric: Metric<'_>) -> bool {
    Role::of(metric.name(), metric.kind(), metric.is_monotonic()) != Role::Other
}

/// A metric without its resource: all that is written of it but the points.
#[derive(Debug)]
pub(crate) struct Desc {
    /// In the order of first sight: the order in which metrics are written.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) kind: MetricKind,
    pub(crate) temporality: Temporality,
    pub(crate) monotonic: bool,
    pub(crate) role: Role,
    /// The `InstrumentationScope` message.
    pub(crate) scope: Vec<u8>,
    pub(crate) scope_schema: String,
    /// Name, description and unit, as fields of `Metric`.
    pub(crate) head: Vec<u8>,
    /// The same metric in the temporality in which it leaves, where that is another one.
    pub(crate) out: Option<Arc<Desc>>,
}

impl Desc {
    /// Whether it is the CPU time that a utilization is of.
    pub(crate) fn is_time_of(&self, share: &Desc) -> bool {
        self.role == Role::CpuTime
            && share.role == Role::CpuShare
            && self.name.strip_suffix(CPU_TIME) == share.name.strip_suffix(CPU_SHARE)
            && self.scope == share.scope
    }

    /// Whether it is the same metric in the other temporality.
    pub(crate) fn is_flip_of(&self, other: &Desc) -> bool {
        self.temporality != other.temporality
            && (self.kind, self.monotonic) == (other.kind, other.monotonic)
            && (&self.head, &self.scope) == (&other.head, &other.scope)
    }

    /// The metric as it leaves.
    pub(crate) fn written(self: &Arc<Self>) -> &Arc<Desc> {
        self.out.as_ref().unwrap_or(self)
    }

    /// Whether it is that metric's, where it is written in that way.
    fn is_of(&self, metric: Metric<'_>, output: Output) -> bool {
        let scope = metric.scope();
        self.name == metric.name()
            && self.unit == metric.unit()
            && (self.kind, self.temporality) == (metric.kind(), metric.temporality())
            && self.monotonic == metric.is_monotonic()
            && self.scope_schema == scope.schema_url()
            && self.out.as_ref().map(|out| out.temporality) == output.converts(metric)
            && self.scope == scope_fields(scope)
    }
}

/// What a series is without its resource.
#[derive(Debug)]
pub(crate) struct Ident {
    /// In the order of first sight.
    pub(crate) id: u64,
    pub(crate) desc: Arc<Desc>,
    /// As fields of the metric's kind of point.
    pub(crate) attributes: Arc<[u8]>,
    /// What it leaves as, where its metric leaves as another one.
    out: Option<Arc<Ident>>,
}

impl Ident {
    /// The series as it leaves.
    pub(crate) fn written(self: &Arc<Self>) -> &Arc<Ident> {
        self.out.as_ref().unwrap_or(self)
    }
}

/// The resource attributes that say something of the host and not of one entity on it, by prefix.
const OF_THE_HOST: [&str; 6] = ["host.", "os.", "cloud.", "deployment.", "k8s.cluster.", "k8s.node."];

/// The attribute that names a group where no attribute of its members does.
pub(crate) const GROUP: &str = "phoenix.group";

/// The attribute of a point that names those which were summed over, so that no series that came is taken for the sum.
pub(crate) const FOLDED: &str = "phoenix.folded";

/// What stands in `group_by` for the class that a rule gave the entity.
pub(crate) const CLASS: &str = "phoenix.class";

/// Whether a resource attribute is the host's.
pub(crate) fn is_of_host(key: &str) -> bool {
    OF_THE_HOST.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether a resource has nothing but the attributes of a host and of a group: it is one, from another agent.
pub(crate) fn is_group(resource: Resource<'_>, group_by: &[String]) -> bool {
    resource.attributes().iter().all(|(key, _)| is_of_host(key) || group_by.iter().any(|by| by == key))
}

/// Things held before those that nobody uses any more are looked for.
const SWEEP_FROM: usize = 4_096;

/// Hands out shared descriptions, sets of attributes, and pairs of these.
#[derive(Debug)]
pub(crate) struct Interner {
    keyed: RandomState,
    descs: HashMap<Vec<u8>, Arc<Desc>>,
    /// The description last found for a metric's hash. Another metric may have the same: what is found is compared.
    hints: ByKey<Arc<Desc>>,
    sets: HashSet<Arc<[u8]>>,
    /// By description, and address of the set.
    idents: HashMap<(u64, usize), Arc<Ident>>,
    /// By the ids and forms of their series.
    layouts: HashMap<Vec<(u64, Form)>, Arc<Layout>>,
    /// The last one that was asked for.
    last: Option<Arc<Layout>>,
    next: u64,
    sweep_at: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Interner {
            keyed: RandomState::new(),
            descs: HashMap::new(),
            hints: ByKey::default(),
            sets: HashSet::new(),
            idents: HashMap::new(),
            layouts: HashMap::new(),
            last: None,
            next: 1,
            sweep_at: SWEEP_FROM,
        }
    }
}

impl Interner {
    /// The key of a resource: by a keyed hash of its attributes, whatever their order.
    pub(crate) fn resource(&self, resource: Resource<'_>) -> Keyed {
        let mut attributes = Vec::with_capacity(256);
        let mut sum = 0u64;
        for (key, value) in resource.attributes().iter() {
            let begin = attributes.len();
            put_attribute(&mut attributes, 1, key, value);
            sum = sum.wrapping_add(self.keyed.hash_one(attributes.get(begin..).unwrap_or_default()));
        }
        Keyed { key: (resource.hash(), sum), attributes }
    }

    /// What a point's series is, given the description of its metric.
    pub(crate) fn ident(&mut self, point: Point<'_>, desc: &Arc<Desc>) -> Arc<Ident> {
        let attributes = self.share(sorted(point.attributes().iter(), point.metric().kind().attributes_field()));
        self.ident_of(desc, &attributes)
    }

    /// What is left of a point's series without those of `keys` that it has; `None` if it has none of them.
    pub(crate) fn rest(&mut self, point: Point<'_>, desc: &Arc<Desc>, keys: &[&str]) -> Option<Rest> {
        let attributes = point.attributes();
        let mut had: Vec<&str> = keys.iter().copied().filter(|key| attributes.get(key).is_some()).collect();
        if had.is_empty() {
            return None;
        }
        had.sort_unstable();
        let without = had.join(",");
        let left = attributes.iter().filter(|(key, _)| had.binary_search(key).is_err());
        let left = left.chain([(FOLDED, AnyValue::Str(&without))]);
        let left = self.share(sorted(left, point.metric().kind().attributes_field()));
        let ident = self.ident_of(desc, &left);
        Some(Rest { without: without.into(), ident })
    }

    /// What a description and a set of attributes that came from here make together.
    pub(crate) fn ident_of(&mut self, desc: &Arc<Desc>, attributes: &Arc<[u8]>) -> Arc<Ident> {
        let key = (desc.id, attributes.as_ptr() as usize);
        if let Some(known) = self.idents.get(&key) {
            return Arc::clone(known);
        }
        let out = desc.out.as_ref().map(|out| self.ident_of(out, attributes));
        let ident = Arc::new(Ident { id: self.next, desc: Arc::clone(desc), attributes: Arc::clone(attributes), out });
        self.next += 1;
        self.idents.insert(key, Arc::clone(&ident));
        ident
    }

    /// The layout of these series; `None` where one is there twice, or cannot be in a layout.
    pub(crate) fn layout<'s, S>(&mut self, series: impl Fn() -> S) -> Option<Arc<Layout>>
    where
        S: Iterator<Item = Option<(&'s Arc<Ident>, Form)>>,
    {
        // Small requests have it found again every few points.
        if let Some(last) = self.last.as_ref().filter(|last| last.is_of(series())) {
            return Some(Arc::clone(last));
        }
        let series: Box<[(Arc<Ident>, Form)]> =
            series().map(|one| one.map(|(ident, form)| (Arc::clone(ident), form))).collect::<Option<_>>()?;
        let key: Vec<(u64, Form)> = series.iter().map(|(ident, form)| (ident.id, *form)).collect();
        let layout = match self.layouts.get(&key) {
            Some(known) => Arc::clone(known),
            None => {
                let different: HashSet<u64> = key.iter().map(|(id, _)| *id).collect();
                if different.len() < key.len() {
                    return None;
                }
                let layout = Arc::new(Layout::new(self.next, series));
                self.next += 1;
                self.layouts.insert(key, Arc::clone(&layout));
                layout
            }
        };
        self.last = Some(Arc::clone(&layout));
        Some(layout)
    }

    /// The description of a metric, and of what it leaves as.
    pub(crate) fn desc(&mut self, metric: Metric<'_>, output: Output) -> Arc<Desc> {
        if let Some(known) = self.hints.get(&metric.hash()).filter(|known| known.is_of(metric, output)) {
            return Arc::clone(known);
        }
        let desc = self.new_desc(metric, output);
        self.hints.insert(metric.hash(), Arc::clone(&desc));
        desc
    }

    fn new_desc(&mut self, metric: Metric<'_>, output: Output) -> Arc<Desc> {
        let out = output.converts(metric).map(|temporality| self.desc_in(metric, temporality, None));
        self.desc_in(metric, metric.temporality(), out)
    }

    /// The description of a metric in a temporality.
    pub(crate) fn desc_in(
        &mut self,
        metric: Metric<'_>,
        temporality: Temporality,
        out: Option<Arc<Desc>>,
    ) -> Arc<Desc> {
        let scope = metric.scope();
        let own = scope_fields(scope);
        let mut key = Vec::with_capacity(128);
        put_bytes(&mut key, 1, &own);
        for (number, text) in [(2, scope.schema_url()), (3, metric.name()), (4, metric.unit())] {
            put_bytes(&mut key, number, text.as_bytes());
        }
        key.extend([metric.kind() as u8, temporality as u8, u8::from(metric.is_monotonic()), u8::from(out.is_some())]);
        if let Some(known) = self.descs.get(&key) {
            return Arc::clone(known);
        }
        let mut head = Vec::with_capacity(64);
        for (number, text) in [(1, metric.name()), (2, metric.description()), (3, metric.unit())] {
            if !text.is_empty() {
                put_bytes(&mut head, number, text.as_bytes());
            }
        }
        let desc = Arc::new(Desc {
            id: self.next,
            name: metric.name().to_owned(),
            unit: metric.unit().to_owned(),
            kind: metric.kind(),
            temporality,
            monotonic: metric.is_monotonic(),
            role: Role::of(metric.name(), metric.kind(), metric.is_monotonic()),
            scope: own,
            scope_schema: scope.schema_url().to_owned(),
            head,
            out,
        });
        self.next += 1;
        self.descs.insert(key, Arc::clone(&desc));
        desc
    }

    /// All descriptions that are held.
    pub(crate) fn descs(&self) -> impl Iterator<Item = &Arc<Desc>> {
        self.descs.values()
    }

    /// Bytes that many hold, once.
    pub(crate) fn share(&mut self, bytes: Vec<u8>) -> Arc<[u8]> {
        if let Some(known) = self.sets.get(bytes.as_slice()) {
            return Arc::clone(known);
        }
        let shared: Arc<[u8]> = bytes.into();
        self.sets.insert(Arc::clone(&shared));
        shared
    }

    /// Whether it is time to look for what nobody holds any more.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.sweep_at
    }

    /// Forgets what nobody holds any more. Not while a batch is at work: it holds what it met.
    pub(crate) fn sweep(&mut self) {
        // What others hold last: a layout holds pairs, and a pair a description and a set.
        self.hints = ByKey::default();
        self.last = None;
        self.layouts.retain(|_, layout| Arc::strong_count(layout) > 1);
        self.idents.retain(|_, ident| Arc::strong_count(ident) > 1);
        self.descs.retain(|_, desc| Arc::strong_count(desc) > 1);
        self.sets.retain(|set| Arc::strong_count(set) > 1);
        self.sweep_at = SWEEP_FROM.max(2 * self.len());
    }

    fn len(&self) -> usize {
        self.layouts.len() + self.idents.len() + self.descs.len() + self.sets.len()
    }
}

/// A scope as the fields of its message.
fn scope_fields(scope: Scope<'_>) -> Vec<u8> {
    let mut own = Vec::with_capacity(192);
    for (number, text) in [(1, scope.name()), (2, scope.version())] {
        if !text.is_empty() {
            put_bytes(&mut own, number, text.as_bytes());
        }
    }
    own.extend_from_slice(&sorted(scope.attributes().iter(), 3));
    own
}

/// Attributes as fields of that number, in an order of their own.
fn sorted<'a>(attributes: impl Iterator<Item = (&'a str, AnyValue<'a>)>, number: u32) -> Vec<u8> {
    let mut encoded: Vec<Vec<u8>> = attributes
        .map(|(key, value)| {
            let mut out = Vec::with_capacity(32);
            put_attribute(&mut out, number, key, value);
            out
        })
        .collect();
    encoded.sort_unstable();
    encoded.concat()
}

/// A whole resource, as the fields of `ResourceMetrics` but for the scopes. The attributes come first, and in their order: of the
/// same bytes is the same resource.
pub(crate) fn encode_resource(resource: Resource<'_>, Keyed { attributes, .. }: &Keyed) -> Vec<u8> {
    let mut out = Vec::with_capacity(attributes.len() + 4);
    put_bytes(&mut out, 1, attributes);
    if !resource.schema_url().is_empty() {
        put_bytes(&mut out, 3, resource.schema_url().as_bytes());
    }
    out
}

/// The description of the gauge that says how many entities a group holds.
pub(crate) fn entities_desc() -> Desc {
    let mut scope = Vec::new();
    put_bytes(&mut scope, 1, b"phoenix/aggregate");
    let mut head = Vec::new();
    put_bytes(&mut head, 1, b"phoenix.group.entities");
    put_bytes(&mut head, 2, b"Entities that are folded into the group.");
    put_bytes(&mut head, 3, b"{entity}");
    Desc {
        id: 0,
        name: "phoenix.group.entities".into(),
        unit: "{entity}".into(),
        kind: MetricKind::Gauge,
        temporality: Temporality::Unspecified,
        monotonic: false,
        role: Role::Other,
        scope,
        scope_schema: String::new(),
        head,
        out: None,
    }
}

/// The fields of a sum's message that are not points.
pub(crate) fn put_shape(out: &mut Vec<u8>, desc: &Desc) {
    if matches!(desc.kind, MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram)
        && desc.temporality != Temporality::Unspecified
    {
        put_number(out, 2, desc.temporality as u64);
    }
    if desc.kind == MetricKind::Sum && desc.monotonic {
        put_number(out, 3, 1);
    }
}
