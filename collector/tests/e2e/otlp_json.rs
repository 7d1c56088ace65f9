//! OTLP JSON lines, as file exporters write them, read into flat samples. Gauges and sums only: hosts have no others.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Attributes as text, by key.
pub type Attributes = BTreeMap<String, String>;

/// What a metric is, in words that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// `gauge`, `sum` or `monotonic sum`.
    pub kind: &'static str,
    /// 0 for gauges, else 1 delta, 2 cumulative.
    pub temporality: u64,
    /// UCUM unit.
    pub unit: String,
    /// `asInt` or `asDouble`.
    pub number: &'static str,
    /// The keys of the points' attributes.
    pub keys: Vec<String>,
}

/// One data point with everything that says whose it is.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The process it belongs to; `None` for the host.
    pub pid: Option<u32>,
    pub resource: Attributes,
    pub metric: String,
    pub shape: Shape,
    pub attributes: Attributes,
    /// Unix nanoseconds.
    pub start: u64,
    /// Unix nanoseconds.
    pub time: u64,
    pub value: f64,
}

/// Every sample of a file; a last line that is still being written is left out. No file is no sample.
pub fn read(path: &Path) -> Vec<Sample> {
    // The Collector writes a process's arguments as they are, UTF-8 or not.
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let requests = lines.map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    requests.flat_map(|request| of_request(&request)).collect()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn of_request(request: &Value) -> Vec<Sample> {
    let mut samples = Vec::new();
    for resource in list(request, "resourceMetrics") {
        let attributes = attributes(&resource["resource"]);
        let pid = attributes.get("process.pid").map(|pid| pid.parse().expect("a pid is a number"));
        for metric in list(resource, "scopeMetrics").flat_map(|scope| list(scope, "metrics")) {
            let (data, sum) = match metric.get("sum") {
                Some(sum) => (sum, true),
                None => (metric.get("gauge").expect("a gauge or a sum"), false),
            };
            let points = list(data, "dataPoints").filter(|point| flags(point) & 1 == 0);
            samples.extend(points.map(|point| sample(pid, &attributes, metric, data, sum, point)));
        }
    }
    samples
}

fn sample(pid: Option<u32>, resource: &Attributes, metric: &Value, data: &Value, sum: bool, point: &Value) -> Sample {
    let attributes = attributes(point);
    let kind = match (sum, data["isMonotonic"] == true) {
        (false, _) => "gauge",
        (true, false) => "sum",
        (true, true) => "monotonic sum",
    };
    let number = if point.get("asInt").is_some() { "asInt" } else { "asDouble" };
    let shape = Shape {
        kind,
        temporality: data["aggregationTemporality"].as_u64().unwrap_or(0),
        unit: text(&metric["unit"]),
        number,
        keys: attributes.keys().cloned().collect(),
    };
    let nanos = |key: &str| text(&point[key]).parse().unwrap_or(0);
    Sample {
        pid,
        resource: resource.clone(),
        metric: text(&metric["name"]),
        shape,
        attributes,
        start: nanos("startTimeUnixNano"),
        time: nanos("timeUnixNano"),
        value: text(&point[number]).parse().expect("a number"),
    }
}

fn flags(point: &Value) -> u64 {
    point["flags"].as_u64().unwrap_or(0)
}

/// A string bare, a number in digits; nothing for what is not there.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn attributes(holder: &Value) -> Attributes {
    let value = |attribute: &Value| attribute["value"].as_object().and_then(|value| value.values().next()).map(text);
    let pairs = list(holder, "attributes").map(|one| (text(&one["key"]), value(one).unwrap_or_default()));
    pairs.collect()
}
