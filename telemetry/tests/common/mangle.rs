//! Legal protobuf that no encoder writes: the same request with its fields shuffled, singular messages sent in pieces,
//! packed lists unpacked, unknown fields between, and lengths longer than they need be.

use rand_like::Dice;

/// What a field of OTLP metrics is, as far as it matters here. Messages by their own little names.
enum Field {
    Single(&'static str),
    Many(&'static str),
    PackedFixed,
    PackedVarint,
    Plain,
}

fn field(message: &str, number: u64) -> Field {
    use Field::*;
    match (message, number) {
        ("request", 1) => Many("resource_metrics"),
        ("resource_metrics", 1) => Single("resource"),
        ("resource_metrics", 2) => Many("scope_metrics"),
        ("resource", 1) | ("scope", 3) | ("map", 1) | ("metric", 12) | ("exemplar", 7) => Many("pair"),
        ("scope_metrics", 1) => Single("scope"),
        ("scope_metrics", 2) => Many("metric"),
        ("metric", 5 | 7) => Single("numbers"),
        ("metric", 9) => Single("histogram"),
        ("metric", 10) => Single("exponential"),
        ("metric", 11) => Single("summary"),
        ("numbers", 1) => Many("number_point"),
        ("histogram", 1) => Many("histogram_point"),
        ("exponential", 1) => Many("exponential_point"),
        ("summary", 1) => Many("summary_point"),
        ("number_point" | "summary_point", 7) | ("histogram_point", 9) | ("exponential_point", 1) => Many("pair"),
        ("number_point", 5) | ("histogram_point", 8) | ("exponential_point", 11) => Many("exemplar"),
        ("histogram_point", 6 | 7) => PackedFixed,
        ("exponential_point", 8 | 9) => Single("buckets"),
        ("buckets", 2) => PackedVarint,
        ("pair", 2) => Single("value"),
        ("array", 1) => Many("value"),
        ("value", 5) => Single("array"),
        ("value", 6) => Single("map"),
        _ => Plain,
    }
}

/// A small deterministic source of choices.
pub mod rand_like {
    pub struct Dice(pub u64);

    impl Dice {
        pub fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 20) as usize % n.max(1)
        }

        pub fn one_in(&mut self, n: usize) -> bool {
            self.below(n) == 0
        }
    }
}

/// A request in another guise.
pub fn mangle(request: &[u8], seed: u64) -> Vec<u8> {
    message("request", request, &mut Dice(seed | 1))
}

fn message(name: &str, body: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let start = rest;
        let key = varint(&mut rest);
        let (number, wire) = (key >> 3, key & 7);
        let content = match wire {
            0 => {
                varint(&mut rest);
                &[][..]
            }
            1 => take(&mut rest, 8),
            5 => take(&mut rest, 4),
            _ => {
                let len = varint(&mut rest) as usize;
                take(&mut rest, len)
            }
        };
        let whole = start[..start.len() - rest.len()].to_vec();
        match field(name, number) {
            Field::Many(inner) => parts.push(delimited(number, &message(inner, content, dice), dice)),
            Field::Single(inner) => {
                let content = message(inner, content, dice);
                for piece in pieces(&content, dice) {
                    parts.push(delimited(number, piece, dice));
                }
            }
            Field::PackedFixed if dice.one_in(2) => {
                for chunk in content.chunks(8) {
                    parts.push([tag(number, 1).as_slice(), chunk].concat());
                }
            }
            Field::PackedVarint if dice.one_in(2) => {
                let mut list = content;
                while !list.is_empty() {
                    let mut part = tag(number, 0);
                    put_varint(&mut part, varint(&mut list));
                    parts.push(part);
                }
            }
            _ => parts.push(whole),
        }
    }
    if dice.one_in(3) {
        parts.push(delimited(1_000, b"unknown", dice));
    }
    if dice.one_in(6) {
        parts.push([tag(77, 5).as_slice(), b"four"].concat());
    }
    if dice.one_in(2) {
        // Any order is legal; that of equal repeated fields changes, for every reader alike.
        for i in (1..parts.len()).rev() {
            parts.swap(i, dice.below(i + 1));
        }
    }
    parts.concat()
}

/// Cuts a message between two fields, sometimes.
fn pieces<'a>(content: &'a [u8], dice: &mut Dice) -> Vec<&'a [u8]> {
    if !dice.one_in(4) {
        return vec![content];
    }
    let mut cuts = vec![0];
    let mut rest = content;
    while !rest.is_empty() {
        let key = varint(&mut rest);
        match key & 7 {
            0 => drop(varint(&mut rest)),
            1 => drop(take(&mut rest, 8)),
            5 => drop(take(&mut rest, 4)),
            _ => {
                let len = varint(&mut rest) as usize;
                take(&mut rest, len);
            }
        }
        cuts.push(content.len() - rest.len());
    }
    let (first, second) = content.split_at(cuts[dice.below(cuts.len())]);
    vec![first, second]
}

fn delimited(number: u64, body: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = tag(number, 2);
    put_varint(&mut out, body.len() as u64);
    if dice.one_in(8) {
        // A length longer than it need be: the last byte goes on, with nothing behind it.
        if let Some(last) = out.last_mut() {
            *last |= 0x80;
        }
        out.push(0);
    }
    out.extend_from_slice(body);
    out
}

fn tag(number: u64, wire: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, number << 3 | wire);
    out
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for (i, byte) in rest.iter().enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return value;
        }
    }
    panic!("an encoder's bytes end inside a varint")
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(n);
    *rest = left;
    taken
}
