//! Who this agent is in its own metrics: name, version, and an instance id that is new at every start.

use std::sync::OnceLock;

use crate::config::Model;

/// The agent's resource attributes: the automatic ones, changed by `service::telemetry::resource` (null takes one away).
pub fn resource(model: &Model, version: &str) -> Vec<(String, String)> {
    let automatic = [("service.name", "phoenix"), ("service.version", version), ("service.instance.id", instance_id())];
    let mut resource: Vec<(String, String)> =
        automatic.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    for (key, value) in &model.telemetry.resource {
        resource.retain(|(known, _)| known != key);
        if let Some(value) = value {
            resource.push((key.clone(), value.clone()));
        }
    }
    resource
}

/// A random UUID from the kernel; constant for the life of the process.
fn instance_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        // Without /proc the process id must do; the attribute is still there.
        if uuid.trim().is_empty() { std::process::id().to_string() } else { uuid.trim().to_owned() }
    })
}
