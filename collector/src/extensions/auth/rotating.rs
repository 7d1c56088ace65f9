//! A secret that is read from a file, and read again while it is in use.
//!
//! The content is compared, not dates: Kubernetes swaps links. What cannot be used (no file, nothing in it) leaves the old
//! one in use; the log and the health page say why, once.

use std::fs;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use phoenix_pipeline::{Site, Status};
use tracing::{info, warn};

/// How often files are read. A peer refuses an old credential for good, not for later: a second is what may pass.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of the longest file that is read.
const LONGEST: u64 = 64 << 10;

type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

/// What was made of a file, or of a text that stays.
pub(super) struct Rotating<T> {
    current: ArcSwap<T>,
    file: Option<File<T>>,
}

struct File<T> {
    path: String,
    parse: Parse<T>,
    status: Status,
    /// What is in use, and the last complaint.
    state: Mutex<(String, Option<String>)>,
}

impl<T: Send + Sync + 'static> Rotating<T> {
    /// A value that never changes.
    pub(super) fn fixed(value: T) -> Arc<Self> {
        Arc::new(Rotating { current: ArcSwap::from_pointee(value), file: None })
    }

    /// What `parse` makes of the file's content, without white space around it; followed for as long as the value lives.
    ///
    /// # Errors
    /// A sentence that names the file and says what is wrong, never what is in it.
    pub(super) fn file(path: &str, site: &Site, parse: Parse<T>) -> Result<Arc<Self>, String> {
        let text = read(path)?;
        let value = parse(&text).map_err(|why| format!("{path}: {why}"))?;
        let state = Mutex::new((text, None));
        let file = File { path: path.to_owned(), parse, status: site.status.clone(), state };
        let this = Arc::new(Rotating { current: ArcSwap::from_pointee(value), file: Some(file) });
        site.runtime.spawn(follow(Arc::downgrade(&this)));
        Ok(this)
    }

    /// The value for the next request.
    pub(super) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Reads the file. Not for an asynchronous task.
    pub(super) fn look(&self) {
        let Some(File { path, parse, status, state }) = &self.file else { return };
        let text = read(path);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, said) = &mut *state;
        let outcome = text.and_then(|text| {
            if text != *used {
                let value = parse(&text).map_err(|why| format!("{path}: {why}"))?;
                self.current.store(Arc::new(value));
                *used = text;
                info!(component = %status.component(), "{path}: the new content is in use");
            }
            Ok(())
        });
        match outcome {
            Ok(()) => {
                if said.take().is_some() {
                    status.concern(path, None);
                }
            }
            Err(why) if said.as_ref() != Some(&why) => {
                warn!(component = %status.component(), "the old credentials stay in use: {why}");
                status.concern(path, Some(format!("the old credentials stay in use: {why}")));
                *said = Some(why);
            }
            Err(_) => {}
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    let mut content = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut content));
    let length = read.map_err(|error| format!("cannot read {path}: {error}"))?;
    if length as u64 > LONGEST {
        return Err(format!("{path}: it is larger than any credential (64 KiB)"));
    }
    match content.trim() {
        "" => Err(format!("{path}: there is nothing in it")),
        text => Ok(text.to_owned()),
    }
}

async fn follow<T: Send + Sync + 'static>(followed: Weak<Rotating<T>>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(this) = followed.upgrade() else { return };
        // A share that hangs must not hold up the runtime; should the look panic, the next one comes all the same.
        let _ = tokio::task::spawn_blocking(move || this.look()).await;
    }
}
