//! The sink and the checker written in Python: what the agent sends, decoded and judged by somebody else.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{PATIENCE, Room, Running, required, runs, until};

/// Whether Python can decode OTLP.
pub fn python() -> bool {
    let import = "import opentelemetry.proto.collector.metrics.v1.metrics_service_pb2";
    required("Python's opentelemetry-proto", runs("python3", &["-c", import]))
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python")).join(name)
}

/// `otlp_sink.py` at work.
pub struct Sink {
    running: Running,
    folder: PathBuf,
    pub http: u16,
    /// `None` where Python has no gRPC.
    pub grpc: Option<u16>,
    /// Whether it can decompress zstd.
    pub zstd: bool,
}

impl Sink {
    pub fn start(room: &Room) -> Self {
        let folder = room.path("sink");
        std::fs::create_dir(&folder).expect("one sink a room");
        let mut command = Command::new("python3");
        // No compiled files beside the scripts: the source folder is not the test's to write to.
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script("otlp_sink.py")).arg(&folder);
        let mut running = room.start("sink", &mut command);
        let ports: Value = until("the sink's ports", PATIENCE, || {
            running.assert_running();
            serde_json::from_str(&running.stdout()).ok()
        });
        let port = |name: &str| ports[name].as_u64().and_then(|port| u16::try_from(port).ok());
        let http = port("http").expect("the sink says its port");
        Sink { running, folder, http, grpc: port("grpc"), zstd: ports["zstd"] == true }
    }

    /// What is known of each request that came by this exporter, oldest first: `transport`, `encoding`, `headers`, ...
    /// The exporter says its name in the header `x-road`.
    pub fn requests(&self, road: &str) -> Vec<Value> {
        let metas = self.files(&["meta"]);
        let metas = metas.iter().filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok());
        metas.filter(|meta: &Value| meta["headers"]["x-road"].as_str().unwrap_or_default() == road).collect()
    }

    /// Waits until this many more requests have come by each of the roads.
    pub fn wait_for(&self, roads: &[&str], more: usize) {
        let wanted: Vec<usize> = roads.iter().map(|road| self.requests(road).len() + more).collect();
        until(&format!("{more} more requests by each of {roads:?}"), PATIENCE, || {
            let all = roads.iter().zip(&wanted).all(|(road, wanted)| self.requests(road).len() >= *wanted);
            all.then_some(())
        });
    }

    /// The decompressed bodies of all requests.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.files(&["pb", "json"]).iter().map(|path| std::fs::read(path).expect("the sink's file")).collect()
    }

    fn files(&self, suffixes: &[&str]) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).expect("the sink's folder").flatten().map(|entry| entry.path());
        let wanted = |path: &PathBuf| {
            path.extension().and_then(|suffix| suffix.to_str()).is_some_and(|suffix| suffixes.contains(&suffix))
        };
        let mut files: Vec<PathBuf> = entries.filter(wanted).filter(|path| !path.ends_with("proc.jsonl")).collect();
        files.sort();
        files
    }

    /// Ends the sink and lets `otlp_check.py` judge what it kept, with these arguments; returns how much was compared.
    pub fn check(&mut self, arguments: &[&str]) -> Value {
        self.running.end();
        let mut command = Command::new("python3");
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script("otlp_check.py")).arg(&self.folder).args(arguments);
        let output = command.output().expect("python3 runs");
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "the checker found:\n{said}{errors}");
        serde_json::from_str(&said).expect("the checker prints JSON")
    }
}
