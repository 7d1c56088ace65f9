//! What is on the page: the last value of every series, under its name and labels.
//!
//! A series is a resource and a column: a metric of a scope with attributes of its points, which many resources share. Both
//! are small numbers for whole identities as bytes, so a new value costs one look and one write. What a batch repeats is
//! not worked out again: a resource is known by its bytes, and the columns of a scope hold for all scopes of its shape. With a
//! keyed fast hash for the rest, a process with its 7 points costs 2.0 µs a scrape instead of 6.7 (docs/performance.md). A
//! series is looked for first behind the one before.
//!
//! A label text is made once. Within a family it is the key, so the page cannot hold two series that Prometheus would take
//! for one: of two that collide the newer one stands, and at the same time the one that was there. The store knows no clock
//! and does no I/O; whoever feeds it says when it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_telemetry::{Batch, Metric, Point, Resource, Scope};

use super::identity;
use super::interner::{FastMap, Interner};
use super::labels::{self, Label, Origin};
use super::options::TextOptions;
use super::stream::Stream;
use super::target::{self, Target};
use super::value::{self, Exemplar, Kind, Reason, Treatment, Value};

/// Longest identity or label text of a series, in bytes: a hostile sender must not fill memory with a few series.
const MAX_LABEL_BYTES: usize = 64 * 1024;
/// Most different complaints that are made once each.
const MAX_COMPLAINTS: usize = 256;

/// How much a store may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) series: usize,
    pub(crate) expiration: Duration,
    /// Whether exemplars are kept.
    pub(crate) exemplars: bool,
}

/// What became of the points of one batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Absorbed {
    /// Points left out, by reason.
    pub(crate) dropped: HashMap<Reason, u64>,
    /// Series that made way for a newer one of the same labels: a process that changed what is no label, or two senders
    /// that take turns.
    pub(crate) replaced: u64,
    /// What a person should read once.
    pub(crate) complaints: Vec<String>,
}

/// What the samples of a resource share.
#[derive(Debug)]
struct Origins {
    target: u32,
    /// Its message as it came last, unless that is longer than may be kept.
    body: Option<Arc<[u8]>>,
}

/// A metric of a scope with attributes of its points: what series of different resources have in common.
#[derive(Debug)]
struct Column {
    stream: u32,
}

/// What points at one place in scopes of one shape have in common.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Held until it is released.
    column: u32,
    treatment: Treatment,
    /// Points here have no exemplars, or none that are kept.
    bare: bool,
}

/// The places of a scope's points, as far as they were met.
type Places = Vec<Option<Place>>;

/// What a series is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    resource: u32,
    column: u32,
}

#[derive(Debug)]
pub(crate) struct Series {
    identity: Identity,
    pub(crate) family: Arc<str>,
    pub(crate) labels: Arc<str>,
    pub(crate) value: Value,
    pub(crate) exemplars: Vec<Exemplar>,
    /// Time of the last point, Unix nanoseconds.
    pub(crate) time: u64,
    updated: Instant,
}

/// The samples under one name.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: Kind,
    pub(crate) help: String,
    /// The unit's word where the name ends with it.
    pub(crate) unit: String,
    /// Series by label text.
    pub(crate) members: BTreeMap<Arc<str>, usize>,
}

/// All series of a page.
#[derive(Debug)]
pub(crate) struct Store {
    options: TextOptions,
    bounds: Bounds,
    resources: Interner<Origins>,
    /// Resources by the bytes in which they came last.
    bodies: FastMap<Arc<[u8]>, u32>,
    targets: Interner<Target>,
    streams: Interner<Stream>,
    columns: Interner<Column>,
    index: FastMap<Identity, usize>,
    series: Vec<Option<Series>>,
    /// Behind the series that was looked up last: a resource's lie side by side, in the order in which it reports them.
    next: usize,
    free: Vec<usize>,
    /// Lines on the page, which is what readers count as series: a histogram is one for each of its bounds and more.
    lines: usize,
    families: BTreeMap<Arc<str>, Family>,
    /// The family each sample name belongs to.
    sample_names: HashMap<String, Arc<str>>,
    complained: HashSet<(Reason, Arc<str>)>,
    replaced: u64,
    scratch: Vec<u8>,
    /// The resource that got a series last, and its labels. They are needed when a resource is new, and then for each of its
    /// series; to keep those of all would take another kilobyte for a process.
    labels: Option<(u32, Vec<Label>)>,
}

impl Store {
    pub(crate) fn new(options: TextOptions, bounds: Bounds) -> Self {
        let mut sample_names = HashMap::new();
        if options.target_info {
            sample_names.insert("target_info".to_owned(), Arc::from(""));
        }
        Self {
            options,
            bounds,
            resources: Interner::default(),
            bodies: FastMap::default(),
            targets: Interner::default(),
            streams: Interner::default(),
            columns: Interner::default(),
            index: FastMap::default(),
            series: Vec::new(),
            next: 0,
            free: Vec::new(),
            lines: 0,
            families: BTreeMap::new(),
            sample_names,
            complained: HashSet::new(),
            replaced: 0,
            scratch: Vec::new(),
            labels: None,
        }
    }

    /// How many series the page has, every bound of a histogram counted.
    pub(crate) fn len(&self) -> usize {
        self.lines
    }

    /// How many resources, their bytes, metrics and columns are held for the series.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.resources.values().count()
            + self.bodies.len()
            + self.streams.values().count()
            + self.columns.values().count()
    }

    pub(crate) fn options(&self) -> &TextOptions {
        &self.options
    }

    /// The families by name.
    pub(crate) fn families(&self) -> impl Iterator<Item = (&str, &Family)> {
        self.families.iter().map(|(name, family)| (&**name, family))
    }

    /// The series of a family, by label text.
    pub(crate) fn members<'a>(&'a self, family: &'a Family) -> impl Iterator<Item = &'a Series> {
        family.members.values().filter_map(|slot| self.series.get(*slot)?.as_ref())
    }

    /// The label texts of `target_info`.
    pub(crate) fn targets(&self) -> Vec<String> {
        if self.options.target_info { target::rows(self.targets.values(), &self.options) } else { Vec::new() }
    }

    /// Takes in the points of a batch.
    pub(crate) fn absorb(&mut self, batch: &Batch, now: Instant) -> Absorbed {
        let mut absorbed = Absorbed::default();
        // By the shape of scopes; the first is for those that are like no other.
        let mut shapes: Vec<Places> = Vec::new();
        for resource in batch.resources() {
            let Some(resource_id) = self.acquire_resource(resource) else {
                *absorbed.dropped.entry(Reason::Malformed).or_default() += resource.live_points() as u64;
                continue;
            };
            for scope in resource.scopes() {
                let shape = scope.shape().unwrap_or(0);
                if shapes.len() <= shape {
                    shapes.resize_with(shape + 1, Places::new);
                }
                let Some(places) = shapes.get_mut(shape) else { continue };
                self.scope(resource_id, scope, places, now, &mut absorbed);
                if scope.shape().is_none() {
                    self.release_places(places);
                }
            }
            self.release_resource(resource_id);
        }
        shapes.iter_mut().for_each(|places| self.release_places(places));
        absorbed.replaced = std::mem::take(&mut self.replaced);
        absorbed
    }

    /// Takes in the points of a scope. `places` are those of its shape, as far as they are known, and grow.
    fn scope(&mut self, resource: u32, scope: Scope<'_>, places: &mut Places, now: Instant, absorbed: &mut Absorbed) {
        for (at, point) in scope.points().enumerate() {
            if places.len() <= at {
                places.push(None);
            }
            let (Some(point), Some(known)) = (point, places.get_mut(at)) else { continue };
            let place = *known.get_or_insert_with(|| self.acquire_place(point));
            if let Err(reason) = self.point(resource, place, point, now) {
                *absorbed.dropped.entry(reason).or_default() += 1;
                self.complain(absorbed, reason, place.column, point.metric());
            }
        }
    }

    fn acquire_place(&mut self, point: Point<'_>) -> Place {
        let column = self.acquire_column(point);
        let treatment = self.stream_of(column).map_or(Treatment::UNKNOWN, |stream| stream.treatment);
        Place { column, treatment, bare: !self.bounds.exemplars || point.exemplars().next().is_none() }
    }

    fn release_places(&mut self, places: &mut Places) {
        places.drain(..).flatten().for_each(|place| self.release_column(place.column));
    }

    /// The resource, and one more user of it; `None` if its attributes are beyond all measure.
    fn acquire_resource(&mut self, resource: Resource<'_>) -> Option<u32> {
        if let Some(&id) = self.bodies.get(resource.body()) {
            self.resources.retain(id);
            return Some(id);
        }
        self.scratch.clear();
        identity::attributes(&mut self.scratch, resource.attributes());
        if self.scratch.len() > MAX_LABEL_BYTES {
            return None;
        }
        let (targets, options) = (&mut self.targets, &self.options);
        let id = self.resources.acquire(&self.scratch, || {
            let target = Target::of(resource.attributes(), options);
            Origins { target: targets.acquire(&target.identity(), || target.clone()), body: None }
        });
        // Unknown fields of the message may be longer than all that counts.
        if resource.body().len() <= MAX_LABEL_BYTES
            && let Some(origins) = self.resources.get_mut(id)
        {
            let body: Arc<[u8]> = resource.body().into();
            if let Some(before) = origins.body.replace(Arc::clone(&body)) {
                self.bodies.remove(&before);
            }
            self.bodies.insert(body, id);
        }
        Some(id)
    }

    fn release_resource(&mut self, id: u32) {
        if let Some(origins) = self.resources.release(id) {
            self.targets.release(origins.target);
            if let Some(body) = origins.body {
                self.bodies.remove(&body);
            }
            self.labels = self.labels.take().filter(|(of, _)| *of != id);
        }
    }

    /// The column of a point, and one more user of it.
    fn acquire_column(&mut self, point: Point<'_>) -> u32 {
        let metric = point.metric();
        self.scratch.clear();
        identity::stream(&mut self.scratch, metric);
        let options = &self.options;
        let stream = self.streams.acquire(&self.scratch, || Stream::of(metric, options));
        self.scratch.clear();
        self.scratch.extend_from_slice(&stream.to_le_bytes());
        identity::attributes(&mut self.scratch, point.attributes());
        let mut is_new = false;
        let column = self.columns.acquire(&self.scratch, || {
            is_new = true;
            Column { stream }
        });
        // A column is one user of its stream.
        if !is_new {
            self.streams.release(stream);
        }
        column
    }

    fn release_column(&mut self, id: u32) {
        if let Some(column) = self.columns.release(id) {
            self.streams.release(column.stream);
        }
    }

    fn stream_of(&self, column: u32) -> Option<&Stream> {
        self.streams.get(self.columns.get(column)?.stream)
    }

    /// Where a known series is.
    fn slot(&mut self, identity: &Identity) -> Option<usize> {
        let is_next =
            self.series.get(self.next).and_then(Option::as_ref).is_some_and(|next| next.identity == *identity);
        let slot = if is_next { self.next } else { *self.index.get(identity)? };
        self.next = slot + 1;
        Some(slot)
    }

    fn point(&mut self, resource: u32, place: Place, point: Point<'_>, now: Instant) -> Result<(), Reason> {
        let Place { column, treatment, .. } = place;
        let identity = Identity { resource, column };
        if let Some(slot) = self.slot(&identity) {
            return self.update(slot, place, point, now);
        }
        let Some(Stream { family, .. }) = self.stream_of(column) else { return Ok(()) };
        let family = family.as_ref().map_err(|reason| *reason)?;
        if point.no_recorded_value() {
            return Ok(());
        }
        let family = Arc::clone(family);
        let value = Value::read(point, treatment.kind)?;
        if self
            .families
            .get(&family)
            .map_or_else(|| self.is_taken(&family, treatment.kind), |known| known.kind != treatment.kind)
        {
            return Err(Reason::TypeConflict);
        }
        let labels: Arc<str> = self.label_text(identity, point, treatment.kind).into();
        if labels.len() > MAX_LABEL_BYTES || self.columns.key_len(identity.column) > MAX_LABEL_BYTES {
            return Err(Reason::Malformed);
        }
        let rival = self.families.get(&family).and_then(|family| family.members.get(&labels)).copied();
        if let Some(rival) = rival {
            if self.series.get(rival).and_then(Option::as_ref).is_some_and(|rival| rival.time >= point.time()) {
                return Err(Reason::Collision);
            }
            self.remove(rival);
        }
        if self.lines + value.lines() > self.bounds.series {
            return Err(Reason::Overflow);
        }
        let exemplars = if place.bare { Vec::new() } else { value::exemplars(point, &value, treatment.kind) };
        self.insert(
            Series { identity, family, labels, value, exemplars, time: point.time(), updated: now },
            treatment.kind,
        );
        self.replaced += u64::from(rival.is_some());
        Ok(())
    }

    fn update(&mut self, slot: usize, place: Place, point: Point<'_>, now: Instant) -> Result<(), Reason> {
        let Place { treatment, bare, .. } = place;
        let Some(Some(series)) = self.series.get_mut(slot) else { return Ok(()) };
        // An increment that was counted must not be counted again; a level of the same time may be corrected.
        if point.time() < series.time || (treatment.delta && point.time() == series.time && !point.no_recorded_value())
        {
            return Err(Reason::OutOfOrder);
        }
        if point.no_recorded_value() {
            self.remove(slot);
            return Ok(());
        }
        let value = Value::read(point, treatment.kind)?;
        let (before, after) = (series.value.lines(), value.lines());
        if after > before && self.lines - before + after > self.bounds.series {
            return Err(Reason::Overflow);
        }
        self.lines = self.lines - before + after;
        series.exemplars = if bare { Vec::new() } else { value::exemplars(point, &value, treatment.kind) };
        if treatment.delta {
            series.value.add(value)
        } else {
            series.value = value
        }
        series.time = point.time();
        series.updated = now;
        Ok(())
    }

    fn label_text(&mut self, identity: Identity, point: Point<'_>, kind: Kind) -> String {
        let utf8 = self.options.naming.utf8;
        if self.labels.as_ref().is_none_or(|(of, _)| *of != identity.resource) {
            self.labels = Some((identity.resource, labels::of_resource(point.metric().resource(), &self.options)));
        }
        let constant = self
            .options
            .const_labels
            .iter()
            .map(|(name, value)| Label::new(name, value.clone(), Origin::Constant, utf8));
        let shared = [
            self.labels.as_ref().map(|(_, labels)| labels.as_slice()),
            self.stream_of(identity.column).map(|stream| stream.scope_labels.as_slice()),
        ];
        let shared = shared.into_iter().flatten().flatten().cloned();
        labels::text(
            constant.chain(shared).chain(labels::of_attributes(point.attributes(), Origin::Point, utf8)).collect(),
            kind.reserved_label(),
        )
    }

    /// Whether another family has one of the sample names a new family would need.
    fn is_taken(&self, family: &str, kind: Kind) -> bool {
        kind.suffixes().iter().any(|suffix| self.sample_names.contains_key(&format!("{family}{suffix}")))
    }

    fn insert(&mut self, series: Series, kind: Kind) {
        let lines = series.value.lines();
        let identity = series.identity;
        self.resources.retain(identity.resource);
        self.columns.retain(identity.column);
        let (name, labels) = (Arc::clone(&series.family), Arc::clone(&series.labels));
        if !self.families.contains_key(&name) {
            let (help, unit) = self
                .stream_of(identity.column)
                .map_or_else(Default::default, |stream| (stream.help.clone(), stream.unit.clone()));
            self.families.insert(Arc::clone(&name), Family { kind, help, unit, members: BTreeMap::new() });
            for suffix in kind.suffixes() {
                self.sample_names.insert(format!("{name}{suffix}"), Arc::clone(&name));
            }
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.series.get_mut(slot) {
                    *place = Some(series);
                }
                slot
            }
            None => {
                self.series.push(Some(series));
                self.series.len() - 1
            }
        };
        self.lines += lines;
        self.index.insert(identity, slot);
        if let Some(family) = self.families.get_mut(&name) {
            family.members.insert(labels, slot);
        }
    }

    fn remove(&mut self, slot: usize) {
        let Some(series) = self.series.get_mut(slot).and_then(Option::take) else { return };
        self.free.push(slot);
        self.lines -= series.value.lines();
        self.index.remove(&series.identity);
        self.release_column(series.identity.column);
        self.release_resource(series.identity.resource);
        let Some(family) = self.families.get_mut(&series.family) else { return };
        family.members.remove(&series.labels);
        if family.members.is_empty() {
            for suffix in family.kind.suffixes() {
                self.sample_names.remove(&format!("{}{suffix}", series.family));
            }
            self.families.remove(&series.family);
        }
    }

    /// Forgets the series that had no new value for longer than they may. Returns how many.
    pub(crate) fn sweep(&mut self, now: Instant) -> usize {
        let expiration = self.bounds.expiration;
        let expired = |series: &Series| now.saturating_duration_since(series.updated) > expiration;
        let doomed: Vec<usize> = self
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| series.as_ref().is_some_and(expired))
            .map(|(slot, _)| slot)
            .collect();
        doomed.iter().for_each(|slot| self.remove(*slot));
        if self.index.is_empty() {
            // What a burst took is given back.
            self.series = Vec::new();
            self.free = Vec::new();
        }
        doomed.len()
    }

    fn complain(&mut self, absorbed: &mut Absorbed, reason: Reason, column: u32, metric: Metric<'_>) {
        let why = match reason {
            Reason::Unsupported => "Prometheus text has no form for its kind and temporality",
            Reason::Malformed => "a point has no value or contradicts itself",
            Reason::TypeConflict => "another metric has its name on the page and another type",
            Reason::Collision => {
                "two series have the same labels on the page; resource_constant_labels can tell them apart"
            }
            Reason::OutOfOrder => return,
            Reason::Overflow => "the page is full; max_series sets how much it holds",
        };
        let name: Arc<str> = match (reason, self.stream_of(column)) {
            (Reason::Overflow, _) => "".into(),
            (_, Some(Stream { family: Ok(family), .. })) => Arc::clone(family),
            _ => metric.name().into(),
        };
        if self.complained.len() < MAX_COMPLAINTS && self.complained.insert((reason, name)) {
            absorbed.complaints.push(format!("metric {} is not wholly on the page: {why}", metric.name()));
        }
    }
}
