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
fn the_documented_prices_and_defaults_of_cost_are_those_of_the_code() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cost.md")).unwrap();
    let block = text.split("```yaml\n# defaults\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
    let block: serde_yaml::Value = serde_yaml::from_str(block).unwrap();
    assert_eq!(block, serde_yaml::to_value(phoenix_processors::cost::Config::default()).unwrap());
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for model in phoenix_processors::cost::MODELS {
        let row = rows.iter().find(|row| row.get(1) == Some(&format!("`{}`", model.name).as_str()));
        let price = row.unwrap_or_else(|| panic!("{} is not documented", model.name))[3];
        let mut words = price.split(" for ");
        assert_eq!(words.next().unwrap().parse::<f64>().unwrap(), model.price, "{}", model.name);
        let per = match words.next() {
            None => 1.0,
            Some("a million") => 1e6,
            Some("10 million") => 10e6,
            Some(number) => number.replace(',', "").parse().unwrap(),
        };
        assert_eq!(per, model.per, "{}", model.name);
    }
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
