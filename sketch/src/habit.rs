//! What is usual for one value: its moving average and how far it usually strays from it.
//!
//! Both are exponentially weighted, the spread as mean absolute deviation. What is learned from one reading is bounded,
//! so a single spike does not become the habit, while a new level does in time.

/// Weight of the newest reading: half of what is known comes from the last five.
const WEIGHT: f64 = 0.13;
/// Readings before anything can be unusual: below them the spread says nothing.
const ENOUGH: u8 = 6;
/// A change by less than this part of the average is never unusual, however steady the value was.
const STEADY: f64 = 0.05;

/// A value's habit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Habit {
    average: f64,
    spread: f64,
    readings: u8,
}

impl Habit {
    /// Takes a reading and says how unusual it was: its distance from the average in spreads, above zero for a jump and
    /// below for a fall. `floor` is the least spread that means anything for this measure. 0 while too little is known.
    /// Readings that are not finite say and teach nothing.
    pub fn take(&mut self, value: f64, floor: f64) -> f64 {
        if !value.is_finite() {
            return 0.0;
        }
        if self.readings == 0 {
            *self = Habit { average: value, spread: 0.0, readings: 1 };
            return 0.0;
        }
        let scale = self.spread.max(STEADY * self.average.abs()).max(floor).max(f64::MIN_POSITIVE);
        let distance = value - self.average;
        let score = if self.readings < ENOUGH { 0.0 } else { distance / scale };
        // While little is known everything is learned; later, no more than ten spreads at once.
        let learned = if self.readings < ENOUGH { distance } else { distance.clamp(-10.0 * scale, 10.0 * scale) };
        let weight = WEIGHT.max(1.0 / (f64::from(self.readings) + 1.0));
        self.average += weight * learned;
        self.spread += weight * (learned.abs() - self.spread);
        self.readings = (self.readings + 1).min(ENOUGH);
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_and_a_fall_are_unusual_and_noise_is_not() {
        let mut habit = Habit::default();
        for i in 0..200 {
            let noise = f64::from(i * 7919 % 13) / 13.0;
            let score = habit.take(10.0 + noise, 0.0);
            assert!(score.abs() < 6.0, "{score} at {i}");
        }
        assert!(habit.clone().take(20.0, 0.0) > 6.0);
        assert!(habit.take(0.0, 0.0) < -6.0);
    }

    #[test]
    fn a_new_level_becomes_the_habit() {
        let mut habit = Habit::default();
        (0..20).for_each(|_| _ = habit.take(1.0, 0.0));
        assert!(habit.take(100.0, 0.0) > 6.0);
        (0..200).for_each(|_| _ = habit.take(100.0, 0.0));
        assert!(habit.take(100.0, 0.0).abs() < 1.0);
    }

    #[test]
    fn what_is_small_for_the_measure_and_what_is_not_finite_is_never_unusual() {
        let mut habit = Habit::default();
        (0..20).for_each(|_| _ = habit.take(0.0, 0.01));
        assert!(habit.take(0.02, 0.01) < 6.0);
        assert_eq!(habit.take(f64::NAN, 0.01), 0.0);
        assert!(habit.take(1.0, 0.01) > 6.0);
    }

    #[test]
    fn the_first_readings_are_never_unusual() {
        let mut habit = Habit::default();
        for i in 0..6 {
            assert_eq!(habit.take(f64::from(1 << (4 * i)), 0.0), 0.0);
        }
    }
}
