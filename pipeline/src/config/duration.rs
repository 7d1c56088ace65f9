//! Durations as Go writes them: `1m30s`, `200ms`, `1.5h`, `0s`. For `#[serde(with = "phoenix_pipeline::config::duration")]`.
//!
//! A bare number is an error, never a guess at a unit; only `0` needs none, as in Go.

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use std::fmt;
use std::time::Duration;

const UNITS: &[(&str, f64)] =
    &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a Go duration.
///
/// # Errors
/// A sentence that says what is wrong and what to write: no unit, an unknown unit, a negative or far too long time.
pub fn parse(text: &str) -> Result<Duration, String> {
    let body = text.strip_prefix('+').unwrap_or(text);
    if body.starts_with('-') {
        return Err(format!("the duration {text:?} is negative"));
    }
    if body == "0" {
        return Ok(Duration::ZERO);
    }
    if body.is_empty() {
        return Err("an empty string is no duration; write 10s".to_owned());
    }
    let mut nanos = 0f64;
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let amount: f64 = number.parse().map_err(|_| format!("{text:?} is no duration; write one like 1m30s"))?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!(
                "the duration {text:?} has no unit; write {number}s for seconds (units: ns, us, ms, s, m, h)"
            ));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("the duration {text:?} has the unknown unit {unit:?} (units: ns, us, ms, s, m, h)"));
        };
        nanos += amount * factor;
        rest = tail;
    }
    // Go holds nanoseconds in 63 bits; longer times are typing errors.
    if nanos >= i64::MAX as f64 {
        return Err(format!("the duration {text:?} is longer than 292 years"));
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Writes a duration the way Go prints it: `1m30s`, `200ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in [("ns", 1_000u128), ("µs", 1_000_000), ("ms", 1_000_000_000)] {
        if nanos < size {
            return format!("{}{unit}", fraction(nanos, size / 1_000));
        }
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match (hours, minutes, seconds.as_str()) {
        (0, 0, _) => format!("{seconds}s"),
        (0, _, "0") => format!("{minutes}m"),
        (0, _, _) => format!("{minutes}m{seconds}s"),
        (_, 0, "0") => format!("{hours}h"),
        (_, _, "0") => format!("{hours}h{minutes}m"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with all its digits and no more.
fn fraction(value: u128, unit: u128) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{part:0width$}").trim_end_matches('0'))
}

/// Serializes as a Go string.
///
/// # Errors
/// Only the serializer's own.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Deserializes from a Go string.
///
/// # Errors
/// What [`parse`] says; a bare number other than 0 is told to write its unit.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Text)
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a duration such as 10s")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        parse(&number.to_string()).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
        parse(&number.to_string()).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Duration, E> {
        parse(&number.to_string()).map_err(E::custom)
    }
}

/// The same for `Option<Duration>`, where absent says something else than zero:
/// `#[serde(with = "phoenix_pipeline::config::duration::option")]`.
pub mod option {
    use super::{Deserializer, Duration, Serializer};

    /// Serializes as a Go string, or null.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Deserializes from a Go string.
    ///
    /// # Errors
    /// As [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_go_reads_and_prints() {
        for (text, millis, printed) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("200ms", 200, "200ms"),
            ("1.5s", 1_500, "1.5s"),
            ("1m30s", 90_000, "1m30s"),
            ("+90s", 90_000, "1m30s"),
            ("60s", 60_000, "1m"),
            ("1h", 3_600_000, "1h"),
            ("1h0m1s", 3_601_000, "1h0m1s"),
            ("1.5h", 5_400_000, "1h30m"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(format(duration), printed, "{text}");
        }
        assert_eq!(format(Duration::from_nanos(1_500)), "1.5µs");
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        assert_eq!(
            parse("10").unwrap_err(),
            "the duration \"10\" has no unit; write 10s for seconds (units: ns, us, ms, s, m, h)"
        );
        for wrong in ["", "-1s", "1d", "s", "1.2.3s", "10 s", "999999999h", "1e3s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in 0u64..4_000_000_000_000_000) {
            let duration = Duration::from_nanos(nanos);
            let back = parse(&format(duration)).unwrap();
            prop_assert!(back.abs_diff(duration) <= Duration::from_nanos(1));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
