//! A contestant: a process on a core of its own, started by its command line, measured through `/proc`, ended by its id.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::{Fault, Protocol};

/// The longest a contestant may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports of the loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub grpc: u16,
    pub http: u16,
    pub sink: u16,
}

impl Ports {
    pub fn free(sink: u16) -> Result<Self, Fault> {
        // Both are held until both are known.
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Ports { grpc: grpc.local_addr()?.port(), http: http.local_addr()?.port(), sink })
    }
}

/// Leaves core 0 to the contestants, where there is another.
pub fn make_room() -> Result<(), Fault> {
    if std::thread::available_parallelism()?.get() > 1 {
        let own = std::process::id().to_string();
        let status = Command::new("taskset").args(["-a", "-c", "-p", "1", &own]).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("taskset: {status}").into());
        }
    }
    Ok(())
}

pub struct Contestant {
    child: Child,
    /// Its state and its output.
    room: tempfile::TempDir,
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Contestant {
    /// Starts it and waits until it listens.
    pub async fn start(
        name: &str,
        command: &str,
        chain: &str,
        ports: Ports,
        protocol: Protocol,
        compression: &str,
    ) -> Result<Self, Fault> {
        let room = tempfile::tempdir()?;
        let output = File::create(room.path().join("output"))?;
        // What stands behind an @ tells two builds of one agent apart.
        let agent = name.split('@').next().unwrap_or(name);
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(agent).join(format!("{chain}.yaml"));
        // The shell becomes the contestant, so that its id is the child's.
        let child = Command::new("taskset")
            .args(["-c", "0", "sh", "-c", &format!("exec {command}")])
            .env("RACE_CONFIG", config)
            .env("RACE_GRPC", ports.grpc.to_string())
            .env("RACE_HTTP", ports.http.to_string())
            .env("RACE_SINK", ports.sink.to_string())
            .env("RACE_EXPORTER", if protocol == Protocol::Grpc { "otlp" } else { "otlphttp" })
            .env("RACE_COMPRESSION", compression)
            .env("RACE_STATE", room.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut contestant = Contestant { child, room };
        let began = Instant::now();
        let port = if protocol == Protocol::Grpc { ports.grpc } else { ports.http };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if contestant.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                return Err(format!("{name} does not listen on port {port}: {}", contestant.output()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(contestant)
    }

    fn output(&self) -> String {
        fs::read_to_string(self.room.path().join("output")).unwrap_or_default()
    }

    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id()))
    }

    /// CPU time of all its threads that live, in seconds.
    pub fn cpu(&self) -> Result<f64, Fault> {
        let mut nanos = 0;
        for task in fs::read_dir(self.proc().join("task"))? {
            // Nanoseconds; `stat` counts in hundredths of a second. A thread may end meanwhile: pools keep theirs.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanos += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(nanos as f64 / 1e9)
    }

    /// The most memory that was resident, in bytes.
    pub fn peak_memory(&self) -> Result<u64, Fault> {
        let text = fs::read_to_string(self.proc().join("status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in status")?;
        let kib: u64 = line.split_whitespace().next().ok_or("VmHWM is empty")?.parse()?;
        Ok(kib << 10)
    }

    /// Ends it.
    pub async fn end(mut self) -> Result<(), Fault> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
