//! What a queue costs an agent that relays OTLP: how fast requests go in, through the queue and out, for each setting of `ack`
//! and of the disk.
//!
//! `cargo run --release -p phoenix-exporters --example relay -- PHOENIX DIRECTORY [SECONDS] [ROUNDS]`: starts the program
//! PHOENIX with its queue in DIRECTORY for every row in turn, in each round anew, and prints medians; with clients and a
//! backend that do as little as they can. It needs nothing but the standard library, so that it takes as little as possible
//! of the machine it measures.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;

/// A row: its name, the receiver's `ack`, the settings of `file_storage` where there is one.
const ROWS: [(&str, &str, Option<&str>); 7] = [
    ("memory", "on_queue", None),
    ("memory", "on_export", None),
    ("disk, fsync_interval 100ms", "on_queue", Some("")),
    ("disk, fsync_interval 100ms", "on_disk", Some("")),
    ("disk, fsync_interval 100ms", "on_export", Some("")),
    ("disk, fsync_interval 1s", "on_disk", Some(", fsync_interval: 1s")),
    ("disk, fsync: true", "on_disk", Some(", fsync: true")),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [phoenix, directory, more @ ..] = &arguments[..] else {
        return Err("usage: relay PHOENIX DIRECTORY [SECONDS] [ROUNDS]".into());
    };
    let number = |place: usize, default: usize| more.get(place).map_or(Ok(default), |text| text.parse());
    let (time, rounds) = (Duration::from_secs(number(0, 5)? as u64), number(1, 1)?.max(1));
    let sink = Sink::start()?;
    println!("| request | queue | ack | MB/s | of memory | requests/s | median answer, ms | CPU, s/GB |");
    println!("|---|---|---|---|---|---|---|---|");
    for (size, body) in [("13 KB", request(13_000)), ("1.3 MB", request(1_300_000))] {
        let mut figures = ROWS.map(|_| Vec::new());
        // In turn, so that what else the machine does meets all rows alike.
        for _ in 0..rounds {
            for ((_, ack, storage), figures) in ROWS.into_iter().zip(&mut figures) {
                let room = Path::new(directory).join(format!("relay-{}", std::process::id()));
                fs::create_dir_all(&room)?;
                let mut agent = Agent::start(Path::new(phoenix), &room, &sink, ack, storage)?;
                let run = run(&agent, &sink, &body, time);
                agent.child.kill()?;
                agent.child.wait()?;
                fs::remove_dir_all(&room)?;
                figures.push(run?);
            }
        }
        let [best, ..] = median(&figures[0]);
        for ((queue, ack, _), figures) in ROWS.iter().zip(&figures) {
            let [speed, answer, cpu] = median(figures);
            let (ratio, requests) = (speed / best, speed * 1e6 / body.len() as f64);
            println!(
                "| {size} | {queue} | `{ack}` | {speed:.0} | {ratio:.2} | {requests:.0} | {answer:.1} | {cpu:.1} |"
            );
        }
    }
    Ok(())
}

/// MB/s, median milliseconds until the answer, seconds of CPU for a GB.
type Figures = [f64; 3];

/// The median of each figure.
fn median(rounds: &[Figures]) -> Figures {
    [0, 1, 2].map(|figure| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[figure]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

/// Sends for a time and waits until all that was taken has arrived.
fn run(agent: &Agent, sink: &Sink, body: &[u8], time: Duration) -> Result<Figures, Box<dyn Error>> {
    let before = sink.bytes.load(Ordering::Relaxed);
    let (cpu, began) = (agent.cpu()?, Instant::now());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (port, body) = (agent.port, body.to_vec());
            thread::spawn(move || client(port, &body, began + time))
        })
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.join().map_err(|_| "a client panicked")??);
    }
    let sent = (answers.len() * body.len()) as u64;
    while sink.bytes.load(Ordering::Relaxed) - before < sent {
        if began.elapsed() > time * 4 + Duration::from_secs(20) {
            return Err("what was taken does not arrive".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), agent.cpu()? - cpu);
    answers.sort_unstable();
    let median = answers.get(answers.len() / 2).map_or(0.0, |answer| answer.as_secs_f64() * 1e3);
    let megabytes = sent as f64 / 1e6;
    Ok([megabytes / took, median, cpu / megabytes * 1e3])
}

/// Sends the request again and again; how long each that was taken waited for its answer.
fn client(port: u16, body: &[u8], end: Instant) -> io::Result<Vec<Duration>> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
    stream.get_ref().set_nodelay(true)?;
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut answers = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().write_all(body)?;
        let (status, _) = message(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match status.split(' ').nth(1) {
            Some("200") => answers.push(began.elapsed()),
            // The queue is full: later.
            Some("429" | "503") => thread::sleep(Duration::from_millis(2)),
            _ => return Err(io::Error::other(status)),
        }
    }
    Ok(answers)
}

/// The first line and the body's length of the next HTTP message, read to its end.
fn message(stream: &mut BufReader<TcpStream>) -> io::Result<Option<(String, u64)>> {
    let (mut first, mut length) = (String::new(), 0);
    if stream.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    io::copy(&mut stream.take(length), &mut io::sink())?;
    Ok(Some((first, length)))
}

/// A backend that takes everything.
struct Sink {
    port: u16,
    bytes: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (port, bytes) = (listener.local_addr()?.port(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&bytes);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || {
                    let mut stream = BufReader::with_capacity(1 << 16, stream);
                    while let Ok(Some((_, length))) = message(&mut stream) {
                        counted.fetch_add(length, Ordering::Relaxed);
                        if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Ok(Sink { port, bytes })
    }
}

/// The agent under load.
struct Agent {
    child: Child,
    port: u16,
}

impl Agent {
    fn start(
        phoenix: &Path,
        room: &Path,
        sink: &Sink,
        ack: &str,
        storage: Option<&str>,
    ) -> Result<Self, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (extension, started, queue) = match storage {
            None => (String::new(), "", ""),
            Some(more) => (
                format!("extensions: {{file_storage: {{directory: {:?}{more}}}}}\n", room),
                "extensions: [file_storage], ",
                ", sending_queue: {storage: file_storage}",
            ),
        };
        let config = format!(
            "receivers: {{otlp: {{ack: {ack}, protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"}}}}}}}}
exporters: {{otlp_http: {{endpoint: \"http://127.0.0.1:{}\", compression: none{queue}}}}}
{extension}service: {{{started}telemetry: {{metrics: {{level: none}}}}, pipelines: {{metrics: {{receivers: [otlp], exporters: [otlp_http]}}}}}}
",
            sink.port
        );
        let path = room.join("config.yaml");
        fs::write(&path, config)?;
        let child = Command::new(phoenix)
            .arg("--config")
            .arg(&path)
            .arg("--state-dir")
            .arg(room.join("state"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(room.join("log"))?)
            .spawn()?;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(fs::read_to_string(room.join("log"))?.into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Agent { child, port })
    }

    /// Seconds of CPU time so far.
    fn cpu(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / 100.0)
    }
}

/// An OTLP request of about this size: gauges of processes, 10 points each.
fn request(size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for process in 0.. {
        if bytes.len() >= size {
            break;
        }
        let attribute =
            |key: &str, value: &str| [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat();
        let resource = field(1, &attribute("process.pid", &process.to_string()));
        let points: Vec<u8> = (0..10u64)
            .flat_map(|point| {
                let time = 1_700_000_000_000_000_000 + point;
                let value = [&[0x19], &time.to_le_bytes()[..], &[0x31], &point.to_le_bytes()].concat();
                field(1, &[field(7, &attribute("state", &format!("state-{point}"))), value].concat())
            })
            .collect();
        let metric = [field(1, b"process.memory.usage"), field(3, b"By"), field(5, &points)].concat();
        let scope = field(2, &metric);
        bytes.extend(field(1, &[field(1, &resource), field(2, &scope)].concat()));
    }
    bytes
}

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}
