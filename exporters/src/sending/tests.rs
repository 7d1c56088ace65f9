//! The sender against a destination in memory, on a clock that the tests move: outages of hours take no time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use phoenix_pipeline::storage::Storage;
use phoenix_pipeline::{Ack, ComponentId, Delivery, Level, Refusal, Shipment, Site};
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Shape};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::*;

/// A request with this many points, which is also its name.
fn batch(points: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    let mut scope = resource.scope("tests", "1");
    let mut metric = scope.metric(&Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge });
    for place in 0..points {
        metric.point(0, 7, Number::Int(place as i64), &[]);
    }
    drop(metric);
    drop(scope);
    drop(resource);
    builder.finish()
}

/// A peer that is away at first and then takes everything.
#[derive(Clone)]
struct Peer {
    away_until: Instant,
    latency: Duration,
    attempts: Arc<Mutex<Vec<(usize, Instant)>>>,
    taken: Arc<Mutex<Vec<(usize, Instant)>>>,
}

impl Peer {
    fn away_for(time: Duration) -> Self {
        let latency = Duration::from_millis(100);
        Peer { away_until: Instant::now() + time, latency, attempts: Arc::default(), taken: Arc::default() }
    }

    fn taken(&self) -> Vec<(usize, Instant)> {
        self.taken.lock().unwrap().clone()
    }
}

impl Destination for Peer {
    type Request = usize;

    fn prepare(&self, shipment: &Shipment) -> Result<usize, String> {
        Ok(shipment.points())
    }

    fn transforms(&self) -> bool {
        false
    }

    fn size(&self, request: &usize) -> usize {
        *request
    }

    async fn attempt(&self, request: usize) -> Result<Accepted, Failure> {
        self.attempts.lock().unwrap().push((request, Instant::now()));
        sleep(self.latency).await;
        if Instant::now() < self.away_until {
            return Err(Failure { cause: "away".into(), reason: "nobody is there".into(), retry: Retry::Backoff });
        }
        self.taken.lock().unwrap().push((request, Instant::now()));
        Ok(Accepted::default())
    }
}

struct Subject {
    site: Site,
    sender: Arc<Sender>,
}

impl Subject {
    fn start(site: Site, peer: &Peer, queue: &str, retry: &str) -> Self {
        let queue: QueueSettings = serde_yaml::from_str(queue).unwrap();
        let retry: RetrySettings = serde_yaml::from_str(retry).unwrap();
        let sender = Sender::start(peer.clone(), &site, &queue, &retry, Duration::from_secs(5)).unwrap();
        Subject { site, sender: Arc::new(sender) }
    }

    fn export(&self, ack: Ack, points: usize) -> oneshot::Receiver<Result<(), Refusal>> {
        let (tell, heard) = oneshot::channel();
        let delivery = Delivery::until(ack, move |outcome| drop(tell.send(outcome)));
        self.sender.export(Shipment::new(batch(points)), delivery);
        heard
    }

    fn counted(&self, name: &str, label: &str) -> f64 {
        let batch = self.site.metrics.gather(1, Level::Detailed);
        let matching = batch.series().filter(|point| {
            point.metric().name() == name
                && (label.is_empty() || point.attributes().iter().any(|(_, value)| value == AnyValue::from(label)))
        });
        matching.filter_map(|point| point.value()).map(|value| value.as_f64()).sum()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn after_hours_of_silence_the_backlog_is_sent_and_live_data_does_not_starve() {
    let peer = Peer::away_for(6 * HOUR);
    let subject = Subject::start(Site::for_test("otlp/away"), &peer, "{queue_size: 1000}", "{max_elapsed_time: 0s}");
    let mut exported = BTreeMap::new();
    for name in 1..=360 {
        exported.insert(name, Instant::now());
        subject.export(Ack::OnQueue, name).await.unwrap().unwrap();
        sleep(Duration::from_secs(60)).await;
    }
    // One probe at a time, at most as often as the jitter around the longest wait allows.
    let probes = peer.attempts.lock().unwrap().len();
    assert!((6 * 60..6 * 240 + 60).contains(&probes), "{probes} attempts in six hours");
    assert_eq!(peer.taken(), []);
    for name in 361..=480 {
        exported.insert(name, Instant::now());
        subject.export(Ack::OnQueue, name).await.unwrap().unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    let taken = peer.taken();
    let arrived: BTreeSet<usize> = taken.iter().map(|(name, _)| *name).collect();
    assert_eq!(arrived, (1..=480).collect::<BTreeSet<_>>());
    assert_eq!(taken.len(), 480, "nothing is sent twice");
    // Found within one longest wait and its jitter; from then on ten requests every 100 ms.
    let back = taken.iter().map(|(_, at)| *at).min().unwrap() - peer.away_until;
    assert!(back <= Duration::from_secs(46), "{back:?}");
    for (name, at) in taken.iter().filter(|(name, _)| *name > 360) {
        let late = *at - exported[name];
        assert!(late <= Duration::from_secs(46 + 10), "{name} came {late:?} after it was exported");
    }
    let (name, at) = taken.last().unwrap();
    assert!(*at - exported[name] <= Duration::from_secs(1), "the last is live");
    // Oldest first: a request overtakes by no more than what is on its way.
    for (place, (name, _)) in taken.iter().enumerate() {
        assert!(name.abs_diff(place + 1) <= 20, "{name} came as number {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_on_disk_takes_all_of_six_hours_and_loses_nothing() {
    let room = tempfile::tempdir().unwrap();
    let site = Site::for_test("otlp/away");
    let storage = Storage { directory: room.path().to_owned(), fsync: None, max_age: None };
    site.storages.publish([(ComponentId::new("file_storage"), storage)].into());
    let peer = Peer::away_for(6 * HOUR);
    let subject = Subject::start(site, &peer, "{storage: file_storage}", "{}");
    let mut name = 0;
    // The clock runs on by itself while the disk works, so it is asked for the time.
    while Instant::now() < peer.away_until + Duration::from_secs(120) {
        name += 1;
        subject.export(Ack::OnDisk, name).await.unwrap().unwrap();
        sleep(Duration::from_secs(60)).await;
    }
    let exported = f64::from(u32::try_from(name * (name + 1) / 2).unwrap());
    while subject.counted("otelcol_exporter_sent_metric_points", "") < exported {
        sleep(Duration::from_secs(1)).await;
        assert!(Instant::now() < peer.away_until + 24 * HOUR, "not all of it is sent");
    }
    let arrived: Vec<usize> = peer.taken().iter().map(|(name, _)| *name).collect();
    assert_eq!(arrived.iter().copied().collect::<BTreeSet<_>>(), (1..=name).collect::<BTreeSet<_>>());
    assert_eq!(arrived.len(), name);
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", ""), 0.0);
}

#[tokio::test]
async fn of_large_requests_on_disk_no_more_are_under_way_than_memory_allows() {
    for (points, least, most) in [(10_000, 2, 6), (10, 10, 10)] {
        let room = tempfile::tempdir().unwrap();
        let site = Site::for_test("otlp/large");
        let storage = Storage { directory: room.path().to_owned(), fsync: None, max_age: None };
        site.storages.publish([(ComponentId::new("file_storage"), storage)].into());
        // Half of max_memory_mib, and one more.
        assert!(points == 10 || (1 << 20) / batch(points).encoded_len() < most);
        let mut peer = Peer::away_for(Duration::ZERO);
        peer.latency = HOUR;
        let subject = Subject::start(site, &peer, "{storage: file_storage, max_memory_mib: 2}", "{}");
        for more in 0..20 {
            subject.export(Ack::OnDisk, points + more).await.unwrap().unwrap();
        }
        // By name: an attempt may be repeated.
        let tried = || peer.attempts.lock().unwrap().iter().map(|(name, _)| *name).collect::<BTreeSet<_>>().len();
        while tried() < least {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(100)).await;
        assert!(tried() <= most, "{} requests", tried());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_given_up_in_time_behind_an_open_circuit_and_never_untried() {
    let peer = Peer::away_for(10 * HOUR);
    let subject = Subject::start(
        Site::for_test("otlp/budget"),
        &peer,
        "{num_consumers: 4, wait_for_result: true}",
        "{max_interval: 120s, max_elapsed_time: 300s, randomization_factor: 0}",
    );
    let outcomes: Vec<_> = (1..=12).map(|name| subject.export(Ack::OnQueue, name)).collect();
    for (name, outcome) in (1..=12).zip(outcomes) {
        let refusal = outcome.await.unwrap().unwrap_err();
        assert!(refusal.to_string().contains("max_elapsed_time (300s)"), "{refusal}");
        let attempts = peer.attempts.lock().unwrap();
        let first = attempts.iter().find(|(tried, _)| *tried == name).expect("it was tried").1;
        assert!(Instant::now() - first >= Duration::from_secs(120), "{name} was given up early");
    }
    let attempts = peer.attempts.lock().unwrap().clone();
    for name in 1..=12 {
        let tried: Vec<Instant> = attempts.iter().filter(|(tried, _)| *tried == name).map(|(_, at)| *at).collect();
        assert!(*tried.last().unwrap() - tried[0] <= Duration::from_secs(300), "{name} was tried for too long");
    }
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "away"), 78.0);
}

#[tokio::test]
async fn who_hears_that_data_is_queued_may_export_at_once() {
    let peer = Peer::away_for(Duration::ZERO);
    let subject = Subject::start(Site::for_test("otlp/again"), &peer, "{}", "{}");
    let sender = Arc::clone(&subject.sender);
    let (tell, heard) = mpsc::channel();
    let delivery = Delivery::new(move |first| {
        let again = Delivery::new(move |second| drop(tell.send((first, second))));
        sender.export(Shipment::new(batch(2)), again);
    });
    // On a thread of its own, so that a lock held too long is a failure and not a silence.
    let sender = Arc::clone(&subject.sender);
    std::thread::spawn(move || sender.export(Shipment::new(batch(1)), delivery));
    let outcome = tokio::task::spawn_blocking(move || heard.recv_timeout(Duration::from_secs(10))).await.unwrap();
    assert_eq!(outcome.unwrap(), (Ok(()), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn what_is_evicted_for_nothing_is_counted_all_the_same() {
    let mut peer = Peer::away_for(Duration::ZERO);
    peer.latency = HOUR;
    let queue = "{num_consumers: 1, sizer: items, queue_size: 10}";
    let subject = Subject::start(Site::for_test("otlp/evict"), &peer, queue, "{}");
    subject.export(Ack::OnQueue, 8).await.unwrap().unwrap();
    while subject.counted("otelcol_exporter_in_flight_requests", "metrics") < 1.0 {
        tokio::task::yield_now().await;
    }
    subject.export(Ack::OnQueue, 1).await.unwrap().unwrap();
    // A scrape: what waits gives way, but the rest is on its way.
    subject.sender.export(Shipment::new(batch(5)), Delivery::none());
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "evicted_size"), 1.0);
    assert_eq!(subject.counted("otelcol_exporter_enqueue_failed_metric_points", ""), 5.0);
    assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 8.0);
}

#[tokio::test(start_paused = true)]
async fn the_end_with_a_full_queue_in_memory_and_a_dead_peer_keeps_its_deadline_and_counts() {
    const GRACE: Duration = Duration::from_secs(25);
    let mut peer = Peer::away_for(HOUR);
    // It accepts connections and says nothing.
    peer.latency = HOUR;
    let subject = Subject::start(Site::for_test("otlp/end"), &peer, "{queue_size: 20}", "{}");
    for _ in 0..20 {
        subject.export(Ack::OnQueue, 3).await.unwrap().unwrap();
    }
    assert!(subject.export(Ack::OnQueue, 3).await.unwrap().is_err(), "it is full");
    let began = Instant::now();
    subject.sender.shutdown(began.into_std() + GRACE).await;
    assert!(began.elapsed() <= GRACE + Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "shutdown"), 60.0, "all is counted");
    assert_eq!(subject.counted("otelcol_exporter_queue_size", "metrics"), 0.0);
}

#[tokio::test]
async fn the_end_with_a_full_queue_on_disk_and_a_dead_peer_keeps_everything() {
    let room = tempfile::tempdir().unwrap();
    let site = Site::for_test("otlp/end");
    let storage = Storage { directory: room.path().to_owned(), fsync: Some(Duration::ZERO), max_age: None };
    site.storages.publish([(ComponentId::new("file_storage"), storage)].into());
    let queue = "{queue_size: 20, storage: file_storage}";
    let subject = Subject::start(site.clone(), &Peer::away_for(HOUR), queue, "{}");
    for _ in 0..20 {
        subject.export(Ack::OnQueue, 3).await.unwrap().unwrap();
    }
    assert!(subject.export(Ack::OnQueue, 3).await.unwrap().is_err(), "it is full");
    let began = std::time::Instant::now();
    subject.sender.shutdown(began + Duration::from_secs(25)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "nobody waits for a peer that is away");
    assert_eq!(subject.counted("phoenix_exporter_dropped_metric_points_total", "shutdown"), 0.0, "kept is not lost");
    drop(subject);
    let alive = Peer::away_for(Duration::ZERO);
    let _next = Subject::start(site, &alive, queue, "{}");
    while alive.taken().len() < 20 {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(alive.taken().iter().map(|(points, _)| points).sum::<usize>(), 60);
}
