//! The table of faults, and what they share.

mod backend;
mod cost;
mod disk;
mod host;
mod peers;
mod reload;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use crate::Fault;
use crate::load::Protocol;
use crate::world::Outcome;

/// The transports by which the agent sends.
const OUT: [(&str, Protocol); 2] = [("grpc", Protocol::Grpc), ("http", Protocol::Http)];

/// The longest that draining may take.
const DRAIN: Duration = Duration::from_secs(30);

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

    /// The same in seconds.
    fn seconds(&self, short: f64, long: f64) -> Duration {
        Duration::from_secs_f64(self.pick(short, long))
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
        name: "killed",
        about: "kill -9 at random times under load, with the backend there, late and away",
        mounts: false,
        run: |form| Box::pin(disk::killed(form)),
    },
    Case {
        name: "disk_full",
        about: "a small disk filled by the queue and by a stranger, and freed",
        mounts: true,
        run: |form| Box::pin(disk::full(form)),
    },
    Case {
        name: "disk_read_only",
        about: "a start on a disk that has become read-only, and writable again",
        mounts: true,
        run: |form| Box::pin(disk::read_only(form)),
    },
    Case {
        name: "descriptors",
        about: "no descriptors left for a while",
        mounts: false,
        run: |form| Box::pin(host::descriptors(form)),
    },
    Case {
        name: "memory",
        about: "a burst of large requests under a hard limit of memory",
        mounts: false,
        run: |form| Box::pin(host::memory(form)),
    },
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
    Case {
        name: "hostile",
        about: "malformed, deep, huge, packed and mutated requests in protobuf and JSON, and what is no request",
        mounts: false,
        run: |form| Box::pin(peers::hostile(form)),
    },
    Case {
        name: "slow_peers",
        about: "idle sockets by the thousand, slow heads and slow bodies",
        mounts: false,
        run: |form| Box::pin(peers::slow(form)),
    },
    Case {
        name: "certificates",
        about: "certificates rotated under load, with bad ones among them",
        mounts: false,
        run: |form| Box::pin(peers::certificates(form)),
    },
    Case {
        name: "reloads",
        about: "SIGHUP under load, with bad configs among the good ones",
        mounts: false,
        run: |form| Box::pin(reload::reloads(form)),
    },
    Case {
        name: "ended",
        about: "SIGTERM with a full queue and a dead backend, in memory and on disk",
        mounts: false,
        run: |form| Box::pin(disk::ended(form)),
    },
    Case {
        name: "overload",
        about: "ten times the load that the backend takes",
        mounts: false,
        run: |form| Box::pin(host::overload(form)),
    },
];

/// What is measured by name alone: figures, not faults.
pub const COST: Case = Case {
    name: "cost",
    about: "what each ack and fsync costs (by name only)",
    mounts: false,
    run: |form| Box::pin(cost::cost(form)),
};

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
