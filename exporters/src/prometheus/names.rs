//! How an OTLP name becomes a Prometheus name: characters, unit words, type suffixes, labels.
//!
//! Pure text, after the OpenTelemetry specification's "Prometheus and OpenMetrics compatibility" and the unit tables of
//! Prometheus' own translator. It never looks at values, and it never decides which attributes become labels.

use std::borrow::Cow;

use super::options::Naming;

/// What the name's type suffix depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suffix {
    /// A monotonic sum: `_total`.
    Total,
    /// An OTLP gauge: `_ratio` when its unit is `1`.
    Ratio,
    /// Everything else.
    None,
}

/// Units of the UCUM code and the words Prometheus uses for them. An unknown unit is kept as it is.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tebibytes"),
    ("kBy", "kilobytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
    ("1", ""),
];

/// The unit after a slash, in the singular.
const PER_UNITS: &[(&str, &str)] =
    &[("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// The Prometheus name of a metric, or `None` where nothing printable is left of it.
pub(crate) fn metric(name: &str, unit: &str, suffix: Suffix, naming: &Naming) -> Option<String> {
    let name =
        if naming.utf8 { utf8_metric(name, unit, suffix, naming) } else { classic_metric(name, unit, suffix, naming) };
    name.chars().any(|c| c != '_').then_some(name)
}

/// The word OpenMetrics may state as the unit of a metric: the main unit of a simple unit, empty where there is none.
pub(crate) fn unit_word(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    if per.is_empty() { main } else { format!("{main}_{per}").trim_start_matches('_').to_owned() }
}

fn classic_metric(name: &str, unit: &str, suffix: Suffix, naming: &Naming) -> String {
    let mut out = if naming.units || naming.type_suffix {
        let mut tokens: Vec<Cow<'_, str>> =
            name.split(|c| !is_name_char(c)).filter(|token| !token.is_empty()).map(Cow::Borrowed).collect();
        if naming.units {
            let (main, per) = unit_words(unit);
            for word in [main, per] {
                if !word.is_empty() && !tokens.iter().any(|token| *token == word) {
                    tokens.push(word.into());
                }
            }
            if suffix == Suffix::Ratio && unit == "1" {
                move_to_end(&mut tokens, "ratio");
            }
        }
        if naming.type_suffix && suffix == Suffix::Total {
            move_to_end(&mut tokens, "total");
        }
        tokens.join("_")
    } else {
        sanitize(name)
    };
    if !naming.namespace.is_empty() {
        out = format!("{}_{out}", sanitize(&naming.namespace));
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

fn utf8_metric(name: &str, unit: &str, suffix: Suffix, naming: &Naming) -> String {
    let mut out = if naming.namespace.is_empty() { name.to_owned() } else { format!("{}_{name}", naming.namespace) };
    let end = match suffix {
        Suffix::Total if naming.type_suffix => "total",
        Suffix::Ratio if naming.units && unit == "1" => "ratio",
        _ => "",
    };
    if !end.is_empty() {
        strip_word(&mut out, end);
    }
    if naming.units {
        let (main, per) = unit_words(unit);
        if !per.is_empty() {
            strip_word(&mut out, &per);
        }
        if !main.is_empty() && !ends_with_word(&out, &main) {
            out.push('_');
            out.push_str(&main);
        }
        if !per.is_empty() {
            out.push('_');
            out.push_str(&per);
        }
    }
    if !end.is_empty() {
        out.push('_');
        out.push_str(end);
    }
    out
}

fn move_to_end(tokens: &mut Vec<Cow<'_, str>>, word: &'static str) {
    tokens.retain(|token| *token != word);
    tokens.push(word.into());
}

/// Whether `name` ends with `word` as a word of its own.
fn ends_with_word(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with(|c: char| !c.is_alphanumeric()))
}

/// Takes `word` and the one character before it off the end of `name`, unless nothing would be left.
fn strip_word(name: &mut String, word: &str) {
    if ends_with_word(name, word) && name.len() > word.len() + 1 {
        name.truncate(name.len() - word.len());
        name.pop();
    }
}

/// The words of a unit: the unit itself, and `per_...` for what stands behind a slash. Annotations in braces are dropped.
fn unit_words(unit: &str) -> (String, String) {
    let bare = without_annotations(unit);
    let (main, per) = bare.split_once('/').map_or((bare.as_ref(), ""), |(main, per)| (main, per));
    let word = |text: &str, table: &[(&str, &str)]| {
        let text = text.trim();
        let word = table.iter().find(|(code, _)| *code == text).map_or(text, |(_, word)| word);
        word.split(|c| !is_name_char(c)).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
    };
    let main = word(main, UNITS);
    let per = word(per, PER_UNITS);
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

fn without_annotations(unit: &str) -> Cow<'_, str> {
    if !unit.contains('{') {
        return Cow::Borrowed(unit);
    }
    let mut depth = 0usize;
    Cow::Owned(
        unit.chars()
            .filter(|c| match c {
                '{' => {
                    depth += 1;
                    false
                }
                '}' => {
                    depth = depth.saturating_sub(1);
                    false
                }
                _ => depth == 0,
            })
            .collect(),
    )
}

/// A character of a name that does not separate words.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// Replaces what a metric name may not hold by `_`, and makes one of several in a row.
fn sanitize(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if is_name_char(c) { c } else { '_' };
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out
}

/// The name of the label an attribute key becomes.
///
/// A name that begins with a digit or an underscore is given the prefix `key_` or `key`: names with two leading
/// underscores are Prometheus' own, and `__name__` would rename the metric.
pub(crate) fn label(key: &str, utf8: bool) -> String {
    if utf8 {
        return if key == "__name__" { "key__name__".to_owned() } else { key.to_owned() };
    }
    let mut out: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    } else if out.starts_with('_') {
        out.insert_str(0, "key");
    }
    out
}

/// Whether a metric name can be written without quotes.
pub(crate) fn is_classic_metric(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| is_name_char(c) || c == '_')
}

/// Whether a label name can be written without quotes.
pub(crate) fn is_classic_label(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(units: bool, type_suffix: bool, utf8: bool) -> Naming {
        Naming { namespace: String::new(), units, type_suffix, utf8 }
    }

    fn full(name: &str, unit: &str, suffix: Suffix) -> String {
        metric(name, unit, suffix, &naming(true, true, false)).unwrap()
    }

    #[test]
    fn host_metrics_get_the_names_the_collector_gives_them() {
        for (name, unit, suffix, want) in [
            ("process.cpu.time", "s", Suffix::Total, "process_cpu_time_seconds_total"),
            ("process.cpu.utilization", "1", Suffix::Ratio, "process_cpu_utilization_ratio"),
            ("process.memory.usage", "By", Suffix::None, "process_memory_usage_bytes"),
            ("process.disk.io", "By", Suffix::Total, "process_disk_io_bytes_total"),
            ("process.threads", "{threads}", Suffix::None, "process_threads"),
            ("process.paging.faults", "{faults}", Suffix::Total, "process_paging_faults_total"),
            ("system.cpu.load_average.1m", "{thread}", Suffix::Ratio, "system_cpu_load_average_1m"),
            ("system.processes.count", "{processes}", Suffix::None, "system_processes_count"),
            ("system.network.io", "By", Suffix::Total, "system_network_io_bytes_total"),
            ("system.uptime", "s", Suffix::Ratio, "system_uptime_seconds"),
            ("system.filesystem.utilization", "1", Suffix::Ratio, "system_filesystem_utilization_ratio"),
        ] {
            assert_eq!(full(name, unit, suffix), want);
        }
    }

    #[test]
    fn units_are_words_once_and_before_the_type() {
        for (name, unit, suffix, want) in [
            ("storage.bytes", "By", Suffix::None, "storage_bytes"),
            ("storage.filesystem.usage", "By", Suffix::Total, "storage_filesystem_usage_bytes_total"),
            ("a.total.b", "s", Suffix::Total, "a_b_seconds_total"),
            ("speed", "m/s", Suffix::None, "speed_meters_per_second"),
            ("rate", "{packets}/s", Suffix::None, "rate_per_second"),
            ("hits", "1/mo", Suffix::None, "hits_per_month"),
            ("x", "By{sent}", Suffix::None, "x_bytes"),
            ("x", "frobs", Suffix::None, "x_frobs"),
            ("x", "a_b__c", Suffix::None, "x_a_b_c"),
            ("x", "/", Suffix::None, "x"),
            ("ratio.of.things", "1", Suffix::Ratio, "of_things_ratio"),
            ("things", "1", Suffix::Total, "things_total"),
            ("x", "TiBy", Suffix::None, "x_tebibytes"),
            ("x", "kBy", Suffix::None, "x_kilobytes"),
            ("x", "%", Suffix::None, "x_percent"),
        ] {
            assert_eq!(full(name, unit, suffix), want, "{name} {unit}");
        }
    }

    #[test]
    fn characters_are_replaced_and_collapsed() {
        assert_eq!(full("1st.metric", "", Suffix::None), "_1st_metric");
        assert_eq!(full("a..b--c", "", Suffix::None), "a_b_c");
        assert_eq!(full("müller:x", "", Suffix::None), "m_ller:x");
        assert_eq!(metric("...", "", Suffix::None, &naming(true, true, false)), None);
        assert_eq!(metric("", "", Suffix::None, &naming(false, false, true)), None);
        let spaced = Naming { namespace: "test-space".into(), ..naming(true, true, false) };
        assert_eq!(metric("up", "s", Suffix::None, &spaced).unwrap(), "test_space_up_seconds");
    }

    #[test]
    fn the_four_strategies_name_one_counter_as_the_specification_does() {
        let name = |units, utf8| metric("foo.bar", "By", Suffix::Total, &naming(units, units, utf8)).unwrap();
        assert_eq!(name(true, false), "foo_bar_bytes_total");
        assert_eq!(name(false, false), "foo_bar");
        assert_eq!(name(true, true), "foo.bar_bytes_total");
        assert_eq!(name(false, true), "foo.bar");
    }

    #[test]
    fn utf8_names_keep_what_they_already_end_with() {
        let name = |name, unit, suffix| metric(name, unit, suffix, &naming(true, true, true)).unwrap();
        assert_eq!(name("foo.bytes", "By", Suffix::None), "foo.bytes");
        assert_eq!(name("foo.total", "By", Suffix::Total), "foo_bytes_total");
        assert_eq!(name("x.ratio", "1", Suffix::Ratio), "x_ratio");
        assert_eq!(name("größe", "By/s", Suffix::None), "größe_bytes_per_second");
    }

    #[test]
    fn label_names_are_always_legal() {
        for (key, want) in [
            ("process.executable.name", "process_executable_name"),
            ("2xx", "key_2xx"),
            ("_x", "key_x"),
            ("__name__", "key__name__"),
            ("a b", "a_b"),
            ("ö", "key_"),
        ] {
            assert_eq!(label(key, false), want);
            assert!(is_classic_label(want));
        }
        assert_eq!(label("a.b", true), "a.b");
    }
}
