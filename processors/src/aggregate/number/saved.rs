//! A running sum in the state: whole, so that what is added after a restart is added to the same.

use super::Sum;
use crate::aggregate::state::code::{Read, Reader, Writer};

impl Sum {
    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.wide(self.int);
        out.long(self.high.to_bits());
        out.long(self.low.to_bits());
        out.flag(self.double);
    }

    pub(crate) fn load(from: &mut Reader<'_>) -> Read<Sum> {
        Ok(Sum {
            int: from.wide()?,
            high: f64::from_bits(from.long()?),
            low: f64::from_bits(from.long()?),
            double: from.flag()?,
        })
    }
}
