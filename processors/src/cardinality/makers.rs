//! Who makes the new series of each metric.
//!
//! A resource names who makes its series: by its executable, or else by what it serves as, runs in or runs on. Fed with new
//! series alone, which are few; a metric's makers are bounded.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use phoenix_pipeline::estimates::MakerEstimate;
use phoenix_sketch::Leaders;
use phoenix_telemetry::{AnyValue, Resource};

use super::attributes::{Named, text_of};
use super::by_metric::ByMetric;
use crate::entity::{hash_of, mix};

/// Attributes of a resource that can name who makes its series, the most telling first: the program, what it serves as,
/// what runs it, its container, the machine.
const NAMES: [&str; 10] = [
    "process.executable.name",
    "service.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    "k8s.pod.name",
    "container.name",
    "host.name",
];
/// Makers of one metric that are counted: whoever makes more than a sixteenth of its new series is among them.
const ROOM: usize = 16;
/// Part of a metric's new series below which nobody is named.
const LEAST: f64 = 0.1;

/// Who makes the series of a resource, and which of [`NAMES`] says so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Maker {
    place: usize,
    named: Named,
}

impl Borrow<u64> for Maker {
    fn borrow(&self) -> &u64 {
        self.named.borrow()
    }
}

/// By the first of [`NAMES`] that the resource has and that is not empty.
pub(super) fn maker_of(resource: Resource<'_>) -> Option<Maker> {
    let named = resource.attributes().iter().filter(|(_, value)| *value != AnyValue::Str(""));
    let placed = named.filter_map(|(key, value)| Some((NAMES.iter().position(|name| *name == key)?, value)));
    let (place, value) = placed.min_by_key(|(place, _)| *place)?;
    let hash = mix(place as u64, hash_of(value));
    Some(Maker { place, named: Named { hash, text: text_of(value, hash) } })
}

/// New series of one metric in half a window.
#[derive(Clone)]
struct Half {
    all: u64,
    makers: Leaders<Maker>,
}

/// All metrics, by their places.
#[derive(Default)]
pub(super) struct Makers {
    /// This half of the window and the one before it.
    halves: [HashMap<usize, Half>; 2],
}

impl Makers {
    /// So many new series of the metric at a place were made.
    pub(super) fn made(&mut self, metric: usize, maker: Option<&Maker>, new: u64) {
        let [half, _] = &mut self.halves;
        let half = half.entry(metric).or_insert_with(|| Half { all: 0, makers: Leaders::new(ROOM) });
        half.all += new;
        if let Some(maker) = maker {
            half.makers.add(&maker.named.hash, new, || maker.clone());
        }
    }

    /// Half a window has passed: what came before the last half is forgotten.
    pub(super) fn turn(&mut self) {
        let [half, before] = &mut self.halves;
        *before = std::mem::take(half);
    }

    /// Those who made a tenth of a metric's new series, by metric, most first.
    pub(super) fn estimate(&self, metrics: &ByMetric) -> Vec<MakerEstimate> {
        let [half, before] = &self.halves;
        let mut both = half.clone();
        for (metric, earlier) in before {
            match both.get_mut(metric) {
                Some(known) => {
                    known.all += earlier.all;
                    known.makers.merge(&earlier.makers);
                }
                None => drop(both.insert(*metric, earlier.clone())),
            }
        }
        let mut found = Vec::new();
        for (place, Half { all, makers }) in &mut both {
            let Some(metric) = metrics.name(*place) else { continue };
            let rows = makers.list().iter().map(|leader| MakerEstimate {
                metric: Arc::clone(metric),
                name_of: NAMES.get(leader.key.place).copied().unwrap_or_default(),
                name: Arc::clone(&leader.key.named.text),
                // At least: what may be another's is left out.
                share: (leader.count - leader.error) as f64 / (*all).max(1) as f64,
            });
            found.extend(rows.filter(|row| row.share >= LEAST));
        }
        found.sort_by(|a, b| match a.metric.cmp(&b.metric) {
            Ordering::Equal => b.share.total_cmp(&a.share).then_with(|| a.name.cmp(&b.name)),
            other => other,
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape};

    /// Who makes the series of a resource with these attributes.
    fn named(attributes: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let mut builder = BatchBuilder::new();
        let mut resource = builder.resource();
        for (key, value) in attributes {
            resource.attribute(key, *value);
        }
        let descriptor = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
        resource.scope("s", "").metric(&descriptor).point(0, 1, Number::Int(1), &[]);
        drop(resource);
        let batch = builder.finish();
        let maker = batch.resources().next().and_then(maker_of)?;
        Some((NAMES[maker.place], maker.named.text.to_string()))
    }

    #[test]
    fn the_most_telling_attribute_there_is_names_the_maker() {
        let all: Vec<(&str, &str)> = NAMES.iter().rev().map(|name| (*name, "x")).collect();
        for known in 1..=NAMES.len() {
            let (last, _) = all[known - 1];
            assert_eq!(named(&all[..known]), Some((last, "x".to_owned())));
        }
        assert_eq!(named(&[("host.name", "h"), ("service.name", "")]), Some(("host.name", "h".to_owned())));
        assert_eq!(named(&[("os.type", "linux")]), None);
    }

    #[test]
    fn makers_have_their_part_of_each_metric_and_are_forgotten_with_their_window() {
        let maker = |place: usize, text: &str| Maker {
            place,
            named: Named { hash: mix(place as u64, hash_of(AnyValue::Str(text))), text: text.into() },
        };
        let mut metrics = ByMetric::new(10);
        let (requests, time) = (metrics.admit("requests"), metrics.admit("time"));
        let mut makers = Makers::default();
        makers.made(requests, Some(&maker(1, "shop")), 60);
        makers.turn();
        makers.made(requests, Some(&maker(1, "shop")), 20);
        makers.made(requests, None, 20);
        makers.made(time, Some(&maker(0, "cron")), 95);
        makers.made(time, Some(&maker(1, "cron")), 5);
        let rows = |makers: &Makers| -> Vec<(String, &str, String, f64)> {
            let rows = makers.estimate(&metrics).into_iter();
            rows.map(|row| (row.metric.to_string(), row.name_of, row.name.to_string(), row.share)).collect()
        };
        let cron = ("time".to_owned(), NAMES[0], "cron".to_owned(), 0.95);
        assert_eq!(rows(&makers), [("requests".to_owned(), NAMES[1], "shop".to_owned(), 0.8), cron.clone()]);
        makers.turn();
        assert_eq!(rows(&makers), [("requests".to_owned(), NAMES[1], "shop".to_owned(), 0.5), cron]);
        makers.turn();
        assert_eq!(rows(&makers), []);
    }

    #[test]
    fn of_many_makers_the_one_with_most_is_among_those_that_are_kept() {
        let mut metrics = ByMetric::new(10);
        let place = metrics.admit("m");
        let mut makers = Makers::default();
        for n in 0..3_000_u64 {
            let (hash, text) = if n % 3 == 0 { (7, "leaky") } else { (1_000 + n, "one of many") };
            makers.made(place, Some(&Maker { place: 0, named: Named { hash, text: text.into() } }), 1);
        }
        let found = makers.estimate(&metrics);
        assert_eq!((found.len(), &*found[0].name), (1, "leaky"));
        assert!((0.26..=1.0 / 3.0).contains(&found[0].share), "{}", found[0].share);
        assert!(makers.halves[0][&place].makers.clone().list().len() <= ROOM);
    }
}
