//! The metrics of the `process` scraper: names, units, attributes and defaults, in both namings.

use phoenix_telemetry::Number;

use crate::hostmetrics::catalog::{Attribute, COUNTER, Form, GAUGE, Member, Row, UP_DOWN, ValueType};

const NAME: &str = "process";

const STATE: Attribute = Attribute {
    v0: Some("state"),
    v1: Some("cpu.mode"),
    members: &[Member::same("user"), Member::same("system"), Member::renamed("wait", "iowait")],
};
const DIRECTION: Attribute = Attribute {
    v0: Some("direction"),
    v1: Some("disk.io.direction"),
    members: &[Member::same("read"), Member::same("write")],
};
const FAULT: Attribute = Attribute {
    v0: Some("type"),
    v1: Some("system.paging.fault.type"),
    members: &[Member::same("major"), Member::same("minor")],
};
const SWITCH: Attribute = Attribute {
    v0: Some("type"),
    v1: Some("process.context_switch.type"),
    members: &[Member::same("involuntary"), Member::same("voluntary")],
};

const fn row(
    name: &'static str,
    unit: &'static str,
    v1: Form,
    description: &'static str,
    attributes: &'static [Attribute],
) -> Row {
    Row {
        scraper: NAME,
        v0: Some(Form { name, unit }),
        v1,
        description,
        shape: COUNTER,
        value: ValueType::Int,
        enabled: false,
        attributes,
    }
}

const fn form(name: &'static str, unit: &'static str) -> Form {
    Form { name, unit }
}

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[
    Row {
        value: ValueType::Double,
        enabled: true,
        ..row(
            "process.cpu.time",
            "s",
            form("process.cpu.time", "s"),
            "Total CPU seconds broken down by different states.",
            &[STATE],
        )
    },
    Row {
        shape: GAUGE,
        value: ValueType::Double,
        ..row(
            "process.cpu.utilization",
            "1",
            form("process.cpu.utilization", "1"),
            "Percentage of total CPU time used by the process since last scrape, expressed as a value between 0 and 1. On the first scrape, no data point is emitted for this metric.",
            &[STATE],
        )
    },
    Row {
        shape: UP_DOWN,
        enabled: true,
        ..row(
            "process.memory.usage",
            "By",
            form("process.memory.usage", "By"),
            "The amount of physical memory in use.",
            &[],
        )
    },
    Row {
        shape: UP_DOWN,
        enabled: true,
        ..row("process.memory.virtual", "By", form("process.memory.virtual", "By"), "Virtual memory size.", &[])
    },
    Row {
        shape: GAUGE,
        value: ValueType::Double,
        ..row(
            "process.memory.utilization",
            "1",
            form("process.memory.utilization", "1"),
            "Share of total physical memory that is used by the process, expressed as a value between 0 and 1.",
            &[],
        )
    },
    Row {
        enabled: true,
        ..row("process.disk.io", "By", form("process.disk.io", "By"), "Disk bytes transferred.", &[DIRECTION])
    },
    row(
        "process.disk.operations",
        "{operations}",
        form("process.disk.operations", "{operation}"),
        "Number of disk operations performed by the process.",
        &[DIRECTION],
    ),
    row(
        "process.paging.faults",
        "{faults}",
        form("process.paging.faults", "{fault}"),
        "Number of page faults the process has made.",
        &[FAULT],
    ),
    row(
        "process.context_switches",
        "{count}",
        form("process.context_switches", "{context_switch}"),
        "Number of times the main thread of the process has been context switched.",
        &[SWITCH],
    ),
    Row {
        shape: UP_DOWN,
        ..row(
            "process.open_file_descriptors",
            "{count}",
            form("process.unix.file_descriptor.count", "{file_descriptor}"),
            "Number of file descriptors in use by the process.",
            &[],
        )
    },
    Row {
        shape: UP_DOWN,
        ..row("process.threads", "{threads}", form("process.thread.count", "{thread}"), "Process threads count.", &[])
    },
    Row {
        shape: UP_DOWN,
        ..row(
            "process.signals_pending",
            "{signals}",
            form("process.signals_pending", "{signal}"),
            "Number of pending signals for the process.",
            &[],
        )
    },
    Row {
        shape: GAUGE,
        value: ValueType::Double,
        ..row("process.uptime", "s", form("process.uptime", "s"), "The time the process has been running.", &[])
    },
];

/// How many metrics there are.
pub(crate) const METRICS: usize = 13;

/// More points than a process has.
pub(crate) const MAX_POINTS: usize = 3 * METRICS;

/// A metric: its place in [`ROWS`], which stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    CpuTime,
    CpuUtilization,
    MemoryUsage,
    MemoryVirtual,
    MemoryUtilization,
    DiskIo,
    DiskOperations,
    PagingFaults,
    ContextSwitches,
    OpenFileDescriptors,
    Threads,
    SignalsPending,
    Uptime,
}

/// How many points a metric has per process: one per member of its attribute.
pub(crate) fn arity(metric: usize) -> usize {
    ROWS.get(metric).map_or(0, |row| row.attributes.first().map_or(1, |attribute| attribute.members.len()))
}

/// What was read of one process; a metric without values could not be read, or is not wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    points: [Option<[Number; 3]>; METRICS],
    /// Bit `i`: row `i` was not looked at, and goes on as it was.
    left: u16,
}

impl Values {
    /// Nothing: every series of the process ends.
    pub(crate) const NONE: Values = Values { points: [None; METRICS], left: 0 };

    /// Sets the points of a metric, in the order of the members of its attribute.
    pub(crate) fn set(&mut self, metric: Metric, values: &[Number]) {
        debug_assert_eq!(values.len(), arity(metric as usize));
        let mut all = [Number::Int(0); 3];
        for (slot, value) in all.iter_mut().zip(values) {
            *slot = *value;
        }
        if let Some(slot) = self.points.get_mut(metric as usize) {
            *slot = Some(all);
        }
    }

    /// The points of the metric at `index` of [`ROWS`].
    pub(crate) fn get(&self, index: usize) -> Option<&[Number]> {
        self.points.get(index)?.as_ref()?.get(..arity(index))
    }

    /// Leaves metrics for a later scrape: they have no points now, and do not end.
    pub(crate) fn leave(&mut self, metrics: &[Metric]) {
        metrics.iter().for_each(|metric| self.left |= 1 << *metric as usize);
    }

    /// Whether the metric at `index` of [`ROWS`] was left for a later scrape.
    pub(crate) fn is_left(&self, index: usize) -> bool {
        self.left & (1 << index) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_metrics() {
        assert_eq!(ROWS.len(), METRICS);
        let name = |metric: Metric| ROWS[metric as usize].v0.unwrap().name;
        assert_eq!(name(Metric::CpuTime), "process.cpu.time");
        assert_eq!(name(Metric::DiskIo), "process.disk.io");
        assert_eq!(name(Metric::OpenFileDescriptors), "process.open_file_descriptors");
        assert_eq!(name(Metric::Uptime), "process.uptime");
        assert_eq!(
            (arity(Metric::CpuTime as usize), arity(Metric::DiskIo as usize), arity(Metric::Threads as usize)),
            (3, 2, 1)
        );
    }

    #[test]
    fn four_metrics_are_on_by_default_as_in_the_collector() {
        let on: Vec<&str> = ROWS.iter().filter(|row| row.enabled).map(|row| row.v1.name).collect();
        assert_eq!(on, ["process.cpu.time", "process.memory.usage", "process.memory.virtual", "process.disk.io"]);
    }
}
