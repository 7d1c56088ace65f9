//! The page for a browser: three files that are part of the program and the same for every agent.
//!
//! They hold nothing of the agent; their script asks the other routes, as anybody would, and only reads. Nothing is loaded
//! from elsewhere and no style or script stands in the markup, so the policy sent along can forbid all that.

use http::request::Parts;
use http::{Method, header};

/// A file and its type.
pub(super) struct File {
    pub kind: &'static str,
    pub text: &'static str,
}

const PAGE: File = File { kind: "text/html; charset=utf-8", text: include_str!("index.html") };
const STYLE: File = File { kind: "text/css; charset=utf-8", text: include_str!("style.css") };
const SCRIPT: File = File { kind: "text/javascript; charset=utf-8", text: include_str!("script.js") };

/// What goes with every file: it loads only from this agent, is in nobody's frame, and sends nobody its address.
/// `data:` is the empty icon.
pub(super) const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "no-referrer"),
];

/// The file a request is for, if it is for one. At `/` there is the page for who takes HTML, which browsers say.
pub(super) fn wanted(head: &Parts) -> Option<File> {
    if head.method != Method::GET {
        return None;
    }
    match head.uri.path() {
        "/ui" => Some(PAGE),
        "/ui/style.css" => Some(STYLE),
        "/ui/script.js" => Some(SCRIPT),
        "/" => {
            let accepts = head.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let html = |value: &str| value.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case("text/html"));
            accepts.into_iter().any(html).then_some(PAGE)
        }
        _ => None,
    }
}
