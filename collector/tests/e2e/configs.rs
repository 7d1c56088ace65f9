//! Every ready config is valid, and the embedded one is the one in the catalog.

use std::path::PathBuf;

use crate::harness::{agent, finish};

fn catalog() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))
}

/// The variables a config names without a default: `${env:NAME}`.
fn variables(text: &str) -> Vec<String> {
    let named = text.split("${env:").skip(1).filter_map(|rest| rest.split('}').next());
    named.filter(|name| !name.contains(":-")).map(str::to_owned).collect()
}

#[test]
fn every_file_validates() {
    let folders = [catalog(), catalog().join("catalog"), catalog().join("environments"), catalog().join("../docker")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("configs/").flatten());
    let entries = entries.map(|entry| entry.path());
    let files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "yaml") && !path.ends_with("compose.yaml"))
        .collect();
    assert!(files.len() >= 15, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a readable config");
        let mut command = agent();
        command.arg("validate").arg("--config").arg(&path);
        command.envs(variables(&text).into_iter().map(|name| (name, "any-value")));
        let output = finish(&mut command);
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_embedded_default_is_the_catalogs() {
    let embedded = finish(agent().arg("print-config"));
    let file = finish(agent().arg("print-config").arg("--config").arg(catalog().join("default.yaml")));
    assert!(embedded.status.success() && file.status.success(), "{embedded:?} {file:?}");
    let (embedded, file) = (String::from_utf8_lossy(&embedded.stdout), String::from_utf8_lossy(&file.stdout));
    assert!(embedded.contains("hostmetrics") && embedded.contains("8889"), "{embedded}");
    assert_eq!(embedded, file);
}
