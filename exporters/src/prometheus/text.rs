//! The page as text: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
//!
//! The writer only reads a store; label texts are there already, so a page is mostly copying. Two things are said on
//! one page and not on the other: OpenMetrics has exemplars and units, and is strict where the older format is not
//! (counters end in `_total`, counts and sums come together and are no negative numbers).
//!
//! Neither page has `_created` lines: a Prometheus reads them as series of their own, which would double what it holds.

use std::collections::HashSet;

use phoenix_telemetry::Number;

use super::labels::{push_escaped, push_quoted};
use super::names;
use super::number::{push, push_double, push_int};
use super::store::{Family, Series, Store};
use super::value::{Distribution, Exemplar, Kind, Quantiles, Value};

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format.
    Text,
    /// OpenMetrics text.
    OpenMetrics,
}

/// The text of everything in a store.
pub(crate) fn page(store: &Store, format: Format) -> String {
    let open_metrics = format == Format::OpenMetrics;
    let mut page = Page {
        out: String::with_capacity(256 + store.len() * 256),
        open_metrics,
        classic: true,
        timestamps: store.options().send_timestamps,
    };
    let targets = store.targets();
    let mut claimed = HashSet::new();
    if !targets.is_empty() {
        claimed.insert("target_info".to_owned());
    }
    for (name, family) in store.families() {
        page.family(name, family, store, &mut claimed);
    }
    page.targets(&targets, &claimed);
    if open_metrics {
        page.out.push_str("# EOF\n");
    }
    page.out
}

struct Page {
    out: String,
    open_metrics: bool,
    timestamps: bool,
    /// Whether the name of the family at hand can stand without quotes.
    classic: bool,
}

impl Page {
    /// One family. `claimed` are the names taken on this page: in OpenMetrics a counter also takes its name without
    /// `_total`, and where that is gone, or there is no `_total`, it is written as of unknown type. Names come sorted, so
    /// whatever could stand in a counter's way was there before it.
    fn family(&mut self, name: &str, family: &Family, store: &Store, claimed: &mut HashSet<String>) {
        let (mut title, mut kind) = (name, family.kind);
        if self.open_metrics {
            let is_free = |base: &&str| {
                !base.is_empty()
                    && ["", "_total", "_created"].iter().all(|suffix| !claimed.contains(&format!("{base}{suffix}")))
            };
            if kind == Kind::Counter {
                match name.strip_suffix("_total").filter(is_free) {
                    Some(base) => title = base,
                    None => kind = Kind::Unknown,
                }
            }
            let suffixes: &[&str] = if kind == Kind::Counter { &["", "_total", "_created"] } else { kind.suffixes() };
            claimed.extend(suffixes.iter().map(|suffix| format!("{title}{suffix}")));
        }
        self.classic = names::is_classic_metric(name);
        self.heading(title, family, kind);
        for series in store.members(family) {
            match &series.value {
                Value::Number(number) => self.number(name, series, *number, kind),
                Value::Histogram(distribution) => self.histogram(name, series, distribution),
                Value::Summary(quantiles) => self.summary(name, series, quantiles),
            }
        }
    }

    fn heading(&mut self, title: &str, family: &Family, kind: Kind) {
        if !family.help.is_empty() {
            self.comment("HELP", title);
            let quotes = self.open_metrics;
            push_escaped(&mut self.out, &family.help, quotes);
            self.out.push('\n');
        }
        self.comment("TYPE", title);
        self.out.push_str(match (kind, self.open_metrics) {
            (Kind::Counter, _) => "counter",
            (Kind::Gauge, _) => "gauge",
            (Kind::Histogram, _) => "histogram",
            (Kind::Summary, _) => "summary",
            (Kind::Unknown, false) => "untyped",
            (Kind::Unknown, true) => "unknown",
        });
        self.out.push('\n');
        let named = title.strip_suffix(family.unit.as_str()).is_some_and(|rest| rest.ends_with('_'));
        if self.open_metrics && !family.unit.is_empty() && named {
            self.comment("UNIT", title);
            self.out.push_str(&family.unit);
            self.out.push('\n');
        }
    }

    fn comment(&mut self, what: &str, name: &str) {
        self.out.push_str("# ");
        self.out.push_str(what);
        self.out.push(' ');
        if names::is_classic_metric(name) {
            self.out.push_str(name)
        } else {
            push_quoted(&mut self.out, name)
        }
        self.out.push(' ');
    }

    fn number(&mut self, name: &str, series: &Series, number: Number, kind: Kind) {
        self.head(name, "", series, None);
        push(&mut self.out, number, self.open_metrics);
        self.tail(series, series.exemplars.first().filter(|_| kind == Kind::Counter));
    }

    fn histogram(&mut self, name: &str, series: &Series, distribution: &Distribution) {
        let mut below = 0u64;
        let mut low = f64::NEG_INFINITY;
        let bounds = distribution.bounds.iter().copied().zip(distribution.counts.iter().copied());
        let above = distribution.counts.last().copied().unwrap_or(distribution.count);
        for (bound, count) in bounds.chain([(f64::INFINITY, above)]) {
            below = below.saturating_add(count);
            self.head(name, "_bucket", series, Some(("le", bound)));
            push_int(&mut self.out, below);
            self.tail(series, series.exemplars.iter().find(|exemplar| low < exemplar.value && exemplar.value <= bound));
            low = bound;
        }
        // A sum of what may be negative is no counter, which OpenMetrics wants it to be; count and sum go together there.
        let negative = distribution.bounds.first().is_some_and(|bound| *bound < 0.0);
        self.sum_and_count(
            name,
            series,
            distribution.sum.filter(|_| !(negative && self.open_metrics)),
            distribution.count,
        );
    }

    fn summary(&mut self, name: &str, series: &Series, quantiles: &Quantiles) {
        for &(quantile, value) in &quantiles.values {
            if self.open_metrics && value < 0.0 {
                continue;
            }
            self.head(name, "", series, Some(("quantile", quantile)));
            push_double(&mut self.out, value, self.open_metrics);
            self.tail(series, None);
        }
        self.sum_and_count(name, series, Some(quantiles.sum), quantiles.count);
    }

    fn sum_and_count(&mut self, name: &str, series: &Series, sum: Option<f64>, count: u64) {
        let sum = sum.filter(|sum| !self.open_metrics || *sum >= 0.0);
        if let Some(sum) = sum {
            self.head(name, "_sum", series, None);
            push_double(&mut self.out, sum, self.open_metrics);
            self.tail(series, None);
        }
        if sum.is_some() || !self.open_metrics {
            self.head(name, "_count", series, None);
            push_int(&mut self.out, count);
            self.tail(series, None);
        }
    }

    /// Name and labels of a sample, and the space after them.
    fn head(&mut self, name: &str, suffix: &str, series: &Series, own: Option<(&str, f64)>) {
        let (classic, out) = (self.classic, &mut self.out);
        if classic {
            out.push_str(name);
            out.push_str(suffix);
        }
        if !classic || !series.labels.is_empty() || own.is_some() {
            out.push('{');
            let mut between = "";
            if !classic {
                out.push('"');
                push_escaped(out, name, true);
                out.push_str(suffix);
                out.push('"');
                between = ",";
            }
            if !series.labels.is_empty() {
                out.push_str(between);
                out.push_str(&series.labels);
                between = ",";
            }
            if let Some((label, value)) = own {
                out.push_str(between);
                out.push_str(label);
                out.push_str("=\"");
                push_double(out, value, self.open_metrics);
                out.push('"');
            }
            out.push('}');
        }
        out.push(' ');
    }

    /// What follows the value: the time, the exemplar, the end of the line.
    fn tail(&mut self, series: &Series, exemplar: Option<&Exemplar>) {
        if self.timestamps && series.time > 0 {
            self.out.push(' ');
            self.time(series.time);
        }
        if let Some(exemplar) = exemplar.filter(|_| self.open_metrics) {
            self.out.push_str(" # {");
            self.out.push_str(&exemplar.labels);
            self.out.push_str("} ");
            push_double(&mut self.out, exemplar.value, true);
            if exemplar.time > 0 {
                self.out.push(' ');
                self.time(exemplar.time);
            }
        }
        self.out.push('\n');
    }

    /// Milliseconds, in OpenMetrics as seconds with a fraction.
    fn time(&mut self, nanos: u64) {
        let millis = nanos / 1_000_000;
        if self.open_metrics {
            push_int(&mut self.out, millis / 1000);
            self.out.push('.');
            let fraction = format!("{:03}", millis % 1000);
            self.out.push_str(&fraction);
        } else {
            push_int(&mut self.out, millis);
        }
    }

    fn targets(&mut self, rows: &[String], claimed: &HashSet<String>) {
        if rows.is_empty() {
            return;
        }
        // In OpenMetrics the family is `target`, of type info; where that name is gone, the row is a gauge there too.
        self.out.push_str(if self.open_metrics && !claimed.contains("target") {
            "# HELP target Target metadata\n# TYPE target info\n"
        } else {
            "# HELP target_info Target metadata\n# TYPE target_info gauge\n"
        });
        for row in rows {
            self.out.push_str("target_info{");
            self.out.push_str(row);
            self.out.push_str("} 1\n");
        }
    }
}
