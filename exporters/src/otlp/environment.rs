//! The environment variables of OpenTelemetry SDKs (`OTEL_EXPORTER_OTLP_*`) as the configuration of an exporter.
//!
//! A pure function of the variables: it opens nothing and knows no process. Its errors name variables, never their values
//! where those may be secret.

use serde_yaml::{Mapping, Value};

use super::percent_decode;

/// The name behind the slash of the component this makes.
const NAME: &str = "environment";

/// The exporter the standard variables ask for: its component id and its configuration. `None` when no endpoint is set.
///
/// `OTEL_EXPORTER_OTLP_METRICS_X` is taken before `OTEL_EXPORTER_OTLP_X`; an empty variable counts as unset. A generic
/// endpoint is a base (`/v1/metrics` is appended for HTTP), a metrics endpoint is used as it is. The protocol is
/// `http/protobuf` unless `…_PROTOCOL` says `grpc` or `http/json`. Compression is gzip where nothing is said: every
/// server must take it. (Specification: protocol/exporter.md.)
///
/// # Errors
/// A sentence that names the variable, what is wrong and what is allowed.
pub fn exporter_from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<(String, Value)>, String> {
    let variables = Variables(&get);
    let Some(endpoint) = variables.find("ENDPOINT") else { return Ok(None) };
    let protocol = variables.find("PROTOCOL");
    let mut config = Map::default();
    let kind = match protocol.as_ref().map_or("http/protobuf", |found| found.value.as_str()) {
        "grpc" => "otlp_grpc",
        "http/protobuf" => "otlp_http",
        "http/json" => {
            config.set(&["encoding"], "json");
            "otlp_http"
        }
        other => {
            let name = protocol.as_ref().map_or("OTEL_EXPORTER_OTLP_PROTOCOL", |found| found.name.as_str());
            return Err(format!("{name} is {other:?}: grpc, http/protobuf or http/json is allowed"));
        }
    };
    if kind == "otlp_grpc" {
        grpc(&variables, &endpoint, &mut config)?;
    } else {
        let key = if endpoint.of_metrics { "metrics_endpoint" } else { "endpoint" };
        let suffix = if endpoint.of_metrics { "" } else { "/v1/metrics" };
        super::endpoint::http(&endpoint.value, suffix).map_err(|error| format!("{}: {error}", endpoint.name))?;
        config.set(&[key], endpoint.value.as_str());
    }
    common(&variables, &mut config)?;
    Ok(Some((format!("{kind}/{NAME}"), Value::Mapping(config.0))))
}

fn grpc(variables: &Variables<'_>, endpoint: &Variable, config: &mut Map) -> Result<(), String> {
    const DEFAULT_PORT: u16 = 4317;
    let mut target = endpoint.value.trim_end_matches('/').to_owned();
    let host = target.split_once("://").map_or(target.as_str(), |(_, host)| host);
    // As for SDKs, a missing port is the standard one.
    if !target.starts_with("unix:")
        && !host.contains('@')
        && host.rsplit_once(':').is_none_or(|(_, port)| port.contains(']'))
    {
        target = format!("{target}:{DEFAULT_PORT}");
    }
    super::endpoint::grpc(&target).map_err(|error| format!("{}: {error}", endpoint.name))?;
    config.set(&["endpoint"], target);
    if let Some(insecure) = variables.find("INSECURE") {
        match insecure.value.to_ascii_lowercase().as_str() {
            "true" => config.set(&["tls", "insecure"], true),
            "false" => {}
            _ => return Err(format!("{} is {:?}: true or false is allowed", insecure.name, insecure.value)),
        }
    }
    Ok(())
}

fn common(variables: &Variables<'_>, config: &mut Map) -> Result<(), String> {
    if let Some(compression) = variables.find("COMPRESSION") {
        if !["gzip", "zstd", "none"].contains(&compression.value.as_str()) {
            return Err(format!("{} is {:?}: gzip, zstd or none is allowed", compression.name, compression.value));
        }
        config.set(&["compression"], compression.value);
    }
    // What SDKs wait for an answer.
    const DEFAULT_TIMEOUT_MS: u64 = 10_000;
    let millis: u64 = match variables.find("TIMEOUT") {
        None => DEFAULT_TIMEOUT_MS,
        Some(timeout) => timeout
            .value
            .parse()
            .map_err(|_| format!("{} is {:?}: a number of milliseconds is allowed", timeout.name, timeout.value))?,
    };
    config.set(&["timeout"], format!("{millis}ms"));
    if let Some(headers) = variables.find("HEADERS") {
        for (name, value) in pairs(&headers)? {
            config.set(&["headers", &name], value);
        }
    }
    for (variable, key) in [("CERTIFICATE", "ca_file"), ("CLIENT_KEY", "key_file"), ("CLIENT_CERTIFICATE", "cert_file")]
    {
        if let Some(file) = variables.find(variable) {
            config.set(&["tls", key], file.value);
        }
    }
    Ok(())
}

/// `k=v,k2=v2`, values percent-encoded (W3C Baggage, as OTLP asks).
fn pairs(headers: &Variable) -> Result<Vec<(String, String)>, String> {
    let items = headers.value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let pair = |(place, item): (usize, &str)| {
        let (name, value) = item.split_once('=').ok_or_else(|| {
            format!(
                "{}: item {} has no `=`; write name=value,name=value with percent-encoded values",
                headers.name,
                place + 1
            )
        })?;
        let name = name.trim().to_ascii_lowercase();
        if ::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!("{}: the name of item {} is no header name", headers.name, place + 1));
        }
        let value = String::from_utf8(percent_decode(value.trim().as_bytes()))
            .map_err(|_| format!("{}: the value of {name} is not UTF-8 after percent-decoding", headers.name))?;
        if ::http::HeaderValue::from_str(&value).is_err() {
            return Err(format!(
                "{}: the value of {name} holds a character that is not allowed in a header",
                headers.name
            ));
        }
        Ok((name, value))
    };
    items.enumerate().map(pair).collect()
}

/// A variable that is set.
struct Variable {
    name: String,
    value: String,
    of_metrics: bool,
}

struct Variables<'g>(&'g dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// The metrics variant of a variable, else the generic one.
    fn find(&self, what: &str) -> Option<Variable> {
        [("METRICS_", true), ("", false)].into_iter().find_map(|(variant, of_metrics)| {
            let name = format!("OTEL_EXPORTER_OTLP_{variant}{what}");
            let value = (self.0)(&name)?.trim().to_owned();
            (!value.is_empty()).then_some(Variable { name, value, of_metrics })
        })
    }
}

/// A configuration that grows key by key.
#[derive(Default)]
struct Map(Mapping);

impl Map {
    fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        fn put(map: &mut Mapping, path: &[&str], value: Value) {
            match path {
                [] => {}
                [key] => drop(map.insert((*key).into(), value)),
                [key, rest @ ..] => {
                    let inner = map.entry((*key).into()).or_insert_with(|| Value::Mapping(Mapping::new()));
                    if let Value::Mapping(inner) = inner {
                        put(inner, rest, value);
                    }
                }
            }
        }
        put(&mut self.0, path, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(variables: &[(&str, &str)]) -> Result<Option<(String, String)>, String> {
        let prefixed = |name: &str| variables.iter().find(|(key, _)| format!("OTEL_EXPORTER_OTLP_{key}") == name);
        let made = exporter_from_environment(|name| prefixed(name).map(|(_, value)| (*value).to_owned()))?;
        Ok(made.map(|(id, config)| (id, serde_yaml::to_string(&config).unwrap())))
    }

    fn config(variables: &[(&str, &str)]) -> (String, String) {
        made(variables).unwrap().unwrap()
    }

    #[test]
    fn without_an_endpoint_there_is_no_exporter() {
        assert_eq!(made(&[]), Ok(None));
        assert_eq!(made(&[("ENDPOINT", " "), ("PROTOCOL", "nonsense")]), Ok(None));
    }

    #[test]
    fn the_default_is_http_protobuf_on_the_base_url() {
        let expected = "endpoint: http://localhost:4318\ntimeout: 10000ms\n";
        assert_eq!(config(&[("ENDPOINT", "http://localhost:4318")]), ("otlp_http/environment".into(), expected.into()));
    }

    #[test]
    fn a_metrics_variable_comes_before_the_generic_one_and_its_endpoint_is_exact() {
        let (id, yaml) = config(&[
            ("ENDPOINT", "http://generic:4318"),
            ("METRICS_ENDPOINT", "http://metrics:4318/in"),
            ("PROTOCOL", "grpc"),
            ("METRICS_PROTOCOL", "http/json"),
            ("TIMEOUT", "1"),
            ("METRICS_TIMEOUT", "2500"),
        ]);
        assert_eq!(id, "otlp_http/environment");
        assert_eq!(yaml, "encoding: json\nmetrics_endpoint: http://metrics:4318/in\ntimeout: 2500ms\n");
    }

    #[test]
    fn grpc_with_everything() {
        let (id, yaml) = config(&[
            ("ENDPOINT", "backend"),
            ("PROTOCOL", "grpc"),
            ("INSECURE", "TRUE"),
            ("COMPRESSION", "none"),
            ("HEADERS", "api-key=a%20b%3Dc, X-Scope=1,"),
            ("CERTIFICATE", "/ca.pem"),
            ("CLIENT_KEY", "/key.pem"),
            ("CLIENT_CERTIFICATE", "/cert.pem"),
        ]);
        assert_eq!(id, "otlp_grpc/environment");
        assert_eq!(
            yaml,
            "endpoint: backend:4317\ntls:\n  insecure: true\n  ca_file: /ca.pem\n  key_file: /key.pem\n  cert_file: /cert.pem\n\
             compression: none\ntimeout: 10000ms\nheaders:\n  api-key: a b=c\n  x-scope: '1'\n"
        );
        for (endpoint, target) in
            [("http://[::1]", "http://[::1]:4317"), ("https://b:1/", "https://b:1"), ("unix:///s", "unix:///s")]
        {
            let (_, yaml) = config(&[("ENDPOINT", endpoint), ("PROTOCOL", "grpc")]);
            assert!(yaml.starts_with(&format!("endpoint: {target}\n")), "{yaml}");
        }
    }

    #[test]
    fn errors_name_the_variable_and_keep_secrets() {
        for (variables, name) in [
            (&[("ENDPOINT", "localhost:4318")][..], "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (&[("ENDPOINT", "http://u:hunter2@a")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (&[("ENDPOINT", "http://u:hunter2@a"), ("PROTOCOL", "grpc")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (&[("ENDPOINT", "http://a"), ("METRICS_PROTOCOL", "thrift")], "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"),
            (&[("ENDPOINT", "http://a"), ("TIMEOUT", "10s")], "OTEL_EXPORTER_OTLP_TIMEOUT"),
            (&[("ENDPOINT", "http://a"), ("COMPRESSION", "br")], "OTEL_EXPORTER_OTLP_COMPRESSION"),
            (&[("ENDPOINT", "a"), ("PROTOCOL", "grpc"), ("INSECURE", "1")], "OTEL_EXPORTER_OTLP_INSECURE"),
            (&[("ENDPOINT", "http://a"), ("HEADERS", "k=v,hunter2")], "OTEL_EXPORTER_OTLP_HEADERS"),
            (&[("ENDPOINT", "http://a"), ("HEADERS", "hunter2 x=v")], "OTEL_EXPORTER_OTLP_HEADERS"),
            (&[("ENDPOINT", "http://a"), ("HEADERS", "k=hunter2%0A")], "OTEL_EXPORTER_OTLP_HEADERS"),
            (&[("ENDPOINT", "http://a"), ("HEADERS", "k=hunter2%FF")], "OTEL_EXPORTER_OTLP_HEADERS"),
        ] {
            let error = made(variables).unwrap_err();
            assert!(error.starts_with(name) && !error.contains("hunter2"), "{error}");
        }
    }
}
