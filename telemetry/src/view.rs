//! Views: small copyable handles that read a batch through its index.
//!
//! They borrow the batch and never fail. Edits go through the ids they hand out.

use crate::batch::Batch;
use crate::distribution::{Exemplar, ExponentialHistogram, Histogram, Summary};
use crate::hash;
use crate::index::{
    Common, Index, MetricEntry, PointEntry, ResourceEntry, ScopeEntry, ScopeText, Span, Verdict, slice,
};
use crate::kind::{MetricKind, Number, Temporality};
use crate::value::Attributes;
use crate::wire::{fields, text};

/// Names a resource of one batch, until that batch is appended to or split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub(crate) u32);

impl ResourceId {
    /// Its place among the resources of the batch, from 0: for tables beside the batch.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a data point of one batch, until that batch is appended to or split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId(pub(crate) u32);

impl PointId {
    /// Its place among the points of the batch, from 0: for tables beside the batch.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A resource and what it reports.
#[derive(Clone, Copy)]
pub struct Resource<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) index: u32,
}

impl<'a> Resource<'a> {
    fn entry(self) -> &'a ResourceEntry {
        &self.batch.index.resources[self.index as usize]
    }

    /// Names this resource in edits.
    pub fn id(self) -> ResourceId {
        ResourceId(self.index)
    }

    /// The resource's attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { body: self.batch.slice(self.entry().body), field: 1 }
    }

    /// The schema the resource follows; empty where not said.
    pub fn schema_url(self) -> &'a str {
        text(self.batch.slice(self.entry().schema_url))
    }

    /// Hash of the attributes, whatever their order.
    pub fn hash(self) -> u64 {
        hash::resource(self.entry().attributes)
    }

    /// The resource's protobuf message, without tag and length.
    pub fn body(self) -> &'a [u8] {
        self.batch.slice(self.entry().body)
    }

    /// Live points of the resource.
    pub fn live_points(self) -> usize {
        self.entry().live as usize
    }

    /// The earliest and the latest time of its live points, Unix nanoseconds; `None` where none has a time.
    pub fn times(self) -> Option<(u64, u64)> {
        // One less, and 0 is the latest of all times.
        let (mut earliest, mut latest) = (u64::MAX, 0);
        let mut see = |time: u64| {
            earliest = earliest.min(time.wrapping_sub(1));
            latest = latest.max(time);
        };
        for scope in self.scopes() {
            match scope.entry.common.time {
                // Not all points share one.
                0 => scope.points().flatten().for_each(|point| see(point.time())),
                time => see(time),
            }
        }
        (latest > 0).then(|| (earliest + 1, latest))
    }

    /// The resource's scopes.
    pub fn scopes(self) -> impl Iterator<Item = Scope<'a>> + use<'a> {
        let scopes = self.batch.index.scopes.get(slice(&self.entry().scopes)).unwrap_or_default();
        scopes.iter().filter(|entry| !entry.is_gone()).map(move |entry| Scope { batch: self.batch, entry })
    }

    /// The metrics of all scopes.
    pub fn metrics(self) -> impl Iterator<Item = Metric<'a>> + use<'a> {
        self.scopes().flat_map(|scope| scope.metrics())
    }
}

/// An instrumentation scope of a resource.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) entry: &'a ScopeEntry,
}

impl<'a> Scope<'a> {
    pub(crate) fn text(self) -> &'a ScopeText {
        &self.batch.index.texts[self.entry.text as usize]
    }

    fn slice(self, span: Span) -> &'a [u8] {
        self.batch.slice(span.moved(self.entry.by))
    }

    /// The scope's name.
    pub fn name(self) -> &'a str {
        text(self.slice(self.text().name))
    }

    /// The scope's version.
    pub fn version(self) -> &'a str {
        text(self.slice(self.text().version))
    }

    /// The scope's attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { body: self.slice(self.text().body), field: 3 }
    }

    /// The schema the scope's metrics follow; empty where not said.
    pub fn schema_url(self) -> &'a str {
        text(self.slice(self.text().schema_url))
    }

    /// What it has in common with others of its batch, until that batch is appended to or split: scopes of one shape are
    /// equal in every byte but the times and values of their points. At most the number of scopes, above 0; `None` where it is
    /// not known to be like any other.
    #[inline]
    pub fn shape(self) -> Option<usize> {
        Some(self.entry.shape as usize).filter(|shape| *shape > 0)
    }

    /// Whether none of its points was dropped.
    #[inline]
    pub fn is_whole(self) -> bool {
        self.entry.live as usize == self.entry.points.len()
    }

    /// The points of all its metrics in order, `None` for one that was dropped: in scopes of one shape, what comes at one place
    /// differs only in times and values.
    pub fn points(self) -> impl Iterator<Item = Option<Point<'a>>> + use<'a> {
        let places = self.places();
        places.at(0..places.len())
    }

    /// The points of [`Scope::points`] by their place.
    #[inline]
    pub fn places(self) -> Places<'a> {
        Places::of(self.batch, self.entry)
    }

    /// All points of the scope as one column of numbers, where they are that: all there, in a shape, none with flags, of one
    /// time, and of one start as far as they have any.
    #[inline]
    pub fn column(self) -> Option<Column<'a>> {
        let ScopeEntry { common, shape, live, ref points, .. } = *self.entry;
        let bits = self.batch.index.bits.get(slice(points)).unwrap_or_default();
        let whole = common.time != 0 && shape > 0 && live as usize == bits.len();
        whole.then_some(Column { common, first: points.start, bits })
    }

    /// The resource the scope belongs to.
    pub fn resource(self) -> Resource<'a> {
        Resource { batch: self.batch, index: self.entry.resource }
    }

    /// The scope's metrics.
    pub fn metrics(self) -> impl Iterator<Item = Metric<'a>> + use<'a> {
        let places = 0..self.entry.metrics.len() as u32;
        places.map(move |place| Metric { batch: self.batch, scope: self.entry, place }).filter(|metric| {
            let entry = metric.entry();
            !entry.thinned || entry.live > 0
        })
    }
}

/// The points of a scope by their place among them.
#[derive(Clone)]
pub struct Places<'a> {
    batch: &'a Batch,
    scope: &'a ScopeEntry,
    /// As many of each.
    entries: &'a [PointEntry],
    verdicts: &'a [Verdict],
}

impl<'a> Places<'a> {
    #[inline]
    pub(crate) fn of(batch: &'a Batch, scope: &'a ScopeEntry) -> Self {
        let entries = batch.index.points.get(scope.table()).unwrap_or_default();
        let verdicts = batch.index.verdicts.get(slice(&scope.points)).unwrap_or_default();
        Self { batch, scope, entries, verdicts }
    }

    /// How many places there are, those of dropped points included.
    #[inline]
    pub fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// The points at these places, `None` for one that was dropped.
    #[inline]
    pub fn at(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = Option<Point<'a>>> + use<'a> {
        let Self { batch, scope, entries, verdicts } = *self;
        let range = places.start.min(entries.len())..places.end.min(entries.len());
        let first = scope.points.start + range.start as u32;
        let (entries, verdicts) =
            (entries.get(range.clone()).unwrap_or_default(), verdicts.get(range).unwrap_or_default());
        (first..).zip(entries.iter().zip(verdicts)).map(move |(index, (entry, verdict))| {
            (*verdict != Verdict::Drop).then_some(Point { batch, scope, entry, index })
        })
    }

    /// The live point at a place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<Point<'a>> {
        let Self { batch, scope, .. } = *self;
        let entry = self.entries.get(place)?;
        let live = self.verdicts.get(place).is_some_and(|verdict| *verdict != Verdict::Drop);
        live.then_some(Point { batch, scope, entry, index: scope.points.start + place as u32 })
    }
}

/// The live points of a scope at these places.
#[inline]
pub(crate) fn live<'a>(
    batch: &'a Batch,
    scope: &'a ScopeEntry,
    places: std::ops::Range<u32>,
) -> impl Iterator<Item = Point<'a>> + use<'a> {
    let Index { points, verdicts, .. } = &batch.index;
    let behind = |first: u32| (first + places.start) as usize..(first + places.end) as usize;
    let entries = points.get(behind(scope.entries)).unwrap_or_default();
    let verdicts = verdicts.get(behind(scope.points.start)).unwrap_or_default();
    let indexed = (scope.points.start + places.start..).zip(entries.iter().zip(verdicts));
    let held = indexed.filter(|(_, (_, verdict))| **verdict != Verdict::Drop);
    held.map(move |(index, (entry, _))| Point { batch, scope, entry, index })
}

/// The numbers of a scope whose points say the same but for their values. In every column of one shape, places have a start or
/// none, and integers or doubles, alike.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    common: Common,
    first: u32,
    bits: &'a [u64],
}

impl<'a> Column<'a> {
    /// Start of the interval of those points that have one, Unix nanoseconds; 0 where none has.
    #[inline]
    pub fn start(&self) -> u64 {
        self.common.start
    }

    /// Time of all points, Unix nanoseconds; not 0.
    #[inline]
    pub fn time(&self) -> u64 {
        self.common.time
    }

    /// The bits of the values, by place: of an `i64` or an `f64`.
    #[inline]
    pub fn bits(self) -> &'a [u64] {
        self.bits
    }

    /// The bits of the value at a place.
    #[inline]
    pub fn at(&self, place: usize) -> Option<u64> {
        self.bits.get(place).copied()
    }

    /// The name of the point at a place.
    #[inline]
    pub fn id(&self, place: usize) -> Option<PointId> {
        (place < self.bits.len()).then_some(PointId(self.first + place as u32))
    }

    /// The names of the points, by place.
    #[inline]
    pub fn ids(self) -> impl ExactSizeIterator<Item = PointId> {
        (self.first..self.first + self.bits.len() as u32).map(PointId)
    }
}

/// A metric of a scope.
#[derive(Clone, Copy)]
pub struct Metric<'a> {
    batch: &'a Batch,
    scope: &'a ScopeEntry,
    /// Among the metrics of the scope.
    place: u32,
}

impl<'a> Metric<'a> {
    #[inline]
    fn entry(self) -> &'a MetricEntry {
        &self.batch.index.metrics[(self.scope.metrics.start + self.place) as usize]
    }

    fn slice(self, span: Span) -> &'a [u8] {
        self.batch.slice(span.moved(self.scope.by))
    }

    /// The metric's name.
    pub fn name(self) -> &'a str {
        text(self.slice(self.entry().name))
    }

    /// What the metric tells, in words.
    pub fn description(self) -> &'a str {
        text(self.slice(self.entry().description))
    }

    /// The unit, in UCUM.
    pub fn unit(self) -> &'a str {
        text(self.slice(self.entry().unit))
    }

    /// The type of the data.
    pub fn kind(self) -> MetricKind {
        self.entry().kind
    }

    /// Its place among the metrics of the batch, from 0: for tables beside the batch.
    pub fn place(self) -> usize {
        (self.scope.place + self.place) as usize
    }

    /// What values count from; `Unspecified` for gauges and summaries.
    pub fn temporality(self) -> Temporality {
        self.entry().temporality
    }

    /// Whether it is a sum that never falls.
    pub fn is_monotonic(self) -> bool {
        self.entry().monotonic
    }

    /// The metric's metadata.
    pub fn metadata(self) -> Attributes<'a> {
        let MetricEntry { head, tail, .. } = self.entry();
        let body = Span { start: head.start, len: tail.end() - head.start };
        Attributes { body: self.slice(body), field: 12 }
    }

    /// The scope the metric belongs to.
    pub fn scope(self) -> Scope<'a> {
        Scope { batch: self.batch, entry: self.scope }
    }

    /// The resource the metric belongs to.
    pub fn resource(self) -> Resource<'a> {
        self.scope().resource()
    }

    /// The live points.
    pub fn points(self) -> impl Iterator<Item = Point<'a>> + use<'a> {
        live(self.batch, self.scope, self.entry().points.clone())
    }

    /// Hash of resource attributes, scope (name, version, attributes), name, unit, kind, temporality and monotonicity:
    /// what the data model calls identifying.
    #[inline]
    pub fn identity(self) -> u64 {
        hash::combine(self.scope.identity, self.entry().hash)
    }

    /// The same without the resource: what it has in common with the metric of other resources.
    pub fn hash(self) -> u64 {
        hash::combine(self.scope.hash, self.entry().hash)
    }

    /// Whether two metrics are the same by what [`Metric::identity`] hashes, compared value by value.
    pub fn same_identity(self, other: Metric<'_>) -> bool {
        let (scope, theirs) = (self.scope(), other.scope());
        self.name() == other.name()
            && self.unit() == other.unit()
            && self.kind() == other.kind()
            && self.temporality() == other.temporality()
            && self.is_monotonic() == other.is_monotonic()
            && scope.name() == theirs.name()
            && scope.version() == theirs.version()
            && scope.attributes() == theirs.attributes()
            && self.resource().attributes() == other.resource().attributes()
    }
}

/// The identity of a series but for its resource: what it has in common with its like of other resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelativeId {
    scope: u64,
    metric: u64,
    attributes: u64,
}

impl RelativeId {
    /// The series of this kind that a resource of that hash has: what [`Point::series`] says of it.
    pub fn of(self, resource: u64) -> u64 {
        hash::combine(hash::combine(hash::combine(resource, self.scope), self.metric), self.attributes)
    }
}

/// A data point of any kind.
#[derive(Clone, Copy)]
pub struct Point<'a> {
    batch: &'a Batch,
    scope: &'a ScopeEntry,
    entry: &'a PointEntry,
    index: u32,
}

impl<'a> Point<'a> {
    #[inline]
    fn metric_entry(self) -> &'a MetricEntry {
        self.metric().entry()
    }

    /// Names this point in edits and verdicts.
    pub fn id(self) -> PointId {
        PointId(self.index)
    }

    /// The metric the point belongs to.
    pub fn metric(self) -> Metric<'a> {
        Metric { batch: self.batch, scope: self.scope, place: self.entry.metric }
    }

    /// The point's own attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { body: self.body(), field: self.metric_entry().kind.attributes_field() }
    }

    /// Start of the interval, Unix nanoseconds; 0 where not set.
    #[inline]
    pub fn start_time(self) -> u64 {
        self.scope.times(self.entry).0
    }

    /// End of the interval, Unix nanoseconds; 0 where not set.
    #[inline]
    pub fn time(self) -> u64 {
        self.scope.times(self.entry).1
    }

    /// The flags as on the wire.
    pub fn flags(self) -> u32 {
        self.entry.flags
    }

    /// Whether the point says that its series has ended (flag bit 0).
    pub fn no_recorded_value(self) -> bool {
        self.entry.flags & 1 == 1
    }

    /// The value of a number point; `None` for distributions and where no value is set.
    #[inline]
    pub fn value(self) -> Option<Number> {
        self.entry.number(self.batch.index.bits[self.index as usize])
    }

    /// Start, time and value of a number point in one look; `None` where it has no value.
    #[inline]
    pub fn number(self) -> Option<(u64, u64, Number)> {
        let value = self.value().filter(|_| self.entry.flags & 1 == 0)?;
        let (start, time) = self.scope.times(self.entry);
        Some((start, time, value))
    }

    /// The identity of the series: metric identity and attributes, whatever their order.
    #[inline]
    pub fn series(self) -> u64 {
        hash::combine(hash::combine(self.scope.identity, self.entry.metric_hash), self.entry.attributes)
    }

    /// The identity of the series but for the resource.
    pub fn relative(self) -> RelativeId {
        RelativeId { scope: self.scope.hash, metric: self.entry.metric_hash, attributes: self.entry.attributes }
    }

    /// Hash of the attributes, whatever their order.
    #[inline]
    pub fn hash(self) -> u64 {
        self.entry.attributes
    }

    /// Whether two points belong to one series, compared value by value.
    pub fn same_series(self, other: Point<'_>) -> bool {
        self.attributes() == other.attributes() && self.metric().same_identity(other.metric())
    }

    /// The point's protobuf message, without tag and length.
    pub fn body(self) -> &'a [u8] {
        self.batch.slice(self.entry.body.moved(self.scope.by))
    }

    /// The point as a histogram, where its metric is one.
    pub fn histogram(self) -> Option<Histogram<'a>> {
        (self.metric_entry().kind == MetricKind::Histogram).then(|| Histogram::parse(self.body()))
    }

    /// The point as an exponential histogram, where its metric is one.
    pub fn exponential_histogram(self) -> Option<ExponentialHistogram<'a>> {
        (self.metric_entry().kind == MetricKind::ExponentialHistogram).then(|| ExponentialHistogram::parse(self.body()))
    }

    /// The point as a summary, where its metric is one.
    pub fn summary(self) -> Option<Summary<'a>> {
        (self.metric_entry().kind == MetricKind::Summary).then(|| Summary::parse(self.body()))
    }

    /// The point's exemplars; a summary has none.
    pub fn exemplars(self) -> impl Iterator<Item = Exemplar<'a>> + use<'a> {
        let number = self.metric_entry().kind.exemplars_field();
        fields(self.body())
            .filter(move |field| field.number == number)
            .map(|field| Exemplar::parse(field.payload.bytes()))
    }
}
