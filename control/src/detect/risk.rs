//! How bad it may become: the chance that the budget is breached before the loop can react, times what that would cost.

use serde::Serialize;

use super::{Forecast, forecast};

/// A score and what it is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Risk {
    /// 0 to 100.
    pub score: f64,
    /// Chance of a breach within the reaction time, 0 to 1.
    pub probability: f64,
    /// What a breach would cost, 0 to 1: the part of the budget it would exceed by, at most all of it.
    pub cost: f64,
}

/// The forecast and the risk from points of (seconds, series), oldest first, none if there is no point. The newest count
/// is where the line begins, and the deviation is that of all points around it.
pub fn outlook(points: &[(f64, f64)], budget: f64, reaction: f64) -> (Forecast, Risk) {
    let forecast = forecast(points, budget);
    let Some((at, newest)) = points.last().copied() else { return (forecast, Risk::default()) };
    let residuals = || points.iter().map(|(then, level)| level + forecast.slope * (at - then) - newest);
    let number = points.len() as f64;
    let mean = residuals().sum::<f64>() / number;
    let deviation = (residuals().map(|residual| (residual - mean).powi(2)).sum::<f64>() / number).sqrt();
    (forecast, risk(newest / budget, forecast.slope / budget, deviation / budget, reaction))
}

/// The risk at `used` parts of the budget, with a slope (parts a second) and the deviation of `used` around its line.
///
/// The level after `reaction` seconds is taken as normal around the line, and the chance that gives is corrected by what
/// came of it on simulated hosts. The cost is half for the breach itself, and half
/// for how far it would go within ten reaction times.
pub fn risk(used: f64, slope: f64, deviation: f64, reaction: f64) -> Risk {
    if ![used, slope, deviation, reaction].into_iter().all(f64::is_finite) {
        return Risk::default();
    }
    let ahead = used + slope * reaction;
    let probability = calibrated(normal((ahead - 1.0) / deviation.max(1e-3)));
    let cost = 0.5 + 0.5 * (used + slope * 10.0 * reaction - 1.0).clamp(0.0, 1.0);
    Risk { score: 100.0 * probability * cost, probability, cost }
}

/// What came where this chance was reckoned, by straight lines between points chosen on the training hosts of the tests.
/// Levels wander slowly, so that a look back sees more deviation than the next seconds bring: around one half the truth is
/// more decided than the chance.
fn calibrated(reckoned: f64) -> f64 {
    const MAP: [(f64, f64); 7] =
        [(0.0, 0.0), (0.02, 0.01), (0.05, 0.13), (0.45, 0.15), (0.55, 0.88), (0.9, 0.92), (1.0, 1.0)];
    let mut lines = MAP.windows(2).filter_map(|ends| ends.first().copied().zip(ends.last().copied()));
    let on = |((from, low), (to, high)): ((f64, f64), (f64, f64))| low + (reckoned - from) / (to - from) * (high - low);
    lines.rfind(|((from, _), _)| reckoned >= *from).map_or(0.0, on).clamp(0.0, 1.0)
}

/// The normal distribution function, to 7.5e-8 (Abramowitz and Stegun, 26.2.17).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = poly.iter().fold(0.0, |sum, factor| sum * t + factor) * t * (-0.5 * z * z).exp() * 0.398_942_280_4;
    if z > 0.0 { 1.0 - tail } else { tail }
}
