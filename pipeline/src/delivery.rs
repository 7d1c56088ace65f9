//! What became of the data: every batch carries a [`Delivery`] that resolves exactly once.
//!
//! A delivery is *delivered* when everyone who had to take the data has taken it, and *refused* with a cause as soon as
//! one of them could not. What "taken" means is the sender's to say, by an [`Ack`]. A delivery that is dropped without a
//! word is **refused**, never delivered: forgetting is not an acknowledgement.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why data was not taken, and whether sending it again can help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The same data may be taken later: pressure, a full queue, a backend that is away.
    #[error("{reason}")]
    Later {
        /// For people and for the answer to the sender.
        reason: String,
        /// When to come back, where that is known.
        after: Option<Duration>,
    },
    /// The same data will never be taken.
    #[error("{reason}")]
    Final {
        /// For people and for the answer to the sender.
        reason: String,
    },
}

impl Refusal {
    /// A refusal that may be retried, with no hint when.
    pub fn later(reason: impl Into<String>) -> Self {
        Refusal::Later { reason: reason.into(), after: None }
    }

    /// A refusal that is final.
    pub fn last(reason: impl Into<String>) -> Self {
        Refusal::Final { reason: reason.into() }
    }
}

/// How safe data must be before whoever sent it is told that it was taken. In the order of what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Every exporter has it in its queue, which may be memory: a killed process loses it.
    #[default]
    OnQueue,
    /// Every exporter has it on disk, as far as its `fsync` setting says.
    OnDisk,
    /// Every destination has answered that it took it.
    OnExport,
}

type Callback = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// What all legs of one piece of data share.
struct Token {
    ack: Ack,
    legs: AtomicUsize,
    refused: Mutex<Option<Refusal>>,
    done: Mutex<Option<Callback>>,
}

/// One of the parties that must take the data. Dropping it refuses.
struct Leg(Option<Arc<Token>>);

impl Leg {
    fn resolve(&mut self, outcome: Result<(), Refusal>) {
        let Some(token) = self.0.take() else { return };
        if let Err(refusal) = outcome {
            let mut refused = token.refused.lock().unwrap_or_else(PoisonError::into_inner);
            // A final refusal outweighs one that may be retried: the sender must not send again for nothing.
            if refused.is_none() || matches!(refusal, Refusal::Final { .. }) {
                *refused = Some(refusal);
            }
        }
        if token.legs.fetch_sub(1, Ordering::AcqRel) == 1 {
            let callback = token.done.lock().unwrap_or_else(PoisonError::into_inner).take();
            let refused = token.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(callback) = callback {
                callback(refused.map_or(Ok(()), Err));
            }
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.resolve(Err(Refusal::later("the data was dropped inside the agent without a reason")));
    }
}

/// The promise that travels with a batch. A merged batch carries the promises of all its parts.
#[derive(Default)]
#[must_use = "a delivery that is dropped counts as refused"]
pub struct Delivery(Vec<Leg>);

impl Delivery {
    /// Nobody waits for this data (a local scrape).
    pub fn none() -> Self {
        Delivery(Vec::new())
    }

    /// `done` is called once, when every leg has resolved; a full queue's place is enough ([`Ack::OnQueue`]).
    pub fn new(done: impl FnOnce(Result<(), Refusal>) + Send + 'static) -> Self {
        Delivery::until(Ack::OnQueue, done)
    }

    /// `done` is called once, when the data is as safe as `ack` says everywhere, or refused somewhere.
    pub fn until(ack: Ack, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) -> Self {
        let token =
            Token { ack, legs: AtomicUsize::new(1), refused: Mutex::new(None), done: Mutex::new(Some(Box::new(done))) };
        Delivery(vec![Leg(Some(Arc::new(token)))])
    }

    /// A further party that must take the data before it counts as delivered.
    pub fn fork(&mut self) -> Delivery {
        let legs = self.0.iter().filter_map(|leg| leg.0.as_ref()).map(|token| {
            token.legs.fetch_add(1, Ordering::AcqRel);
            Leg(Some(Arc::clone(token)))
        });
        Delivery(legs.collect())
    }

    /// Joins the promises of `other` to this one: both resolve together from here on.
    pub fn join(&mut self, mut other: Delivery) {
        self.0.append(&mut other.0);
    }

    /// Takes the promise away, leaving [`Delivery::none`].
    pub fn take(&mut self) -> Delivery {
        std::mem::take(self)
    }

    /// Whether somebody waits for this data; nobody does for a local scrape.
    pub fn is_awaited(&self) -> bool {
        !self.0.is_empty()
    }

    /// The most that anyone who waits for this data asks for; none where nobody waits.
    pub fn ack(&self) -> Option<Ack> {
        self.0.iter().filter_map(|leg| leg.0.as_ref()).map(|token| token.ack).max()
    }

    /// Takes out the promises to those who ask for no more than `level`, to be resolved apart from the others.
    pub fn up_to(&mut self, level: Ack) -> Delivery {
        let asks = |leg: &mut Leg| leg.0.as_ref().is_none_or(|token| token.ack <= level);
        Delivery(self.0.extract_if(.., asks).collect())
    }

    /// This party has made the data as safe as `level`: whoever asked for no more hears of it now, the others go on
    /// waiting.
    pub fn reached(&mut self, level: Ack) {
        self.up_to(level).delivered();
    }

    /// This party has taken the data.
    pub fn delivered(mut self) {
        self.0.iter_mut().for_each(|leg| leg.resolve(Ok(())));
    }

    /// This party has not, and will not.
    pub fn refused(mut self, refusal: Refusal) {
        self.0.iter_mut().for_each(|leg| leg.resolve(Err(refusal.clone())));
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delivery({} waiting)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn watched() -> (Delivery, Receiver<Result<(), Refusal>>) {
        let (tx, rx) = channel();
        (Delivery::new(move |outcome| tx.send(outcome).unwrap()), rx)
    }

    #[test]
    fn all_legs_must_deliver() {
        let (mut delivery, rx) = watched();
        let second = delivery.fork();
        delivery.delivered();
        assert!(rx.try_recv().is_err(), "one leg is still open");
        second.delivered();
        assert_eq!(rx.try_recv().unwrap(), Ok(()));
    }

    #[test]
    fn a_dropped_delivery_is_refused() {
        let (delivery, rx) = watched();
        drop(delivery);
        assert!(matches!(rx.try_recv().unwrap(), Err(Refusal::Later { .. })));
    }

    #[test]
    fn a_final_refusal_outweighs_a_later_one_and_waits_for_the_rest() {
        let (mut delivery, rx) = watched();
        let (second, third) = (delivery.fork(), delivery.fork());
        delivery.refused(Refusal::last("too large"));
        second.refused(Refusal::later("full"));
        assert!(rx.try_recv().is_err());
        third.delivered();
        assert_eq!(rx.try_recv().unwrap(), Err(Refusal::last("too large")));
    }

    #[test]
    fn who_asked_for_less_hears_earlier() {
        let asked = |ack| {
            let (tx, rx) = channel();
            (Delivery::until(ack, move |outcome| tx.send(outcome).unwrap()), rx)
        };
        let ((mut all, on_queue), (disk, on_disk), (export, on_export)) =
            (asked(Ack::OnQueue), asked(Ack::OnDisk), asked(Ack::OnExport));
        all.join(disk);
        all.join(export);
        assert_eq!(all.ack(), Some(Ack::OnExport));
        all.reached(Ack::OnQueue);
        assert_eq!(on_queue.try_recv().unwrap(), Ok(()));
        assert!(on_disk.try_recv().is_err() && on_export.try_recv().is_err());
        all.reached(Ack::OnDisk);
        assert_eq!(on_disk.try_recv().unwrap(), Ok(()));
        all.refused(Refusal::last("bad"));
        assert_eq!(on_export.try_recv().unwrap(), Err(Refusal::last("bad")));
    }

    #[test]
    fn joined_promises_resolve_together() {
        let ((mut a, rx_a), (b, rx_b)) = (watched(), watched());
        a.join(b);
        a.delivered();
        assert_eq!((rx_a.try_recv().unwrap(), rx_b.try_recv().unwrap()), (Ok(()), Ok(())));
    }
}
