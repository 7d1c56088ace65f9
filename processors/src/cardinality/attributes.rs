//! The values of each attribute key: how many different ones, and which most series have.
//!
//! It is fed once per series and half window, all series of a resource at once. Values are kept as text cut short; keys, sketches
//! and leaders are bounded.

use std::borrow::Borrow;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use phoenix_pipeline::estimates::{AttributeEstimate, Count, Share};
use phoenix_sketch::{COMMON_SEED, Distinct, Leader, Leaders, STANDARD_ERROR};
use phoenix_telemetry::AnyValue;
use rapidhash::v3::rapidhash_v3;

use crate::entity::hash_of;

/// Characters of a value that are kept: enough to know it by.
const MAX_TEXT: usize = 80;
/// Never kept as text: long, and where people put secrets.
const NEVER_KEPT: [&str; 3] = ["process.command", "process.command_line", "process.command_args"];

/// Series that have an attribute: how many they stand for, and how many of those are new.
#[derive(Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) all: u64,
    pub(super) new: u64,
}

/// A value as it is named. Two of one hash are one.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) hash: u64,
    pub(super) text: Arc<str>,
}

impl Borrow<u64> for Named {
    fn borrow(&self) -> &u64 {
        &self.hash
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Named {}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}

/// The values of one key in half a window.
struct Half {
    values: Distinct,
    /// The hash of the value that came last: one that all series have is taken in once.
    last: Option<u64>,
    series: Leaders<Named>,
    new: Leaders<Named>,
}

impl Half {
    fn new(leading: usize) -> Self {
        // Room for more than are shown: the last of those kept are the least sure.
        let leaders = || Leaders::new(leading.saturating_mul(4));
        Half { values: Distinct::sparse(COMMON_SEED), last: None, series: leaders(), new: leaders() }
    }
}

/// One key.
struct Key {
    name: Arc<str>,
    /// Whether its values may be kept as text.
    kept: bool,
    /// This half of the window and the one before it.
    halves: [Half; 2],
    /// The values of both: to join them at every estimate costs more than all else here.
    values: Distinct,
}

/// All keys.
pub(super) struct Attributes {
    leading: usize,
    room: usize,
    keys: Vec<Key>,
    places: HashMap<Arc<str>, usize>,
    /// Where the next key is expected: resources list theirs in one order.
    next: usize,
    /// The last estimate and its minutes, while it holds.
    known: Option<(f64, Vec<AttributeEstimate>)>,
}

impl Attributes {
    pub(super) fn new(room: usize, leading: usize) -> Self {
        Attributes { leading, room, keys: Vec::new(), places: HashMap::new(), next: 0, known: None }
    }

    /// Series of this weight have this attribute.
    pub(super) fn meet(&mut self, key: &str, value: AnyValue<'_>, weight: Weight) {
        let Some(place) = self.place_of(key) else { return };
        self.next = place + 1;
        self.known = None;
        let Some(Key { kept, halves: [half, _], values, .. }) = self.keys.get_mut(place) else { return };
        let hash = match value {
            AnyValue::Str(text) => rapidhash_v3(text.as_bytes()),
            value => hash_of(value),
        };
        if half.last.replace(hash) != Some(hash) {
            half.values.insert(hash);
            values.insert(hash);
        }
        if *kept {
            let named = || Named { hash, text: text_of(value, hash) };
            half.series.add(&hash, weight.all, named);
            if weight.new > 0 {
                half.new.add(&hash, weight.new, named);
            }
        }
    }

    fn place_of(&mut self, key: &str) -> Option<usize> {
        if self.keys.get(self.next).is_some_and(|expected| *expected.name == *key) {
            return Some(self.next);
        }
        if let Some(place) = self.places.get(key) {
            return Some(*place);
        }
        if self.keys.len() >= self.room {
            return None;
        }
        let (name, place): (Arc<str>, _) = (key.into(), self.keys.len());
        self.places.insert(Arc::clone(&name), place);
        let halves = [(); 2].map(|()| Half::new(self.leading));
        let values = Distinct::sparse(COMMON_SEED);
        self.keys.push(Key { name, kept: !NEVER_KEPT.contains(&key), halves, values });
        Some(place)
    }

    /// Half a window has passed: what came before the last half is forgotten, and keys nobody has any more.
    pub(super) fn turn(&mut self) {
        let leading = self.leading;
        self.known = None;
        self.keys.retain_mut(|Key { halves: [half, before], values, .. }| {
            *before = std::mem::replace(half, Half::new(leading));
            values.clone_from(&before.values);
            before.values.estimate() > 0.0
        });
        self.places = (0..).zip(&self.keys).map(|(place, key)| (Arc::clone(&key.name), place)).collect();
    }

    /// The keys with most values first. `minutes` is how long the leaders of new series have been counted.
    pub(super) fn estimate(&mut self, minutes: f64) -> Vec<AttributeEstimate> {
        if let Some((_, known)) = self.known.as_ref().filter(|(of, _)| *of == minutes) {
            return known.clone();
        }
        let leading = self.leading;
        let one = |Key { name: key, halves: [half, before], values, .. }: &mut Key| {
            let (of_half, of_before, values) = (half.values.estimate(), before.values.estimate(), values.estimate());
            // Every living series is met in each half: the fuller one knows most of them.
            let fuller = if of_half < of_before { &mut *before } else { &mut *half };
            // At least: what may be another's, who was forgotten for want of room, is left out.
            let sure = |leader: &Leader<Named>| (leader.key.clone(), leader.count - leader.error);
            let mut series: Vec<(Named, u64)> = fuller.series.list().iter().map(sure).collect();
            series.sort_by_key(|(_, count)| Reverse(*count));
            let mut new = half.new.clone();
            new.merge(&before.new);
            let new = new.list();
            let share = |name: &Named, series: u64| {
                let new = new.iter().find(|leader| leader.key == *name).map_or(0, |leader| leader.count - leader.error);
                let new = new as f64;
                let new_per_minute = new / minutes.max(1.0);
                Share { name: Arc::clone(&name.text), series: series as f64, new_per_minute, new }
            };
            let mut leaders: Vec<Share> = series.iter().take(leading).map(|(key, count)| share(key, *count)).collect();
            let shown = series.get(..leading.min(series.len())).unwrap_or_default();
            // Who brings new series leads too, be he small as yet.
            for leader in new.iter().take(leading) {
                if shown.iter().all(|(known, _)| *known != leader.key) {
                    let known = series.iter().find(|(known, _)| *known == leader.key);
                    leaders.push(share(&leader.key, known.map_or(leader.count - leader.error, |(_, count)| *count)));
                }
            }
            let values = Count { series: values, error: STANDARD_ERROR };
            AttributeEstimate { key: Arc::clone(key), values, leading: leaders }
        };
        let mut all: Vec<AttributeEstimate> = self.keys.iter_mut().map(one).collect();
        all.sort_by(|a, b| b.values.series.total_cmp(&a.values.series).then_with(|| a.key.cmp(&b.key)));
        self.known = Some((minutes, all.clone()));
        all
    }
}

pub(super) fn text_of(value: AnyValue<'_>, hash: u64) -> Arc<str> {
    match value {
        AnyValue::Str(text) if text.len() <= MAX_TEXT => text.into(),
        AnyValue::Str(text) => text.chars().take(MAX_TEXT).collect::<String>().into(),
        AnyValue::Bool(flag) => flag.to_string().into(),
        AnyValue::Int(number) => number.to_string().into(),
        AnyValue::Double(number) => number.to_string().into(),
        _ => format!("#{hash:016x}").into(),
    }
}
