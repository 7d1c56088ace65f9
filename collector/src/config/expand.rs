//! `${...}` in the values of a config: variables, files, defaults; `$$` is a dollar.
//!
//! As in the Collector, what a reference brings in is configuration text itself: references in it are followed too, and a
//! reference that is the whole value takes the type of what it brings. Numbers, sizes and depth are bounded, so a
//! reference to itself ends as a mistake.

use super::Notice;
use super::load::Environment;
use super::merge::remark;
use super::source::{self, split, unserved};
use phoenix_pipeline::config::{Kind, MAX_TEXT, Mark, Mistake, Value, parse};
use std::collections::BTreeSet;

/// Most references of one config, those inside of what they bring in counted.
const MAX_REFERENCES: usize = 1000;
/// References inside of references.
const MAX_DEPTH: usize = 30;

/// Expands every value of a config. A reference that cannot be followed is a mistake and leaves `null`; the notices say
/// which variables are not set.
pub(super) fn expand(value: Value, environment: Environment<'_>) -> (Value, Vec<Notice>, Vec<Mistake>) {
    let mut expander =
        Expander { environment, references: 0, bytes: 0, notices: BTreeSet::new(), mistakes: Vec::new() };
    let value = expander.value(value, 0);
    (value, expander.notices.into_iter().collect(), expander.mistakes)
}

struct Expander<'e> {
    environment: Environment<'e>,
    references: usize,
    bytes: usize,
    notices: BTreeSet<Notice>,
    mistakes: Vec<Mistake>,
}

/// What a string has become.
enum Expanded {
    /// Text with the text of its references.
    Text(String),
    /// The string was one reference; this is what it brings, with its type.
    Whole(Value),
}

impl Expander<'_> {
    fn value(&mut self, value: Value, depth: usize) -> Value {
        let Value { mark, kind, text } = value;
        let kind = match kind {
            Kind::String(text) if text.contains('$') => match self.string(&text, &mark, depth) {
                Ok(Expanded::Text(text)) => Kind::String(text),
                Ok(Expanded::Whole(value)) => return value,
                Err(mistake) => {
                    self.mistakes.push(*mistake);
                    Kind::Null
                }
            },
            Kind::Seq(items) => Kind::Seq(items.into_iter().map(|item| self.value(item, depth)).collect()),
            Kind::Map(entries) => {
                Kind::Map(entries.into_iter().map(|(key, value)| (key, self.value(value, depth))).collect())
            }
            other => other,
        };
        Value { mark, kind, text }
    }

    fn string(&mut self, text: &str, mark: &Mark, depth: usize) -> Result<Expanded, Box<Mistake>> {
        if let Some(inner) = text.strip_prefix("${")
            && close(inner) == Some(inner.len().saturating_sub(1))
        {
            let inner = self.plain(inner.get(..inner.len().saturating_sub(1)).unwrap_or_default(), mark, depth)?;
            return self.reference(&inner, mark, depth).map(Expanded::Whole);
        }
        self.plain(text, mark, depth).map(Expanded::Text)
    }

    /// Text in which every reference is replaced by its text.
    fn plain(&mut self, text: &str, mark: &Mark, depth: usize) -> Result<String, Box<Mistake>> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            rest = from;
            if let Some(after) = rest.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(inner) = rest.strip_prefix("${") {
                let Some(end) = close(inner) else {
                    return Err(wrong(mark, "a ${ is not closed by a }; write $${ for a literal ${"));
                };
                let (inner, after) = inner.split_at(end);
                let inner = self.plain(inner, mark, depth)?;
                let value = self.reference(&inner, mark, depth)?;
                let Some(text) = value.scalar_text() else {
                    let message = format!(
                        "{} brings {}, which cannot stand inside a longer string",
                        shown(&inner),
                        value.kind.name()
                    );
                    return Err(wrong(mark, message));
                };
                out.push_str(&text);
                rest = after.get(1..).unwrap_or_default();
            } else {
                out.push('$');
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What stands behind the inside of one `${...}`, itself expanded.
    fn reference(&mut self, inner: &str, mark: &Mark, depth: usize) -> Result<Value, Box<Mistake>> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(wrong(
                mark,
                format!("there are more than {MAX_REFERENCES} references; does one lead back to itself?"),
            ));
        }
        if depth >= MAX_DEPTH {
            return Err(wrong(
                mark,
                format!("references lead more than {MAX_DEPTH} deep; does one lead back to itself?"),
            ));
        }
        let origin = mark.through(shown(inner));
        let found = match split(inner) {
            Some(("file", path)) => {
                let text = source::file(path).map_err(|message| wrong(mark, message))?;
                self.count(&text, mark)?;
                self.file(path, &text, mark)
            }
            Some(("yaml", text)) => parse("yaml:...", text).map_err(|mistakes| first(mistakes, &origin))?,
            Some(("env", rest)) => self.variable(rest, &origin)?,
            // `${NAME:-default}` without the scheme.
            Some((_, default)) if default.starts_with('-') => self.variable(inner, &origin)?,
            Some((scheme, _)) => return Err(Box::new(unserved(mark.clone(), "", scheme))),
            None => self.variable(inner, &origin)?,
        };
        Ok(self.value(found, depth + 1))
    }

    fn variable(&mut self, inner: &str, origin: &Mark) -> Result<Value, Box<Mistake>> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let found = source::variable(name, self.environment).map_err(|message| wrong(origin, message))?;
        let text = match (found, default) {
            (Some(text), _) => {
                if text.is_empty() {
                    self.notices
                        .insert(Notice::info(format!("{origin}: the environment variable {name} is set but empty")));
                }
                text
            }
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                let text = format!(
                    "{origin}: the environment variable {name} is not set: taken as empty; ${{env:{name}:-...}} gives it a default"
                );
                self.notices.insert(Notice::warning(text));
                return Ok(Value::null(origin.clone()));
            }
        };
        self.count(&text, origin)?;
        Ok(typed(&text, origin))
    }

    /// The content of a file: a sub-tree with the file's own lines, or one value.
    fn file(&mut self, path: &str, text: &str, mark: &Mark) -> Value {
        let included = format!("included at {mark}");
        match parse(path, text) {
            Ok(mut tree) if matches!(tree.kind, Kind::Seq(_) | Kind::Map(_)) => {
                remark(&mut tree, &|found| found.through(included.as_str()));
                tree
            }
            Ok(_) => typed(text.strip_suffix('\n').unwrap_or(text), &Mark::new(path, 1, 1).through(included)),
            Err(_) => {
                self.notices.insert(Notice::info(format!(
                    "{mark}: the file {path} is not valid YAML and is taken as one string"
                )));
                let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
                Value::new(Mark::new(path, 1, 1).through(included), Kind::String(text))
            }
        }
    }

    fn count(&mut self, text: &str, mark: &Mark) -> Result<(), Box<Mistake>> {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > MAX_TEXT {
            return Err(wrong(mark, format!("references bring in more than {MAX_TEXT} bytes")));
        }
        Ok(())
    }
}

/// The text of a variable with the type YAML gives it; what is no YAML, and every string, is taken letter by letter.
fn typed(text: &str, mark: &Mark) -> Value {
    let mut value = match parse("", text) {
        Ok(value) if !matches!(value.kind, Kind::String(_)) => value,
        _ => return Value::new(mark.clone(), Kind::String(text.to_owned())),
    };
    remark(&mut value, &|_| mark.clone());
    // Where a string is wanted the variable is one. Not with a dollar: its references are followed in the tree only.
    value.text = (!text.contains('$')).then(|| text.into());
    value
}

/// A reference as it may be shown: a default or `yaml:` text may hold a secret.
fn shown(inner: &str) -> String {
    match (inner.split_once(":-"), split(inner)) {
        (_, Some(("yaml", _))) => "${yaml:...}".to_owned(),
        (Some((name, _)), _) => format!("${{{name}:-...}}"),
        _ => format!("${{{inner}}}"),
    }
}

/// Where the `}` of a reference is whose `${` stands right before `text`.
fn close(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'$' if bytes.next_if(|(_, next)| *next == b'{').is_some() => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn wrong(mark: &Mark, message: impl Into<String>) -> Box<Mistake> {
    Box::new(Mistake::new(mark.clone(), "", message))
}

fn first(mistakes: Vec<Mistake>, mark: &Mark) -> Box<Mistake> {
    let message = mistakes.into_iter().next().map_or_else(|| "not valid YAML".to_owned(), |mistake| mistake.message);
    wrong(mark, message)
}
