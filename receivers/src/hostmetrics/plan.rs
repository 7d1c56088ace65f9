//! How one metric is written: its row and the config, resolved once, and the points of a scrape.
//!
//! A scraper asks [`Row::plan`] for each metric when it is built; a disabled metric has no plan. Writing a point then compares
//! no names and, unless the config folds attributes away, allocates nothing.

use phoenix_telemetry::{AnyValue, Descriptor, MetricBuilder, Number, ScopeBuilder, Shape};

use super::catalog::{Member, MetricSettings, MetricsSettings, Naming, Row, Strategy};

impl Row {
    /// The plan of this metric under the config; `None` when it is switched off or not part of the naming.
    pub(crate) fn plan(&self, naming: Naming, settings: &MetricsSettings) -> Option<Plan> {
        let form = self.form(naming)?;
        // `NAME@v1` speaks for the newer naming only and is the more exact word there.
        let plain = settings.iter().find(|(key, _)| !key.ends_with("@v1") && self.is_called(key)).map(|(_, s)| s);
        let exact = settings.iter().find(|(key, _)| key.ends_with("@v1") && self.is_called(key)).map(|(_, s)| s);
        let exact = exact.filter(|_| naming == Naming::V1);
        let pick = |read: fn(&MetricSettings) -> Option<bool>| exact.and_then(read).or_else(|| plain.and_then(read));
        if !pick(|s| s.enabled).unwrap_or(self.enabled) {
            return None;
        }
        let kept = exact.and_then(|s| s.attributes.as_ref()).or_else(|| plain.and_then(|s| s.attributes.as_ref()));
        let strategy =
            exact.and_then(|s| s.aggregation_strategy).or_else(|| plain.and_then(|s| s.aggregation_strategy));
        let labels: Vec<PlannedLabel> = self
            .attributes
            .iter()
            .map(|attribute| {
                let key = attribute.key(naming);
                let wanted = kept.is_none_or(|kept| {
                    kept.iter().any(|k| Some(k.as_str()) == attribute.v0 || Some(k.as_str()) == attribute.v1)
                });
                PlannedLabel { key: key.filter(|_| wanted), members: attribute.members }
            })
            .collect();
        let folds = kept.is_some_and(|_| {
            self.attributes.iter().zip(&labels).any(|(a, l)| a.key(naming).is_some() && l.key.is_none())
        });
        let default_strategy = if matches!(self.shape, Shape::Gauge) { Strategy::Avg } else { Strategy::Sum };
        Some(Plan {
            descriptor: Descriptor {
                name: form.name,
                unit: form.unit,
                description: self.description,
                shape: self.shape,
            },
            naming,
            labels,
            fold: folds.then_some(strategy.unwrap_or(default_strategy)),
        })
    }
}

/// A counter of the kernel as a point's value; what does not fit into 63 bits stays at the top.
pub(crate) fn int(value: u64) -> Number {
    Number::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The value of one attribute of a point, as a scraper gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Label<'a> {
    /// Index into the attribute's members.
    Member(usize),
    /// Free text.
    Text(&'a str),
    /// A number.
    Int(i64),
}

#[derive(Debug)]
struct PlannedLabel {
    key: Option<&'static str>,
    members: &'static [Member],
}

/// How one enabled metric is written: resolved once, when the scraper is built.
#[derive(Debug)]
pub(crate) struct Plan {
    descriptor: Descriptor<'static>,
    naming: Naming,
    labels: Vec<PlannedLabel>,
    fold: Option<Strategy>,
}

impl Plan {
    /// Whether each member of its attribute gives one point, and the value that the scraper has for it.
    pub(crate) fn is_plain(&self) -> bool {
        let has_word = |label: &PlannedLabel| label.members.iter().all(|member| member.word(self.naming).is_some());
        self.fold.is_none() && self.labels.iter().all(has_word)
    }

    /// Begins the metric in `scope`; what is left without points is left out of the batch.
    pub(crate) fn open<'p, 's>(&'p self, scope: &'s mut ScopeBuilder<'_>) -> Emitter<'p, 's> {
        Emitter { plan: self, metric: scope.metric(&self.descriptor), folds: Vec::new(), points: 0 }
    }
}

/// The most attributes a point of this receiver has.
const MAX_LABELS: usize = 6;

/// Writes the points of one metric. Points that the config folds together are held until [`Emitter::finish`].
pub(crate) struct Emitter<'p, 's> {
    plan: &'p Plan,
    metric: MetricBuilder<'s>,
    folds: Vec<Fold>,
    points: usize,
}

struct Fold {
    key: Vec<Kept>,
    start: u64,
    time: u64,
    /// `None`: the series ends.
    total: Option<Number>,
    count: u32,
}

#[derive(Clone, PartialEq)]
enum Kept {
    Word(&'static str),
    Text(String),
    Int(i64),
}

impl Emitter<'_, '_> {
    /// Adds a point; `labels` are the row's attributes in order. A label whose member is not part of the naming leaves the point out.
    pub(crate) fn point(&mut self, start: u64, time: u64, value: Number, labels: &[Label<'_>]) {
        self.write(start, time, Some(value), labels);
    }

    /// Ends the series with these labels: its point has no value and says so.
    pub(crate) fn closed(&mut self, start: u64, time: u64, labels: &[Label<'_>]) {
        self.write(start, time, None, labels);
    }

    fn write(&mut self, start: u64, time: u64, value: Option<Number>, labels: &[Label<'_>]) {
        debug_assert_eq!(
            labels.len(),
            self.plan.labels.len(),
            "one label per attribute of {}",
            self.plan.descriptor.name
        );
        let mut attributes = [("", AnyValue::Empty); MAX_LABELS];
        let mut used = 0;
        for (planned, label) in self.plan.labels.iter().zip(labels) {
            let value = match *label {
                Label::Text(text) => AnyValue::Str(text),
                Label::Int(number) => AnyValue::Int(number),
                Label::Member(index) => match planned.word(index, self.plan.naming) {
                    Some(word) => AnyValue::Str(word),
                    None => return,
                },
            };
            if let (Some(key), Some(slot)) = (planned.key, attributes.get_mut(used)) {
                *slot = (key, value);
                used += 1;
            }
        }
        if self.plan.fold.is_some() {
            self.fold(start, time, value, labels);
            return;
        }
        put(&mut self.metric, start, time, value, attributes.get(..used).unwrap_or_default());
        self.points += 1;
    }

    fn fold(&mut self, start: u64, time: u64, value: Option<Number>, labels: &[Label<'_>]) {
        let kept = self.plan.labels.iter().zip(labels).filter(|(planned, _)| planned.key.is_some());
        let key: Vec<Kept> = kept
            .map(|(planned, label)| match *label {
                Label::Text(text) => Kept::Text(text.to_owned()),
                Label::Int(number) => Kept::Int(number),
                Label::Member(index) => Kept::Word(planned.word(index, self.plan.naming).unwrap_or_default()),
            })
            .collect();
        let Some(fold) = self.folds.iter_mut().find(|fold| fold.key == key) else {
            self.folds.push(Fold { key, start, time, total: value, count: 1 });
            return;
        };
        // A series that ends takes no part in what the others come to.
        let Some(value) = value else { return };
        let Some(total) = fold.total else {
            fold.total = Some(value);
            return;
        };
        fold.count += 1;
        fold.total = Some(match self.plan.fold {
            Some(Strategy::Min) => least(total, value, true),
            Some(Strategy::Max) => least(total, value, false),
            _ => add(total, value),
        });
    }

    /// Ends the metric; returns how many points it has.
    pub(crate) fn finish(mut self) -> usize {
        for fold in std::mem::take(&mut self.folds) {
            let keys = self.plan.labels.iter().filter_map(|label| label.key);
            let attributes: Vec<(&str, AnyValue<'_>)> = keys
                .zip(&fold.key)
                .map(|(key, kept)| match kept {
                    Kept::Word(word) => (key, AnyValue::Str(word)),
                    Kept::Text(text) => (key, AnyValue::Str(text)),
                    Kept::Int(number) => (key, AnyValue::Int(*number)),
                })
                .collect();
            let average = self.plan.fold == Some(Strategy::Avg);
            let value = fold.total.map(|total| if average { mean(total, fold.count) } else { total });
            put(&mut self.metric, fold.start, fold.time, value, &attributes);
            self.points += 1;
        }
        self.points
    }
}

fn put(
    metric: &mut MetricBuilder<'_>,
    start: u64,
    time: u64,
    value: Option<Number>,
    attributes: &[(&str, AnyValue<'_>)],
) {
    match value {
        Some(value) => metric.point(start, time, value, attributes),
        None => metric.closed(start, time, attributes),
    };
}

impl PlannedLabel {
    fn word(&self, index: usize, naming: Naming) -> Option<&'static str> {
        self.members.get(index)?.word(naming)
    }
}

fn add(a: Number, b: Number) -> Number {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Number::Int(a.saturating_add(b)),
        (a, b) => Number::Double(a.as_f64() + b.as_f64()),
    }
}

fn least(a: Number, b: Number, smallest: bool) -> Number {
    if (b.as_f64() < a.as_f64()) == smallest { b } else { a }
}

/// The mean; of whole numbers, rounded towards zero so that the metric's type stays what the catalog says.
fn mean(total: Number, count: u32) -> Number {
    match total {
        Number::Int(sum) => Number::Int(sum / i64::from(count.max(1))),
        Number::Double(sum) => Number::Double(sum / f64::from(count.max(1))),
    }
}
