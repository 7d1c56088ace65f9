//! Which stretches of a segment are done with. Records are finished nearly in order, so there are few stretches, however
//! many records: about as many as are under way.

/// Stretches `from..to` that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a stretch; an empty one changes nothing.
    pub fn insert(&mut self, mut from: u64, mut to: u64) {
        if from >= to {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end < from);
        let after = self.0.partition_point(|&(start, _)| start <= to);
        if let Some(touching) = self.0.get(first..after).filter(|touching| !touching.is_empty()) {
            from = from.min(touching[0].0);
            to = to.max(touching[touching.len() - 1].1);
        }
        self.0.splice(first..after, [(from, to)]);
    }

    /// The end of the stretch that holds this place.
    pub fn end(&self, at: u64) -> Option<u64> {
        let next = self.0.partition_point(|&(_, end)| end <= at);
        self.0.get(next).filter(|&&(start, _)| start <= at).map(|&(_, end)| end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_hold_what_was_inserted_and_nothing_else(stretches in prop::collection::vec((0u64..60, 0u64..12), 0..30)) {
            let mut ranges = Ranges::default();
            let mut plain = [false; 80];
            for (from, length) in stretches {
                ranges.insert(from, from + length);
                plain[from as usize..][..length as usize].fill(true);
            }
            for at in 0..79 {
                let end = plain[at..].iter().position(|&done| !done).filter(|&length| length > 0);
                prop_assert_eq!(ranges.end(at as u64), end.map(|length| (at + length) as u64));
            }
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
