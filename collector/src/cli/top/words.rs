//! Numbers as a person reads them, in as few columns as will do. What is not known is `-`.

use ratatui::style::{Color, Style};
use ratatui::text::Span;

/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "-";

/// A whole number with commas: `12,345`.
pub(super) fn count(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return UNKNOWN.into() };
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 && digits != "0" { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A part of 1 as per cent: `93 %`.
pub(super) fn percent(value: Option<f64>) -> String {
    known(value, |value| if value > 0.0 && value < 0.005 { "<1 %".into() } else { format!("{:.0} %", value * 100.0) })
}

/// A signed number with two digits: `+0.34`.
pub(super) fn signed(value: Option<f64>) -> String {
    known(value, |value| format!("{:+.2}", if value.abs() < 0.005 { 0.0 } else { value }))
}

/// US dollars: `$12.40`, `$1,234`.
pub(super) fn dollars(value: Option<f64>) -> String {
    known(value, |value| match value {
        value if value.abs() < 100.0 => format!("${value:.2}"),
        value => format!("${}", count(Some(value))),
    })
}

/// Seconds in their two largest units: `45s`, `3m20s`, `2h5m`, `4d3h`.
pub(super) fn span(seconds: Option<f64>) -> String {
    known(seconds, |seconds| {
        let whole = seconds.max(0.0).round();
        let units = [(86_400.0, "d", 3_600.0, "h"), (3_600.0, "h", 60.0, "m"), (60.0, "m", 1.0, "s")];
        match units.into_iter().find(|(large, ..)| whole >= *large) {
            None => format!("{whole:.0}s"),
            Some((large, name, small, rest)) => {
                let (left, over) = ((whole / large).floor(), ((whole % large) / small).floor());
                if over == 0.0 { format!("{left:.0}{name}") } else { format!("{left:.0}{name}{over:.0}{rest}") }
            }
        }
    })
}

fn known(value: Option<f64>, word: impl FnOnce(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| UNKNOWN.into(), word)
}

/// `word` with underscores as spaces, as reasons and guards are written.
pub(super) fn plain(word: &str) -> String {
    word.replace('_', " ")
}

/// The text, or its beginning with an ellipsis, in at most `width` characters.
pub(super) fn short(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A bar that is full at 1.
pub(super) fn bar(value: Option<f64>, width: usize, color: Color) -> Vec<Span<'static>> {
    let part = value.filter(|value| value.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0);
    let full = (part * width as f64).round() as usize;
    vec![
        Span::styled("█".repeat(full), Style::new().fg(color)),
        Span::styled("░".repeat(width.saturating_sub(full)), Style::new().fg(Color::DarkGray)),
    ]
}

/// A bar from the middle, to the right for what is above 0 and to the left for what is below; full at 1 and -1.
pub(super) fn swing(value: Option<f64>, width: usize) -> Vec<Span<'static>> {
    let half = width / 2;
    let value = value.filter(|value| value.is_finite()).unwrap_or(0.0).clamp(-1.0, 1.0);
    let full = (value.abs() * half as f64).round() as usize;
    let dim = |width: usize| Span::styled("·".repeat(width), Style::new().fg(Color::DarkGray));
    let lit = |color| Span::styled("█".repeat(full), Style::new().fg(color));
    let middle = Span::styled("│", Style::new().fg(Color::DarkGray));
    let rest = half.saturating_sub(full);
    if value < 0.0 {
        vec![dim(rest), lit(Color::Green), middle, dim(half)]
    } else {
        vec![dim(half), middle, lit(Color::Red), dim(rest)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_what_is_unknown_is_a_dash() {
        for (value, text) in [(0.4, "0"), (999.6, "1,000"), (1_234_567.0, "1,234,567"), (-1500.0, "-1,500")] {
            assert_eq!(count(Some(value)), text);
        }
        for (seconds, text) in
            [(0.2, "0s"), (59.6, "1m"), (200.0, "3m20s"), (7_500.0, "2h5m"), (86_400.0, "1d"), (356_400.0, "4d3h")]
        {
            assert_eq!(span(Some(seconds)), text);
        }
        assert_eq!((dollars(Some(3.456)), dollars(Some(1234.5))), ("$3.46".into(), "$1,234".into()));
        assert_eq!(
            (signed(Some(-0.001)), signed(Some(-1.5)), percent(Some(0.934))),
            ("+0.00".into(), "-1.50".into(), "93 %".into())
        );
        for unknown in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            for text in [count(unknown), span(unknown), dollars(unknown), signed(unknown), percent(unknown)] {
                assert_eq!(text, UNKNOWN);
            }
        }
        assert_eq!((short("abcdef", 4), short("äöü", 3)), ("abc…".into(), "äöü".into()));
    }

    #[test]
    fn bars_keep_their_width() {
        let width = |spans: Vec<Span<'_>>| spans.iter().map(|span| span.content.chars().count()).sum::<usize>();
        for value in [None, Some(f64::NAN), Some(-7.0), Some(-0.5), Some(0.0), Some(0.5), Some(1.0), Some(9.0)] {
            assert_eq!(width(bar(value, 10, Color::Green)), 10);
            assert_eq!(width(swing(value, 21)), 21);
        }
    }
}
