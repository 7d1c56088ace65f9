//! Utilization in groups: computed from the group's CPU time, never summed.

use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, Sum, metric::Data};

use super::*;
use crate::edges::{lines, one};
use crate::readers::CUMULATIVE;
use crate::world::string;

const STATES: [&str; 2] = ["user", "system"];
/// The sender divides by so many CPUs.
const CPUS: f64 = 4.0;

fn points(at: u64, values: [f64; 2]) -> Vec<NumberDataPoint> {
    let point = |(state, value): (&str, f64)| NumberDataPoint {
        attributes: vec![string("state", state)],
        start_time_unix_nano: BEGIN - SECOND,
        time_unix_nano: BEGIN + at * SECOND,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    STATES.into_iter().zip(values).map(point).collect()
}

fn time(at: u64, values: [f64; 2]) -> Metric {
    let data = Sum { data_points: points(at, values), aggregation_temporality: CUMULATIVE, is_monotonic: true };
    Metric { name: "process.cpu.time".into(), data: Some(Data::Sum(data)), ..Metric::default() }
}

fn share(at: u64, values: [f64; 2]) -> Metric {
    let data = Gauge { data_points: points(at, values) };
    Metric { name: "process.cpu.utilization".into(), data: Some(Data::Gauge(data)), ..Metric::default() }
}

/// What was said of utilization, over all series: by state.
fn shares(batch: &Batch) -> [f64; 2] {
    STATES.map(|state| {
        let of = batch.series().filter(|point| {
            point.metric().name() == "process.cpu.utilization" && point.attributes().get_str("state") == Some(state)
        });
        of.filter_map(|point| point.value()).map(|value| value.as_f64()).sum()
    })
}

proptest! {
    #![proptest_config(cases(100))]

    /// Whoever is folded when: what all say together is what the senders said, and no process that stays folded says it itself.
    #[test]
    fn groups_and_individuals_together_say_what_the_senders_said(
        script in prop::collection::vec((prop::collection::vec((any::<bool>(), 0u32..100, 0u32..100), 4), 1u64..20), 2..12),
        temporality in 0usize..3
    ) {
        let mut bench = Bench::new(["", "temporality: delta", "temporality: cumulative"][temporality]);
        let (mut now, mut used) = (0, [[0.0; 2]; 4]);
        for (i, (steps, gap)) in script.iter().enumerate() {
            now += gap;
            let mut said = [0.0; 2];
            let sent = steps.iter().enumerate().map(|(pid, (fold, user, system))| {
                let gains = [f64::from(*user) / 8.0, f64::from(*system) / 8.0];
                used[pid] = [used[pid][0] + gains[0], used[pid][1] + gains[1]];
                let shares = gains.map(|gain| gain / (*gap as f64 * CPUS));
                let mut metrics = vec![time(now, used[pid])];
                // As at a first scrape: there is nothing to compare with.
                if i > 0 {
                    said = [said[0] + shares[0], said[1] + shares[1]];
                    metrics.push(share(now, shares));
                }
                one(pid, *fold, metrics)
            });
            let batch = bench.send(sent.collect(), false);
            // What is folded at its second scrape is written individually then, and by the group from the third on.
            for (found, said) in shares(&batch).into_iter().zip(said) {
                prop_assert!((found - said).abs() < 1e-9 || i < 2 && found < said, "{} is not {}", found, said);
            }
        }
    }
}

#[test]
fn a_group_says_it_in_place_of_its_members() {
    let mut bench = Bench::new("");
    for (at, expected) in [(0, 0), (10, 0), (20, 2), (30, 2)] {
        let of = |pid: usize| {
            let mut metrics = vec![time(at, [at as f64, 0.0])];
            if at > 0 {
                metrics.push(share(at, [1.0 / CPUS, 0.0]));
            }
            one(pid, true, metrics)
        };
        let batch = bench.send(vec![of(0), of(3)], false);
        let said: Vec<String> = lines(&batch).into_iter().filter(|line| line.contains("utilization")).collect();
        assert!(said.iter().all(|line| line.starts_with("exe-0/ ")), "{said:?}");
        if expected > 0 {
            assert_eq!(said, ["exe-0/ process.cpu.utilization 0", "exe-0/ process.cpu.utilization 0.5"], "at {at}");
        }
    }
}

#[test]
fn without_the_time_it_stays_individual() {
    let mut bench = Bench::new("");
    for at in [10, 20] {
        let batch = bench.send(vec![one(0, true, vec![share(at, [0.5, 0.5])])], false);
        assert_eq!(lines(&batch), ["exe-0/0 process.cpu.utilization 0.5", "exe-0/0 process.cpu.utilization 0.5"]);
    }
    assert_eq!(bench.own("phoenix_aggregate_unfolded_points_total", "gauge"), 4.0);
}
