//! What loading promises: sources, merging, references, notices. Wrong configs stand in `tests/golden`.

use super::load::load;
use super::*;
use phoenix_pipeline::config::parse;
use proptest::prelude::*;
use std::ffi::OsString;

fn variables(name: &str) -> Option<OsString> {
    let text = match name {
        "PORT" => "4317",
        "HOST" => "backend",
        "EMPTY" => "",
        "ZERO" => "0123",
        "LIST" => "[a, b]",
        "NESTED" => "${env:HOST}:${env:PORT}",
        "LOOP" => "${env:LOOP}",
        "NAME" => "HOST",
        "QUOTED" => "\"x\"",
        "COLON" => "a: b: c",
        "DOLLARS" => "a$$b",
        "SECRET" => "hunter2",
        _ => return None,
    };
    Some(text.into())
}

fn loaded(texts: &[&str], sets: &[&str]) -> Result<Loaded, Vec<String>> {
    let sources: Vec<String> = texts.iter().map(|text| format!("yaml:{text}")).collect();
    let sets: Vec<String> = sets.iter().map(|text| (*text).to_owned()).collect();
    right(load(&sources, &sets, &variables)).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

/// Without a mistake, or the mistakes.
fn right(found: Result<Loaded, Vec<Mistake>>) -> Result<Loaded, Vec<Mistake>> {
    found.and_then(|loaded| if loaded.mistakes.is_empty() { Ok(loaded) } else { Err(loaded.mistakes) })
}

/// The tree as JSON-like YAML, so that types show.
fn json(texts: &[&str], sets: &[&str]) -> String {
    serde_json::to_string(&loaded(texts, sets).expect("a right config").value.to_yaml()).unwrap()
}

fn wrong(text: &str) -> String {
    loaded(&[text], &[]).expect_err("a wrong config").join("\n")
}

#[test]
fn maps_merge_lists_are_replaced_null_erases() {
    assert_eq!(json(&["a: {b: 1, l: [1, 2]}", "a: {c: 2, l: [3]}"], &[]), r#"{"a":{"b":1,"l":[3],"c":2}}"#);
    assert_eq!(json(&["a: {b: 1}", "a:"], &[]), r#"{"a":null}"#);
    assert_eq!(json(&["a: {b: 1}", "a: {}"], &[]), r#"{"a":{"b":1}}"#);
    assert_eq!(json(&["a: 1", ""], &[]), r#"{"a":1}"#, "an empty file adds nothing");
}

#[test]
fn set_comes_last_with_dots_or_double_colons() {
    assert_eq!(json(&["a: {b: 1}"], &["a.b=2", "a.c/x=[1, y]"]), r#"{"a":{"b":2,"c/x":[1,"y"]}}"#);
    assert_eq!(
        json(&["a: {}"], &["a::system.cpu.time::enabled=true"]),
        r#"{"a":{"system.cpu.time":{"enabled":true}}}"#
    );
    assert_eq!(json(&["a: {}"], &["a=x=y"]), r#"{"a":"x=y"}"#);
    assert_eq!(json(&["a: 1"], &["a="]), r#"{"a":null}"#);
    assert_eq!(json(&["a: 1"], &["a=${env:PORT}"]), r#"{"a":4317}"#);
    assert_eq!(
        json(&["exporters::debug::verbosity: detailed"], &[]),
        r#"{"exporters":{"debug":{"verbosity":"detailed"}}}"#
    );
    for (set, message) in [
        ("a", "--set: write --set path.to.key=value"),
        ("a..b=1", "--set a..b: the path has an empty key; write --set path.to.key=value"),
        ("a=[", "--set a: not valid YAML: while parsing a node, did not find expected node content"),
    ] {
        assert_eq!(loaded(&["x: 1"], &[set]).unwrap_err(), [message]);
    }
}

#[test]
fn references_take_the_type_of_what_they_bring() {
    for (text, expected) in [
        ("a: ${env:PORT}", r#"{"a":4317}"#),
        ("a: ${PORT}", r#"{"a":4317}"#),
        ("a: \"${PORT}\"", r#"{"a":4317}"#),
        ("a: ${env:LIST}", r#"{"a":["a","b"]}"#),
        ("a: x-${env:PORT}-${HOST}", r#"{"a":"x-4317-backend"}"#),
        ("a: ${env:HOST}:${env:PORT}", r#"{"a":"backend:4317"}"#),
        ("a: x${env:LIST}", r#"{"a":"x[a, b]"}"#),
        ("a: x${env:ZERO}", r#"{"a":"x0123"}"#),
        ("a: ${env:NESTED}", r#"{"a":"backend:4317"}"#),
        ("a: ${env:${env:NAME}}", r#"{"a":"backend"}"#),
        ("a: ${env:NO:-8080}", r#"{"a":8080}"#),
        ("a: ${NO:-x}", r#"{"a":"x"}"#),
        ("a: ${env:NO:-${env:HOST}}", r#"{"a":"backend"}"#),
        ("a: x${env:NO:-}", r#"{"a":"x"}"#),
        ("a: ${env:PORT:-1}", r#"{"a":4317}"#),
        ("a: ${env:NO}", r#"{"a":null}"#),
        ("a: x${env:NO}", r#"{"a":"x"}"#),
        ("a: ${env:QUOTED}", r#"{"a":"\"x\""}"#),
        ("a: ${env:COLON}", r#"{"a":"a: b: c"}"#),
        ("a: ${yaml:[1, b]}", r#"{"a":[1,"b"]}"#),
        ("a: $PORT", r#"{"a":"$PORT"}"#),
        ("a: $${PORT}", r#"{"a":"${PORT}"}"#),
        ("a: $$$${PORT}", r#"{"a":"$${PORT}"}"#),
        ("a: $$${PORT}", r#"{"a":"$4317"}"#),
        ("a: ${env:DOLLARS}", r#"{"a":"a$b"}"#),
        ("a: 5$", r#"{"a":"5$"}"#),
        ("a: [\"${PORT}\", {b: \"${HOST}\"}]", r#"{"a":[4317,{"b":"backend"}]}"#),
    ] {
        assert_eq!(json(&[text], &[]), expected, "{text}");
    }
}

#[test]
fn the_text_of_a_variable_stays_where_a_string_is_wanted() {
    let value = loaded(&["a: ${env:ZERO}\nb: ${env:EMPTY}\nc: ${env:NO}"], &[]).unwrap().value;
    let text = |key: &str| value.get(key).and_then(|value| value.text.clone());
    assert_eq!(text("a").as_deref(), Some("0123"));
    assert_eq!(text("b").as_deref(), Some(""), "set but empty is an empty string");
    assert_eq!(text("c"), None, "not set is as if not written");
}

#[test]
fn references_that_cannot_be_followed() {
    for (text, part) in [
        ("a: ${env:LOOP}", "back to itself"),
        ("a: ${HOST", "not closed"),
        ("a: ${1}", "cannot be the name of an environment variable"),
        ("a: ${}", "cannot be the name of an environment variable"),
        ("a: x${yaml:[1]}", "brings a list, which cannot stand inside a longer string"),
        ("a: ${vault:x}", "unknown scheme \"vault\"; known schemes: env, file, yaml"),
        ("a: ${fiel:x}", "did you mean \"file\"?"),
        ("a: ${https://x/y}", "not fetched over https"),
        ("a: ${file:/does/not/exist}", "cannot read the file /does/not/exist: it does not exist"),
        ("a: ${file:/}", "it is a directory"),
    ] {
        assert!(wrong(text).contains(part), "{text}: {}", wrong(text));
    }
    let many = format!("a: [{}]", vec!["\"${PORT}\""; 1001].join(","));
    assert!(wrong(&many).contains("more than 1000 references"));
    // All of them come out.
    assert_eq!(loaded(&["a: ${vault:x}\nb: ${HOST"], &["c"]).unwrap_err().len(), 3);
}

#[test]
fn notices_say_what_is_not_set() {
    let notices = loaded(&["a: ${env:NO}\nb: ${env:EMPTY}\nc: ${env:NO2:-x}"], &[]).unwrap().notices;
    let texts: Vec<String> = notices.iter().map(|notice| format!("{} {}", notice.warning, notice.text)).collect();
    assert_eq!(
        texts,
        [
            "false yaml:...:2:4 (${env:EMPTY}): the environment variable EMPTY is set but empty",
            "true yaml:...:1:4 (${env:NO}): the environment variable NO is not set: taken as empty; ${env:NO:-...} gives it a default",
        ]
    );
}

#[test]
fn files_bring_trees_with_their_own_lines_or_one_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("tree.yaml"), "x: 1\ny:\n  z: ${env:PORT}\n").unwrap();
    std::fs::write(path("token"), "s3cr3t\n").unwrap();
    std::fs::write(path("number"), "007\n").unwrap();
    std::fs::write(path("odd"), "a: b: c\n").unwrap();
    std::fs::write(path("binary"), b"a: 1\n\xff\n").unwrap();
    let text = format!(
        "t: ${{file:{}}}\ns: ${{file:{}}}\nn: ${{file:{}}}\no: ${{file:{}}}",
        path("tree.yaml"),
        path("token"),
        path("number"),
        path("odd")
    );
    let Loaded { value, notices, .. } = loaded(&[&text], &[]).unwrap();
    let shown = serde_json::to_string(&value.to_yaml()).unwrap();
    assert_eq!(shown, r#"{"t":{"x":1,"y":{"z":4317}},"s":"s3cr3t","n":7,"o":"a: b: c"}"#);
    assert_eq!(value.get("n").and_then(|value| value.text.as_deref()), Some("007"));
    let x = value.get("t").and_then(|tree| tree.get("x")).unwrap();
    assert_eq!(x.mark.to_string(), format!("{}:1:4 (included at yaml:...:1:4)", path("tree.yaml")));
    assert_eq!(notices.len(), 1, "what is no YAML is said: {notices:?}");

    let from_file = |name: &str| load(&[format!("file:{}", path(name))], &[], &variables);
    assert!(from_file("tree.yaml").is_ok());
    let binary = from_file("binary").unwrap_err();
    assert!(binary[0].to_string().contains("is not UTF-8 text: line 2"), "{}", binary[0]);
    assert!(from_file("token").unwrap_err()[0].to_string().contains("expected a map"));
}

#[test]
fn other_sources() {
    let from = |uri: &str| load(&[uri.to_owned()], &[], &variables).map_err(|mistakes| mistakes[0].to_string());
    assert!(from("env:NO").unwrap_err().contains("env:NO: the environment variable NO is not set"));
    assert!(from("https://x/y").unwrap_err().contains("fetch the file and name its path"));
    assert!(from("s3:x").unwrap_err().contains("unknown scheme"));
    assert!(from("no-such-file.yaml").unwrap_err().contains("it does not exist"));
    let many = vec!["yaml:a: 1".to_owned(); 101];
    assert!(load(&many, &[], &variables).is_err());
}

#[test]
fn the_default_is_a_right_config_and_takes_the_standard_exporter() {
    let plain = load(&[], &[], &|_| None).unwrap();
    let (model, _) =
        Model::check(&plain.value, &Tables::agent()).unwrap_or_else(|mistakes| panic!("{}", report(&mistakes)));
    assert!(model.own_metrics_page().is_some_and(|page| page.address == "localhost:8888"));
    let before = model.exporter_ids().len();

    let endpoint = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://localhost:4318".into());
    let with = load(&[], &[], &endpoint).unwrap();
    let (model, _) =
        Model::check(&with.value, &Tables::agent()).unwrap_or_else(|mistakes| panic!("{}", report(&mistakes)));
    assert_eq!(model.exporter_ids().len(), before + 1);
    assert!(model.exporter_ids().iter().any(|id| id.kind() == "otlp_http"));

    let wrong = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://localhost:4318".into()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("smoke-signals".into()),
        _ => None,
    };
    assert!(right(load(&[], &[], &wrong)).unwrap_err()[0].to_string().contains("OTEL_EXPORTER_OTLP_PROTOCOL"));
}

#[test]
fn the_model_has_what_runs_and_the_notices_say_what_does_not() {
    let text = "receivers: {hostmetrics: {scrapers: {load: }}, hostmetrics/unused: {scrapers: {load: }}}\n\
        processors: {batch: }\n\
        exporters: {otlp: {endpoint: \"http://localhost:4317\"}, debug: }\n\
        extensions: {opamp: , oidc/x: {a: 1}, zpages: , pprof: }\n\
        service:\n  extensions: [opamp, zpages]\n  telemetry: {metrics: {level: none}, traces: {processors: [{batch: }]}}\n  \
        pipelines:\n    metrics: {receivers: [hostmetrics], processors: [batch], exporters: [otlp, debug]}\n    \
        metrics/b: {receivers: [hostmetrics], exporters: [debug]}\n";
    let (model, notices) =
        loaded(&[text], &[]).unwrap().check(&Tables::agent()).unwrap_or_else(|found| panic!("{}", report(&found)));
    let ids = |ids: Vec<phoenix_pipeline::ComponentId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids(model.receiver_ids()), ["hostmetrics"]);
    assert_eq!(ids(model.exporter_ids()), ["debug", "otlp"]);
    assert_eq!(ids(model.extension_ids()), ["zpages"]);
    assert_eq!(model.receivers.len(), 2, "what is unused is there and not started");
    assert!(model.own_metrics_page().is_none());
    assert_eq!(
        model.describe(),
        ["pipeline metrics: hostmetrics -> batch -> otlp, debug", "pipeline metrics/b: hostmetrics -> debug"]
    );
    let names = [
        "exporters:debug",
        "exporters:otlp",
        "extensions:zpages",
        "processors:batch (metrics)",
        "receivers:hostmetrics",
    ];
    assert_eq!(model.status_names().into_iter().collect::<Vec<_>>(), names);
    let texts: Vec<String> = notices.iter().map(|notice| format!("{} {}", notice.warning, notice.text)).collect();
    assert_eq!(
        texts,
        [
            "false yaml:...:3:13: exporters::otlp: \"otlp\" is the older name of \"otlp_grpc\"; both work",
            "true extensions that Phoenix does not serve are left out: opamp, oidc/x",
            "true service::telemetry::traces::processors: not served; the agent makes no traces of itself",
        ]
    );
}

#[test]
fn gates_choose_the_newer_names_where_nothing_is_said() {
    let mut value = parse("t.yaml", "receivers: {hostmetrics: , hostmetrics/b: {naming: v0}, other: }").unwrap();
    newer_names(&mut value);
    let shown = serde_json::to_string(&value.to_yaml()).unwrap();
    assert_eq!(shown, r#"{"receivers":{"hostmetrics":{"naming":"v1"},"hostmetrics/b":{"naming":"v0"},"other":null}}"#);
}

/// Every key of a tree: the way to it by positions, and the key.
fn keys(value: &Value, way: &mut Vec<usize>, found: &mut Vec<(Vec<usize>, phoenix_pipeline::config::Key)>) {
    for (at, (key, inner)) in value.as_map().unwrap_or_default().iter().enumerate() {
        way.push(at);
        found.push((way.clone(), key.clone()));
        keys(inner, way, found);
        way.pop();
    }
}

/// Adds a letter to the key at the end of the way.
fn misspell(value: &mut Value, way: &[usize]) {
    let (Kind::Map(entries), [at, rest @ ..]) = (&mut value.kind, way) else { return };
    match (entries.get_mut(*at), rest.is_empty()) {
        (Some((key, _)), true) => key.name.push('x'),
        (Some((_, inner)), false) => misspell(inner, rest),
        (None, _) => {}
    }
}

#[test]
fn authenticators_that_are_named_are_started_and_of_the_right_side() {
    let check = |extensions: &str, authenticator: &str, receiver: &str| {
        let text = format!(
            "receivers: {{hostmetrics: {{scrapers: {{load: }}{receiver}}}}}\n\
             exporters: {{otlp: {{endpoint: \"http://localhost:4317\", auth: {{authenticator: {authenticator}}}}}}}\n\
             extensions: {{bearertokenauth/eu: {{token: a}}, basicauth: {{client_auth: {{username: a}}}}, zpages: }}\n\
             service: {{extensions: [{extensions}], pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [otlp]}}}}}}\n"
        );
        let mistakes = loaded(&[&text], &[]).unwrap().check(&Tables::agent()).err().unwrap_or_default();
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(check("bearertokenauth/eu", "bearertokenauth/eu", "").is_empty());
    assert!(check("", "\"\"", "").is_empty(), "none is named");
    let [misspelt] = &check("bearertokenauth/eu, zpages", "bearertokenauth/us", "")[..] else { panic!("one mistake") };
    assert!(misspelt.starts_with("yaml:...:2:77: exporters::otlp::auth::authenticator: names the authenticator"));
    assert!(
        misspelt.ends_with("did you mean \"bearertokenauth/eu\"? authenticators that are started: bearertokenauth/eu")
    );
    let [unstarted] = &check("", "bearertokenauth/eu", "")[..] else { panic!("one mistake") };
    assert!(unstarted.contains("which is not started by service.extensions"), "{unstarted}");
    let [other] = &check("zpages", "zpages", "")[..] else { panic!("one mistake") };
    assert!(other.contains("\"zpages\" is no authenticator for exporters"), "{other}");
    let below = ", protocols: {grpc: {auth: {authenticator: basicauth}}}";
    let receiver = check("basicauth", "basicauth", below).join("\n");
    assert!(
        receiver.contains("receivers::hostmetrics::protocols::grpc::auth::authenticator: \"basicauth\" is no authenticator for receivers"),
        "{receiver}"
    );
}

#[test]
fn a_typing_mistake_in_any_key_is_found_at_its_line() {
    type Row = (&'static str, serde_yaml::Value, fn(&Value) -> Vec<Mistake>);
    fn all<C>(table: &'static [phoenix_pipeline::Factory<C>]) -> impl Iterator<Item = Row> {
        table.iter().map(|factory| (factory.name, (factory.defaults)(), factory.validate))
    }
    let Tables { receivers, processors, exporters, extensions } = Tables::agent();
    let mut tried = 0;
    for (name, defaults, validate) in all(receivers).chain(all(processors)).chain(all(exporters)).chain(all(extensions))
    {
        let text = serde_yaml::to_string(&defaults).unwrap();
        let value = parse(name, &text).unwrap_or_else(|mistakes| panic!("{name}: {}", report(&mistakes)));
        let unknown = validate(&value).into_iter().find(|mistake| mistake.message == "unknown key");
        assert_eq!(unknown, None, "{name}: the printed default reads back");
        let mut every = Vec::new();
        keys(&value, &mut Vec::new(), &mut every);
        for (way, key) in every {
            let mut typo = value.clone();
            misspell(&mut typo, &way);
            let found = validate(&typo);
            let line = found.iter().find(|mistake| mistake.message == "unknown key");
            // Below the top a map may be free: names of headers, of metrics.
            let Some(line) = line.or_else(|| found.iter().find(|mistake| mistake.mark.line == key.mark.line)) else {
                assert!(way.len() > 1, "{name}: a mistake in {:?} is not found", key.name);
                continue;
            };
            assert_eq!(line.mark.line, key.mark.line, "{name}: {line}");
            assert!(line.to_string().contains(&format!("did you mean {:?}?", key.name)), "{name}: {line}");
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} keys were tried");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-zA-Z0-9:${}&*<\\[\\]\"'|>%!?# \\t\\n,./-]{0,80}", set in "[a-z.:=${}\\[ ]{0,20}") {
        let found = load(&[format!("yaml:{text}")], &[set], &variables);
        if let Ok(loaded) = found {
            let _ = redacted(&loaded.value);
            let _ = loaded.check(&Tables::agent());
        }
    }

    #[test]
    fn no_word_salad_panics(words in proptest::collection::vec(prop_oneof![
        Just("receivers:"), Just("service:"), Just("  pipelines:"), Just("    metrics:"), Just("  hostmetrics:"),
        Just("      receivers: [hostmetrics]"), Just("exporters: {otlp: }"), Just("${env:NO}"), Just("  - x"), Just("&a"), Just("*a"),
        Just("<<: *a"), Just("{"), Just("}"), Just("telemetry: {logs: 5}"), Just("  extensions: zpages"),
    ], 0..12)) {
        if let Ok(loaded) = load(&[format!("yaml:{}", words.join("\n"))], &[], &variables) {
            let _ = loaded.check(&Tables::agent());
        }
    }
}
