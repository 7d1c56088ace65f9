//! The arguments as data. Flags stand before or behind the subcommand, with a space or `=`, as in the Collector.

use super::admin::Question;
use super::gates;
use super::simulate::SimulateArgs;
use super::support_bundle;
use crate::config::Request;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// Run until a signal ends it, with the state directory that was named.
    Run(Request, Option<PathBuf>),
    /// Ask a running agent at this address, or at the usual one.
    Admin(Option<String>, Question),
    /// Watch a running agent at this address, or at the usual one.
    Top(Option<String>),
    /// Ask a running agent at this address, or at the usual one, whether it is ready.
    Health(Option<String>),
    /// Make a config of a Collector's.
    Migrate(String),
    /// Collect what a bug report needs.
    SupportBundle(Request, support_bundle::Options),
    /// Write the manual pages into this directory.
    Manual(PathBuf),
    /// Check the config.
    Validate(Request),
    /// Show the resolved config.
    PrintConfig(Request, PrintOptions),
    /// List what can be named in a config.
    Components,
    /// A completion script.
    Completion(Shell),
    /// Run the controller against a model.
    Simulate(SimulateArgs),
    /// List the feature gates, or one.
    FeatureGate(Option<String>),
}

/// What the arguments came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parsed {
    /// Help or version: to be shown.
    Text(String),
    /// To be done.
    Command(Command),
}

/// How `print-config` prints.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PrintOptions {
    /// Whether secrets are hidden
    #[arg(long, value_enum, default_value_t = PrintMode::Redacted)]
    pub mode: PrintMode,
    /// In which language
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    pub format: Format,
    /// Whether the config is checked first
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub validate: bool,
}

/// Whether secrets are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PrintMode {
    /// Secrets are hidden
    Redacted,
    /// Secrets are shown
    Unredacted,
}

/// In which language a config is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

const ABOUT: &str = "Host and process metrics, through a pipeline, to OTLP and Prometheus";
const AFTER: &str = "Without --config the embedded default runs: host and process metrics of this machine at http://localhost:8889/metrics.";

#[derive(Parser)]
#[command(name = "phoenix", about = ABOUT, after_help = AFTER, version = concat!("version ", env!("CARGO_PKG_VERSION")))]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where state is kept over a restart; else STATE_DIRECTORY, $XDG_STATE_HOME/phoenix or ~/.local/state/phoenix
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Sub>,
}

/// Taken before and behind a subcommand; both count, in that order.
#[derive(Args)]
struct ConfigArgs {
    /// A config: a path, file:PATH, env:NAME or yaml:TEXT; repeatable, maps merge from left to right
    #[arg(long, value_name = "URI")]
    config: Vec<String>,
    /// Sets one value after all configs, e.g. --set receivers.hostmetrics.collection_interval=30s; repeatable
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Feature gates to enable (ID or +ID) and to disable (-ID)
    #[arg(long, value_name = "ID,...", value_delimiter = ',', allow_hyphen_values = true)]
    feature_gates: Vec<String>,
}

#[derive(Subcommand)]
enum Sub {
    /// Checks the config and starts nothing; silent if it is right
    Validate(#[command(flatten)] ConfigArgs),
    /// Says whether a running agent is ready: status 0 if it is, else 1
    Health {
        /// The page of its health_check extension; localhost:13133 by default
        #[arg(long, value_name = "HOST:PORT[/PATH]")]
        endpoint: Option<String>,
    },
    /// Prints a config for Phoenix, made from an OpenTelemetry Collector's, with a comment for every change
    Migrate {
        /// The Collector's config
        file: String,
    },
    /// Writes what a bug report needs into a .tar.gz, without the secrets of the config
    SupportBundle {
        #[command(flatten)]
        admin: AdminArgs,
        /// The file; by default phoenix-support-TIME.tar.gz here
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Lists the components that a config can name
    Components,
    /// Prints the config as it is after merging and expanding
    #[command(visible_alias = "print-initial-config")]
    PrintConfig {
        #[command(flatten)]
        options: PrintOptions,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Prints a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Writes the manual pages
    #[command(hide = true)]
    Manual {
        /// An existing directory
        folder: PathBuf,
    },
    /// Shows the profiles of a running agent, or puts another one to work
    Profile {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(subcommand)]
        action: Option<ProfileAction>,
    },
    /// Says why a process or resource is, or is not, in the output of a running agent
    Explain {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        entity: EntityArgs,
    },
    /// Runs the controller against a modelled host for hours in seconds, and says how well it held the budget
    Simulate(#[command(flatten)] SimulateArgs),
    /// Watches the control loop of a running agent on this terminal; q quits
    Top(#[command(flatten)] AdminArgs),
    /// Lists the feature gates, or shows one
    Featuregate {
        /// The gate
        id: Option<String>,
    },
}

/// Which agent is asked.
#[derive(Args)]
struct AdminArgs {
    /// The agent's admin endpoint, service::admin::endpoint; the token is taken from PHOENIX_ADMIN_TOKEN
    #[arg(long, visible_alias = "endpoint", value_name = "URL", global = true)]
    admin: Option<String>,
}

/// Whose story is asked for.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct EntityArgs {
    /// A process
    #[arg(long, value_name = "NUMBER")]
    pid: Option<i64>,
    /// What has this attribute; * stands for any text
    #[arg(long, value_name = "KEY=VALUE")]
    resource: Option<String>,
}

#[derive(Subcommand)]
enum ProfileAction {
    /// Shows the profiles and which one is at work
    Show,
    /// Puts a profile to work
    Set {
        /// Its name
        name: String,
        /// For how long, such as 10m; then the one before comes back. Without it the choice stays
        #[arg(long = "for", value_name = "DURATION")]
        expires_in: Option<String>,
    },
    /// Gives the choice back to the controller, or to the config where there is no budget
    Release,
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What is wrong with them, for the standard error.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Parsed::Text(error.to_string()));
        }
        Err(error) => return Err(error.to_string()),
    };
    let before = cli.config;
    Ok(Parsed::Command(match cli.command {
        None => Command::Run(before.request()?, cli.state_dir),
        Some(Sub::Profile { admin, action }) => {
            let question = match action {
                None | Some(ProfileAction::Show) => Question::Profiles,
                Some(ProfileAction::Set { name, expires_in }) => Question::Choose { profile: name, expires_in },
                Some(ProfileAction::Release) => Question::Release,
            };
            Command::Admin(admin.admin, question)
        }
        Some(Sub::Explain { admin, entity: EntityArgs { pid, resource } }) => {
            let question = match (pid, resource) {
                (Some(pid), _) => Question::Pid(pid),
                (None, resource) => Question::Resource(resource.unwrap_or_default()),
            };
            Command::Admin(admin.admin, question)
        }
        Some(Sub::Top(admin)) => Command::Top(admin.admin),
        Some(Sub::Health { endpoint }) => Command::Health(endpoint),
        Some(Sub::Migrate { file }) => Command::Migrate(file),
        Some(Sub::SupportBundle { admin, output, config }) => {
            let options = support_bundle::Options { admin: admin.admin, state_dir: cli.state_dir, output };
            Command::SupportBundle(before.and(config).request()?, options)
        }
        Some(Sub::Manual { folder }) => Command::Manual(folder),
        Some(Sub::Validate(config)) => Command::Validate(before.and(config).request()?),
        Some(Sub::PrintConfig { options, config }) => Command::PrintConfig(before.and(config).request()?, options),
        Some(Sub::Components) => Command::Components,
        Some(Sub::Completion { shell }) => Command::Completion(shell),
        Some(Sub::Simulate(args)) => Command::Simulate(args),
        Some(Sub::Featuregate { id }) => Command::FeatureGate(id),
    }))
}

impl ConfigArgs {
    fn and(mut self, behind: Self) -> Self {
        self.config.extend(behind.config);
        self.set.extend(behind.set);
        self.feature_gates.extend(behind.feature_gates);
        self
    }

    fn request(self) -> Result<Request, String> {
        let newer_names = gates::newer_names(&self.feature_gates)?;
        Ok(Request { sources: self.config, sets: self.set, newer_names })
    }
}

/// The completion script of a shell.
pub(super) fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "phoenix", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `phoenix.1` and a page for each subcommand.
///
/// # Errors
/// A file cannot be written.
pub(super) fn manual(folder: &Path) -> Result<(), String> {
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(line.split(' ').map(OsString::from))
    }

    fn command(line: &str) -> Command {
        match parsed(line) {
            Ok(Parsed::Command(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn request(sources: &[&str], sets: &[&str]) -> Request {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Request { sources: own(sources), sets: own(sets), newer_names: false }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_behind_with_space_or_equals() {
        assert_eq!(command("phoenix"), Command::Run(request(&[], &[]), None));
        let run = request(&["a.yaml", "file:b.yaml"], &["a.b=c=d", "x=1"]);
        assert_eq!(
            command("phoenix --config a.yaml --config=file:b.yaml --set=a.b=c=d --set x=1"),
            Command::Run(run, None)
        );
        assert_eq!(command("phoenix validate --config=a"), Command::Validate(request(&["a"], &[])));
        assert_eq!(command("phoenix --config=a validate"), Command::Validate(request(&["a"], &[])));
        let both = request(&["a", "b"], &["x=1", "y=2"]);
        assert_eq!(command("phoenix --config a --set x=1 validate --config b --set y=2"), Command::Validate(both));
    }

    #[test]
    fn print_config_has_the_collectors_flags_and_alias() {
        let options = |line: &str| match command(line) {
            Command::PrintConfig(_, options) => options,
            other => panic!("{other:?}"),
        };
        let default = PrintOptions { mode: PrintMode::Redacted, format: Format::Yaml, validate: true };
        assert_eq!(options("phoenix print-config"), default);
        let all = options("phoenix print-initial-config --mode=unredacted --format json --validate=false --config a");
        assert_eq!(all, PrintOptions { mode: PrintMode::Unredacted, format: Format::Json, validate: false });
        assert!(options("phoenix print-config --validate").validate);
    }

    #[test]
    fn help_and_version_are_text_and_mistakes_are_errors() {
        assert_eq!(
            parsed("phoenix --version"),
            Ok(Parsed::Text(format!("phoenix version {}\n", env!("CARGO_PKG_VERSION"))))
        );
        assert!(matches!(parsed("phoenix --help"), Ok(Parsed::Text(text)) if text.contains("--feature-gates")));
        assert!(parsed("phoenix --confg a").unwrap_err().contains("--config"));
        assert!(parsed("phoenix validat").unwrap_err().contains("validate"));
        assert!(parsed("phoenix completion tcsh").is_err());
        assert!(parsed("phoenix print-config --mode secret").is_err());
    }

    #[test]
    fn gates_may_begin_with_a_hyphen() {
        let both = "phoenix --feature-gates=receiver.hostmetrics.EmitV1SystemConventions,+receiver.hostmetrics.DontEmitV0SystemConventions";
        assert_eq!(command(both), Command::Run(Request { newer_names: true, ..Request::default() }, None));
        let none = "phoenix --feature-gates -receiver.hostmetrics.EmitV1SystemConventions";
        assert_eq!(command(none), Command::Run(Request::default(), None));
    }

    #[test]
    fn a_running_agent_is_asked_at_an_address() {
        let admin = |line: &str| match command(line) {
            Command::Admin(address, question) => (address, question),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(admin("phoenix profile"), (None, Question::Profiles));
        assert_eq!(admin("phoenix profile show --admin http://a:1"), (Some("http://a:1".into()), Question::Profiles));
        let set = Question::Choose { profile: "x".into(), expires_in: Some("10m".into()) };
        assert_eq!(admin("phoenix profile --admin a:1 set x --for 10m"), (Some("a:1".into()), set));
        assert_eq!(admin("phoenix explain --pid 7"), (None, Question::Pid(7)));
        assert_eq!(admin("phoenix explain --resource k=v").1, Question::Resource("k=v".into()));
        assert_eq!(command("phoenix top --endpoint http://a:1"), Command::Top(Some("http://a:1".into())));
        assert_eq!(command("phoenix top"), Command::Top(None));
        assert!(parsed("phoenix explain").is_err() && parsed("phoenix explain --pid 1 --resource a").is_err());
        let state = Command::Run(request(&[], &[]), Some("/s".into()));
        assert_eq!(command("phoenix --state-dir /s"), state);
    }

    #[test]
    fn packaging_and_support_are_asked_for() {
        assert_eq!(command("phoenix health"), Command::Health(None));
        assert_eq!(command("phoenix health --endpoint a:1/x"), Command::Health(Some("a:1/x".into())));
        assert_eq!(command("phoenix migrate c.yaml"), Command::Migrate("c.yaml".into()));
        assert!(parsed("phoenix migrate").is_err());
        let options = support_bundle::Options {
            admin: Some("a:1".into()),
            state_dir: Some("/s".into()),
            output: Some("o".into()),
        };
        let line = "phoenix --config c --state-dir /s support-bundle --admin a:1 --output o";
        assert_eq!(command(line), Command::SupportBundle(request(&["c"], &[]), options));
    }

    #[test]
    fn every_subcommand_that_is_shown_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        manual(folder.path()).unwrap();
        for sub in Cli::command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let page = std::fs::read_to_string(folder.path().join(format!("phoenix-{}.1", sub.get_name()))).unwrap();
            assert!(page.contains(".SH NAME"), "{}", sub.get_name());
        }
        assert!(std::fs::read_to_string(folder.path().join("phoenix.1")).unwrap().contains("support\\-bundle"));
    }

    #[test]
    fn completion_knows_the_subcommands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = completion(shell);
            assert!(script.contains("print-config") && script.contains("featuregate"), "{shell}");
        }
    }
}
