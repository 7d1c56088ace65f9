//! The `filesystem` scraper: sizes and inodes of what is mounted.
//!
//! Reserved is what only the superuser may use; utilization is what `df` shows: used / (used + free).

use std::path::{Path, PathBuf};
use std::time::Duration;

use phoenix_pipeline::config::Report;
use phoenix_telemetry::{Number, ScopeBuilder};
use serde::{Deserialize, Serialize};

use super::capacity::Asker;
use super::catalog::{
    Attribute, Form, GAUGE, Label, Member, MetricsSettings, Naming, Plan, Row, UP_DOWN, ValueType, int,
};
use super::mounts::{Mount, MountTable};
use super::names::{self, Filter, name_list};
use super::scraper::{HostScraper, Moment, Setup, Tally};
use super::statvfs::Capacity;

const NAME: &str = "filesystem";

name_list!(
    /// Devices as the `device` attribute shows them: `/dev/sda1`.
    Devices,
    devices
);
name_list!(
    /// File system types: `ext4`, `overlay`.
    FsTypes,
    fs_types
);
name_list!(
    /// Mount points as the host sees them, without `root_path`.
    MountPoints,
    mount_points
);

/// Settings of the scraper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Also file systems without a device of their own (tmpfs, overlay, proc) and bind mounts. Default false: their sizes are
    /// those of memory or of what they show again.
    pub include_virtual_filesystems: bool,
    /// Only these devices. Default: all.
    pub include_devices: Devices,
    /// Not these devices. Default: none is left out.
    pub exclude_devices: Devices,
    /// Only these types. Default: all.
    pub include_fs_types: FsTypes,
    /// Not these types. Default: none is left out.
    pub exclude_fs_types: FsTypes,
    /// Only these mount points. Default: all.
    pub include_mount_points: MountPoints,
    /// Not these mount points. Default: none is left out.
    pub exclude_mount_points: MountPoints,
    /// Switches per metric.
    pub metrics: MetricsSettings,
}

impl Config {
    pub(crate) fn check(&self, path: &str, report: &mut Report<'_>) {
        names::check(&self.include_devices, &format!("{path}.include_devices"), report);
        names::check(&self.exclude_devices, &format!("{path}.exclude_devices"), report);
        names::check(&self.include_fs_types, &format!("{path}.include_fs_types"), report);
        names::check(&self.exclude_fs_types, &format!("{path}.exclude_fs_types"), report);
        names::check(&self.include_mount_points, &format!("{path}.include_mount_points"), report);
        names::check(&self.exclude_mount_points, &format!("{path}.exclude_mount_points"), report);
    }
}

const STATES: &[Member] = &[Member::same("used"), Member::same("free"), Member::same("reserved")];
const DEVICE: Attribute = Attribute { v0: Some("device"), v1: Some("system.device"), members: &[] };
const MODE: Attribute = Attribute { v0: Some("mode"), v1: Some("system.filesystem.mode"), members: &[] };
const POINT: Attribute = Attribute { v0: Some("mountpoint"), v1: Some("system.filesystem.mountpoint"), members: &[] };
const TYPE: Attribute = Attribute { v0: Some("type"), v1: Some("system.filesystem.type"), members: &[] };
const STATE: Attribute = Attribute { v0: Some("state"), v1: Some("system.filesystem.state"), members: STATES };
const INODE_STATE: Attribute = Attribute {
    v0: Some("state"),
    v1: Some("system.filesystem.state"),
    members: &[Member::same("used"), Member::same("free")],
};
const NEW_STATE: Attribute = Attribute { v0: None, v1: Some("system.filesystem.state"), members: STATES };

const USAGE: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.filesystem.usage", unit: "By" }),
    v1: Form { name: "system.filesystem.usage", unit: "By" },
    description: "Filesystem bytes used.",
    shape: UP_DOWN,
    value: ValueType::Int,
    enabled: true,
    attributes: &[DEVICE, MODE, POINT, TYPE, STATE],
};
const INODES: Row = Row {
    v0: Some(Form { name: "system.filesystem.inodes.usage", unit: "{inodes}" }),
    v1: Form { name: "system.filesystem.inodes.usage", unit: "{inodes}" },
    description: "FileSystem inodes used.",
    attributes: &[DEVICE, MODE, POINT, TYPE, INODE_STATE],
    ..USAGE
};
const UTILIZATION: Row = Row {
    v0: Some(Form { name: "system.filesystem.utilization", unit: "1" }),
    v1: Form { name: "system.filesystem.utilization", unit: "1" },
    description: "Fraction of filesystem bytes used.",
    shape: GAUGE,
    value: ValueType::Double,
    enabled: false,
    attributes: &[DEVICE, MODE, POINT, TYPE, NEW_STATE],
    ..USAGE
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[USAGE, INODES, UTILIZATION];

pub(crate) struct Filesystem {
    table: MountTable,
    root: PathBuf,
    virtual_too: bool,
    devices: Filter,
    fs_types: Filter,
    points: Filter,
    asker: Asker,
    boot: u64,
    naming: Naming,
    usage: Option<Plan>,
    inodes: Option<Plan>,
    utilization: Option<Plan>,
}

impl Filesystem {
    pub(crate) fn new(config: &Config, timeout: Duration, setup: &Setup<'_>) -> Result<Self, String> {
        let plan = |row: &Row| row.plan(setup.naming, &config.metrics);
        Ok(Self {
            table: MountTable::new(setup.root),
            root: setup.root.root.clone(),
            virtual_too: config.include_virtual_filesystems,
            devices: Filter::new(&config.include_devices, &config.exclude_devices)?,
            fs_types: Filter::new(&config.include_fs_types, &config.exclude_fs_types)?,
            points: Filter::new(&config.include_mount_points, &config.exclude_mount_points)?,
            asker: Asker::new(timeout),
            boot: setup.boot_unix_nanos,
            naming: setup.naming,
            usage: plan(&USAGE),
            inodes: plan(&INODES),
            utilization: plan(&UTILIZATION),
        })
    }

    fn metrics(&self) -> usize {
        [&self.usage, &self.inodes, &self.utilization].into_iter().flatten().count()
    }

    fn capacities(&mut self, tally: &mut Tally) -> Vec<(Mount, Capacity)> {
        let metrics = self.metrics();
        if metrics == 0 {
            return Vec::new();
        }
        let mut mounts = match self.table.read(self.virtual_too) {
            Ok(mounts) => mounts,
            Err(error) => {
                tally.missed(metrics, error);
                return Vec::new();
            }
        };
        mounts.retain(|mount| {
            self.devices.admits(&mount.device)
                && self.fs_types.admits(&mount.fs_type)
                && self.points.admits(&mount.point.to_string_lossy())
        });
        let mut answers = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let place = below(&self.root, &mount.point);
            match self.asker.ask(&place) {
                Ok(capacity) => answers.push((mount, capacity)),
                Err(error) => tally.missed(metrics, format!("size of the file system at {}: {error}", place.display())),
            }
        }
        answers
    }
}

/// The agent's path to a mount point of the host.
fn below(root: &Path, point: &Path) -> PathBuf {
    root.join(point.strip_prefix("/").unwrap_or(point))
}

impl HostScraper for Filesystem {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        let answers = self.capacities(tally);
        let write = |plan: &Option<Plan>, scope: &mut ScopeBuilder<'_>, values: &dyn Fn(&Capacity) -> Vec<Number>| {
            let Some(plan) = plan else { return 0 };
            let mut metric = plan.open(scope);
            for (mount, capacity) in &answers {
                let point = mount.point.to_string_lossy();
                let place = [
                    Label::Text(&mount.device),
                    Label::Text(mount.mode),
                    Label::Text(&point),
                    Label::Text(&mount.fs_type),
                ];
                for (state, value) in values(capacity).into_iter().enumerate() {
                    let [device, mode, point, fs_type] = place;
                    metric.point(
                        self.boot,
                        at.unix_nanos,
                        value,
                        &[device, mode, point, fs_type, Label::Member(state)],
                    );
                }
            }
            metric.finish()
        };
        tally.wrote(write(&self.usage, scope, &|c| bytes(c).map(int).to_vec()));
        tally.wrote(write(&self.inodes, scope, &|c| inodes(c).map(int).to_vec()));
        tally.wrote(write(&self.utilization, scope, &|c| shares(c, self.naming)));
    }
}

/// Used, free for everybody, reserved.
fn bytes(c: &Capacity) -> [u64; 3] {
    let used = c.total.saturating_sub(c.free_for_root);
    [used, c.free, c.total.saturating_sub(used).saturating_sub(c.free)]
}

/// Used, free. Some file systems report more free inodes than they have.
fn inodes(c: &Capacity) -> [u64; 2] {
    [c.inodes.saturating_sub(c.inodes_free), c.inodes_free]
}

/// v0: the one fraction `df` shows. v1: each state's part of the whole. Nothing for a file system without a size.
fn shares(c: &Capacity, naming: Naming) -> Vec<Number> {
    let [used, free, reserved] = bytes(c).map(|bytes| bytes as f64);
    let (parts, whole): (&[f64], f64) = match naming {
        Naming::V0 => (&[used], used + free),
        Naming::V1 => (&[used, free, reserved], used + free + reserved),
    };
    // The Collector says 0 for an empty file system in v0.
    if whole <= 0.0 {
        return if naming == Naming::V0 { vec![Number::Double(0.0)] } else { Vec::new() };
    }
    parts.iter().map(|part| Number::Double(part / whole)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_add_up_to_the_whole(total in 0u64..1 << 50, free_for_root in 0u64..1 << 50, free in 0u64..1 << 50) {
            let free_for_root = free_for_root.min(total);
            let c = Capacity { total, free_for_root, free: free.min(free_for_root), inodes: 0, inodes_free: 0 };
            prop_assert_eq!(bytes(&c).iter().sum::<u64>(), total);
            for naming in [Naming::V0, Naming::V1] {
                for share in shares(&c, naming) {
                    prop_assert!((0.0..=1.0).contains(&share.as_f64()));
                }
            }
        }
    }

    #[test]
    fn mount_points_are_looked_up_below_the_root() {
        assert_eq!(below(Path::new("/"), Path::new("/var")), Path::new("/var"));
        assert_eq!(below(Path::new("/hostfs"), Path::new("/")), Path::new("/hostfs/"));
        assert_eq!(below(Path::new("/hostfs"), Path::new("/var")), Path::new("/hostfs/var"));
    }
}
