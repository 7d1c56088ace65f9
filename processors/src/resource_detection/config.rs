//! Settings of `resource_detection`, with the Collector's keys.

use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

/// Whether one attribute is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toggle {
    /// Whether it is.
    pub enabled: bool,
}

/// A struct of [`Toggle`]s whose keys are attribute names.
macro_rules! toggles {
    ($(#[$about:meta])* $name:ident { $($field:ident: $key:literal = $on:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`")] #[serde(rename = $key)] pub $field: Toggle,)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: Toggle { enabled: $on },)+ }
            }
        }
    };
}

toggles!(
    /// What the `system` detector finds. On are the two that every backend groups by, as in the Collector; the rest adds
    /// to the size of every resource and is asked for by name.
    SystemAttributes {
        host_arch: "host.arch" = false,
        host_cpu_cache_l2_size: "host.cpu.cache.l2.size" = false,
        host_cpu_family: "host.cpu.family" = false,
        host_cpu_model_id: "host.cpu.model.id" = false,
        host_cpu_model_name: "host.cpu.model.name" = false,
        host_cpu_stepping: "host.cpu.stepping" = false,
        host_cpu_vendor_id: "host.cpu.vendor.id" = false,
        host_id: "host.id" = false,
        host_interface: "host.interface" = false,
        host_ip: "host.ip" = false,
        host_mac: "host.mac" = false,
        host_name: "host.name" = true,
        os_build_id: "os.build.id" = false,
        os_description: "os.description" = false,
        os_name: "os.name" = false,
        os_type: "os.type" = true,
        os_version: "os.version" = false,
    }
);

toggles!(
    /// What the `k8snode` detector finds, on as in the Collector.
    NodeAttributes {
        node_name: "k8s.node.name" = true,
        node_uid: "k8s.node.uid" = true,
    }
);

toggles!(
    /// What the `k8s` detector finds. Only the node is true of everything a node agent sends; the rest names the agent's
    /// own pod and cluster and is asked for by name.
    K8sAttributes {
        container_id: "container.id" = false,
        cluster_name: "k8s.cluster.name" = false,
        container_name: "k8s.container.name" = false,
        namespace_name: "k8s.namespace.name" = false,
        node_name: "k8s.node.name" = true,
        pod_name: "k8s.pod.name" = false,
        pod_uid: "k8s.pod.uid" = false,
    }
);

/// Where `host.name` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostnameSource {
    /// The full name that the hosts file gives for the host name; no question is sent to a DNS server.
    Dns,
    /// The host name itself.
    Os,
    /// The same as `dns` here.
    Cname,
    /// A reverse lookup: not served, since it asks the network.
    Lookup,
}

/// Settings of the `system` detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct System {
    /// Tried in this order. The Collector's default: the full name where the hosts file knows one, else the short one.
    pub hostname_sources: Vec<HostnameSource>,
    /// Which attributes are detected.
    pub resource_attributes: SystemAttributes,
}

impl Default for System {
    fn default() -> Self {
        System {
            hostname_sources: vec![HostnameSource::Dns, HostnameSource::Os],
            resource_attributes: SystemAttributes::default(),
        }
    }
}

/// Settings of the `k8snode` detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct K8sNode {
    /// The variable that holds the node's name, as the Collector's documentation has it set.
    pub node_from_env_var: String,
    /// Accepted and without effect: the API server is not asked. The default is the Collector's.
    pub auth_type: String,
    /// Accepted and without effect, as above.
    pub context: String,
    /// Which attributes are detected.
    pub resource_attributes: NodeAttributes,
}

impl Default for K8sNode {
    fn default() -> Self {
        K8sNode {
            node_from_env_var: "K8S_NODE_NAME".to_owned(),
            auth_type: "serviceAccount".to_owned(),
            context: String::new(),
            resource_attributes: NodeAttributes::default(),
        }
    }
}

/// Settings of the `k8s` detector, which the Collector does not have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct K8s {
    /// Which attributes are detected.
    pub resource_attributes: K8sAttributes,
}

/// The Collector's retries, accepted and without effect: reading a file again a second later finds the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // the Collector's keys and defaults, unused
pub struct Retry {
    pub enabled: bool,
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub initial_interval: Duration,
    pub randomization_factor: f64,
    pub multiplier: f64,
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub max_interval: Duration,
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub max_elapsed_time: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            enabled: true,
            initial_interval: Duration::from_secs(1),
            randomization_factor: 0.5,
            multiplier: 2.0,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::ZERO,
        }
    }
}

/// The detectors that are known by name; [`Detector::is_served`] tells which of them run.
macro_rules! detectors {
    (served { $($served:ident = $name:literal),+ $(,)? } unserved { $($unserved:ident: $field:ident = $key:literal),+ $(,)? }) => {
        /// A detector by its name in the configuration.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[allow(missing_docs)] // the names say it
        pub enum Detector {
            $(#[serde(rename = $name)] $served,)+
            $(#[serde(rename = $key)] $unserved,)+
        }

        impl Detector {
            /// The name in the configuration.
            pub fn name(self) -> &'static str {
                match self {
                    $(Detector::$served => $name,)+
                    $(Detector::$unserved => $key,)+
                }
            }

            /// Whether it runs here; the others are passed over with a warning.
            pub fn is_served(self) -> bool {
                matches!(self, $(Detector::$served)|+)
            }
        }

        /// Settings of `resource_detection`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            /// Run in this order; the first to find an attribute keeps it. `env` alone is the Collector's default: it
            /// adds nothing that nobody has set.
            pub detectors: Vec<Detector>,
            /// Whether what is detected replaces what a resource has. True as in the Collector: the agent knows its
            /// host better than a library inside a container.
            #[serde(rename = "override")]
            pub replace: bool,
            /// Accepted and without effect: nothing that is read here takes long. The default is the Collector's.
            #[serde(with = "phoenix_pipeline::config::duration")]
            pub timeout: Duration,
            /// Time between two detections; 0 = only once, since what is detected hardly ever changes.
            #[serde(with = "phoenix_pipeline::config::duration")]
            pub refresh_interval: Duration,
            /// Keys to keep of what was detected; empty = all. The Collector's former way, before `resource_attributes`.
            pub attributes: Vec<String>,
            /// Where the host's root directory is mounted; "" = here. In a container that watches its node: `/hostfs`.
            /// Not in the Collector.
            pub root_path: String,
            /// The `system` detector.
            pub system: System,
            /// The `k8snode` detector.
            pub k8snode: K8sNode,
            /// The `k8s` detector.
            pub k8s: K8s,
            /// Accepted and without effect.
            pub retry: Retry,
            $(
                #[doc = concat!("Accepted and without effect: the detector `", $key, "` is not served.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<serde_yaml::Value>,
            )+
        }

        impl Default for Config {
            fn default() -> Self {
                Config {
                    detectors: vec![Detector::Env],
                    replace: true,
                    timeout: Duration::from_secs(5),
                    refresh_interval: Duration::ZERO,
                    attributes: Vec::new(),
                    root_path: String::new(),
                    system: System::default(),
                    k8snode: K8sNode::default(),
                    k8s: K8s::default(),
                    retry: Retry::default(),
                    $($field: None,)+
                }
            }
        }
    };
}

detectors! {
    served { Env = "env", System = "system", K8sNode = "k8snode", K8s = "k8s" }
    unserved {
        Akamai: akamai = "akamai",
        Aks: aks = "aks",
        AlibabaEcs: alibaba_ecs = "alibaba_ecs",
        Azure: azure = "azure",
        Consul: consul = "consul",
        DigitalOcean: digitalocean = "digitalocean",
        Docker: docker = "docker",
        Dynatrace: dynatrace = "dynatrace",
        Ec2: ec2 = "ec2",
        Ecs: ecs = "ecs",
        Eks: eks = "eks",
        ElasticBeanstalk: elastic_beanstalk = "elastic_beanstalk",
        Elasticbeanstalk: elasticbeanstalk = "elasticbeanstalk",
        Gcp: gcp = "gcp",
        Heroku: heroku = "heroku",
        Hetzner: hetzner = "hetzner",
        Kubeadm: kubeadm = "kubeadm",
        Lambda: lambda = "lambda",
        Nova: nova = "nova",
        Openshift: openshift = "openshift",
        OracleCloud: oraclecloud = "oraclecloud",
        Scaleway: scaleway = "scaleway",
        Upcloud: upcloud = "upcloud",
        Vultr: vultr = "vultr",
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.detectors.is_empty() {
            report.error("detectors", "must name at least one detector: env, system, k8snode or k8s");
        }
        for (i, detector) in self.detectors.iter().enumerate() {
            if self.detectors.iter().take(i).any(|earlier| earlier == detector) {
                report.error(&format!("detectors[{i}]"), format!("{} is listed twice", detector.name()));
            }
        }
        if !self.root_path.is_empty() && !self.root_path.starts_with('/') {
            report.error("root_path", "must be an absolute path, such as /hostfs");
        }
        if self.k8snode.node_from_env_var.is_empty() {
            report.error("k8snode.node_from_env_var", "must name an environment variable, such as K8S_NODE_NAME");
        }
    }
}
