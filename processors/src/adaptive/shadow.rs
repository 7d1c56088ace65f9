//! What one profile lets out: counted from its marks, whether it is at work or only [followed](super::followed).
//!
//! Individual series are those of the batch itself. Those of groups are foreseen ([`Folding`]).
//!
//! A resource that comes again with the same series, and with the same fate, adds nothing new to an epoch of the window or
//! to a group: it is known by one look ([`Seen`]), however many points it has.
//!
//! Who goes into the fold, or comes back from it, speaks as the ledger has it, after whatever absence ([`Held`]). Only
//! where stages mark single points and not resources that is not foreseen.

use phoenix_pipeline::estimates::{Attribution, Count, ProfileEstimate};
use phoenix_pipeline::{Class, Decision, Entity, Marks};
use phoenix_sketch::{STANDARD_ERROR, Window};
use phoenix_telemetry::{AnyValue, Batch, Metric, Point, Resource};
use std::sync::Arc;

use super::facts::{Facts, Of, Shares, attribute};
use super::folding::Folding;
use crate::aggregate::{folds, is_cpu};
use crate::entity::mix;
use crate::machine::{AHEAD, prefetch};
use crate::shapes::live;

/// The place of a resource's content, and how it is marked.
type Here = (usize, (Decision, Class));

/// What became of a resource with a certain content and mark, 48 bytes.
#[derive(Clone, Copy)]
struct Seen {
    /// The content: the place may be another's by now.
    content: u64,
    mark: (Decision, Class),
    /// When its individual series were last counted in the window.
    epoch: u64,
    /// How many those are.
    individual: u32,
    /// The number of the group that has its other points, [`ALONE`] if there are none, and the version of the [`Folding`] at that
    /// time.
    group: u32,
    version: u64,
}

/// In the place of a group's number.
const ALONE: u32 = u32::MAX;

/// Whether a resource was folded when it last came.
#[derive(Clone, Copy, Default)]
struct Held {
    /// Its hash: the place may be another's by now.
    resource: u64,
    /// When that was, nanoseconds.
    at: u64,
    folded: bool,
}

/// Sums over a batch.
#[derive(Default)]
struct Sums {
    all: Shares,
    kept: Shares,
    individual: u64,
}

/// One profile's estimate.
pub(super) struct Shadow {
    name: Arc<str>,
    /// Whether its stages change more than marks.
    edits: bool,
    /// The rules of its `aggregate`.
    folding: Option<Folding>,
    window: Window,
    /// When the batch before was counted, nanoseconds.
    counted: u64,
    /// By [`Of::slot`], 24 bytes each.
    held: Vec<Held>,
    /// By [`Of::place`].
    seen: Vec<Option<Seen>>,
    /// Places beyond are not remembered. [`Facts`] gives out no more than it has room for; only tests ask for fewer.
    room: usize,
    latest: ProfileEstimate,
    /// Reused from batch to batch.
    hosts: Vec<u64>,
}

impl Shadow {
    pub(super) fn new(name: Arc<str>, edits: bool, folding: Option<Folding>, window: Window) -> Self {
        let latest = ProfileEstimate { name: Arc::clone(&name), ..ProfileEstimate::default() };
        Shadow {
            name,
            edits,
            folding,
            window,
            counted: 0,
            held: Vec::new(),
            seen: Vec::new(),
            room: usize::MAX,
            latest,
            hosts: Vec::new(),
        }
    }

    /// The profile's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Counts what these marks would let out of a batch, at `now` (nanoseconds since the stage began).
    pub(super) fn count(&mut self, batch: &Batch, facts: &Facts, marks: &Marks, now: u64) {
        let before = self.window.epoch();
        self.window.advance(now);
        let epoch = self.window.epoch();
        if epoch > before {
            self.seen.truncate(facts.places());
            self.seen.shrink_to(2 * facts.places());
        }
        self.hosts.clear();
        let mut sums = Sums::default();
        // Facts are those of the batch as it came in, and marks of points are looked at one by one.
        let by_resource = !marks.any_point();
        let alike = by_resource && !self.edits && marks.attributes().is_empty();
        for resource in batch.resources() {
            let of = facts.of_resource(resource.id());
            self.fetch(facts.later(resource.id(), AHEAD));
            if self.hosts.last() != Some(&of.host) {
                self.hosts.push(of.host);
            }
            let mark = marks.of(Entity::Resource(resource.id()));
            let here = of.place.filter(|_| alike).map(|place| (place as usize, (mark.decision, mark.class)));
            let before = if by_resource { self.folded_before(of) } else { None };
            let again = here.and_then(|here| self.again(here, resource, (of, before), now, &mut sums));
            let folded = again
                .unwrap_or_else(|| self.count_points(resource, (of, facts), (marks, before), now, (here, &mut sums)));
            self.hold(of, by_resource.then_some(folded), now);
        }
        self.counted = now;
        let Shadow { folding, window, latest, hosts, .. } = self;
        hosts.sort_unstable();
        hosts.dedup();
        let spoken = |folding: &mut Folding| folding.speak(hosts, (now, epoch), |series| window.insert(series));
        latest.grouped = folding.as_mut().map_or(0, spoken);
        latest.individual = sums.individual;
        let Attribution { cpu, memory, io } = &mut latest.attribution;
        for ((share, kept), all) in [cpu, memory, io].into_iter().zip(sums.kept).zip(sums.all) {
            if all > 0.0 {
                *share = Some(kept / all);
            }
        }
    }

    /// Has the cache fetch what is known of a resource.
    #[inline]
    fn fetch(&self, of: &Of) {
        of.place.and_then(|place| self.seen.get(place as usize)).into_iter().for_each(prefetch);
        of.slot.and_then(|slot| self.held.get(slot as usize)).into_iter().for_each(prefetch);
    }

    /// Whether the resource was folded when it last came, as far as `aggregate` still knows it.
    fn folded_before(&self, of: &Of) -> Option<bool> {
        let expiry = self.folding.as_ref()?.member_expiry();
        let held = self.held.get(of.slot? as usize)?;
        (held.resource == of.resource && held.at.saturating_add(expiry) >= self.counted).then_some(held.folded)
    }

    /// Remembers that, where it is known.
    fn hold(&mut self, of: &Of, folded: Option<bool>, now: u64) {
        let Some(slot) = of.slot.map(|slot| slot as usize).filter(|_| self.folding.is_some()) else { return };
        if self.held.len() <= slot {
            self.held.resize(slot + 1, Held::default());
        }
        if let Some(held) = self.held.get_mut(slot) {
            *held = folded.map_or_else(Held::default, |folded| Held { resource: of.resource, at: now, folded });
        }
    }

    /// Counts a resource by what became of it before, and says whether it is folded; `None` if it must be looked at.
    #[inline]
    fn again(
        &mut self,
        (place, mark): Here,
        resource: Resource<'_>,
        (of, before): (&Of, Option<bool>),
        now: u64,
        sums: &mut Sums,
    ) -> Option<bool> {
        let Shadow { folding, window, seen, .. } = self;
        let seen = seen.get_mut(place)?.as_mut().filter(|seen| seen.content == of.content && seen.mark == mark)?;
        let folded = seen.group != ALONE;
        if before.is_some_and(|before| before != folded) {
            return None;
        }
        let counted = seen.epoch == window.epoch();
        match folding {
            _ if !folded => {
                if !counted {
                    resource.scopes().flat_map(live).for_each(|point| window.insert(point.series()));
                }
                add(&mut sums.kept, &of.all);
            }
            Some(folding) if folding.version() == seen.version && (counted || seen.individual == 0) => {
                folding.inhabit(seen.group, now);
            }
            _ => return None,
        }
        seen.epoch = window.epoch();
        add(&mut sums.all, &of.all);
        sums.individual += u64::from(seen.individual);
        Some(folded)
    }

    /// Counts a resource point by point, remembers what became of it at that place, and says whether it is folded.
    fn count_points(
        &mut self,
        resource: Resource<'_>,
        (of, facts): (&Of, &Facts),
        (marks, before): (&Marks, Option<bool>),
        now: u64,
        (here, sums): (Option<Here>, &mut Sums),
    ) -> bool {
        let Shadow { folding, window, seen, room, .. } = self;
        let (mut group, mut individual, mut lasts, mut measured, mut folded) = (None, 0, true, false, false);
        for metric in resource.metrics() {
            let mut folding = folding.as_mut().and_then(|folding| Some((folding.kind(metric)?, folding)));
            let keys = || marks.attributes().iter().filter(|fold| *fold.metric == *metric.name());
            let keys: Vec<&str> = match (&folding, marks.attributes()) {
                (None, _) | (_, []) => Vec::new(),
                _ if is_cpu(metric) => Vec::new(),
                _ => keys().map(|fold| &*fold.attribute).collect(),
            };
            for point in metric.points() {
                let fact = facts.of(point.id());
                let mark = marks.decide(resource.id(), point.id());
                let kept = mark.decision == Decision::Keep;
                let sum = if keys.is_empty() || kept { None } else { without(metric, point, &keys) };
                let (mut alone, mut is) = (true, false);
                if let Some((kind, folding)) = &mut folding {
                    is = folds(mark, folding.folds_all() && of.is_process);
                    // What is summed over attributes goes on as that.
                    let was = before.filter(|_| sum.is_none()).unwrap_or(is);
                    let into = match is || was {
                        true => *group.get_or_insert_with(|| folding.group_of(of.host, resource, mark.class)),
                        false => None,
                    };
                    is &= into.is_some();
                    let who = kind.in_turn(was && into.is_some(), is);
                    alone = who.alone;
                    if let Some(into) = into.filter(|_| who.group && !point.no_recorded_value()) {
                        lasts &= folding.feed(
                            (of.host, into),
                            sum.unwrap_or_else(|| mix(metric.hash(), point.hash())),
                            *kind,
                            now,
                        );
                    }
                }
                fact.add_to(&mut sums.all);
                if is {
                    folded = true;
                } else {
                    fact.add_to(&mut sums.kept);
                    measured |= fact.is_measured();
                }
                match sum {
                    _ if !alone || point.no_recorded_value() => {}
                    // Its sum is one series, however many it is of.
                    Some(sum) => window.insert(mix(resource.hash(), sum)),
                    None => {
                        window.insert(point.series());
                        individual += 1;
                    }
                }
            }
        }
        sums.individual += individual;
        // What is measured and stays while the rest is folded has a share that is not known in advance, and in transition
        // nothing is as it will be.
        let settled = before.is_none_or(|before| before == folded);
        let Some((place, mark)) = here.filter(|_| lasts && settled && !(folded && measured)) else { return folded };
        let number = |group| folding.as_ref()?.number_of((of.host, group));
        let group = group.flatten().filter(|_| folded).and_then(number);
        let individual = u32::try_from(individual);
        let Some(individual) = individual.ok().filter(|_| place < *room && folded == group.is_some()) else {
            return folded;
        };
        if seen.len() <= place {
            seen.resize(place + 1, None);
        }
        if let Some(seen) = seen.get_mut(place) {
            let version = folding.as_ref().map_or(0, Folding::version);
            let (content, epoch, group) = (of.content, window.epoch(), group.unwrap_or(ALONE));
            *seen = Some(Seen { content, mark, epoch, individual, group, version });
        }
        folded
    }

    /// As of the newest batch.
    pub(super) fn estimate(&mut self, now: u64) -> ProfileEstimate {
        self.window.advance(now);
        self.latest.output = Count { series: self.window.estimate(), error: STANDARD_ERROR };
        self.latest.clone()
    }

    /// Takes over what another one of the same profile knows; its windows only where they are `alike`.
    pub(super) fn adopt(&mut self, previous: &mut Shadow, alike: bool) {
        if let (Some(folding), Some(previous)) = (&mut self.folding, &mut previous.folding) {
            folding.adopt(previous);
        }
        // Groups may mean something else now.
        self.seen = Vec::new();
        self.held = std::mem::take(&mut previous.held);
        self.counted = previous.counted;
        if alike {
            std::mem::swap(&mut self.window, &mut previous.window);
            self.latest = previous.latest.clone();
        }
    }
}

/// What is left of a point's identity without those of `keys` that it has; `None` if it has none of them.
fn without(metric: Metric<'_>, point: Point<'_>, keys: &[&str]) -> Option<u64> {
    let (mut left, mut had) = (0u64, 0u64);
    for (key, value) in point.attributes().iter() {
        match keys.contains(&key) {
            true => had = had.wrapping_add(attribute(key, AnyValue::Str(""))),
            false => left = left.wrapping_add(attribute(key, value)),
        }
    }
    (had != 0).then(|| mix(mix(metric.hash(), left), had))
}

fn add(shares: &mut Shares, more: &Shares) {
    shares.iter_mut().zip(more).for_each(|(share, more)| *share += more);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use phoenix_sketch::{COMMON_SEED, Distinct};
    use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape, Temporality};
    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::Config;

    /// One that has room to remember, and one that has none and counts every point of every batch.
    fn both() -> [Shadow; 2] {
        let of = |room| {
            let config = Config { group_expiry: Duration::from_secs(150), max_groups: 4, ..Config::default() };
            let window = Window::new(100_000_000_000, 10, &Distinct::dense(COMMON_SEED));
            Shadow { room, ..Shadow::new("p".into(), false, Some(Folding::new(config)), window) }
        };
        [of(5), of(0)]
    }

    /// A resource and what it sends: pid, which points, whether the last one says that the series has ended, the mark, its class.
    type Sent = (i64, u8, bool, bool, bool);

    fn batch(second: u64, sent: &[Sent]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (pid, points, ..) in sent {
            let mut resource = builder.resource();
            resource.attribute("host.name", "h").attribute("process.pid", *pid);
            resource.attribute("process.executable.name", format!("p{}", pid % 6).as_str());
            let mut scope = resource.scope("process", "");
            let sum = |monotonic, temporality| Shape::Sum { monotonic, temporality };
            let cumulative = Temporality::Cumulative;
            // The gauge is not folded, the delta does not last; the third has a share and is not folded.
            let metrics = [
                ("process.cpu.time", sum(true, cumulative)),
                ("process.threads", sum(false, cumulative)),
                ("process.memory.usage", Shape::Gauge),
                ("a.gauge", Shape::Gauge),
                ("a.delta", sum(true, Temporality::Delta)),
            ];
            for (bit, (name, shape)) in metrics.into_iter().enumerate() {
                if points & 1 << bit != 0 {
                    let mut metric = scope.metric(&Descriptor { name, unit: "1", description: "", shape });
                    for state in ["a", "b"] {
                        let value = Number::Int(second as i64 * (pid + 1));
                        metric.point(1, second * 1_000_000_000, value, &[("state", AnyValue::Str(state))]);
                    }
                }
            }
        }
        builder.finish()
    }

    fn sent() -> impl Strategy<Value = Vec<Sent>> {
        let points = prop_oneof![3 => Just(0b11u8), 1 => 0u8..32];
        let one = (0i64..8, points, any::<bool>(), prop::bool::weighted(0.7), any::<bool>());
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Resources vanish, come back, change their order, their content and their marks, while epochs turn and groups
        /// expire: what is remembered never shows.
        #[test]
        fn memory_changes_nothing(kinds in prop::collection::vec(sent(), 1..4), steps in prop::collection::vec((0usize..4, 0u64..30), 1..60)) {
            let (mut shadows, mut facts, mut second) = (both(), Facts::default(), 100);
            for (kind, wait) in steps {
                second += wait;
                let Some(sent) = kinds.get(kind % kinds.len()) else { continue };
                let batch = batch(second, sent);
                let now = second * 1_000_000_000;
                facts.read(&batch, (now, second / 10), |_| {});
                let mut marks = Marks::default();
                for (resource, (.., single, fold, high)) in batch.resources().zip(sent.iter().filter(|sent| sent.1 > 0)) {
                    let entity = Entity::Resource(resource.id());
                    marks.mark(entity, if *fold { Decision::Fold } else { Decision::Keep }, "test");
                    marks.classify(entity, if *high { Class::High } else { Class::Normal });
                    if *single && kind == 3 {
                        let point = resource.metrics().flat_map(|metric| metric.points()).next();
                        marks.mark(Entity::Point(point.unwrap().id()), Decision::Fold, "test");
                    }
                }
                let [ours, plain] = shadows.each_mut().map(|shadow| {
                    shadow.count(&batch, &facts, &marks, now);
                    shadow.estimate(now)
                });
                let counts = |of: &ProfileEstimate| (of.output, of.individual, of.grouped);
                prop_assert_eq!(counts(&ours), counts(&plain));
                let shares = |of: &ProfileEstimate| [of.attribution.cpu, of.attribution.memory].map(Option::unwrap_or_default);
                for (ours, plain) in shares(&ours).into_iter().zip(shares(&plain)) {
                    prop_assert!((ours - plain).abs() < 1e-9);
                }
            }
        }
    }

    /// What is summed over counts as its sum, whatever else is folded; what is kept stays.
    #[test]
    fn series_that_are_summed_over_are_one() {
        let mut builder = BatchBuilder::new();
        let mut resource = builder.resource();
        resource.attribute("host.name", "h").attribute("process.executable.name", "shop").attribute("process.pid", 1);
        let mut scope = resource.scope("s", "");
        let shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
        for name in ["requests", "process.cpu.time"] {
            let mut metric = scope.metric(&Descriptor { name, unit: "1", description: "", shape });
            for id in 0..200 {
                let attributes = [("method", AnyValue::Str("GET")), ("id", AnyValue::Int(id))];
                metric.point(1, 100_000_000_000, Number::Int(1), &attributes);
            }
        }
        drop(scope);
        drop(resource);
        let (batch, now) = (builder.finish(), 100_000_000_000);
        let asked: Arc<[_]> = ["requests", "process.cpu.time"]
            .map(|metric| phoenix_pipeline::AttributeFold { metric: metric.into(), attribute: "id".into() })
            .into();
        let count = |decision, sums: bool| {
            let ([mut shadow, _], mut facts, mut marks) = (both(), Facts::default(), Marks::default());
            facts.read(&batch, (now, 0), |_| {});
            marks.mark(Entity::Resource(batch.resources().next().unwrap().id()), decision, "test");
            if sums {
                marks.fold_attributes(&asked);
            }
            shadow.count(&batch, &facts, &marks, now);
            shadow.estimate(now).output.series
        };
        // Two hundred of CPU time, which keeps its attributes, and one sum; a group has the gauge of its entities too.
        let cases = [
            (Decision::Open, false, 400.0),
            (Decision::Open, true, 201.0),
            (Decision::Fold, false, 401.0),
            (Decision::Fold, true, 202.0),
            (Decision::Keep, true, 400.0),
        ];
        for (decision, sums, expected) in cases {
            let counted = count(decision, sums);
            assert!((counted / expected - 1.0_f64).abs() < 0.03, "{decision:?}, {sums}: {counted} for {expected}");
        }
    }
}
