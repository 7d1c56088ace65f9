//! All processors in one chain, built from one configuration the way the agent does it.

#![allow(clippy::expect_used)] // outside of #[test] functions too, a test fails by panicking

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use phoenix_pipeline::config::parse;
use phoenix_pipeline::{BoxFuture, Chain, ComponentId, Delivery, Exporter, Shipment, Site, Stage};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Limits, Number, Shape};

const CONFIG: &str = r#"
memory_limiter: { check_interval: 1s, limit_percentage: 90 }
resourcedetection: { detectors: [system], override: false, system: { resource_attributes: { host.arch: { enabled: true } } } }
resource:
  attributes:
    - { key: deployment.environment.name, action: insert, value: test }
    - { key: secret, action: delete }
attributes:
  include: { match_type: strict, metric_names: [keep.a] }
  actions: [{ key: marked, action: upsert, value: true }]
filter: { metrics: { exclude: { match_type: glob, metric_names: ["drop.*"] } } }
batch: { send_batch_size: 6, send_batch_max_size: 6, timeout: 1s }
"#;

/// Keeps what it is given, delivered at once.
#[derive(Default)]
struct Keep(Mutex<Vec<Shipment>>);

impl Exporter for Keep {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        self.0.lock().expect("no test panics while it holds this").push(shipment);
        delivery.delivered();
    }

    fn shutdown(&self, _: Instant) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn chain(site: &Site, exporter: &Arc<Keep>) -> Chain {
    let config = parse("chain.yaml", CONFIG).expect("the configuration is YAML");
    let entries = config.as_map().expect("a map of processors");
    let stage = |(key, value): &(phoenix_pipeline::config::Key, _)| {
        let id = ComponentId::new(&key.name);
        let factory = PROCESSORS.iter().find(|factory| factory.answers_to(id.kind())).expect("a known processor");
        let site = Site { id: id.clone(), ..site.clone() };
        Stage::new(id, (factory.build)(value, &site).expect("a right configuration"), &site.metrics)
    };
    Chain::new("metrics", entries.iter().map(stage).collect(), vec![Arc::clone(exporter) as _], &site.metrics)
}

/// Three points that stay and one that goes, as a receiver would send them.
fn scrape() -> Batch {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    resource.attribute("secret", "x").attribute("host.name", "given");
    let mut scope = resource.scope("s", "");
    for (name, points) in [("keep.a", 2), ("drop.b", 1), ("keep.c", 1)] {
        let mut metric = scope.metric(&Descriptor { name, unit: "1", description: "", shape: Shape::Gauge });
        for i in 0..points {
            metric.point(0, 1, Number::Int(i), &[("i", AnyValue::Int(i))]);
        }
    }
    drop(scope);
    drop(resource);
    builder.finish()
}

#[test]
fn all_stages_work_together() {
    let (site, exporter) = (Site::for_test("x"), Arc::<Keep>::default());
    let mut chain = chain(&site, &exporter);
    let (told, heard) = mpsc::channel();
    let start = Instant::now();
    for i in 0..3 {
        let told = told.clone();
        let delivery = Delivery::new(move |outcome| drop(told.send((i, outcome))));
        chain.push(scrape(), delivery, start + Duration::from_millis(i));
    }
    assert_eq!(exporter.0.lock().expect("unlocked").len(), 1, "two scrapes make six points");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(0, Ok(())), (1, Ok(()))]);
    chain.tick(start + Duration::from_secs(1));
    assert_eq!(exporter.0.lock().expect("unlocked").len(), 1, "the third waits for a second of its own");
    chain.tick(start + Duration::from_millis(1002));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(2, Ok(()))]);
    let sent = exporter.0.lock().expect("unlocked");
    assert_eq!(sent.iter().map(Shipment::points).collect::<Vec<_>>(), [6, 3]);
    for shipment in sent.iter() {
        let batch = Batch::decode(shipment.bytes(), &Limits::default()).expect("what is sent is well-formed");
        for point in batch.series() {
            let resource = point.metric().resource().attributes();
            assert_eq!(resource.get_str("deployment.environment.name"), Some("test"));
            assert_eq!(resource.get_str("os.type"), Some("linux"));
            assert_eq!(resource.get_str("host.name"), Some("given"), "override: false");
            assert!(resource.get("host.arch").is_some() && resource.get("secret").is_none());
            let name = point.metric().name();
            assert!(name.starts_with("keep."), "{name}");
            assert_eq!(point.attributes().get("marked").is_some(), name == "keep.a");
        }
    }
}
