//! `docs/hostmetrics.md` says what the code says: its tables of metrics are the catalog, its block of defaults is `Default`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use phoenix_receivers::hostmetrics::catalog::{Attribute, Naming, Row, ValueType};
use phoenix_receivers::hostmetrics::config::Scrapers;
use phoenix_receivers::hostmetrics::{Config, catalog};
use phoenix_telemetry::Shape;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hostmetrics.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `key`: its values, in one naming.
fn attributes(attributes: &[Attribute], naming: Naming) -> String {
    let shown = attributes.iter().filter_map(|attribute| {
        let key = attribute.key(naming)?;
        let words: Vec<_> = attribute.members.iter().filter_map(|member| member.word(naming)).collect();
        Some(if words.is_empty() { format!("`{key}`") } else { format!("`{key}`: {}", words.join(", ")) })
    });
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join("; ") }
}

fn line(row: &Row) -> String {
    let shape = match row.shape {
        Shape::Gauge => "gauge",
        Shape::Sum { monotonic: true, .. } => "counter",
        _ => "up-down",
    };
    let value = if row.value == ValueType::Int { "int" } else { "double" };
    let on = if row.enabled { "yes" } else { "no" };
    let newer = attributes(row.attributes, Naming::V1);
    let Some(old) = row.v0 else {
        return format!("| - | {shape} {value} | | {on} | - | `{}`; {}; {newer} |", row.v1.name, row.v1.unit);
    };
    let older = attributes(row.attributes, Naming::V0);
    let mut changes = Vec::new();
    if row.v1.name != old.name {
        changes.push(format!("`{}`", row.v1.name));
    }
    if row.v1.unit != old.unit {
        changes.push(row.v1.unit.to_owned());
    }
    if newer != older {
        changes.push(newer);
    }
    let changes = if changes.is_empty() { "the same".to_owned() } else { changes.join("; ") };
    format!("| `{}` | {shape} {value} | {} | {on} | {older} | {changes} |", old.name, old.unit)
}

#[test]
fn the_tables_are_the_catalog() {
    let document = document();
    let mut lines: Vec<&str> = document.lines().collect();
    for row in catalog() {
        let wanted = line(row);
        let place = lines.iter().position(|line| *line == wanted);
        let place =
            place.unwrap_or_else(|| panic!("docs/hostmetrics.md lacks this line of `{}`:\n{wanted}", row.scraper));
        lines.remove(place);
    }
    let metrics = ["| `system.", "| `process.", "| - |"];
    let left: Vec<_> = lines.iter().filter(|line| metrics.iter().any(|start| line.starts_with(start))).collect();
    let left: Vec<_> = left.iter().filter(|line| line.matches(" | ").count() == 5).collect();
    assert!(left.is_empty(), "these metrics do not exist: {left:#?}");
}

#[test]
fn the_block_of_defaults_is_the_default() {
    let document = document();
    let (_, rest) = document.split_once("```yaml\n# defaults\n").expect("a block of defaults");
    let (block, _) = rest.split_once("```").unwrap();
    let documented: serde_yaml::Value = serde_yaml::from_str(block).unwrap();
    let scrapers = Scrapers {
        cpu: Some(Default::default()),
        disk: Some(Default::default()),
        filesystem: Some(Default::default()),
        load: Some(Default::default()),
        memory: Some(Default::default()),
        network: Some(Default::default()),
        paging: Some(Default::default()),
        process: Some(Default::default()),
        processes: Some(Default::default()),
        system: Some(Default::default()),
        nfs: None,
        hardware: None,
    };
    let actual = serde_yaml::to_value(Config { scrapers, ..Config::default() }).unwrap();
    let actual = serde_yaml::Value::Mapping([("hostmetrics".into(), actual)].into_iter().collect());
    assert_eq!(documented, actual, "{}", serde_yaml::to_string(&actual).unwrap());
}
