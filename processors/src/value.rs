//! A value as a person writes it in a configuration, with its type: `text`, `80`, `0.5`, `true`.

use phoenix_telemetry::AnyValue;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;

/// A scalar with the type it was written in. Lists and maps are not served as configured values.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    /// Text.
    Str(String),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number in 64 bits.
    Int(i64),
    /// A number with a fraction or exponent.
    Double(f64),
}

impl ConfigValue {
    /// The value as an attribute's value.
    pub fn as_any(&self) -> AnyValue<'_> {
        match self {
            ConfigValue::Str(text) => AnyValue::Str(text),
            ConfigValue::Bool(flag) => AnyValue::Bool(*flag),
            ConfigValue::Int(number) => AnyValue::Int(*number),
            ConfigValue::Double(number) => AnyValue::Double(*number),
        }
    }
}

impl Serialize for ConfigValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ConfigValue::Str(text) => serializer.serialize_str(text),
            ConfigValue::Bool(flag) => serializer.serialize_bool(*flag),
            ConfigValue::Int(number) => serializer.serialize_i64(*number),
            ConfigValue::Double(number) => serializer.serialize_f64(*number),
        }
    }
}

struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = ConfigValue;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string, a number or a boolean")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ConfigValue, E> {
        i64::try_from(number)
            .map(ConfigValue::Int)
            .map_err(|_| E::custom(format!("{number} does not fit in 64 bits with a sign")))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Double(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ConfigValue, E> {
        Ok(ConfigValue::Str(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_kept_and_written_as_it_was_read() {
        for (text, want) in [
            ("prod", ConfigValue::Str("prod".into())),
            ("\"80\"", ConfigValue::Str("80".into())),
            ("80", ConfigValue::Int(80)),
            ("-1", ConfigValue::Int(-1)),
            ("0.5", ConfigValue::Double(0.5)),
            ("true", ConfigValue::Bool(true)),
        ] {
            let value: ConfigValue = serde_yaml::from_str(text).unwrap();
            assert_eq!(value, want);
            assert_eq!(serde_yaml::from_str::<ConfigValue>(&serde_yaml::to_string(&value).unwrap()).unwrap(), want);
        }
        assert!(
            serde_yaml::from_str::<ConfigValue>("[1]")
                .unwrap_err()
                .to_string()
                .contains("a string, a number or a boolean")
        );
        assert!(serde_yaml::from_str::<ConfigValue>("18446744073709551615").is_err());
    }
}
