//! The terminal, shared by log lines and one live line at its bottom.
//!
//! Log lines scroll by above; the live line is wiped before one is written and drawn again after it. Where the output
//! is no terminal there is no live line, and nothing but log lines is written.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Back to the first column, and wipe the line.
const WIPE: &[u8] = b"\r\x1b[2K";

/// Standard error with a live line. Clones share it.
#[derive(Clone)]
pub struct Terminal(Arc<Mutex<State>>);

struct State {
    out: Box<dyn Write + Send>,
    live: Option<String>,
    is_terminal: bool,
}

impl State {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.live.take() {
            None => self.out.write_all(bytes)?,
            Some(live) => {
                self.out.write_all(WIPE)?;
                self.out.write_all(bytes)?;
                self.out.write_all(live.as_bytes())?;
                self.live = Some(live);
            }
        }
        self.out.flush()
    }
}

impl Terminal {
    /// The process's standard error.
    pub fn stderr() -> Self {
        Self::new(Box::new(io::stderr()), io::stderr().is_terminal())
    }

    fn new(out: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Terminal(Arc::new(Mutex::new(State { out, live: None, is_terminal })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a person may be looking.
    pub fn is_terminal(&self) -> bool {
        self.lock().is_terminal
    }

    /// Draws the live line anew. Nothing happens where there is no terminal.
    pub fn live(&self, line: &str) {
        let mut state = self.lock();
        if state.is_terminal {
            state.live = Some(line.to_owned());
            // A terminal that went away is no reason to stop.
            let _ = state.write(b"");
        }
    }

    /// Leaves the live line where it is and goes below it: the end.
    pub fn finish(&self) {
        let mut state = self.lock();
        if state.live.take().is_some() {
            let _ = state.write(b"\n");
        }
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().out.flush()
    }
}

impl<'w> MakeWriter<'w> for Terminal {
    type Writer = Terminal;

    fn make_writer(&'w self) -> Self::Writer {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(is_terminal: bool) -> String {
        let screen = Screen::default();
        let mut terminal = Terminal::new(Box::new(screen.clone()), is_terminal);
        terminal.live("live");
        terminal.write_all(b"log\n").unwrap();
        terminal.finish();
        String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn log_lines_go_above_the_live_line() {
        assert_eq!(written(true), "\r\x1b[2Klive\r\x1b[2Klog\nlive\n");
    }

    #[test]
    fn without_a_terminal_only_log_lines_are_written() {
        assert_eq!(written(false), "log\n");
    }
}
