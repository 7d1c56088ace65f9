//! What is wrong with settings that must be compiled (patterns, actions): collected where they are compiled, so that the
//! check of a configuration and the building of a component run the same code.

use phoenix_pipeline::BuildError;
use phoenix_pipeline::config::Report;

/// Mistakes with their paths from the component's settings.
#[derive(Debug, Default)]
pub(crate) struct Flaws(Vec<(String, String)>);

impl Flaws {
    /// Adds one: what is wrong at `path`, and what is allowed.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    /// Hands all of them to the check of a configuration.
    pub(crate) fn report(&self, report: &mut Report<'_>) {
        for (path, message) in &self.0 {
            report.error(path, message.as_str());
        }
    }

    /// `made`, if nothing is wrong. Settings that passed their check always come through.
    ///
    /// # Errors
    /// All flaws in one text.
    pub(crate) fn none_or<T>(self, made: T) -> Result<T, BuildError> {
        if self.0.is_empty() {
            return Ok(made);
        }
        let lines: Vec<String> = self.0.iter().map(|(path, message)| format!("{path}: {message}")).collect();
        Err(BuildError::Failed(lines.join("\n")))
    }
}
