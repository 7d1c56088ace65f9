//! All sources of a config, read and joined into one tree: configs left to right, then `--set`, then references.

use super::{DEFAULT, DEFAULT_NAME, Notice};
use super::{expand, merge, source};
use phoenix_exporters::otlp::exporter_from_environment;
use phoenix_pipeline::config::{Kind, Mark, Mistake, Value, parse_on};
use std::ffi::OsString;

/// How variables are looked up; tests bring their own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// The variables of this process.
pub fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Most `--config` of one run, as in the Collector.
const MAX_SOURCES: usize = 100;

/// A config in one tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The tree, without references.
    pub value: Value,
    /// What should be said about it.
    pub notices: Vec<Notice>,
    /// What is wrong with it already; there is a tree in spite of it, so that its content can be judged as well.
    pub mistakes: Vec<Mistake>,
}

/// Reads the sources (the embedded default if there are none), merges them from left to right, applies the `sets`, and
/// follows the references.
///
/// # Errors
/// If a source could not be read as YAML: every mistake of all sources, in the order of files and lines.
pub fn load(sources: &[String], sets: &[String], environment: Environment<'_>) -> Result<Loaded, Vec<Mistake>> {
    let nowhere = Mark::new("--config", 0, 0);
    if sources.len() > MAX_SOURCES {
        let message = format!("{} configs are named; at most {MAX_SOURCES} are read", sources.len());
        return Err(vec![Mistake::new(nowhere, "", message)]);
    }
    let documents = if sources.is_empty() {
        vec![parse_on(DEFAULT_NAME, DEFAULT)]
    } else {
        sources.iter().map(|uri| source::document(uri, environment)).collect()
    };
    let mut whole: Option<Value> = None;
    let mut mistakes = Vec::new();
    let mut complete = true;
    for (document, more) in documents.into_iter().chain(sets.iter().map(|text| merge::setting(text))) {
        mistakes.extend(more);
        match (document, &mut whole) {
            (None, _) => complete = false,
            (Some(value), None) => whole = Some(value),
            // An empty file among others adds nothing.
            (Some(value), Some(whole)) if !value.is_null() => merge::merge(whole, value),
            (Some(_), Some(_)) => {}
        }
    }
    let whole = whole.unwrap_or_else(|| Value::null(nowhere));
    // References are followed even if a source is missing, so that all mistakes come out.
    let (mut value, notices, more) = expand::expand(whole, environment);
    mistakes.extend(more);
    if sources.is_empty() {
        add_standard_exporter(&mut value, environment, &mut mistakes);
    }
    if complete { Ok(Loaded { value, notices, mistakes }) } else { Err(sorted(mistakes)) }
}

/// Adds the exporter that `OTEL_EXPORTER_OTLP_ENDPOINT` and its like ask for. Only to the embedded default: a config of
/// one's own says everything itself.
fn add_standard_exporter(config: &mut Value, environment: Environment<'_>, mistakes: &mut Vec<Mistake>) {
    let mark = Mark::new("environment variables", 0, 0);
    let text = |name: &str| environment(name).map(|text| text.to_string_lossy().into_owned());
    let (id, settings) = match exporter_from_environment(text) {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(message) => return mistakes.push(Mistake::new(mark, "", message)),
    };
    let settings = Value::from_yaml(&settings, &mark);
    merge::merge(config, merge::nest(["exporters", id.as_str()], &mark, settings));
    let path = ["service", "pipelines", "metrics", "exporters"];
    let mut named: Vec<Value> = path
        .iter()
        .try_fold(&*config, |value, key| value.get(key))
        .and_then(Value::as_seq)
        .map(<[Value]>::to_vec)
        .unwrap_or_default();
    named.push(Value::new(mark.clone(), Kind::String(id)));
    merge::merge(config, merge::nest(path, &mark, Value::new(mark.clone(), Kind::Seq(named))));
}

/// In the order of files and lines, each once.
pub(super) fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort();
    mistakes.dedup();
    mistakes
}
