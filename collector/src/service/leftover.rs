//! Says which queues on disk belong to no exporter any more: they are kept for ever, so somebody must hear of them.

use std::path::PathBuf;

use phoenix_exporters::sending::leftovers;

use super::Agent;
use crate::config::Model;

/// A storage's directory, and the exporters that have their queue in it.
pub(super) type Used = Vec<(PathBuf, Vec<String>)>;

/// Which exporters of the running agent keep their queue where.
pub(super) fn used(model: &Model, agent: &Agent) -> Used {
    let storages = agent.shared.storages.published();
    let storages = storages.into_iter().map(|(storage, place)| {
        let has_it = |id: &str| {
            let config = model.exporters.iter().find(|(found, _)| found.as_str() == id).map(|(_, config)| config);
            let named = config.and_then(|config| config.get("sending_queue")?.get("storage")?.scalar_text());
            named.is_some_and(|named| named == storage.as_str())
        };
        let durable = agent.exporters.iter().filter(|(_, part)| part.component.durable());
        let ids = durable.map(|(id, _)| id.to_string()).filter(|id| has_it(id)).collect();
        (place.directory, ids)
    });
    storages.collect()
}

/// One line for each queue that nobody empties. Blocks on the disk.
pub(super) fn say(used: &Used) {
    for (directory, exporters) in used {
        let exporters: Vec<&str> = exporters.iter().map(String::as_str).collect();
        for left in leftovers(directory, &exporters) {
            tracing::warn!(
                directory = %left.directory.display(),
                points = left.points,
                bytes = left.bytes,
                "the exporter {} is gone and has left data in its queue on disk; an exporter of that name with this storage \
                 sends it, else the directory may be deleted",
                left.exporter,
            );
        }
    }
}
