//! What a whole agent makes of the memory it is allowed: limits of its group and of the process become its defaults.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{PATIENCE, Room, agent, free_port, get, required, runs, skip, until};

const ALLOWED: usize = 256 << 20;

/// A group of the memory controller (v1 or v2) that allows [`ALLOWED`]; it goes with the test.
struct Group(PathBuf);

impl Group {
    /// None where no group can be made, as in most containers.
    fn make() -> Option<Group> {
        let hierarchies = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        hierarchies.into_iter().find_map(|(at, limit)| {
            let group = Group(PathBuf::from(at).join(format!("phoenix-test-{}", std::process::id())));
            std::fs::create_dir(&group.0).ok()?;
            // Without the controller there is no such file, and none can be made.
            let file = std::fs::OpenOptions::new().write(true).open(group.0.join(limit)).ok();
            file.and_then(|mut file| std::io::Write::write_all(&mut file, ALLOWED.to_string().as_bytes()).ok())?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Starts the agent behind `wrapper`, and holds what it says of its limits to [`ALLOWED`].
fn follows(mut wrapper: Command) {
    let room = Room::new();
    let (grpc, own) = (free_port(), free_port());
    let config = room.file(
        "phoenix.yaml",
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"localhost:{grpc}\"}}}}}}}}
processors: {{memory_limiter: {{check_interval: 1s}}}}
exporters: {{debug: }}
service:
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: localhost, port: {own}}}}}}}}}]}}}}
  pipelines: {{metrics: {{receivers: [otlp], processors: [memory_limiter], exporters: [debug]}}}}
"
        ),
    );
    wrapper.arg(agent().get_program()).arg("--config").arg(config);
    let mut phoenix = room.start("phoenix", &mut wrapper);
    // The page is there before the receiver is.
    let text = until("own metrics of the receiver", PATIENCE, || {
        let text = get(own, "/metrics", "").ok()?.body;
        text.contains("\nphoenix_receiver_held_limit_bytes").then_some(text)
    });
    let value = |name: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(label));
        let line = line.unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number") as usize
    };
    assert_eq!(value("phoenix_receiver_held_limit_bytes", "otlp"), ALLOWED / 4);
    assert_eq!(value("phoenix_memory_limit_bytes", "hard"), ALLOWED * 8 / 10);
    phoenix.end();
}

#[test]
fn the_limit_of_its_group_is_followed() {
    let Some(group) = Group::make() else {
        skip("no control group can be made here");
        return;
    };
    let mut wrapper = Command::new("sh");
    wrapper.args(["-c", &format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display()), "sh"]);
    follows(wrapper);
}

#[test]
fn the_limit_of_the_process_is_followed() {
    if !required("prlimit", runs("prlimit", &["--version"])) {
        return;
    }
    let mut wrapper = Command::new("prlimit");
    wrapper.arg(format!("--data={ALLOWED}"));
    follows(wrapper);
}
