//! `phoenix top`: what the control loop of a running agent sees and does, live on a terminal.
//!
//! A thread asks the admin endpoint, the screen shows the newest answer: an agent that hangs never holds up a key.
//! Nothing is changed from here.

mod data;
mod draw;
mod panels;
#[cfg(test)]
mod tests;
mod words;

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::admin;
use data::{Look, Stage};

/// How often the agent is asked: the control loop steps every few seconds, and a person sees no more.
const EVERY: Duration = Duration::from_secs(1);
/// How long a key or a new answer waits at most for the screen.
const TICK: Duration = Duration::from_millis(100);

/// One look, or why nothing was seen.
type Seen = Result<Look, String>;

/// What is on the screen.
struct App {
    address: String,
    look: Option<Look>,
    taken: Option<Instant>,
    error: Option<String>,
    /// Which stage, counted on and on.
    chosen: usize,
    /// How many panels are above the screen.
    scroll: usize,
}

impl App {
    fn new(address: &str) -> Self {
        App { address: address.to_owned(), look: None, taken: None, error: None, chosen: 0, scroll: 0 }
    }

    fn take(&mut self, seen: Seen, now: Instant) {
        match seen {
            Ok(mut look) => {
                // What is controlled is what one looks for.
                look.state.stages.sort_by_key(|stage| !stage.controlled);
                (self.look, self.taken, self.error) = (Some(look), Some(now), None);
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// The stage that is looked at.
    fn shown(&self) -> Option<(&Look, &Stage)> {
        let look = self.look.as_ref()?;
        let at = self.chosen.checked_rem(look.state.stages.len())?;
        Some((look, look.state.stages.get(at)?))
    }

    /// Seconds since the agent answered last.
    fn age(&self) -> Option<f64> {
        Some(self.taken?.elapsed().as_secs_f64())
    }

    /// Does what a key asks for; `false` to end.
    fn press(&mut self, key: KeyCode, modifiers: KeyModifiers) -> bool {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Tab => self.chosen = self.chosen.wrapping_add(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            _ => {}
        }
        true
    }
}

/// Shows the agent at `address` until somebody quits.
///
/// # Errors
/// The standard output is no terminal, or the terminal is gone.
pub(super) fn run(address: Option<&str>) -> Result<String, String> {
    if !std::io::stdout().is_terminal() {
        return Err("phoenix top draws on a terminal, and the standard output is none".into());
    }
    let address = admin::address(address).to_owned();
    let seen = watch(address.clone())?;
    let mut terminal = ratatui::try_init().map_err(|error| format!("the terminal: {error}"))?;
    let mut app = App::new(&address);
    let outcome = loop {
        while let Ok(look) = seen.try_recv() {
            app.take(look, Instant::now());
        }
        match terminal.draw(|frame| draw::draw(frame, &mut app)).and_then(|_| pressed(&mut app)) {
            Ok(true) => {}
            Ok(false) => break Ok(String::new()),
            Err(error) => break Err(format!("the terminal: {error}")),
        }
    };
    ratatui::restore();
    outcome
}

/// Waits a little for keys and does what they ask for; `false` to end.
fn pressed(app: &mut App) -> std::io::Result<bool> {
    let mut wait = TICK;
    while event::poll(wait)? {
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !app.press(key.code, key.modifiers)
        {
            return Ok(false);
        }
        wait = Duration::ZERO;
    }
    Ok(true)
}

/// Asks again and again on a thread of its own, which ends with the program or when nobody listens.
fn watch(address: String) -> Result<Receiver<Seen>, String> {
    let (send, seen) = sync_channel(1);
    let asking = move || {
        loop {
            let look = Look::take(|target| admin::exchange(&address, "GET", target, ""));
            if send.send(look).is_err() {
                return;
            }
            std::thread::sleep(EVERY);
        }
    };
    let started = std::thread::Builder::new().name("asks".into()).spawn(asking);
    started.map(|_| seen).map_err(|error| format!("cannot start a thread: {error}"))
}
