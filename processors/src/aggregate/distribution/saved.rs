//! A histogram in the state: whole. What no point could have brought is not read.

use std::collections::BTreeMap;

use super::{Distribution, Exponential, Layout, is_bucket, is_layout};
use crate::aggregate::state::code::{Read, Reader, Unreadable, Writer};

impl Distribution {
    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.long(self.count);
        out.maybe(self.sum.map(f64::to_bits));
        out.maybe(self.range.map(|(least, _)| least.to_bits()));
        out.maybe(self.range.map(|(_, most)| most.to_bits()));
        match &self.buckets {
            Layout::Explicit(bounds, counts) => {
                out.byte(0);
                out.long(bounds.len() as u64);
                bounds.iter().for_each(|bound| out.long(bound.to_bits()));
                out.long(counts.len() as u64);
                counts.iter().for_each(|count| out.long(*count));
            }
            Layout::Exponential(one) => {
                out.byte(1);
                out.short(one.scale as u32);
                out.long(one.zero);
                out.long(one.threshold.to_bits());
                for side in [&one.positive, &one.negative] {
                    out.long(side.len() as u64);
                    for (index, count) in side {
                        out.short(*index as u32);
                        out.long(*count);
                    }
                }
            }
        }
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Read<Distribution> {
        let count = from.long()?;
        let sum = from.maybe()?.map(f64::from_bits);
        let range = from.maybe()?.zip(from.maybe()?).map(|(a, b)| (f64::from_bits(a), f64::from_bits(b)));
        let buckets = match from.byte()? {
            0 => {
                let (mut bounds, mut counts) = (Vec::new(), Vec::new());
                for _ in 0..from.long()? {
                    bounds.push(f64::from_bits(from.long()?));
                }
                for _ in 0..from.long()? {
                    counts.push(from.long()?);
                }
                if counts.len() != bounds.len() + 1 && !(bounds.is_empty() && counts.is_empty()) {
                    return Err(Unreadable);
                }
                Layout::Explicit(bounds, counts)
            }
            1 => {
                let (scale, zero, threshold) = (from.short()? as i32, from.long()?, f64::from_bits(from.long()?));
                if !is_layout(scale, threshold) {
                    return Err(Unreadable);
                }
                let (positive, negative) = (side(from, scale)?, side(from, scale)?);
                Layout::Exponential(Exponential { scale, zero, threshold, positive, negative })
            }
            _ => return Err(Unreadable),
        };
        Ok(Distribution { count, sum, range, buckets })
    }
}

fn side(from: &mut Reader<'_>, scale: i32) -> Read<BTreeMap<i32, u64>> {
    let mut side = BTreeMap::new();
    for _ in 0..from.long()? {
        let index = from.short()? as i32;
        if !is_bucket(index, scale) {
            return Err(Unreadable);
        }
        side.insert(index, from.long()?);
    }
    Ok(side)
}
