//! What is known about a Collector's components: which one of Phoenix's does the same, and where the others belong.

use phoenix_pipeline::ComponentId;
use phoenix_pipeline::config::{Kind, Value};

use super::prune::{joined, member};
use super::{Note, Notes, entries, word};
use crate::components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};

/// Components that have another name, and do the same.
const RENAMED: [(&str, &str, &str); 2] =
    [("exporters", "logging", "debug"), ("receivers", "host_metrics", "hostmetrics")];

/// What stands in for what Phoenix does not serve.
const HINTS: [(&str, &str); 14] = [
    (
        "k8sattributes",
        "Phoenix asks no API server: resource_detection's env detector takes the downward API's variables",
    ),
    (
        "metricstransform",
        "filter, attributes and resource cover dropping and attributes; renaming belongs in the backend",
    ),
    (
        "transform",
        "filter, attributes and resource cover dropping and attributes; other statements belong in the backend",
    ),
    ("cumulativetodelta", "the aggregate processor's temporality: delta does the same"),
    ("deltatocumulative", "the aggregate processor's temporality: cumulative does the same"),
    ("groupbyattrs", "the aggregate processor folds by attributes"),
    ("interval", "the aggregate processor folds over time"),
    (
        "prometheusremotewrite",
        "send OTLP to Prometheus (otlp_http to /api/v1/otlp), or let it scrape the prometheus exporter",
    ),
    ("kubeletstats", "container figures stay with the Collector; Phoenix reads processes and the host"),
    ("docker_stats", "container figures stay with the Collector; Phoenix reads processes and the host"),
    ("memory_ballast", "a workaround for Go's garbage collector; nothing to replace"),
    ("datadog", "send OTLP (otlp_grpc, otlp_http) to its agent or its intake"),
    ("splunk_hec", "send OTLP (otlp_grpc, otlp_http) instead"),
    ("signalfx", "send OTLP (otlp_grpc, otlp_http) instead"),
];

/// The port of a Prometheus exporter whose figures the host metrics cover, and its name.
const COVERED: [(&str, &str); 2] = [(":9100", "node_exporter"), (":9256", "process-exporter")];
/// What those figures are read with.
pub(super) const SCRAPERS: [&str; 10] =
    ["cpu", "memory", "load", "disk", "filesystem", "network", "paging", "processes", "process", "system"];

const KINDS: [&str; 4] = ["receivers", "processors", "exporters", "extensions"];

/// Changes what has an equal under another name, in definitions and pipelines alike.
pub(super) fn replace(config: &mut Value, notes: &mut Notes) {
    let mut renamed = Vec::new();
    for (kinds, old, new) in RENAMED {
        for (key, _) in entries(config.get(kinds)) {
            let id = ComponentId::new(&key.name);
            if id.kind() == old {
                let name = key.name.replacen(old, new, 1);
                renamed.push((kinds, key.name.clone(), name, format!("was {}; Phoenix calls it {new}", key.name)));
            }
        }
    }
    for (key, value) in entries(config.get("receivers")) {
        if ComponentId::new(&key.name).kind() != "prometheus" {
            continue;
        }
        if let Some(names) = covered(value) {
            let name = key.name.replacen("prometheus", "hostmetrics", 1);
            let why = format!(
                "was {}, which scraped {names}: Phoenix reads the host itself. Metric names differ: docs/migration.md has the table",
                key.name
            );
            renamed.push(("receivers", key.name.clone(), name, why));
        }
    }
    for (kinds, old, new, why) in renamed {
        rename(config, kinds, &old, &new, why, notes);
    }
}

/// The exporters that a `prometheus` receiver scrapes, if Phoenix covers every one of them.
fn covered(receiver: &Value) -> Option<String> {
    let jobs = receiver.get("config")?.get("scrape_configs")?.as_seq()?;
    let mut names = Vec::new();
    for job in jobs {
        for group in job.get("static_configs")?.as_seq()? {
            for target in group.get("targets")?.as_seq()? {
                let target = target.as_str()?;
                names.push(COVERED.iter().find(|(port, _)| target.ends_with(port))?.1);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Some(names.join(" and ")).filter(|names| !names.is_empty())
}

fn rename(config: &mut Value, kinds: &str, old: &str, new: &str, why: String, notes: &mut Notes) {
    // Another component may have the name already: then that one does both.
    let taken = config.get(kinds).is_some_and(|parts| parts.get(new).is_some());
    let why = if taken { why.replacen("was", "also stands for", 1) } else { why };
    // What scraped the host's exporters needs other settings to read the host itself.
    let host = ComponentId::new(old).kind() == "prometheus";
    each_map(config, |path, entries| {
        if path == kinds {
            if taken {
                entries.retain(|(key, _)| key.name != old);
            }
            for (key, value) in entries.iter_mut().filter(|(key, _)| key.name == old) {
                new.clone_into(&mut key.name);
                if host {
                    value.kind = scrapers(value).kind;
                }
            }
        } else if path.starts_with("service::pipelines::") {
            for (_, list) in entries.iter_mut().filter(|(key, _)| key.name == kinds) {
                let Kind::Seq(items) = &mut list.kind else { continue };
                let twice = items.iter().any(|item| item.as_str() == Some(new));
                if twice {
                    items.retain(|item| item.as_str() != Some(old));
                }
                items.iter_mut().filter(|item| item.as_str() == Some(old)).for_each(|item| *item = word(new));
            }
        }
    });
    notes.insert(joined(kinds, new), Note { why, out: false });
}

/// A `hostmetrics` receiver with everything, at the interval of the jobs it replaces.
fn scrapers(old: &Value) -> Value {
    let place = &old.mark;
    let key = |name: &str| phoenix_pipeline::config::Key { mark: place.clone(), name: name.to_owned() };
    let empty = || Value::new(place.clone(), Kind::Map(Vec::new()));
    let all = SCRAPERS.iter().map(|name| (key(name), empty())).collect();
    let jobs = old.get("config").and_then(|config| config.get("scrape_configs")).and_then(Value::as_seq);
    let interval = jobs.unwrap_or_default().iter().find_map(|job| job.get("scrape_interval"));
    let mut parts: Vec<_> =
        interval.map(|interval| (key("collection_interval"), interval.clone())).into_iter().collect();
    parts.push((key("scrapers"), Value::new(place.clone(), Kind::Map(all))));
    Value::new(place.clone(), Kind::Map(parts))
}

/// Calls `change` with every map below, and its path.
fn each_map(value: &mut Value, mut change: impl FnMut(&str, &mut Vec<(phoenix_pipeline::config::Key, Value)>)) {
    fn walk(
        value: &mut Value,
        path: &str,
        change: &mut impl FnMut(&str, &mut Vec<(phoenix_pipeline::config::Key, Value)>),
    ) {
        if let Kind::Map(entries) = &mut value.kind {
            change(path, entries);
            for (key, value) in entries {
                walk(value, &joined(path, &key.name), change);
            }
        }
    }
    walk(value, "", &mut change);
}

/// Takes out what Phoenix does not serve: other signals, connectors, components without an equal, and what names them.
pub(super) fn strike(config: &Value, notes: &mut Notes) {
    let mut out = |path: String, why: String| drop(notes.insert(path, Note { why, out: true }));
    for kinds in KINDS {
        for (key, _) in entries(config.get(kinds)) {
            let kind = ComponentId::new(&key.name).kind().to_owned();
            if !served(kinds, &kind) {
                let hint = HINTS.iter().find(|(name, _)| *name == kind).map(|(_, hint)| *hint);
                let one = kinds.trim_end_matches('s');
                let why = match hint {
                    Some(hint) => format!("Phoenix has no {one} {kind}: {hint}"),
                    None => format!("Phoenix has no {one} {kind}"),
                };
                out(joined(kinds, &key.name), why);
            }
        }
    }
    if config.get("connectors").is_some() {
        out(
            "connectors".to_owned(),
            "Phoenix has no connectors; pipelines may share receivers and exporters".to_owned(),
        );
    }
    let Some(service) = config.get("service") else { return };
    let mut members = |path: &str, kinds: &str, list: Option<&Value>| {
        for id in list.and_then(Value::as_seq).unwrap_or_default().iter().filter_map(Value::as_str) {
            let connector = config.get("connectors").is_some_and(|connectors| connectors.get(id).is_some());
            if connector || !served(kinds, ComponentId::new(id).kind()) {
                out(member(path, id), format!("without {id}, see above"));
            }
        }
    };
    members("service::extensions", "extensions", service.get("extensions"));
    let pipelines = entries(service.get("pipelines"));
    for (key, pipeline) in pipelines {
        for kinds in KINDS {
            let path = format!("service::pipelines::{}::{kinds}", key.name);
            members(&path, kinds, pipeline.get(kinds));
        }
    }
    for (key, _) in pipelines {
        let signal = key.name.split('/').next().unwrap_or_default();
        if signal != "metrics" {
            let why = format!("Phoenix carries metrics only; leave {signal} to the Collector");
            out(format!("service::pipelines::{}", key.name), why);
        }
    }
}

fn served(kinds: &str, kind: &str) -> bool {
    match kinds {
        "receivers" => RECEIVERS.iter().any(|factory| factory.answers_to(kind)),
        "processors" => PROCESSORS.iter().any(|factory| factory.answers_to(kind)),
        "exporters" => EXPORTERS.iter().any(|factory| factory.answers_to(kind)),
        _ => EXTENSIONS.iter().any(|factory| factory.answers_to(kind)),
    }
}
