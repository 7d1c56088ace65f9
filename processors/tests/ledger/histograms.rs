//! Histograms: count, sum and every bucket leave as they came in, through churn, flapping, resets and swaps. The reader
//! decodes with `opentelemetry-proto` and is R1 of the ledger, bucket by bucket.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
};
use prost::Message as _;

use super::*;
use crate::readers::{CUMULATIVE, DELTA};
use crate::world::executable;

/// Count, sum, and the buckets: explicit ones, or the zero bucket and those of scale 0 from index -8 on.
type Cells = [i64; 20];

const BOUNDS: [f64; 3] = [1.0, 10.0, 100.0];
/// Where values go at scale 2.
const INDEXES: [i32; 3] = [-5, 9, 30];

/// Reads what leaves: total by metric and executable.
#[derive(Default)]
struct Reader {
    began: Option<u64>,
    /// The temporality all must have.
    wanted: Option<i32>,
    series: BTreeMap<String, (u64, u64, Cells)>,
    totals: BTreeMap<(String, String), Cells>,
}

fn exponential(point: &ExponentialHistogramDataPoint) -> Cells {
    let mut cells = Cells::default();
    (cells[0], cells[1], cells[2]) = (point.count as i64, point.sum.unwrap() as i64, point.zero_count as i64);
    if let Some(side) = &point.positive {
        for (i, count) in (side.offset..).zip(&side.bucket_counts) {
            assert!(point.scale >= 0);
            cells[((i >> point.scale) + 8 + 3) as usize] += *count as i64;
        }
    }
    cells
}

fn explicit(point: &HistogramDataPoint) -> Cells {
    let mut cells = Cells::default();
    (cells[0], cells[1]) = (point.count as i64, point.sum.unwrap() as i64);
    point.bucket_counts.iter().zip(&mut cells[2..]).for_each(|(count, cell)| *cell = *count as i64);
    cells
}

impl Reader {
    fn read(&mut self, batch: &Batch) {
        let request = Request::decode(batch.encode()).unwrap();
        for resource in &request.resource_metrics {
            let own = resource.resource.clone().unwrap().attributes;
            let executable = own.iter().find(|one| one.key == "process.executable.name").unwrap();
            let Some(any_value::Value::StringValue(executable)) =
                executable.value.as_ref().and_then(|value| value.value.clone())
            else {
                panic!()
            };
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                let series = format!("{own:?}{}", metric.name);
                let account = (metric.name.clone(), executable.clone());
                match metric.data.as_ref().unwrap() {
                    Data::Histogram(all) => all.data_points.iter().for_each(|point| {
                        let times = (point.start_time_unix_nano, point.time_unix_nano);
                        assert!(point.flags == 1 || point.explicit_bounds == BOUNDS);
                        let cells = (point.flags != 1).then(|| explicit(point));
                        self.point(series.clone(), account.clone(), all.aggregation_temporality, times, cells);
                    }),
                    Data::ExponentialHistogram(all) => all.data_points.iter().for_each(|point| {
                        let times = (point.start_time_unix_nano, point.time_unix_nano);
                        let cells = (point.flags != 1).then(|| exponential(point));
                        self.point(series.clone(), account.clone(), all.aggregation_temporality, times, cells);
                    }),
                    _ => {}
                }
            }
        }
    }

    fn point(
        &mut self,
        series: String,
        account: (String, String),
        temporality: i32,
        (start, time): (u64, u64),
        cells: Option<Cells>,
    ) {
        assert!(self.wanted.is_none_or(|wanted| wanted == temporality), "not in the temporality that is set: {series}");
        let began = *self.began.get_or_insert(time);
        let former = self.series.get(&series).copied();
        assert!(former.is_none_or(|(_, last, _)| last < time), "two points at one time: {series}");
        let Some(cells) = cells else {
            let (start, _, cells) = former.expect("closed before it was exported");
            self.series.insert(series, (start, time, cells));
            return;
        };
        assert_eq!(cells[0], cells[2..].iter().sum::<i64>(), "the buckets hold all values: {series}");
        self.series.insert(series.clone(), (start, time, cells));
        let total = self.totals.entry(account).or_default();
        let earlier = match former {
            _ if temporality == DELTA => Some(Cells::default()),
            Some((since, _, earlier)) if since == start => Some(earlier),
            Some((since, ..)) => {
                assert!(since < start, "a start in the past: {series}");
                (start < time).then(Cells::default)
            }
            None => (start >= began && start < time).then(Cells::default),
        };
        for i in 0..cells.len() {
            let gain = earlier.map_or(0, |earlier| cells[i] - earlier[i]);
            assert!(gain >= 0, "cell {i} fell: {series}");
            total[i] += gain;
        }
    }
}

/// What happens to a process until a scrape.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Counts,
    Missed,
    Resets,
    Reborn,
}

type Step = (Happens, bool, [u8; 4], i32);

#[derive(Clone, Copy, Default)]
struct Process {
    start: u64,
    sent: u64,
    counts: [u64; 4],
    read: [u64; 4],
}

fn metrics(start: u64, time: u64, counts: [u64; 4], scale: i32, temporality: i32) -> Vec<Metric> {
    let (count, sum) = (counts.iter().sum(), counts.iter().zip(0..).map(|(count, i)| count * i).sum::<u64>() as f64);
    let explicit = HistogramDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: time,
        count,
        sum: Some(sum),
        bucket_counts: counts.to_vec(),
        explicit_bounds: BOUNDS.to_vec(),
        ..HistogramDataPoint::default()
    };
    let offset = INDEXES[0] >> (2 - scale);
    let mut bucket_counts = vec![0; ((INDEXES[2] >> (2 - scale)) - offset + 1) as usize];
    for (index, count) in INDEXES.iter().zip(&counts[1..]) {
        bucket_counts[((index >> (2 - scale)) - offset) as usize] += count;
    }
    let exponential = ExponentialHistogramDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: time,
        count,
        sum: Some(sum),
        scale,
        zero_count: counts[0],
        positive: Some(Buckets { offset, bucket_counts }),
        ..ExponentialHistogramDataPoint::default()
    };
    let explicit = Histogram { data_points: vec![explicit], aggregation_temporality: temporality };
    let exponential = ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: temporality };
    let metric = |name: &str, data| Metric { name: name.into(), data: Some(data), ..Metric::default() };
    vec![metric("explicit", Data::Histogram(explicit)), metric("exponential", Data::ExponentialHistogram(exponential))]
}

/// The cells of both metrics for so many values.
fn cells(counts: [u64; 4]) -> [Cells; 2] {
    let made = metrics(1, 2, counts, 0, CUMULATIVE);
    let (Some(Data::Histogram(one)), Some(Data::ExponentialHistogram(other))) = (&made[0].data, &made[1].data) else {
        panic!()
    };
    [explicit(&one.data_points[0]), exponential(&other.data_points[0])]
}

/// What a scrape is made of: its processes; a swap before it, or a restart where there is state; whether it comes over the
/// wire, in parts; and what becomes of the state at a restart.
type Part = (Vec<Step>, bool, bool, u8);

/// Runs a script of histograms of that temporality; `wanted` is what they are to leave in.
fn run(bench: Bench, script: &[Part], temporality: i32, wanted: Option<i32>) -> Result<(), TestCaseError> {
    let (reader, truth) = read(bench, script, temporality, wanted, false)?;
    for (account, cells) in &truth {
        prop_assert_eq!(reader.totals.get(account).copied().unwrap_or_default(), *cells, "{:?}", account);
    }
    Ok(())
}

type Totals = BTreeMap<(String, String), Cells>;

fn read(
    mut bench: Bench,
    script: &[Part],
    temporality: i32,
    wanted: Option<i32>,
    damage: bool,
) -> Result<(Reader, Totals), TestCaseError> {
    let mut reader = Reader { wanted, ..Reader::default() };
    let mut processes = [Process::default(); 6];
    let mut truth = Totals::new();
    let (mut now, mut before) = (BEGIN, None);
    // What the first scrape's deltas say lies before a reader of cumulative histograms began to look.
    let unseen = temporality == DELTA && wanted == Some(CUMULATIVE);
    for (steps, swap, wire, broken) in script {
        if *swap && damage {
            crate::restarts::damage(bench.site.state.as_deref().unwrap(), *broken);
        }
        if *swap && bench.site.state.is_some() {
            bench.restart(true);
        } else if *swap {
            bench.swap();
        }
        let mut sent = Vec::new();
        for (pid, process) in processes.iter_mut().enumerate() {
            let (happens, fold, added, scale) = steps[pid % steps.len()];
            let (known, mut counts) = (process.start > 0, process.counts);
            counts.iter_mut().zip(added).for_each(|(count, more)| *count += u64::from(more));
            let mut gain: [u64; 4] = std::array::from_fn(|i| counts[i] - process.read[i]);
            match happens {
                Happens::Missed => {
                    process.counts = counts;
                    continue;
                }
                Happens::Resets if known && temporality == CUMULATIVE && process.read[0] > 0 => {
                    // One bucket falls, whatever the others do.
                    counts = added.map(u64::from);
                    counts[0] = counts[0].min(process.read[0] - 1);
                    gain = counts;
                }
                Happens::Reborn if known && temporality == CUMULATIVE && before.is_some() => {
                    (process.start, counts) = (now - SECOND, added.map(u64::from));
                    gain = counts;
                }
                _ if !known => {
                    process.start = BEGIN - SECOND;
                    if temporality == CUMULATIVE {
                        gain = [0; 4];
                    }
                }
                _ => {}
            }
            (process.counts, process.read) = (counts, counts);
            let made = if temporality == DELTA {
                metrics(if known { process.sent } else { process.start }, now, gain, scale, DELTA)
            } else {
                metrics(process.start, now, counts, scale, CUMULATIVE)
            };
            process.sent = now;
            sent.push(Sent { resource: wrap(pid, made), fold });
            if unseen && before.is_none() {
                gain = [0; 4];
            }
            for (name, cells) in ["explicit", "exponential"].into_iter().zip(cells(gain)) {
                let total = truth.entry((name.to_owned(), executable(pid))).or_default();
                total.iter_mut().zip(cells).for_each(|(total, cell)| *total += cell);
            }
        }
        bench.now += Duration::from_secs(10);
        if !sent.is_empty() {
            // At first in one piece, or the group has spoken before the last first delta comes.
            if *wire && !(unseen && before.is_none()) {
                let rest = sent.split_off(sent.len() / 2);
                for part in [sent, rest].into_iter().filter(|part| !part.is_empty()) {
                    reader.read(&bench.send(part, true));
                }
                if broken.is_multiple_of(2) {
                    bench.now += Duration::from_millis(200);
                    reader.read(&bench.flush(false));
                }
            } else {
                reader.read(&bench.send(sent, false));
            }
            before = Some(now);
            prop_assert_eq!(bench.own("phoenix_conservation_error", ""), 0.0);
        }
        now += 10 * SECOND;
    }
    reader.read(&bench.flush(true));
    Ok((reader, truth))
}

fn steps() -> impl Strategy<Value = Vec<Part>> {
    use Happens::{Counts, Missed, Reborn, Resets};
    let happens = prop::sample::select(vec![Counts, Counts, Counts, Missed, Resets, Reborn]);
    let step = (happens, any::<bool>(), any::<[u8; 4]>(), 0i32..=2);
    let steps = prop::collection::vec(step, 1..=6);
    prop::collection::vec((steps, prop::bool::weighted(0.2), any::<bool>(), any::<u8>()), 1..20)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn histograms_are_conserved(script in steps(), temporality in either(), output in 0usize..3) {
        let (config, wanted) = OUTPUTS[output];
        run(Bench::new(config), &script, temporality, wanted)?;
    }

    #[test]
    fn histograms_survive_restarts(script in steps(), temporality in either(), output in 0usize..3) {
        let directory = tempfile::tempdir().unwrap();
        let (config, wanted) = OUTPUTS[output];
        let bench = Bench::at(crate::restarts::site(directory.path()), config);
        run(bench, &script, temporality, wanted)?;
    }

    #[test]
    fn an_old_or_damaged_state_of_histograms_invents_nothing(script in steps(), temporality in either(), output in 0usize..3) {
        let directory = tempfile::tempdir().unwrap();
        let config = ["state: {interval: 1h}", "state: {interval: 1h}\ntemporality: delta", "state: {interval: 1h}\ntemporality: cumulative"][output];
        let bench = Bench::at(crate::restarts::site(directory.path()), config);
        let (reader, truth) = read(bench, &script, temporality, OUTPUTS[output].1, true)?;
        for (account, total) in &reader.totals {
            let truth = truth.get(account).copied().unwrap_or_default();
            prop_assert!(total.iter().zip(truth).all(|(total, truth)| *total <= truth), "{:?}: {:?} > {:?}", account, total, truth);
        }
    }
}

/// Settings, and the temporality they want.
const OUTPUTS: [(&str, Option<i32>); 3] = [
    ("state: {interval: 0s}", None),
    ("state: {interval: 0s}\ntemporality: delta", Some(DELTA)),
    ("state: {interval: 0s}\ntemporality: cumulative", Some(CUMULATIVE)),
];

fn either() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![CUMULATIVE, DELTA])
}

/// Histograms from the edges of their ranges, good and bad.
fn any_histogram() -> impl Strategy<Value = Metric> {
    let time = || prop::sample::select(vec![0, BEGIN, BEGIN + 1, BEGIN + SECOND, BEGIN + 9 * SECOND, u64::MAX]);
    let count = || prop::sample::select(vec![0, 1, 7, i64::MAX as u64, u64::MAX]);
    let double = || prop::sample::select(vec![None, Some(0.0), Some(f64::NAN), Some(f64::INFINITY), Some(-1e300)]);
    let int = || prop::sample::select(vec![i32::MIN, -11, -1, 0, 1, 20, 1 << 30, i32::MAX]);
    let counts = prop::collection::vec(count(), 0..4);
    (time(), time(), count(), double(), counts, int(), int(), double(), 0i32..3, any::<bool>()).prop_map(
        |(start, time, count, sum, bucket_counts, scale, offset, other, aggregation_temporality, explicit)| {
            let data = if explicit {
                let point = HistogramDataPoint {
                    start_time_unix_nano: start,
                    time_unix_nano: time,
                    count,
                    sum,
                    explicit_bounds: vec![other.unwrap_or(1.0); bucket_counts.len().saturating_sub(1)],
                    bucket_counts,
                    ..HistogramDataPoint::default()
                };
                Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality })
            } else {
                let point = ExponentialHistogramDataPoint {
                    start_time_unix_nano: start,
                    time_unix_nano: time,
                    count,
                    sum,
                    scale,
                    zero_threshold: other.unwrap_or(1e-300),
                    negative: Some(Buckets { offset: 0, bucket_counts: bucket_counts.clone() }),
                    positive: Some(Buckets { offset, bucket_counts }),
                    ..ExponentialHistogramDataPoint::default()
                };
                Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], aggregation_temporality })
            };
            Metric { name: "m".into(), data: Some(data), ..Metric::default() }
        },
    )
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn no_histogram_brings_it_down(
        batches in prop::collection::vec(prop::collection::vec((0usize..5, any::<bool>(), any_histogram()), 0..6), 1..8)
    ) {
        let mut configs = OUTPUTS.iter().cycle();
        let mut bench = Bench::new("");
        for sent in batches {
            bench.config = configs.next().unwrap().0;
            bench.swap();
            let sent = sent.into_iter().map(|(pid, fold, one)| Sent { resource: wrap(pid, vec![one]), fold });
            let batch = bench.send(sent.collect(), false);
            prop_assert!(batch.encoded_len() < 100_000, "what is written is bounded");
        }
        bench.flush(true);
    }
}

/// Of two members with different bounds, the second stays individual and is counted.
#[test]
fn other_bounds_stay_individual() {
    let mut bench = Bench::new("");
    for at in [0, 10] {
        let time = BEGIN + at * SECOND;
        let mut other = metrics(BEGIN - SECOND, time, [1; 4], 2, CUMULATIVE);
        other.truncate(1);
        if let Some(Data::Histogram(all)) = &mut other[0].data {
            all.data_points[0].explicit_bounds = vec![1.0, 2.0, 3.0];
        }
        let mut one = metrics(BEGIN - SECOND, time, [at; 4], 2, CUMULATIVE);
        one.truncate(1);
        let sent = [(0, one), (3, other)].map(|(pid, made)| Sent { resource: wrap(pid, made), fold: true });
        let batch = bench.send(sent.into(), false);
        let of = |pid: Option<i64>| {
            batch.series().find(|point| {
                let own = point.metric().resource().attributes().get("process.pid");
                point.histogram().is_some() && own == pid.map(phoenix_telemetry::AnyValue::Int)
            })
        };
        assert!(of(Some(0)).is_none());
        assert_eq!(of(Some(3)).and_then(|point| point.histogram()).map(|view| view.count), Some(4));
        assert_eq!(of(None).and_then(|point| point.histogram()).map(|view| view.count), Some(4 * at));
    }
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "bounds"), 2.0);
}

/// A group of deltas has the smallest and the largest value of its members.
#[test]
fn deltas_keep_the_range() {
    let mut bench = Bench::new("");
    let sent = [(0, (2.0, 5.0)), (3, (1.0, 4.0))].map(|(pid, (min, max))| {
        let mut made = metrics(BEGIN - SECOND, BEGIN, [1; 4], 2, DELTA);
        if let Some(Data::Histogram(all)) = &mut made[0].data {
            (all.data_points[0].min, all.data_points[0].max) = (Some(min), Some(max));
        }
        Sent { resource: wrap(pid, made), fold: true }
    });
    let batch = bench.send(sent.into(), false);
    let view = batch.series().find_map(|point| point.histogram()).unwrap();
    assert_eq!((view.count, view.min, view.max), (8, Some(1.0), Some(5.0)));
}
