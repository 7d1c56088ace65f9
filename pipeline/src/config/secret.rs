//! Strings that must not be seen: tokens, passwords, header values.
//!
//! `Debug` and `Serialize` print `[REDACTED]`, so a secret cannot reach a log or a printed config by accident; only
//! [`Secret::reveal`] gives it out.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// What is printed in place of a secret, as the Collector does.
pub const REDACTED: &str = "[REDACTED]";

/// Parts of a key's name, without separators, that make its value a secret.
const SECRET_NAMES: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "licensekey",
    "accesskey",
    "privatekey",
    "keypem",
    "credential",
    "authorization",
    "cookie",
    "ownerauth",
    "signature",
    "bearer",
];
/// Keys whose values are secrets from there on down.
const SECRET_BLOCKS: [&str; 4] = ["headers", "response_headers", "request_params", "auth_headers"];

/// Whether everything below a key is secret (`headers`).
pub fn is_secret_block(key: &str) -> bool {
    SECRET_BLOCKS.contains(&key)
}

/// Whether a key's name says that its value is a secret (`api_key`). The path of a file is none.
pub fn is_secret_key(key: &str) -> bool {
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let path = plain.ends_with("file") || plain.ends_with("path");
    is_secret_block(key) || (!path && SECRET_NAMES.iter().any(|name| plain.contains(name)))
}

/// An opaque string.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Hides a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The string itself, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True if nothing is hidden here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Nothing to hide: a printed default reads back as the default.
        serializer.serialize_str(if self.is_empty() { "" } else { REDACTED })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Header names with secret values, in the order of the config. Read from a map (`api-key: X`) or, as the Collector
/// allows, from a list of `{name: api-key, value: X}`; printed as a map. A name stands once, whatever its case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Names and values in the order of the config.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a header; names have no case.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Sets a header, in place if it is there.
    pub fn insert(&mut self, name: impl Into<String>, value: Secret) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// True without any header.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many headers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn add<E: Error>(&mut self, name: String, value: Secret) -> Result<(), E> {
        if self.get(&name).is_some() {
            return Err(E::custom(format_args!("the header {name:?} is set twice; header names have no case")));
        }
        self.0.push((name, value));
        Ok(())
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    value: Secret,
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Headers;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map of header names and values")
            }
            fn visit_unit<E: Error>(self) -> Result<Headers, E> {
                Ok(Headers::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, value)) = map.next_entry::<String, Secret>()? {
                    headers.add(name, value)?;
                }
                Ok(headers)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some(Pair { name, value }) = list.next_element()? {
                    headers.add(name, value)?;
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_any(Names)
    }
}
