//! A running agent asked and steered from outside: profiles by the command line and by HTTP, the state directory held.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

use crate::harness::{PATIENCE, Room, Running, agent, finish, free_port, until};

fn config(admin: u16) -> String {
    format!(
        "receivers: {{ hostmetrics: {{ collection_interval: 100ms, scrapers: {{ memory: {{}} }} }} }}\n\
         processors:\n  filter: {{ metrics: {{ exclude: {{ match_type: strict, metric_names: [never] }} }} }}\n\
         \x20 adaptive: {{ profiles: {{ conservative: [], aggressive: [filter] }} }}\n\
         exporters: {{ debug: {{}} }}\n\
         service:\n  admin: {{ endpoint: \"127.0.0.1:{admin}\" }}\n  telemetry: {{ metrics: {{ level: none }} }}\n\
         \x20 pipelines: {{ metrics: {{ receivers: [hostmetrics], processors: [adaptive], exporters: [debug] }} }}\n"
    )
}

fn start(room: &Room, name: &str, admin: u16, state: &Path) -> Running {
    let path = room.file(&format!("{name}.yaml"), &config(admin));
    room.start(name, agent().arg("--config").arg(path).arg("--state-dir").arg(state))
}

fn ask(admin: u16, words: &[&str]) -> Output {
    finish(agent().args(words).args(["--admin", &format!("http://127.0.0.1:{admin}")]))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn shows(admin: u16, text: &str) {
    until(text, PATIENCE, || said(&ask(admin, &["profile"])).contains(text).then_some(()));
}

#[test]
fn a_profile_is_set_shown_and_expires() {
    let (room, admin) = (Room::new(), free_port());
    let mut agent = start(&room, "phoenix", admin, &room.path("state"));
    shows(admin, "metrics adaptive: conservative\n  profiles: conservative, aggressive");
    let set = ask(admin, &["profile", "set", "aggressive", "--for", "2s"]);
    assert!(set.status.success() && said(&set).contains("adaptive: aggressive for another"), "{}", said(&set));
    shows(admin, "adaptive: conservative\n");
    ask(admin, &["profile", "set", "aggressive"]);
    let released = ask(admin, &["profile", "release"]);
    assert!(released.status.success() && said(&released).contains("adaptive: conservative\n"), "{}", said(&released));
    let wrong = ask(admin, &["profile", "set", "agressive"]);
    assert!(
        !wrong.status.success() && said(&wrong).contains("there are: conservative, aggressive"),
        "{}",
        said(&wrong)
    );
    let nobody = ask(admin, &["explain", "--pid", "1"]);
    assert!(nobody.status.success() && said(&nobody).contains("no stage has decided"), "{}", said(&nobody));
    for (headers, status) in [
        ("Host: evil.example", "403"),
        ("Host: localhost\r\nOrigin: http://evil.example", "403"),
        ("Host: localhost", "200"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", admin)).unwrap();
        let body = r#"{"profile":"conservative"}"#;
        let length = body.len();
        write!(
            stream,
            "POST /control/profile HTTP/1.1\r\n{headers}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
    }
    agent.signal("HUP");
    until("the reload", PATIENCE, || agent.stderr().contains("reloaded").then_some(()));
    shows(admin, "adaptive: conservative\n");
    assert!(agent.stderr().contains("another profile is at work"), "{}", agent.stderr());
    agent.end();
    let gone = ask(admin, &["profile"]);
    assert!(!gone.status.success() && said(&gone).contains("nobody answers"), "{}", said(&gone));
}

#[test]
fn the_state_directory_has_one_holder_and_survives_a_kill() {
    let (room, ports) = (Room::new(), [free_port(), free_port()]);
    let state = room.path("state");
    let mut first = start(&room, "first", ports[0], &state);
    shows(ports[0], "conservative");
    let mut second = start(&room, "second", ports[1], &state);
    assert!(!second.wait(PATIENCE).success());
    let holder = format!("held by another running agent (pid {})", first.pid());
    assert!(second.stderr().contains(&holder), "{}", second.stderr());
    first.kill();
    let mut third = start(&room, "third", ports[1], &state);
    shows(ports[1], "conservative");
    assert!(third.stderr().contains("did not end in order"), "{}", third.stderr());
    third.end();
}

#[test]
fn a_taken_admin_port_that_was_named_ends_the_start() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (room, port) = (Room::new(), holder.local_addr().unwrap().port());
    let mut agent = start(&room, "phoenix", port, &room.path("state"));
    assert!(!agent.wait(PATIENCE).success());
    assert!(agent.stderr().contains("service::admin::endpoint moves it"), "{}", agent.stderr());
}
