//! The queue on disk as the lane and the workers see it: they never touch the disk, they talk to the thread that keeps it.

use std::path::PathBuf;
use std::sync::Arc;

use phoenix_pipeline::storage::Storage;
use phoenix_pipeline::{Refusal, Shipment, Site};
use phoenix_storage::Id;
use tokio::sync::{mpsc, oneshot, watch};

use super::QueueSettings;
use super::journal::Journal;
use super::keeper::Keeper;
use super::queue::Queue;

/// A record that is to be sent.
pub(super) struct Stored {
    pub id: Id,
    pub shipment: Shipment,
}

/// What a worker asks the thread for.
pub(super) enum Command {
    /// The oldest record that nobody has.
    Next(oneshot::Sender<Stored>),
    /// The record was sent, or can never be.
    End(Id, Result<(), Refusal>),
}

/// The consumers' end of the thread, which ends when the last of them is dropped and the line in front is closed.
#[derive(Clone)]
pub(super) struct Spool {
    /// A consumer has one request or one record at a time, so this is bounded by their number.
    commands: mpsc::UnboundedSender<Command>,
    done: watch::Receiver<()>,
}

impl Spool {
    /// Starts the thread. The directory is opened by it, again and again if need be: an exporter that is being replaced
    /// may still hold it, and a disk that is away now may come back.
    ///
    /// # Errors
    /// The host's, when it allows no further thread.
    pub fn start(
        site: &Site,
        storage: &Storage,
        settings: &QueueSettings,
        line: Arc<Queue>,
        journal: Arc<Journal>,
    ) -> std::io::Result<Self> {
        let (commands, orders) = mpsc::unbounded_channel();
        let (ended, done) = watch::channel(());
        let keeper = Keeper::new(site, storage, settings, line, journal, orders);
        let runtime = site.runtime.clone();
        // The kernel shows 15 characters of a thread's name.
        let name: String = format!("q {}", site.id).chars().take(15).collect();
        std::thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(keeper.run());
            drop(ended);
        })?;
        Ok(Spool { commands, done })
    }

    /// The oldest record that nobody has; none when the thread has ended.
    pub async fn next(&self) -> Option<Stored> {
        let (give, take) = oneshot::channel();
        self.commands.send(Command::Next(give)).ok()?;
        take.await.ok()
    }

    /// The record's end; without it the record is sent again after a restart.
    pub fn end(&self, stored: &Stored, outcome: Result<(), Refusal>) {
        // A thread that has ended has left the record on the disk.
        let _ = self.commands.send(Command::End(stored.id, outcome));
    }

    /// Waits until all that was taken in is on the disk. All other clones must be gone and the line closed.
    pub async fn ended(self) {
        let Spool { commands, mut done } = self;
        drop(commands);
        // The error is what says that the thread is gone.
        while done.changed().await.is_ok() {}
    }
}

/// The directory of one exporter's queue.
pub(super) fn folder(id: &str) -> PathBuf {
    let mut name = String::from("exporter_");
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name.into()
}
