//! The table of faults, and what they share.

mod backend;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;

use crate::Fault;
use crate::world::Outcome;

/// In which form a fault is run.
#[derive(Clone, Debug)]
pub struct Form {
    pub long: bool,
    /// The agent's program.
    pub agent: PathBuf,
}

impl Form {
    /// What the form asks for.
    pub fn pick<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }
}

type Run = Pin<Box<dyn Future<Output = Result<Outcome, Fault>>>>;

/// A fault of the list.
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    /// Mounts file systems of its own, so it runs in a namespace of its own.
    pub mounts: bool,
    pub run: fn(Form) -> Run,
}

/// All of them, in the order of the list.
pub const ALL: &[Case] = &[
    Case {
        name: "backend_down",
        about: "the backend goes away under load and comes back; what waited and what is new both arrive",
        mounts: false,
        run: |form| Box::pin(backend::down(form)),
    },
    Case {
        name: "backend_stopped",
        about: "the backend's process is stopped (SIGSTOP) under load and goes on",
        mounts: false,
        run: |form| Box::pin(backend::stopped(form)),
    },
    Case {
        name: "wire",
        about: "answers late, cut and half sent, requests cut and half sent, connections reset",
        mounts: false,
        run: |form| Box::pin(backend::wire(form)),
    },
    Case {
        name: "answers",
        about: "429, 502, 503, 504 against 400, 401, 413, 500 and partial success, gRPC and HTTP",
        mounts: false,
        run: |form| Box::pin(backend::answers(form)),
    },
    Case {
        name: "endless",
        about: "the backend's answers never end",
        mounts: false,
        run: |form| Box::pin(backend::endless(form)),
    },
];

/// Set where this program runs in a mount namespace of its own.
pub const OWN_MOUNTS: &str = "PHOENIX_FAULTS_OWN_MOUNTS";

/// Runs one fault again as a process with its own mounts; skipped where the host allows none.
pub fn in_own_mounts(name: &str, form: &Form) -> bool {
    let unshare = |program: &mut Command| {
        program.args(["--user", "--map-root-user", "--mount"]);
    };
    let mut probe = Command::new("unshare");
    unshare(&mut probe);
    probe.args(["sh", "-c", "mount -t tmpfs none /mnt"]).stderr(std::process::Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("| {name} | skipped | | | | | | | nothing may be mounted here |");
        return true;
    }
    let Ok(own) = std::env::current_exe() else { return false };
    let mut again = Command::new("unshare");
    unshare(&mut again);
    again.arg(own).args(["run", name, "--agent"]).arg(&form.agent).env(OWN_MOUNTS, "1");
    if form.long {
        again.arg("--long");
    }
    let Ok(output) = again.output() else { return false };
    // The head of the table has been printed.
    for line in String::from_utf8_lossy(&output.stdout).lines().skip(2) {
        println!("{line}");
    }
    output.status.success()
}
