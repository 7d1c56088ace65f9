//! Identity hashes with a definition that never changes, so that sketches built from them merge across agents.
//!
//! Every hash is rapidhash V3 "micro" with one fixed seed. An attribute is hashed over its *canonical* protobuf form:
//! key, then value, both present, all lengths minimal; arrays and maps by the hashes of their elements. A set of
//! attributes is the wrapping sum of its members' hashes, so order does not count. Sums of hashes are no proof of
//! equality: compare the views wherever a collision would merge data.

use crate::kind::{MetricKind, Temporality};
use crate::value::{self, AnyValue, Attributes};
use crate::wire::{is_ascii, is_utf8, put_bytes, put_fixed64, put_tag, put_varint};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};

const SECRETS: RapidSecrets = RapidSecrets::seed(0x70_68_6F_65_6E_69_78);

#[inline(always)]
pub(crate) fn bytes(data: &[u8]) -> u64 {
    rapidhash_v3_micro_inline::<true, false>(data, &SECRETS)
}

/// Two hashes to one; the order counts. A full multiplication folded in two, rapidhash's own mixing step.
#[inline(always)]
pub(crate) fn combine(a: u64, b: u64) -> u64 {
    mix(a ^ 0x2D35_8DCC_AA6C_78A5, b ^ 0x8BB8_4B93_962E_ACC9)
}

#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A resource by the sum of its attributes.
#[inline(always)]
pub(crate) fn resource(attributes: u64) -> u64 {
    combine(0x7265_736F_7572_6365, attributes)
}

/// A scope by name, version and the sum of its attributes.
pub(crate) fn scope(name: &[u8], version: &[u8], attributes: u64) -> u64 {
    combine(combine(bytes(name), bytes(version)), attributes)
}

/// What is identifying in a metric's text.
pub(crate) fn metric_text(name: &[u8], unit: &[u8]) -> u64 {
    combine(bytes(name), bytes(unit))
}

/// A metric by its text and shape. Description, bounds and scale do not identify.
#[inline]
pub(crate) fn metric(text: u64, kind: MetricKind, temporality: Temporality, monotonic: bool) -> u64 {
    combine(text, kind as u64 | (temporality as u64) << 8 | u64::from(monotonic) << 16)
}

/// The sum over a set of attributes.
pub(crate) fn attributes(set: Attributes<'_>) -> u64 {
    set.iter().fold(0, |sum, (key, value)| sum.wrapping_add(attribute(key.as_bytes(), value)))
}

/// One attribute, by the bytes of its validated `KeyValue`.
pub(crate) fn key_value(pair: &[u8]) -> u64 {
    if is_canonical(pair) {
        return bytes(pair);
    }
    let (key, value) = value::key_value(pair);
    attribute(key, AnyValue::parse(value))
}

/// One attribute.
pub(crate) fn attribute(key: &[u8], value: AnyValue<'_>) -> u64 {
    let mut canonical = Vec::with_capacity(64);
    let mut content = Vec::with_capacity(32);
    canonical_value(&mut content, value);
    put_bytes(&mut canonical, 1, key);
    put_bytes(&mut canonical, 2, &content);
    bytes(&canonical)
}

fn canonical_value(out: &mut Vec<u8>, value: AnyValue<'_>) {
    match value {
        AnyValue::Empty => {}
        AnyValue::Str(text) => put_bytes(out, 1, text.as_bytes()),
        AnyValue::Bool(value) => {
            put_tag(out, 2, crate::wire::VARINT);
            out.push(u8::from(value));
        }
        AnyValue::Int(value) => {
            put_tag(out, 3, crate::wire::VARINT);
            put_varint(out, value as u64);
        }
        AnyValue::Double(value) => put_fixed64(out, 4, value.to_bits()),
        AnyValue::Array(values) => {
            let mut hashes = Vec::new();
            for value in values.iter() {
                let mut element = Vec::new();
                canonical_value(&mut element, value);
                hashes.extend_from_slice(&bytes(&element).to_le_bytes());
            }
            put_bytes(out, 5, &hashes);
        }
        AnyValue::Map(map) => put_bytes(out, 6, &attributes(map).to_le_bytes()),
        AnyValue::Bytes(data) => put_bytes(out, 7, data),
    }
}

/// Whether these are the bytes of a well-formed `KeyValue` with a scalar value in the canonical form, which is hashed as
/// it lies. Says no where it is not sure.
#[inline(always)]
pub(crate) fn is_canonical(pair: &[u8]) -> bool {
    let [0x0A, rest @ ..] = pair else { return false };
    let Some((key, rest)) = chunk(rest) else { return false };
    let [0x12, rest @ ..] = rest else { return false };
    let Some((value, [])) = chunk(rest) else { return false };
    match value {
        // Short lengths and tags are ASCII themselves: one look at the whole pair covers key and text.
        [0x0A, rest @ ..] => match chunk(rest) {
            Some((text, [])) => is_ascii(pair) || (is_utf8(key) && is_utf8(text)),
            _ => false,
        },
        [0x10, 0 | 1] => is_utf8(key),
        [0x18, number @ ..] => is_minimal(number) && is_utf8(key),
        [0x21, number @ ..] => number.len() == 8 && is_utf8(key),
        _ => false,
    }
}

/// The hash of a `KeyValue` as exporters write nearly all of them: text or an integer, canonical, ASCII but for the integer, of
/// at most 80 bytes. `None` says nothing. Does in 80 instructions what takes [`is_canonical`] and [`bytes`] 180: the bytes are
/// looked at once, and tags and lengths compared in one piece.
#[inline(always)]
pub(crate) fn plain(pair: &[u8]) -> Option<u64> {
    let [0x0A, key, ..] = pair else { return None };
    let key = 2 + usize::from(*key);
    let [0x12, len, kind, first, ..] = pair.get(key..)? else { return None };
    let (hash, seen) = short(pair)?;
    // All lengths are below 80, so what they must be fits their byte.
    let left = (pair.len() - key - 2) as u8;
    if *len != left {
        return None;
    }
    let is_plain = match kind {
        0x0A => left - 2 == *first && seen & HIGH == 0,
        0x18 => is_minimal(pair.get(key + 3..)?) && is_ascii(pair.get(..key)?),
        _ => false,
    };
    is_plain.then_some(hash)
}

const HIGH: u64 = 0x8080_8080_8080_8080;

/// What [`bytes`] says of 8 to 80 bytes, and all of them or-ed together.
#[inline(always)]
fn short(data: &[u8]) -> Option<(u64, u64)> {
    let RapidSecrets { mut seed, secrets, .. } = SECRETS;
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let len = data.len() as u64;
    let last = word(data.last_chunk()?);
    let (first, mut seen) = if len > 16 {
        if len > 80 {
            return None;
        }
        let (blocks, _) = data.get(..data.len() - 1)?.as_chunks::<16>();
        let mut seen = 0;
        for (block, secret) in blocks.iter().zip([secrets[2], secrets[2], secrets[1], secrets[1]]) {
            let (a, b) = (word(block.first_chunk()?), word(block.last_chunk()?));
            seen |= a | b;
            seed = mix(a ^ secret, b ^ seed);
        }
        let first = word(data.last_chunk::<16>()?.first_chunk()?);
        (first ^ len, seen | first)
    } else {
        seed ^= len;
        let first = word(data.first_chunk()?);
        (first, first)
    };
    seen |= last;
    let product = u128::from(first ^ secrets[1]) * u128::from(last ^ seed);
    let (low, high) = (product as u64, (product >> 64) as u64);
    Some((mix(low ^ 0xAAAA_AAAA_AAAA_AAAA, high ^ secrets[1] ^ len), seen))
}

/// Whether these bytes are a varint of the least length, and of at most 9 bytes.
#[inline(always)]
fn is_minimal(number: &[u8]) -> bool {
    let [number @ .., last] = number else { return false };
    // All but the last byte say that more follow.
    let minimal = *last < 0x80 && (*last != 0 || number.is_empty()) && number.len() < 9;
    minimal && number.iter().all(|byte| *byte >= 0x80)
}

/// Takes a minimal length of at most two bytes and as many bytes.
#[inline(always)]
fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [len, rest @ ..] if *len < 0x80 => rest.split_at_checked(usize::from(*len)),
        [low, high @ 1..0x80, rest @ ..] => rest.split_at_checked(usize::from(*low & 0x7F) | usize::from(*high) << 7),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(key: &str, value: AnyValue<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        crate::edit::put_attribute(&mut out, 7, key, value);
        crate::wire::fields(&out).next().map(|field| field.payload.bytes().to_vec()).unwrap_or_default()
    }

    #[test]
    fn the_definition_never_changes() {
        // Sketches of other versions and other agents hold these: a change here is a break of the format.
        assert_eq!(attribute(b"state", AnyValue::Str("user")), STATE_USER);
        assert_eq!(attribute(b"process.pid", AnyValue::Int(4711)), PID);
        assert_eq!(resource(attribute(b"process.pid", AnyValue::Int(4711))), RESOURCE);
        assert_eq!(metric(metric_text(b"m", b"s"), MetricKind::Sum, Temporality::Cumulative, true), METRIC);
    }

    const STATE_USER: u64 = 0x10AF_5F5C_E355_5741;
    const PID: u64 = 0x3147_11F7_DDBC_DC36;
    const RESOURCE: u64 = 0x3B33_537D_F802_D038;
    const METRIC: u64 = 0xC9C1_0C24_70F0_A37F;

    #[test]
    fn bytes_and_views_hash_alike() {
        let long = "x".repeat(300);
        for value in [
            AnyValue::Empty,
            AnyValue::Str(""),
            AnyValue::Str("Gr\u{fc}\u{df}e"),
            AnyValue::Str(&long),
            AnyValue::Bool(false),
            AnyValue::Bool(true),
            AnyValue::Int(0),
            AnyValue::Int(127),
            AnyValue::Int(128),
            AnyValue::Int(-1),
            AnyValue::Int(i64::MAX),
            AnyValue::Double(-0.0),
            AnyValue::Bytes(&[255]),
        ] {
            for key in ["", "k", &long] {
                let expected = attribute(key.as_bytes(), value);
                assert_eq!(key_value(&pair(key, value)), expected, "{key} {value:?}");
                // Value first, and a length longer than it need be: another encoding, the same attribute.
                let canonical = pair(key, value);
                let (key, value) = value::key_value(&canonical);
                let mut other = Vec::new();
                put_bytes(&mut other, 2, value);
                put_bytes(&mut other, 1, key);
                assert_eq!(key_value(&other), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn the_short_way_says_what_the_long_one_says(
            key in "[a-z.]{0,40}|\\PC{0,12}",
            text in "[a-z/ ]{0,60}|\\PC{0,12}",
            number in prop_oneof![0..200i64, any::<i64>()],
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            for value in [AnyValue::Str(&text), AnyValue::Int(number), AnyValue::Bool(true), AnyValue::Empty] {
                let mut pair = pair(&key, value);
                if let Some((at, byte)) = damage {
                    let at = at.index(pair.len());
                    pair[at] = byte;
                }
                if let Some(hash) = plain(&pair) {
                    prop_assert!(is_canonical(&pair));
                    prop_assert_eq!(hash, bytes(&pair));
                }
                let usual = (8..=80).contains(&pair.len()) && key.is_ascii() && text.is_ascii();
                let is_plain = matches!(value, AnyValue::Str(_) | AnyValue::Int(0..));
                prop_assert!(damage.is_some() || !usual || !is_plain || plain(&pair).is_some());
            }
        }
    }

    #[test]
    fn what_is_not_minimal_is_not_canonical() {
        assert!(is_canonical(&[0x0A, 1, b'k', 0x12, 2, 0x18, 5]));
        for pair in [
            &[0x0A, 1, b'k', 0x12, 3, 0x18, 0x85, 0][..], // the integer with a byte too many
            &[0x0A, 0x81, 0, b'k', 0x12, 2, 0x18, 5],     // the key's length likewise
            &[0x0A, 1, b'k', 0x12, 2, 0x10, 2],           // true is 1
            &[0x0A, 1, b'k', 0x12, 1, 0x18],              // no integer at all
            &[0x0A, 1, 0xFF, 0x12, 2, 0x18, 5],           // no UTF-8
            &[0x12, 2, 0x18, 5],
        ] {
            assert!(!is_canonical(pair), "{pair:?}");
        }
    }
}
