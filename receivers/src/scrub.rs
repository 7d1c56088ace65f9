//! Takes secrets out of command lines, argument by argument, before anything else sees them.
//!
//! Three kinds of evidence are looked for: a *name* that says a secret follows (`--password X`, `DB_PASSWORD=X`,
//! `Authorization: X`), a *place* where secrets stand (`scheme://user:X@host`, mysql's `-pX`) and a *shape* that only secrets
//! have (AWS keys, JWTs, `ghp_…`). In doubt a value that has such a name goes; text without any of the three stays to the
//! byte, so UUIDs, hashes, ports and paths can still be read. This module never logs, never fails and keeps nothing.

mod keys;
mod scan;
mod shapes;
#[cfg(test)]
mod tests;
mod tools;

/// What stands where a secret stood.
pub use phoenix_pipeline::config::REDACTED;

use scan::Expect;
use tools::Tool;

/// The arguments of one process (`argv`, the program's name first) without their secrets, one for one.
///
/// An argument may change the meaning of the next (`--password`, then the password), so a command line is given as a whole.
pub fn arguments<S: AsRef<str>>(argv: &[S]) -> Vec<String> {
    let mut state = State::default();
    argv.iter().map(|argument| state.argument(argument.as_ref())).collect()
}

/// One text that stands alone (a process title, a name, a path) without its secrets.
pub fn text(text: &str) -> String {
    State::default().argument(text)
}

/// What earlier arguments say about the next one.
#[derive(Debug, Default)]
struct State {
    /// The last program named, if its options hide secrets.
    tool: Option<&'static Tool>,
    /// The next argument is, or holds, a secret.
    expect: Option<Expect>,
    /// A shell was named, so `-c` brings a script.
    shell: bool,
    /// The next argument is a script.
    script: bool,
}

impl State {
    fn argument(&mut self, argument: &str) -> String {
        let script = std::mem::take(&mut self.script);
        if let Some(expect) = self.expect.take()
            && expect.takes(argument)
        {
            // `--password --token X`: whichever of the two was meant, X goes.
            self.expect = scan::opens(argument);
            return expect.hide(argument);
        }
        let clean = scan::scan(argument, script, self);
        if script {
            self.expect = None;
        }
        self.script = self.shell && is_command_option(argument);
        self.shell |= tools::is_shell(tools::base_name(argument));
        clean
    }
}

/// A bundle of single-letter options that ends in `c`.
fn is_command_option(argument: &str) -> bool {
    argument
        .strip_prefix('-')
        .and_then(|letters| letters.strip_suffix('c'))
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic()))
}
