//! The bytes of the state: numbers of fixed width, and each description and set of attributes once. Reading takes nothing
//! for granted: what does not fit is an error, never a guess.

use std::sync::Arc;

use phoenix_telemetry::{Batch, MetricKind, Number, Temporality};

use super::super::config::GaugeFunction;
use super::super::emit::Pieces;
use super::super::identity::{Desc, Ident, Interner, Role};
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

/// Writes a state.
#[derive(Default)]
pub(crate) struct Writer {
    body: Vec<u8>,
    descs: Vec<Arc<Desc>>,
    desc_places: ByKey<u32>,
    sets: Vec<Arc<[u8]>>,
    /// By their address.
    set_places: ByKey<u32>,
}

impl Writer {
    pub(crate) fn byte(&mut self, value: u8) {
        self.body.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    pub(crate) fn short(&mut self, value: u32) {
        self.body.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn long(&mut self, value: u64) {
        self.body.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn wide(&mut self, value: i128) {
        self.body.extend_from_slice(&value.to_le_bytes());
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
        self.body.extend_from_slice(value);
    }

    pub(crate) fn function(&mut self, value: GaugeFunction) {
        self.byte(value as u8);
    }

    /// A description, by its place in the table.
    pub(crate) fn desc(&mut self, desc: &Arc<Desc>) {
        let place = self.desc_place(desc);
        self.short(place);
    }

    /// What it leaves as stands before it.
    fn desc_place(&mut self, desc: &Arc<Desc>) -> u32 {
        if let Some(&place) = self.desc_places.get(&desc.id) {
            return place;
        }
        if let Some(out) = &desc.out {
            self.desc_place(out);
        }
        let place = self.descs.len() as u32;
        self.desc_places.insert(desc.id, place);
        self.descs.push(Arc::clone(desc));
        place
    }

    /// Shared bytes, by their place in the table.
    pub(crate) fn set(&mut self, set: &Arc<[u8]>) {
        let next = self.sets.len() as u32;
        let place = *self.set_places.entry(set.as_ptr() as u64).or_insert(next);
        if place == next {
            self.sets.push(Arc::clone(set));
        }
        self.short(place);
    }

    /// The tables, and behind them what was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut head = Writer::default();
        head.long(self.descs.len() as u64);
        for desc in &self.descs {
            head.bytes(desc.name.as_bytes());
            head.byte(desc.kind as u8);
            head.byte(desc.temporality as u8);
            head.flag(desc.monotonic);
            head.bytes(&desc.scope);
            head.bytes(desc.scope_schema.as_bytes());
            head.bytes(&desc.head);
            head.maybe(desc.out.as_ref().and_then(|out| self.desc_places.get(&out.id)).map(|place| u64::from(*place)));
        }
        head.long(self.sets.len() as u64);
        self.sets.iter().for_each(|set| head.bytes(set));
        let mut out = head.body;
        out.extend_from_slice(&self.body);
        out
    }
}

/// Reads a state.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    descs: Vec<Arc<Desc>>,
    sets: Vec<Arc<[u8]>>,
}

impl<'a> Reader<'a> {
    /// Reads the tables; what they hold is handed to the interner.
    pub(crate) fn begin(bytes: &'a [u8], interner: &mut Interner) -> Read<Self> {
        let mut reader = Reader { rest: bytes, descs: Vec::new(), sets: Vec::new() };
        let (mut descs, mut outs) = (Vec::new(), Vec::new());
        for id in 0..reader.long()? {
            descs.push(Arc::new(Desc {
                id,
                name: reader.text()?,
                unit: String::new(),
                kind: *KINDS.get(usize::from(reader.byte()?)).ok_or(Unreadable)?,
                temporality: *TEMPORALITIES.get(usize::from(reader.byte()?)).ok_or(Unreadable)?,
                monotonic: reader.flag()?,
                // The interner knows both of the metric it makes of it.
                role: Role::Other,
                scope: reader.bytes()?.to_vec(),
                scope_schema: reader.text()?,
                head: reader.bytes()?.to_vec(),
                out: None,
            }));
            outs.push(reader.maybe()?);
        }
        reader.descs = known(&descs, &outs, interner)?;
        for _ in 0..reader.long()? {
            let set = interner.share(reader.bytes()?.to_vec());
            reader.sets.push(set);
        }
        Ok(reader)
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

    pub(crate) fn desc(&mut self) -> Read<Arc<Desc>> {
        let place = self.short()? as usize;
        self.descs.get(place).cloned().ok_or(Unreadable)
    }

    pub(crate) fn set(&mut self) -> Read<Arc<[u8]>> {
        let place = self.short()? as usize;
        self.sets.get(place).cloned().ok_or(Unreadable)
    }

    /// A description and a set of attributes.
    pub(crate) fn ident(&mut self, interner: &mut Interner) -> Read<Arc<Ident>> {
        let (desc, attributes) = (self.desc()?, self.set()?);
        Ok(interner.ident_of(&desc, &attributes))
    }

    /// Whether all was read.
    pub(crate) fn end(&self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// What the interner calls these descriptions: each is written as a metric and met again. `outs` are the places of what they
/// leave as, each before its own.
fn known(descs: &[Arc<Desc>], outs: &[Option<u64>], interner: &mut Interner) -> Read<Vec<Arc<Desc>>> {
    let mut pieces = Pieces::default();
    let resource: Arc<[u8]> = Arc::new([]);
    descs.iter().for_each(|desc| pieces.closed_as(&resource, desc, &[], (0, 1)));
    let batch: Batch = pieces.finish();
    let metrics = batch.resources().flat_map(|resource| resource.metrics());
    let mut known: Vec<Arc<Desc>> = Vec::new();
    for (metric, out) in metrics.zip(outs) {
        let place = out.map(usize::try_from).transpose().map_err(|_| Unreadable)?;
        let out = place.map(|place| known.get(place).cloned().ok_or(Unreadable)).transpose()?;
        known.push(interner.desc_in(metric, metric.temporality(), out));
    }
    if known.len() == descs.len() { Ok(known) } else { Err(Unreadable) }
}
