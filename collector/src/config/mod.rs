//! From the command line's sources to a checked model: read, merge, expand, check. Every mistake comes out at once.
//!
//! Nothing is started or opened here but configuration files, and nothing is ever guessed: what is not understood is a
//! mistake with its place. Components judge their own settings; this module only calls them.

mod expand;
mod extensions;
mod id;
mod load;
mod merge;
mod model;
mod print;
mod source;
mod telemetry;

use phoenix_pipeline::config::{Kind, Mark, Mistake, Value};
use std::fmt;

pub use load::Loaded;
pub use model::{Model, Pipeline, Tables};
pub use print::redacted;
pub use source::SCHEMES;

/// The config of a run without `--config`.
pub const DEFAULT: &str = include_str!("../../../configs/default.yaml");

/// What the default config is called in marks and log lines.
pub const DEFAULT_NAME: &str = "embedded default";

/// Where a config comes from, as the command line says it. Read again at every reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `--config`, in order. Empty = the embedded default.
    pub sources: Vec<String>,
    /// `--set`, in order.
    pub sets: Vec<String>,
    /// Whether every `hostmetrics` receiver that does not say otherwise uses the newer names (the Collector's gates).
    pub newer_names: bool,
}

impl Request {
    /// Reads and checks the config.
    ///
    /// # Errors
    /// Every mistake, in the order of files and lines.
    pub fn load(&self) -> Result<(Model, Vec<Notice>), Vec<Mistake>> {
        let (model, notices) = self.read()?.check(&Tables::agent())?;
        let default = "no --config: running the embedded default config (phoenix print-config shows it)";
        let first = self.sources.is_empty().then(|| Notice::info(default));
        Ok((model, first.into_iter().chain(notices).collect()))
    }

    /// Reads the config without judging what it says.
    ///
    /// # Errors
    /// If a source could not be read as YAML: every mistake of all sources.
    pub fn read(&self) -> Result<Loaded, Vec<Mistake>> {
        let mut loaded = load::load(&self.sources, &self.sets, &load::process_environment)?;
        if self.newer_names {
            newer_names(&mut loaded.value);
        }
        Ok(loaded)
    }

    /// The sources in words, for a log line.
    pub fn describe(&self) -> String {
        if self.sources.is_empty() {
            DEFAULT_NAME.to_owned()
        } else {
            self.sources.iter().map(|uri| source::shown(uri)).collect::<Vec<_>>().join(", ")
        }
    }
}

impl Loaded {
    /// Judges what the config says.
    ///
    /// # Errors
    /// Every mistake of reading and of content. What is said about a line that could not be read is left out: it would
    /// only follow from that.
    pub fn check(self, tables: &Tables<'_>) -> Result<(Model, Vec<Notice>), Vec<Mistake>> {
        let Loaded { value, mut notices, mut mistakes } = self;
        match Model::check(&value, tables) {
            Ok((model, more)) if mistakes.is_empty() => {
                notices.extend(more);
                return Ok((model, notices));
            }
            Ok(_) => {}
            Err(more) => {
                let lines: Vec<Mark> = mistakes.iter().map(|mistake| mistake.mark.clone()).collect();
                let known = |mark: &Mark| lines.iter().any(|line| line.file == mark.file && line.line == mark.line);
                mistakes.extend(more.into_iter().filter(|mistake| !known(&mistake.mark)));
            }
        }
        Err(load::sorted(mistakes))
    }
}

/// The config with its references followed; what cannot be followed is empty. For looking at a config that runs elsewhere.
pub fn expanded(value: Value, environment: load::Environment<'_>) -> Value {
    expand::expand(value, environment).0
}

/// The text of a config file.
///
/// # Errors
/// It cannot be read, is too large, or no UTF-8.
pub fn text_file(path: &str) -> Result<String, String> {
    source::file(path)
}

/// Sets `naming: v1` on the `hostmetrics` receivers that do not say otherwise.
fn newer_names(config: &mut Value) {
    let mark = Mark::new("--feature-gates", 0, 0);
    let Kind::Map(top) = &mut config.kind else { return };
    let receivers = top.iter_mut().filter(|(key, _)| key.name == "receivers");
    for (_, receivers) in receivers {
        let Kind::Map(receivers) = &mut receivers.kind else { continue };
        for (key, settings) in receivers {
            if key.name.split('/').next() != Some("hostmetrics") {
                continue;
            }
            let naming = merge::nest(["naming"], &mark, Value::new(mark.clone(), Kind::String("v1".to_owned())));
            match &settings.kind {
                Kind::Null => *settings = naming,
                Kind::Map(_) if settings.get("naming").is_none() => merge::merge(settings, naming),
                _ => {}
            }
        }
    }
}

/// Something worth a log line that is no mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Whether it should be looked at.
    pub warning: bool,
    /// What it is, in one sentence.
    pub text: String,
}

impl Notice {
    /// For information.
    pub fn info(text: impl Into<String>) -> Self {
        Self { warning: false, text: text.into() }
    }

    /// To be looked at.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { warning: true, text: text.into() }
    }

    /// Writes the log line.
    pub fn log(&self) {
        if self.warning {
            tracing::warn!("{}", self.text);
        } else {
            tracing::info!("{}", self.text);
        }
    }
}

/// Mistakes for a person: how many, then each on its line.
pub fn report(mistakes: &[Mistake]) -> impl fmt::Display + '_ {
    struct Lines<'m>(&'m [Mistake]);
    impl fmt::Display for Lines<'_> {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            let count = self.0.len();
            write!(out, "{count} mistake{} in the config", if count == 1 { "" } else { "s" })?;
            self.0.iter().try_for_each(|mistake| write!(out, "\n  {mistake}"))
        }
    }
    Lines(mistakes)
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
