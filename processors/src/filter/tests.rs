//! The filter on bytes against a naive filter on plain structs, and the mistakes of configurations.

use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape};
use proptest::prelude::*;

use super::*;
use crate::testing::{self, counted, run};
use crate::{AttributeMatch, ConfigValue, MatchType};

/// One data point, with all that a filter can look at.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    host: String,
    metric: String,
    state: String,
    value: i64,
}

const HOSTS: [&str; 3] = ["a", "ab", "b"];
const METRICS: [&str; 4] = ["cpu", "cpu.time", "mem", "x.cpu"];
const STATES: [&str; 3] = ["idle", "user", "us"];

/// Every combination of host, metric and state that `take` says so of, in order.
fn plain(take: impl Fn(usize) -> bool) -> Vec<Plain> {
    let mut points = Vec::new();
    for host in HOSTS {
        for metric in METRICS {
            for state in STATES {
                let value = points.len() as i64;
                points.push(Plain { host: host.into(), metric: metric.into(), state: state.into(), value });
            }
        }
    }
    points.into_iter().enumerate().filter(|(i, _)| take(*i)).map(|(_, point)| point).collect()
}

fn encode(points: &[Plain]) -> Batch {
    let mut builder = BatchBuilder::new();
    for of_host in points.chunk_by(|a, b| a.host == b.host) {
        let mut resource = builder.resource();
        resource.attribute("host.name", of_host[0].host.as_str());
        let mut scope = resource.scope("s", "");
        for of_metric in of_host.chunk_by(|a, b| a.metric == b.metric) {
            let descriptor = Descriptor { name: &of_metric[0].metric, unit: "1", description: "", shape: Shape::Gauge };
            let mut metric = scope.metric(&descriptor);
            for point in of_metric {
                metric.point(0, 1, Number::Int(point.value), &[("state", AnyValue::Str(&point.state))]);
            }
        }
    }
    builder.finish()
}

/// The points of a batch after a round over the wire.
fn decode(batch: &Batch) -> Vec<Plain> {
    let batch = Batch::decode(batch.encode(), &Default::default()).unwrap();
    let plain = |point: phoenix_telemetry::Point<'_>| Plain {
        host: point.metric().resource().attributes().get_str("host.name").unwrap().to_owned(),
        metric: point.metric().name().to_owned(),
        state: point.attributes().get_str("state").unwrap().to_owned(),
        value: point.value().unwrap().as_f64() as i64,
    };
    batch.series().map(plain).collect()
}

fn filtered(text: &str) -> Vec<Plain> {
    let mut stage = testing::build(&FACTORY, "filter", text);
    let mut batch = encode(&plain(|_| true));
    run(stage.as_mut(), &mut batch);
    decode(&batch)
}

fn distinct(points: &[Plain], field: impl Fn(&Plain) -> &String) -> Vec<&str> {
    let mut values: Vec<&str> = points.iter().map(|point| field(point).as_str()).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[test]
fn include_keeps_and_exclude_drops() {
    let kept = filtered("{metrics: {include: {match_type: strict, metric_names: [cpu, none]}}}");
    assert_eq!((distinct(&kept, |p| &p.metric), kept.len()), (vec!["cpu"], 9));
    let kept = filtered("{metrics: {exclude: {match_type: regexp, metric_names: [cpu]}}}");
    assert_eq!(distinct(&kept, |p| &p.metric), ["mem"], "regular expressions are unanchored");
    let kept = filtered(
        "{metrics: {include: {match_type: glob, metric_names: [\"cpu*\"]}, exclude: {match_type: strict, metric_names: [cpu]}}}",
    );
    assert_eq!(distinct(&kept, |p| &p.metric), ["cpu.time"]);
}

#[test]
fn each_list_of_exclude_drops_by_itself_and_all_lists_of_include_must_match() {
    let kept = filtered(
        "{metrics: {exclude: {match_type: strict, metric_names: [cpu], resource_attributes: [{key: host.name, value: a}]}}}",
    );
    assert_eq!(distinct(&kept, |p| &p.host), ["ab", "b"]);
    assert_eq!(distinct(&kept, |p| &p.metric), ["cpu.time", "mem", "x.cpu"]);
    let kept = filtered(
        "{metrics: {include: {match_type: strict, metric_names: [cpu], resource_attributes: [{key: host.name, value: a}], attributes: [{key: state, value: us}]}}}",
    );
    assert_eq!(kept, [Plain { host: "a".into(), metric: "cpu".into(), state: "us".into(), value: 2 }]);
    let kept = filtered("{metrics: {include: {match_type: strict, resource_attributes: [{key: none}]}}}");
    assert_eq!(kept, []);
}

#[test]
fn drops_are_counted_with_their_reason() {
    let site = Site::for_test("filter/x");
    let text = "{metrics: {exclude: {match_type: strict, metric_names: [cpu], resource_attributes: [{key: host.name, value: a}], attributes: [{key: state, value: us}]}}}";
    let mut stage = (FACTORY.build)(&testing::value(text), &site).unwrap();
    run(stage.as_mut(), &mut encode(&plain(|_| true)));
    assert_eq!(counted(&site, FILTERED.name), 12 + 6 + 6);
    let own = site.metrics.gather(1, Level::Normal);
    let reasons = own.series().filter(|point| point.metric().name() == DROPPED.name);
    let reasons: Vec<_> =
        reasons.map(|point| (point.attributes().get_str("reason").unwrap(), point.value().unwrap().as_f64())).collect();
    assert_eq!(reasons, [("attributes", 6.0), ("metric_name", 6.0), ("resource_attributes", 12.0)]);
}

#[test]
fn what_keeps_everything_leaves_the_bytes_alone() {
    let mut stage =
        testing::build(&FACTORY, "filter", "{metrics: {exclude: {match_type: strict, metric_names: [none]}}}");
    let (mut batch, before) = (encode(&plain(|_| true)), encode(&plain(|_| true)).encode());
    run(stage.as_mut(), &mut batch);
    assert_eq!(batch.encode(), before);
}

#[test]
fn mistakes_are_said() {
    let mistakes = |text: &str| testing::mistakes(&FACTORY, text);
    assert!(mistakes("{}").contains("nothing to filter"));
    let ottl = mistakes("{error_mode: ignore, metrics: {metric: ['name == \"x\"'], datapoint: [a]}}");
    assert_eq!(ottl.matches("OTTL conditions are not served; write metrics.include").count(), 2, "{ottl}");
    assert!(mistakes("{metric_conditions: [{context: metric}]}").contains("OTTL"));
    assert!(mistakes("{metrics: {include: {match_type: expr, expressions: [a]}}}").contains("strict, regexp, glob"));
    assert!(mistakes("{metrics: {include: {match_type: strict}}}").contains("selects nothing"));
    assert!(mistakes("{metrics: {include: {metric_names: [a]}}}").contains("match_type"));
    let pattern = mistakes("{metrics: {include: {match_type: regexp, metric_names: [a, '(']}}}");
    assert!(pattern.contains("metrics::include::metric_names[1]: unclosed group"), "{pattern}");
    let key = mistakes("{metrics: {exclude: {match_type: strict, resource_attributes: [{value: a}]}}}");
    assert!(key.contains("resource_attributes[0]") && key.contains("the name of an attribute"), "{key}");
    assert_eq!(
        mistakes(
            "{logs: {exclude: {}}, metrics: {exclude: {match_type: regexp, regexp: {cacheenabled: true}, metric_names: [a]}}}"
        ),
        ""
    );
}

/// Whether a text matches one of the patterns, without the compiled matchers.
fn naive(kind: MatchType, patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| match kind {
        MatchType::Strict => text == pattern,
        MatchType::Regexp => text.contains(pattern.as_str()),
        MatchType::Glob => match pattern.strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => text == pattern,
        },
    })
}

/// What remains, by the words of the documentation.
fn naive_filter(config: &Config, points: Vec<Plain>) -> Vec<Plain> {
    let matches = |block: &MatchBlock, conditions: &[AttributeMatch], key: &str, value: &str| {
        conditions.iter().all(|condition| {
            condition.key == key
                && match &condition.value {
                    None => true,
                    Some(ConfigValue::Str(pattern)) => {
                        naive(block.match_type.unwrap(), std::slice::from_ref(pattern), value)
                    }
                    Some(_) => false,
                }
        })
    };
    let lists = |block: &MatchBlock, point: &Plain| {
        let names = naive(block.match_type.unwrap(), &block.metric_names, &point.metric);
        let resource = matches(block, &block.resource_attributes, "host.name", &point.host);
        let attributes = matches(block, &block.attributes, "state", &point.state);
        [
            (!block.metric_names.is_empty()).then_some(names),
            (!block.resource_attributes.is_empty()).then_some(resource),
            (!block.attributes.is_empty()).then_some(attributes),
        ]
    };
    let keep = |point: &Plain| {
        let included = config
            .metrics
            .include
            .as_ref()
            .is_none_or(|block| lists(block, point).into_iter().flatten().all(|matched| matched));
        let excluded = config
            .metrics
            .exclude
            .as_ref()
            .is_some_and(|block| lists(block, point).into_iter().flatten().any(|matched| matched));
        included && !excluded
    };
    points.into_iter().filter(keep).collect()
}

fn block() -> impl Strategy<Value = MatchBlock> {
    let kind = prop::sample::select(vec![MatchType::Strict, MatchType::Regexp, MatchType::Glob]);
    kind.prop_flat_map(|kind| {
        let star = if kind == MatchType::Glob { "*" } else { "" };
        let pattern = move |texts: &'static [&'static str]| {
            (prop::sample::select(texts), any::<bool>()).prop_map(move |(text, short)| match short {
                true if kind != MatchType::Strict => format!("{}{star}", &text[..1]),
                _ => text.to_owned(),
            })
        };
        let condition = |key: &'static str, pattern: BoxedStrategy<String>| {
            let key = prop_oneof![9 => Just(key), 1 => Just("other")];
            (key, prop::option::weighted(0.8, pattern))
                .prop_map(|(key, value)| AttributeMatch { key: key.into(), value: value.map(ConfigValue::Str) })
        };
        let names = prop::collection::vec(pattern(&METRICS), 0..3);
        let resources = prop::collection::vec(condition("host.name", pattern(&HOSTS).boxed()), 0..2);
        let attributes = prop::collection::vec(condition("state", pattern(&STATES).boxed()), 0..2);
        (names, resources, attributes).prop_map(move |(metric_names, resource_attributes, attributes)| MatchBlock {
            match_type: Some(kind),
            metric_names,
            resource_attributes,
            attributes,
            ..MatchBlock::default()
        })
    })
    .prop_filter("selects something", |block| {
        !(block.metric_names.is_empty() && block.resource_attributes.is_empty() && block.attributes.is_empty())
    })
}

proptest! {
    #[test]
    fn the_filter_agrees_with_a_naive_one(
        include in prop::option::of(block()), exclude in prop::option::of(block()), taken in any::<u64>(),
    ) {
        let metrics = MetricFilters { include, exclude, ..MetricFilters::default() };
        let config = Config { metrics, ..Config::default() };
        let mut flaws = Flaws::default();
        let rules = Rules::new(&config, &mut flaws);
        let rules = flaws.none_or(rules).unwrap();
        let points = plain(|i| taken >> i & 1 == 1);
        let mut batch = encode(&points);
        let mut stage = Filter::new(rules, &Site::for_test("filter"));
        run(&mut stage, &mut batch);
        prop_assert_eq!(decode(&batch), naive_filter(&config, points));
    }
}
