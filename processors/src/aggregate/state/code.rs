//! The bytes of the state: numbers of fixed width, and each description and set of attributes once, where it is first met.
//! Reading takes nothing for granted: what does not fit is an error, never a guess.

use std::io;
use std::sync::Arc;

use phoenix_telemetry::{MetricKind, Number, Temporality};

use super::super::config::GaugeFunction;
use super::super::emit::Pieces;
use super::super::identity::{Desc, Ident, Interner, Role};
use super::sealed::Sealing;
use crate::measure::ByKey;

/// The bytes are not what this code wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state ends early or holds what no state holds")]
pub(crate) struct Unreadable;

/// What is read, or that it cannot be.
pub(crate) type Read<T> = Result<T, Unreadable>;

const KINDS: [MetricKind; 6] = [
    MetricKind::None,
    MetricKind::Gauge,
    MetricKind::Sum,
    MetricKind::Histogram,
    MetricKind::ExponentialHistogram,
    MetricKind::Summary,
];
const TEMPORALITIES: [Temporality; 3] = [Temporality::Unspecified, Temporality::Delta, Temporality::Cumulative];
const FUNCTIONS: [GaugeFunction; 4] =
    [GaugeFunction::Min, GaugeFunction::Max, GaugeFunction::Mean, GaugeFunction::Last];

/// Stands for a description or a set that was not there before: it follows, and gets the next place.
const NEW: u32 = u32::MAX;

/// Writes a state.
///
/// Of what was written it remembers only the places: 16 bytes a description or set, in a hash table 20 to 40, 60 while it grows.
/// It keeps neither alive, so it is for one state that nobody changes meanwhile.
pub(crate) struct Writer<'a> {
    to: Sealing<'a>,
    /// Why nothing more is written.
    failed: Option<io::Error>,
    descs: ByKey<u32>,
    /// By their address.
    sets: ByKey<u32>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(to: Sealing<'a>) -> Self {
        Writer { to, failed: None, descs: ByKey::default(), sets: ByKey::default() }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.to.put(bytes).err();
        }
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    pub(crate) fn short(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn long(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn wide(&mut self, value: i128) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn maybe(&mut self, value: Option<u64>) {
        self.flag(value.is_some());
        self.long(value.unwrap_or_default());
    }

    pub(crate) fn number(&mut self, value: Number) {
        let (kind, bits) = match value {
            Number::Int(value) => (0, value as u64),
            Number::Double(value) => (1, value.to_bits()),
        };
        self.byte(kind);
        self.long(bits);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.long(value.len() as u64);
        self.put(value);
    }

    pub(crate) fn function(&mut self, value: GaugeFunction) {
        self.byte(value as u8);
    }

    /// A description. What it leaves as is part of it, and has its place before it.
    pub(crate) fn desc(&mut self, desc: &Desc) {
        if let Some(&place) = self.descs.get(&desc.id) {
            return self.short(place);
        }
        self.short(NEW);
        self.bytes(desc.name.as_bytes());
        self.byte(desc.kind as u8);
        self.byte(desc.temporality as u8);
        self.flag(desc.monotonic);
        self.bytes(&desc.scope);
        self.bytes(desc.scope_schema.as_bytes());
        self.bytes(&desc.head);
        self.flag(desc.out.is_some());
        if let Some(out) = &desc.out {
            self.desc(out);
        }
        self.descs.insert(desc.id, self.descs.len() as u32);
    }

    /// Shared bytes.
    pub(crate) fn set(&mut self, set: &Arc<[u8]>) {
        let next = self.sets.len() as u32;
        let place = *self.sets.entry(set.as_ptr() as u64).or_insert(next);
        if place == next {
            self.short(NEW);
            self.bytes(set);
        } else {
            self.short(place);
        }
    }

    /// Writes what is left. An error if anything could not be written.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)?;
        self.to.finish()
    }
}

/// Reads a state.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    descs: Vec<Arc<Desc>>,
    sets: Vec<Arc<[u8]>>,
    /// Gets to know what is read.
    pub(crate) interner: &'a mut Interner,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8], interner: &'a mut Interner) -> Self {
        Reader { rest: body, descs: Vec::new(), sets: Vec::new(), interner }
    }

    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Unreadable)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Read<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable),
        }
    }

    pub(crate) fn short(&mut self) -> Read<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn long(&mut self) -> Read<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn wide(&mut self) -> Read<i128> {
        self.take().map(i128::from_le_bytes)
    }

    pub(crate) fn maybe(&mut self) -> Read<Option<u64>> {
        let (some, value) = (self.flag()?, self.long()?);
        Ok(some.then_some(value))
    }

    pub(crate) fn number(&mut self) -> Read<Number> {
        let (kind, bits) = (self.byte()?, self.long()?);
        match kind {
            0 => Ok(Number::Int(bits as i64)),
            1 => Ok(Number::Double(f64::from_bits(bits))),
            _ => Err(Unreadable),
        }
    }

    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.long()?).map_err(|_| Unreadable)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Unreadable)
    }

    pub(crate) fn function(&mut self) -> Read<GaugeFunction> {
        FUNCTIONS.get(usize::from(self.byte()?)).copied().ok_or(Unreadable)
    }

    /// A description, as the interner knows it.
    pub(crate) fn desc(&mut self) -> Read<Arc<Desc>> {
        self.desc_or_out(true)
    }

    /// What a description leaves as leaves as nothing else.
    fn desc_or_out(&mut self, has_out: bool) -> Read<Arc<Desc>> {
        let place = self.short()?;
        if place != NEW {
            let known = self.descs.get(place as usize).filter(|known| has_out || known.out.is_none());
            return known.cloned().ok_or(Unreadable);
        }
        let read = Desc {
            id: 0,
            name: self.text()?,
            unit: String::new(),
            kind: *KINDS.get(usize::from(self.byte()?)).ok_or(Unreadable)?,
            temporality: *TEMPORALITIES.get(usize::from(self.byte()?)).ok_or(Unreadable)?,
            monotonic: self.flag()?,
            // The interner knows both of the metric it makes of it.
            role: Role::Other,
            scope: self.bytes()?.to_vec(),
            scope_schema: self.text()?,
            head: self.bytes()?.to_vec(),
            out: None,
        };
        let out = match self.flag()? {
            false => None,
            true if has_out => Some(self.desc_or_out(false)?),
            true => return Err(Unreadable),
        };
        let known = known(read, out, self.interner)?;
        self.descs.push(Arc::clone(&known));
        Ok(known)
    }

    pub(crate) fn set(&mut self) -> Read<Arc<[u8]>> {
        let place = self.short()?;
        if place != NEW {
            return self.sets.get(place as usize).cloned().ok_or(Unreadable);
        }
        let bytes = self.bytes()?.to_vec();
        let set = self.interner.share(bytes);
        self.sets.push(Arc::clone(&set));
        Ok(set)
    }

    /// A description and a set of attributes.
    pub(crate) fn ident(&mut self) -> Read<Arc<Ident>> {
        let desc = self.desc()?;
        self.ident_of(&desc)
    }

    /// A set of attributes, with a description that is known.
    pub(crate) fn ident_of(&mut self, desc: &Arc<Desc>) -> Read<Arc<Ident>> {
        let attributes = self.set()?;
        Ok(self.interner.ident_of(desc, &attributes))
    }

    /// Whether all was read.
    pub(crate) fn end(&self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// What the interner calls this description: it is written as a metric and met again.
fn known(read: Desc, out: Option<Arc<Desc>>, interner: &mut Interner) -> Read<Arc<Desc>> {
    let mut pieces = Pieces::default();
    let resource: Arc<[u8]> = Arc::new([]);
    pieces.closed_as(&resource, &Arc::new(read), &[], (0, 1));
    let batch = pieces.finish();
    let mut metrics = batch.resources().flat_map(|resource| resource.metrics());
    let metric = metrics.next().ok_or(Unreadable)?;
    Ok(interner.desc_in(metric, metric.temporality(), out))
}
