//! The resolved config as text, with its secrets hidden.
//!
//! A printed config ends up in tickets. What is hidden is decided by names, generously: rather a harmless value too many.

use phoenix_pipeline::config::{Kind, REDACTED, Value, is_secret_block, is_secret_key};

/// The config as a person may see it.
pub fn redacted(value: &Value) -> Value {
    hide(value, false)
}

fn hide(value: &Value, secret: bool) -> Value {
    let kind = match &value.kind {
        Kind::Null => Kind::Null,
        Kind::Seq(items) => Kind::Seq(items.iter().map(|item| hide(item, secret)).collect()),
        Kind::Map(entries) => Kind::Map(
            entries
                .iter()
                .map(|(key, inner)| {
                    // In the list form of headers only the value is secret.
                    let named = secret && key.name == "name" && entries.iter().any(|(key, _)| key.name == "value");
                    let secret = !named && (secret || is_secret(&key.name, inner));
                    (key.clone(), hide(inner, secret))
                })
                .collect(),
        ),
        Kind::String(text) if text.is_empty() => Kind::String(String::new()),
        _ if secret => Kind::String(REDACTED.to_owned()),
        Kind::String(text) => Kind::String(without_credentials(text)),
        other => other.clone(),
    };
    let text = if secret { None } else { value.text.clone() };
    Value { mark: value.mark.clone(), kind, text }
}

fn is_secret(key: &str, value: &Value) -> bool {
    // A block or a switch that only has such a name is none.
    let block = matches!(value.kind, Kind::Map(_) | Kind::Bool(_));
    is_secret_block(key) || (!block && is_secret_key(key))
}

/// Hides the password in `scheme://user:password@host`, and secret parameters behind a `?`.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:{REDACTED}@{host}"),
            None => format!("{REDACTED}@{host}"),
        },
        None => authority.to_owned(),
    };
    let tail = match tail.split_once('?') {
        Some((path, query)) => {
            let query: Vec<String> = query
                .split('&')
                .map(|pair| match pair.split_once('=') {
                    Some((name, _)) if is_secret_key(name) || name == "key" => format!("{name}={REDACTED}"),
                    _ => pair.to_owned(),
                })
                .collect();
            format!("{path}?{}", query.join("&"))
        }
        None => tail.to_owned(),
    };
    format!("{scheme}://{authority}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_pipeline::config::parse;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        let text = "exporters:\n  otlp:\n    endpoint: https://u:pw1@h:4317/x?api_key=pw2&a=b\n    headers: {api-key: pw3, x: 5}\n    tls: {key_pem: pw4, key_file: /k.pem}\n    list: {headers: [{name: a, value: pw5}]}\n    password: pw6\n    access_token: 7777\n    user_name: keep\n    key: keep2\n";
        let shown = serde_yaml::to_string(&redacted(&parse("t.yaml", text).unwrap()).to_yaml()).unwrap();
        assert!(!shown.contains("pw") && !shown.contains("7777"), "{shown}");
        for kept in ["https://u:[REDACTED]@h:4317/x?api_key=[REDACTED]&a=b", "/k.pem", "name: a", "keep", "keep2"] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
