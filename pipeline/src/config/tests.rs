//! What reading a block of configuration promises: marks, paths, all mistakes at once, null as default.

use super::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    #[serde(with = "duration")]
    interval: Duration,
    #[serde(with = "duration::option")]
    pause: Option<Duration>,
    limit: u32,
    ratio: f64,
    on: bool,
    name: String,
    level: Level,
    token: Secret,
    headers: Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<Block>,
    queue: Block,
    maybe: Option<u64>,
    metrics: BTreeMap<String, Block>,
    rules: Vec<Rule>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            pause: None,
            limit: 7,
            ratio: 0.5,
            on: true,
            name: "sample".into(),
            level: Level::Normal,
            token: Secret::default(),
            headers: Headers::default(),
            grpc: None,
            queue: Block { enabled: true, size: 1000 },
            maybe: Some(3),
            metrics: BTreeMap::new(),
            rules: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Normal,
    Detailed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Block {
    enabled: bool,
    size: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    class: String,
    #[serde(default)]
    matches: Vec<String>,
}

impl Settings for Sample {
    fn check(&self, report: &mut Report<'_>) {
        if self.limit == 0 {
            report.error("limit", "must be over 0");
        }
        if self.queue.size == 0 {
            report.within("queue", |report| report.error("size", "must be over 0"));
        }
        if self.metrics.get("process.cpu.time").is_some_and(|block| block.size == 9) {
            report.error("metrics.process.cpu.time.size", "9 is not allowed");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if !["a", "bulk"].contains(&rule.class.as_str()) {
                report.unknown(&format!("rules[{index}].class"), &rule.class, ["a", "bulk"]);
            }
        }
    }
}

fn sample(text: &str) -> Result<Sample, Vec<String>> {
    let value = parse("t.yaml", text).expect("valid YAML");
    read(&value).map_err(lines)
}

fn lines(mistakes: Vec<Mistake>) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

fn syntax(text: &str) -> Vec<String> {
    lines(parse("t.yaml", text).expect_err("wrong YAML"))
}

#[test]
fn all_mistakes_come_out_at_once_with_their_places() {
    let found = sample(
        "intervall: 5s\ninterval: 10\nlimit: -1\non: \"true\"\nlevel: detaild\nqueue:\n  size: big\n  sise: 1\nmetrics:\n  process.cpu.time: {enabld: true}\nrules:\n  - class: a\n  - klass: b\nratio: [1]\n",
    );
    assert_eq!(
        found.unwrap_err(),
        [
            "t.yaml:1:1: intervall: unknown key; did you mean \"interval\"? known keys: interval, pause, limit, ratio, on, name, level, token, headers, grpc, queue, maybe, metrics, rules",
            "t.yaml:2:11: interval: the duration \"10\" has no unit; write 10s for seconds (units: ns, us, ms, s, m, h)",
            "t.yaml:3:8: limit: found the number -1, expected a whole number from 0 to 4294967295",
            "t.yaml:4:5: on: found the string \"true\", expected a boolean; write it without quotes",
            "t.yaml:5:8: level: \"detaild\" is not allowed here; did you mean \"detailed\"? allowed: normal, detailed",
            "t.yaml:7:9: queue::size: found the string \"big\", expected a whole number, 0 or more",
            "t.yaml:8:3: queue::sise: unknown key; did you mean \"size\"? known keys: enabled, size",
            "t.yaml:10:22: metrics::process.cpu.time::enabld: unknown key; did you mean \"enabled\"? known keys: enabled, size",
            "t.yaml:13:5: rules[1]::klass: unknown key; did you mean \"class\"? known keys: class, matches",
            "t.yaml:14:8: ratio: found a list, expected a number",
        ]
    );
}

#[test]
fn null_means_as_if_not_written() {
    let empty =
        "interval:\npause:\nlimit:\nratio: ~\non:\nname:\nlevel:\ntoken:\nheaders:\nqueue:\nmaybe:\nmetrics:\nrules:\n";
    assert_eq!(sample(empty), Ok(Sample::default()));
    assert_eq!(sample(""), Ok(Sample::default()));
    let grpc = sample("grpc:\nmetrics: {system.cpu.time: }\n").unwrap();
    assert_eq!(grpc.grpc, Some(Block::default()), "a named block is there");
    assert_eq!(grpc.metrics.get("system.cpu.time"), Some(&Block::default()));
}

#[test]
fn numbers_keep_their_spelling_where_text_is_wanted() {
    let read = |text: &str| sample(&format!("name: {text}")).unwrap().name;
    assert_eq!(read("0123"), "0123");
    assert_eq!(read("1e3"), "1e3");
    assert_eq!(read("True"), "True");
    assert_eq!(sample("headers: {x-id: 007, y: }").unwrap().headers.get("X-Id"), Some(&Secret::new("007")));
    assert_eq!(sample("limit: 0x10").unwrap().limit, 16);
    assert_eq!(sample("limit: 1e3").unwrap().limit, 1000);
    assert!(sample("limit: 1.5").is_err());
    assert_eq!(sample("maybe: 18446744073709551615").unwrap().maybe, Some(u64::MAX));
}

#[test]
fn checks_find_their_place_and_stay_quiet_about_what_was_left_out() {
    assert_eq!(
        sample("limit: 0\nqueue: {size: 0}\nmetrics:\n  process.cpu.time:\n    size: 9\nrules:\n  - class: bulky\n")
            .unwrap_err(),
        [
            "t.yaml:1:8: limit: must be over 0",
            "t.yaml:2:15: queue::size: must be over 0",
            "t.yaml:5:11: metrics::process.cpu.time::size: 9 is not allowed",
            "t.yaml:7:12: rules[0]::class: \"bulky\" is not allowed here; did you mean \"bulk\"? allowed: a, bulk",
        ]
    );
    // The size is there but wrong, so nothing is said about its being 0 for that reason.
    let queue = sample("queue: {enabled: true, size: x}\nlimit: 0").unwrap_err();
    assert_eq!(queue.len(), 2, "{queue:?}");
    assert!(sample("queue: {enabled: true}").unwrap_err()[0].contains("queue::size: must be over 0"));
}

#[test]
fn required_keys_are_named() {
    assert_eq!(sample("rules: [{matches: [a]}]").unwrap_err(), ["t.yaml:1:9: rules[0]: the key \"class\" is required"]);
    assert_eq!(sample("rules: [{class: }]").unwrap_err(), ["t.yaml:1:9: rules[0]: the key \"class\" is required"]);
}

#[test]
fn secrets_are_not_shown() {
    let settings = sample("token: hunter2\nheaders: {api-key: hunter2}").unwrap();
    assert_eq!(settings.token.reveal(), "hunter2");
    let shown = format!("{settings:?}{}", serde_yaml::to_string(&settings).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let mut value = parse("t.yaml", "limit: hunter2").unwrap();
    if let Kind::Map(entries) = &mut value.kind {
        entries[0].1.mark.origin = Some("${env:TOKEN}".into());
    }
    assert_eq!(
        lines(read::<Sample>(&value).unwrap_err()),
        ["t.yaml:1:8 (${env:TOKEN}): limit: found a string, expected a whole number from 0 to 4294967295"]
    );
    for text in ["headers: hunter2", "headers: {a: [hunter2]}", "token: [hunter2]"] {
        let found = sample(text).unwrap_err().join("\n");
        assert!(!found.contains("hunter2"), "{found}");
    }
    for text in ["interval: hunter2", "level: hunter2", "rules: [{class: hunter2}]"] {
        let mut value = parse("t.yaml", text).unwrap();
        through(&mut value);
        let found = lines(read::<Sample>(&value).unwrap_err()).join("\n");
        assert!(!found.contains("hunter2") && found.contains("the value"), "{found}");
    }
}

/// Makes every value one that came through a variable.
fn through(value: &mut Value) {
    value.mark.origin = Some("${env:TOKEN}".into());
    match &mut value.kind {
        Kind::Seq(items) => items.iter_mut().for_each(through),
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| through(value)),
        _ => {}
    }
}

#[test]
fn headers_as_map_or_list() {
    let listed = sample("headers: [{name: a, value: 1}, {name: b, value: x}]").unwrap();
    assert_eq!(listed.headers, sample("headers: {a: 1, b: x}").unwrap().headers);
    assert!(sample("headers: {a: 1, A: 2}").unwrap_err()[0].contains("set twice"));
}

#[test]
fn defaults_read_back_equal() {
    let text = serde_yaml::to_string(&Sample::default()).unwrap();
    assert_eq!(sample(&text), Ok(Sample::default()));
    let value = parse("t.yaml", &text).unwrap();
    assert_eq!(Value::from_yaml(&value.to_yaml(), &value.mark), value);
}

#[test]
fn yaml_types() {
    for (text, kind) in [
        ("", Kind::Null),
        ("~", Kind::Null),
        ("yes", Kind::String("yes".into())),
        ("TRUE", Kind::Bool(true)),
        ("1_000", Kind::Int(1000)),
        ("-0b11", Kind::Int(-3)),
        ("0o17", Kind::Int(15)),
        ("017", Kind::Int(15)),
        ("0", Kind::Int(0)),
        ("-9223372036854775808", Kind::Int(i64::MIN)),
        ("9223372036854775808", Kind::Float(9_223_372_036_854_775_808.0)),
        ("1.5", Kind::Float(1.5)),
        (".5e-1", Kind::Float(0.05)),
        ("1e", Kind::String("1e".into())),
        (".", Kind::String(".".into())),
        ("1.2.3.4", Kind::String("1.2.3.4".into())),
        ("10s", Kind::String("10s".into())),
        ("-", Kind::String("-".into())),
        ("089", Kind::Float(89.0)),
    ] {
        assert_eq!(scalar(text), kind, "{text}");
    }
}

#[test]
fn anchors_and_merge_keys() {
    let value =
        parse("t.yaml", "base: &b {size: 1, on: true}\nx: {<<: *b, size: 2}\ny: {<<: [*b, {z: 3}]}\nz: *b\n").unwrap();
    let expected = parse(
        "e.yaml",
        "base: {size: 1, on: true}\nx: {size: 2, on: true}\ny: {size: 1, on: true, z: 3}\nz: {size: 1, on: true}\n",
    );
    assert_eq!(value, expected.unwrap());
    assert_eq!(
        syntax("x: {<<: 1}"),
        ["t.yaml:1:9: <<: the merge key << takes a map or a list of maps, found a whole number"]
    );
}

#[test]
fn bombs_and_loops_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let list = vec![format!("*a{before}"); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    assert!(syntax(&bomb)[0].contains("aliases expanded"), "{:?}", syntax(&bomb));
    assert!(syntax("a: &a [*a]")[0].contains("inside the value it refers to"));
    assert!(syntax(&"[".repeat(5000))[0].contains("nested"));
    assert!(syntax(&"[".repeat(150))[0].contains("nested more than 100 deep"), "{:?}", syntax(&"[".repeat(150)));
    assert!(parse("t.yaml", &" ".repeat(MAX_TEXT + 1)).is_err());
    let wide: String = (0..MAX_NODES / 2 - 1).map(|key| format!("{key}: 1\n")).collect();
    assert!(parse("t.yaml", &wide).is_ok());
}

#[test]
fn syntax_errors_have_line_and_column() {
    assert_eq!(syntax("a: 1\nb: 2\na: 3\n"), ["t.yaml:3:1: a: the key \"a\" stands twice; first at line 1"]);
    assert_eq!(
        syntax("a: 1\n---\nb: 2\n"),
        ["t.yaml:2:1: a second YAML document starts here; a config is one document"]
    );
    assert_eq!(syntax("? [a]\n: 1\n"), ["t.yaml:1:3: a key must be text, found a list"]);
    for wrong in [
        "a:\n\tb: 1\n",
        "a: [1\n",
        "a: \"x\n",
        "a: b: c\n",
        "a: !thing 1\n",
        "a: *nowhere\n",
        "- a\nb: 1\n",
        "%YAML 3\n",
    ] {
        let found = syntax(wrong);
        assert!(found.iter().all(|line| line.starts_with("t.yaml:")), "{wrong:?}: {found:?}");
        println!("{found:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9:&*<\\[\\]{}\"'|>%!?#$ \\t\\n,.-]{0,60}") {
        if let Ok(value) = parse("p.yaml", &text) {
            let _ = read::<Sample>(&value);
        }
    }

    #[test]
    fn no_scalar_panics(text in "\\PC{0,20}") {
        let _ = scalar(&text);
    }

    #[test]
    fn whole_numbers_read_as_themselves(number: i64) {
        prop_assert_eq!(scalar(&number.to_string()), Kind::Int(number));
    }
}
