//! Why an entity is, or is not, in the output: what the marking stages last said of it, with reason, stage and time.
//!
//! Stages write only when their decision about an entity changes, so a steady state costs nothing. The log is bounded:
//! [`MAX_ENTITIES`] entities with [`MAX_DECISIONS`] decisions each; whoever changed longest ago is forgotten first. At
//! some 900 bytes an entity that is at most 9 MB, and about 1 MB on a host of 1,000 processes. It never holds a command
//! line, and what it holds never becomes an attribute or a label.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phoenix_telemetry::{AnyValue, Attributes, Point, Resource};
use serde_json::{Map, Value, json};

use crate::{Class, ComponentId, Decision, Mark};

/// Entities remembered: ten hosts' worth of processes, and little memory.
pub const MAX_ENTITIES: usize = 10_000;
/// Decisions remembered of one entity: some coming and going, and the last word of every stage.
pub const MAX_DECISIONS: usize = 8;
/// Entities in one answer: what a person reads; a question that fits more is too wide.
pub const MAX_ANSWERS: usize = 100;
/// Bytes of attributes kept of one entity; what comes after is left out.
const MAX_ATTRIBUTE_BYTES: usize = 640;
/// Never kept: long, and where people put secrets.
const NEVER_KEPT: [&str; 3] = ["process.command", "process.command_line", "process.command_args"];

/// The log. Cheap to clone; all clones are one log.
#[derive(Clone, Default)]
pub struct Explain(Arc<Mutex<Log>>);

impl fmt::Debug for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explain").field("entities", &self.len()).finish()
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Everything known of this `process.pid`, on any host.
    Pid(i64),
    /// Entities with a matching attribute: `key=value`, or only a value of any attribute. `*` stands for any text.
    Resource(String),
}

impl Explain {
    /// Opens the log for the changes of one batch; others wait until the writer is dropped.
    pub fn writer(&self) -> Writer<'_> {
        Writer(self.log())
    }

    /// How many entities are remembered.
    pub fn len(&self) -> usize {
        self.log().records.len()
    }

    /// Whether nothing was ever decided.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The answer as JSON: `{"entities": [{pid, name, attributes, decisions}], "truncated"}`, entities and decisions
    /// newest first, at most [`MAX_ANSWERS`] of them. Times are Unix nanoseconds of the points, as text.
    pub fn answer(&self, question: &Question) -> String {
        let log = self.log();
        let mut found: Vec<(&u64, &Record)> =
            log.records.iter().filter(|(_, record)| record.answers(question)).collect();
        found.sort_by_key(|(key, record)| (std::cmp::Reverse(record.stamp), **key));
        let entities: Vec<Value> = found.iter().take(MAX_ANSWERS).map(|(_, record)| record.json()).collect();
        json!({ "entities": entities, "truncated": found.len() > MAX_ANSWERS }).to_string()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The opened log.
pub struct Writer<'a>(MutexGuard<'a, Log>);

/// One change of mind.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Identity of the entity: [`Resource::hash`], or what a stage ranks by.
    pub entity: u64,
    /// When, in Unix nanoseconds of the points.
    pub time: u64,
    /// Which stage.
    pub stage: &'a ComponentId,
    /// What it decided.
    pub mark: Mark,
}

impl Writer<'_> {
    /// Writes one change down; what a stage has said last of the entity, with the same reason, is no change. `resource` is the entity's, `point` one of its points where the entity is less than a
    /// resource; both are read only if the entity is new.
    pub fn note(&mut self, note: &Note<'_>, resource: Resource<'_>, point: Option<Point<'_>>) {
        self.0.note(note, || {
            let mut kept = Kept::default();
            if let Some(point) = point {
                kept.take(point.attributes());
            }
            kept.take(resource.attributes());
            kept
        });
    }
}

#[derive(Default)]
struct Log {
    records: HashMap<u64, Record>,
    /// Entities by their last change, oldest first; an entry whose stamp is not its record's is out of date.
    order: VecDeque<(u64, u64)>,
    stamp: u64,
}

struct Record {
    stamp: u64,
    kept: Kept,
    /// Oldest first.
    decisions: Vec<Told>,
}

struct Told {
    time: u64,
    stage: ComponentId,
    mark: Mark,
}

/// What is kept of an entity's attributes.
#[derive(Default)]
struct Kept {
    pid: Option<i64>,
    name: Option<Box<str>>,
    attributes: Vec<(Box<str>, Box<str>)>,
    bytes: usize,
}

impl Kept {
    fn take(&mut self, attributes: Attributes<'_>) {
        for (key, value) in attributes.iter() {
            let text = match value {
                AnyValue::Str(text) => text.to_owned(),
                AnyValue::Int(number) => number.to_string(),
                AnyValue::Bool(flag) => flag.to_string(),
                AnyValue::Double(number) => number.to_string(),
                _ => continue,
            };
            match (key, value) {
                ("process.pid", AnyValue::Int(pid)) => self.pid = Some(pid),
                ("process.executable.name", _) => self.name = Some(shortened(&text).into()),
                _ => {}
            }
            self.bytes += key.len() + text.len();
            if self.bytes <= MAX_ATTRIBUTE_BYTES && !NEVER_KEPT.contains(&key) {
                self.attributes.push((key.into(), text.into()));
            } else {
                self.bytes -= key.len() + text.len();
            }
        }
    }
}

/// The text, or as much of its beginning as is worth keeping.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_ATTRIBUTE_BYTES)).unwrap_or_default()
}

impl Log {
    fn note(&mut self, note: &Note<'_>, kept: impl FnOnce() -> Kept) {
        if self.records.get(&note.entity).is_some_and(|record| record.last_word(note.stage) == Some(note.mark)) {
            return;
        }
        self.stamp += 1;
        let stamp = self.stamp;
        let record =
            self.records.entry(note.entity).or_insert_with(|| Record { stamp, kept: kept(), decisions: Vec::new() });
        record.stamp = stamp;
        record.tell(Told { time: note.time, stage: note.stage.clone(), mark: note.mark });
        self.order.push_back((note.entity, stamp));
        self.trim();
    }

    fn trim(&mut self) {
        let Log { records, order, .. } = self;
        while records.len() > MAX_ENTITIES {
            let Some((entity, stamp)) = order.pop_front() else { return };
            if records.get(&entity).is_some_and(|record| record.stamp == stamp) {
                records.remove(&entity);
            }
        }
        if order.len() > 2 * MAX_ENTITIES {
            order.retain(|(entity, stamp)| records.get(entity).is_some_and(|record| record.stamp == *stamp));
        }
    }
}

impl Record {
    /// What a stage said last.
    fn last_word(&self, stage: &ComponentId) -> Option<Mark> {
        self.decisions.iter().rev().find(|told| told.stage == *stage).map(|told| told.mark)
    }

    /// Adds a decision; if there are too many, the oldest one goes that is not its stage's last word.
    fn tell(&mut self, told: Told) {
        self.decisions.push(told);
        if self.decisions.len() <= MAX_DECISIONS {
            return;
        }
        let outdated =
            |(i, told): &(usize, &Told)| self.decisions.iter().skip(i + 1).any(|later| later.stage == told.stage);
        let gone = self.decisions.iter().enumerate().find(outdated).map_or(0, |(i, _)| i);
        self.decisions.remove(gone);
    }

    fn answers(&self, question: &Question) -> bool {
        match question {
            Question::Pid(pid) => self.kept.pid == Some(*pid),
            Question::Resource(text) => {
                let (key, pattern) = match text.split_once('=') {
                    Some((key, pattern)) => (Some(key), pattern),
                    None => (None, text.as_str()),
                };
                self.kept
                    .attributes
                    .iter()
                    .any(|(have, value)| key.is_none_or(|key| key == &**have) && fits(pattern, value))
            }
        }
    }

    fn json(&self) -> Value {
        let text = |(key, value): &(Box<str>, Box<str>)| (key.to_string(), Value::from(&**value));
        let attributes: Map<String, Value> = self.kept.attributes.iter().map(text).collect();
        let decisions: Vec<Value> = self.decisions.iter().rev().map(Told::json).collect();
        json!({
            "pid": self.kept.pid,
            "name": self.kept.name.as_deref(),
            "attributes": attributes,
            "decisions": decisions,
        })
    }
}

impl Told {
    fn json(&self) -> Value {
        let decision = match self.mark.decision {
            Decision::Open => "individual",
            Decision::Fold => "fold",
            Decision::Keep => "keep",
        };
        let class = match self.mark.class {
            Class::Low => "low",
            Class::Normal => "normal",
            Class::High => "high",
            Class::Critical => "critical",
        };
        json!({
            "time_unix_nano": self.time.to_string(),
            "stage": self.stage.as_str(),
            "decision": decision,
            "class": class,
            "reason": self.mark.reason,
        })
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text. Linear in both but for stars, of which the last one counts.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_telemetry::{Batch, BatchBuilder, Descriptor, Number, Shape};

    fn batch(pids: impl IntoIterator<Item = i64>) -> Batch {
        let mut builder = BatchBuilder::new();
        for pid in pids {
            let mut resource = builder.resource();
            resource.attribute("process.pid", pid).attribute("process.executable.name", "post\"gres");
            resource.attribute("process.command_line", "x --password=y");
            let mut scope = resource.scope("s", "");
            let desc = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
            scope.metric(&desc).point(0, 1, Number::Int(1), &[("device", AnyValue::Str("sda"))]);
        }
        builder.finish()
    }

    fn write(explain: &Explain, batch: &Batch, stage: &str, time: u64, decision: Decision) {
        let stage = ComponentId::new(stage);
        let mark = Mark { decision, class: Class::High, reason: "why" };
        let mut writer = explain.writer();
        for resource in batch.resources() {
            let point = resource.metrics().next().and_then(|metric| metric.points().next());
            writer.note(&Note { entity: resource.hash(), time, stage: &stage, mark }, resource, point);
        }
    }

    fn ask(explain: &Explain, question: &Question) -> Value {
        serde_json::from_str(&explain.answer(question)).unwrap()
    }

    #[test]
    fn answers_by_pid_and_by_attribute_newest_first() {
        let explain = Explain::default();
        let batch = batch([7, 8]);
        write(&explain, &batch, "priority", 1, Decision::Keep);
        write(&explain, &batch, "topk", 2, Decision::Fold);
        let answer = ask(&explain, &Question::Pid(7));
        assert_eq!(answer["entities"].as_array().unwrap().len(), 1);
        let entity = &answer["entities"][0];
        assert_eq!((entity["pid"].as_i64(), entity["name"].as_str()), (Some(7), Some("post\"gres")));
        assert_eq!(entity["attributes"]["device"], "sda");
        assert_eq!(
            entity["decisions"][0],
            json!({"time_unix_nano": "2", "stage": "topk", "decision": "fold", "class": "high", "reason": "why"})
        );
        assert_eq!(entity["decisions"][1]["decision"], "keep");
        assert!(!explain.answer(&Question::Pid(7)).contains("password"));
        write(&explain, &batch, "topk", 3, Decision::Fold);
        assert_eq!(
            ask(&explain, &Question::Pid(7))["entities"][0]["decisions"][0]["time_unix_nano"],
            "2",
            "said before"
        );
        let count = |text: &str| ask(&explain, &Question::Resource(text.into()))["entities"].as_array().unwrap().len();
        assert_eq!(count("process.executable.name=post*"), 2);
        assert_eq!(count("process.pid=8"), 1);
        assert_eq!(count("sda"), 2);
        assert_eq!(count("device=8"), 0);
        assert_eq!(count("*"), 2);
    }

    #[test]
    fn the_last_word_of_a_stage_outlives_the_flapping_of_another() {
        let explain = Explain::default();
        let batch = batch([7]);
        write(&explain, &batch, "priority", 1, Decision::Keep);
        for time in 2..50 {
            write(&explain, &batch, "topk", time, if time % 2 == 0 { Decision::Fold } else { Decision::Open });
        }
        let decisions = ask(&explain, &Question::Pid(7))["entities"][0]["decisions"].clone();
        let decisions = decisions.as_array().unwrap();
        assert_eq!(decisions.len(), MAX_DECISIONS);
        assert_eq!(decisions[0]["time_unix_nano"], "49");
        assert_eq!(decisions[MAX_DECISIONS - 1]["stage"], "priority");
    }

    #[test]
    fn memory_is_bounded_and_the_longest_unchanged_goes_first() {
        let explain = Explain::default();
        let total = i64::try_from(MAX_ENTITIES).unwrap() + 500;
        write(&explain, &batch(0..total), "topk", 1, Decision::Fold);
        assert_eq!(explain.len(), MAX_ENTITIES);
        assert!(ask(&explain, &Question::Pid(0))["entities"].as_array().unwrap().is_empty());
        for time in 0..3 {
            let decision = if time % 2 == 0 { Decision::Open } else { Decision::Fold };
            write(&explain, &batch(total - 9_000..total), "topk", time, decision);
        }
        assert!(explain.log().order.len() <= 2 * MAX_ENTITIES);
        assert_eq!(explain.len(), MAX_ENTITIES);
        let wide = ask(&explain, &Question::Resource("*".into()));
        assert_eq!((wide["entities"].as_array().unwrap().len(), &wide["truncated"]), (MAX_ANSWERS, &Value::Bool(true)));
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c", "abc", true),
            ("a*b*c", "axbxc", true),
            ("a*a", "a", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
