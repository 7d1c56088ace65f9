//! A host in the state: its times, its entities with their series and who they belong to, its groups.
//!
//! Keys are not in it: their second half is of this process alone. They are found again by writing a point of every entity
//! and reading it as one that came in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Entity, Host, Row, Table, Usage};
use crate::aggregate::distribution::Distribution;
use crate::aggregate::emit::Pieces;
use crate::aggregate::groups::Groups;
use crate::aggregate::identity::Desc;
use crate::aggregate::ledger::{GroupId, Holder, Life, Reading};
use crate::aggregate::number::Sum;
use crate::aggregate::series::{Beside, Histogram, Kind, Series};
use crate::aggregate::state::code::{Read, Reader, Unreadable, Writer};

impl Host {
    /// Writes all but the groups' wait.
    pub(crate) fn save(&self, descs: &HashMap<u64, Arc<Desc>>, out: &mut Writer<'_>) {
        out.long(self.times.len() as u64);
        self.times.iter().for_each(|time| out.long(*time));
        for value in [self.due, self.spoken] {
            out.long(value);
        }
        out.maybe(self.refused);
        out.maybe(self.reopens);
        let heard: Vec<&Arc<Desc>> = self.heard.iter().filter_map(|id| descs.get(id)).collect();
        out.long(heard.len() as u64);
        heard.iter().for_each(|desc| out.desc(desc));
        self.groups.save(out);
        // One that has had no good point yet is not worth it.
        let entities = || self.entities.iter().filter(|entity| !entity.series.is_empty());
        out.long(entities().count() as u64);
        entities().for_each(|entity| entity.save(out));
    }

    /// Reads one host.
    pub(crate) fn load(name: &str, now: Instant, from: &mut Reader<'_>) -> Read<Host> {
        let mut host = Host::new(name, now);
        for _ in 0..from.long()? {
            host.times.push(from.long()?);
        }
        (host.due, host.spoken) = (from.long()?, from.long()?);
        (host.refused, host.reopens) = (from.maybe()?, from.maybe()?);
        for _ in 0..from.long()? {
            host.heard.insert(from.desc()?.id);
        }
        host.groups = Groups::load(from)?;
        for _ in 0..from.long()? {
            host.entity(from)?;
        }
        Ok(host)
    }

    fn entity(&mut self, from: &mut Reader<'_>) -> Read<()> {
        let resource = from.set()?;
        let verdict = (if from.flag()? { "fold" } else { "individual" }, "restored");
        let mut entity = Entity {
            key: (0, 0),
            resource,
            series: Table::default(),
            group: None,
            is_group: from.flag()?,
            verdict,
            usage: Usage::default(),
        };
        for _ in 0..from.long()? {
            let series = Series::load(from)?;
            if entity.series.find(&series.ident, entity.series.len()).is_some() {
                return Err(Unreadable);
            }
            entity.series.push(series);
        }
        self.series += entity.series.len();
        let mut pieces = Pieces::default();
        let first = entity.series.get(0).ok_or(Unreadable)?;
        pieces.closed(&entity.resource, &first.ident, (0, 1));
        let batch = pieces.finish();
        let Err(keyed) = self.entities.find(batch.resources().next().ok_or(Unreadable)?, None, from.interner) else {
            return Err(Unreadable);
        };
        entity.key = keyed.key;
        let closing: Vec<_> =
            entity.series.iter().filter(|series| series.life.closing).map(|series| Arc::clone(&series.ident)).collect();
        let slot = self.entities.insert(entity);
        self.closing.extend(closing.into_iter().map(|ident| (slot, ident)));
        Ok(())
    }
}

impl Entity {
    fn save(&self, out: &mut Writer<'_>) {
        out.set(&self.resource);
        out.flag(self.verdict.0 == "fold");
        out.flag(self.is_group);
        out.long(self.series.len() as u64);
        self.series.rows().iter().flat_map(Row::series).for_each(|series| series.save(out));
        self.series.iter().for_each(|series| series.save(out));
    }
}

impl Series {
    fn save(&self, out: &mut Writer<'_>) {
        out.desc(&self.ident.desc);
        out.set(&self.ident.attributes);
        match self.kind {
            Kind::Counter => out.byte(0),
            Kind::Delta => out.byte(1),
            Kind::Level => out.byte(2),
            Kind::Opaque => out.byte(3),
            Kind::Gauge(function) => {
                out.byte(4);
                out.function(function);
            }
            Kind::Share => out.byte(5),
        }
        let Life { last, holder, out_start, offset, written, closing, ended } = self.life;
        for value in [last.start, last.time, out_start, written] {
            out.long(value);
        }
        out.number(last.value);
        out.number(offset);
        out.maybe(match holder {
            Holder::Individual => None,
            Holder::Group(id) => Some(u64::from(id.place())),
        });
        for value in [closing, ended, self.in_group, self.shown] {
            out.flag(value);
        }
        out.flag(self.rest().is_some());
        if let Some(rest) = self.rest() {
            out.set(&rest.attributes);
        }
        let total = self.beside.as_ref().and_then(|beside| beside.total.as_ref());
        out.flag(total.is_some());
        if let Some(total) = total {
            total.save(out);
        }
        out.flag(self.histogram().is_some());
        if let Some(histogram) = self.histogram() {
            histogram.last.save(out);
            for one in [&histogram.offset, &histogram.total] {
                out.flag(one.is_some());
                if let Some(one) = one {
                    one.save(out);
                }
            }
        }
    }

    fn load(from: &mut Reader<'_>) -> Read<Series> {
        let ident = from.ident()?;
        let kind = match from.byte()? {
            0 => Kind::Counter,
            1 => Kind::Delta,
            2 => Kind::Level,
            3 => Kind::Opaque,
            4 => Kind::Gauge(from.function()?),
            5 => Kind::Share,
            _ => return Err(Unreadable),
        };
        let (start, time, out_start, written) = (from.long()?, from.long()?, from.long()?, from.long()?);
        let last = Reading { start, time, value: from.number()? };
        let offset = from.number()?;
        let holder = match from.maybe()? {
            None => Holder::Individual,
            Some(id) => Holder::Group(GroupId::at(u32::try_from(id).map_err(|_| Unreadable)?)),
        };
        let (closing, ended) = (from.flag()?, from.flag()?);
        let life = Life { last, holder, out_start, offset, written, closing, ended };
        let (in_group, shown) = (from.flag()?, from.flag()?);
        let rest = if from.flag()? { Some(from.ident_of(&ident.desc)?) } else { None };
        let total = if from.flag()? { Some(Sum::load(from)?) } else { None };
        let histogram = if from.flag()? {
            let mut histogram = Histogram::new(Distribution::load(from)?);
            for one in [&mut histogram.offset, &mut histogram.total] {
                if from.flag()? {
                    *one = Some(Distribution::load(from)?);
                }
            }
            Some(histogram)
        } else {
            None
        };
        Ok(Series { ident, life, kind, in_group, shown, place: 0, beside: Beside::of(rest, total, histogram) })
    }
}
