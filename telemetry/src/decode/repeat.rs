//! The short cut for scopes that repeat.
//!
//! An exporter that reports a thousand processes writes a thousand scopes that differ in nothing but times and values.
//! Comparing such a scope with the one before costs less than reading it, and where all other bytes are equal there is
//! nothing left to validate or to hash.

use super::Scan;
use crate::index::{Common, DOUBLE, INT, InCommon, PointEntry, Span, ValueKind};
use crate::kind::Number;
use crate::wire::{Reader, same};

/// The last scope of each length serves as a pattern for the next. This many are kept, by the length's remainder: a
/// resource has few scopes, and those of one scraper have few lengths.
pub(super) const PATTERNS: usize = 16;

/// A scope that others are held against.
pub(super) struct Repeated {
    /// Its place in the index.
    scope: u32,
    /// How to read those like it, once there was one.
    plan: Option<Plan>,
}

impl Repeated {
    pub(super) fn new(scope: u32) -> Self {
        Repeated { scope, plan: None }
    }
}

/// A scope whose points share their times, and where its numbers lie.
struct Plan {
    /// Its bytes, with the numbers of whichever was read last.
    bytes: Vec<u8>,
    /// By point: where its first number is, and whether that is a start.
    cores: Vec<(u32, bool)>,
}

impl Plan {
    /// That of a scope of these bytes, which begin at `origin`, with these points.
    fn new(points: &[PointEntry], bytes: &[u8], origin: u32) -> Self {
        let core = |point: &PointEntry| (place(point, origin) as u32 + 1, point.start_time != 0);
        Plan { bytes: bytes.to_vec(), cores: points.iter().map(core).collect() }
    }

    /// Adds the values of a scope of these bytes, if it differs in nothing but the numbers, and its times are all the same;
    /// returns these. With its numbers put into ours both are equal, which one comparison of all says: a third of the
    /// instructions of comparing the pieces between the numbers.
    fn read(&mut self, new: &[u8], bits: &mut Vec<u64>) -> Option<Common> {
        let Plan { bytes, cores } = self;
        // Both are what the first that says them says.
        let (mut start, mut time, mut apart) = (0, 0, 0);
        bits.reserve(cores.len());
        for (at, has_start) in cores.iter() {
            let (new, old) = (new.get(*at as usize..)?, bytes.get_mut(*at as usize..)?);
            if *has_start {
                let (new, old): (&[u8; CORE - 1], &mut [u8; CORE - 1]) = (new.first_chunk()?, old.first_chunk_mut()?);
                start = if start == 0 { word(new, 0) } else { start };
                time = if time == 0 { word(new, 9) } else { time };
                apart |= word(new, 0) ^ start | word(new, 9) ^ time;
                [0, 9, 18].into_iter().for_each(|number| take(old, new, number));
                bits.push(word(new, 18));
            } else {
                let (new, old): (&[u8; STARTLESS - 1], &mut [u8; STARTLESS - 1]) =
                    (new.first_chunk()?, old.first_chunk_mut()?);
                time = if time == 0 { word(new, 0) } else { time };
                apart |= word(new, 0) ^ time;
                [0, 9].into_iter().for_each(|number| take(old, new, number));
                bits.push(word(new, 9));
            }
        }
        // A start that is said to be 0 is none.
        let says = time != 0 && (start != 0 || cores.iter().all(|(_, has_start)| !has_start));
        (apart == 0 && says && bytes == new).then_some(Common { start, time })
    }
}

/// Copies a number.
#[inline(always)]
fn take<const N: usize>(old: &mut [u8; N], new: &[u8; N], at: usize) {
    if let (Some(old), Some(new)) = (old.get_mut(at..at + 8), new.get(at..at + 8)) {
        old.copy_from_slice(new);
    }
}

impl<'a> Scan<'a> {
    /// Indexes a scope that equals a pattern in every byte but the numbers of its points: then it is valid, and all
    /// positions and hashes are known. Returns whether it does.
    pub(super) fn repeat(&mut self, whole: usize, body: Reader<'a>, resource: u32) -> bool {
        let (start, new) = (body.offset(), body.rest());
        let Some(Some(Repeated { scope: id, plan })) = self.patterns.get_mut(new.len() % PATTERNS) else {
            return false;
        };
        let id = *id;
        let Some(pattern) = self.index.scopes.get(id as usize) else { return false };
        let Some(origin) = self.index.texts.get(pattern.text as usize).map(|text| text.head.start) else {
            return false;
        };
        let by = start as u32 - origin;
        let Some(old) = self.bytes.get(origin as usize..pattern.whole.end() as usize) else { return false };
        let entries = 1 + pattern.metrics.len() + pattern.points.len();
        if old.len() != new.len() || self.room < entries {
            return false;
        }
        let pattern_common = pattern.common;
        let first = self.index.bits.len();
        let alike = self.index.points.get(pattern.table()).unwrap_or_default();
        let bits = &mut self.index.bits;
        let mut common = plan.as_mut().and_then(|plan| plan.read(new, bits));
        if common.is_none() {
            bits.truncate(first);
            common = renumber(alike, old, new, origin, bits);
            if common.is_some() && pattern_common.time != 0 && plan.is_none() {
                *plan = Some(Plan::new(alike, old, origin));
            }
        }
        let Some(common) = common else {
            bits.truncate(first);
            return false;
        };
        let (place, points) = (self.index.places(), first as u32..self.index.bits.len() as u32);
        let shared = common.time != 0 && pattern_common.time != 0;
        let Some(pattern) = self.index.scopes.get_mut(id as usize) else { return false };
        pattern.shared |= shared;
        let mut scope = pattern.clone();
        scope.whole = Span::new(whole, start + new.len());
        (scope.by, scope.place, scope.points) = (by, place, points);
        (scope.common, scope.resource, scope.shared) = (common, resource, true);
        self.index.scopes.push(scope);
        if !shared {
            // The times are not one, so each point keeps its own.
            let table = self.index.own(self.index.scopes.len() - 1);
            for point in self.index.points.get_mut(table).unwrap_or_default() {
                let core = new.get(self::place(point, origin)..).and_then(core);
                let Some(Core { start, time, .. }) = core else { continue };
                (point.start_time, point.time) = (start.unwrap_or(point.start_time), time);
            }
        }
        self.room -= entries;
        true
    }
}

/// The tag of a number point's start, with which its core begins if it has one.
pub(crate) const START: u8 = 0x11;
/// Bytes of a number point's usual core: start, time and value, 8 bytes each behind their tags.
const CORE: usize = 27;
/// The same without a start, as gauges have it.
const STARTLESS: usize = 18;

/// What a core says, and how long it is.
pub(crate) struct Core {
    /// `None` where the core has none: it may lie elsewhere.
    pub(super) start: Option<u64>,
    pub(super) time: u64,
    pub(super) bits: u64,
    pub(super) value: ValueKind,
    pub(super) len: usize,
}

/// The core that bytes begin with, if they do.
#[inline(always)]
pub(super) fn core(bytes: &[u8]) -> Option<Core> {
    if bytes.first() == Some(&START) {
        let core: &[u8; CORE] = bytes.first_chunk()?;
        let (time, bits, value) = level(core.last_chunk()?)?;
        return Some(Core { start: Some(word(core, 1)), time, bits, value, len: CORE });
    }
    let (time, bits, value) = level(bytes.first_chunk()?)?;
    Some(Core { start: None, time, bits, value, len: STARTLESS })
}

#[inline(always)]
fn level(core: &[u8; STARTLESS]) -> Option<(u64, u64, ValueKind)> {
    let value = match (core[0], core[9]) {
        (0x19, DOUBLE) => ValueKind::Double,
        (0x19, INT) => ValueKind::Int,
        _ => return None,
    };
    Some((word(core, 1), word(core, 10), value))
}

#[inline(always)]
fn word<const N: usize>(core: &[u8; N], at: usize) -> u64 {
    core.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Puts start, time and value into a core that has a start.
#[inline]
pub(crate) fn put_core(core: &mut [u8; CORE], start: u64, time: u64, value: Number) {
    put_fields(core, [(START, start), (0x19, time), (tag(value), value.bits())]);
}

/// Puts time and value into one that has none.
#[inline]
pub(crate) fn put_level(core: &mut [u8; STARTLESS], time: u64, value: Number) {
    put_fields(core, [(0x19, time), (tag(value), value.bits())]);
}

fn tag(value: Number) -> u8 {
    if matches!(value, Number::Int(_)) { 0x31 } else { 0x21 }
}

#[inline(always)]
fn put_fields<const N: usize>(core: &mut [u8], fields: [(u8, u64); N]) {
    for (field, (tag, bits)) in core.chunks_exact_mut(9).zip(fields) {
        if let Some((first, rest)) = field.split_first_mut() {
            *first = tag;
            rest.copy_from_slice(&bits.to_le_bytes());
        }
    }
}

/// Where a point's core begins in its scope, whose pattern begins at `origin`.
#[inline(always)]
pub(crate) fn place(point: &PointEntry, origin: u32) -> usize {
    (point.body.start - origin) as usize + usize::from(point.core) - 1
}

/// Adds the values of a scope whose bytes are `new`, if these differ from the pattern's, `old`, in nothing but the numbers. The
/// pattern begins at `origin`; `points` are its entries. Returns what the times have in common.
#[inline(always)]
fn renumber(points: &[PointEntry], old: &[u8], new: &[u8], origin: u32, bits: &mut Vec<u64>) -> Option<Common> {
    let mut common = InCommon::default();
    let cores = points.iter().map(|point| (place(point, origin), point.value, point));
    let all_alike = alike(cores, old, new, |point, core| {
        common.add(point, core.start, core.time);
        bits.push(core.bits);
    });
    all_alike.then(|| common.get())
}

/// Whether two scopes differ in nothing but their numbers: `cores` are the places where those begin, of which type the values are,
/// and whose they are, which `tell` is told with the new ones.
#[inline(always)]
pub(crate) fn alike<P>(
    cores: impl Iterator<Item = (usize, ValueKind, P)>,
    old: &[u8],
    new: &[u8],
    mut tell: impl FnMut(P, Core),
) -> bool {
    let mut seen = 0;
    for (at, value, point) in cores {
        // The core's first byte, which says whether there is a start, among them.
        let (Some(gap), Some(theirs)) = (new.get(seen..at + 1), old.get(seen..at + 1)) else { return false };
        let Some(core) = new.get(at..).and_then(core).filter(|core| core.value == value) else { return false };
        if !same(theirs, gap) {
            return false;
        }
        seen = at + core.len;
        tell(point, core);
    }
    matches!((old.get(seen..), new.get(seen..)), (Some(theirs), Some(rest)) if same(theirs, rest))
}
