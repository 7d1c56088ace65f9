//! The `memory` scraper: `/proc/meminfo`.
//!
//! Used is what is not available (`MemTotal - MemAvailable`), and cached includes reclaimable slab, both as the Collector
//! counts; so the v0 states overlap (slab_reclaimable is inside cached) and are not meant to be summed.

use phoenix_telemetry::{Number, ScopeBuilder};

use super::catalog::{Attribute, Form, GAUGE, Label, Member, MetricsSettings, Plan, Row, UP_DOWN, ValueType, int};
use super::reading::{ReadError, Reading, Text};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "memory";

const STATE: Attribute = Attribute {
    v0: Some("state"),
    v1: Some("system.memory.state"),
    members: &[
        Member::same("used"),
        Member::same("free"),
        Member::renamed("buffered", "buffers"),
        Member::same("cached"),
        Member::v0_only("slab_reclaimable"),
        Member::v0_only("slab_unreclaimable"),
    ],
};
const SLAB_STATE: Attribute = Attribute {
    v0: None,
    v1: Some("system.memory.linux.slab.state"),
    members: &[Member::same("reclaimable"), Member::same("unreclaimable")],
};
const PAGE_STATE: Attribute = Attribute {
    v0: Some("system.memory.linux.hugepages.state"),
    v1: Some("system.memory.linux.hugepages.state"),
    members: &[Member::same("free"), Member::same("used")],
};

const fn row(name: &'static str, v1: &'static str, unit: &'static str, description: &'static str) -> Row {
    Row {
        scraper: NAME,
        v0: Some(Form { name, unit }),
        v1: Form { name: v1, unit },
        description,
        shape: UP_DOWN,
        value: ValueType::Int,
        enabled: false,
        attributes: &[],
    }
}

const USAGE: Row = Row {
    enabled: true,
    attributes: &[STATE],
    ..row("system.memory.usage", "system.memory.usage", "By", "Bytes of memory in use.")
};
const UTILIZATION: Row = Row {
    shape: GAUGE,
    value: ValueType::Double,
    attributes: &[STATE],
    ..row("system.memory.utilization", "system.memory.utilization", "1", "Percentage of memory bytes in use.")
};
const LIMIT: Row = row("system.memory.limit", "system.memory.limit", "By", "Total bytes of memory available.");
const PAGE_SIZE: Row = Row {
    shape: GAUGE,
    ..row(
        "system.memory.page_size",
        "system.memory.page_size",
        "By",
        "A constant value for the system's configured page size.",
    )
};
const AVAILABLE: Row = row(
    "system.linux.memory.available",
    "system.memory.linux.available",
    "By",
    "An estimate of how much memory is available for starting new applications, without swapping. This is a more accurate alternative than system.memory.usage with state=free. (Linux only)",
);
const DIRTY: Row = row(
    "system.linux.memory.dirty",
    "system.linux.memory.dirty",
    "By",
    "The amount of dirty memory according to `/proc/meminfo`.",
);
const SHARED: Row = row(
    "system.memory.linux.shared",
    "system.memory.linux.shared",
    "By",
    "Shared memory used (mostly by tmpfs), according to `/proc/meminfo`.",
);
const SLAB: Row = Row {
    v0: None,
    enabled: true,
    attributes: &[SLAB_STATE],
    ..row(
        "",
        "system.memory.linux.slab.usage",
        "By",
        "Memory used by the kernel for caches of its own data structures.",
    )
};
const HUGE_LIMIT: Row = row(
    "system.memory.linux.hugepages.limit",
    "system.memory.linux.hugepages.limit",
    "{page}",
    "Total number of hugepages available.",
);
const HUGE_USAGE: Row = Row {
    attributes: &[PAGE_STATE],
    ..row(
        "system.memory.linux.hugepages.usage",
        "system.memory.linux.hugepages.usage",
        "{page}",
        "Number of hugepages in use by state.",
    )
};
const HUGE_UTILIZATION: Row = Row {
    shape: GAUGE,
    value: ValueType::Double,
    attributes: &[PAGE_STATE],
    ..row(
        "system.memory.linux.hugepages.utilization",
        "system.memory.linux.hugepages.utilization",
        "1",
        "Percentage of hugepages in use by state.",
    )
};
const HUGE_RESERVED: Row = Row {
    shape: GAUGE,
    ..row(
        "system.memory.linux.hugepages.reserved",
        "system.memory.linux.hugepages.reserved",
        "{page}",
        "Number of hugepages that are promised but not yet allocated. They are counted among the free ones too.",
    )
};
const HUGE_SURPLUS: Row = Row {
    shape: GAUGE,
    ..row(
        "system.memory.linux.hugepages.surplus",
        "system.memory.linux.hugepages.surplus",
        "{page}",
        "Number of hugepages beyond the persistent pool. They are counted among the free or used ones too.",
    )
};
const HUGE_PAGE_SIZE: Row = Row {
    shape: GAUGE,
    ..row(
        "system.memory.linux.hugepages.page_size",
        "system.memory.linux.hugepages.page_size",
        "By",
        "System hugepage size in bytes.",
    )
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[
    USAGE,
    UTILIZATION,
    LIMIT,
    PAGE_SIZE,
    AVAILABLE,
    DIRTY,
    SHARED,
    SLAB,
    HUGE_LIMIT,
    HUGE_USAGE,
    HUGE_UTILIZATION,
    HUGE_RESERVED,
    HUGE_SURPLUS,
    HUGE_PAGE_SIZE,
];

/// What one reading of `/proc/meminfo` says, bytes or pages.
struct Memory {
    total: u64,
    free: u64,
    available: u64,
    buffers: u64,
    cached: u64,
    slab_reclaimable: u64,
    slab_unreclaimable: u64,
    dirty: u64,
    shared: u64,
    huge_total: u64,
    huge_free: u64,
    huge_reserved: u64,
    huge_surplus: u64,
    /// `None`: the kernel has no huge pages.
    huge_page_size: Option<u64>,
}

impl Memory {
    fn parse(text: Text<'_>) -> Result<Self, ReadError> {
        let or_zero = |name| Ok(text.value(name)?.unwrap_or_default());
        let (free, buffers) = (text.required("MemFree")?, text.required("Buffers")?);
        let slab_reclaimable = or_zero("SReclaimable")?;
        let cached = text.required("Cached")?.saturating_add(slab_reclaimable);
        Ok(Self {
            total: text.required("MemTotal")?,
            free,
            // Kernels before 3.14 do not estimate it.
            available: text.value("MemAvailable")?.unwrap_or(free.saturating_add(buffers).saturating_add(cached)),
            buffers,
            cached,
            slab_reclaimable,
            slab_unreclaimable: or_zero("SUnreclaim")?,
            dirty: or_zero("Dirty")?,
            shared: or_zero("Shmem")?,
            huge_total: or_zero("HugePages_Total")?,
            huge_free: or_zero("HugePages_Free")?,
            huge_reserved: or_zero("HugePages_Rsvd")?,
            huge_surplus: or_zero("HugePages_Surp")?,
            huge_page_size: text.value("Hugepagesize")?,
        })
    }

    /// In the order of the members of [`STATE`].
    fn states(&self) -> [u64; 6] {
        let used = self.total.saturating_sub(self.available);
        [used, self.free, self.buffers, self.cached, self.slab_reclaimable, self.slab_unreclaimable]
    }
}

pub(crate) struct MemoryScraper {
    meminfo: Reading,
    boot: u64,
    plans: Vec<(Of, Plan)>,
}

/// The values of one metric: by member of its attribute, or one without attributes.
enum Values {
    One(Number),
    States(Vec<Number>),
    None,
}

/// How a metric is had from a reading.
type Of = fn(&Memory) -> Values;

fn one(value: u64) -> Values {
    Values::One(int(value))
}

fn fractions(parts: &[u64], total: u64) -> Values {
    if total == 0 {
        return Values::None;
    }
    Values::States(parts.iter().map(|part| Number::Double(*part as f64 / total as f64)).collect())
}

fn ints(parts: &[u64]) -> Values {
    Values::States(parts.iter().map(|part| int(*part)).collect())
}

impl MemoryScraper {
    pub(crate) fn new(settings: &MetricsSettings, setup: &Setup<'_>) -> Self {
        let rows: [(&Row, Of); 14] = [
            (&USAGE, |m| ints(&m.states())),
            (&UTILIZATION, |m| fractions(&m.states(), m.total)),
            (&LIMIT, |m| one(m.total)),
            (&PAGE_SIZE, |_| one(procfs::page_size())),
            (&AVAILABLE, |m| one(m.available)),
            (&DIRTY, |m| one(m.dirty)),
            (&SHARED, |m| one(m.shared)),
            (&SLAB, |m| ints(&[m.slab_reclaimable, m.slab_unreclaimable])),
            (&HUGE_LIMIT, |m| one(m.huge_total)),
            (&HUGE_USAGE, |m| ints(&[m.huge_free, m.huge_total.saturating_sub(m.huge_free)])),
            (&HUGE_UTILIZATION, |m| fractions(&[m.huge_free, m.huge_total.saturating_sub(m.huge_free)], m.huge_total)),
            (&HUGE_RESERVED, |m| one(m.huge_reserved)),
            (&HUGE_SURPLUS, |m| one(m.huge_surplus)),
            (&HUGE_PAGE_SIZE, |m| m.huge_page_size.map_or(Values::None, one)),
        ];
        Self {
            meminfo: Reading::new(setup.root.proc.join("meminfo")),
            boot: setup.boot_unix_nanos,
            plans: rows.iter().filter_map(|(row, values)| Some((*values, row.plan(setup.naming, settings)?))).collect(),
        }
    }
}

impl HostScraper for MemoryScraper {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        let memory = match self.meminfo.text().and_then(Memory::parse) {
            Ok(memory) => memory,
            Err(error) => return tally.missed(self.plans.len(), error),
        };
        for (values, plan) in &self.plans {
            let mut metric = plan.open(scope);
            match values(&memory) {
                Values::One(value) => metric.point(self.boot, at.unix_nanos, value, &[]),
                Values::States(values) => {
                    for (state, value) in values.into_iter().enumerate() {
                        metric.point(self.boot, at.unix_nanos, value, &[Label::Member(state)]);
                    }
                }
                Values::None => {}
            }
            tally.wrote(metric.finish());
        }
    }
}
