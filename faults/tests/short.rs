//! The short forms of the fault list, each against a real agent. The long ones: `cargo run --release -p phoenix-faults -- all --long`.

#![allow(clippy::expect_used)]

use std::process::Command;

/// Runs a fault by its name and holds it to the promise.
fn kept(name: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_phoenix-faults")).args(["run", name]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

macro_rules! faults {
    ($($name:ident)*) => { $(#[test] fn $name() { kept(stringify!($name)); })* };
}

faults! {
    killed disk_full disk_read_only descriptors memory
    backend_down backend_stopped wire answers endless
    hostile slow_peers certificates reloads ended overload
}
