//! Holds the agent's host metrics against the Collector's, taken side by side on this machine.
//!
//! Counters must lie between the Collector's scrapes before and after; levels must agree at most scrapes (the machine is
//! at work meanwhile); everything else must be equal. What may differ stands in [`DIFFERENCES`] with its reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::otlp_json::{Attributes, Sample, Shape};

/// How a metric may differ from the Collector's.
enum Difference {
    /// The Collector's value is this many times ours.
    Times(f64),
    /// The values measure different things.
    Values,
    /// Series with these attribute values may be on one side only.
    Series(&'static [&'static str]),
}

/// The documented differences, and nothing else.
const DIFFERENCES: &[(&str, Difference, &str)] = &[
    (
        "process.disk.io",
        Difference::Values,
        "bytes of storage, where the Collector has rchar and wchar, cache and sockets included",
    ),
    (
        "process.memory.utilization",
        Difference::Times(100.0),
        "a ratio as the unit says, where the Collector has percent",
    ),
    ("process.signals_pending", Difference::Values, "a count, where the Collector has the signal mask as a number"),
    (
        "system.network.connections",
        Difference::Series(&["FIN_WAIT1", "FIN_WAIT2", "FIN_WAIT_1", "FIN_WAIT_2", "DELETE"]),
        "the states Linux has, always; the Collector has others that are always 0, and these only while they occur",
    ),
    ("system.paging.faults", Difference::Times(4096.0), "a count, where the Collector has it times the page size"),
    ("system.paging.operations", Difference::Times(4096.0), "a count, where the Collector has it times the page size"),
];

/// A scrape takes a while, and its stamp may be of its beginning or its end: samples nearer than this (nanoseconds) are
/// in no order.
const NEAR: u64 = 300_000_000;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    pid: Option<u32>,
    metric: String,
    attributes: Attributes,
}

impl std::fmt::Display for Series {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} {:?} of {}",
            self.metric,
            self.attributes,
            self.pid.map_or("the host".into(), |pid| format!("pid {pid}"))
        )
    }
}

/// One side's recording.
struct Side<'s> {
    shapes: BTreeMap<&'s str, BTreeSet<&'s Shape>>,
    series: BTreeMap<Series, Vec<&'s Sample>>,
}

impl<'s> Side<'s> {
    /// The host's series and those of `pids`; shapes of all.
    fn new(samples: &'s [Sample], pids: &[u32]) -> Self {
        let mut side = Side { shapes: BTreeMap::new(), series: BTreeMap::new() };
        for sample in samples {
            side.shapes.entry(&sample.metric).or_default().insert(&sample.shape);
            if sample.pid.is_none_or(|pid| pids.contains(&pid)) {
                let (pid, metric, attributes) = (sample.pid, sample.metric.clone(), sample.attributes.clone());
                side.series.entry(Series { pid, metric, attributes }).or_default().push(sample);
            }
        }
        for history in side.series.values_mut() {
            history.sort_by_key(|sample| sample.time);
        }
        side
    }

    /// Series that were there at every scrape but perhaps the first and the last.
    fn steady(&self) -> BTreeSet<&Series> {
        let most = |series: &Series| {
            let same =
                self.series.iter().filter(|(other, _)| (other.pid, &other.metric) == (series.pid, &series.metric));
            same.map(|(_, history)| history.len()).max().unwrap_or(0)
        };
        self.series
            .iter()
            .filter(|(series, history)| history.len() + 1 >= most(series))
            .map(|(series, _)| series)
            .collect()
    }
}

/// What does not agree, one line each; and how many values were compared.
pub fn compare(ours: &[Sample], theirs: &[Sample], pids: &[u32]) -> (Vec<String>, usize) {
    let (ours, theirs) = (Side::new(ours, pids), Side::new(theirs, pids));
    let mut wrong = Vec::new();
    let mut compared = 0;
    let names: BTreeSet<&&str> = ours.shapes.keys().chain(theirs.shapes.keys()).collect();
    for name in names {
        let (our, their) = (ours.shapes.get(*name), theirs.shapes.get(*name));
        if our != their {
            wrong.push(format!("{name} is {our:?}; the Collector's is {their:?}"));
        }
    }
    let only_ours = ours.steady().into_iter().filter(|series| !theirs.series.contains_key(series)).map(|s| (s, "ours"));
    let only_theirs =
        theirs.steady().into_iter().filter(|series| !ours.series.contains_key(series)).map(|s| (s, "theirs"));
    for (series, whose) in only_ours.chain(only_theirs).filter(|(series, _)| !may_be_alone(series)) {
        wrong.push(format!("{series}: only {whose}"));
    }
    for (series, history) in &ours.series {
        let Some(reference) = theirs.series.get(series) else { continue };
        wrong.extend(identity(series, history[0], reference[0]));
        let judged: Vec<Judged> = history.iter().filter_map(|sample| judge(sample, reference)).collect();
        let bad: Vec<&String> = judged.iter().filter_map(|judged| judged.as_ref().err()).collect();
        let is_level = history[0].shape.kind != "monotonic sum";
        compared += judged.len();
        if bad.len() > if is_level { judged.len() / 3 } else { 0 } {
            wrong.push(format!("{series}: {} of {} values do not agree, such as {}", bad.len(), judged.len(), bad[0]));
        }
    }
    (wrong, compared)
}

fn difference(metric: &str) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|(name, ..)| *name == metric).map(|(_, difference, _)| difference)
}

fn may_be_alone(series: &Series) -> bool {
    let Some(Difference::Series(alone)) = difference(&series.metric) else { return false };
    series.attributes.values().any(|value| alone.contains(&value.as_str()))
}

/// Start times, and what is said of the process.
fn identity(series: &Series, our: &Sample, their: &Sample) -> Option<String> {
    // Both say of a process what its files say; the Collector adds nothing of its own to a host's resource.
    let process = |sample: &Sample| -> Attributes {
        sample
            .resource
            .iter()
            .filter(|(key, _)| key.starts_with("process."))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let (our_resource, their_resource) = (process(our), process(their));
    if our.start != their.start {
        return Some(format!("{series}: starts at {}, the Collector's at {}", our.start, their.start));
    }
    (our_resource != their_resource)
        .then(|| format!("{series}: {our_resource:?}; the Collector says {their_resource:?}"))
}

type Judged = Result<(), String>;

/// `None` where there is nothing to compare with.
fn judge(sample: &Sample, reference: &[&Sample]) -> Option<Judged> {
    let times = match difference(&sample.metric) {
        Some(Difference::Values) => return None,
        Some(Difference::Times(times)) => *times,
        Some(Difference::Series(_)) | None => 1.0,
    };
    let ours = sample.value * times;
    let before = reference.iter().rev().find(|other| other.time + NEAR <= sample.time)?;
    let after = reference.iter().find(|other| other.time >= sample.time + NEAR)?;
    let fault = |low: f64, high: f64| format!("{ours}, the Collector has {low} to {high}");
    if sample.metric.ends_with(".uptime") {
        let expected = before.value + sample.time.abs_diff(before.time) as f64 / 1e9;
        // The Collector counts from the boot time, which the kernel cuts to whole seconds, and cuts the host's uptime, too.
        let agrees = (expected - ours).abs() <= 1.1;
        return Some(if agrees { Ok(()) } else { Err(fault(expected, expected)) });
    }
    let around =
        reference.iter().filter(|other| (before.time..=after.time).contains(&other.time)).map(|other| other.value);
    let (low, high) = around.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let slack = if sample.shape.kind == "monotonic sum" { 1e-6 } else { slack(sample, high) };
    let agrees = low - slack <= ours && ours <= high + slack;
    Some(if agrees { Ok(()) } else { Err(fault(low, high)) })
}

/// How far a level may move between two scrapes of a machine at work. A process that sleeps does not move.
fn slack(sample: &Sample, high: f64) -> f64 {
    let is_sleeping = sample.resource.get("process.executable.name").is_some_and(|name| name == "sleep");
    if is_sleeping {
        return 1e-6 * high.abs(); // the Collector computes ratios in single precision
    }
    let absolute = match sample.shape.unit.as_str() {
        "By" => 64e6,
        "1" if sample.metric.ends_with("cpu.utilization") => 0.35,
        "1" => 0.02,
        _ => 5.0,
    };
    absolute + 0.05 * high.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(metric: &str, kind: &'static str, seconds: u64, value: f64) -> Sample {
        let shape = Shape { kind, temporality: 2, unit: "By".into(), number: "asInt", keys: Vec::new() };
        let (resource, attributes) = (Attributes::new(), Attributes::new());
        Sample {
            pid: None,
            resource,
            metric: metric.into(),
            shape,
            attributes,
            start: 1,
            time: seconds * 1_000_000_000,
            value,
        }
    }

    fn history(metric: &str, kind: &'static str, values: &[(u64, f64)]) -> Vec<Sample> {
        values.iter().map(|(seconds, value)| sample(metric, kind, *seconds, *value)).collect()
    }

    #[test]
    fn a_counter_lies_between_its_neighbours() {
        let theirs = history("a", "monotonic sum", &[(1, 10.0), (3, 20.0), (5, 30.0)]);
        let good = history("a", "monotonic sum", &[(2, 15.0), (4, 30.0)]);
        assert_eq!(compare(&good, &theirs, &[]), (vec![], 2));
        let bad = history("a", "monotonic sum", &[(2, 15.0), (4, 31.0)]);
        assert_eq!(compare(&bad, &theirs, &[]).0.len(), 1);
    }

    #[test]
    fn shapes_names_and_factors_are_held() {
        let theirs = history("system.paging.faults", "monotonic sum", &[(1, 4096.0), (3, 8192.0)]);
        let ours = history("system.paging.faults", "monotonic sum", &[(2, 1.0)]);
        assert_eq!(compare(&ours, &theirs, &[]), (vec![], 1));
        let other = history("system.paging.faults", "sum", &[(2, 4096.0)]);
        assert!(!compare(&other, &theirs, &[]).0.is_empty());
        assert!(!compare(&[], &theirs, &[]).0.is_empty());
    }
}
