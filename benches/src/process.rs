//! One process as the Collector's hostmetrics receiver shows it, in bytes.

use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape, Temporality};

/// The data points of one process.
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

/// A process and what it has used since it started.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: i64,
    /// `process.executable.name`.
    pub name: String,
    /// Unix nanoseconds.
    pub start: u64,
    /// CPU seconds: user, system, waiting.
    pub cpu: [f64; 3],
    /// Resident bytes.
    pub memory: i64,
    /// Virtual bytes.
    pub memory_virtual: i64,
    /// Bytes read from and written to disks.
    pub io: [i64; 2],
    /// Threads.
    pub threads: i64,
    /// Open files.
    pub open_files: i64,
}

impl Process {
    /// Writes its [`POINTS_PER_PROCESS`] points as of `time`, Unix nanoseconds; about 149 bytes each.
    fn write(&self, builder: &mut BatchBuilder, time: u64, host: Option<&str>) {
        let Process { pid, name, start, .. } = self;
        let mut resource = builder.resource();
        resource.schema_url("https://opentelemetry.io/schemas/1.9.0");
        resource
            .attribute("process.pid", *pid)
            .attribute("process.parent_pid", pid / 3)
            .attribute("process.executable.name", name.as_str())
            .attribute("process.executable.path", &format!("/usr/lib/{name}/bin/{name}"))
            .attribute("process.command", &format!("/usr/lib/{name}/bin/{name}"))
            .attribute("process.command_line", &format!("/usr/lib/{name}/bin/{name} --config /etc/{name}/{pid}.conf"))
            .attribute("process.owner", "service");
        if let Some(host) = host {
            resource.attribute("host.name", host);
        }
        let mut scope = resource.scope(SCOPE, "0.145.0");
        let mut cpu = scope.metric(&CPU_TIME);
        for (seconds, state) in self.cpu.into_iter().zip(["user", "system", "wait"]) {
            cpu.point(*start, time, Number::Double(seconds), &[("state", state.into())]);
        }
        drop(cpu);
        let levels = [(MEMORY_USAGE, self.memory), (MEMORY_VIRTUAL, self.memory_virtual)];
        for (metric, value) in levels {
            scope.metric(&metric).point(*start, time, Number::Int(value), &[]);
        }
        let mut disk = scope.metric(&DISK_IO);
        for (bytes, direction) in self.io.into_iter().zip(["read", "write"]) {
            disk.point(*start, time, Number::Int(bytes), &[("direction", direction.into())]);
        }
        drop(disk);
        for (metric, value) in [(THREADS, self.threads), (OPEN_FILES, self.open_files)] {
            scope.metric(&metric).point(*start, time, Number::Int(value), &[]);
        }
    }
}

/// An export request with all points of these processes as of `time`, Unix nanoseconds, with this `host.name` if any.
pub(crate) fn request<'p>(processes: impl IntoIterator<Item = &'p Process>, time: u64, host: Option<&str>) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for process in processes {
        process.write(&mut builder, time, host);
    }
    builder.finish().encode().to_vec()
}

/// An export request of `processes` processes with as many different values.
pub fn process_metrics(processes: usize) -> Vec<u8> {
    let names = ["postgres", "nginx", "kworker", "java", "containerd-shim", "python3", "sshd", "node"];
    let time = 1_763_690_000_000_000_000;
    let process = |(i, name): (i64, &&str)| {
        let value = |n: i64| i * 4_096 * n;
        Process {
            pid: 1_000 + 7 * i,
            name: (*name).to_owned(),
            start: time - (i as u64 + 1) * 3_600_000_000,
            cpu: [0.0, 1.0, 2.0].map(|n| i as f64 * 0.01 + n),
            memory: value(3),
            memory_virtual: value(9),
            io: [value(5), value(7)],
            threads: i % 40 + 1,
            open_files: i % 900 + 3,
        }
    };
    let all: Vec<Process> = (0..processes as i64).zip(names.iter().cycle()).map(process).collect();
    request(&all, time, None)
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
