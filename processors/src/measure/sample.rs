//! A made-up host for the tests of the marking stages: processes as the `process` scraper sends them, nine points each
//! and, where a test asks for it, two of utilization.

use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, ScopeBuilder, Shape, Temporality};

/// One second in the unit of point times.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// When the scrapes begin: a real date, so that starts lie before it.
pub(crate) const BEGIN: u64 = 1_750_000_000 * SECOND;

const CUMULATIVE: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
const LEVEL: Shape = Shape::Sum { monotonic: false, temporality: Temporality::Cumulative };

/// A process and its totals.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i64,
    pub(crate) name: String,
    /// Seconds before (below 0) or after [`BEGIN`].
    pub(crate) born: i64,
    pub(crate) cpu: f64,
    pub(crate) memory: i64,
    pub(crate) io: i64,
    /// Share of the host's CPUs used since the scrape before; sent only where there is one.
    pub(crate) utilization: Option<f64>,
}

impl Process {
    pub(crate) fn new(pid: i64, name: &str, born: i64) -> Self {
        Process { pid, name: name.to_owned(), born, cpu: 0.0, memory: 0, io: 0, utilization: None }
    }
}

/// The time of the scrape at `second`.
pub(crate) fn at(second: i64) -> u64 {
    BEGIN.saturating_add_signed(second * SECOND as i64)
}

fn metric(
    scope: &mut ScopeBuilder<'_>,
    (name, unit, shape): (&str, &str, Shape),
    start: u64,
    time: u64,
    points: &[(Number, &[(&str, AnyValue<'_>)])],
) {
    let mut metric = scope.metric(&Descriptor { name, unit, description: "", shape });
    for (value, attributes) in points {
        metric.point(start, time, *value, attributes);
    }
}

/// The processes of a host as of a second.
pub(crate) fn scrape<'p>(host: &str, second: i64, processes: impl IntoIterator<Item = &'p Process>) -> Batch {
    let mut builder = BatchBuilder::new();
    for process in processes {
        let mut resource = builder.resource();
        resource.attribute("host.name", host).attribute("process.pid", process.pid);
        resource.attribute("process.executable.name", process.name.as_str());
        resource.attribute("process.owner", "root");
        let (start, time) = (at(process.born), at(second));
        let (cpu, int) = (Number::Double, Number::Int);
        let state = |name| [("state", AnyValue::Str(name))];
        let direction = |name| [("disk.io.direction", AnyValue::Str(name))];
        let scope = &mut resource.scope("process", "");
        let (user, system) = (process.cpu * 0.75, process.cpu * 0.25);
        let points: [(Number, &[_]); 2] = [(cpu(user), &state("user")), (cpu(system), &state("system"))];
        metric(scope, ("process.cpu.time", "s", CUMULATIVE), start, time, &points);
        if let Some(share) = process.utilization {
            let points: [(Number, &[_]); 2] =
                [(cpu(share * 0.75), &state("user")), (cpu(share * 0.25), &state("system"))];
            metric(scope, ("process.cpu.utilization", "1", Shape::Gauge), start, time, &points);
        }
        let points: [(Number, &[_]); 2] =
            [(int(process.io / 2), &direction("read")), (int(process.io - process.io / 2), &direction("write"))];
        metric(scope, ("process.disk.io", "By", CUMULATIVE), start, time, &points);
        for (name, value) in [
            ("process.memory.usage", process.memory),
            ("process.memory.virtual", process.memory * 3),
            ("process.threads", 4),
            ("process.unix.file_descriptor.count", 9),
            ("process.signals_pending", 0),
        ] {
            metric(scope, (name, "1", LEVEL), start, time, &[(int(value), &[])]);
        }
    }
    builder.finish()
}
