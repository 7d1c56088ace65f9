//! Who comes most often, in bounded room: Space-Saving (Metwally, Agrawal, El Abbadi, 2005).
//!
//! With room for `k`, whoever makes up more than 1/k of all that came is among the leaders, and no count is too high by
//! more than its stated error, or too low at all.

use std::cmp::Reverse;

/// One who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader<K> {
    /// Who.
    pub key: K,
    /// How often at most.
    pub count: u64,
    /// How much of `count` may be another's, who was forgotten for want of room.
    pub error: u64,
}

/// Counts of at most `k` keys. Made for some dozens: a newcomer looks at all of them.
#[derive(Clone, Debug)]
pub struct Leaders<K> {
    room: usize,
    all: Vec<Leader<K>>,
}

impl<K: Clone + Ord> Leaders<K> {
    /// Room for `k` keys, at least one.
    pub fn new(k: usize) -> Self {
        Leaders { room: k.max(1), all: Vec::new() }
    }

    /// Counts `times` of a key; `make` makes it where it is not among the leaders yet.
    pub fn add<Q: ?Sized + PartialEq>(&mut self, key: &Q, times: u64, make: impl FnOnce() -> K)
    where
        K: std::borrow::Borrow<Q>,
    {
        if let Some(known) = self.all.iter_mut().find(|known| known.key.borrow() == key) {
            known.count = known.count.saturating_add(times);
            return;
        }
        if self.all.len() < self.room {
            return self.all.push(Leader { key: make(), count: times, error: 0 });
        }
        if let Some(last) = self.all.iter_mut().min_by(|a, b| (a.count, &a.key).cmp(&(b.count, &b.key))) {
            *last = Leader { key: make(), count: last.count.saturating_add(times), error: last.count };
        }
    }

    /// Adds all that another counted. The guarantees hold for both together (Agarwal et al., "Mergeable summaries", 2012).
    pub fn merge(&mut self, other: &Leaders<K>) {
        let (ours, theirs) = (self.unseen(), other.unseen());
        for known in &mut self.all {
            let same = other.all.iter().find(|leader| leader.key == known.key);
            let (count, error) = same.map_or((theirs, theirs), |leader| (leader.count, leader.error));
            known.count = known.count.saturating_add(count);
            known.error = known.error.saturating_add(error);
        }
        let before = self.all.len();
        for leader in &other.all {
            if self.all.iter().take(before).all(|known| known.key != leader.key) {
                let (count, error) = (leader.count.saturating_add(ours), leader.error.saturating_add(ours));
                self.all.push(Leader { key: leader.key.clone(), count, error });
            }
        }
        self.sort();
        self.all.truncate(self.room);
    }

    /// The leaders, most first.
    pub fn list(&mut self) -> &[Leader<K>] {
        self.sort();
        &self.all
    }

    /// How often one may have come who is not among them.
    fn unseen(&self) -> u64 {
        let full = self.all.len() >= self.room;
        if full { self.all.iter().map(|leader| leader.count).min().unwrap_or(0) } else { 0 }
    }

    fn sort(&mut self) {
        self.all.sort_by(|a, b| (Reverse(a.count), &a.key).cmp(&(Reverse(b.count), &b.key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn holds(leaders: &mut Leaders<u8>, came: &[u8], room: u64) -> Result<(), TestCaseError> {
        let mut truth = BTreeMap::<u8, u64>::new();
        came.iter().for_each(|key| *truth.entry(*key).or_default() += 1);
        let list = leaders.list().to_vec();
        prop_assert!(list.len() as u64 <= room);
        for leader in &list {
            let count = truth.get(&leader.key).copied().unwrap_or(0);
            prop_assert!(leader.count >= count && leader.count - leader.error <= count, "{leader:?}, {count}");
        }
        for (key, count) in truth {
            let leads = list.iter().any(|leader| leader.key == key);
            prop_assert!(leads || count <= came.len() as u64 / room, "{key}: {count}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn nobody_of_weight_is_missed(
            a in prop::collection::vec(0u8..30, 0..200), b in prop::collection::vec(0u8..30, 0..200), room in 1usize..20,
        ) {
            let of = |came: &[u8]| {
                let mut leaders = Leaders::new(room);
                came.iter().for_each(|key| leaders.add(key, 1, || *key));
                leaders
            };
            let (mut first, second) = (of(&a), of(&b));
            holds(&mut first, &a, room as u64)?;
            first.merge(&second);
            holds(&mut first, &[a, b].concat(), room as u64)?;
        }
    }
}
