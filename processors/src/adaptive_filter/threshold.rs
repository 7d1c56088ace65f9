//! The threshold of one measure in one scope, and the pressure that moves all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phoenix_sketch::{Distribution, Recent};

use super::config::{Bounds, Config, Method, Span};

/// How hard to thin, from 0 to 1. All clones are one; whoever holds one may turn it while the stage works.
#[derive(Clone, Debug)]
pub struct Pressure(Arc<AtomicU64>);

impl Pressure {
    /// A pressure of its own.
    pub fn new(value: f64) -> Self {
        let pressure = Pressure(Arc::default());
        pressure.set(value);
        pressure
    }

    /// Turns it; what is outside of 0..=1 becomes the nearest bound, and what is no number changes nothing.
    pub fn set(&self, value: f64) {
        if !value.is_nan() {
            self.0.store(value.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
        }
    }

    /// As it stands.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// The least part above a quantile that a pressure below 1 leaves.
const LEAST_REST: f64 = 1e-3;

impl Span {
    /// The value at a pressure, straight between the ends. Never falls as the pressure grows.
    fn at(self, pressure: f64) -> f64 {
        (self.from + (self.to - self.from) * pressure).clamp(self.from, self.to)
    }

    /// The quantile at a pressure. Never falls as the pressure grows. What is above it shrinks by the same factor with
    /// every step of pressure: in a straight line the first half of the steps would change next to nothing, since
    /// whoever is large by one of several measures stays.
    fn quantile_at(self, pressure: f64) -> f64 {
        if pressure >= 1.0 {
            return self.to;
        }
        let rest = |quantile: f64| (1.0 - quantile).max(LEAST_REST);
        (1.0 - rest(self.from) * (rest(self.to) / rest(self.from)).powf(pressure)).clamp(self.from, self.to)
    }
}

/// How a threshold is formed.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    method: Method,
    quantile: Span,
    deviations: Span,
}

impl Rule {
    pub(super) fn new(config: &Config) -> Self {
        Rule { method: config.method, quantile: config.quantile, deviations: config.deviations }
    }

    /// The threshold for these data; `None` without data. Never falls as the pressure grows.
    pub(super) fn threshold(&self, recent: &Recent, pressure: f64, bounds: Bounds) -> Option<f64> {
        let all: Distribution = recent.all();
        let free = match self.method {
            Method::Quantile => all.quantile(self.quantile.quantile_at(pressure))?,
            Method::Mad => {
                let median = all.quantile(0.5)?;
                median + self.deviations.at(pressure) * all.median_distance(median)?
            }
        };
        let raised = bounds.min.map_or(free, |min| free.max(min));
        Some(bounds.max.map_or(raised, |max| raised.min(max)))
    }
}
