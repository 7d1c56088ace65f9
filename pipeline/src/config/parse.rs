//! YAML text to a tree of [`Value`]s with marks.
//!
//! YAML 1.2 core types plus what Go's YAML library adds (merge keys, `0x`, `0o`, `0b` and `_` in whole numbers), because
//! existing configs were written against it. Duplicate keys are mistakes; size, depth and the expansion of aliases are
//! bounded. Nothing is read from anywhere and no `${...}` is looked at.

use super::mistake::Mistake;
use super::value::{Key, Kind, Mark, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Longest accepted text, in bytes: far above any real config, far below what could hurt.
pub const MAX_TEXT: usize = 4 * 1024 * 1024;
/// Deepest accepted nesting: real configs stay under 15.
pub const MAX_DEPTH: usize = 100;
/// Most nodes of one document, aliases expanded: stops the "billion laughs".
pub const MAX_NODES: usize = 200_000;

/// Reads one YAML document; `file` is its name in marks. An empty document is `null`.
///
/// # Errors
/// Every duplicate key, bad merge and unknown tag; a syntax error ends the reading and is the last one.
pub fn parse(file: &str, text: &str) -> Result<Value, Vec<Mistake>> {
    match parse_on(file, text) {
        (Some(value), mistakes) if mistakes.is_empty() => Ok(value),
        (_, mistakes) => Err(mistakes),
    }
}

/// Reads one YAML document as [`parse`], and gives the tree in spite of mistakes that leave one (a key that stands twice
/// counts once), so that what it says can be judged as well. `None` after a syntax error.
pub fn parse_on(file: &str, text: &str) -> (Option<Value>, Vec<Mistake>) {
    let mut builder = Builder::new(file);
    match builder.document(text) {
        Ok(value) => (Some(value), builder.mistakes),
        Err(last) => {
            builder.mistakes.push(last);
            (None, builder.mistakes)
        }
    }
}

/// The type of a plain scalar: `null`, boolean, whole number, number, or else a string.
pub fn scalar(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Kind::Float(f64::NEG_INFINITY),
        _ => {}
    }
    // Cheap refusal of ordinary words before the number rules.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Kind::String(text.to_owned());
    }
    whole(text).or_else(|| float(text)).unwrap_or_else(|| Kind::String(text.to_owned()))
}

/// Whole numbers as Go's `ParseInt(text, 0, 64)`: base prefixes, a leading zero is octal, `_` between digits.
fn whole(text: &str) -> Option<Kind> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        Some(zero) if zero.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    let clean: String = digits.chars().filter(|c| *c != '_').collect();
    if clean.is_empty() || digits.starts_with('_') || digits.ends_with('_') || clean.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(&clean, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok().map(Kind::Int)
}

fn float(text: &str) -> Option<Kind> {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut digits = false;
    let mut rest = body.chars().peekable();
    while rest.next_if(char::is_ascii_digit).is_some() {
        digits = true;
    }
    if rest.next_if_eq(&'.').is_some() {
        while rest.next_if(char::is_ascii_digit).is_some() {
            digits = true;
        }
    }
    if !digits {
        return None;
    }
    if rest.next_if(|c| matches!(c, 'e' | 'E')).is_some() {
        rest.next_if(|c| matches!(c, '+' | '-'));
        rest.next_if(char::is_ascii_digit)?;
        while rest.next_if(char::is_ascii_digit).is_some() {}
    }
    if rest.next().is_some() {
        return None;
    }
    text.parse().ok().map(Kind::Float)
}

/// A finished node with its weight, kept where an anchor names it.
struct Anchored {
    value: Value,
    nodes: usize,
    height: usize,
}

/// A list or map that is still open.
struct Open {
    anchor: usize,
    mark: Mark,
    nodes: usize,
    height: usize,
    body: Body,
}

enum Body {
    Seq(Vec<Value>),
    /// `lines` says at which line each key stands.
    Map {
        entries: Vec<(Key, Value)>,
        lines: HashMap<String, u32>,
        merges: Vec<Value>,
        pending: Option<Pending>,
    },
}

/// A key that waits for its value.
enum Pending {
    Key(Key),
    Merge,
    /// A duplicate or impossible key, already reported.
    Dropped,
}

struct Builder {
    file: Arc<str>,
    anchors: HashMap<usize, Anchored>,
    stack: Vec<Open>,
    nodes: usize,
    root: Option<Value>,
    mistakes: Vec<Mistake>,
}

impl Builder {
    fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            anchors: HashMap::new(),
            stack: Vec::new(),
            nodes: 0,
            root: None,
            mistakes: Vec::new(),
        }
    }

    fn document(&mut self, text: &str) -> Result<Value, Mistake> {
        let start = Mark::new(Arc::clone(&self.file), 1, 1);
        if text.len() > MAX_TEXT {
            let size = text.len();
            return Err(Mistake::new(start, "", format!("the text has {size} bytes; at most {MAX_TEXT} are read")));
        }
        let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "a second YAML document starts here; a config is one document";
                        return Err(Mistake::new(self.mark(span), "", message));
                    }
                }
                Event::StreamEnd => break,
                event => self.event(event, span)?,
            }
        }
        Ok(self.root.take().unwrap_or_else(|| Value::null(start)))
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        let mark = self.mark(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), mark);
                self.nodes += 1;
                self.finished(value, anchor, 1, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", &mark);
                self.open(anchor, mark, Body::Seq(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", &mark);
                self.open(
                    anchor,
                    mark,
                    Body::Map { entries: Vec::new(), lines: HashMap::new(), merges: Vec::new(), pending: None },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(Anchored { value, nodes, height }) => {
                    let (value, nodes, height) = (value.clone(), *nodes, *height);
                    self.nodes = self.nodes.saturating_add(nodes);
                    self.finished(value, 0, nodes, height)
                }
                None => Err(Mistake::new(mark, "", "this alias stands inside the value it refers to")),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn open(&mut self, anchor: usize, mark: Mark, body: Body) -> Result<(), Mistake> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Mistake::new(mark, "", format!("nested more than {MAX_DEPTH} deep")));
        }
        self.stack.push(Open { anchor, mark, nodes: 1, height: 0, body });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Mistake> {
        let Some(Open { anchor, mark, nodes, height, body }) = self.stack.pop() else { return Ok(()) };
        let kind = match body {
            Body::Seq(items) => Kind::Seq(items),
            Body::Map { mut entries, mut lines, merges, .. } => {
                for merged in merges {
                    self.merge(&mut entries, &mut lines, merged, true);
                }
                Kind::Map(entries)
            }
        };
        self.nodes += 1;
        self.finished(Value::new(mark, kind), anchor, nodes, height + 1)
    }

    /// Adds the entries of a `<<` value that are not set yet.
    fn merge(
        &mut self,
        entries: &mut Vec<(Key, Value)>,
        lines: &mut HashMap<String, u32>,
        merged: Value,
        list_allowed: bool,
    ) {
        match merged.kind {
            Kind::Map(more) => {
                for (key, value) in more {
                    if let Entry::Vacant(free) = lines.entry(key.name.clone()) {
                        free.insert(key.mark.line);
                        entries.push((key, value));
                    }
                }
            }
            Kind::Seq(items) if list_allowed => {
                for item in items {
                    self.merge(entries, lines, item, false);
                }
            }
            _ => {
                let message = format!("the merge key << takes a map or a list of maps, found {}", merged.kind.name());
                self.mistakes.push(Mistake::new(merged.mark, "<<", message));
            }
        }
    }

    /// A whole node of `nodes` nodes is there: remembers it for its anchor, hands it to the open collection.
    fn finished(&mut self, value: Value, anchor: usize, nodes: usize, height: usize) -> Result<(), Mistake> {
        if self.nodes > MAX_NODES || self.stack.len() + height > MAX_DEPTH {
            let message =
                format!("too large: aliases expanded, it has over {MAX_NODES} nodes or is over {MAX_DEPTH} deep");
            return Err(Mistake::new(value.mark, "", message));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { value: value.clone(), nodes, height });
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        open.nodes += nodes;
        open.height = open.height.max(height);
        match &mut open.body {
            Body::Seq(items) => items.push(value),
            Body::Map { entries, lines, merges, pending } => match pending.take() {
                Some(Pending::Key(key)) => entries.push((key, value)),
                Some(Pending::Merge) => merges.push(value),
                Some(Pending::Dropped) => {}
                None => *pending = Some(key(lines, value, &mut self.mistakes)),
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, mark: Mark) -> Value {
        let kind = match tag {
            None if style == ScalarStyle::Plain => scalar(text),
            None => Kind::String(text.to_owned()),
            Some(tag) => {
                let kind = match (core(tag), scalar(text)) {
                    (Some("str"), _) => Some(Kind::String(text.to_owned())),
                    (Some("int"), kind @ Kind::Int(_))
                    | (Some("float"), kind @ Kind::Float(_))
                    | (Some("bool"), kind @ Kind::Bool(_))
                    | (Some("null"), kind @ Kind::Null) => Some(kind),
                    (Some("float"), Kind::Int(whole)) => Some(Kind::Float(whole as f64)),
                    _ => None,
                };
                kind.unwrap_or_else(|| {
                    let message = format!("the tag {}{} is unknown or does not fit the value", tag.handle, tag.suffix);
                    self.mistakes.push(Mistake::new(mark.clone(), "", message));
                    Kind::Null
                })
            }
        };
        let spelled = matches!(kind, Kind::Bool(_) | Kind::Int(_) | Kind::Float(_));
        Value { mark, kind, text: spelled.then(|| text.into()) }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, wanted: &str, mark: &Mark) {
        if let Some(tag) = tag
            && core(tag) != Some(wanted)
        {
            let message = format!("the tag {}{} is unknown or does not fit the value", tag.handle, tag.suffix);
            self.mistakes.push(Mistake::new(mark.clone(), "", message));
        }
    }

    fn mark(&self, span: Span) -> Mark {
        place(&self.file, span.start.line(), span.start.col())
    }

    fn syntax(&self, error: &ScanError) -> Mistake {
        let info = match error.info() {
            "recursion limit exceeded" => "nested too deep",
            info => info,
        };
        let hint = if info.contains("tab") { "; indent with spaces, YAML allows no tabs there" } else { "" };
        let mark = place(&self.file, error.marker().line(), error.marker().col());
        Mistake::new(mark, "", format!("not valid YAML: {info}{hint}"))
    }
}

fn place(file: &Arc<str>, line: usize, column: usize) -> Mark {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Mark::new(Arc::clone(file), bounded(line.max(1)), bounded(column.saturating_add(1)))
}

/// The name of a YAML core tag (`!!str`), if it is one.
fn core(tag: &Tag) -> Option<&str> {
    tag.is_yaml_core_schema().then_some(tag.suffix.as_str())
}

/// What a node means in the place of a key.
fn key(lines: &mut HashMap<String, u32>, value: Value, mistakes: &mut Vec<Mistake>) -> Pending {
    if value.as_str() == Some("<<") {
        return Pending::Merge;
    }
    let Some(name) = value.scalar_text() else {
        mistakes.push(Mistake::new(value.mark, "", format!("a key must be text, found {}", value.kind.name())));
        return Pending::Dropped;
    };
    match lines.entry(name.clone()) {
        Entry::Occupied(first) => {
            let message = format!("the key {name:?} stands twice; first at line {}", first.get());
            mistakes.push(Mistake::new(value.mark, name, message));
            Pending::Dropped
        }
        Entry::Vacant(free) => {
            free.insert(value.mark.line);
            Pending::Key(Key { mark: value.mark, name })
        }
    }
}
