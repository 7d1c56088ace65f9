//! The documentation cannot drift: every component has its place in `docs`, the defaults in `docs/configuration.md` are
//! those of the code, and every link leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use phoenix_pipeline::Factory;
use phoenix_transport::tls::ServerTlsSettings;
use serde::Serialize;
use serde_yaml::Value;

use super::telemetry::{PrometheusPage, Telemetry};
use crate::components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn reference() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

/// Compares the block `# TITLE` under the heading `` `NAME` `` with what the code says.
fn check(name: &str, title: &str, defaults: impl Serialize) {
    let defaults = serde_yaml::to_value(defaults).unwrap();
    let text = reference();
    let section = text.split("\n## ").find_map(|section| section.strip_prefix(&format!("`{name}`\n")));
    let section = section.unwrap_or_else(|| panic!("{name} has no heading"));
    let block = section.split(&format!("```yaml\n# {title}\n")).nth(1).and_then(|rest| rest.split("\n```").next());
    let block = block.unwrap_or_else(|| panic!("{name} has no block `# {title}`"));
    let documented: Value = serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{name}: {error}"));
    let shown = serde_yaml::to_string(&defaults).unwrap();
    assert_eq!(documented, defaults, "{name}, {title}: the code has\n{shown}");
}

#[test]
fn the_documented_defaults_are_those_of_the_code() {
    check("service.telemetry", "defaults", Telemetry::default());
    check("service.telemetry", "defaults of readers.pull.exporter.prometheus", PrometheusPage::default());
    check("tls", "defaults of a server", ServerTlsSettings::default());
    for factory in EXTENSIONS {
        check(factory.name, "defaults", (factory.defaults)());
    }
}

/// The first two columns of a component's row in the index.
fn rows<C>(kind: &str, table: &[Factory<C>]) -> Vec<String> {
    let names = |factory: &Factory<C>| {
        let names = [factory.name].into_iter().chain(factory.aliases.iter().copied());
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    table.iter().map(|factory| format!("| {} | {kind} | [", names(factory))).collect()
}

#[test]
fn every_component_stands_in_the_index_and_nothing_else() {
    let text = reference();
    let index = text.split("\n## ").find(|section| section.starts_with("Components\n")).expect("an index");
    let mut lines: Vec<&str> = index.lines().filter(|line| line.starts_with("| `")).collect();
    let tables = [
        rows("receiver", RECEIVERS),
        rows("processor", PROCESSORS),
        rows("exporter", EXPORTERS),
        rows("extension", EXTENSIONS),
    ];
    for row in tables.concat() {
        let place = lines.iter().position(|line| line.starts_with(&row));
        lines.remove(place.unwrap_or_else(|| panic!("the index lacks a line that begins with {row}")));
    }
    assert!(lines.is_empty(), "these do not exist: {lines:#?}");
}

/// The lines of a page that are text, not code.
fn prose(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    text.split("```").step_by(2).flat_map(str::lines).map(str::to_owned).collect()
}

/// The anchors of a page's headings, made as GitHub makes them.
fn anchors(page: &Path) -> Vec<String> {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |heading: &str| heading.trim().to_lowercase().replace(|c| !kept(c), "").replace(' ', "-");
    let headings = prose(page).into_iter().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut lost = Vec::new();
    for page in pages.chain([root().join("README.md")]) {
        let text = prose(&page).join("\n");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let found = target.exists()
                && anchor.is_none_or(|anchor| anchors(&target).iter().any(|known| known.as_str() == anchor));
            if !found {
                lost.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}
