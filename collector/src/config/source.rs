//! Sources of configuration text: files, variables, the command line. Sizes are bounded, failures are mistakes.
//!
//! Nothing is fetched from the network; `http:` and `https:` say so.

use super::load::Environment;
use super::merge::{merge, nest};
use phoenix_pipeline::config::{Kind, MAX_TEXT, Mark, Mistake, Value, parse_on};
use std::io::Read;

/// The schemes that are served.
pub const SCHEMES: [&str; 3] = ["env", "file", "yaml"];

/// A scheme and what follows its colon. The scheme is two characters or longer, so a drive letter is none.
pub(super) fn split(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    let mut characters = scheme.chars();
    let first = characters.next()?;
    let fits = first.is_ascii_alphabetic()
        && scheme.len() >= 2
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    fits.then_some((scheme, rest))
}

/// A source as it may be shown: the text of `yaml:` may hold secrets.
pub(super) fn shown(uri: &str) -> String {
    match split(uri) {
        Some(("yaml", _)) => "yaml:...".to_owned(),
        _ => uri.to_owned(),
    }
}

/// Reads the document behind a `--config`: the tree, if there is one, and every mistake.
pub(super) fn document(uri: &str, environment: Environment<'_>) -> (Option<Value>, Vec<Mistake>) {
    let nowhere = Mark::new(shown(uri), 0, 0);
    let found = match split(uri) {
        None => file(uri).map(|text| parse_on(uri, &text)),
        Some(("file", path)) => file(path).map(|text| parse_on(path, &text)),
        Some(("env", name)) => variable(name, environment).and_then(|found| match found {
            Some(text) => Ok(parse_on(uri, &text)),
            None => Err(format!("the environment variable {name} is not set")),
        }),
        Some(("yaml", text)) => {
            let (value, mistakes) = parse_on("yaml:...", text);
            Ok((value.map(spread), mistakes))
        }
        Some((scheme, _)) => return (None, vec![unserved(nowhere, "", scheme)]),
    };
    match found {
        Ok((Some(value), mut mistakes)) if !matches!(value.kind, Kind::Map(_) | Kind::Null) => {
            let message = format!("found {}, expected a map with receivers, exporters and service", value.described());
            mistakes.push(Mistake::new(value.mark, "", message));
            (None, mistakes)
        }
        Ok(found) => found,
        Err(message) => (None, vec![Mistake::new(nowhere, "", message)]),
    }
}

/// Keys of `yaml:` may be paths (`exporters::debug::verbosity: detailed`), as in the Collector.
fn spread(value: Value) -> Value {
    let Value { mark, kind: Kind::Map(entries), text } = value else { return value };
    let mut whole = Value { mark, kind: Kind::Map(Vec::new()), text };
    for (key, value) in entries {
        let keys: Vec<&str> = key.name.split("::").collect();
        merge(&mut whole, nest(keys, &key.mark, spread(value)));
    }
    whole
}

/// A scheme that cannot be read from.
pub(super) fn unserved(mark: Mark, path: &str, scheme: &str) -> Mistake {
    match scheme {
        "http" | "https" => {
            let message = format!("configs are not fetched over {scheme}: fetch the file and name its path");
            Mistake::new(mark, path, message)
        }
        _ => Mistake::new(mark, path, format!("unknown scheme {scheme:?}")).allowing("known schemes", scheme, SCHEMES),
    }
}

/// A whole text file, at most [`MAX_TEXT`] bytes; pipes and `/dev/stdin` work.
pub(super) fn file(path: &str) -> Result<String, String> {
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(|error| format!("cannot read the file {path}: {}", reason(&error)))?;
    if bytes.len() > MAX_TEXT {
        return Err(format!("the file {path} is larger than {MAX_TEXT} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("the file {path} is not UTF-8 text: line {line} has a byte that is none")
    })
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// A variable; `None` if it is not set.
pub(super) fn variable(name: &str, environment: Environment<'_>) -> Result<Option<String>, String> {
    let mut characters = name.chars();
    let fits = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits {
        return Err(format!(
            "{name:?} cannot be the name of an environment variable; write $${{...}} for a literal ${{...}}"
        ));
    }
    let Some(text) = environment(name) else { return Ok(None) };
    if text.len() > MAX_TEXT {
        return Err(format!("the environment variable {name} is longer than {MAX_TEXT} bytes"));
    }
    text.into_string().map(Some).map_err(|_| format!("the environment variable {name} is not UTF-8 text"))
}
