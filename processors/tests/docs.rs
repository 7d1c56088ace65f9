//! The documentation cannot drift: the defaults in `docs/processors.md` are those of the code.

use std::collections::BTreeMap;
use std::fs;

use phoenix_processors::PROCESSORS;

/// The `# defaults` block of every section, by the section's name.
fn documented(text: &str) -> BTreeMap<String, serde_yaml::Value> {
    let mut blocks = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let Some(name) = section.strip_prefix('`').and_then(|rest| rest.split('`').next()) else { continue };
        let block = section.split("```yaml\n# defaults\n").nth(1).and_then(|rest| rest.split("\n```").next());
        let block = block.unwrap_or_else(|| panic!("{name} has no block of defaults"));
        let value = serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(blocks.insert(name.to_owned(), value).is_none(), "{name} is documented twice");
    }
    blocks
}

#[test]
fn the_documented_defaults_are_those_of_the_code() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/processors.md")).unwrap();
    let mut documented = documented(&text);
    for factory in PROCESSORS {
        let block = documented.remove(factory.name).unwrap_or_else(|| panic!("{} is not documented", factory.name));
        let defaults = (factory.defaults)();
        let shown = serde_yaml::to_string(&defaults).unwrap();
        assert_eq!(block, defaults, "the defaults of {} are:\n{shown}", factory.name);
    }
    assert!(documented.is_empty(), "documented and not there: {:?}", documented.keys());
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = PROCESSORS
        .iter()
        .flat_map(|factory| [factory.name].into_iter().chain(factory.aliases.iter().copied()))
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
