//! Numbers as Prometheus writes them: the shortest text that reads back as the same double, with exponents as Go has them.

use std::fmt::Write as _;

use phoenix_telemetry::Number;

/// Appends a number. `point`: a whole double is written with `.0`, as OpenMetrics wants it for bounds.
pub(crate) fn push(out: &mut String, number: Number, point: bool) {
    match number {
        Number::Int(value) => push_int(out, value),
        Number::Double(value) => push_double(out, value, point),
    }
}

/// Appends a whole number.
pub(crate) fn push_int(out: &mut String, value: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends a double.
pub(crate) fn push_double(out: &mut String, value: f64, point: bool) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.push_str(if point { text } else { text.strip_suffix(".0").unwrap_or(text) });
    } else {
        push_exponent(out, value);
    }
}

/// `1e+06`, `2.5e-07`: the exponent has a sign and at least two digits.
fn push_exponent(out: &mut String, value: f64) {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    // Writing to a string cannot fail.
    let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64, point: bool) -> String {
        let mut out = String::new();
        push_double(&mut out, value, point);
        out
    }

    #[test]
    fn doubles_are_written_as_go_writes_them() {
        for (value, want) in [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e100, "1e+100"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(value, false), want);
        }
        assert_eq!(text(1.0, true), "1.0");
        assert_eq!(text(1e6, true), "1e+06");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same_double(bits: u64) {
            let value = f64::from_bits(bits);
            proptest::prop_assume!(value.is_finite());
            proptest::prop_assert_eq!(text(value, false).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
