//! Who may ask the admin endpoint, and who may change something.
//!
//! A page in a browser can send requests to loopback, and by DNS rebinding read the answers; so a request must carry the
//! host it really meant, and no foreign origin. What changes the agent is served on loopback, or for a token.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::{Method, StatusCode, header};
use phoenix_pipeline::config::Secret;

/// What is asked of a request.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Where the endpoint listens.
    pub address: SocketAddr,
    /// The host's name in the configuration.
    pub host: String,
    /// How browsers must have come here: `http`, or `https` where there is TLS.
    pub scheme: &'static str,
    /// What a request must carry, if anything.
    pub token: Option<Secret>,
}

/// Why a request is not answered.
pub(super) type Turned = (StatusCode, String);

impl Guard {
    /// Whether a request may be answered.
    ///
    /// # Errors
    /// The status and the reason.
    pub fn check(&self, head: &Parts) -> Result<(), Turned> {
        let host = one(head, header::HOST)?;
        if let Some(origin) = one(head, header::ORIGIN)? {
            let own = host.is_some_and(|host| origin.eq_ignore_ascii_case(&format!("{}://{host}", self.scheme)));
            if !own {
                return Err(forbidden(format!(
                    "a page of {origin} may not ask this agent; ask without a browser, or open this address itself"
                )));
            }
        }
        match &self.token {
            // Whoever knows the token was not led here by a foreign name.
            Some(token) => match one(head, header::AUTHORIZATION)?.and_then(bearer) {
                Some(given) if same(given.as_bytes(), token.reveal().as_bytes()) => Ok(()),
                Some(_) => Err((StatusCode::UNAUTHORIZED, "the token is not the one of service::admin::token".into())),
                None => {
                    Err((StatusCode::UNAUTHORIZED, "the header \"Authorization: Bearer TOKEN\" is needed here".into()))
                }
            },
            None => {
                self.meant(host, head)?;
                if head.method != Method::GET && !self.address.ip().is_loopback() {
                    let why = "nothing is changed from beyond loopback without a token; service::admin::token sets one";
                    return Err(forbidden(why.into()));
                }
                Ok(())
            }
        }
    }

    /// Whether a request may have what is the same for all agents, such as the page's files. A browser cannot carry a
    /// token when it opens a page, which then asks for it and carries it with its own requests.
    ///
    /// # Errors
    /// The status and the reason.
    pub fn check_public(&self, head: &Parts) -> Result<(), Turned> {
        if self.token.is_some() { Ok(()) } else { self.check(head) }
    }

    /// Whether the host a request names is this one.
    fn meant(&self, host: Option<&str>, head: &Parts) -> Result<(), Turned> {
        let Some(host) = host else { return Err(forbidden("the header Host is missing".into())) };
        let in_target = head.uri.authority().map(http::uri::Authority::as_str);
        for named in [Some(host), in_target].into_iter().flatten() {
            if !self.own_name(named) {
                return Err(forbidden(format!(
                    "this agent is not {named:?}; ask it as localhost, by its address, or by the name in service::admin::endpoint"
                )));
            }
        }
        Ok(())
    }

    fn own_name(&self, authority: &str) -> bool {
        let name = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
        };
        if name.eq_ignore_ascii_case("localhost") || (!self.host.is_empty() && name.eq_ignore_ascii_case(&self.host)) {
            return true;
        }
        // An address cannot be rebound; on loopback only loopback's own make sense.
        name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || !self.address.ip().is_loopback())
    }
}

/// The one value of a header.
fn one(head: &Parts, name: header::HeaderName) -> Result<Option<&str>, Turned> {
    let mut values = head.headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err((StatusCode::BAD_REQUEST, format!("the header {name} is not text"))),
        },
        (Some(_), Some(_)) => Err((StatusCode::BAD_REQUEST, format!("the header {name} stands twice"))),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares without telling by the time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

fn forbidden(why: String) -> Turned {
    (StatusCode::FORBIDDEN, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn guard(address: &str, host: &str, token: Option<&str>) -> Guard {
        Guard { address: address.parse().unwrap(), host: host.into(), scheme: "http", token: token.map(Secret::new) }
    }

    fn ask(guard: &Guard, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri("/control/profile");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        guard.check(&head).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn a_foreign_host_or_origin_is_refused() {
        let local = guard("127.0.0.1:55679", "localhost", None);
        for host in ["localhost:55679", "LOCALHOST", "127.0.0.1:55679", "127.0.0.1", "[::1]:55679"] {
            assert_eq!(ask(&local, "POST", &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example", "evil.example:55679", "localhost.evil.example", "192.0.2.1:55679", "", "[::2]"] {
            assert_eq!(ask(&local, "GET", &[("host", host)]), 403, "{host}");
        }
        assert_eq!(ask(&local, "GET", &[]), 403);
        assert_eq!(ask(&local, "GET", &[("host", "localhost"), ("host", "evil.example")]), 400);
        let own = ("host", "localhost:55679");
        assert_eq!(ask(&local, "POST", &[own, ("origin", "http://localhost:55679")]), 200);
        for origin in ["http://evil.example", "null", "http://localhost:8080", "https://localhost:55679", "file://"] {
            assert_eq!(ask(&local, "POST", &[own, ("origin", origin)]), 403, "{origin}");
            assert_eq!(ask(&local, "GET", &[own, ("origin", origin)]), 403, "{origin}");
        }
        let secured = Guard { scheme: "https", ..local.clone() };
        assert_eq!(ask(&secured, "POST", &[own, ("origin", "https://localhost:55679")]), 200);
        assert_eq!(ask(&secured, "POST", &[own, ("origin", "http://localhost:55679")]), 403);
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(ask(&local, "POST", &rebound), 403);
    }

    #[test]
    fn beyond_loopback_nothing_is_changed_without_a_token() {
        let open = guard("0.0.0.0:55679", "0.0.0.0", None);
        assert_eq!(ask(&open, "GET", &[("host", "192.0.2.1:55679")]), 200);
        assert_eq!(ask(&open, "POST", &[("host", "192.0.2.1:55679")]), 403);
        assert_eq!(ask(&open, "POST", &[("host", "localhost:55679")]), 403);
        assert_eq!(ask(&open, "GET", &[("host", "evil.example")]), 403);
        let named = guard("192.0.2.1:55679", "node.example", None);
        assert_eq!(ask(&named, "GET", &[("host", "Node.example:55679")]), 200);
    }

    #[test]
    fn what_is_public_needs_no_token_but_the_right_host() {
        let head = |host: &str| Request::builder().uri("/ui").header("host", host).body(()).unwrap().into_parts().0;
        let (local, closed) = (guard("127.0.0.1:1", "localhost", None), guard("0.0.0.0:1", "0.0.0.0", Some("abc")));
        assert!(local.check_public(&head("localhost")).is_ok() && local.check_public(&head("evil.example")).is_err());
        assert!(closed.check_public(&head("node.example")).is_ok() && closed.check(&head("node.example")).is_err());
    }

    #[test]
    fn with_a_token_every_request_carries_it() {
        let closed = guard("0.0.0.0:55679", "0.0.0.0", Some("abc"));
        let host = ("host", "node.example");
        for method in ["GET", "POST"] {
            assert_eq!(ask(&closed, method, &[host]), 401);
            assert_eq!(ask(&closed, method, &[host, ("authorization", "Bearer abd")]), 401);
            assert_eq!(ask(&closed, method, &[host, ("authorization", "Bearer ab")]), 401);
            assert_eq!(ask(&closed, method, &[host, ("authorization", "Basic abc")]), 401);
            assert_eq!(ask(&closed, method, &[host, ("authorization", "Bearer abc")]), 200);
            let foreign = [host, ("authorization", "Bearer abc"), ("origin", "http://evil.example")];
            assert_eq!(ask(&closed, method, &foreign), 403);
        }
    }
}
