//! A reader of Prometheus pages written from the formats' descriptions, with nothing of the writer's in it.

use std::collections::{BTreeMap, BTreeSet};

/// One sample line.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// What a page says, or why it says nothing.
#[derive(Debug, Default)]
pub struct Page {
    pub types: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

/// Characters with a place to stand in.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn word(&mut self, legal: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !legal(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn quoted(&mut self) -> Result<String, String> {
        if !self.eat("\"") {
            return Err(format!("no quote at {:?}", self.rest));
        }
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => out.push(c),
                    other => return Err(format!("escape {other:?}")),
                },
                c => out.push(c),
            }
        }
        Err("a quote is open".into())
    }

    fn labels(&mut self) -> Result<BTreeMap<String, String>, String> {
        let mut labels = BTreeMap::new();
        while !self.eat("}") {
            if !labels.is_empty() && !self.eat(",") {
                return Err(format!("no comma at {:?}", self.rest));
            }
            let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !self.eat("=") {
                return Err(format!("label name {name:?} at {:?}", self.rest));
            }
            if labels.insert(name.to_owned(), self.quoted()?).is_some() {
                return Err(format!("label {name} twice"));
            }
        }
        Ok(labels)
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        text if text.bytes().all(|b| b.is_ascii_digit() || b"+-.e".contains(&b)) => {
            text.parse().map_err(|_| format!("number {text:?}"))
        }
        text => Err(format!("number {text:?}")),
    }
}

fn sample(line: &str, open_metrics: bool) -> Result<Sample, String> {
    let mut cursor = Cursor { rest: line };
    let name = cursor.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':').to_owned();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("name {name:?}"));
    }
    let labels = if cursor.eat("{") { cursor.labels()? } else { BTreeMap::new() };
    if !cursor.eat(" ") {
        return Err("no space before the value".into());
    }
    let (plain, exemplar) =
        cursor.rest.split_once(" # ").map_or((cursor.rest, None), |(plain, exemplar)| (plain, Some(exemplar)));
    if let Some(exemplar) = exemplar {
        let mut cursor = Cursor { rest: exemplar };
        if !open_metrics || !cursor.eat("{") {
            return Err("an exemplar where none can be".into());
        }
        let labels = cursor.labels()?;
        let characters: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if characters > 128 {
            return Err(format!("an exemplar of {characters} characters"));
        }
        cursor.rest.split_whitespace().try_for_each(|word| number(word).map(drop))?;
    }
    let mut words = plain.split(' ');
    let value = number(words.next().unwrap_or_default())?;
    match (words.next(), words.next()) {
        (None, _) => {}
        (Some(time), None) => drop(number(time)?),
        (_, Some(_)) => return Err("more than value and time".into()),
    }
    Ok(Sample { name, labels, value })
}

/// The suffixes of a type's samples.
fn suffixes(kind: &str, open_metrics: bool) -> &'static [&'static str] {
    match (kind, open_metrics) {
        ("counter", true) => &["_total"],
        ("info", true) => &["_info"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        ("summary", _) => &["", "_sum", "_count"],
        _ => &[""],
    }
}

/// Reads a page and holds it to what both formats demand: families in one piece and of one type, every line legal, no
/// sample twice, histograms cumulative and complete.
pub fn read(page: &str, open_metrics: bool) -> Result<Page, String> {
    let mut out = Page::default();
    let mut family: Option<(String, String)> = None;
    let mut identities = BTreeSet::new();
    let mut names = BTreeSet::new();
    let body = match (open_metrics, page.strip_suffix("# EOF\n")) {
        (true, Some(body)) => body,
        (false, None) => page,
        _ => return Err("# EOF at the end of one format only".into()),
    };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line is cut".into());
    }
    for line in body.lines() {
        let fail = |why: String| format!("{why} in {line:?}");
        if let Some(comment) = line.strip_prefix("# ") {
            let (what, rest) = comment.split_once(' ').ok_or_else(|| fail("comment".into()))?;
            let (name, text) = rest.split_once(' ').ok_or_else(|| fail("comment without text".into()))?;
            match what {
                "TYPE" => {
                    if out.types.insert(name.to_owned(), text.to_owned()).is_some() {
                        return Err(fail("a second TYPE".into()));
                    }
                    let reserved: &[&str] = match (text, open_metrics) {
                        ("counter", true) => &["", "_total", "_created"],
                        ("info", true) => &["", "_info"],
                        ("histogram", _) => &["", "_bucket", "_sum", "_count", "_created"],
                        ("summary", _) => &["", "_sum", "_count", "_created"],
                        _ => &[""],
                    };
                    if reserved.iter().any(|suffix| !names.insert(format!("{name}{suffix}"))) {
                        return Err(fail("a name that another family has".into()));
                    }
                    family = Some((name.to_owned(), text.to_owned()));
                }
                "HELP" => family = None,
                "UNIT" if open_metrics && name.ends_with(&format!("_{text}")) => {}
                _ => return Err(fail("comment".into())),
            }
            continue;
        }
        let sample = sample(line, open_metrics).map_err(fail)?;
        let (name, kind) = family.as_ref().ok_or_else(|| fail("a sample without TYPE".into()))?;
        let fits = suffixes(kind, open_metrics).iter().any(|suffix| sample.name.strip_suffix(suffix) == Some(name));
        if !fits {
            return Err(fail(format!("a sample that is not of {kind} {name}")));
        }
        let labels: Vec<_> = sample
            .labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !identities.insert((sample.name.clone(), labels)) {
            return Err(fail("a series twice".into()));
        }
        out.samples.push(sample);
    }
    histograms(&out)?;
    Ok(out)
}

fn histograms(page: &Page) -> Result<(), String> {
    let mut last: BTreeMap<(String, BTreeMap<String, String>), (f64, f64)> = BTreeMap::new();
    for sample in &page.samples {
        let Some(base) = sample
            .name
            .strip_suffix("_bucket")
            .filter(|base| page.types.get(*base).is_some_and(|kind| kind == "histogram"))
        else {
            continue;
        };
        let mut labels = sample.labels.clone();
        let bound = number(&labels.remove("le").ok_or("a bucket without le")?)?;
        let place = last.entry((base.to_owned(), labels)).or_insert((f64::NEG_INFINITY, 0.0));
        if bound <= place.0 || sample.value < place.1 {
            return Err(format!("bucket {bound} of {base} is out of order"));
        }
        *place = (bound, sample.value);
    }
    match last.iter().find(|(_, (bound, _))| bound.is_finite()) {
        Some(((name, _), _)) => Err(format!("{name} has no +Inf bucket")),
        None => Ok(()),
    }
}
