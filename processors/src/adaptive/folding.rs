//! What `aggregate` would fold and write, foreseen from marks: the series of its groups, without values.
//!
//! It follows the stage's rules of what can be folded, who speaks for the interval that ends, and how long a group speaks.
//! It leaves out what only values tell: histograms whose bounds do not fit, utilizations without a CPU time, bad points,
//! and new lives under an old name.

use std::collections::HashSet;
use std::time::Duration;

use phoenix_pipeline::Class;
use phoenix_telemetry::{AnyValue, Metric, MetricKind, Resource, Temporality};

use super::facts::attribute;
use crate::aggregate::{CLASS, Config, Fold, class_name, is_cpu_share, is_group};
use crate::entity::mix;
use crate::measure::ByKey;

/// Series of groups that are remembered; further ones count only while somebody feeds them. At 40 bytes 4 MB.
const MAX_SERIES: usize = 100_000;
/// Hosts that are remembered, as many as `aggregate` remembers.
const MAX_HOSTS: usize = 10_000;
/// In the place of a group's attributes: the group `other`, and the gauge of its entities.
const OTHER: u64 = 0x6F74_6865_7200_0000;
const ENTITIES: u64 = 0x656E_7469_7469_6573;

/// Groups as one profile's `aggregate` would have them.
pub(super) struct Folding {
    config: Config,
    hosts: ByKey<Host>,
    /// When a member was last heard of, nanoseconds, by a group's number.
    inhabited: Vec<u64>,
    /// Numbers of groups that are gone.
    free: Vec<u32>,
    series: usize,
    swept: u64,
    /// Goes up when a group is gone: what was fed to groups before does not hold any more.
    version: u64,
}

#[derive(Default)]
struct Host {
    /// By the attributes that name them.
    groups: ByKey<Group>,
    /// When its groups last spoke, nanoseconds; `None` before they did.
    spoke: Option<u64>,
    /// In which epoch of the window they said how much, if they would say the same again.
    said: Option<(u64, u64)>,
}

#[derive(Default)]
struct Group {
    /// A small number of its own.
    number: u32,
    /// Those that speak whether or not they are fed.
    lasting: HashSet<u64>,
    /// The same, utilizations: what an interval was used for, so they say nothing at a host's first scrape.
    shares: HashSet<u64>,
    /// Those that were fed by the batch at hand and do not last.
    fed: HashSet<u64>,
}

/// How a series goes in and out of a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What it has reached: in transition it speaks for itself once more, both ways, and its group has it at once.
    Total,
    /// What was in the interval that ends: whoever held it then says it.
    Interval,
    /// A utilization: an interval's, and its group goes on with it.
    Share,
    /// A gauge that is folded by a function: in transition it speaks for itself alone.
    Gauge,
}

/// Who says a point: the series itself, its group, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) alone: bool,
    pub(super) group: bool,
}

impl Kind {
    /// Who says a point of a series that `was` folded and now `is`.
    pub(super) fn in_turn(self, was: bool, is: bool) -> Who {
        match self {
            Kind::Total => Who { alone: !was || !is, group: is },
            Kind::Interval => Who { alone: !was, group: was },
            Kind::Share => Who { alone: !was, group: is },
            Kind::Gauge => Who { alone: !was || !is, group: was && is },
        }
    }
}

impl Folding {
    pub(super) fn new(config: Config) -> Self {
        Folding {
            config,
            hosts: ByKey::default(),
            inhabited: Vec::new(),
            free: Vec::new(),
            series: 0,
            swept: 0,
            version: 0,
        }
    }

    /// Whether `fold: all` is set.
    pub(super) fn folds_all(&self) -> bool {
        self.config.fold == Fold::All
    }

    /// Takes over the groups of another, where groups mean the same.
    pub(super) fn adopt(&mut self, previous: &mut Folding) {
        if previous.config.group_by == self.config.group_by {
            self.hosts = std::mem::take(&mut previous.hosts);
            // The window may be a new one.
            self.hosts.values_mut().for_each(|host| host.said = None);
            self.series = std::mem::take(&mut previous.series);
            self.inhabited = std::mem::take(&mut previous.inhabited);
            self.free = std::mem::take(&mut previous.free);
        }
    }

    /// While this is the same, whoever was assigned to a group still is, and what was fed to it and lasts is still there.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How the series of a metric go in and out of a fold; `None` if they cannot be folded.
    pub(super) fn kind(&self, metric: Metric<'_>) -> Option<Kind> {
        let written = self.config.temporality.converts(metric).unwrap_or(metric.temporality());
        match metric.kind() {
            MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram => match written {
                Temporality::Unspecified => None,
                Temporality::Delta => Some(Kind::Interval),
                Temporality::Cumulative => Some(Kind::Total),
            },
            MetricKind::Gauge if self.config.gauges.contains_key(metric.name()) => Some(Kind::Gauge),
            // It is computed anew from the group's CPU time.
            MetricKind::Gauge => is_cpu_share(metric).then_some(Kind::Share),
            MetricKind::Summary | MetricKind::None => None,
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
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(&host) {
            return None;
        }
        let groups = &mut self.hosts.entry(host).or_default().groups;
        let full = groups.len() + usize::from(!groups.contains_key(&OTHER)) >= self.config.max_groups;
        let key = if full && !groups.contains_key(&key) { OTHER } else { key };
        let Folding { free, inhabited, .. } = self;
        groups.entry(key).or_insert_with(|| {
            let number = free.pop().unwrap_or(inhabited.len() as u32);
            match inhabited.get_mut(number as usize) {
                Some(inhabited) => *inhabited = 0,
                None => inhabited.push(0),
            }
            Group { number, ..Group::default() }
        });
        Some(key)
    }

    /// How long a member that fell silent is remembered, nanoseconds.
    pub(super) fn member_expiry(&self) -> u64 {
        nanos(self.config.member_expiry)
    }

    /// A point of that identity goes into a group of a host. Returns whether that lasts: the next time it is enough to say
    /// that the group is inhabited.
    pub(super) fn feed(&mut self, place: (u64, u64), identity: u64, kind: Kind, now: u64) -> bool {
        let full = self.series >= MAX_SERIES;
        let Some(host) = self.hosts.get_mut(&place.0) else { return false };
        let Some(group) = host.groups.get_mut(&place.1) else { return false };
        self.inhabited.get_mut(group.number as usize).into_iter().for_each(|inhabited| *inhabited = now);
        let lasting = match kind {
            Kind::Total => &mut group.lasting,
            Kind::Share => &mut group.shares,
            Kind::Interval | Kind::Gauge => {
                host.said = None;
                group.fed.insert(identity);
                return false;
            }
        };
        if full && !lasting.contains(&identity) {
            host.said = None;
            group.fed.insert(identity);
            return false;
        }
        if lasting.insert(identity) {
            host.said = None;
            self.series += 1;
        }
        true
    }

    /// The number of a group, for as long as the [version](Folding::version) is the same.
    pub(super) fn number_of(&self, (host, group): (u64, u64)) -> Option<u32> {
        Some(self.hosts.get(&host)?.groups.get(&group)?.number)
    }

    /// The group of this number was fed nothing but what is known to last.
    #[inline]
    pub(super) fn inhabit(&mut self, group: u32, now: u64) {
        if let Some(inhabited) = self.inhabited.get_mut(group as usize) {
            *inhabited = now;
        }
    }

    /// Names every series the groups of these hosts write at the end of a batch, those that were named before in the same
    /// `epoch` perhaps not again; returns how many they write. Groups that had no member for too long are forgotten.
    pub(super) fn speak(&mut self, hosts: &[u64], (now, epoch): (u64, u64), mut write: impl FnMut(u64)) -> u64 {
        self.sweep(now);
        let mut written = 0;
        for host in hosts {
            if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(host) {
                continue;
            }
            let Host { groups, spoke, said } = self.hosts.entry(*host).or_default();
            let first = spoke.replace(now).is_none();
            if let Some((_, as_before)) = said.filter(|(when, _)| *when == epoch) {
                written += as_before;
                continue;
            }
            let (mut all, mut lasts) = (0, !first);
            for (key, group) in groups {
                let own = mix(*host, *key);
                let mut says = 0;
                lasts &= group.fed.is_empty();
                let shares = group.shares.iter().copied().filter(|_| !first);
                for identity in group.lasting.iter().copied().chain(group.fed.drain()).chain(shares) {
                    write(mix(own, identity));
                    says += 1;
                }
                if says > 0 {
                    write(mix(own, ENTITIES));
                    all += says + 1;
                }
            }
            *said = lasts.then_some((epoch, all));
            written += all;
        }
        written
    }

    fn sweep(&mut self, now: u64) {
        let expiry = nanos(self.config.group_expiry);
        if now < self.swept.saturating_add(expiry / 16) {
            return;
        }
        self.swept = now;
        let Folding { hosts, inhabited, free, series, version, .. } = self;
        hosts.retain(|_, host| {
            let Host { groups, said, .. } = host;
            groups.retain(|_, group| {
                let heard = inhabited.get(group.number as usize).copied().unwrap_or_default();
                let stays = heard.saturating_add(expiry) >= now;
                if !stays {
                    free.push(group.number);
                    *said = None;
                    *series -= group.lasting.len() + group.shares.len();
                    *version += 1;
                }
                stays
            });
            !host.groups.is_empty() || host.spoke.is_some_and(|spoke| spoke.saturating_add(expiry) >= now)
        });
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
