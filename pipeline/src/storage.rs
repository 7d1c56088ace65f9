//! Where queues on disk lie: what a storage extension offers to the exporters that name it in `sending_queue.storage`.
//!
//! An extension says where and how safely; whoever has a queue opens it there, under its own id. Nothing here touches a
//! file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ComponentId;

/// What a storage extension offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Below it every queue has a directory of its own.
    pub directory: PathBuf,
    /// The most that power loss may cost: data written longer ago is on the medium; none = the kernel decides.
    pub fsync: Option<Duration>,
    /// Age at which data is evicted; none = never.
    pub max_age: Option<Duration>,
}

/// The register of all storages by extension id. Cheap to clone; all clones are one register.
#[derive(Clone, Default)]
pub struct Storages(Arc<Mutex<BTreeMap<ComponentId, Storage>>>);

impl Storages {
    /// Puts these in place of all that were there. Queues that are open stay where they are.
    pub fn publish(&self, all: BTreeMap<ComponentId, Storage>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// What was published last, to go back to.
    pub fn published(&self) -> BTreeMap<ComponentId, Storage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `sending_queue.storage` names.
    ///
    /// # Errors
    /// There is no such extension.
    pub fn find(&self, id: &str) -> Result<Storage, String> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&ComponentId::new(id)).cloned();
        found.ok_or_else(|| format!("sending_queue.storage: no storage {id} is running; name it in service.extensions"))
    }
}
