//! Where an exporter sends: the rules for endpoints, which differ between gRPC and HTTP as they do in the Collector.

use std::path::PathBuf;

use http::Uri;
use http::uri::{Authority, Scheme};

/// A place to send to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The Unix socket to connect to, instead of the address.
    pub socket: Option<PathBuf>,
    /// The address requests are made out to, path included.
    pub address: Uri,
    /// Whether the connection is encrypted; `None` leaves it to `tls.insecure`.
    pub secure: Option<bool>,
}

/// The gRPC method that takes metrics.
const EXPORT_METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A gRPC endpoint: `host:port`, with `http://` or `https://` in front to say whether TLS is spoken, `dns:///host:port`,
/// or `unix:///path`.
///
/// # Errors
/// A sentence that says what is wrong and what is allowed.
pub fn grpc(text: &str) -> Result<Endpoint, String> {
    if text.is_empty() {
        return Err("is required: host:port, as in backend:4317".to_owned());
    }
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
        if path.is_empty() {
            return Err("holds no path: write unix:///run/otel.sock".to_owned());
        }
        // What Go sends to a Unix socket, too.
        let address = uri(Scheme::HTTP, Authority::from_static("localhost"), EXPORT_METHOD)?;
        return Ok(Endpoint { socket: Some(PathBuf::from(path)), address, secure: Some(false) });
    }
    let (secure, rest) = match text.split_once("://") {
        None => (None, text.strip_prefix("dns:").unwrap_or(text)),
        Some(("http", rest)) => (Some(false), rest),
        Some(("https", rest)) => (Some(true), rest),
        Some(("dns" | "passthrough", rest)) => (None, rest.split_once('/').map_or(rest, |(_, target)| target)),
        Some((other, _)) => {
            return Err(format!("{other}:// is not served; allowed: http://, https://, dns:///, unix:// or none"));
        }
    };
    let authority = authority(rest.trim_end_matches('/'))?;
    if authority.port_u16().is_none() {
        return Err(format!("{:?} has no port: write {}:4317", authority.as_str(), authority.host()));
    }
    Ok(Endpoint { socket: None, address: uri(Scheme::HTTP, authority, EXPORT_METHOD)?, secure })
}

/// An HTTP endpoint: a URL with `http://` or `https://`. `suffix` (`/v1/metrics` for a base URL) is appended to its path.
///
/// # Errors
/// A sentence that says what is wrong and what is allowed.
pub fn http(text: &str, suffix: &str) -> Result<Endpoint, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::HTTP, rest),
        Some(("https", rest)) => (Scheme::HTTPS, rest),
        _ => return Err(format!("{:?} is no URL with http:// or https://: write http://{}", shown(text), shown(text))),
    };
    let (host, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let authority = authority(host)?;
    if rest.contains('#') {
        return Err("must not hold a fragment (#)".to_owned());
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if query.is_some() && !suffix.is_empty() {
        return Err(
            "is a base URL and must not hold a query (?): use metrics_endpoint for the exact address".to_owned()
        );
    }
    let path = if suffix.is_empty() { path } else { path.strip_suffix('/').unwrap_or(path) };
    let mut full = format!("{path}{suffix}");
    if full.is_empty() {
        full.push('/');
    }
    if let Some(query) = query {
        full = format!("{full}?{query}");
    }
    let secure = Some(scheme == Scheme::HTTPS);
    Ok(Endpoint { socket: None, address: uri(scheme, authority, &full)?, secure })
}

fn authority(text: &str) -> Result<Authority, String> {
    if text.contains('@') {
        return Err("must not hold user and password (…@): send them in `headers` as authorization".to_owned());
    }
    let authority: Authority = text.parse().map_err(|_| format!("{text:?} is no host:port"))?;
    if authority.host().is_empty() {
        return Err(format!("{text:?} has no host"));
    }
    let port = text.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port);
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("{text:?} has no valid port: 1 to 65535 is allowed"));
    }
    Ok(authority)
}

/// What may be shown of a text that could hold a password.
fn shown(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

fn uri(scheme: Scheme, authority: Authority, path: &str) -> Result<Uri, String> {
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| format!("is no valid address: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_endpoints() {
        for (text, host, secure) in [
            ("backend:4317", "backend:4317", None),
            ("http://backend:4317", "backend:4317", Some(false)),
            ("https://backend:4317/", "backend:4317", Some(true)),
            ("dns:///backend:4317", "backend:4317", None),
            ("dns://8.8.8.8/backend:4317", "backend:4317", None),
            ("[::1]:4317", "[::1]:4317", None),
        ] {
            let endpoint = grpc(text).unwrap();
            assert_eq!(endpoint.address.authority().unwrap().as_str(), host, "{text}");
            assert_eq!(endpoint.secure, secure, "{text}");
            assert!(endpoint.address.path().ends_with("MetricsService/Export"));
        }
        assert_eq!(grpc("unix:///run/otel.sock").unwrap().socket, Some(PathBuf::from("/run/otel.sock")));
    }

    #[test]
    fn grpc_endpoints_that_are_refused_say_what_to_write() {
        assert_eq!(grpc("").unwrap_err(), "is required: host:port, as in backend:4317");
        assert_eq!(grpc("backend").unwrap_err(), "\"backend\" has no port: write backend:4317");
        assert_eq!(grpc("https://otlp.example").unwrap_err(), "\"otlp.example\" has no port: write otlp.example:4317");
        for wrong in ["ftp://a:1", "a:99999", "a:", ":4317", "a b:1", "unix://", "[::1]", "http://a:1/path"] {
            assert!(grpc(wrong).is_err(), "{wrong}");
        }
        let message = grpc("http://user:hunter2@a:1").unwrap_err();
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn http_endpoints() {
        for (text, suffix, address) in [
            ("http://localhost:4318", "/v1/metrics", "http://localhost:4318/v1/metrics"),
            ("http://localhost:4318/", "/v1/metrics", "http://localhost:4318/v1/metrics"),
            ("https://a.example/otlp/", "/v1/metrics", "https://a.example/otlp/v1/metrics"),
            ("https://a.example/otlp", "", "https://a.example/otlp"),
            ("https://a.example", "", "https://a.example/"),
            ("https://a.example?x=1", "", "https://a.example/?x=1"),
            ("https://a.example/p/?x=1", "", "https://a.example/p/?x=1"),
        ] {
            let endpoint = http(text, suffix).unwrap();
            assert_eq!(endpoint.address.to_string(), address);
            assert_eq!(endpoint.secure, Some(text.starts_with("https")));
        }
    }

    #[test]
    fn http_endpoints_that_are_refused() {
        assert_eq!(
            http("localhost:4318", "/v1/metrics").unwrap_err(),
            "\"localhost:4318\" is no URL with http:// or https://: write http://localhost:4318"
        );
        for wrong in ["", "http://", "http://:1", "ftp://a", "http://a:x", "http://a/?q", "http://a/#f", "http://a b/"]
        {
            assert!(http(wrong, "/v1/metrics").is_err(), "{wrong}");
        }
        for text in ["http://u:hunter2@a/", "u:hunter2@a"] {
            assert!(!http(text, "").unwrap_err().contains("hunter2"));
        }
    }
}
