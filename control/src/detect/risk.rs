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
    /// What a breach would cost, 0 to 1: a half for the breach, and half the part of the budget it would exceed by, at most
    /// all of it.
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

/// Deviation of a count and of what comes of it within the reaction time, in parts of the budget: that of the sketch and a
/// little more. This and the three below were chosen on the training hosts of the tests.
const COUNT: f64 = 0.009;
/// Part of the past's deviation that the next seconds have: levels wander slowly, and what jumped has jumped.
const WANDERS: f64 = 0.2;
/// More deviation than this is not believed: it is that of a jump.
const JUMP: f64 = 0.2;
/// By so much the highest moment of the next seconds lies above the line.
const ABOVE: f64 = 0.002;
/// By so much a breach goes beyond where it is within ten reaction times. What the slope adds to that could not be shown.
const BEYOND: f64 = 0.04;

/// The risk at `used` parts of the budget, with a slope (parts a second) and the deviation of `used` around its line.
///
/// The level after `reaction` seconds is taken as normal around the line. The cost is half for the breach itself, which is a
/// convention, and half for the part of the budget it would exceed by.
pub fn risk(used: f64, slope: f64, deviation: f64, reaction: f64) -> Risk {
    if ![used, slope, deviation, reaction].into_iter().all(f64::is_finite) {
        return Risk::default();
    }
    let ahead = used + slope * reaction + ABOVE;
    // Not `hypot`: its symbol is glibc 2.35's, and the packages run from 2.34 (packaging/package holds it).
    let wanders = WANDERS * deviation.clamp(0.0, JUMP);
    let probability = normal((ahead - 1.0) / (COUNT * COUNT + wanders * wanders).sqrt());
    let cost = 0.5 + 0.5 * ((used - 1.0).max(0.0) + BEYOND).min(1.0);
    Risk { score: 100.0 * probability * cost, probability, cost }
}

/// The normal distribution function, to 7.5e-8 (Abramowitz and Stegun, 26.2.17).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = poly.iter().fold(0.0, |sum, factor| sum * t + factor) * t * (-0.5 * z * z).exp() * 0.398_942_280_4;
    if z > 0.0 { 1.0 - tail } else { tail }
}
