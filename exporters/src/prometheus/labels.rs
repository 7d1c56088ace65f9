//! Label sets as canonical text: sorted by name, no name twice, no empty value, escaped.
//!
//! The text is the identity of a series within its family on the page: two label sets are the same for Prometheus
//! exactly when their texts are equal. It is made once per series and kept; a new value never makes it anew.

use phoenix_telemetry::{Attributes, Resource, Scope};

use super::names;
use super::options::TextOptions;

/// Where a label comes from; of two labels of one name the earlier origin wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The settings.
    Constant,
    /// The instrumentation scope, or `job` and `instance`.
    Derived,
    /// The data point.
    Point,
    /// The resource.
    Resource,
}

/// One label before sets are joined.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    name: String,
    origin: Origin,
    /// The attribute's key, which orders values that share a label.
    key: String,
    value: String,
}

impl Label {
    pub(crate) fn new(key: &str, value: String, origin: Origin, utf8: bool) -> Self {
        Self { name: names::label(key, utf8), origin, key: key.to_owned(), value }
    }

    /// Whether the label says nothing: Prometheus takes an empty value for an absent label.
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_empty() || self.name.is_empty()
    }

    /// Characters of name and value together.
    pub(crate) fn characters(&self) -> usize {
        self.name.chars().count() + self.value.chars().count()
    }
}

/// The labels of attributes, each value as text.
pub(crate) fn of_attributes(attributes: Attributes<'_>, origin: Origin, utf8: bool) -> impl Iterator<Item = Label> {
    attributes.iter().map(move |(key, value)| Label::new(key, value.to_string(), origin, utf8))
}

/// The labels every sample of a resource carries.
pub(crate) fn of_resource(resource: Resource<'_>, options: &TextOptions) -> Vec<Label> {
    let utf8 = options.naming.utf8;
    let attributes = resource.attributes();
    let mut labels: Vec<Label> = attributes
        .iter()
        .filter(|(key, _)| options.resource_labels.wants(key))
        .map(|(key, value)| Label::new(key, value.to_string(), Origin::Resource, utf8))
        .collect();
    if options.service_labels {
        let (job, instance) = service(attributes);
        labels.push(Label::new("job", job, Origin::Derived, utf8));
        labels.push(Label::new("instance", instance, Origin::Derived, utf8));
    }
    labels
}

/// The labels every sample of a scope carries.
pub(crate) fn of_scope(scope: Scope<'_>, options: &TextOptions) -> Vec<Label> {
    if !options.scope_info {
        return Vec::new();
    }
    let known = [("name", scope.name()), ("version", scope.version()), ("schema_url", scope.schema_url())];
    let label = |key: &str, value: String| {
        Label::new(&format!("otel_scope_{key}"), value, Origin::Derived, options.naming.utf8)
    };
    // An attribute of the scope that is called like one of its own properties would hide it.
    let others = scope.attributes().iter().filter(|(key, _)| known.iter().all(|(name, _)| name != key));
    known
        .iter()
        .map(|(key, value)| label(key, (*value).to_owned()))
        .chain(others.map(|(key, value)| label(key, value.to_string())))
        .collect()
}

/// `job` and `instance` of a resource: service.namespace/service.name and service.instance.id, empty where absent.
pub(crate) fn service(attributes: Attributes<'_>) -> (String, String) {
    let text = |key| attributes.get(key).map(|value| value.to_string()).unwrap_or_default();
    let (name, namespace) = (text("service.name"), text("service.namespace"));
    let job = if name.is_empty() || namespace.is_empty() { name } else { format!("{namespace}/{name}") };
    (job, text("service.instance.id"))
}

/// The canonical text of a label set, without braces. `reserved` is the label the family itself needs (`le`,
/// `quantile`): one of that name from elsewhere is written `exported_le`, as Prometheus does.
pub(crate) fn text(mut labels: Vec<Label>, reserved: Option<&str>) -> String {
    for label in &mut labels {
        if Some(label.name.as_str()) == reserved {
            label.name.insert_str(0, "exported_");
        }
    }
    labels.retain(|label| !label.is_empty());
    labels.sort_by(|a, b| (&a.name, a.origin, &a.key).cmp(&(&b.name, b.origin, &b.key)));
    let mut out = String::new();
    for same in labels.chunk_by(|a, b| a.name == b.name) {
        let Some(first) = same.first() else { continue };
        if !out.is_empty() {
            out.push(',');
        }
        push_name(&mut out, &first.name);
        out.push_str("=\"");
        for (i, label) in same.iter().take_while(|label| label.origin == first.origin).enumerate() {
            if i > 0 {
                out.push(';');
            }
            push_escaped(&mut out, &label.value, true);
        }
        out.push('"');
    }
    out
}

/// Appends a label or metric name, in quotes where it is not classic.
pub(crate) fn push_name(out: &mut String, name: &str) {
    if names::is_classic_label(name) {
        out.push_str(name);
    } else {
        push_quoted(out, name);
    }
}

/// Appends text in quotes.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text, true);
    out.push('"');
}

/// Appends text with backslash and line feed escaped, and the quote where `quotes` says so.
pub(crate) fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str, origin: Origin) -> Label {
        Label::new(key, value.to_owned(), origin, false)
    }

    #[test]
    fn labels_are_sorted_joined_and_escaped() {
        let labels = vec![
            label("z", "last", Origin::Point),
            label("foo_bar", "2", Origin::Point),
            label("foo.bar", "1", Origin::Point),
            label("path", "C:\\a\n\"b\"", Origin::Resource),
            label("empty", "", Origin::Point),
        ];
        assert_eq!(text(labels, None), r#"foo_bar="1;2",path="C:\\a\n\"b\"",z="last""#);
    }

    #[test]
    fn the_earlier_origin_wins() {
        let labels = vec![label("a", "resource", Origin::Resource), label("a", "point", Origin::Point)];
        assert_eq!(text(labels.clone(), None), r#"a="point""#);
        let labels = labels.into_iter().chain([label("a", "constant", Origin::Constant)]).collect();
        assert_eq!(text(labels, None), r#"a="constant""#);
    }

    #[test]
    fn reserved_labels_are_renamed_and_the_metric_name_is_safe() {
        let labels = vec![label("le", "x", Origin::Point), label("__name__", "evil", Origin::Point)];
        assert_eq!(text(labels, Some("le")), r#"exported_le="x",key__name__="evil""#);
    }

    #[test]
    fn names_outside_the_classic_set_are_quoted() {
        let labels = vec![Label::new("http.method", "GET".into(), Origin::Point, true)];
        assert_eq!(text(labels, None), r#""http.method"="GET""#);
    }
}
