//! The `network` scraper: `net/dev`, `net/tcp`, `net/tcp6` and the connection-tracking counters.
//!
//! `/proc/net` is a link to `self/net`: under a host's `/proc` that is mounted into a container it still shows the
//! container's own network. So with a foreign root the files of process 1 are read.

use std::path::PathBuf;

use phoenix_telemetry::{Number, ScopeBuilder};
use serde::{Deserialize, Serialize};

use super::catalog::{Attribute, COUNTER, Form, Label, Member, MetricsSettings, Plan, Row, UP_DOWN, ValueType, int};
use super::names::{Filter, name_list};
use super::reading::{ReadError, Reading, Text};
use super::scraper::{HostScraper, Moment, Setup, Tally};
use super::sockets::{self, STATES};

const NAME: &str = "network";

name_list!(
    /// Names of network interfaces: `eth0`, `lo`.
    Interfaces,
    interfaces
);

/// Settings of the scraper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Only these interfaces. Default: all, as in the Collector.
    pub include: Interfaces,
    /// Not these interfaces. Default: none is left out.
    pub exclude: Interfaces,
    /// Switches per metric.
    pub metrics: MetricsSettings,
}

const INTERFACE: Attribute = Attribute { v0: Some("device"), v1: Some("network.interface.name"), members: &[] };
const DEVICE: Attribute = Attribute { v0: Some("device"), v1: Some("system.device"), members: &[] };
const DIRECTION: Attribute = Attribute {
    v0: Some("direction"),
    v1: Some("network.io.direction"),
    members: &[Member::same("receive"), Member::same("transmit")],
};
const PROTOCOL: Attribute =
    Attribute { v0: Some("protocol"), v1: Some("network.transport"), members: &[Member::same("tcp")] };
const STATE: Attribute = Attribute { v0: Some("state"), v1: Some("network.connection.state"), members: STATES };

const fn row(name: &'static str, unit: &'static str, v1: Form, description: &'static str) -> Row {
    Row {
        scraper: NAME,
        v0: Some(Form { name, unit }),
        v1,
        description,
        shape: COUNTER,
        value: ValueType::Int,
        enabled: true,
        attributes: &[INTERFACE, DIRECTION],
    }
}

const IO: Row = row(
    "system.network.io",
    "By",
    Form { name: "system.network.io", unit: "By" },
    "The number of bytes transmitted and received.",
);
const PACKETS: Row = Row {
    attributes: &[DEVICE, DIRECTION],
    ..row(
        "system.network.packets",
        "{packets}",
        Form { name: "system.network.packet.count", unit: "{packet}" },
        "The number of packets transferred.",
    )
};
const ERRORS: Row = row(
    "system.network.errors",
    "{errors}",
    Form { name: "system.network.errors", unit: "{error}" },
    "The number of errors encountered.",
);
const DROPPED: Row = row(
    "system.network.dropped",
    "{packets}",
    Form { name: "system.network.packet.dropped", unit: "{packet}" },
    "The number of packets dropped.",
);
const CONNECTIONS: Row = Row {
    shape: UP_DOWN,
    attributes: &[PROTOCOL, STATE],
    ..row(
        "system.network.connections",
        "{connections}",
        Form { name: "system.network.connection.count", unit: "{connection}" },
        "The number of connections.",
    )
};
const CONNTRACK_COUNT: Row = Row {
    shape: UP_DOWN,
    enabled: false,
    attributes: &[],
    ..row(
        "system.network.conntrack.count",
        "{entries}",
        Form { name: "system.network.conntrack.count", unit: "{entries}" },
        "The count of entries in conntrack table.",
    )
};
const CONNTRACK_MAX: Row = Row {
    shape: UP_DOWN,
    enabled: false,
    attributes: &[],
    ..row(
        "system.network.conntrack.max",
        "{entries}",
        Form { name: "system.network.conntrack.max", unit: "{entries}" },
        "The limit for entries in the conntrack table.",
    )
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[IO, PACKETS, ERRORS, DROPPED, CONNECTIONS, CONNTRACK_COUNT, CONNTRACK_MAX];

/// Received and transmitted.
type Pair = [u64; 2];

/// One line of `net/dev`.
struct Interface<'a> {
    name: &'a str,
    bytes: Pair,
    packets: Pair,
    errors: Pair,
    dropped: Pair,
}

type Of = fn(&Interface<'_>) -> Pair;

pub(crate) struct Network {
    dev: Reading,
    tcp: [PathBuf; 2],
    boot: u64,
    filter: Filter,
    counters: Vec<(Of, Plan)>,
    connections: Option<Plan>,
    conntrack: Vec<(Reading, Plan)>,
}

impl Network {
    pub(crate) fn new(config: &Config, setup: &Setup<'_>) -> Result<Self, String> {
        let net = setup.root.proc.join(if setup.root.foreign { "1/net" } else { "net" });
        let netfilter = setup.root.proc.join("sys/net/netfilter");
        let plan = |row: &Row| row.plan(setup.naming, &config.metrics);
        let counters: [(&Row, Of); 4] =
            [(&IO, |i| i.bytes), (&PACKETS, |i| i.packets), (&ERRORS, |i| i.errors), (&DROPPED, |i| i.dropped)];
        let conntrack = [(&CONNTRACK_COUNT, "nf_conntrack_count"), (&CONNTRACK_MAX, "nf_conntrack_max")];
        Ok(Self {
            dev: Reading::new(net.join("dev")),
            tcp: [net.join("tcp"), net.join("tcp6")],
            boot: setup.boot_unix_nanos,
            filter: Filter::new(&config.include, &config.exclude)?,
            counters: counters.iter().filter_map(|(row, of)| Some((*of, plan(row)?))).collect(),
            connections: plan(&CONNECTIONS),
            conntrack: conntrack
                .iter()
                .filter_map(|(row, file)| Some((Reading::new(netfilter.join(file)), plan(row)?)))
                .collect(),
        })
    }

    fn interfaces(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        if self.counters.is_empty() {
            return Ok(());
        }
        let mut interfaces = interfaces(self.dev.text()?)?;
        interfaces.retain(|interface| self.filter.admits(interface.name));
        for (of, plan) in &self.counters {
            let mut metric = plan.open(scope);
            for interface in &interfaces {
                for (direction, value) in of(interface).into_iter().enumerate() {
                    let labels = [Label::Text(interface.name), Label::Member(direction)];
                    metric.point(self.boot, at.unix_nanos, int(value), &labels);
                }
            }
            tally.wrote(metric.finish());
        }
        Ok(())
    }

    fn connections(&self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) -> Result<(), ReadError> {
        let Some(plan) = &self.connections else { return Ok(()) };
        let counts = sockets::count(&self.tcp)?;
        let mut metric = plan.open(scope);
        for (state, count) in counts.into_iter().enumerate() {
            metric.point(self.boot, at.unix_nanos, int(count), &[Label::Member(0), Label::Member(state)]);
        }
        tally.wrote(metric.finish());
        Ok(())
    }
}

impl HostScraper for Network {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        if let Err(error) = self.interfaces(at, scope, tally) {
            tally.missed(self.counters.len(), error);
        }
        if let Err(error) = self.connections(at, scope, tally) {
            tally.missed(1, error);
        }
        for (file, plan) in &mut self.conntrack {
            match file.text().and_then(single) {
                Ok(value) => {
                    let mut metric = plan.open(scope);
                    metric.point(self.boot, at.unix_nanos, value, &[]);
                    tally.wrote(metric.finish());
                }
                Err(error) => tally.missed(1, format!("{error}; the nf_conntrack module may not be loaded")),
            }
        }
    }
}

fn single(text: Text<'_>) -> Result<Number, ReadError> {
    text.as_str().trim().parse().map(int).map_err(|_| text.malformed("expected one number"))
}

/// The lines of `net/dev` after the two of its heading; a name may hold colons, so it ends at the last one.
fn interfaces(text: Text<'_>) -> Result<Vec<Interface<'_>>, ReadError> {
    let mut interfaces = Vec::new();
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.text.rsplit_once(':') else {
            return Err(line.malformed("expected an interface name and a colon"));
        };
        let mut columns = [0; 12];
        let mut words = numbers.split_ascii_whitespace();
        for slot in &mut columns {
            *slot = line.number(words.next(), "expected 16 numbers after the interface name")?;
        }
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped] =
            columns;
        interfaces.push(Interface {
            name: name.trim(),
            bytes: [rx_bytes, tx_bytes],
            packets: [rx_packets, tx_packets],
            errors: [rx_errors, tx_errors],
            dropped: [rx_dropped, tx_dropped],
        });
    }
    Ok(interfaces)
}
