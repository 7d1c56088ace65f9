//! The questions of the admin endpoint and their answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use phoenix_pipeline::config::duration;
use phoenix_pipeline::explain::Question;
use phoenix_pipeline::{BoxFuture, Clock, Estimates, Explain, Metrics, ProfileError, Profiles};
use serde::Deserialize;
use serde_json::{Value, json};

use super::entities;
use super::guard::Guard;
use super::page;
use crate::control::{Control, KEPT};

const INDEX: &str = "Phoenix, admin endpoint\n\n\
    GET  /ui                                what follows, as a page that updates itself; / is that page for a browser\n\
    GET  /debug/explain?pid=4711            why a process is or is not there\n\
    GET  /debug/explain?resource=key=value  the same by an attribute; * stands for any text\n\
    GET  /debug/entities                    how many are individual, how many are folded, and why; who leads\n\
    GET  /control/profile                   the profiles, and which is at work\n\
    POST /control/profile                   {\"profile\": \"NAME\", \"expires_in\": \"10m\"}; without expires_in it stays\n\
    DELETE /control/profile                 gives the choice back to the controller, or to the configuration\n\
    GET  /control/state                     what is measured and decided, stage by stage\n\
    GET  /control/decisions?limit=100       the decisions, newest first\n\
    GET  /control/history                   the last steps, for plots\n\
    GET  /control/cost                      what a month costs\n";
/// Decisions that are listed without being asked how many.
const DECISIONS: usize = 100;

/// What the endpoint needs to answer.
pub(super) struct Routes {
    pub guard: Guard,
    pub profiles: Profiles,
    pub explain: Explain,
    pub control: Control,
    pub clock: Clock,
    pub metrics: Metrics,
    pub estimates: Estimates,
    pub version: &'static str,
}

/// The body of `POST /control/profile`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    profile: String,
    #[serde(default)]
    expires_in: Option<String>,
}

type Failed = (StatusCode, String);

/// Where there is something to be asked.
const PATHS: [&str; 9] = [
    "/",
    "/ui",
    "/debug/explain",
    "/debug/entities",
    "/control/profile",
    "/control/state",
    "/control/decisions",
    "/control/history",
    "/control/cost",
];

/// Answers one request.
pub(super) fn answer(routes: Arc<Routes>, request: Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> {
    Box::pin(async move {
        let (head, body) = request.into_parts();
        if let Some(file) = page::wanted(&head) {
            return match routes.guard.check_public(&head) {
                Ok(()) => with_headers(response(StatusCode::OK, file.kind, file.text.to_owned()), page::HEADERS),
                Err((status, why)) => failed(status, &why),
            };
        }
        if let Err((status, why)) = routes.guard.check(&head) {
            return failed(status, &why);
        }
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/") => response(StatusCode::OK, "text/plain; charset=utf-8", INDEX.to_owned()),
            (&Method::GET, "/debug/explain") => match question(head.uri.query().unwrap_or_default()) {
                Ok(question) => response(StatusCode::OK, JSON, routes.explain.answer(&question)),
                Err((status, why)) => failed(status, &why),
            },
            (&Method::GET, "/debug/entities") => {
                response(StatusCode::OK, JSON, entities::answer(&routes.metrics, &routes.estimates).to_string())
            }
            (&Method::GET, "/control/profile") => shown(&routes.profiles),
            (&Method::POST, "/control/profile") => match choose(&routes.profiles, &body).await {
                Ok(()) => {
                    routes.control.look();
                    shown(&routes.profiles)
                }
                Err((status, why)) => failed(status, &why),
            },
            (&Method::DELETE, "/control/profile") => match give_back(&routes.profiles).await {
                Ok(()) => {
                    routes.control.look();
                    shown(&routes.profiles)
                }
                Err((status, why)) => failed(status, &why),
            },
            (&Method::GET, "/control/state") => {
                found(&routes.control.desk().state(&routes.clock, &routes.profiles, routes.version))
            }
            (&Method::GET, "/control/decisions") => match limit(head.uri.query().unwrap_or_default()) {
                Ok(limit) => found(&routes.control.desk().decisions(limit)),
                Err((status, why)) => failed(status, &why),
            },
            (&Method::GET, "/control/history") => found(&routes.control.desk().history()),
            (&Method::GET, "/control/cost") => found(&routes.control.desk().cost()),
            (_, path) if PATHS.contains(&path) => {
                let allowed = if path == "/control/profile" { "GET, HEAD, POST, DELETE" } else { "GET, HEAD" };
                let mut response = failed(StatusCode::METHOD_NOT_ALLOWED, &format!("{path} is there for {allowed}"));
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
                response
            }
            (_, path) => failed(StatusCode::NOT_FOUND, &format!("there is no {path}; GET / says what there is")),
        }
    })
}

/// Puts the profile to work that a body asks for.
async fn choose(profiles: &Profiles, body: &[u8]) -> Result<(), Failed> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let order: Order = serde_json::from_slice(body)
        .map_err(|error| bad(format!("expected {{\"profile\": \"NAME\", \"expires_in\": \"10m\"}}: {error}")))?;
    let expires_in = order.expires_in.as_deref().map(time).transpose().map_err(bad)?;
    let (register, name) = (profiles.clone(), order.profile.clone());
    changed(move || register.set(&name, expires_in)).await?;
    let expires_in = expires_in.map_or_else(|| "never".to_owned(), duration::format);
    tracing::info!(profile = order.profile, expires_in, "a profile was chosen through the admin endpoint");
    Ok(())
}

/// Takes back what a person chose.
async fn give_back(profiles: &Profiles) -> Result<(), Failed> {
    let register = profiles.clone();
    changed(move || register.release()).await?;
    tracing::info!("the choice of a profile was given back through the admin endpoint");
    Ok(())
}

/// Changes profiles away from the asynchronous runtime.
async fn changed(change: impl FnOnce() -> Result<(), ProfileError> + Send + 'static) -> Result<(), Failed> {
    match tokio::task::spawn_blocking(change).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let status = match &error {
                ProfileError::None | ProfileError::Unknown(..) => StatusCode::NOT_FOUND,
                ProfileError::Build(..) => StatusCode::CONFLICT,
            };
            tracing::warn!("the profile was not changed: {error}");
            Err((status, error.to_string()))
        }
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "a processor broke while it was built; see the log".into())),
    }
}

/// What `?limit=` asks for.
fn limit(query: &str) -> Result<usize, Failed> {
    let bad = || (StatusCode::BAD_REQUEST, format!("ask with ?limit=NUMBER, from 1 to {KEPT}"));
    match query.split_once('=') {
        None if query.is_empty() => Ok(DECISIONS),
        Some(("limit", number)) => number.parse().ok().filter(|number| (1..=KEPT).contains(number)).ok_or_else(bad),
        _ => Err(bad()),
    }
}

fn found(answer: &Value) -> Response<Bytes> {
    response(StatusCode::OK, JSON, answer.to_string())
}

/// A time for which a profile is chosen.
fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|why| format!("expires_in: {why}"))?;
    match time {
        Duration::ZERO => Err("expires_in: must be longer than 0; leave it out for a choice that stays".into()),
        time if time > phoenix_pipeline::MAX_EXPIRY => {
            Err("expires_in: must be at most a year; leave it out for a choice that stays".into())
        }
        time => Ok(time),
    }
}

/// The profiles as they stand. `profile` is the one at work where all processors agree.
fn shown(profiles: &Profiles) -> Response<Bytes> {
    let states = profiles.list();
    let first = states.first().map(|state| &state.active);
    let agreed = first.filter(|first| states.iter().all(|state| state.active == **first));
    let rows: Vec<Value> = states
        .iter()
        .map(|state| {
            json!({
                "pipeline": &*state.pipeline,
                "processor": state.processor.as_str(),
                "active": &*state.active,
                "base": &*state.base,
                // Whole seconds, rounded up: what is left is never shown as nothing.
                "expires_in": state.expires_in.map(|left| duration::format(Duration::from_secs((left + Duration::from_nanos(999_999_999)).as_secs()))),
                "profiles": state.profiles.iter().map(|name| &**name).collect::<Vec<_>>(),
            })
        })
        .collect();
    response(StatusCode::OK, JSON, json!({ "profile": agreed.map(|name| &**name), "processors": rows }).to_string())
}

/// What `?pid=` or `?resource=` asks for.
fn question(query: &str) -> Result<Question, Failed> {
    let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
    let usage = "ask with ?pid=NUMBER or ?resource=key=value";
    let mut parts = query.split('&').filter(|part| !part.is_empty());
    let (Some(part), None) = (parts.next(), parts.next()) else { return Err(bad(usage)) };
    let (key, value) = part.split_once('=').unwrap_or((part, ""));
    let value = decoded(value).ok_or_else(|| bad("the query is not percent-encoded UTF-8"))?;
    match key {
        "pid" => value.parse().map(Question::Pid).map_err(|_| bad("pid must be a number, such as ?pid=4711")),
        "resource" if !value.is_empty() => Ok(Question::Resource(value)),
        _ => Err(bad(usage)),
    }
}

/// Text without its percent-encoding; `+` stands for itself, as command lines hold it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

const JSON: &str = "application/json";

fn failed(status: StatusCode, why: &str) -> Response<Bytes> {
    let mut response = response(status, JSON, json!({ "error": why }).to_string());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn with_headers(mut response: Response<Bytes>, more: &[(&'static str, &'static str)]) -> Response<Bytes> {
    for (name, value) in more {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

fn response(status: StatusCode, kind: &'static str, mut body: String) -> Response<Bytes> {
    if !body.ends_with('\n') {
        body.push('\n');
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::World;

    fn routes() -> Arc<Routes> {
        let guard =
            Guard { address: "127.0.0.1:1".parse().unwrap(), host: "localhost".into(), scheme: "http", token: None };
        let (clock, profiles) = (Clock::system(), Profiles::default());
        let metrics = Metrics::new(&clock, Vec::new());
        let world = World {
            clock: clock.clone(),
            metrics: metrics.clone(),
            estimates: Estimates::default(),
            profiles: profiles.clone(),
        };
        let control = Control::start(world).unwrap();
        let (explain, estimates) = (Explain::default(), Estimates::default());
        Arc::new(Routes { guard, profiles, explain, control, clock, metrics, estimates, version: "0" })
    }

    async fn ask(method: &str, target: &str, body: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(target).header("host", "localhost");
        let response = answer(routes(), request.body(Bytes::from(body.to_owned())).unwrap()).await;
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    }

    #[tokio::test]
    async fn every_question_has_its_answer_and_every_mistake_its_reason() {
        for (method, target, body, status, text) in [
            ("GET", "/", "", 200, "/control/profile"),
            ("POST", "/", "", 405, "GET, HEAD"),
            ("GET", "/x", "", 404, "GET / says what there is"),
            ("GET", "/debug/explain?pid=7", "", 200, "\"entities\":[]"),
            ("GET", "/debug/explain?resource=a%3Db*", "", 200, "\"entities\":[]"),
            ("POST", "/ui", "", 405, "GET, HEAD"),
            ("GET", "/ui/other.js", "", 404, "GET / says"),
            ("GET", "/debug/entities", "", 200, "{\"processors\":[],\"rankings\":[]}"),
            ("GET", "/debug/explain", "", 400, "?pid=NUMBER"),
            ("GET", "/debug/explain?pid=x", "", 400, "must be a number"),
            ("GET", "/debug/explain?pid=1&resource=x", "", 400, "?pid=NUMBER"),
            ("GET", "/debug/explain?resource=%zz", "", 400, "percent-encoded"),
            ("GET", "/control/profile", "", 200, "{\"profile\":null,\"processors\":[]}"),
            ("PUT", "/control/profile", "", 405, "POST, DELETE"),
            ("DELETE", "/control/profile", "", 404, "adaptive"),
            ("GET", "/control/state", "", 200, "\"stages\":[]"),
            ("GET", "/control/decisions", "", 200, "{\"total\":0,\"kept\":0,\"decisions\":[]}"),
            ("GET", "/control/decisions?limit=1", "", 200, "decisions"),
            ("GET", "/control/decisions?limit=0", "", 400, "from 1 to 1000"),
            ("GET", "/control/decisions?limit=1001", "", 400, "from 1 to 1000"),
            ("GET", "/control/decisions?last=5", "", 400, "?limit=NUMBER"),
            ("GET", "/control/history", "", 200, "{\"stages\":[]}"),
            ("GET", "/control/cost", "", 200, "{\"stages\":[]}"),
            ("POST", "/control/cost", "", 405, "GET, HEAD"),
            ("POST", "/control/profile", "", 400, "expected {"),
            ("POST", "/control/profile", r#"{"profile":"a","expire":"1m"}"#, 400, "unknown field"),
            ("POST", "/control/profile", r#"{"profile":"a","expires_in":"soon"}"#, 400, "expires_in"),
            ("POST", "/control/profile", r#"{"profile":"a","expires_in":"0s"}"#, 400, "longer than 0"),
            ("POST", "/control/profile", r#"{"profile":"a","expires_in":"90000h"}"#, 400, "at most a year"),
            ("POST", "/control/profile", r#"{"profile":"a"}"#, 404, "adaptive"),
        ] {
            let (found, said) = ask(method, target, body).await;
            assert_eq!(found, status, "{method} {target} {body}: {said}");
            assert!(said.contains(text), "{method} {target} {body}: {said}");
        }
    }

    #[tokio::test]
    async fn a_browser_gets_the_page_and_nothing_of_another_host() {
        for (target, accept, kind) in [
            ("/", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
            ("/", "*/*", "text/plain; charset=utf-8"),
            ("/", "", "text/plain; charset=utf-8"),
            ("/ui", "*/*", "text/html; charset=utf-8"),
            ("/ui/script.js", "*/*", "text/javascript; charset=utf-8"),
            ("/ui/style.css", "text/css,*/*;q=0.1", "text/css; charset=utf-8"),
        ] {
            let request = Request::builder().uri(target).header("host", "localhost").header("accept", accept);
            let response = answer(routes(), request.body(Bytes::new()).unwrap()).await;
            assert_eq!(response.status(), 200, "{target} {accept}");
            assert_eq!(response.headers()["content-type"], kind, "{target} {accept}");
            let policy = response.headers().get("content-security-policy");
            assert_eq!(policy.is_some(), !kind.starts_with("text/plain"), "{target} {accept}");
            let policy = policy.map_or("", |policy| policy.to_str().unwrap());
            assert!(policy.is_empty() || policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        }
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(question("resource=k=a%20b%25").unwrap(), Question::Resource("k=a b%".into()));
        assert_eq!(question("pid=42").unwrap(), Question::Pid(42));
        assert_eq!(decoded("a+b"), Some("a+b".into()));
        assert_eq!(decoded("%2"), None);
        assert_eq!(decoded("%ff"), None);
    }
}
