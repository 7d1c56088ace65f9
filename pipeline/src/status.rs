//! How the components are: what the health page says, component by component.
//!
//! A [`Status`] is the pen of one component, the [`StatusBoard`] what all of them have written. The board never decides
//! anything; whoever reads it does.

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
pub struct StatusBoard(Arc<Mutex<BTreeMap<String, Health>>>);

impl StatusBoard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Health>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pen for one component, which starts as [`Health::Starting`] unless the board knows it already.
    pub fn status(&self, component: impl Into<String>) -> Status {
        let component = component.into();
        self.lock().entry(component.clone()).or_insert(Health::Starting);
        Status { board: self.clone(), component }
    }

    /// What the board says now.
    pub fn snapshot(&self) -> BTreeMap<String, Health> {
        self.lock().clone()
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
        self.board.lock().insert(self.component.clone(), health.clone()) != Some(health)
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
}
