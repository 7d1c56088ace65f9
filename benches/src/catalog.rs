//! What each config of `configs/catalog` keeps, folds and saves on the synthetic host, read from what leaves its chain.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use phoenix_pipeline::config::{Value, parse};
use phoenix_pipeline::{ComponentId, Context, Delivery, Marks, Processor, Site};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{AnyValue, Batch, Limits, Point};

use crate::host::{Host, INTERVAL, Used};

/// Processes of the host.
const PROCESSES: usize = 1_000;
/// Scrapes that are measured, behind those in which windows fill.
const SCRAPES: usize = 12;
const FIRST: usize = 7;
/// The leaders by CPU that should be individual.
const TOP: usize = 20;
/// Stages that do not thin.
const OTHERS: [&str; 2] = ["memory_limiter", "resource_detection"];

/// A config that cannot be measured.
#[derive(Debug)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// What was measured of one config: means over the scrapes, and parts of the whole from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    series_in: f64,
    series_out: f64,
    individual: f64,
    cpu: f64,
    memory: f64,
    io: f64,
    recall: f64,
    precision: f64,
}

impl Figures {
    /// The lines of a config's header that hold its figures.
    pub fn header(&self) -> String {
        let [saved, cpu, memory, io, recall, precision] = self.percent();
        let Figures { series_in, series_out, individual, .. } = self;
        let series = format!("# Shown:  {series_out:.0} of {series_in:.0} process series leave, {saved} % less; ");
        if *individual == 0.0 {
            return format!("{series}no process stays individual.\n");
        }
        format!(
            "{series}{individual:.0} of {PROCESSES} processes stay individual, with\n\
             #         {cpu} % of CPU, {memory} % of memory and {io} % of disk I/O. Of the true top {TOP} by CPU {recall} % are among them,\n\
             #         and {precision} % of them are of that top {TOP}.\n"
        )
    }

    /// The row of the table of all configs.
    pub fn row(&self, name: &str) -> String {
        let [saved, cpu, memory, io, recall, precision] = self.percent();
        let Figures { series_in, series_out, individual, .. } = self;
        let precision = if *individual == 0.0 { "-".to_owned() } else { format!("{precision} %") };
        format!(
            "| `{name}` | {series_out:.0} of {series_in:.0} | {saved} % | {individual:.0} | {cpu} % | {memory} % | {io} % | {recall} % | {precision} |"
        )
    }

    /// Series saved, shares of CPU, memory and I/O, recall and precision, in whole percent.
    fn percent(&self) -> [String; 6] {
        let saved = 1.0 - self.series_out / self.series_in;
        [saved, self.cpu, self.memory, self.io, self.recall, self.precision].map(|part| format!("{:.0}", part * 100.0))
    }
}

/// The head of that table.
pub const TABLE: &str = "| Config | Series out of series in | Less | Processes individual | CPU | Memory | Disk I/O | Recall of the top 20 | Precision |\n|---|---|---|---|---|---|---|---|---|";

/// Measures every config of the catalog on the same scrapes; by name.
///
/// # Errors
/// The folder cannot be read, or a file of it is no config or has a stage that cannot be built.
pub fn measure() -> Result<Vec<(String, Figures)>, Unusable> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/catalog");
    let fail = |error: std::io::Error| Unusable(format!("{}: {error}", folder.display()));
    let mut measured = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(fail)? {
        measured.push(Measured::new(&entry.map_err(fail)?.path())?);
    }
    measured.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut host, mut now) = (Host::new(PROCESSES), Instant::now());
    for scrape in 0..FIRST + SCRAPES {
        let used = host.pass();
        let bytes = Bytes::from(host.scrape());
        now += Duration::from_secs(INTERVAL);
        for config in &mut measured {
            let batch = Batch::decode(bytes.clone(), &Limits::default());
            config.scrape(batch.map_err(|error| Unusable(error.to_string()))?, &used, now, scrape >= FIRST);
        }
    }
    Ok(measured.into_iter().map(|config| (config.name.clone(), config.figures())).collect())
}

/// A config under measurement.
struct Measured {
    name: String,
    stages: Vec<Box<dyn Processor>>,
    reader: Reader,
    /// Sums over the scrapes, and of what they are parts.
    sum: Figures,
    of: Figures,
}

impl Measured {
    fn new(path: &Path) -> Result<Self, Unusable> {
        let fail = |error: String| Unusable(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let config = parse("catalog", &text).map_err(|mistakes| fail(format!("{mistakes:?}")))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let stages = stages(&config).map_err(fail)?;
        let (sum, of) = (Figures::default(), Figures::default());
        Ok(Measured { name, stages, reader: Reader::default(), sum, of })
    }

    fn scrape(&mut self, mut batch: Batch, used: &[Used], now: Instant, counts: bool) {
        let series_in = batch.points();
        let (mut marks, mut delivery) = (Marks::default(), Delivery::none());
        for stage in &mut self.stages {
            stage.process(&mut batch, &mut Context { now, delivery: &mut delivery, marks: &mut marks });
        }
        let seen = self.reader.read(&batch);
        if !counts {
            return;
        }
        let Measured { sum, of, .. } = self;
        let top = top(used);
        sum.series_in += series_in as f64;
        sum.series_out += seen.series as f64;
        sum.individual += seen.pids.len() as f64;
        sum.recall += top.intersection(&seen.pids).count() as f64;
        of.recall += top.len() as f64;
        sum.cpu += seen.cpu;
        sum.memory += seen.memory;
        sum.io += seen.io;
        for used in used {
            of.cpu += used.cpu;
            of.memory += used.memory;
            of.io += used.io;
        }
    }

    fn figures(&self) -> Figures {
        let Measured { sum, of, .. } = self;
        let mean = |sum: f64| sum / SCRAPES as f64;
        Figures {
            series_in: mean(sum.series_in),
            series_out: mean(sum.series_out),
            individual: mean(sum.individual),
            cpu: sum.cpu / of.cpu,
            memory: sum.memory / of.memory,
            io: sum.io / of.io,
            recall: sum.recall / of.recall,
            precision: sum.recall / sum.individual.max(1.0),
        }
    }
}

/// The stages of the config's pipeline that thin.
fn stages(config: &Value) -> Result<Vec<Box<dyn Processor>>, String> {
    let at = |path: &[&str]| path.iter().try_fold(config, |value, key| value.get(key));
    let chain = at(&["service", "pipelines", "metrics", "processors"]).and_then(Value::as_seq);
    let chain = chain.ok_or("it has no pipeline `metrics`")?;
    let site = Site::for_test("catalog");
    let build = |id: &str| {
        let settings = at(&["processors", id]).ok_or(format!("{id} is not configured"))?;
        let site = Site { id: ComponentId::new(id), ..site.clone() };
        let factory = PROCESSORS.iter().find(|factory| factory.answers_to(site.id.kind()));
        let factory = factory.ok_or(format!("{id} is no processor"))?;
        (factory.build)(settings, &site).map_err(|error| format!("{id}: {error:?}"))
    };
    chain.iter().filter_map(Value::as_str).filter(|id| !OTHERS.contains(id)).map(build).collect()
}

/// The processes that used most CPU.
fn top(used: &[Used]) -> BTreeSet<i64> {
    let mut all: Vec<&Used> = used.iter().collect();
    all.sort_by(|a, b| b.cpu.total_cmp(&a.cpu));
    all.iter().take(TOP).map(|used| used.pid).collect()
}

/// What a backend sees of one scrape.
#[derive(Default)]
struct Seen {
    series: usize,
    /// The processes that are there individually, and what they used and hold.
    pids: BTreeSet<i64>,
    cpu: f64,
    memory: f64,
    io: f64,
}

/// A backend that adds up counters as the ledger's first reader does: differences within a start, and the whole value of
/// a start after it began to look.
#[derive(Default)]
struct Reader {
    began: Option<u64>,
    last: HashMap<u64, (u64, f64)>,
}

impl Reader {
    fn read(&mut self, batch: &Batch) -> Seen {
        let mut seen = Seen::default();
        for point in batch.series().filter(|point| !point.no_recorded_value()) {
            seen.series += 1;
            let Some(AnyValue::Int(pid)) = point.metric().resource().attributes().get("process.pid") else { continue };
            seen.pids.insert(pid);
            match point.metric().name() {
                "process.cpu.time" => seen.cpu += self.added(point),
                "process.disk.io" => seen.io += self.added(point),
                "process.memory.usage" => seen.memory += value(point),
                _ => {}
            }
        }
        seen
    }

    fn added(&mut self, point: Point<'_>) -> f64 {
        let (start, value) = (point.start_time(), value(point));
        let began = *self.began.get_or_insert(point.time());
        match self.last.insert(point.series(), (start, value)) {
            Some((before, old)) if before == start => value - old,
            _ if (began..point.time()).contains(&start) => value,
            _ => 0.0,
        }
    }
}

fn value(point: Point<'_>) -> f64 {
    point.value().map_or(0.0, |value| value.as_f64())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `cargo run --release -p phoenix-benches --bin catalog` prints what is to stand there.
    #[test]
    fn the_headers_and_the_table_hold_what_is_measured() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/thinning.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        assert!(docs.contains(TABLE), "docs/thinning.md has no table with this head:\n{TABLE}");
        let measured = measure().unwrap();
        assert_eq!(measured.len(), 5);
        for (name, figures) in measured {
            let (path, header) = (format!("../configs/catalog/{name}.yaml"), figures.header());
            let file = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
            assert!(file.contains(&header), "{name} should say:\n{header}");
            let row = figures.row(&name);
            assert!(docs.contains(&row), "docs/thinning.md should say:\n{row}");
        }
    }
}
