//! `aggregate`: folds what the stages before marked into groups, and keeps every total true.
//!
//! `ledger` says who gets an increment, `series` what that means for a point, `host` keeps the series and groups of one host, `groups` the accumulators, `emit`
//! writes what they say, `convert` turns individual series into the other temporality, `state` keeps it all across a
//! restart. This file runs batches through them. It never decides what is folded, and the agent's clock
//! never enters a point.

mod config;
mod convert;
mod distribution;
mod emit;
mod groups;
mod host;
mod identity;
mod layouts;
mod ledger;
mod number;
mod own;
mod series;
mod state;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    BuildError, Context, Decision, Entity, Folded, Handover, Mark, Marks, Processor, ProcessorFactory, Site, Stability,
};
use phoenix_telemetry::{Batch, Number, PointId, Resource, ResourceId, Scope};

pub use config::{Config, Fold, GaugeFunction, Output, State};

use crate::entity::{host_of, is_process, pid_of};
use crate::machine::AHEAD;
use emit::{Pieces, Templates};
pub(crate) use groups::class_name;
use host::{Decided, Ends, Host, Sighting, Tools, Verdict, Visit};
pub(crate) use identity::{CLASS, is_cpu, is_cpu_share, is_group};
use identity::{Desc, Interner, entities_desc};
use layouts::Layouts;
use own::Counts;
use series::{Action, Order};
use state::Store;
use state::books::Lost;

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "aggregate",
    "folds what was marked into groups without losing totals",
    Stability::Alpha,
    build,
);

/// How long a group waits for the rest of a scrape that comes over the wire: what one scrape takes to arrive.
const WAIT: Duration = Duration::from_millis(200);

/// Hosts that are remembered; the points of further ones pass untouched. More than one agent is ever sent.
const MAX_HOSTS: usize = 10_000;

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let store = site.state.as_ref().and_then(|directory| Store::of_this_process(directory, config.state.interval));
    Ok(Box::new(Aggregate::new(config, site, store)))
}

/// The settings of a stage, if it is an `aggregate`: for whoever foresees what it would fold.
pub(crate) fn settings_of(stage: &mut dyn Processor) -> Option<Config> {
    stage.as_any().downcast_ref::<Aggregate>().map(|stage| stage.config.clone())
}

/// What is found of a resource before a batch is worked off.
#[derive(Clone, Copy)]
struct Found {
    /// The place of its host in the batch; none if there are no times of that host.
    host: Option<usize>,
    seen: Option<Sighting>,
}

const NOT_FOUND: Found = Found { host: None, seen: None };

/// All that crosses a swap.
#[derive(Debug, Default)]
struct Books {
    hosts: HashMap<Arc<str>, Host>,
    interner: Interner,
    ends: Ends,
    /// What an earlier run wrote and this one knows nothing of.
    lost: Lost,
}

/// The stage.
struct Aggregate {
    config: Config,
    counts: Counts,
    /// Who wants to know which processes are folded.
    folded: Folded,
    books: Books,
    entities: Arc<Desc>,
    layouts: Layouts,
    templates: Templates,
    orders: Orders,
    /// What was found of the resources of a batch, and the host that the last one ended with; for their memory.
    found: Vec<Found>,
    host: Arc<str>,
    /// How many hosts the batches so far were of, each time anew.
    visits: usize,
    /// Points that found no room in their batch.
    unsent: Batch,
    /// How many bytes it last had to say of groups.
    wrote: usize,
    swept: Option<Instant>,
    /// Where the books survive a restart.
    store: Option<Store>,
}

/// The times of a host's points in a batch.
#[derive(Clone, Copy)]
struct Window {
    earliest: u64,
    latest: u64,
}

impl Aggregate {
    fn new(config: Config, site: &Site, store: Option<Store>) -> Self {
        Aggregate {
            config,
            counts: Counts::new(site),
            folded: site.folded.clone(),
            books: Books::default(),
            entities: Arc::new(entities_desc()),
            layouts: Layouts::default(),
            templates: Templates::default(),
            orders: Orders::default(),
            found: Vec::new(),
            host: Arc::default(),
            visits: 0,
            unsent: Batch::default(),
            wrote: 0,
            swept: None,
            store,
        }
    }

    /// What every host's points of a batch span in time, in the order of first sight; and what there is of each resource, by
    /// its place in the batch, which is put into `of_resources`.
    fn windows(
        batch: &Batch,
        hosts: &HashMap<Arc<str>, Host>,
        (recent, of_resources): (&mut Arc<str>, &mut Vec<Found>),
    ) -> Vec<(Arc<str>, Window)> {
        let mut windows: Vec<(Arc<str>, Window)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        of_resources.clear();
        let mut without = Vec::new();
        // A resource is most likely of the host of the one before, and the first one of that of the last batch.
        let mut last = hosts.get_key_value(recent).map(|host| (None, host));
        for resource in batch.resources() {
            let Some((earliest, latest)) = resource.times() else {
                without.push((resource.id().index(), host_of(resource.attributes())));
                continue;
            };
            let mut seen = last.and_then(|(_, (_, host))| host.sight(resource));
            let place = match last.filter(|_| seen.is_some()) {
                Some((Some(place), _)) => place,
                by_bytes => {
                    let (name, known) = match by_bytes {
                        Some((_, (name, host))) => (&**name, Some((name, host))),
                        None => {
                            let name = host_of(resource.attributes());
                            (name, hosts.get_key_value(name))
                        }
                    };
                    let place = *places.entry(name).or_insert(windows.len());
                    if place == windows.len() {
                        let name = known.map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
                        windows.push((name, Window { earliest, latest }));
                    }
                    last = known.map(|known| (Some(place), known));
                    seen = seen.or_else(|| known?.1.sight(resource));
                    place
                }
            };
            if let Some((_, known)) = windows.get_mut(place) {
                known.earliest = known.earliest.min(earliest);
                known.latest = known.latest.max(latest);
            }
            of_resources.resize(resource.id().index(), NOT_FOUND);
            of_resources.push(Found { host: Some(place), seen });
        }
        let all = of_resources.len().max(without.last().map_or(0, |(resource, _)| resource + 1));
        of_resources.resize(all, NOT_FOUND);
        for (resource, host) in without {
            if let Some(found) = of_resources.get_mut(resource) {
                found.host = places.get(host).copied();
            }
        }
        if let Some((_, (name, _))) = last {
            *recent = Arc::clone(name);
        }
        windows
    }

    /// Works off a batch: says what becomes of its points, and what is said beside them: of earlier times, and of its own.
    fn work(&mut self, batch: &Batch, cx: &Context<'_>) -> (Pieces, Pieces) {
        let Aggregate { config, counts, books, entities, layouts, templates, orders, wrote, .. } = self;
        let Books { hosts, interner, ends, lost } = books;
        layouts.begin(cx.marks.attributes());
        // A little more than was written before, as a move costs as much as the writing.
        let room = *wrote + *wrote / 16;
        let (mut early, mut out) = (Pieces::with_room(room), Pieces::with_room(room));
        let mut tools = Tools { config, interner, ends, counts, out: &mut early, templates, entities };
        let windows = Self::windows(batch, hosts, (&mut self.host, &mut self.found));
        let visits = self.visits + 1;
        self.visits += windows.len();
        for (name, window) in &windows {
            if !hosts.contains_key(name) && hosts.len() >= MAX_HOSTS {
                continue;
            }
            let host = hosts.entry(Arc::clone(name)).or_insert_with(|| {
                let mut host = Host::new(name, cx.now);
                host.reopens = lost.since(name, window.latest);
                host
            });
            host.arrived = cx.now;
            host.move_on(window.latest, &mut tools);
        }
        let Tools { interner, ends, counts, templates, .. } = tools;
        let mut tools = Tools { config, interner, ends, counts, out: &mut out, templates, entities };
        // The hosts are lent out one at a time: resources of one mostly lie together.
        let mut last: Option<(usize, &mut Host)> = None;
        for resource in batch.resources() {
            let Some(&Found { host: Some(place), seen }) = self.found.get(resource.id().index()) else { continue };
            let Some((name, window)) = windows.get(place) else { continue };
            if last.as_ref().is_none_or(|(known, _)| *known != place) {
                last = hosts.get_mut(name).map(|host| (place, host));
            }
            let Some((_, host)) = &mut last else { continue };
            // Of another host's it fetches what nobody needs, and no more.
            let later = |by: usize| self.found.get(resource.id().index() + by)?.seen;
            host.fetch([later(AHEAD), later(AHEAD / 2)]);
            let visit = (visits + place, window.latest);
            one_resource(host, (resource, seen), visit, cx.marks, layouts, &mut tools, orders);
        }
        for (name, window) in &windows {
            let Some(host) = hosts.get_mut(name) else { continue };
            host.worked_off(window.earliest, window.latest);
            if cx.delivery.is_awaited() {
                host.deadline.get_or_insert(cx.now + WAIT);
            } else {
                host.speak(true, &mut tools);
            }
        }
        (early, out)
    }

    /// Adds what was said to the batch, or keeps it for the next where it finds no room.
    fn send(&mut self, batch: &mut Batch, early: Pieces, out: Pieces) {
        let spoke = !(early.is_empty() && out.is_empty());
        let mut finish = |pieces: Pieces| {
            let batch = pieces.finish();
            self.wrote = batch.encoded_len();
            batch
        };
        if !early.is_empty() {
            // Ahead of the batch: a series may have a point in both.
            if let Some(early) = batch.prepend(finish(early)) {
                self.unsent = early;
            }
        }
        if !out.is_empty()
            && let Some(rest) = batch.append(finish(out))
            && self.unsent.append(rest).is_some()
        {
            tracing::error!(
                "points of groups were lost: a batch and what waits for the next are both larger than 4 GiB"
            );
        }
        let groups = self.books.hosts.values().map(|host| host.groups.len()).sum();
        if groups > 0 && !spoke {
            // Once a scrape, not for each of its parts: it is a sum over all groups.
            return;
        }
        let mut pending = self.books.ends.exported;
        self.books.hosts.values_mut().for_each(|host| pending.join(host.pending()));
        self.counts.show(groups, self.books.ends.taken.error(&pending));
    }

    /// Forgets hosts that have been silent for longer than their groups live, by the agent's clock.
    fn sweep(&mut self, now: Instant) {
        let Aggregate { config, counts, books, swept, .. } = self;
        if swept.is_some_and(|last| now.saturating_duration_since(last) < config.group_expiry) {
            return;
        }
        *swept = Some(now);
        books.hosts.retain(|_, host| {
            let stays = host.is_due() || now.saturating_duration_since(host.arrived) <= config.group_expiry;
            if !stays {
                host.leave(counts);
                // What it holds for nobody any more must not count as missing.
                books.ends.exported.join(host.pending());
            }
            stays
        });
    }
}

/// Works off the points of a resource.
fn one_resource(
    host: &mut Host,
    (resource, seen): (Resource<'_>, Option<Sighting>),
    window: (usize, u64),
    marks: &Marks,
    layouts: &mut Layouts,
    tools: &mut Tools<'_>,
    orders: &mut Orders,
) {
    if resource.live_points() == 0 {
        return;
    }
    let one_by_one = marks.any_point();
    let mark = if one_by_one {
        let Some(first) = resource.metrics().flat_map(|metric| metric.points()).next() else { return };
        marks.decide(resource.id(), first.id())
    } else {
        marks.of(Entity::Resource(resource.id()))
    };
    let all = tools.config.fold == Fold::All && is_process(resource.attributes());
    let mut visit = host.visit((resource, seen), window, (verdict(mark, all), mark.class), tools);
    let (config, fold) = (tools.config, folds(mark, all));
    let folded = orders.folded.len();
    for scope in resource.scopes() {
        let at = layouts.of(scope, tools.interner, config);
        let mut layout = None;
        if let Some(column) = scope.column().filter(|_| !one_by_one)
            && let Some(of_column) = layouts.column(at, scope, tools.interner)
        {
            if host.row((scope, column), of_column, (&visit, fold), tools, orders) {
                if fold && column.bits().len() == resource.live_points() {
                    // It is all there is of the resource, as of most processes.
                    orders.gone.push(resource.id());
                    return;
                }
                if fold {
                    orders.folded.extend(column.ids());
                }
                continue;
            }
            layout = Some(Arc::clone(of_column.0));
        }
        let marks = one_by_one.then_some(marks);
        scope_by_points(host, (scope, at), &mut visit, (mark, all, marks), layouts, tools, orders);
        if let Some(layout) = layout {
            host.pack(&visit, &layout, fold);
        }
    }
    // Points are in the order of the batch: if none of the resource is left, it goes as a whole.
    if orders.folded.len() - folded == resource.live_points() {
        orders.folded.truncate(folded);
        orders.gone.push(resource.id());
    }
}

/// Works off the points of a scope, all of that mark or, with `marks`, each of its own. Not a part of [`one_resource`], as most
/// resources do not need it and paid 6 instructions a point for its registers.
#[inline(never)]
fn scope_by_points(
    host: &mut Host,
    (scope, at): (Scope<'_>, usize),
    visit: &mut Visit,
    (mark, all, marks): (Mark, bool, Option<&Marks>),
    layouts: &mut Layouts,
    tools: &mut Tools<'_>,
    orders: &mut Orders,
) {
    let (config, points) = (tools.config, scope.places());
    let mut place = 0;
    while place < points.len() {
        let mut end = points.len();
        let mut mark = mark;
        if let Some(marks) = marks {
            let Some(point) = points.get(place) else {
                place += 1;
                continue;
            };
            (mark, end) = (marks.decide(scope.resource().id(), point.id()), place + 1);
        }
        let decided = Decided { fold: folds(mark, all), sum: mark.decision != Decision::Keep };
        let known = layouts.from(at);
        place = host.usual((&points, place..end), known, (visit, decided), tools, orders);
        if place == end {
            continue;
        }
        if let Some(point) = points.get(place)
            && let Some(meaning) = layouts.meaning((at, place), point, tools.interner, config)
        {
            let rest = meaning.rest.as_ref().filter(|_| decided.sum);
            match host.point((point, meaning), visit, (decided.fold, rest), tools) {
                Action::Pass => {}
                Action::Fold => orders.folded.push(point.id()),
                Action::Rewrite(start, value) => orders.rewritten.push((point.id(), start, value)),
                order => orders.others.push((point.id(), order)),
            }
        }
        place += 1;
    }
}

/// What is to be done with the points of a batch that do not pass as they came.
#[derive(Default)]
struct Orders {
    /// All points of these are their groups' now.
    gone: Vec<ResourceId>,
    /// Of other resources these, in the order of the batch.
    folded: Vec<PointId>,
    /// Points under another start and with another value.
    rewritten: Vec<(PointId, u64, Number)>,
    others: Vec<Order>,
    /// What the counters of the row at hand grew by.
    grown: Vec<Number>,
}

/// Whether a mark means to fold; `all` says that an open decision does.
pub(crate) fn folds(mark: Mark, all: bool) -> bool {
    match mark.decision {
        Decision::Keep => false,
        Decision::Fold => true,
        Decision::Open => all,
    }
}

fn verdict(mark: Mark, all: bool) -> Verdict {
    let verdict = if folds(mark, all) { "fold" } else { "individual" };
    let reason = match (mark.reason, all) {
        ("", true) => "fold_all",
        ("", false) => "unmarked",
        (reason, _) => reason,
    };
    (verdict, reason)
}

impl Processor for Aggregate {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        if batch.is_empty() {
            return;
        }
        if let Some(store) = &mut self.store {
            store.restore(&mut self.books, cx.now, &mut self.counts);
        }
        self.sweep(cx.now);
        let asked = batch.series().next().and_then(|point| self.folded.asked(point.time()));
        let mut processes: HashSet<u32> = asked.iter().flat_map(|_| batch.resources().filter_map(pid_of)).collect();
        let (early, out) = self.work(batch, cx);
        let Orders { gone, folded, rewritten, others, .. } = &mut self.orders;
        let before = batch.points();
        gone.drain(..).for_each(|resource| batch.drop_resource(resource));
        batch.drop_ids(folded);
        folded.clear();
        self.counts.folded((before - batch.points()) as u64);
        for (point, order) in others.drain(..) {
            match order {
                Action::Pass | Action::Rewrite(..) => {}
                Action::Fold | Action::Replace => batch.set_verdict(point, phoenix_telemetry::Verdict::Drop),
                Action::Drop(reason) => {
                    self.counts.dropped(reason);
                    batch.set_verdict(point, phoenix_telemetry::Verdict::Drop);
                }
            }
        }
        batch.rewrite_points(rewritten);
        rewritten.clear();
        self.send(batch, early, out);
        if let Some(asked) = asked {
            batch.resources().filter_map(pid_of).for_each(|left| {
                processes.remove(&left);
            });
            asked.tell(processes);
        }
        if self.books.interner.is_full() {
            self.layouts.forget();
            self.books.interner.sweep();
        }
        if let Some(store) = &mut self.store {
            store.changed();
            store.keep(&self.books, cx.now, false, &self.counts);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let groups = self.books.hosts.values().filter_map(|host| host.deadline);
        groups.chain(self.store.as_ref().and_then(Store::due)).min()
    }

    fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
        if !self.unsent.is_empty() {
            *batch = std::mem::take(&mut self.unsent);
            return;
        }
        if let Some(store) = &mut self.store {
            // There may be something to say though nothing has come since the restart.
            store.restore(&mut self.books, cx.now, &mut self.counts);
        }
        let Aggregate { config, counts, books: Books { hosts, interner, ends, .. }, entities, templates, .. } = self;
        let mut out = Pieces::default();
        let mut tools = Tools { config, interner, ends, counts, out: &mut out, templates, entities };
        for host in hosts.values_mut() {
            if host.is_due() && (all || host.deadline.is_some_and(|deadline| deadline <= cx.now)) {
                host.speak(all, &mut tools);
            }
        }
        let spoke = !out.is_empty();
        self.send(batch, Pieces::default(), out);
        if let Some(store) = &mut self.store {
            if spoke {
                store.changed();
            }
            store.keep(&self.books, cx.now, all, &self.counts);
        }
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Aggregate>() else { return Handover::default() };
        self.books = std::mem::take(&mut previous.books);
        // It is of the former interner.
        self.layouts.forget();
        // Whose group is which is the settings' to say, and these may be others.
        self.books.hosts.values_mut().for_each(|host| host.groups.changes += 1);
        self.counts.adopt(&mut previous.counts);
        self.unsent = std::mem::take(&mut previous.unsent);
        self.swept = previous.swept;
        Store::adopt(&mut self.store, previous.store.take(), &self.counts);
        Handover { carried: self.pieces(), ..Handover::default() }
    }

    fn pieces(&self) -> usize {
        self.books.hosts.values().map(|host| host.len() + host.groups.len()).sum()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
