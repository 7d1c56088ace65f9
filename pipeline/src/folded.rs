//! Which processes of a scrape were folded: asked by the receiver that read them, told by the stage that folds.
//!
//! A process that leaves in a group has no series of its own, so its receiver may spare costly readings of it. Nothing is
//! decided here, and only what was said counts: without an answer, because no stage folds, a batch is held back, a lane is
//! late or a stage is being replaced, nobody is known to be folded. A scrape is recognised by the time of its points, so
//! the data of other receivers in the same pipeline is never taken for the asker's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Where receivers ask and stages tell. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Folded(Arc<Mutex<Vec<Weak<Asked>>>>);

#[derive(Debug)]
struct Asked {
    /// Time of the scrape's points, Unix nanoseconds.
    time: u64,
    /// In how many pipelines a process was folded, by its id.
    told: Mutex<HashMap<u32, usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver's question about one scrape; it is open until it is dropped.
#[derive(Debug)]
pub struct Question(Arc<Asked>);

/// A stage's answer about one batch.
#[derive(Debug)]
pub struct Telling(Arc<Asked>);

impl Folded {
    /// Asks about the scrape whose points bear this time, before it is sent.
    pub fn ask(&self, time: u64) -> Question {
        let asked = Arc::new(Asked { time, told: Mutex::default() });
        let mut open = lock(&self.0);
        open.retain(|question| question.strong_count() > 0);
        open.push(Arc::downgrade(&asked));
        Question(asked)
    }

    /// The answer to give for a batch whose points bear this time; `None` if nobody asks.
    pub fn asked(&self, time: u64) -> Option<Telling> {
        lock(&self.0).iter().filter_map(Weak::upgrade).find(|asked| asked.time == time).map(Telling)
    }
}

impl Telling {
    /// All points of these processes were folded.
    pub fn tell(self, processes: impl IntoIterator<Item = u32>) {
        let mut told = lock(&self.0.told);
        for process in processes {
            *told.entry(process).or_default() += 1;
        }
    }
}

impl Question {
    /// Whether all of so many pipelines said that they folded the process.
    pub fn is_folded(&self, process: u32, pipelines: usize) -> bool {
        lock(&self.0.told).get(&process).is_some_and(|told| *told >= pipelines.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_pipeline_said_of_this_scrape_is_known() {
        let folded = Folded::default();
        assert!(folded.asked(10).is_none());
        let question = folded.ask(10);
        assert!(!question.is_folded(1, 1), "nothing was said");
        assert!(folded.asked(11).is_none(), "another receiver's data");
        folded.asked(10).unwrap().tell([1, 2]);
        assert!(question.is_folded(1, 1) && !question.is_folded(3, 1));
        assert!(!question.is_folded(1, 2), "the second pipeline has not spoken");
        folded.asked(10).unwrap().tell([2]);
        assert!(question.is_folded(2, 2) && !question.is_folded(1, 2), "it leaves the second one by itself");
    }

    #[test]
    fn a_question_ends_with_who_asked() {
        let folded = Folded::default();
        drop(folded.ask(10));
        assert!(folded.asked(10).is_none());
        let _open = folded.ask(11);
        assert_eq!(lock(&folded.0).len(), 1, "what is over is forgotten");
    }
}
