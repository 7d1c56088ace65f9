//! The documentation cannot drift: the keys and defaults in `docs/receivers.md` are those of the code.

use phoenix_receivers::otlp::{Config, FACTORY, Grpc, Http, Keepalive};
use serde::Serialize;
use serde_yaml::Value;

fn documented(title: &str) -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/receivers.md")).unwrap();
    let block = text.split(&format!("```yaml\n# {title}\n")).nth(1).and_then(|rest| rest.split("\n```").next());
    serde_yaml::from_str(block.unwrap_or_else(|| panic!("there is no block `# {title}`"))).unwrap()
}

fn check(title: &str, defaults: impl Serialize) {
    let defaults = serde_yaml::to_value(defaults).unwrap();
    assert_eq!(documented(title), defaults, "{title}:\n{}", serde_yaml::to_string(&defaults).unwrap());
}

#[test]
fn the_documented_defaults_are_those_of_the_code() {
    assert_eq!((FACTORY.defaults)(), serde_yaml::to_value(Config::default()).unwrap());
    check("defaults", Config::default());
    check("defaults of protocols.grpc", Grpc::default());
    check("defaults of protocols.http", Http::default());
    assert_eq!(
        documented("defaults of protocols.grpc")["keepalive"],
        serde_yaml::to_value(Keepalive::default()).unwrap()
    );
}
