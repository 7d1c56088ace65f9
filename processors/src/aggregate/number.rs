//! Exact arithmetic on values: integers as integers, doubles with the error of every addition carried along.
//!
//! A sum of doubles formed anew each time wanders by the last digit, and a counter that falls by it is a reset to a
//! backend. What is added here is never formed anew.

mod saved;

use phoenix_telemetry::Number;

/// The zero of the same type.
pub(crate) fn zero_of(value: Number) -> Number {
    match value {
        Number::Int(_) => Number::Int(0),
        Number::Double(_) => Number::Double(0.0),
    }
}

/// Doubles beyond this are taken for broken: a sum of as many of them as there will ever be is still a number.
pub(crate) const LARGEST: f64 = 1e290;

/// Whether it is a number that can be added.
pub(crate) fn is_finite(value: Number) -> bool {
    match value {
        Number::Int(_) => true,
        Number::Double(value) => value.abs() <= LARGEST,
    }
}

/// Whether it is nothing.
pub(crate) fn is_zero(value: Number) -> bool {
    match value {
        Number::Int(value) => value == 0,
        Number::Double(value) => value == 0.0,
    }
}

/// Whether it is below zero.
pub(crate) fn is_negative(value: Number) -> bool {
    match value {
        Number::Int(value) => value < 0,
        Number::Double(value) => value < 0.0,
    }
}

/// `a` less `b`: an integer where both are. Both are at least 0, so no difference leaves the range.
pub(crate) fn less(a: Number, b: Number) -> Number {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Number::Int(a.saturating_sub(b)),
        (a, b) => Number::Double(a.as_f64() - b.as_f64()),
    }
}

/// Whether `a` lies below `b`.
pub(crate) fn falls(a: Number, b: Number) -> bool {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a < b,
        (a, b) => a.as_f64() < b.as_f64(),
    }
}

/// A running sum. Integers and doubles are kept apart, each as exact as it can be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    int: i128,
    high: f64,
    low: f64,
    /// A double was added: the sum is one from then on.
    double: bool,
}

impl Sum {
    pub(crate) fn add(&mut self, value: Number) {
        match value {
            // Beyond the range after 2^64 of the largest.
            Number::Int(value) => self.int = self.int.wrapping_add(i128::from(value)),
            // Most processes do nothing most of the time.
            Number::Double(0.0) if self.double => {}
            Number::Double(value) => {
                self.double = true;
                self.add_double(value);
            }
        }
    }

    pub(crate) fn subtract(&mut self, value: Number) {
        match value {
            Number::Int(value) => self.int = self.int.saturating_sub(i128::from(value)),
            Number::Double(value) => {
                self.double = true;
                self.add_double(-value);
            }
        }
    }

    pub(crate) fn join(&mut self, other: &Sum) {
        self.int = self.int.saturating_add(other.int);
        if other.double {
            self.double = true;
            self.add_double(other.high);
            self.add_double(other.low);
        }
    }

    /// Adds many at once: so many integers' sum, and doubles' if there were any.
    pub(crate) fn grow(&mut self, ints: i128, doubles: Option<f64>) {
        self.int = self.int.saturating_add(ints);
        doubles.into_iter().for_each(|value| self.add(Number::Double(value)));
    }

    /// Knuth's two-sum: what `high` cannot hold goes to `low`.
    fn add_double(&mut self, value: f64) {
        let sum = self.high + value;
        let part = sum - self.high;
        let error = (self.high - (sum - part)) + (value - part);
        let low = self.low + error;
        self.high = sum + low;
        self.low = low - (self.high - sum);
    }

    /// The sum as a point holds it; `None` where an integer has outgrown it.
    pub(crate) fn value(&self) -> Option<Number> {
        if self.double { Some(Number::Double(self.as_f64())) } else { i64::try_from(self.int).ok().map(Number::Int) }
    }

    /// The sum, or the integer nearest to it that a point can hold.
    pub(crate) fn clamped(&self) -> Number {
        self.value().unwrap_or(Number::Int(if self.int < 0 { i64::MIN } else { i64::MAX }))
    }

    pub(crate) fn as_f64(&self) -> f64 {
        // Mostly it is one of either, and the conversion is a call.
        if self.int == 0 { self.high + self.low } else { self.int as f64 + self.high + self.low }
    }

    /// How far two sums lie apart: 0 for equal integers; relative to their size once a double was added.
    pub(crate) fn error(&self, other: &Sum) -> f64 {
        let apart = (self.int.saturating_sub(other.int)) as f64 + (self.high - other.high) + (self.low - other.low);
        if self.double || other.double { apart.abs() / self.as_f64().abs().max(1.0) } else { apart.abs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sum_of_increments_never_falls(values in proptest::collection::vec(0f64..1e12, 1..200)) {
            let (mut sum, mut last) = (Sum::default(), 0.0);
            for value in values {
                sum.add(Number::Double(value));
                prop_assert!(sum.as_f64() >= last);
                last = sum.as_f64();
            }
        }
    }

    #[test]
    fn small_increments_are_not_lost_in_a_large_sum() {
        let mut sum = Sum::default();
        sum.add(Number::Double(1e16));
        (0..1000).for_each(|_| sum.add(Number::Double(0.25)));
        assert_eq!(sum.as_f64(), 1e16 + 250.0);
    }

    #[test]
    fn integers_are_exact_beyond_doubles_and_say_when_they_outgrow_a_point() {
        let mut sum = Sum::default();
        sum.add(Number::Int(i64::MAX - 1));
        sum.add(Number::Int(1));
        assert_eq!(sum.value(), Some(Number::Int(i64::MAX)));
        sum.add(Number::Int(1));
        assert_eq!(sum.value(), None);
        sum.subtract(Number::Int(i64::MAX));
        assert_eq!(sum.value(), Some(Number::Int(1)));
    }
}
