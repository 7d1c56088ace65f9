//! The command line from outside: what is printed where, and the exit status.

#![allow(clippy::expect_used, reason = "a failing helper is a failing test")]

use std::process::{Command, Output};

fn phoenix(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_phoenix")).args(arguments).env_clear().output().expect("phoenix runs");
    (status.code(), String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"))
}

#[test]
fn answers_go_to_the_standard_output_with_status_0() {
    for (arguments, part) in [
        (&["--version"][..], "phoenix version "),
        (&["--help"], "Usage: phoenix"),
        (&["help", "print-config"], "--mode"),
        (&["components"], "hostmetrics"),
        (&["completion", "bash"], "complete -F"),
        (&["completion", "fish"], "complete -c phoenix"),
        (&["featuregate"], "receiver.hostmetrics.EmitV1SystemConventions"),
    ] {
        let (status, out, err) = phoenix(arguments);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(out.contains(part), "{arguments:?}: {out}");
    }
}

#[test]
fn mistakes_go_to_the_standard_error_with_status_1() {
    for (arguments, part) in [
        (&["--confg", "x"][..], "--config"),
        (&["validat"], "validate"),
        (&["--config", "does-not-exist.yaml"], "cannot read the file does-not-exist.yaml: it does not exist"),
        (&["validate", "--config", "https://example.com/x.yaml"], "not fetched over https"),
        (&["--feature-gates", "no.such.gate"], "no such feature gate"),
        (&["featuregate", "no.such.gate"], "no such feature gate"),
        (&["--set", "x"], "write --set path.to.key=value"),
        (&["top"], "draws on a terminal"),
    ] {
        let (status, out, err) = phoenix(arguments);
        assert_eq!((status, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
}

#[test]
fn components_are_yaml_in_the_collectors_shape() {
    let (_, out, _) = phoenix(&["components"]);
    let value: serde_yaml::Value = serde_yaml::from_str(&out).expect("YAML");
    assert_eq!(value["buildinfo"]["version"], env!("CARGO_PKG_VERSION"));
    for kind in ["receivers", "processors", "exporters", "extensions", "providers"] {
        assert!(value[kind].as_sequence().is_some_and(|rows| !rows.is_empty()), "{kind}: {out}");
    }
    let stability = &value["exporters"][0]["stability"]["metrics"];
    assert!(stability.is_string(), "{out}");
}
