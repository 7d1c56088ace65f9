//! What each profile lets out at a population, a churn and a pressure: a table measured on the real chain, and what lies
//! between its points.
//!
//! The table is `measured.rs`. It is written by a program of `benches` that lets a synthetic host run through the real
//! `adaptive` stage, and a test there measures some of its points again. Nothing here is fitted or chosen.

use super::measured::{CHURN, MEASURED, PRESSURE, PROCESSES};
pub use super::measured::{NAMES, PROFILES};

/// What one profile lets out in the steady state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Response {
    /// Series of processes that stay individual, in one scrape.
    pub individual: f64,
    /// Series of groups, in one scrape.
    pub grouped: f64,
    /// Distinct series of both in five minutes.
    pub window: f64,
    /// Part of the CPU time that stays individually attributed, 0 to 1.
    pub attribution: f64,
}

/// The points of the table: processes, processes replaced in a cycle of ten seconds, pressure.
pub fn points() -> impl Iterator<Item = (f64, f64, f64)> {
    let along = |churn: f64| PRESSURE.into_iter().map(move |pressure| (churn, pressure));
    let across = move || CHURN.into_iter().flat_map(along);
    PROCESSES.into_iter().flat_map(move |processes| across().map(move |(churn, pressure)| (processes, churn, pressure)))
}

/// The response of each profile, between the table's points by straight lines. Beyond its last population they go on;
/// churn and pressure end at the table's ends.
pub fn at(processes: f64, churn: f64, pressure: f64) -> [Response; PROFILES] {
    let last = |axis: &[f64]| axis.last().copied().unwrap_or_default();
    let by_processes = place(&PROCESSES, processes);
    let by_churn = place(&CHURN, churn.clamp(0.0, last(&CHURN)));
    let by_pressure = place(&PRESSURE, pressure.clamp(0.0, last(&PRESSURE)));
    let mut sum = [[0.0; 4]; PROFILES];
    for (row, weight) in by_processes {
        for (column, by_column) in by_churn {
            for (layer, by_layer) in by_pressure {
                let measured = MEASURED.get(row).and_then(|row| row.get(column)).and_then(|column| column.get(layer));
                for (sum, measured) in sum.iter_mut().zip(measured.into_iter().flatten()) {
                    for (sum, value) in sum.iter_mut().zip(measured) {
                        *sum += weight * by_column * by_layer * value;
                    }
                }
            }
        }
    }
    sum.map(|sum| {
        let [individual, grouped, window, attribution] = sum.map(|value| value.max(0.0));
        Response { individual, grouped, window, attribution: attribution.min(1.0) }
    })
}

/// The two points of an axis around a value, and how much each counts.
fn place(axis: &[f64], value: f64) -> [(usize, f64); 2] {
    let upper = axis.partition_point(|point| *point <= value).clamp(1, axis.len().saturating_sub(1).max(1));
    let ends = axis.get(upper - 1).zip(axis.get(upper));
    let part = ends.map_or(0.0, |(from, to)| (value - from) / (to - from));
    [(upper - 1, 1.0 - part), (upper, part)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_point_it_is_the_table_and_between_two_the_middle() {
        let flat = |at: [Response; PROFILES]| at.map(|r| [r.individual, r.grouped, r.window, r.attribution]);
        let near = |one: [[f64; 4]; PROFILES], two: [[f64; 4]; PROFILES]| {
            one.iter()
                .flatten()
                .zip(two.iter().flatten())
                .all(|(one, two)| (one - two).abs() < 1e-6 * (1.0 + one.abs()))
        };
        assert!(near(flat(at(PROCESSES[1], CHURN[1], PRESSURE[1])), MEASURED[1][1][1]));
        let middle = flat(at((PROCESSES[0] + PROCESSES[1]) / 2.0, CHURN[0], 1.0));
        let last = PRESSURE.len() - 1;
        let (one, two) = (MEASURED[0][0][last], MEASURED[1][0][last]);
        let mean = std::array::from_fn(|p| std::array::from_fn(|f| (one[p][f] + two[p][f]) / 2.0));
        assert!(near(middle, mean));
        assert_eq!(points().count(), PROCESSES.len() * CHURN.len() * PRESSURE.len());
    }

    #[test]
    fn beyond_the_table_it_goes_on_and_nothing_becomes_negative() {
        let (far, further) = (at(5_000.0, 0.0, 0.0), at(6_000.0, 0.0, 0.0));
        assert!(further[0].window > far[0].window);
        for response in at(0.0, 99.0, 7.0).into_iter().chain(further) {
            assert!(response.window >= 0.0 && (0.0..=1.0).contains(&response.attribution));
        }
    }
}
