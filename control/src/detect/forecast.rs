//! When the budget will be reached, if things go on as they do: by least squares and by a robust line.

use super::median;

/// Seconds until the budget is reached, 0 where it is already; `None` where it is not in sight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// By least squares.
    pub linear: Option<f64>,
    /// By the median of all pairs' slopes (Theil 1950, Sen 1968): up to 29 % of the points may be wild.
    pub robust: Option<f64>,
    /// The robust slope, series per second.
    pub slope: f64,
}

/// Points looked at, at most: pairs grow with the square.
const POINTS: usize = 120;

/// A forecast from points of (seconds, series), oldest first; of many the newest 120. What is no number is passed over.
pub fn forecast(points: &[(f64, f64)], budget: f64) -> Forecast {
    let newest = points.iter().rev().filter(|(at, series)| at.is_finite() && series.is_finite()).take(POINTS);
    let points: Vec<(f64, f64)> = newest.copied().collect();
    let Some((last, _)) = points.first().copied() else { return Forecast::default() };
    let number = points.len() as f64;
    let (mean_at, mean) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / number, y + point.1 / number));
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), (at, series)| {
        (over + (at - mean_at) * (series - mean), under + (at - mean_at).powi(2))
    });
    let until = |level: f64, slope: f64| match budget - level {
        left if left <= 0.0 => Some(0.0),
        left if slope > 0.0 => Some(left / slope),
        _ => None,
    };
    let linear = if under > 0.0 { over / under } else { 0.0 };
    let pairs =
        points.iter().enumerate().flat_map(|(place, one)| points.iter().skip(place + 1).map(move |two| (one, two)));
    let mut slopes: Vec<f64> =
        pairs.filter(|(one, two)| one.0 != two.0).map(|(one, two)| (two.1 - one.1) / (two.0 - one.0)).collect();
    let slope = median(&mut slopes);
    let mut levels: Vec<f64> = points.iter().map(|(at, series)| series + slope * (last - at)).collect();
    Forecast {
        linear: until(mean + linear * (last - mean_at), linear),
        robust: until(median(&mut levels), slope),
        slope,
    }
}
