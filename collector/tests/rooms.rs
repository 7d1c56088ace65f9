//! Which crate may import which: the architecture's table, held against `cargo metadata`.

use std::collections::BTreeMap;
use std::process::Command;

/// Room, and what of ours it may depend on. Tests and benches may use more.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("phoenix-telemetry", &[]),
    ("phoenix-sketch", &[]),
    ("phoenix-control", &[]),
    ("phoenix-storage", &[]),
    ("phoenix-pipeline", &["phoenix-telemetry"]),
    ("phoenix-transport", &["phoenix-pipeline"]),
    ("phoenix-processors", &["phoenix-control", "phoenix-pipeline", "phoenix-sketch", "phoenix-telemetry"]),
    ("phoenix-receivers", &["phoenix-pipeline", "phoenix-telemetry", "phoenix-transport"]),
    ("phoenix-exporters", &["phoenix-pipeline", "phoenix-storage", "phoenix-telemetry", "phoenix-transport"]),
    ("phoenix", EVERY_ROOM),
    ("phoenix-benches", EVERY_ROOM),
    ("phoenix-faults", &[]),
    ("phoenix-race", &["phoenix-benches", "phoenix-telemetry"]),
];

/// What stands above all rooms may use each of them.
const EVERY_ROOM: &[&str] = &[
    "phoenix-control",
    "phoenix-exporters",
    "phoenix-pipeline",
    "phoenix-processors",
    "phoenix-receivers",
    "phoenix-sketch",
    "phoenix-storage",
    "phoenix-telemetry",
    "phoenix-transport",
];

#[test]
fn every_room_imports_only_what_the_architecture_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages: BTreeMap<&str, Vec<&str>> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let ours = package["dependencies"].as_array().expect("dependencies").iter();
            let ours = ours.filter(|dependency| dependency["kind"].is_null()).filter_map(|d| d["name"].as_str());
            (package["name"].as_str().expect("name"), ours.filter(|name| name.starts_with("phoenix")).collect())
        })
        .collect();
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    assert_eq!(
        packages.keys().collect::<Vec<_>>(),
        rules.keys().collect::<Vec<_>>(),
        "every room stands in the table, and every row of the table is a room"
    );
    for (room, imports) in packages {
        for import in imports {
            assert!(rules[room].contains(&import), "{room} must not import {import} (docs/architecture.md)");
        }
    }
}
