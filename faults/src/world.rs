//! One world: an agent between a load and a backend, with a wire that can be cut and an oracle that looks on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Fault;
use crate::agent::{Agent, Fence, Ports};
use crate::load::{self, Load, Protocol};
use crate::oracle::{Oracle, Verdict};
use crate::relay::Relay;
use crate::sink::Sink;

/// Where the agent keeps what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    Memory,
    /// On disk, with this `fsync_interval`; none = `fsync: true`.
    Disk(Option<Duration>),
}

/// How a world is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// By which transport the agent sends.
    pub out: Protocol,
    pub queue: Queue,
    /// The receiver's `ack`; none = its default.
    pub ack: Option<&'static str>,
    /// Further keys of the receiver, of the exporter and of its `sending_queue`, as YAML flow entries.
    pub receiver: String,
    pub exporter: String,
    pub sending_queue: String,
    /// Where `server.pem` and `server.key` of the HTTP port lie; none = plain text.
    pub tls: Option<PathBuf>,
    /// Stages in front of the exporter, by id, with their settings.
    pub processors: Vec<(&'static str, String)>,
    pub fence: Fence,
    /// Where the queue lies; none = in the world's folder.
    pub disk: Option<PathBuf>,
    /// Causes by which acknowledged points may be lost, each counted by the agent.
    pub exceptions: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            out: Protocol::Http,
            queue: Queue::Memory,
            ack: None,
            receiver: String::new(),
            exporter: String::new(),
            sending_queue: String::new(),
            tls: None,
            processors: Vec::new(),
            fence: Fence::default(),
            disk: None,
            exceptions: &[],
        }
    }
}

/// What a fault showed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Points that the agent counted as given up, by cause.
    pub counted: BTreeMap<String, u64>,
    /// Missing points that no exception explains.
    pub lost: u64,
    /// What was seen besides.
    pub notes: Vec<String>,
    /// What must not be, besides losses.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Whether the promise was kept.
    pub fn passed(&self) -> bool {
        self.lost == 0 && self.verdict.altered == 0 && self.wrong.is_empty()
    }

    /// Adds another world's outcome, of the same fault.
    pub fn add(&mut self, name: &str, other: Outcome) {
        let (sum, more) = (&mut self.verdict, other.verdict);
        sum.acknowledged += more.acknowledged;
        sum.delivered += more.delivered;
        sum.missing += more.missing;
        sum.refused += more.refused;
        sum.duplicates += more.duplicates;
        sum.altered += more.altered;
        self.lost += other.lost;
        for (cause, points) in other.counted {
            *self.counted.entry(cause).or_default() += points;
        }
        self.notes.extend(other.notes.into_iter().map(|note| format!("{name}: {note}")));
        self.wrong.extend(other.wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }
}

/// A world at work.
pub struct World {
    pub oracle: Arc<Oracle>,
    pub sink: Sink,
    pub relay: Relay,
    pub agent: Agent,
    setup: Setup,
    program: PathBuf,
    room: tempfile::TempDir,
    counted: BTreeMap<String, u64>,
    pub notes: Vec<String>,
    pub wrong: Vec<String>,
}

impl World {
    /// Starts everything, the agent last.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(program: &Path, setup: Setup) -> Result<Self, Fault> {
        let room = tempfile::tempdir()?;
        let oracle = Arc::new(Oracle::default());
        let sink = Sink::start(&oracle).await?;
        let relay = Relay::start(sink.port).await?;
        let ports = Ports::free()?;
        let config = room.path().join("phoenix.yaml");
        fs::write(&config, text(&setup, room.path(), ports, relay.port))?;
        let agent = Agent::start(program, &config, &room.path().join("state"), ports, &setup.fence).await?;
        let program = program.to_owned();
        let (counted, notes, wrong) = Default::default();
        Ok(World { oracle, sink, relay, agent, setup, program, room, counted, notes, wrong })
    }

    /// A file of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The agent's config as it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn config(&self) -> Result<String, Fault> {
        Ok(fs::read_to_string(self.path("phoenix.yaml"))?)
    }

    /// Writes the agent's config anew; the agent learns of it by SIGHUP.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, text: &str) -> Result<(), Fault> {
        Ok(fs::write(self.path("phoenix.yaml"), text)?)
    }

    /// Begins a load.
    ///
    /// # Errors
    /// See [`Load::start`].
    pub fn load(&self, plan: &load::Plan) -> Result<Load, Fault> {
        let ports = self.agent.ports;
        let port = if plan.protocol == Protocol::Grpc { ports.grpc } else { ports.http };
        Load::start(&self.oracle, port, plan)
    }

    /// Starts the agent again, after it has ended or was killed.
    ///
    /// # Errors
    /// See [`Agent::start`].
    pub async fn restart(&mut self) -> Result<(), Fault> {
        let (config, state) = (self.path("phoenix.yaml"), self.path("state"));
        self.agent = Agent::start(&self.program, &config, &state, self.agent.ports, &self.setup.fence).await?;
        Ok(())
    }

    /// Ends the agent with SIGTERM, keeps what it had counted, and holds it to status 0.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn end(&mut self, limit: Duration) -> Result<Duration, Fault> {
        self.count().await?;
        let began = Instant::now();
        self.agent.signal("TERM")?;
        let status = self.agent.wait(limit).await?;
        if !status.success() {
            self.wrong.push(format!("SIGTERM ended it with {status}"));
        }
        Ok(began.elapsed())
    }

    /// Adds what this run of the agent has counted as given up. Once a run, at its end.
    ///
    /// # Errors
    /// The page cannot be read.
    pub async fn count(&mut self) -> Result<(), Fault> {
        let page = self.agent.page().await?;
        for (cause, points) in page.by("phoenix_exporter_dropped_metric_points_total", "cause") {
            *self.counted.entry(cause).or_default() += points;
        }
        for (cause, name) in [
            ("rejected", "phoenix_exporter_rejected_metric_points_total"),
            ("damaged", "phoenix_exporter_damaged_metric_points_total"),
        ] {
            let points = page.sum(name, "") as u64;
            if points > 0 {
                *self.counted.entry(cause.to_owned()).or_default() += points;
            }
        }
        Ok(())
    }

    /// Counts what the agent could not say on its page any more.
    pub fn count_also(&mut self, cause: &str, points: u64) {
        *self.counted.entry(cause.to_owned()).or_default() += points;
    }

    /// Waits until nothing is missing and nothing is under way, or the limit is over.
    ///
    /// # Errors
    /// The agent has ended.
    pub async fn settle(&mut self, limit: Duration) -> Result<(), Fault> {
        let began = Instant::now();
        let mut missing = u64::MAX;
        while began.elapsed() < limit {
            if let Some(status) = self.agent.ended()? {
                return Err(format!("the agent ended with {status}: {}", self.agent.tail()).into());
            }
            let looked = Instant::now();
            missing = self.oracle.verdict().missing;
            // Who looks at millions of points looks less often: the backend waits for the books meanwhile.
            let pause = Duration::from_millis(50).max(looked.elapsed() * 20);
            // The page may not answer while descriptors are short; the next round asks again.
            if missing == 0
                && let Ok(page) = self.agent.page().await
                && page.sum("otelcol_exporter_in_flight_requests", "") == 0.0
            {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
        self.wrong.push(format!("{missing} points missing or under way after {limit:?}"));
        Ok(())
    }

    /// The outcome, after the agent has ended.
    pub fn outcome(self) -> Outcome {
        let verdict = self.oracle.verdict();
        let unreadable = self.sink.unreadable();
        let World { counted, notes, mut wrong, setup, .. } = self;
        if unreadable > 0 {
            wrong.push(format!("{unreadable} requests that the backend cannot read"));
        }
        let explained: u64 = setup.exceptions.iter().filter_map(|cause| counted.get(*cause)).sum();
        let final_answers: u64 = counted
            .iter()
            .filter(|(cause, _)| !setup.exceptions.contains(&cause.as_str()))
            .map(|(_, points)| points)
            .sum();
        if final_answers < verdict.refused {
            wrong.push(format!("{} points were refused for good, but counted are {final_answers}", verdict.refused));
        }
        Outcome { verdict, lost: verdict.missing.saturating_sub(explained), counted, notes, wrong }
    }

    /// Lets everything arrive, ends the agent, and gives the outcome: how most faults end.
    ///
    /// # Errors
    /// The agent ended by itself, or does not end.
    pub async fn close(mut self, limit: Duration) -> Result<Outcome, Fault> {
        self.settle(limit).await?;
        self.end(Duration::from_secs(40)).await?;
        Ok(self.outcome())
    }
}

/// The agent's config.
fn text(setup: &Setup, room: &Path, ports: Ports, backend: u16) -> String {
    let Ports { grpc, http, health, own } = ports;
    let more = |text: &str| if text.is_empty() { String::new() } else { format!(", {text}") };
    let ack = setup.ack.map_or(String::new(), |ack| format!(", ack: {ack}"));
    let (exporter, endpoint) = match setup.out {
        Protocol::Http => ("otlp_http", format!("\"http://127.0.0.1:{backend}\"")),
        Protocol::Grpc => ("otlp_grpc", format!("\"127.0.0.1:{backend}\", tls: {{insecure: true}}")),
    };
    let (mut storage, mut extensions, mut queue) = (String::new(), "health_check", "enabled: true".to_owned());
    if let Queue::Disk(window) = setup.queue {
        let sync =
            window.map_or("fsync: true".to_owned(), |window| format!("fsync_interval: {}ms", window.as_millis()));
        let disk = setup.disk.clone().unwrap_or_else(|| room.join("queue"));
        storage = format!("  file_storage: {{directory: \"{}\", create_directory: true, {sync}}}\n", disk.display());
        extensions = "health_check, file_storage";
        queue = "storage: file_storage".to_owned();
    }
    let tls = setup.tls.as_ref().map_or(String::new(), |files| {
        let (certificate, key) = (files.join("server.pem"), files.join("server.key"));
        let (certificate, key) = (certificate.display(), key.display());
        format!(", tls: {{cert_file: \"{certificate}\", key_file: \"{key}\", reload_interval: 100ms}}")
    });
    let stages: Vec<&str> = setup.processors.iter().map(|(id, _)| *id).collect();
    let processors: String =
        setup.processors.iter().map(|(id, settings)| format!("  {id}: {{{settings}}}\n")).collect();
    let processors = if processors.is_empty() { String::new() } else { format!("processors:\n{processors}") };
    format!(
        "receivers:
  otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{grpc}\"}}, http: {{endpoint: \"127.0.0.1:{http}\"{tls}}}}}{ack}{receiver}}}
{processors}exporters:
  {exporter}: {{endpoint: {endpoint}, compression: none, timeout: 2s, retry_on_failure: {{initial_interval: 100ms, max_interval: 1s, max_elapsed_time: 0s}}, sending_queue: {{{queue}{sending_queue}}}{more_exporter}}}
extensions:
  health_check: {{endpoint: \"127.0.0.1:{health}\"}}
{storage}service:
  admin: {{enabled: false}}
  extensions: [{extensions}]
  telemetry: {{logs: {{sampling: {{enabled: false}}}}, metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}}}
  pipelines: {{metrics: {{receivers: [otlp], processors: [{stages}], exporters: [{exporter}]}}}}
",
        receiver = more(&setup.receiver),
        sending_queue = more(&setup.sending_queue),
        more_exporter = more(&setup.exporter),
        stages = stages.join(", "),
    )
}
