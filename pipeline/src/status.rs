//! How the components are: what the health page says, component by component.
//!
//! A [`Status`] is the pen of one component, the [`StatusBoard`] what all of them have written. Besides its state a
//! component may have concerns: faults of a part (a certificate that cannot be renewed) which outlast each "all is well" of
//! the rest. The board never decides anything; whoever reads it does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Built, not yet at work.
    Starting,
    /// At work.
    Ok,
    /// At work with a fault that may pass by itself (a backend that is away). Carries the cause.
    Recoverable(String),
    /// A fault that only a change of the configuration or of the host can mend. Carries the cause.
    Permanent(String),
    /// Draining, or done.
    Stopping,
}

/// The states of all components, by `kind:id` ("exporters:otlp/eu").
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<String, Entry>>>);

#[derive(Clone, Debug)]
struct Entry {
    health: Health,
    concerns: BTreeMap<String, String>,
}

impl Entry {
    fn new(health: Health) -> Self {
        Entry { health, concerns: BTreeMap::new() }
    }

    /// The state with the concerns: they make a fault of what is otherwise well.
    fn health(&self) -> Health {
        match &self.health {
            Health::Ok if !self.concerns.is_empty() => {
                let all: Vec<_> = self.concerns.iter().map(|(part, why)| format!("{part}: {why}")).collect();
                Health::Recoverable(all.join("; "))
            }
            health => health.clone(),
        }
    }
}

/// What a board said at one moment, to go back to.
pub struct Saved(BTreeMap<String, Entry>);

impl StatusBoard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pen for one component, which starts as [`Health::Starting`] unless the board knows it already.
    pub fn status(&self, component: impl Into<String>) -> Status {
        let component = component.into();
        self.lock().entry(component.clone()).or_insert_with(|| Entry::new(Health::Starting));
        Status { board: self.clone(), component }
    }

    /// What the board says now.
    pub fn snapshot(&self) -> BTreeMap<String, Health> {
        self.lock().iter().map(|(component, entry)| (component.clone(), entry.health())).collect()
    }

    /// What the board says now, for [`StatusBoard::restore`].
    pub fn save(&self) -> Saved {
        Saved(self.lock().clone())
    }

    /// Says again what it said then, and nothing else.
    pub fn restore(&self, saved: Saved) {
        *self.lock() = saved.0;
    }

    /// Drops the components `keep` does not want (after a reload).
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.lock().retain(|component, _| keep(component));
    }
}

/// One component's pen on the board.
#[derive(Clone, Debug)]
pub struct Status {
    board: StatusBoard,
    component: String,
}

impl Status {
    /// Writes a state. Returns whether it is another than before.
    pub fn set(&self, health: Health) -> bool {
        let mut board = self.board.lock();
        let entry = board.entry(self.component.clone()).or_insert_with(|| Entry::new(Health::Starting));
        std::mem::replace(&mut entry.health, health.clone()) != health
    }

    /// Writes down what is wrong with `part` of the component, or that it is well again.
    pub fn concern(&self, part: &str, why: Option<String>) {
        if let Some(entry) = self.board.lock().get_mut(&self.component) {
            match why {
                Some(why) => entry.concerns.insert(part.to_owned(), why),
                None => entry.concerns.remove(part),
            };
        }
    }

    /// The component it writes for: `kind:id`.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The board this pen writes on: for whoever shows all components.
    pub fn board(&self) -> &StatusBoard {
        &self.board
    }

    /// Not yet at work.
    pub fn starting(&self) {
        self.set(Health::Starting);
    }

    /// At work.
    pub fn ok(&self) {
        self.set(Health::Ok);
    }

    /// At work, with a fault that may pass.
    pub fn recoverable(&self, why: impl Into<String>) {
        self.set(Health::Recoverable(why.into()));
    }

    /// A fault that will not pass by itself.
    pub fn permanent(&self, why: impl Into<String>) {
        self.set(Health::Permanent(why.into()));
    }

    /// Draining, or done.
    pub fn stopping(&self) {
        self.set(Health::Stopping);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_shows_what_each_pen_wrote_last() {
        let board = StatusBoard::default();
        let (a, b) = (board.status("exporters:otlp"), board.status("receivers:hostmetrics"));
        b.ok();
        assert!(a.set(Health::Recoverable("connection refused".into())));
        assert!(!a.set(Health::Recoverable("connection refused".into())), "no change");
        let snapshot = board.snapshot();
        assert_eq!(snapshot["exporters:otlp"], Health::Recoverable("connection refused".into()));
        assert_eq!(snapshot["receivers:hostmetrics"], Health::Ok);
        board.retain(|component| component.starts_with("receivers"));
        assert_eq!(board.snapshot().len(), 1);
    }

    #[test]
    fn a_concern_outlasts_what_the_rest_says_until_it_is_taken_back() {
        let board = StatusBoard::default();
        let pen = board.status("receivers:otlp");
        pen.ok();
        let saved = board.save();
        pen.concern("tls", Some("garbage".into()));
        pen.ok();
        assert_eq!(board.snapshot()["receivers:otlp"], Health::Recoverable("tls: garbage".into()));
        pen.stopping();
        assert_eq!(board.snapshot()["receivers:otlp"], Health::Stopping, "the state itself comes first");
        pen.ok();
        pen.concern("tls", None);
        assert_eq!(board.snapshot()["receivers:otlp"], Health::Ok);
        board.status("exporters:new").ok();
        board.restore(saved);
        assert_eq!(board.snapshot().into_iter().collect::<Vec<_>>(), [("receivers:otlp".into(), Health::Ok)]);
    }
}
