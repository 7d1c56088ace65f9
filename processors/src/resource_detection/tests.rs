//! The stage on made-up hosts, and the hosts for the tests of the detectors.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use phoenix_pipeline::{Delivery, Marks};
use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape};

use super::*;
use crate::testing;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A host with nothing but these files and variables.
pub(super) fn host(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Host {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    let variables: HashMap<String, String> =
        variables.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    // The closure keeps the directory until the host is dropped.
    let path = root.path().to_owned();
    Host::with("", &path, move |name| {
        let _alive = &root;
        variables.get(name).cloned()
    })
}

/// A host whose files are mounted somewhere, seen by an agent with files of its own.
pub(super) fn host_elsewhere(own: &[(&str, &str)], files: &[(&str, &str)]) -> Host {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), own);
    let mounted = root.path().join("hostfs");
    fs::create_dir_all(&mounted).unwrap();
    write(&mounted, files);
    let path = root.path().to_owned();
    Host::with(mounted.to_str().unwrap(), &path, move |_| {
        let _alive = &root;
        None
    })
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new();
    for (i, name) in [Some("old"), None].into_iter().enumerate() {
        let mut resource = builder.resource();
        resource.attribute("i", i as i64);
        if let Some(name) = name {
            resource.attribute("host.name", name);
        }
        let descriptor = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
        resource.scope("s", "").metric(&descriptor).point(0, 1, Number::Int(1), &[]);
    }
    builder.finish()
}

fn names(batch: &Batch) -> Vec<String> {
    batch.resources().map(|resource| resource.attributes().get_str("host.name").unwrap_or("-").to_owned()).collect()
}

fn process(stage: &mut Detection, batch: &mut Batch, now: Instant) {
    stage.process(batch, &mut Context { now, delivery: &mut Delivery::none(), marks: &mut Marks::default() });
}

fn config(text: &str) -> Config {
    Site::for_test("resource_detection").settings(&testing::value(text)).unwrap()
}

#[test]
fn detected_attributes_replace_or_only_complete() {
    let site = Site::for_test("resource_detection");
    for (text, want) in
        [("{detectors: [env]}", ["new", "new"]), ("{detectors: [env], override: false}", ["old", "new"])]
    {
        let host = host(&[], &[("OTEL_RESOURCE_ATTRIBUTES", "host.name=new,zone=z")]);
        let mut stage = Detection::new(config(text), host, &site).unwrap();
        let mut batch = batch();
        process(&mut stage, &mut batch, site.clock.now());
        assert_eq!(names(&batch), want, "{text}");
        assert!(batch.resources().all(|resource| resource.attributes().get_str("zone") == Some("z")));
        assert_eq!(
            batch.resources().map(|resource| resource.attributes().get("i").unwrap()).collect::<Vec<_>>(),
            [AnyValue::Int(0), AnyValue::Int(1)]
        );
    }
}

#[test]
fn what_already_says_the_same_is_not_touched() {
    let site = Site::for_test("resource_detection");
    let named = host(&[], &[("OTEL_RESOURCE_ATTRIBUTES", "host.name=new")]);
    let mut stage = Detection::new(config("{}"), named, &site).unwrap();
    let mut first = batch();
    process(&mut stage, &mut first, site.clock.now());
    let bytes = first.encode();
    let mut again = Batch::decode(bytes.clone(), &Default::default()).unwrap();
    process(&mut stage, &mut again, site.clock.now());
    assert!(stage.touched.is_empty());
    assert_eq!(again.encode(), bytes);
    let host = host(&[], &[("OTEL_RESOURCE_ATTRIBUTES", "host.name=other")]);
    let mut stage = Detection::new(config("{override: false}"), host, &site).unwrap();
    process(&mut stage, &mut again, site.clock.now());
    assert!(stage.touched.is_empty(), "present is enough where nothing is replaced");
}

#[test]
fn the_first_detector_wins_and_the_old_list_still_selects() {
    let files = [("proc/sys/kernel/hostname", "web1\n")];
    let variables = [("OTEL_RESOURCE_ATTRIBUTES", "host.name=mine,team=x")];
    let found = |text: &str| detect(&config(text), &host(&files, &variables));
    assert_eq!(found("{detectors: [env, system]}").get("host.name"), Some(&"mine".into()));
    assert_eq!(found("{detectors: [system, env]}").get("host.name"), Some(&"web1".into()));
    assert_eq!(found("{detectors: [env, system], attributes: [os.type, team]}").keys(), ["team", "os.type"]);
    assert!(found("{detectors: [ec2, gcp]}").keys().is_empty(), "known, not served");
    let off = "{detectors: [system], system: {resource_attributes: {host.name: {enabled: false}}}}";
    assert_eq!(found(off).keys(), ["os.type"]);
}

#[test]
fn a_refresh_takes_up_what_changed_and_keeps_what_cannot_be_had_any_more() {
    let site = Site::for_test("resource_detection");
    let list = Arc::new(Mutex::new("host.name=one".to_owned()));
    let shared = Arc::clone(&list);
    let host = Host::with("", Path::new("/nonexistent"), move |name| {
        (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| shared.lock().unwrap().clone())
    });
    let start = site.clock.now();
    let mut stage = Detection::new(config("{refresh_interval: 1m}"), host, &site).unwrap();
    let mut at = |seconds, text: &str| {
        *list.lock().unwrap() = text.to_owned();
        let mut batch = batch();
        process(&mut stage, &mut batch, start + Duration::from_secs(seconds));
        names(&batch)
    };
    assert_eq!(at(1, "host.name=two"), ["one", "one"], "not yet");
    assert_eq!(at(61, "host.name=two"), ["two", "two"]);
    assert_eq!(at(122, "broken"), ["two", "two"]);
    assert_eq!(at(183, "host.name=three"), ["three", "three"]);
}

#[test]
fn a_collectors_configuration_starts() {
    let text = "{detectors: [env, system, ec2, k8snode], timeout: 2s, override: false, \
        ec2: {tags: [^a$], resource_attributes: {host.id: {enabled: true}}}, \
        system: {hostname_sources: [os], resource_attributes: {host.id: {enabled: true}, os.description: {enabled: true}}}, \
        k8snode: {auth_type: serviceAccount, node_from_env_var: NODE}, retry: {enabled: true}}";
    assert_eq!(testing::mistakes(&FACTORY, text), "");
    assert!((FACTORY.build)(&testing::value(text), &Site::for_test("resourcedetection/x")).is_ok());
    assert!(FACTORY.answers_to("resourcedetection") && FACTORY.answers_to("resource_detection"));
}

#[test]
fn mistakes_are_said() {
    let mistakes = |text: &str| testing::mistakes(&FACTORY, text);
    assert!(
        mistakes("{detectors: [sytem]}").contains("did you mean \"system\""),
        "{}",
        mistakes("{detectors: [sytem]}")
    );
    assert!(mistakes("{detectors: []}").contains("at least one"));
    assert!(mistakes("{detectors: [env, env]}").contains("listed twice"));
    assert!(mistakes("{root_path: hostfs}").contains("absolute"));
    assert!(mistakes("{system: {resource_attributes: {host.nam: {enabled: true}}}}").contains("host.name"));
    assert!(mistakes("{detectors: [system], system: {hostname_sources: [ldap]}}").contains("lookup"));
}
