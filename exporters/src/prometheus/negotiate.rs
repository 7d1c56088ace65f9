//! Which format, which characters and which encoding a client gets, by its `Accept` and `Accept-Encoding`.
//!
//! The client's best supported wish wins, by weight and then by order; a client with none of them gets text 0.0.4, which
//! every Prometheus reads. A weight that is no number counts as 1, an unknown version is not supported.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};

use super::text::Format;

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) format: Format,
    /// Whether names may hold characters outside the classic set.
    pub(crate) utf8: bool,
    version: &'static str,
}

impl Answer {
    const FALLBACK: Answer = Answer { format: Format::Text, utf8: false, version: "0.0.4" };

    /// The `Content-Type` of the answer.
    pub(crate) fn content_type(self) -> String {
        let media = match self.format {
            Format::Text => "text/plain",
            Format::OpenMetrics => "application/openmetrics-text",
        };
        // Only versions from 1.0.0 on know about escaping.
        let escaping = match (self.version, self.utf8) {
            ("1.0.0", true) => "; escaping=allow-utf-8",
            ("1.0.0", false) => "; escaping=underscores",
            _ => "",
        };
        format!("{media}; version={}; charset=utf-8{escaping}", self.version)
    }
}

/// What to serve: `open_metrics` and `utf8` say whether those are on offer.
pub(crate) fn negotiate(headers: &HeaderMap, open_metrics: bool, utf8: bool) -> Answer {
    let mut best: Option<(f64, Answer)> = None;
    for wish in wishes(headers, &ACCEPT) {
        let version = wish.parameter("version");
        let answer = match (wish.name.as_str(), version) {
            ("application/openmetrics-text" | "application/*", None | Some("0.0.1")) if open_metrics => {
                Answer { format: Format::OpenMetrics, utf8: false, version: "0.0.1" }
            }
            ("application/openmetrics-text", Some("1.0.0")) if open_metrics => {
                Answer { format: Format::OpenMetrics, utf8: false, version: "1.0.0" }
            }
            ("text/plain", Some("1.0.0")) => Answer { version: "1.0.0", ..Answer::FALLBACK },
            ("text/plain" | "text/*" | "*/*", None | Some("0.0.4")) => Answer::FALLBACK,
            _ => continue,
        };
        let wanted = answer.version == "1.0.0" && wish.parameter("escaping") == Some("allow-utf-8");
        let answer = Answer { utf8: utf8 && wanted, ..answer };
        if wish.weight > best.map_or(0.0, |(weight, _)| weight) {
            best = Some((wish.weight, answer));
        }
    }
    best.map_or(Answer::FALLBACK, |(_, answer)| answer)
}

/// Whether the client takes gzip, and not rather the plain text.
pub(crate) fn gzip(headers: &HeaderMap) -> bool {
    let all = wishes(headers, &ACCEPT_ENCODING);
    let weight = |name: &str| all.iter().find(|wish| wish.name == name).map(|wish| wish.weight);
    let gzip = weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).unwrap_or(0.0);
    gzip > 0.0 && gzip >= weight("identity").unwrap_or(0.0)
}

struct Wish {
    name: String,
    parameters: Vec<(String, String)>,
    weight: f64,
}

impl Wish {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn wishes(headers: &HeaderMap, header: &http::HeaderName) -> Vec<Wish> {
    let lines = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(wish).collect()
}

fn wish(text: &str) -> Wish {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        Some((key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
    };
    let parameters: Vec<(String, String)> = parts.filter_map(pair).collect();
    let weight = parameters.iter().find(|(key, _)| key == "q").and_then(|(_, value)| value.parse::<f64>().ok());
    Wish { name, parameters, weight: weight.filter(|weight| weight.is_finite()).unwrap_or(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())])
    }

    fn content_type(value: &str) -> String {
        negotiate(&accept(value), true, false).content_type()
    }

    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

    #[test]
    fn prometheus_gets_what_it_prefers() {
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(content_type(two), OPEN_METRICS);
        assert_eq!(negotiate(&accept(two), false, true).content_type(), TEXT);
        let three = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.9,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(content_type(three), OPEN_METRICS, "names are classic");
        assert_eq!(
            negotiate(&accept(three), true, true).content_type(),
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
        );
    }

    #[test]
    fn weights_decide_and_nothing_known_is_text() {
        for (wish, want) in [
            ("", TEXT),
            ("*/*", TEXT),
            ("text/html", TEXT),
            ("text/plain", TEXT),
            ("application/json;q=1, text/plain;q=0.1", TEXT),
            ("application/openmetrics-text;version=1.0.0;q=0.2, text/plain;version=0.0.4;q=0.3", TEXT),
            ("application/openmetrics-text;version=1.0.0;q=0, */*;q=0.1", TEXT),
            ("application/openmetrics-text;version=2.0.0", TEXT),
            ("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"", OPEN_METRICS),
            ("application/openmetrics-text", "application/openmetrics-text; version=0.0.1; charset=utf-8"),
            ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ] {
            assert_eq!(content_type(wish), want, "{wish}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), true, true).content_type(), TEXT);
    }

    #[test]
    fn gzip_by_weight() {
        for (wish, want) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("*;q=0.5", true),
            ("identity, gzip;q=0.5", false),
            ("br", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, wish.parse().unwrap())]);
            assert_eq!(gzip(&headers), want, "{wish}");
        }
        assert!(!gzip(&HeaderMap::new()));
    }
}
