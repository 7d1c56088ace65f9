//! Actions on real bytes against the same actions on a map, and the mistakes of configurations.

use std::collections::BTreeMap;

use phoenix_telemetry::{Batch, BatchBuilder, Descriptor, Number, Shape};
use proptest::prelude::*;

use super::*;

fn actions(text: &str) -> Result<Actions, String> {
    let configs: Vec<ActionConfig> = serde_yaml::from_str(text).unwrap();
    let mut flaws = Flaws::default();
    let actions = Actions::new("actions", &configs, &mut flaws);
    flaws.none_or(actions).map_err(|error| error.to_string())
}

fn batch(attributes: &[(&str, ConfigValue)]) -> Batch {
    let mut builder = BatchBuilder::new();
    let attributes: Vec<(&str, AnyValue<'_>)> = attributes.iter().map(|(key, value)| (*key, value.as_any())).collect();
    let descriptor = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
    builder.resource().scope("s", "").metric(&descriptor).point(0, 1, Number::Int(1), &attributes);
    builder.finish()
}

/// The attributes of the only point, after a round over the wire.
fn attributes(batch: &Batch) -> BTreeMap<String, ConfigValue> {
    let batch = Batch::decode(batch.encode(), &Default::default()).unwrap();
    let point = batch.series().next().unwrap();
    let held = |value| match Held::of(value) {
        Some(Held::Scalar(value)) => value,
        other => panic!("no scalar: {other:?}"),
    };
    point.attributes().iter().map(|(key, value)| (key.to_owned(), held(value))).collect()
}

fn run(text: &str, before: &[(&str, ConfigValue)]) -> BTreeMap<String, ConfigValue> {
    let actions = actions(text).unwrap();
    let mut batch = batch(before);
    let id = batch.series().next().unwrap().id();
    batch.edit_point(id, |edits| actions.apply(edits));
    attributes(&batch)
}

fn text(text: &str) -> ConfigValue {
    ConfigValue::Str(text.to_owned())
}

#[test]
fn delete_takes_the_key_and_what_matches_the_pattern() {
    let before = [("a", text("1")), ("tmp.x", text("2")), ("x.tmp", text("3")), ("b", text("4"))];
    let after = run("[{key: b, pattern: ^tmp, action: delete}]", &before);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["a", "x.tmp"]);
    let after = run("[{pattern: tmp, action: DELETE}]", &before);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn extract_names_attributes_by_groups() {
    let list = r"[{key: url, pattern: '^(?P<scheme>\w+)://(?P<host>[^:/]+)(?P<port>:\d+)?', action: extract}]";
    let after = run(list, &[("url", text("https://example.org/x")), ("scheme", text("old"))]);
    assert_eq!(after["scheme"], text("https"));
    assert_eq!(after["host"], text("example.org"));
    assert_eq!(after["port"], text(""), "a group that took no part");
    assert_eq!(run(list, &[("url", text("nothing"))]).len(), 1);
    assert_eq!(run(list, &[("url", ConfigValue::Int(1))]).len(), 1, "only strings");
}

#[test]
fn convert_changes_the_type_where_the_value_allows_it() {
    let convert = |to: &str, value: ConfigValue| {
        run(&format!("[{{key: k, action: convert, converted_type: {to}}}]"), &[("k", value)])["k"].clone()
    };
    assert_eq!(convert("int", text("42")), ConfigValue::Int(42));
    assert_eq!(convert("int", text("4x")), text("4x"), "left as it is");
    assert_eq!(convert("int", ConfigValue::Double(-1.9)), ConfigValue::Int(-1));
    assert_eq!(convert("int", ConfigValue::Bool(true)), ConfigValue::Int(1));
    assert_eq!(convert("double", text("0.5")), ConfigValue::Double(0.5));
    assert_eq!(convert("double", ConfigValue::Int(2)), ConfigValue::Double(2.0));
    assert_eq!(convert("string", ConfigValue::Int(7)), text("7"));
    assert_eq!(convert("string", ConfigValue::Bool(false)), text("false"));
}

#[test]
fn mistakes_are_said() {
    let wrong = |list: &str| actions(list).unwrap_err();
    assert!(wrong("[]").contains("at least one action"));
    assert!(wrong("[{key: a}]").contains("actions[0].action: must be set"));
    assert!(wrong("[{action: insert, value: 1}]").contains("actions[0].key"));
    assert!(wrong("[{action: delete}]").contains("key, pattern or both"));
    assert!(wrong("[{key: a, action: insert}]").contains("one of value and from_attribute"));
    assert!(wrong("[{key: a, action: update, value: 1, from_attribute: b}]").contains("only one of"));
    assert!(wrong("[{key: a, action: upsert, from_context: x}]").contains("from_context: is not served"));
    assert!(wrong("[{key: a, action: delete, value: 1}]").contains("value: has no meaning"));
    assert!(wrong("[{key: a, action: insert, value: 1, pattern: x}]").contains("pattern: has no meaning"));
    assert!(wrong("[{key: a, action: delete, pattern: '('}]").contains("unclosed group"));
    assert!(wrong("[{key: a, action: extract}]").contains("named groups"));
    assert!(wrong("[{key: a, action: extract, pattern: '(x)'}]").contains("each with a name"));
    assert!(wrong("[{key: a, action: convert}]").contains("string, int or double"));
    assert!(wrong("[{key: a, action: hash}]").contains("hash is not served"));
    let both = wrong("[{key: a, action: hash}, {key: b}]");
    assert!(both.contains("actions[0]") && both.contains("actions[1]"), "{both}");
}

/// What an action does to a map: the law for the bytes.
fn model(map: &mut BTreeMap<String, ConfigValue>, config: &ActionConfig) {
    let value = config.value.clone().or_else(|| map.get(&config.from_attribute).cloned());
    let there = map.contains_key(&config.key);
    match (config.action, value) {
        (Some(Action::Insert), Some(value)) if !there => drop(map.insert(config.key.clone(), value)),
        (Some(Action::Update), Some(value)) if there => drop(map.insert(config.key.clone(), value)),
        (Some(Action::Upsert), Some(value)) => drop(map.insert(config.key.clone(), value)),
        (Some(Action::Delete), _) => {
            map.remove(&config.key);
            if !config.pattern.is_empty() {
                let letter = config.pattern.trim_start_matches('^');
                map.retain(|key, _| !key.starts_with(letter));
            }
        }
        _ => {}
    }
}

fn key() -> impl Strategy<Value = String> {
    "[abc][12]?"
}

fn some_value() -> impl Strategy<Value = ConfigValue> {
    prop_oneof![
        "[a-z]{0,200}".prop_map(ConfigValue::Str),
        any::<i64>().prop_map(ConfigValue::Int),
        any::<bool>().prop_map(ConfigValue::Bool),
        (-1e9..1e9f64).prop_map(ConfigValue::Double),
    ]
}

fn some_action() -> impl Strategy<Value = ActionConfig> {
    let set = || (key(), prop::sample::select(vec![Action::Insert, Action::Update, Action::Upsert]));
    let valued = (set(), some_value()).prop_map(|((key, action), value)| ActionConfig {
        key,
        action: Some(action),
        value: Some(value),
        ..ActionConfig::default()
    });
    let copied = (set(), key()).prop_map(|((key, action), from_attribute)| ActionConfig {
        key,
        action: Some(action),
        from_attribute,
        ..ActionConfig::default()
    });
    let deleted = (key(), prop::option::of("[abc]")).prop_map(|(key, letter)| ActionConfig {
        key,
        action: Some(Action::Delete),
        pattern: letter.map(|letter| format!("^{letter}")).unwrap_or_default(),
        ..ActionConfig::default()
    });
    prop_oneof![3 => valued, 2 => copied, 1 => deleted]
}

proptest! {
    #[test]
    fn actions_on_bytes_do_what_they_do_to_a_map(
        before in prop::collection::btree_map(key(), some_value(), 0..5),
        configs in prop::collection::vec(some_action(), 1..8),
    ) {
        let mut flaws = Flaws::default();
        let actions = Actions::new("actions", &configs, &mut flaws);
        let actions = flaws.none_or(actions).unwrap();
        let pairs: Vec<(&str, ConfigValue)> = before.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let mut batch = batch(&pairs);
        let id = batch.series().next().unwrap().id();
        batch.edit_point(id, |edits| actions.apply(edits));
        let mut map = before;
        configs.iter().for_each(|config| model(&mut map, config));
        prop_assert_eq!(attributes(&batch), map);
    }
}
