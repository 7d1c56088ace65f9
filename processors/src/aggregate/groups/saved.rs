//! The groups of a host in the state.

use super::{Group, GroupSeries, Groups, Holding};
use crate::aggregate::distribution::Distribution;
use crate::aggregate::ledger::GroupId;
use crate::aggregate::number::Sum;
use crate::aggregate::state::code::{Read, Reader, Unreadable, Writer};
use crate::measure::ByKey;

impl Groups {
    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.long(self.groups.len() as u64);
        for slot in &self.groups {
            out.flag(slot.is_some());
            if let Some(group) = slot {
                group.save(out);
            }
        }
        out.maybe(self.overflow.map(|id| u64::from(id.place())));
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Read<Groups> {
        let mut groups = Groups::default();
        for id in 0..from.long()? {
            let id = u32::try_from(id).map_err(|_| Unreadable)?;
            let group = if from.flag()? { Some(Group::load(from)?) } else { None };
            match &group {
                Some(group) => {
                    groups.by_key.insert(group.key.clone(), GroupId::at(id));
                }
                None => groups.free.push(id),
            }
            groups.groups.push(group);
        }
        if let Some(id) = from.maybe()? {
            let id = GroupId::at(u32::try_from(id).map_err(|_| Unreadable)?);
            let group = groups.get(id).ok_or(Unreadable)?;
            // `other` is found by its place, not by its key.
            let key = std::mem::take(&mut group.key);
            groups.by_key.retain(|known, of| *of != id || *known != key);
            groups.overflow = Some(id);
        }
        Ok(groups)
    }
}

impl Group {
    fn save(&self, out: &mut Writer<'_>) {
        out.bytes(&self.key);
        out.set(&self.resource);
        for value in [self.entities, self.inhabited, self.counted] {
            out.long(value);
        }
        out.flag(self.named);
        out.flag(self.rest);
        out.long(self.series.len() as u64);
        self.series.iter().for_each(|series| series.save(out));
    }

    fn load(from: &mut Reader<'_>) -> Read<Group> {
        let mut group = Group {
            key: from.bytes()?.to_vec(),
            resource: from.set()?,
            head: None,
            entities: from.long()?,
            inhabited: from.long()?,
            counted: from.long()?,
            named: from.flag()?,
            rest: from.flag()?,
            series: Vec::new(),
            places: ByKey::default(),
            layouts: Vec::new(),
        };
        for place in 0..from.long()? {
            let series = GroupSeries::load(from)?;
            group.places.insert(series.ident.id, u32::try_from(place).map_err(|_| Unreadable)?);
            group.series.push(series);
        }
        Ok(group)
    }
}

impl GroupSeries {
    fn save(&self, out: &mut Writer<'_>) {
        out.desc(&self.ident.desc);
        out.set(&self.ident.attributes);
        out.long(self.start);
        match &self.holding {
            Holding::Counter(sum) => {
                out.byte(0);
                sum.save(out);
            }
            Holding::Level(sum) => {
                out.byte(1);
                sum.save(out);
            }
            Holding::Gauge(function, sum, extreme, count, newest) => {
                out.byte(2);
                out.function(*function);
                sum.save(out);
                out.long(extreme.to_bits());
                out.long(*count);
                out.long(*newest);
            }
            Holding::Distribution(all) => {
                out.byte(3);
                all.save(out);
            }
            Holding::Share(_) => out.byte(4),
        }
        out.flag(self.spoken.is_some());
        if let Some((time, value)) = self.spoken {
            out.long(time);
            out.number(value);
        }
        out.flag(self.touched);
    }

    fn load(from: &mut Reader<'_>) -> Read<GroupSeries> {
        Ok(GroupSeries {
            ident: from.ident()?,
            start: from.long()?,
            holding: match from.byte()? {
                0 => Holding::Counter(Sum::load(from)?),
                1 => Holding::Level(Sum::load(from)?),
                2 => {
                    let (function, sum) = (from.function()?, Sum::load(from)?);
                    Holding::Gauge(function, sum, f64::from_bits(from.long()?), from.long()?, from.long()?)
                }
                3 => Holding::Distribution(Box::new(Distribution::load(from)?)),
                4 => Holding::Share(None),
                _ => return Err(Unreadable),
            },
            spoken: if from.flag()? { Some((from.long()?, from.number()?)) } else { None },
            touched: from.flag()?,
        })
    }
}
