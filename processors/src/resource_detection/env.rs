//! The `env` detector: `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`.
//!
//! The rules are the specification's (SDK, "Specifying resource information via an environment variable"): keys and
//! values are percent-encoded where they hold `,` or `=`, every value is a string, and one error discards the whole
//! variable. What was wrong is said by position; the text itself is never repeated, since it may hold anything.

use super::findings::Findings;
use super::host::Host;

/// Why `OTEL_RESOURCE_ATTRIBUTES` cannot be read; positions count bytes from 0.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvError {
    #[error("the entry at byte {0} has no \"=\"; write key=value, with %2C for a comma inside a value")]
    NoEquals(usize),
    #[error("the entry at byte {0} has no key")]
    NoKey(usize),
    #[error("the \"%\" at byte {0} is not followed by two hexadecimal digits; write %25 for a percent sign")]
    Percent(usize),
    #[error("the percent-encoded bytes of the entry at byte {0} are no UTF-8")]
    NotUtf8(usize),
}

/// Runs the detector.
pub(super) fn detect(host: &Host, findings: &mut Findings) {
    // The name by itself wins over the one in the list.
    if let Some(name) = host.variable("OTEL_SERVICE_NAME") {
        findings.add("service.name", name);
    }
    let Some(list) = host.variable("OTEL_RESOURCE_ATTRIBUTES") else { return };
    match parse(&list) {
        Ok(attributes) => attributes.into_iter().for_each(|(key, value)| findings.add(key, value)),
        Err(error) => findings.problem(format!("OTEL_RESOURCE_ATTRIBUTES is ignored: {error}")),
    }
}

/// The attributes in a list `k1=v1,k2=v2`. Of a key that comes twice the last value holds.
pub(super) fn parse(list: &str) -> Result<Vec<(String, String)>, EnvError> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut start = 0;
    for entry in list.split(',') {
        let at = start;
        start += entry.len() + 1;
        // Nothing between two commas, or after the last one, is no mistake.
        if entry.trim().is_empty() {
            continue;
        }
        let (key, value) = entry.split_once('=').ok_or(EnvError::NoEquals(at))?;
        let value_at = at + key.len() + 1;
        let (key, value) = (decode(key, at, at)?, decode(value, value_at, at)?);
        if key.is_empty() {
            return Err(EnvError::NoKey(at));
        }
        attributes.retain(|(known, _)| *known != key);
        attributes.push((key, value));
    }
    Ok(attributes)
}

/// Undoes percent-encoding, without the spaces around; a plus sign is a plus sign.
fn decode(text: &str, at: usize, entry_at: usize) -> Result<String, EnvError> {
    let offset = at + text.len() - text.trim_start().len();
    let text = text.trim();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes().enumerate();
    while let Some((i, byte)) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|(_, digit)| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(EnvError::Percent(offset + i)) };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| EnvError::NotUtf8(entry_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_detection::tests::host;
    use proptest::prelude::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lists_are_read_as_the_specification_says() {
        assert_eq!(parse("a=1,b=x y").unwrap(), pairs(&[("a", "1"), ("b", "x y")]));
        assert_eq!(parse(" a = 1 , b=, ").unwrap(), pairs(&[("a", "1"), ("b", "")]));
        assert_eq!(parse("a=1%2C2%3D3,%62=%25+%c3%BC").unwrap(), pairs(&[("a", "1,2=3"), ("b", "%+ü")]));
        assert_eq!(parse("a=b=c").unwrap(), pairs(&[("a", "b=c")]), "only the first sign divides");
        assert_eq!(parse("a=1,a=2").unwrap(), pairs(&[("a", "2")]));
    }

    #[test]
    fn one_error_discards_the_whole_list_and_says_where() {
        assert_eq!(parse("a=1,b"), Err(EnvError::NoEquals(4)));
        assert_eq!(parse("a=1,=2"), Err(EnvError::NoKey(4)));
        assert_eq!(parse("a=1,b= x%3"), Err(EnvError::Percent(8)));
        assert_eq!(parse("a=%zz"), Err(EnvError::Percent(2)));
        assert_eq!(parse("a=1,b=%ff"), Err(EnvError::NotUtf8(4)));
        let host = host(&[], &[("OTEL_RESOURCE_ATTRIBUTES", "password=secret,b")]);
        let mut findings = Findings::default();
        detect(&host, &mut findings);
        assert!(findings.keys().is_empty());
        let [problem] = findings.problems() else { panic!("one problem") };
        assert!(problem.contains("at byte 16") && !problem.contains("secret"), "{problem}");
    }

    #[test]
    fn the_service_name_by_itself_wins() {
        let list = "service.name=other,deployment.environment.name=prod";
        let host = host(&[], &[("OTEL_SERVICE_NAME", "phoenix"), ("OTEL_RESOURCE_ATTRIBUTES", list)]);
        let mut findings = Findings::default();
        detect(&host, &mut findings);
        assert_eq!(findings.get("service.name"), Some(&"phoenix".into()));
        assert_eq!(findings.get("deployment.environment.name"), Some(&"prod".into()));
    }

    proptest! {
        #[test]
        fn what_is_percent_encoded_comes_back(key in "\\PC{1,8}", value in "\\PC{0,8}") {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let list = format!("{}={}", encode(&key), encode(&value));
            prop_assert_eq!(parse(&list), Ok(vec![(key, value)]));
        }

        #[test]
        fn nothing_makes_it_panic(list in "\\PC{0,40}") {
            let _ = parse(&list);
        }
    }
}
