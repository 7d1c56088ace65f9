//! Room for data that came in and has not gone on yet, counted in bytes before work is spent on it.
//!
//! A [`Budget`] is a limit that may stand inside another: a connection's share in its receiver's, a receiver's in the
//! agent's. Whoever takes bytes in [`takes`](Budget::take) them first, at all levels or at none, and holds them for as long
//! as the data lives in memory. Nothing here waits: what does not fit is refused, and the sender hears "later". What could
//! not fit into an empty budget is told apart, because coming again would be of no use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of the memory the agent may use that data on its way in may take: the chain, the queues and the exporters
/// need the rest.
const SHARE: u64 = 4;
/// The least budget, so that an agent in a tiny container takes one usual request at a time.
const LEAST: u64 = 32 << 20;
/// The largest: at 2 GB/s of decoding this is more than what a lane works off in a second, and on a large host an agent
/// must not grow with the host.
const MOST: u64 = 512 << 20;

/// A limit of bytes, inside others or by itself. Clones are one budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    parent: Option<Budget>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There will be, when others have given theirs back.
    #[error("no room at the moment")]
    Now,
    /// So much never fits.
    #[error("larger than the whole room, {0} bytes")]
    Ever(usize),
}

impl Budget {
    /// A budget of `limit` bytes by itself.
    pub fn new(limit: usize) -> Self {
        Budget(Arc::new(Inner { limit, used: AtomicUsize::new(0), parent: None }))
    }

    /// The agent's budget where `available` bytes of memory are its to use: a quarter, from 32 MiB to 512 MiB.
    pub fn of_memory(available: u64) -> Self {
        Budget::new(usize::try_from((available / SHARE).clamp(LEAST, MOST)).unwrap_or(usize::MAX))
    }

    /// A budget of at most `limit` bytes inside this one.
    pub fn share(&self, limit: usize) -> Self {
        Budget(Arc::new(Inner {
            limit: limit.min(self.limit()),
            used: AtomicUsize::new(0),
            parent: Some(self.clone()),
        }))
    }

    /// The most it holds, in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// What is taken at the moment, in bytes.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether nothing more fits at one of the levels.
    pub fn full(&self) -> bool {
        self.used() >= self.limit() || self.0.parent.as_ref().is_some_and(Budget::full)
    }

    /// Takes `bytes` at every level.
    ///
    /// # Errors
    /// [`Full`]; nothing is taken then.
    pub fn take(&self, bytes: usize) -> Result<Held, Full> {
        let mut held = Held { budget: self.clone(), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }

    fn add(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        if self.0.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).is_err() {
            return false;
        }
        let above = self.0.parent.as_ref().is_none_or(|parent| parent.add(bytes));
        if !above {
            self.0.used.fetch_sub(bytes, Ordering::AcqRel);
        }
        above
    }

    fn give_back(&self, bytes: usize) {
        let mut level = Some(self);
        while let Some(budget) = level {
            budget.0.used.fetch_sub(bytes, Ordering::AcqRel);
            level = budget.0.parent.as_ref();
        }
    }
}

/// Bytes that were taken; dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropped at once it holds nothing"]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Held {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more` on top.
    ///
    /// # Errors
    /// [`Full`]; what is held stays held.
    pub fn grow(&mut self, more: usize) -> Result<(), Full> {
        let sum = self.bytes.saturating_add(more);
        // A share is never larger than what it stands in, so its own limit is the smallest.
        if sum > self.budget.limit() {
            return Err(Full::Ever(self.budget.limit()));
        }
        if !self.budget.add(more) {
            return Err(Full::Now);
        }
        self.bytes = sum;
        Ok(())
    }

    /// Gives back what is held beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.give_back(less);
        self.bytes -= less;
    }

    /// Holds `bytes` from now on, more or less than before.
    ///
    /// # Errors
    /// [`Full`]; what is held stays held.
    pub fn settle(&mut self, bytes: usize) -> Result<(), Full> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink_to(bytes);
                Ok(())
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_levels_take_or_none() {
        let agent = Budget::new(100);
        let (a, b) = (agent.share(80), agent.share(80));
        let held = a.take(70).unwrap();
        assert_eq!(b.take(40).unwrap_err(), Full::Now);
        assert_eq!((agent.used(), a.used(), b.used()), (70, 70, 0));
        assert_eq!(b.take(81).unwrap_err(), Full::Ever(80));
        drop(held);
        assert_eq!(b.take(40).unwrap().bytes(), 40);
        assert_eq!((agent.used(), a.used(), b.used()), (0, 0, 0));
    }

    #[test]
    fn what_alone_is_too_much_is_told_from_what_is_too_much_now() {
        let budget = Budget::new(100);
        let mut held = budget.take(60).unwrap();
        assert_eq!(held.grow(41), Err(Full::Ever(100)), "with what it holds itself");
        let other = budget.take(30).unwrap();
        assert_eq!(held.grow(40), Err(Full::Now));
        drop(other);
        assert_eq!(held.settle(100), Ok(()));
        assert_eq!(held.settle(5), Ok(()));
        assert_eq!(budget.used(), 5);
    }

    #[test]
    fn the_budget_follows_the_memory() {
        let mib = |limit: u64| Budget::of_memory(limit << 20).limit() >> 20;
        assert_eq!([mib(16), mib(256), mib(1024), mib(64 << 10)], [32, 64, 256, 512]);
    }

    proptest! {
        #[test]
        fn never_over_a_limit_and_nothing_stays_behind(
            steps in prop::collection::vec((0usize..3, 0usize..60, any::<bool>()), 1..200),
        ) {
            let agent = Budget::new(100);
            let shares = [agent.share(70), agent.share(50), agent.share(200)];
            let mut held: Vec<Held> = Vec::new();
            for (share, bytes, keep) in steps {
                if keep {
                    held.extend(shares[share].take(bytes).ok());
                } else if !held.is_empty() {
                    let at = bytes % held.len();
                    if bytes % 2 == 0 { drop(held.swap_remove(at)) } else { let _ = held[at].settle(bytes); }
                }
                prop_assert_eq!(agent.used(), held.iter().map(Held::bytes).sum::<usize>());
                prop_assert!(agent.used() <= 100 && shares.iter().all(|share| share.used() <= share.limit()));
            }
            held.clear();
            prop_assert_eq!(agent.used() + shares.iter().map(Budget::used).sum::<usize>(), 0);
        }
    }
}
