//! `phoenix profile` and `phoenix explain`: questions to a running agent's admin endpoint, and its answers for people.
//!
//! A token comes from the environment, never from the command line, where every user of the host could read it.

use std::time::{Duration, SystemTime};

use phoenix_pipeline::config::duration;
use serde_json::{Value, json};

use super::client::{Answer, Call, Failure};
use crate::admin::DEFAULT_ENDPOINT;

/// The variable that holds the token.
pub(super) const TOKEN: &str = "PHOENIX_ADMIN_TOKEN";
/// How long an answer may take: building a profile may read files.
const ANSWER: Duration = Duration::from_secs(20);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The profiles as they stand.
    Profiles,
    /// Another profile, for a time or to stay.
    Choose {
        /// Its name.
        profile: String,
        /// For how long, as a duration.
        expires_in: Option<String>,
    },
    /// The choice of a profile back to whoever else makes it.
    Release,
    /// Why a process is or is not there.
    Pid(i64),
    /// Why what has this attribute is or is not there.
    Resource(String),
}

/// Asks the agent at `admin` (`host:port`, with or without `http://`) and words its answer.
///
/// # Errors
/// Nobody answers, or what the agent answered that it will not do.
pub(super) fn ask(admin: Option<&str>, question: &Question) -> Result<String, String> {
    let address = address(admin);
    let (method, target, body) = match question {
        Question::Profiles => ("GET", "/control/profile".to_owned(), String::new()),
        Question::Choose { profile, expires_in } => {
            let order = match expires_in {
                Some(time) => json!({ "profile": profile, "expires_in": time }),
                None => json!({ "profile": profile }),
            };
            ("POST", "/control/profile".to_owned(), order.to_string())
        }
        Question::Release => ("DELETE", "/control/profile".to_owned(), String::new()),
        Question::Pid(pid) => ("GET", format!("/debug/explain?pid={pid}"), String::new()),
        Question::Resource(text) => ("GET", format!("/debug/explain?resource={}", encoded(text)), String::new()),
    };
    let answer = exchange(address, method, &target, &body).map_err(|why| format!("{why} (the agent at {address})"))?;
    match question {
        Question::Profiles | Question::Choose { .. } | Question::Release => Ok(profiles(&answer)),
        Question::Pid(_) | Question::Resource(_) => Ok(explained(&answer, SystemTime::now())),
    }
}

/// The `host:port` that is asked: the one that was named, with or without `http://`, else the usual one.
pub(super) fn address(named: Option<&str>) -> &str {
    let address = named.unwrap_or(DEFAULT_ENDPOINT);
    address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/')
}

/// Asks once.
///
/// # Errors
/// Nobody answers, or what the agent answered that it will not do.
pub(super) fn exchange(address: &str, method: &str, target: &str, body: &str) -> Result<Value, String> {
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    let call = Call { address, method, target, token: token.as_deref(), body, patience: ANSWER };
    let answer = call.ask().map_err(|why| match why {
        Failure::Nobody(_) => {
            format!("{why}; is the agent running, and is its service::admin::endpoint another? --admin names it")
        }
        Failure::Strange => STRANGE.to_owned(),
        Failure::Address(..) => why.to_string(),
    })?;
    understood(&answer)
}

const STRANGE: &str = "what answers there is not Phoenix's admin endpoint";

/// The answer's JSON, or what it says went wrong.
fn understood(answer: &Answer) -> Result<Value, String> {
    let value: Value = serde_json::from_str(&answer.body).map_err(|_| STRANGE)?;
    match (answer.status, value.get("error").and_then(Value::as_str)) {
        (200, _) => Ok(value),
        (401, Some(why)) => Err(format!("{why}; the variable {TOKEN} gives it")),
        (_, Some(why)) => Err(why.to_owned()),
        (_, None) => Err(STRANGE.to_owned()),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn rows<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn profiles(answer: &Value) -> String {
    let processors = rows(answer, "processors");
    if processors.is_empty() {
        return "no pipeline has a processor with profiles\n".to_owned();
    }
    let mut out = String::new();
    for row in processors {
        let (active, base) = (text(row, "active"), text(row, "base"));
        let rest = match text(row, "expires_in") {
            "" => String::new(),
            left => format!(" for another {left}, then {base}"),
        };
        let names: Vec<&str> = rows(row, "profiles").iter().filter_map(Value::as_str).collect();
        let (pipeline, processor) = (text(row, "pipeline"), text(row, "processor"));
        out.push_str(&format!("{pipeline} {processor}: {active}{rest}\n  profiles: {}\n", names.join(", ")));
    }
    out
}

fn explained(answer: &Value, now: SystemTime) -> String {
    let entities = rows(answer, "entities");
    if entities.is_empty() {
        return "no stage has decided anything about it: it stays individual if it is there at all\n".to_owned();
    }
    let mut out = String::new();
    for entity in entities {
        let pid = entity.get("pid").and_then(Value::as_i64).map(|pid| format!("pid {pid}"));
        let name = Some(text(entity, "name")).filter(|name| !name.is_empty()).map(str::to_owned);
        let attributes = entity.get("attributes").and_then(Value::as_object);
        let listed = || {
            let pairs = attributes.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)));
            pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let title = [pid, name].into_iter().flatten().collect::<Vec<_>>().join(" ");
        out.push_str(&if title.is_empty() { listed() } else { title });
        out.push('\n');
        for decision in rows(entity, "decisions") {
            let nanos = text(decision, "time_unix_nano").parse().unwrap_or_default();
            let when = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
            // A time that is not past is that of a host whose clock is ahead.
            let ago = Duration::from_secs(now.duration_since(when).unwrap_or_default().as_secs());
            let ago = duration::format(ago);
            let [what, stage, reason, class] = ["decision", "stage", "reason", "class"].map(|key| text(decision, key));
            out.push_str(&format!("  {ago} ago, {stage}: {what} ({reason}, class {class})\n"));
        }
    }
    if answer.get("truncated") == Some(&Value::Bool(true)) {
        out.push_str("there are more; ask more narrowly\n");
    }
    out
}

/// Text for a query: everything but letters, digits and `-._~=` is written as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'=' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_worded_and_errors_are_the_agents() {
        let answered = |status, body: &str| understood(&Answer { status, body: body.to_owned() });
        let ok = |body| answered(200, body);
        let answer = ok(
            r#"{"profile":"b","processors":[{"pipeline":"metrics","processor":"adaptive","active":"b","base":"a","expires_in":"9m30s","profiles":["a","b"]}]}"#,
        );
        assert_eq!(profiles(&answer.unwrap()), "metrics adaptive: b for another 9m30s, then a\n  profiles: a, b\n");
        let answer = ok(
            r#"{"entities":[{"pid":7,"name":"x","decisions":[{"time_unix_nano":"1000000000","stage":"topk","decision":"fold","class":"low","reason":"topk_rank"}]}],"truncated":true}"#,
        );
        let expected = "pid 7 x\n  1m30s ago, topk: fold (topk_rank, class low)\nthere are more; ask more narrowly\n";
        assert_eq!(explained(&answer.unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(91)), expected);
        let refused = answered(404, r#"{"error":"no profile"}"#);
        assert_eq!(refused.unwrap_err(), "no profile");
        assert!(answered(401, r#"{"error":"no"}"#).unwrap_err().contains(TOKEN));
        assert!(ok("<html>").unwrap_err().contains("not Phoenix's"));
    }

    #[test]
    fn nobody_there_is_said_plainly() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ask(Some(&format!("http://{free}/")), &Question::Profiles).unwrap_err();
        assert!(error.contains("nobody answers") && error.contains(&free.to_string()), "{error}");
        assert!(ask(Some("nonsense"), &Question::Pid(1)).unwrap_err().contains("no host:port"));
        assert_eq!(encoded("a=b c/é*"), "a=b%20c%2F%C3%A9%2A");
    }
}
