//! The agent under test: a process of its own, which is started, signalled, fenced in, asked, and ended by its pid.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::Fault;

/// The longest a step may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the kernel lets the agent have.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// Open files.
    pub descriptors: Option<u32>,
    /// Bytes of private writable memory, touched or not (RLIMIT_DATA); an allocation beyond it ends the process.
    pub memory: Option<u64>,
}

/// The ports of an agent on the loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub grpc: u16,
    pub http: u16,
    pub health: u16,
    pub own: u16,
}

impl Ports {
    /// Free ones.
    ///
    /// # Errors
    /// There are none.
    pub fn free() -> Result<Self, Fault> {
        Ok(Ports { grpc: free_port()?, http: free_port()?, health: free_port()?, own: free_port()? })
    }
}

/// A free port below the range from which the kernel takes those of outgoing connections. None is given twice.
fn free_port() -> Result<u16, Fault> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let seed = std::process::id() * 61;
    let mut candidates = (0..10_000).map(|_| 10_000 + (seed + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let free = candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port as u16)).is_ok());
    Ok(free.ok_or("no port is free")? as u16)
}

/// The agent's own numbers, by name and labels.
#[derive(Clone, Debug, Default)]
pub struct Page(Vec<(String, f64)>);

impl Page {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Page(
            samples
                .filter_map(|line| Some((line.rsplit_once(' ')?.0.to_owned(), line.rsplit_once(' ')?.1.parse().ok()?)))
                .collect(),
        )
    }

    /// The sum over all series of this name whose labels hold this text.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.iter().filter(|(key, _)| of(key) && key.contains(label)).map(|(_, value)| value).sum()
    }

    /// Values of a label over all series of this name, with their numbers.
    pub fn by(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let of = self.0.iter().filter(|(key, value)| key.starts_with(name) && *value > 0.0);
        let value = |key: &str| Some(key.split_once(&format!("{label}=\""))?.1.split_once('"')?.0.to_owned());
        of.filter_map(|(key, number)| Some((value(key)?, *number as u64))).collect()
    }
}

/// A process. Dropped, it is killed.
pub struct Agent {
    child: Child,
    pid: u32,
    pub ports: Ports,
    log: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.start_kill();
    }
}

impl Agent {
    /// Starts the program with this config and waits until it answers for its health.
    ///
    /// # Errors
    /// It does not start, or ends at once.
    pub async fn start(
        program: &Path,
        config: &Path,
        state: &Path,
        ports: Ports,
        fence: &Fence,
    ) -> Result<Self, Fault> {
        let log = config.with_extension("log");
        let mut line: Vec<String> = Vec::new();
        if let Some(descriptors) = fence.descriptors {
            line.extend(["prlimit".into(), format!("--nofile={descriptors}")]);
        }
        if let Some(bytes) = fence.memory {
            line.extend(["prlimit".into(), format!("--data={bytes}")]);
        }
        line.push(program.display().to_string());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg("--config").arg(config).arg("--state-dir").arg(state);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
        let said = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let pid = child.id().ok_or("the agent ended at once")?;
        let mut agent = Agent { child, pid, ports, log };
        let began = Instant::now();
        loop {
            if let Ok((200, _)) = agent.get(ports.health, "/").await {
                return Ok(agent);
            }
            if let Some(status) = agent.child.try_wait()? {
                return Err(format!("the agent ended with {status}: {}", agent.tail()).into());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("the agent is not ready: {}", agent.tail()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A page of this agent: status and body.
    ///
    /// # Errors
    /// It does not answer within 10 s.
    pub async fn get(&self, port: u16, path: &str) -> Result<(u16, String), Fault> {
        let exchange = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let (head, body) = text.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
            let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
            Ok::<_, Fault>((status, body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(10), exchange).await?
    }

    /// The health page: status, body, and how long it took.
    ///
    /// # Errors
    /// See [`Agent::get`].
    pub async fn health(&self) -> Result<(u16, String, Duration), Fault> {
        let began = Instant::now();
        let (status, body) = self.get(self.ports.health, "/").await?;
        Ok((status, body, began.elapsed()))
    }

    /// The agent's own metrics.
    ///
    /// # Errors
    /// See [`Agent::get`].
    pub async fn page(&self) -> Result<Page, Fault> {
        Ok(Page::parse(&self.get(self.ports.own, "/metrics").await?.1))
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, name: &str) -> Result<(), Fault> {
        signal(self.pid, name)
    }

    /// Kills it and waits for its end.
    ///
    /// # Errors
    /// The host's.
    pub async fn kill(&mut self) -> Result<(), Fault> {
        Ok(self.child.kill().await?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Fault> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        Ok(ended.map_err(|_| format!("the agent did not end within {limit:?}: {}", self.tail()))??)
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// The host's.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Fault> {
        Ok(self.child.try_wait()?)
    }

    /// Resident memory now and at its highest, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Result<(u64, u64), Fault> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
        };
        Ok((field("VmRSS:").ok_or("no VmRSS")?, field("VmHWM:").ok_or("no VmHWM")?))
    }

    /// CPU time used, in seconds. Ticks are hundredths on every Linux that matters.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> Result<f64, Fault> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields: Vec<&str> = text.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).ok_or("no times in stat");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// Everything it has logged, over all runs with this config.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of it.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// Sends a signal to a process.
///
/// # Errors
/// The process is gone.
pub fn signal(pid: u32, name: &str) -> Result<(), Fault> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
    if status.success() { Ok(()) } else { Err(format!("kill -{name} {pid}: {status}").into()) }
}
