use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use phoenix_pipeline::{
    BoxFuture, Chain, Clock, Delivery, Exporter, Lane, Marks, Outlet, ProfileError, Shipment, Siblings, Stage, Target,
};

use super::*;
use crate::testing::{batch_of, counted, mistakes, numbered, run, value};

/// Remembers how often it has seen each number.
#[derive(Default)]
struct Sink(Mutex<HashMap<i64, usize>>);

impl Exporter for Sink {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        let mut seen = self.0.lock().unwrap();
        for point in shipment.batch().series() {
            *seen.entry(point.value().unwrap().as_f64() as i64).or_default() += 1;
        }
        delivery.delivered();
    }
    fn shutdown(&self, _: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Holds up to three batches with their promises; its state crosses unless it is of the leaving kind.
#[derive(Default)]
struct Hold {
    held: Vec<(Batch, Delivery)>,
    leaves: bool,
}

impl Processor for Hold {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        self.held.push((std::mem::take(batch), cx.delivery.take()));
        if self.held.len() > 3 {
            (*batch, *cx.delivery) = self.held.remove(0);
        }
    }
    fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
        if all && !self.held.is_empty() {
            (*batch, *cx.delivery) = self.held.remove(0);
        }
    }
    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Hold>() else { return Handover::default() };
        if !self.leaves {
            self.held.append(&mut previous.held);
        }
        Handover { carried: self.held.len(), ..Handover::default() }
    }
    fn pieces(&self) -> usize {
        1
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// `hold` crosses, `leave` does not, `broken` cannot be built while the flag is set, anything else is a filter.
fn siblings(broken: &Arc<AtomicBool>) -> Siblings {
    let broken = Arc::clone(broken);
    Arc::new(move |id, site| match id.kind() {
        "hold" => Ok(Box::<Hold>::default()),
        "leave" => Ok(Box::new(Hold { leaves: true, ..Hold::default() })),
        "broken" if broken.load(Ordering::Relaxed) => Err("the file is not there".into()),
        _ => (crate::filter::FACTORY.build)(&value(KEEP_ALL), &Site { id: id.clone(), siblings: None, ..site.clone() }),
    })
}

const KEEP_ALL: &str = "metrics: { exclude: { match_type: strict, metric_names: [never] } }";
const PROFILES: &str = "profiles:\n  a: [hold, filter]\n  b: [filter/2, hold, leave]\n  c: [leave, broken]\n  d: []\n";

struct Bench {
    lane: Lane,
    site: Site,
    sink: Arc<Sink>,
    broken: Arc<AtomicBool>,
}

fn stage(site: &Site, text: &str) -> Stage {
    Stage::new(site.id.clone(), (FACTORY.build)(&value(text), site).unwrap(), &site.metrics)
}

fn bench(clock: Clock) -> Bench {
    let broken = Arc::new(AtomicBool::new(true));
    let mut site = Site::for_test("adaptive");
    site.profiles = phoenix_pipeline::Profiles::new(clock);
    let lane = Lane::start("lane-0", Vec::new(), Clock::system(), site.metrics.clone(), |why| panic!("{why}")).unwrap();
    site.lane = Some(lane.handle());
    site.siblings = Some(siblings(&broken));
    let sink = Arc::new(Sink::default());
    let bench = Bench { lane, site, sink, broken };
    bench.reload(PROFILES);
    bench
}

impl Bench {
    fn reload(&self, text: &str) {
        let chain = Chain::new("metrics", vec![stage(&self.site, text)], vec![self.sink.clone()], &self.site.metrics);
        assert!(self.lane.handle().swap(vec![chain], Duration::from_secs(5)));
        for _ in 0..500 {
            if !self.site.profiles.list().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the stage never showed itself");
    }

    fn outlet(&self) -> Outlet {
        let target = Target { lane: self.lane.handle(), pipeline: "metrics".into(), durable: false };
        Outlet::new(&self.site.metrics, "test", "", vec![target])
    }

    fn active(&self) -> String {
        self.site.profiles.list()[0].active.to_string()
    }
}

#[test]
fn a_swap_every_few_milliseconds_under_load_loses_and_doubles_nothing() {
    let bench = bench(Clock::system());
    bench.broken.store(false, Ordering::Relaxed);
    let (resolved, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let outlet = bench.outlet();
    let (end, counts) = (Arc::clone(&done), (Arc::clone(&resolved), Arc::clone(&refused)));
    let sender = std::thread::spawn(move || {
        let (mut next, mut sent) = (0, Vec::new());
        while !end.load(Ordering::Relaxed) {
            let numbers = next..next + 20;
            next = numbers.end;
            let counts = (Arc::clone(&counts.0), Arc::clone(&counts.1));
            let delivery = Delivery::new(move |outcome| {
                if outcome.is_ok() { &counts.0 } else { &counts.1 }.fetch_add(1, Ordering::Relaxed);
            });
            match outlet.send(numbered(numbers.clone()), delivery) {
                Ok(()) => sent.push(numbers),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        (sent, next / 20)
    });
    let mut swaps = 0;
    for name in ["b", "c", "a", "d"].into_iter().cycle().take(60) {
        bench.site.profiles.set(name, None).unwrap();
        swaps += 1;
        assert_eq!(bench.active(), name);
        if swaps % 7 == 0 {
            bench.reload(PROFILES);
            assert_eq!(bench.active(), name, "a reload keeps the choice");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    done.store(true, Ordering::Relaxed);
    let (sent, batches) = sender.join().unwrap();
    let Bench { lane, site, sink, .. } = bench;
    lane.stop();
    let seen = sink.0.lock().unwrap();
    let numbers: Vec<i64> = sent.iter().cloned().flatten().collect();
    assert!(numbers.len() > 10_000, "{} points are no load", numbers.len());
    assert!(numbers.iter().all(|number| seen.get(number) == Some(&1)), "each exactly once");
    assert_eq!(seen.len(), numbers.len());
    assert_eq!(resolved.load(Ordering::Relaxed), sent.len(), "every promise is kept");
    assert_eq!(refused.load(Ordering::Relaxed), batches as usize - sent.len());
    assert!(counted(&site, "phoenix_swaps_total") >= swaps);
    assert!(counted(&site, "phoenix_swap_pieces_total") > 0);
}

#[test]
fn a_profile_that_cannot_be_built_changes_nothing() {
    let bench = bench(Clock::manual(0));
    let outlet = bench.outlet();
    outlet.send(batch_of(2), Delivery::none()).unwrap();
    let error = bench.site.profiles.set("c", Some(Duration::from_secs(1))).unwrap_err();
    assert!(matches!(&error, ProfileError::Build(_, why) if why.contains("the file is not there")), "{error}");
    assert_eq!((bench.active().as_str(), bench.site.profiles.list()[0].expires_in), ("a", None));
    assert_eq!(counted(&bench.site, "phoenix_swap_failures_total"), 1);
    let error = bench.site.profiles.set("x", None).unwrap_err().to_string();
    assert!(error.contains("there are: a, b, c, d"), "{error}");
    bench.lane.stop();
    assert_eq!(bench.sink.0.lock().unwrap().len(), 2);
}

#[test]
fn an_expired_profile_gives_way_and_one_gauge_is_set() {
    let clock = Clock::manual(0);
    let bench = bench(clock.clone());
    bench.site.profiles.set("b", Some(Duration::from_secs(600))).unwrap();
    assert_eq!(bench.active(), "b");
    assert_eq!(counted(&bench.site, "phoenix_profile_active"), 1);
    clock.advance(Duration::from_secs(600));
    bench.site.profiles.expire();
    assert_eq!(bench.active(), "a");
    assert_eq!(counted(&bench.site, "phoenix_profile_active"), 1);
    bench.reload("{ profiles: { a: [], z: [hold] }, profile: z }");
    assert_eq!(bench.active(), "z", "the configured start changed, and nobody had chosen another");
    assert_eq!(counted(&bench.site, "phoenix_profile_active"), 1);
    bench.lane.stop();
}

#[test]
fn members_see_the_marks_of_the_pipeline() {
    struct Marker(mpsc::Sender<usize>);
    impl Processor for Marker {
        fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
            let id = batch.resources().next().unwrap().id();
            let mark = cx.marks.of(phoenix_pipeline::Entity::Resource(id));
            self.0.send(usize::from(mark.reason == "before")).unwrap();
        }
        fn as_any(&mut self) -> &mut dyn Any {
            self
        }
    }
    let (tx, rx) = mpsc::channel();
    let mut site = Site::for_test("adaptive");
    site.siblings = Some(Arc::new(move |_, _| Ok(Box::new(Marker(tx.clone())))));
    let mut stage = (FACTORY.build)(&value("profiles: { a: [x] }"), &site).unwrap();
    let (mut batch, mut marks, mut delivery) = (batch_of(1), Marks::default(), Delivery::none());
    let id = batch.resources().next().unwrap().id();
    marks.mark(phoenix_pipeline::Entity::Resource(id), phoenix_pipeline::Decision::Keep, "before");
    stage.process(&mut batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks: &mut marks });
    assert_eq!(rx.recv().unwrap(), 1);
    run(stage.as_mut(), &mut batch);
    assert_eq!(rx.recv().unwrap(), 0);
}

#[test]
fn settings_keep_the_order_and_name_every_mistake() {
    let config: Config = phoenix_pipeline::config::read(&value("profiles: { z: [topk], a: [aggregate] }")).unwrap();
    let names: Vec<&str> = config.profiles.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["z", "a"]);
    let found = mistakes(&FACTORY, "profiles:\n  a: [adaptive/2, memory_limiter]\n  b: [topk]\nprofile: c\n");
    assert!(found.contains("2:7: profiles::a[0]: \"adaptive/2\" cannot stand in a profile"), "{found}");
    assert!(found.contains("profiles::a[1]: \"memory_limiter\""), "{found}");
    assert!(found.contains("profile: no profile is named \"c\"; there are: a, b"), "{found}");
    assert!(mistakes(&FACTORY, "{}").contains("at least one profile is needed"));
    let nested = (FACTORY.build)(&value("profiles: { a: [] }"), &Site::for_test("adaptive"));
    assert!(nested.is_err_and(|error| error.to_string().contains("profiles cannot hold profiles")));
}
