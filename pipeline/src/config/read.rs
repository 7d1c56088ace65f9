//! Reading a component's settings: all mistakes at once, first those of shape, then those of sense.
//!
//! After a mistake the value it is about is passed over and the reading is tried again, until it succeeds; so one look at
//! the report is enough to repair a file.

use super::de::{self, Skipped, identity};
use super::mistake::{Mistake, join};
use super::secret::is_secret_key;
use super::value::{Kind, Mark, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// After this many mistakes in one component the rest is not looked for.
const MAX_MISTAKES: usize = 100;

/// A component's settings: a plain serde struct with `#[serde(default, deny_unknown_fields)]` and one `Default`.
///
/// An optional block (`Option<SomeStruct>`) is there as soon as its key is, even without a value (`grpc:`), as in the
/// Collector; so it also says `skip_serializing_if = "Option::is_none"`, or its printed default would switch it on.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// Rules that types cannot say: ranges, keys that exclude each other, patterns that must compile.
    fn check(&self, _report: &mut Report<'_>) {}
}

/// Reads settings; `null` is all defaults.
///
/// # Errors
/// Every mistake with its mark and its path from `value`. While values are missing because of a mistake of shape, only
/// those complaints of [`Settings::check`] are reported that are about a value that stands in the file.
pub fn read<S: Settings>(value: &Value) -> Result<S, Vec<Mistake>> {
    let mut skipped = Skipped::new();
    let mut wounded = Skipped::new();
    let mut mistakes = Vec::new();
    let settings: S = loop {
        match de::attempt(value, &skipped) {
            Ok(settings) => break settings,
            Err(failure) => {
                if let Some(mistake) = failure.mistake
                    && !find(value, failure.id).is_some_and(|found| contains_any(found, &wounded))
                {
                    mistakes.push(mistake);
                    wounded.insert(failure.id);
                }
                let progress = failure.id != identity(value) && skipped.insert(failure.id);
                if !progress || mistakes.len() >= MAX_MISTAKES {
                    return Err(sorted(mistakes));
                }
            }
        }
    };
    let mut report =
        Report { root: value, prefix: String::new(), skipped: &skipped, mistakes: Vec::new(), present: Vec::new() };
    settings.check(&mut report);
    let Report { mistakes: found, present, .. } = report;
    let only_present = !mistakes.is_empty();
    mistakes.extend(
        found.into_iter().zip(present).filter(|(_, present)| *present || !only_present).map(|(found, _)| found),
    );
    if mistakes.is_empty() { Ok(settings) } else { Err(sorted(mistakes)) }
}

fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

/// The value with an identity, below or at `value`.
fn find(value: &Value, id: usize) -> Option<&Value> {
    if identity(value) == id {
        return Some(value);
    }
    children(value).find_map(|child| find(child, id))
}

/// True if something strictly below `value` is in the set.
fn contains_any(value: &Value, ids: &Skipped) -> bool {
    children(value).any(|child| ids.contains(&identity(child)) || contains_any(child, ids))
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match &value.kind {
        Kind::Seq(items) => Box::new(items.iter()),
        Kind::Map(entries) => Box::new(entries.iter().map(|(_, value)| value)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Where [`Settings::check`] says what is wrong. Paths are relative to the settings, with dots or `::` between keys and
/// `[2]` for elements: `scrapers.cpu`, `rules[0].match`; the longest key that fits is taken, so keys may hold dots.
pub struct Report<'v> {
    root: &'v Value,
    prefix: String,
    skipped: &'v Skipped,
    mistakes: Vec<Mistake>,
    present: Vec<bool>,
}

impl<'v> Report<'v> {
    /// Records a mistake. `message` says what is wrong and what is allowed, without a full stop; where a path is not
    /// written in the file, the place of its nearest parent is shown.
    pub fn error(&mut self, path: &str, message: impl Into<String>) {
        let spot = self.spot(path);
        let message = spot.discreet(message.into());
        self.push(Mistake::new(spot.mark, spot.path, message), spot.present);
    }

    /// Records that the text at `path` is none of the names that are allowed there, with the nearest one.
    pub fn unknown<'a>(&mut self, path: &str, found: &str, allowed: impl IntoIterator<Item = &'a str>) {
        let spot = self.spot(path);
        let message = spot.discreet(format!("{found:?} is not allowed here"));
        let mistake = Mistake::new(spot.mark, spot.path, message).allowing("allowed", found, allowed);
        self.push(mistake, spot.present);
    }

    /// Runs the checks of a nested struct with its path in front.
    pub fn within(&mut self, path: &str, check: impl FnOnce(&mut Self)) {
        let outer = self.prefix.clone();
        self.prefix = if outer.is_empty() { path.to_owned() } else { format!("{outer}::{path}") };
        check(self);
        self.prefix = outer;
    }

    fn push(&mut self, mistake: Mistake, present: bool) {
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(mistake);
            self.present.push(present);
        }
    }

    fn spot(&self, path: &str) -> Spot<'v> {
        let path = if self.prefix.is_empty() { path.to_owned() } else { format!("{}::{path}", self.prefix) };
        let mut spot = locate(self.root, &path);
        if let Some(value) = spot.value {
            spot.present &= !self.skipped.contains(&identity(value));
        }
        spot
    }
}

/// What a relative path leads to.
struct Spot<'v> {
    path: String,
    mark: Mark,
    present: bool,
    value: Option<&'v Value>,
}

impl Spot<'_> {
    /// The sentence, without the text of a value that may be a secret.
    fn discreet(&self, sentence: String) -> String {
        let Some(value) = self.value else { return sentence };
        let named = self.path.split("::").any(|key| is_secret_key(key.split('[').next().unwrap_or(key)));
        if named || value.mark.origin.is_some() { value.discreet(&sentence) } else { sentence }
    }
}

fn locate<'v>(root: &'v Value, path: &str) -> Spot<'v> {
    let mut value = root;
    let mut mark = root.mark.clone();
    let mut shown = String::new();
    let mut rest = path;
    loop {
        rest = rest.trim_start_matches("::").trim_start_matches('.');
        if rest.is_empty() {
            return Spot { path: shown, mark, present: true, value: Some(value) };
        }
        match step(value, rest) {
            Some(Found { name, used, mark: at, value: next }) => {
                shown = join(&shown, &name);
                mark = at;
                value = next;
                rest = rest.get(used..).unwrap_or_default();
            }
            None => {
                let rest = if rest.contains("::") { rest.to_owned() } else { rest.replace('.', "::") };
                return Spot { path: join(&shown, &rest), mark, present: false, value: None };
            }
        }
    }
}

struct Found<'v> {
    name: String,
    used: usize,
    mark: Mark,
    value: &'v Value,
}

/// The longest key, or the index, that `rest` starts with.
fn step<'v>(value: &'v Value, rest: &str) -> Option<Found<'v>> {
    match &value.kind {
        Kind::Map(entries) => entries
            .iter()
            .filter(|(key, _)| {
                rest.strip_prefix(key.name.as_str())
                    .is_some_and(|tail| tail.is_empty() || tail.starts_with(['.', '[']) || tail.starts_with("::"))
            })
            .max_by_key(|(key, _)| key.name.len())
            .map(|(key, value)| {
                let scalar = !matches!(value.kind, Kind::Null | Kind::Seq(_) | Kind::Map(_));
                let mark = if scalar { value.mark.clone() } else { key.mark.clone() };
                Found { name: key.name.clone(), used: key.name.len(), mark, value }
            }),
        Kind::Seq(items) => {
            let digits = rest.trim_start_matches('[');
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let index: usize = digits.get(..end)?.parse().ok()?;
            let used = rest.len() - digits.get(end..)?.trim_start_matches(']').len();
            let value = items.get(index)?;
            Some(Found { name: format!("[{index}]"), used, mark: value.mark.clone(), value })
        }
        _ => None,
    }
}
