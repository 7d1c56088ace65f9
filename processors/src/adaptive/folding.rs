//! What `aggregate` would fold and write, foreseen from marks: the series of its groups, without values.
//!
//! It follows the stage's rules of what can be folded and how long a group speaks. It leaves out what only values tell:
//! histograms whose bounds do not fit, utilizations without a CPU time, bad points, and the last interval of members that end without a word.

use std::collections::HashSet;

use phoenix_pipeline::Class;
use phoenix_telemetry::{AnyValue, Metric, MetricKind, Resource, Temporality};

use super::facts::attribute;
use crate::aggregate::{CLASS, Config, Fold, class_name, is_cpu_share, is_group};
use crate::entity::mix;
use crate::measure::ByKey;

/// Series of groups that are remembered; further ones count only while somebody feeds them. At 40 bytes 4 MB.
const MAX_SERIES: usize = 100_000;
/// In the place of a group's attributes: the group `other`, and the gauge of its entities.
const OTHER: u64 = 0x6F74_6865_7200_0000;
const ENTITIES: u64 = 0x656E_7469_7469_6573;

/// Groups as one profile's `aggregate` would have them.
pub(super) struct Folding {
    config: Config,
    /// By host, and there by the attributes that name them.
    hosts: ByKey<ByKey<Group>>,
    series: usize,
    swept: u64,
    /// Goes up when a group is gone: what was fed to groups before does not hold any more.
    version: u64,
}

#[derive(Default)]
struct Group {
    /// When a member was last heard of, nanoseconds.
    inhabited: u64,
    /// Those that speak whether or not they are fed.
    lasting: HashSet<u64>,
    /// Those that were fed by the batch at hand and do not last.
    fed: HashSet<u64>,
}

impl Folding {
    pub(super) fn new(config: Config) -> Self {
        Folding { config, hosts: ByKey::default(), series: 0, swept: 0, version: 0 }
    }

    /// Whether `fold: all` is set.
    pub(super) fn folds_all(&self) -> bool {
        self.config.fold == Fold::All
    }

    /// Takes over the groups of another, where groups mean the same.
    pub(super) fn adopt(&mut self, previous: &mut Folding) {
        if previous.config.group_by == self.config.group_by {
            self.hosts = std::mem::take(&mut previous.hosts);
            self.series = std::mem::take(&mut previous.series);
        }
    }

    /// While this is the same, whoever was assigned to a group still is, and what was fed to it and lasts is still there.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the points of a metric can be folded.
    pub(super) fn takes(&self, metric: Metric<'_>) -> bool {
        match metric.kind() {
            MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram => {
                metric.temporality() != Temporality::Unspecified
            }
            // A utilization is computed anew from the group's CPU time.
            MetricKind::Gauge => self.config.gauges.contains_key(metric.name()) || is_cpu_share(metric),
            MetricKind::Summary | MetricKind::None => false,
        }
    }

    /// The group on that host a resource of that class goes into, if any.
    pub(super) fn group_of(&mut self, host: u64, resource: Resource<'_>, class: Class) -> Option<u64> {
        if is_group(resource, &self.config.group_by) {
            return None;
        }
        let attributes = resource.attributes();
        let mut key = host;
        for name in &self.config.group_by {
            let value = if name == CLASS { AnyValue::Str(class_name(class)) } else { attributes.get(name)? };
            key = mix(key, attribute(name, value));
        }
        let groups = self.hosts.entry(host).or_default();
        let full = groups.len() + usize::from(!groups.contains_key(&OTHER)) >= self.config.max_groups;
        let key = if full && !groups.contains_key(&key) { OTHER } else { key };
        groups.entry(key).or_default();
        Some(key)
    }

    /// A point of that identity goes into a group of a host. Returns whether that lasts: the next time it is enough to say
    /// that the group is inhabited.
    pub(super) fn feed(&mut self, place: (u64, u64), identity: u64, metric: Metric<'_>, now: u64) -> bool {
        let full = self.series >= MAX_SERIES;
        let Some(group) = self.group(place) else { return false };
        group.inhabited = now;
        let fades = metric.temporality() == Temporality::Delta || metric.kind() == MetricKind::Gauge;
        if fades || full && !group.lasting.contains(&identity) {
            group.fed.insert(identity);
            return false;
        }
        if group.lasting.insert(identity) {
            self.series += 1;
        }
        true
    }

    /// A group was fed nothing but what is known to last.
    pub(super) fn inhabit(&mut self, place: (u64, u64), now: u64) {
        if let Some(group) = self.group(place) {
            group.inhabited = now;
        }
    }

    fn group(&mut self, (host, group): (u64, u64)) -> Option<&mut Group> {
        self.hosts.get_mut(&host)?.get_mut(&group)
    }

    /// Names every series the groups of these hosts write at the end of a batch; returns how many. Groups that had no
    /// member for too long are forgotten.
    pub(super) fn speak(&mut self, hosts: &[u64], now: u64, mut write: impl FnMut(u64)) -> u64 {
        self.sweep(now);
        let mut written = 0;
        for host in hosts {
            for (key, group) in self.hosts.get_mut(host).into_iter().flatten() {
                if group.lasting.is_empty() && group.fed.is_empty() {
                    continue;
                }
                let own = mix(*host, *key);
                for identity in group.lasting.iter().copied().chain(group.fed.drain()).chain([ENTITIES]) {
                    write(mix(own, identity));
                    written += 1;
                }
            }
        }
        written
    }

    fn sweep(&mut self, now: u64) {
        let expiry = u64::try_from(self.config.group_expiry.as_nanos()).unwrap_or(u64::MAX);
        if now < self.swept.saturating_add(expiry / 16) {
            return;
        }
        self.swept = now;
        let Folding { hosts, series, version, .. } = self;
        for groups in hosts.values_mut() {
            groups.retain(|_, group| {
                let stays = group.inhabited.saturating_add(expiry) >= now;
                if !stays {
                    *series -= group.lasting.len();
                    *version += 1;
                }
                stays
            });
        }
        hosts.retain(|_, groups| !groups.is_empty());
    }
}
