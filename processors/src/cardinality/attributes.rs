//! The values of each attribute key: how many different ones, and which most series have.
//!
//! It is fed once per series and half window, all series of a resource at once, so the sparse sketch's slower insert does
//! not matter. Values are kept as text cut short; keys, sketches and leaders are bounded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use phoenix_pipeline::estimates::{AttributeEstimate, Count, Share};
use phoenix_sketch::{COMMON_SEED, Distinct, Leaders, STANDARD_ERROR};
use phoenix_telemetry::AnyValue;

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

/// The values of one key in half a window.
struct Half {
    values: Distinct,
    /// The hash of the value that came last: one that all series have is taken in once.
    last: Option<u64>,
    series: Leaders<String>,
    new: Leaders<String>,
}

impl Half {
    fn new(leading: usize) -> Self {
        // Room for more than are shown: the last of those kept are the least sure.
        let leaders = || Leaders::new(leading.saturating_mul(4));
        Half { values: Distinct::sparse(COMMON_SEED), last: None, series: leaders(), new: leaders() }
    }
}

/// All keys.
pub(super) struct Attributes {
    leading: usize,
    room: usize,
    /// This half of the window and the one before it.
    keys: HashMap<Arc<str>, [Half; 2]>,
    /// The last estimate and its minutes, while it holds.
    known: Option<(f64, Vec<AttributeEstimate>)>,
}

impl Attributes {
    pub(super) fn new(room: usize, leading: usize) -> Self {
        Attributes { leading, room, keys: HashMap::new(), known: None }
    }

    /// Series of this weight have this attribute.
    pub(super) fn meet(&mut self, key: &str, value: AnyValue<'_>, weight: Weight) {
        let room = self.keys.len() < self.room;
        let [half, _] = match self.keys.get_mut(key) {
            Some(halves) => halves,
            None if room => self.keys.entry(key.into()).or_insert_with(|| [(); 2].map(|()| Half::new(self.leading))),
            None => return,
        };
        self.known = None;
        let hash = hash_of(value);
        if half.last.replace(hash) != Some(hash) {
            half.values.insert(hash);
        }
        if NEVER_KEPT.contains(&key) {
            return;
        }
        let text = text_of(value, hash);
        half.series.add(&*text, weight.all, || text.to_string());
        if weight.new > 0 {
            half.new.add(&*text, weight.new, || text.to_string());
        }
    }

    /// Half a window has passed: what came before the last half is forgotten, and keys nobody has any more.
    pub(super) fn turn(&mut self) {
        let leading = self.leading;
        self.known = None;
        self.keys.retain(|_, [half, before]| {
            *before = std::mem::replace(half, Half::new(leading));
            before.values.estimate() > 0.0
        });
    }

    /// The keys with most values first. `minutes` is how long the leaders of new series have been counted.
    pub(super) fn estimate(&mut self, minutes: f64) -> Vec<AttributeEstimate> {
        if let Some((_, known)) = self.known.as_ref().filter(|(of, _)| *of == minutes) {
            return known.clone();
        }
        let leading = self.leading;
        let one = |(key, [half, before]): (&Arc<str>, &mut [Half; 2])| {
            let mut values = half.values.clone();
            // Both have one seed and form.
            let _ = values.merge(&before.values);
            // Every living series is met in each half: the fuller one knows most of them.
            let fuller = if half.values.estimate() < before.values.estimate() { &mut *before } else { &mut *half };
            let series = fuller.series.list().to_vec();
            let mut new = half.new.clone();
            new.merge(&before.new);
            let new = new.list();
            let share = |name: &str, series: u64| {
                let new = new.iter().find(|leader| leader.key == name).map_or(0, |leader| leader.count - leader.error);
                Share { name: name.into(), series: series as f64, new_per_minute: new as f64 / minutes.max(1.0) }
            };
            let mut leaders: Vec<Share> =
                series.iter().take(leading).map(|leader| share(&leader.key, leader.count)).collect();
            // Who brings new series leads too, be he small as yet.
            for leader in new.iter().take(leading) {
                if leaders.iter().all(|known| *known.name != *leader.key) {
                    let known = series.iter().find(|known| known.key == leader.key);
                    leaders.push(share(&leader.key, known.map_or(leader.count, |known| known.count)));
                }
            }
            let values = Count { series: values.estimate(), error: STANDARD_ERROR };
            AttributeEstimate { key: Arc::clone(key), values, leading: leaders }
        };
        let mut all: Vec<AttributeEstimate> = self.keys.iter_mut().map(one).collect();
        all.sort_by(|a, b| b.values.series.total_cmp(&a.values.series).then_with(|| a.key.cmp(&b.key)));
        self.known = Some((minutes, all.clone()));
        all
    }
}

fn text_of(value: AnyValue<'_>, hash: u64) -> Cow<'_, str> {
    match value {
        AnyValue::Str(text) => {
            let end = text.char_indices().nth(MAX_TEXT).map_or(text.len(), |(at, _)| at);
            Cow::Borrowed(text.get(..end).unwrap_or(text))
        }
        AnyValue::Bool(flag) => flag.to_string().into(),
        AnyValue::Int(number) => number.to_string().into(),
        AnyValue::Double(number) => number.to_string().into(),
        _ => format!("#{hash:016x}").into(),
    }
}
