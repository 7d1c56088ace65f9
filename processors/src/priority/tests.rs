use std::time::Instant;

use super::*;
use crate::measure::sample::{Process, at, scrape};
use crate::testing::{build, counted, mistakes, value};
use phoenix_pipeline::Delivery;
use phoenix_pipeline::explain::Question;
use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape};

fn run(stage: &mut dyn Processor, batch: &mut Batch) -> Marks {
    let mut marks = Marks::default();
    let mut delivery = Delivery::none();
    stage.process(batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks: &mut marks });
    marks
}

/// What a configuration says of processes of these names, pids from 1.
fn say(config: &str, names: &[&str]) -> Vec<(Decision, Class, &'static str)> {
    let mut stage = build(&FACTORY, "priority", config);
    let processes: Vec<Process> = (1..).zip(names).map(|(pid, name)| Process::new(pid, name, 0)).collect();
    let mut batch = scrape("h", 10, &processes);
    let mut said = Vec::new();
    for _ in 0..2 {
        let marks = run(stage.as_mut(), &mut batch);
        said = batch.resources().map(|resource| marks.of(Entity::Resource(resource.id()))).collect();
    }
    said.into_iter().map(|mark| (mark.decision, mark.class, mark.reason)).collect()
}

#[test]
fn the_first_rule_that_fits_counts() {
    let config = r#"
rules:
  - { class: critical, match: { process.executable.name: [kubelet, "postgres*"] } }
  - { class: high, match: { process.executable.name: ["^pg", "java"] }, match_type: regexp }
  - { class: low, match: { process.executable.name: ["postgres-x", kworker, "*-helper"], process.owner: [root] } }
  - { class: normal, match: { process.executable.name: [plain], process.owner: [other] } }
"#;
    let critical = (Decision::Keep, Class::Critical, "priority_critical");
    let high = (Decision::Open, Class::High, "");
    let low = (Decision::Fold, Class::Low, "priority_low");
    let none = (Decision::Open, Class::Normal, "");
    assert_eq!(
        say(config, &["kubelet", "postgres-x", "openjavac", "pgx", "kworker", "x-helper", "plain", "kubelet2"]),
        [critical, critical, high, high, low, low, none, none]
    );
}

#[test]
fn types_count_only_where_strict() {
    let config = r#"
rules:
  - { class: low, match: { process.pid: ["1"] }, match_type: strict }
  - { class: critical, match: { process.pid: [1, "2*"] } }
  - { class: high, match: { process.pid: [3] }, match_type: strict }
"#;
    let classes: Vec<Class> = say(config, &["a", "b", "c", "d"]).into_iter().map(|(_, class, _)| class).collect();
    assert_eq!(classes, [Class::Critical, Class::Critical, Class::High, Class::Normal]);
}

#[test]
fn presets_come_after_the_rules() {
    let config = "
rules: [{ class: low, match: { process.executable.name: [sshd] } }]
presets: [node_essentials, container_runtimes, databases, init, self]";
    let decisions: Vec<Decision> =
        say(config, &["systemd", "sshd", "kubelet", "containerd", "containerd-shim", "postgres", "phoenix", "bash"])
            .into_iter()
            .map(|(decision, ..)| decision)
            .collect();
    use Decision::{Fold, Keep, Open};
    assert_eq!(decisions, [Keep, Fold, Keep, Keep, Open, Keep, Keep, Open], "pid 1 is init");
}

#[test]
fn a_rule_about_metrics_marks_points() {
    let config = r#"
rules:
  - { class: low, metric_names: ["process.memory.virtual", "system.*"] }
  - { class: critical, match: { process.executable.name: [a] }, metric_names: ["process.memory.*"] }
  - { class: high, match: { process.executable.name: [a] } }
"#;
    let mut stage = build(&FACTORY, "priority", config);
    let mut batch = scrape("h", 10, &[Process::new(1, "a", 0), Process::new(2, "b", 0)]);
    let marks = run(stage.as_mut(), &mut batch);
    for point in batch.series() {
        let (resource, name) = (point.metric().resource(), point.metric().name());
        let a = resource.attributes().get_str("process.executable.name") == Some("a");
        let mark = marks.decide(resource.id(), point.id());
        let expected = match (name, a) {
            ("process.memory.virtual", _) => Decision::Fold,
            ("process.memory.usage", true) => Decision::Keep,
            _ => Decision::Open,
        };
        assert_eq!(mark.decision, expected, "{name}");
    }
}

#[test]
fn a_rule_without_conditions_is_about_processes() {
    let mut stage = build(&FACTORY, "priority", "rules: [{ class: low }]");
    let mut builder = BatchBuilder::new();
    let desc = Descriptor { name: "system.cpu.time", unit: "s", description: "", shape: Shape::Gauge };
    builder.resource().attribute("host.name", "h").scope("s", "").metric(&desc).point(0, at(1), Number::Int(1), &[]);
    let mut batch = builder.finish();
    _ = batch.append(scrape("h", 1, &[Process::new(1, "a", 0)]));
    let marks = run(stage.as_mut(), &mut batch);
    let decisions: Vec<Decision> = batch.resources().map(|r| marks.of(Entity::Resource(r.id())).decision).collect();
    assert_eq!(decisions, [Decision::Open, Decision::Fold]);
}

#[test]
fn memory_is_bounded_reasons_are_counted_and_explained_once() {
    let site = Site::for_test("priority");
    let config = "{ rules: [{ class: critical, match: { process.executable.name: [db] } }], max_entities: 10 }";
    let mut stage = (FACTORY.build)(&value(config), &site).unwrap();
    for round in 0..20 {
        let mut processes: Vec<Process> = (0..4).map(|i| Process::new(100 + round * 4 + i, "x", 0)).collect();
        processes.push(Process::new(7, "db", 0));
        run(stage.as_mut(), &mut scrape("h", round, &processes));
        let stage = stage.as_any().downcast_mut::<Priority>().unwrap();
        assert!(stage.known.len() <= 10);
    }
    assert_eq!(counted(&site, "phoenix_marks_total"), 20);
    let answer = site.explain.answer(&Question::Pid(7));
    assert_eq!(answer.matches("priority_critical").count(), 1, "{answer}");
}

/// As long as there is room for all that live nobody is judged twice, and for newcomers those go that came no more.
#[test]
fn who_goes_on_is_judged_once() {
    let mut known = Known { newer: table(), older: table(), most: 10 };
    let judged = std::cell::Cell::new(0);
    let judge = || {
        judged.set(judged.get() + 1);
        Verdict::default()
    };
    for _ in 0..5 {
        for key in 0..9 {
            known.ask(key, judge).unwrap();
        }
        assert_eq!(judged.get(), 9);
    }
    for newcomer in 100..200 {
        for key in (0..6).chain([newcomer]) {
            known.ask(key, judge).unwrap();
        }
        assert!(known.len() <= 10);
    }
    assert_eq!(judged.get(), 9 + 100);
}

#[test]
fn what_is_known_crosses_a_swap_unless_the_rules_changed() {
    let config = "rules: [{ class: low }]";
    let mut old = build(&FACTORY, "priority", config);
    run(old.as_mut(), &mut scrape("h", 1, &[Process::new(1, "a", 0)]));
    let mut other = build(&FACTORY, "priority", "rules: [{ class: high }]");
    assert_eq!(other.adopt(old.as_mut()), Handover { discarded: 1, ..Handover::default() });
    let site = Site::for_test("priority");
    let mut new = (FACTORY.build)(&value(config), &site).unwrap();
    assert_eq!(new.adopt(old.as_mut()), Handover { carried: 1, ..Handover::default() });
    for second in [2, 3] {
        run(new.as_mut(), &mut scrape("h", second, &[Process::new(1, "a", 0)]));
    }
    let answer = site.explain.answer(&Question::Pid(1));
    assert_eq!(answer.matches("priority_low").count(), 1, "the old one may have worked unseen: {answer}");
}

#[test]
fn mistakes_name_their_place() {
    assert!(mistakes(&FACTORY, "{}").contains("give rules or presets"));
    let text = mistakes(
        &FACTORY,
        r#"
rules:
  - { match: { a: ["["] } }
  - { class: low, match: { process.executable.name: ["a("], b: [] }, match_type: regexp, metric_names: ["("] }
"#,
    );
    for expected in
        ["rules[0]::class", "process.executable.name", "unclosed group", "at least one value", "metric_names"]
    {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(mistakes(&FACTORY, "presets: [everything]").contains("node_essentials"));
    assert!(mistakes(&FACTORY, "rules: [{ class: urgent }]").contains("critical"));
}
