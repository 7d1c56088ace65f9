//! The authenticators as an agent builds them, and as exporters and receivers use them.

use http::{HeaderMap, HeaderValue};
use phoenix_pipeline::auth::Authenticator;
use phoenix_pipeline::config::parse;
use phoenix_pipeline::{ExtensionFactory, Health, Site};
use tempfile::TempDir;

use super::rotating::Rotating;
use super::*;

fn build(factory: &ExtensionFactory, yaml: &str) -> Result<Authenticator, String> {
    let value = parse("test.yaml", yaml).unwrap();
    let mistakes = (factory.validate)(&value);
    if !mistakes.is_empty() {
        return Err(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let extension = (factory.build)(&value, &Site::for_test(factory.name)).map_err(|error| error.to_string())?;
    Ok(extension.authenticator().unwrap())
}

/// What is sent, beginning with these headers.
fn sent(factory: &ExtensionFactory, yaml: &str, before: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
    let mut headers: HeaderMap =
        before.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
    build(factory, yaml).unwrap().client.unwrap().apply(&mut headers);
    let text =
        |(name, value): (&http::HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    headers.iter().map(text).collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn credentials_as_they_go_over_the_wire() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "\n first \nsecond\n").unwrap();
    let file = file.display();
    for (factory, yaml, expected) in [
        (&BEARER, "token: abc".to_owned(), pair("authorization", "Bearer abc")),
        (&BEARER, "tokens: [a, b]".to_owned(), pair("authorization", "Bearer a")),
        (&BEARER, format!("{{ token: abc, filename: {file} }}"), pair("authorization", "Bearer first")),
        (&BEARER, "{ token: abc, header: Api-Key, scheme: \"\" }".to_owned(), pair("api-key", "abc")),
        // RFC 7617, section 2.
        (
            &BASIC,
            "client_auth: { username: Aladdin, password: open sesame }".to_owned(),
            pair("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
        (&HEADERS, "headers: [{ key: X-Scope-OrgID, value: acme }]".to_owned(), pair("x-scope-orgid", "acme")),
    ] {
        assert_eq!(
            sent(factory, &yaml, &[("authorization", "old")]).into_iter().find(|sent| *sent == expected),
            Some(expected),
            "{yaml}"
        );
    }
}

#[test]
fn the_actions_of_headers_setter() {
    let yaml = "headers:
- { key: a, value: new }
- { key: b, action: insert, value: new }
- { key: c, action: update, value: new }
- { key: d, action: delete }
- { key: e, action: insert, value: new }
- { key: f, action: update, value: new }
";
    let mut sent = sent(&HEADERS, yaml, &[("a", "old"), ("b", "old"), ("c", "old"), ("d", "old")]);
    sent.sort();
    assert_eq!(sent, [pair("a", "new"), pair("b", "old"), pair("c", "new"), pair("e", "new")]);
}

#[test]
fn a_receiver_takes_each_token_and_nothing_else() {
    let server = build(&BEARER, "tokens: [one, two]").unwrap().server.unwrap();
    let check = |value: &'static str| {
        server.check(&[(http::header::AUTHORIZATION, HeaderValue::from_static(value))].into_iter().collect())
    };
    assert!(check("Bearer one").is_ok() && check("Bearer two").is_ok());
    for wrong in ["Bearer three", "Bearer one ", "bearer one", "one", "", "Bearer ", "Bearer one two"] {
        assert!(check(wrong).is_err(), "{wrong:?}");
    }
    assert!(server.check(&HeaderMap::new()).is_err());
    assert!(build(&BASIC, "client_auth: { username: a }").unwrap().server.is_none());
}

#[test]
fn settings_that_are_refused_say_why_and_show_no_secret() {
    for (factory, yaml, part) in [
        (&BEARER, "{}", "there is no token"),
        (&BEARER, "{ token: hunter2, tokens: [hunter2] }", "tokens: token is set too"),
        (&BEARER, "{ token: \"hunter2\\n\" }", "token: holds a character"),
        (&BEARER, "{ tokens: [a, \"\"] }", "one of them is empty"),
        (&BEARER, "{ token: a, header: \"a b\" }", "header: is no header name"),
        (&BEARER, "filename: /nowhere/hunter", "cannot read /nowhere/hunter"),
        (&BASIC, "{}", "there is no name to send"),
        (&BASIC, "client_auth: { username: \"a:b\" }", "a colon is not allowed"),
        (
            &BASIC,
            "{ client_auth: { username: a }, htpasswd: { inline: \"a:hunter2\" } }",
            "receivers do not check passwords",
        ),
        (&HEADERS, "{}", "name at least one"),
        (&HEADERS, "headers: [{ key: a }]", "set value or value_file"),
        (&HEADERS, "headers: [{ key: a, value: b, value_file: c }]", "value is set too"),
        (&HEADERS, "headers: [{ key: a, from_context: hunter }]", "is not known when data is sent"),
    ] {
        let error = build(factory, yaml).err().unwrap_or_else(|| panic!("{yaml} is taken"));
        assert!(error.contains(part) && !error.contains("hunter2"), "{yaml}: {error}");
    }
}

fn rotating(folder: &TempDir, text: &str) -> (std::path::PathBuf, Site, std::sync::Arc<Rotating<HeaderValue>>) {
    let path = folder.path().join("secret");
    std::fs::write(&path, text).unwrap();
    let site = Site::for_test("headers_setter");
    site.status.ok();
    let value = Rotating::file(path.to_str().unwrap(), &site, Box::new(header_value)).unwrap();
    (path, site, value)
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_old_secret_and_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (path, site, value) = rotating(&folder, "old\n");
    let health = || site.status.board().snapshot().remove("headers_setter").unwrap();
    for (text, part) in
        [(Some(""), "there is nothing in it"), (Some("hunter\n2"), "a line break"), (None, "cannot read")]
    {
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        value.look();
        assert_eq!(*value.current(), "old");
        let Health::Recoverable(why) = health() else { panic!("{part}") };
        assert!(why.contains(part) && !why.contains("hunter"), "{why}");
    }
    std::fs::write(&path, "new\n").unwrap();
    value.look();
    assert_eq!((value.current().to_str().unwrap(), health()), ("new", Health::Ok));
    assert!(value.current().is_sensitive());
}

#[tokio::test]
async fn a_file_is_followed_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _site, value) = rotating(&folder, "old");
    std::fs::write(folder.path().join("next"), "new").unwrap();
    std::fs::rename(folder.path().join("next"), path).unwrap();
    for _ in 0..1000 {
        if *value.current() == "new" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the new secret was never read");
}
