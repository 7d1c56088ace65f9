//! The agent under a service manager: what it says to it, what the unit allows it, and how it is asked for its health.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::harness::{PATIENCE, Room, agent, finish, free_port, required, runs, until};

const CONFIG: &str = "
extensions: {health_check: {endpoint: 'localhost:HEALTH'}}
receivers: {hostmetrics: {collection_interval: 1s, initial_delay: 0s, scrapers: {load: }}}
exporters: {debug: }
service:
  admin: {endpoint: ''}
  telemetry: {metrics: {level: none}}
  extensions: [health_check]
  pipelines: {metrics: {receivers: [hostmetrics], exporters: [debug]}}
";

#[test]
fn the_service_manager_hears_of_every_change_and_health_is_a_status() {
    let room = Room::new();
    let socket = room.path("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a limit");
    // What is said, without the watchdog's food and the line of figures.
    let hear = || loop {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("the agent says something in time");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text != "WATCHDOG=1" && !text.starts_with("STATUS=series") {
            return text;
        }
    };
    let port = free_port().to_string();
    let right = CONFIG.replace("HEALTH", &port);
    let config = room.file("phoenix.yaml", &right);
    let health = || finish(agent().args(["health", "--endpoint"]).arg(format!("127.0.0.1:{port}")));
    assert_eq!(health().status.code(), Some(1), "nobody is there yet");

    let mut command = agent();
    command.arg("--config").arg(&config).env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut phoenix = room.start("phoenix", &mut command);
    assert_eq!(hear(), "READY=1\nSTATUS=running");
    until("readiness", PATIENCE, || health().status.success().then_some(()));
    let mut buffer = [0; 512];
    let fed = |_| manager.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"WATCHDOG=1");
    assert!((0..20).any(fed), "the watchdog is fed");

    phoenix.signal("HUP");
    assert!(hear().starts_with("RELOADING=1"));
    assert_eq!(hear(), "READY=1\nSTATUS=running");
    room.file("phoenix.yaml", "nonsense: 1\n");
    phoenix.signal("HUP");
    assert!(hear().starts_with("RELOADING=1"));
    assert_eq!(hear(), "READY=1\nSTATUS=the new config is wrong; the old one goes on");
    phoenix.signal("TERM");
    assert!(hear().starts_with("STOPPING=1"));
    assert!(phoenix.wait(PATIENCE).success());
    assert_eq!(health().status.code(), Some(1), "nobody is there any more");
}

#[test]
fn the_unit_is_right_and_closes_what_it_says() {
    if !required("systemd-analyze", runs("systemd-analyze", &["--version"])) {
        return;
    }
    let room = Room::new();
    let unit = include_str!("../../../packaging/phoenix.service");
    // The packaged path is not there on this machine; the unit is otherwise the same.
    let unit = room.file("phoenix.service", &unit.replace("/usr/bin/phoenix", env!("CARGO_BIN_EXE_phoenix")));
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=20"]] {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        if arguments[0] == "verify" {
            assert!(!said.contains("phoenix.service"), "{said}");
        }
    }
}
