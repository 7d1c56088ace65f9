//! Asks file systems for their sizes without ever hanging: a mount whose server is away costs one waiting thread, not the
//! scrape.
//!
//! `statvfs` cannot be interrupted, so it runs on a helper thread. If no answer comes in time the helper is left behind with
//! that mount, which is passed over until it answers, and a new helper takes the others. The number of helpers is bounded for
//! the whole process; beyond the bound mounts are passed over too.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::statvfs::{Capacity, statvfs};

/// A local file system answers in microseconds, a server in the same network in milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// At most so many helpers live at once in this process, those that hang among them: each costs a stack of a few kilobytes.
const MAX_HELPERS: usize = 32;

static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CapacityError {
    /// The file system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No answer in time, now or at an earlier scrape.
    #[error("no answer in time; it is passed over until it answers")]
    Hangs,
    /// Too many hang already.
    #[error("not asked: {MAX_HELPERS} file systems hang already")]
    TooMany,
}

type Ask = fn(&Path) -> io::Result<Capacity>;

/// One scraper's way to ask.
pub(super) struct Asker {
    ask: Ask,
    patience: Duration,
    hanging: Arc<Mutex<BTreeSet<PathBuf>>>,
    helper: Option<Helper>,
}

struct Helper {
    questions: SyncSender<PathBuf>,
    answers: Receiver<io::Result<Capacity>>,
}

impl Asker {
    /// Waits for an answer for a second, or for `timeout` if that is given and shorter.
    pub(super) fn new(timeout: Duration) -> Self {
        let patience = if timeout.is_zero() { PATIENCE } else { PATIENCE.min(timeout) };
        Self { ask: statvfs, patience, hanging: Arc::default(), helper: None }
    }

    /// The sizes of the file system at `path`.
    pub(super) fn ask(&mut self, path: &Path) -> Result<Capacity, CapacityError> {
        if !self.hanging.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_path_buf()) {
            return Err(CapacityError::Hangs);
        }
        let helper = match self.helper.take().map_or_else(|| self.spawn(), Ok) {
            Ok(helper) => helper,
            Err(error) => {
                self.forget(path);
                return Err(error);
            }
        };
        if helper.questions.send(path.to_path_buf()).is_err() {
            self.forget(path);
            return Err(io::Error::other("the helper thread ended").into());
        }
        match helper.answers.recv_timeout(self.patience) {
            Ok(answer) => {
                self.helper = Some(helper);
                Ok(answer?)
            }
            // Dropping `helper` lets the thread end once its file system has answered.
            Err(RecvTimeoutError::Timeout) => Err(CapacityError::Hangs),
            Err(RecvTimeoutError::Disconnected) => {
                self.forget(path);
                Err(io::Error::other("the helper thread ended").into())
            }
        }
    }

    fn forget(&self, path: &Path) {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    fn spawn(&self) -> Result<Helper, CapacityError> {
        let seat = Seat::take().ok_or(CapacityError::TooMany)?;
        let (questions, inbox) = sync_channel::<PathBuf>(1);
        let (outbox, answers) = sync_channel(1);
        let (hanging, ask) = (Arc::clone(&self.hanging), self.ask);
        let work = move || {
            let _seat = seat;
            while let Ok(path) = inbox.recv() {
                let answer = ask(&path);
                // First forget, then answer: whoever has the answer may ask again at once.
                hanging.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
                if outbox.send(answer).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("statvfs".into()).stack_size(64 << 10).spawn(work)?;
        Ok(Helper { questions, answers })
    }
}

/// A place among the helpers; given back when the thread ends.
struct Seat;

impl Seat {
    fn take() -> Option<Self> {
        let more = |helpers| (helpers < MAX_HELPERS).then_some(helpers + 1);
        HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        HELPERS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    static RELEASED: AtomicBool = AtomicBool::new(false);

    fn hang_until_released(path: &Path) -> io::Result<Capacity> {
        if path == Path::new("/hung") {
            while !RELEASED.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        statvfs(Path::new("/"))
    }

    #[test]
    fn a_mount_that_hangs_costs_its_patience_once_and_comes_back() {
        let mut asker = Asker {
            ask: hang_until_released,
            patience: Duration::from_millis(50),
            hanging: Arc::default(),
            helper: None,
        };
        assert!(asker.ask(Path::new("/")).is_ok());
        assert!(matches!(asker.ask(Path::new("/hung")), Err(CapacityError::Hangs)));
        let start = Instant::now();
        assert!(matches!(asker.ask(Path::new("/hung")), Err(CapacityError::Hangs)), "not asked again while it hangs");
        assert!(start.elapsed() < Duration::from_millis(40));
        assert!(asker.ask(Path::new("/")).is_ok(), "others are still asked");
        RELEASED.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(5);
        while asker.ask(Path::new("/hung")).is_err() {
            assert!(Instant::now() < deadline, "it comes back once it answers");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
