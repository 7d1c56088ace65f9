//! From readings to OTLP: one resource per process, one metric per enabled row, one point per member of its attribute.
//!
//! Reads nothing. A series that was written before and has no value now is closed: one point without a value, so that readers
//! drop it at once instead of waiting for it. A process that shows the same metrics as before is written again with new numbers:
//! 9.9 µs a process and scrape of the whole agent instead of some 13 (docs/performance.md).

use std::borrow::Cow;
use std::collections::BTreeMap;

use phoenix_telemetry::{AnyValue, BatchBuilder, Form, Head, Number};

use super::config::{Attribute, Config};
use super::facts::Facts;
use super::metrics::{MAX_POINTS, Metric, ROWS, Values, arity};
use crate::hostmetrics::catalog::{Label, Naming, Plan};
use crate::hostmetrics::scraper::scope_name;

/// The identity of a process as its resource shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entity<'a> {
    pub pid: u32,
    pub parent: i64,
    /// Creation, nanoseconds since the Unix epoch: the start time of every point.
    pub start: u64,
    pub facts: &'a Facts,
}

/// The value of a resource attribute.
#[derive(PartialEq)]
enum Shown<'a> {
    Int(i64),
    Text(Cow<'a, str>),
}

impl<'a> Entity<'a> {
    fn shown(&self, attribute: Attribute) -> Option<Shown<'a>> {
        let Facts { name, path, command, command_line, owner, cgroup, ids } = self.facts;
        let text = match attribute {
            Attribute::Pid => return Some(Shown::Int(i64::from(self.pid))),
            Attribute::ParentPid => return Some(Shown::Int(self.parent)),
            Attribute::CreationTime => return Some(Shown::Text(iso8601(self.start).into())),
            Attribute::ExecutableName => Some(name),
            Attribute::ExecutablePath => path.as_ref(),
            Attribute::Command => command.as_ref(),
            Attribute::CommandLine => command_line.as_ref(),
            Attribute::Owner => owner.as_ref(),
            Attribute::Cgroup => cgroup.as_ref(),
            Attribute::ContainerId => ids.container.as_ref(),
            Attribute::PodUid => ids.pod.as_ref(),
        };
        text.map(|text| Shown::Text(Cow::Borrowed(text)))
    }
}

/// Which metrics of a process were written last: bit `i` is row `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Written(u16);

impl Written {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, metric: Metric) -> bool {
        self.0 & (1 << metric as usize) != 0
    }
}

#[derive(Debug)]
pub(crate) struct Projection {
    plans: Vec<(usize, Plan)>,
    attributes: Vec<(Attribute, &'static str)>,
    scope: String,
    /// Whether points are written in the order of the values, each of which is one.
    plain: bool,
    /// How the processes are written that have values of these metrics; most have the same.
    forms: BTreeMap<Written, Form>,
}

impl Projection {
    pub(crate) fn new(config: &Config, naming: Naming) -> Self {
        let plans: Vec<(usize, Plan)> = ROWS
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some((index, row.plan(naming, &config.metrics)?)))
            .collect();
        let attributes = Attribute::ALL.into_iter().filter(|a| config.wants(*a)).map(|a| (a, a.key(naming))).collect();
        let plain = plans.iter().all(|(_, plan)| plan.is_plain());
        Self { plans, attributes, scope: scope_name("process"), plain, forms: BTreeMap::new() }
    }

    /// Whether the metric at this index of [`ROWS`] is enabled.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.plans.iter().any(|(planned, _)| *planned == index)
    }

    /// Whether two identities have the same resource attributes, so that readers cannot tell them apart.
    pub(crate) fn is_same(&self, one: Entity<'_>, other: Entity<'_>) -> bool {
        self.attributes.iter().all(|(attribute, _)| one.shown(*attribute) == other.shown(*attribute))
    }

    /// Does what [`Projection::write`] does for a process whose resource has not changed since `head` was set, which
    /// it is here.
    pub(crate) fn write_on(
        &mut self,
        entity: Entity<'_>,
        head: &mut Option<Head>,
        values: &Values,
        before: Written,
        time: u64,
        out: &mut BatchBuilder,
    ) -> (Written, usize) {
        let (mut shown, mut open, mut points) = (Written::default(), Written::default(), 0);
        let mut numbers = [(entity.start, Number::Int(0)); MAX_POINTS];
        for (index, _) in &self.plans {
            let bit = 1u16 << index;
            if let Some(values) = values.get(*index) {
                shown.0 |= bit;
                for ((_, number), value) in numbers.iter_mut().skip(points).zip(values) {
                    *number = *value;
                }
                points += values.len();
            }
            open.0 |= if values.is_left(*index) { before.0 & bit } else { shown.0 & bit };
        }
        let is_usual = self.plain && open.0 & before.0 == before.0 && entity.start != 0;
        if is_usual && let (Some(head), Some(form)) = (&*head, self.forms.get(&shown)) {
            out.again(head, form, time, numbers.get(..points).unwrap_or_default());
            return (open, points);
        }
        let written = self.write(entity, values, before, time, out);
        if is_usual && let Some((known, form)) = out.last().filter(|_| written.1 > 0) {
            *head = Some(known);
            self.forms.entry(shown).or_insert(form);
        }
        written
    }

    /// Writes the values, and closes what `before` had and `values` has not. Returns what is open now and how many points were written.
    pub(crate) fn write(
        &self,
        entity: Entity<'_>,
        values: &Values,
        before: Written,
        time: u64,
        out: &mut BatchBuilder,
    ) -> (Written, usize) {
        let mut resource = out.resource();
        for (attribute, key) in &self.attributes {
            match entity.shown(*attribute) {
                Some(Shown::Int(value)) => resource.attribute(key, AnyValue::Int(value)),
                Some(Shown::Text(value)) => resource.attribute(key, AnyValue::Str(&value)),
                None => continue,
            };
        }
        let mut scope = resource.scope(&self.scope, env!("CARGO_PKG_VERSION"));
        let (mut open, mut points) = (Written::default(), 0);
        for (index, plan) in &self.plans {
            let bit = 1u16 << index;
            if values.is_left(*index) {
                open.0 |= before.0 & bit;
                continue;
            }
            let values = values.get(*index);
            if values.is_none() && before.0 & bit == 0 {
                continue;
            }
            let mut metric = plan.open(&mut scope);
            for member in 0..arity(*index) {
                let label = [Label::Member(member)];
                let labels = if ROWS.get(*index).is_some_and(|row| row.attributes.is_empty()) {
                    &label[..0]
                } else {
                    &label[..]
                };
                match values.and_then(|values| values.get(member)) {
                    Some(value) => metric.point(entity.start, time, *value, labels),
                    None => metric.closed(entity.start, time, labels),
                }
            }
            points += metric.finish();
            if values.is_some() {
                open.0 |= bit;
            }
        }
        (open, points)
    }
}

/// `2026-01-02T03:04:05.678Z`: the date by the Gregorian calendar, in UTC, to the millisecond.
fn iso8601(unix_nanos: u64) -> String {
    let millis = unix_nanos / 1_000_000;
    let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
    // Counted in eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", in_day % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_times_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000, "2023-11-14T22:13:20.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(seconds * 1_000_000_000), text);
        }
        assert_eq!(iso8601(1_700_000_000_010_000_000), "2023-11-14T22:13:20.010Z");
    }
}
