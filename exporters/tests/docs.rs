//! The documentation cannot drift: the keys and defaults in `docs/exporters.md` are those of the code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use phoenix_exporters::{EXPORTERS, file, otlp, prometheus, sending};
use phoenix_pipeline::config;
use serde::Serialize;
use serde_yaml::{Mapping, Value};

/// The section with the keys of both OTLP exporters.
const SHARED: &str = "Both OTLP exporters";

/// The text of every section, by its heading.
fn sections() -> BTreeMap<String, String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/exporters.md")).unwrap();
    let section = |section: &str| {
        let (heading, text) = section.split_once('\n').unwrap();
        (heading.trim_matches('`').to_owned(), text.to_owned())
    };
    text.split("\n## ").skip(1).map(section).collect()
}

/// The yaml block that begins with `# TITLE`.
fn block(section: &str, title: &str) -> Mapping {
    let block = section.split(&format!("```yaml\n# {title}\n")).nth(1).and_then(|rest| rest.split("\n```").next());
    let block = block.unwrap_or_else(|| panic!("there is no block `# {title}`"));
    serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{title}: {error}"))
}

/// The keys the exporter knows, whether they have a default or not.
fn keys(validate: fn(&config::Value) -> Vec<config::Mistake>) -> Vec<String> {
    let unknown = config::parse("docs", "no_such_key: 1").unwrap();
    validate(&unknown).into_iter().find_map(|mistake| mistake.help).unwrap().allowed
}

#[test]
fn the_documented_keys_and_defaults_are_those_of_the_code() {
    let mut sections = sections();
    let shared = sections.remove(SHARED).unwrap();
    for factory in EXPORTERS {
        let name = factory.name;
        let mut text = sections.remove(name).unwrap_or_else(|| panic!("{name} is not documented"));
        let mut documented = block(&text, "defaults");
        if name.starts_with("otlp") {
            documented.extend(block(&shared, "defaults"));
            text.push_str(&shared);
        }
        let defaults = (factory.defaults)();
        let shown = serde_yaml::to_string(&defaults).unwrap();
        for key in keys(factory.validate) {
            let named = documented.contains_key(key.as_str()) || text.contains(&format!("`{key}`"));
            assert!(named, "{key} of {name} is not documented");
        }
        assert_eq!(Value::Mapping(documented), defaults, "the defaults of {name} are:\n{shown}");
    }
    assert!(sections.is_empty(), "documented and not there: {:?}", sections.keys());
}

#[test]
fn the_documented_defaults_of_optional_blocks_are_those_of_the_code() {
    fn check(section: &str, path: &str, defaults: impl Serialize) {
        let defaults = serde_yaml::to_value(defaults).unwrap();
        let documented = Value::Mapping(block(&sections()[section], &format!("defaults of {path}")));
        assert_eq!(documented, defaults, "the defaults of {path} are:\n{}", serde_yaml::to_string(&defaults).unwrap());
    }
    check("otlp_grpc", "keepalive", otlp::grpc::Keepalive::default());
    check(SHARED, "sending_queue.batch", sending::BatchSettings::default());
    check("prometheus", "resource_constant_labels", prometheus::Patterns::default());
    check("file", "rotation", file::Rotation::default());
}
