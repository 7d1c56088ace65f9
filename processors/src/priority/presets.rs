//! Ready rule sets: what runs on most hosts and must not disappear in a sum.
//!
//! Each list is of executable names (`process.executable.name`) as globs, all of class critical. A list names daemons, not
//! what they start: a shim for each container or a worker for each request would make every one of them individual.

use super::config::Preset;

/// What a preset's rules look at.
pub(super) struct Listed {
    pub(super) key: &'static str,
    pub(super) values: &'static [&'static str],
}

impl Preset {
    pub(super) fn listed(self) -> Listed {
        let (key, values) = match self {
            Preset::NodeEssentials => ("process.executable.name", NODE_ESSENTIALS),
            Preset::ContainerRuntimes => ("process.executable.name", CONTAINER_RUNTIMES),
            Preset::Databases => ("process.executable.name", DATABASES),
            Preset::Init => ("process.pid", INIT),
            Preset::Agent => ("process.executable.name", AGENT),
        };
        Listed { key, values }
    }
}

const NODE_ESSENTIALS: &[&str] = &[
    "kubelet",
    "kube-proxy",
    "cilium-agent",
    "calico-node",
    "flanneld",
    "coredns",
    "node-problem-detector",
    "systemd-journald",
    "systemd-journal",
    "systemd-logind",
    "systemd-networkd",
    "systemd-network",
    "systemd-resolved",
    "systemd-resolve",
    "systemd-udevd",
    "dbus-daemon",
    "dbus-broker",
    "NetworkManager",
    "sshd",
    "chronyd",
    "ntpd",
    "rsyslogd",
    "crond",
    "cron",
    "auditd",
];

const CONTAINER_RUNTIMES: &[&str] = &["containerd", "dockerd", "crio", "podman", "cri-dockerd", "buildkitd", "lxcfs"];

const DATABASES: &[&str] = &[
    "postgres",
    "postmaster",
    "mysqld",
    "mariadbd",
    "mongod",
    "mongos",
    "redis-server",
    "valkey-server",
    "memcached",
    "etcd",
    "clickhouse-serv*",
    "influxd",
    "prometheus",
    "victoria-metric*",
    "cockroach",
    "sqlservr",
    "oracle",
    "beam.smp",
    "nats-server",
];

const INIT: &[&str] = &["1"];

const AGENT: &[&str] = &["phoenix"];
