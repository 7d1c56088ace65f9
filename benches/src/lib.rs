//! Payloads for the benches: process metrics as the Collector's hostmetrics receiver emits them.

use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape, Temporality};

/// The data points of one process in [`process_metrics`].
pub const POINTS_PER_PROCESS: usize = 9;

const SCOPE: &str = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/hostmetricsreceiver/internal/scraper/processscraper";
const CUMULATIVE: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
const LEVEL: Shape = Shape::Sum { monotonic: false, temporality: Temporality::Cumulative };

const CPU_TIME: Descriptor<'_> = Descriptor {
    name: "process.cpu.time",
    unit: "s",
    description: "Total CPU seconds broken down by different states.",
    shape: CUMULATIVE,
};
const DISK_IO: Descriptor<'_> =
    Descriptor { name: "process.disk.io", unit: "By", description: "Disk bytes transferred.", shape: CUMULATIVE };
const MEMORY_USAGE: Descriptor<'_> = Descriptor {
    name: "process.memory.usage",
    unit: "By",
    description: "The amount of physical memory in use.",
    shape: LEVEL,
};
const MEMORY_VIRTUAL: Descriptor<'_> =
    Descriptor { name: "process.memory.virtual", unit: "By", description: "Virtual memory size.", shape: LEVEL };
const THREADS: Descriptor<'_> =
    Descriptor { name: "process.threads", unit: "{threads}", description: "Process threads count.", shape: LEVEL };
const OPEN_FILES: Descriptor<'_> = Descriptor {
    name: "process.open_file_descriptors",
    unit: "{count}",
    description: "Number of file descriptors in use by the process.",
    shape: LEVEL,
};

/// An export request with [`POINTS_PER_PROCESS`] points for each of `processes` processes, about 149 bytes a point.
pub fn process_metrics(processes: usize) -> Vec<u8> {
    let names = ["postgres", "nginx", "kworker", "java", "containerd-shim", "python3", "sshd", "node"];
    let time = 1_763_690_000_000_000_000;
    let mut builder = BatchBuilder::with_capacity(processes * POINTS_PER_PROCESS * 160);
    for (i, name) in (0..processes).zip(names.iter().cycle()) {
        let pid = 1_000 + 7 * i as i64;
        let start = time - (i as u64 + 1) * 3_600_000_000;
        let value = |n: u64| Number::Int((i as u64 * 4_096 * n) as i64);
        let mut resource = builder.resource();
        resource.schema_url("https://opentelemetry.io/schemas/1.9.0");
        resource
            .attribute("process.pid", pid)
            .attribute("process.parent_pid", pid / 3)
            .attribute("process.executable.name", *name)
            .attribute("process.executable.path", &format!("/usr/lib/{name}/bin/{name}"))
            .attribute("process.command", &format!("/usr/lib/{name}/bin/{name}"))
            .attribute("process.command_line", &format!("/usr/lib/{name}/bin/{name} --config /etc/{name}/{i}.conf"))
            .attribute("process.owner", "service");
        let mut scope = resource.scope(SCOPE, "0.145.0");
        let mut cpu = scope.metric(&CPU_TIME);
        for (n, state) in ["user", "system", "wait"].into_iter().enumerate() {
            cpu.point(start, time, Number::Double(i as f64 * 0.01 + n as f64), &[("state", state.into())]);
        }
        drop(cpu);
        scope.metric(&MEMORY_USAGE).point(start, time, value(3), &[]);
        scope.metric(&MEMORY_VIRTUAL).point(start, time, value(9), &[]);
        let mut disk = scope.metric(&DISK_IO);
        disk.point(start, time, value(5), &[("direction", "read".into())]);
        disk.point(start, time, value(7), &[("direction", "write".into())]);
        drop(disk);
        scope.metric(&THREADS).point(start, time, Number::Int(i as i64 % 40 + 1), &[]);
        scope.metric(&OPEN_FILES).point(start, time, Number::Int(i as i64 % 900 + 3), &[]);
    }
    builder.finish().encode().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_has_the_size_that_limits_were_measured_with() {
        let bytes = process_metrics(1_000);
        let per_point = bytes.len() as f64 / (1_000 * POINTS_PER_PROCESS) as f64;
        assert!((135.0..165.0).contains(&per_point), "{per_point} bytes a point");
    }
}
