//! The command line: what is asked for, answered on the standard output; errors on the standard error, status 1.
//!
//! Parsing is data ([`args::Command`]), answers are text; only [`main`] prints. The flags are the Collector's.

mod admin;
mod args;
mod client;
mod components;
mod gates;
mod health;
mod migrate;
mod print_config;
mod simulate;
mod support_bundle;
mod top;

use crate::components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};
use crate::config::{Request, report};
use crate::run::{self, VERSION};
use args::{Command, Parsed};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    match answer(std::env::args_os()) {
        Ok(text) => {
            // A reader that has gone away (`| head`) is no error.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(text) => {
            let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments ask for.
///
/// # Errors
/// The text for the standard error.
fn answer(arguments: impl IntoIterator<Item = OsString>) -> Result<String, String> {
    match args::parse(arguments)? {
        Parsed::Text(text) => Ok(text),
        Parsed::Command(Command::Run(request, state_dir)) => {
            run::run(&request, state_dir.as_deref()).map(|()| String::new()).map_err(|failure| failure.to_string())
        }
        Parsed::Command(Command::Admin(address, question)) => admin::ask(address.as_deref(), &question),
        Parsed::Command(Command::Top(address)) => top::run(address.as_deref()),
        Parsed::Command(Command::Health(endpoint)) => health::ask(endpoint.as_deref()),
        Parsed::Command(Command::Migrate(file)) => migrate::text(&file),
        Parsed::Command(Command::SupportBundle(request, options)) => support_bundle::write(&request, &options),
        Parsed::Command(Command::Manual(folder)) => args::manual(&folder).map(|()| String::new()),
        Parsed::Command(Command::Validate(request)) => validate(&request),
        Parsed::Command(Command::PrintConfig(request, options)) => print_config::text(&request, &options),
        Parsed::Command(Command::Components) => {
            let [receivers, processors, exporters, extensions] = [
                components::rows(RECEIVERS),
                components::rows(PROCESSORS),
                components::rows(EXPORTERS),
                components::rows(EXTENSIONS),
            ];
            components::text(VERSION, receivers, processors, exporters, extensions)
        }
        Parsed::Command(Command::Completion(shell)) => Ok(args::completion(shell)),
        Parsed::Command(Command::Simulate(args)) => simulate::text(&args),
        Parsed::Command(Command::FeatureGate(id)) => gates::text(id.as_deref()),
    }
}

/// Checks a config and starts nothing. Silent if it is right, as the Collector is.
fn validate(request: &Request) -> Result<String, String> {
    request.load().map(|_| String::new()).map_err(|mistakes| report(&mistakes).to_string())
}
