//! Wrong configs and the exact words about them: `tests/golden/NAME.yaml` and what `phoenix validate` says, `NAME.txt`.
//!
//! A config may begin with comments that say how it is run: `# flags: --set a=b`, `# env: NAME=value`. With
//! `BLESS=1` in the environment the texts are written anew; read the difference before you keep it.

#![allow(clippy::expect_used, reason = "a failing helper is a failing test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn phoenix(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phoenix"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).current_dir(folder());
    command.output().expect("phoenix runs")
}

/// The values of the comments `# WORD: ...` at the top.
fn directives<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    let prefix = format!("# {word}: ");
    text.lines().take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix(&prefix)).collect()
}

#[test]
fn every_wrong_config_is_answered_in_these_words() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{} configs", names.len());
    let mut different = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).expect("a config");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let variables: Vec<(&str, &str)> =
            directives(&text, "env").into_iter().filter_map(|line| line.split_once('=')).collect();
        let mut arguments = vec!["validate", "--config", name];
        arguments.extend(directives(&text, "flags").into_iter().flat_map(|line| line.split(' ')));
        let output = phoenix(&arguments, &variables);
        let found = String::from_utf8(output.stderr).expect("text");
        let right = name.starts_with("right");
        assert_eq!(output.status.code(), Some(i32::from(!right)), "{name}: {found}");
        assert!(output.stdout.is_empty(), "{name}: validate prints nothing on the standard output");
        let golden = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &found).expect("written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            different.push(format!("{name}\n--- expected\n{expected}--- found\n{found}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn print_config_shows_the_resolved_config_without_its_secrets() {
    let variables = [("TOKEN", "hunter2")];
    let redacted = phoenix(&["print-config", "--config", "right-all.yaml"], &variables);
    let shown = String::from_utf8(redacted.stdout).expect("text");
    assert!(redacted.status.success(), "{}", String::from_utf8_lossy(&redacted.stderr));
    assert!(!shown.contains("hunter2") && shown.contains("api-key: '[REDACTED]'"), "{shown}");
    assert!(shown.contains("endpoint: https://backend:4318"), "references are followed: {shown}");

    let arguments = [
        "print-initial-config",
        "--mode=unredacted",
        "--format=json",
        "--config=right-all.yaml",
        "--set=processors.batch.timeout=3s",
    ];
    let all = phoenix(&arguments, &variables);
    let value: serde_json::Value = serde_json::from_slice(&all.stdout).expect("JSON");
    assert_eq!(value["exporters"]["otlp_http"]["headers"]["api-key"], "hunter2");
    assert_eq!(value["processors"]["batch"]["timeout"], "3s");

    let wrong = phoenix(&["print-config", "--config", "unknown-keys.yaml"], &[]);
    assert_eq!(wrong.status.code(), Some(1));
    let unchecked = phoenix(&["print-config", "--config", "unknown-keys.yaml", "--validate=false"], &[]);
    assert!(unchecked.status.success());
}

#[test]
fn the_embedded_default_is_right_and_can_be_printed() {
    let output = phoenix(&["validate"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = phoenix(&["print-config"], &[]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("localhost:8889"));
}
