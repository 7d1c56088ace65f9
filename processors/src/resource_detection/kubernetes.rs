//! The `k8snode` and `k8s` detectors: what a pod can know of itself without asking the API server.
//!
//! Sources are the downward API's environment variables, the service account's namespace file and the agent's own cgroup.
//! Whatever of the pod itself is asked for names *the agent's* pod, so it is off by default: on metrics of the node it
//! would be wrong.

use phoenix_pipeline::cgroup;

use super::config::{K8s, K8sNode};
use super::findings::Findings;
use super::host::Host;

const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const CGROUP_FILE: &str = "/proc/self/cgroup";

/// Runs the Collector's `k8snode`, as far as the environment tells.
pub(super) fn detect_node(host: &Host, config: &K8sNode, findings: &mut Findings) {
    let wanted = &config.resource_attributes;
    let variable = config.node_from_env_var.as_str();
    if wanted.node_name.enabled {
        match host.first_variable(&[variable, "OTEL_K8S_NODE_NAME"]) {
            Some(name) => findings.add("k8s.node.name", name),
            None => findings.problem(format!(
                "k8s.node.name is not known: set the variable {variable} from the downward API (fieldPath: spec.nodeName)"
            )),
        }
    }
    if wanted.node_uid.enabled
        && let Some(uid) = host.first_variable(&["K8S_NODE_UID", "OTEL_K8S_NODE_UID"])
    {
        findings.add("k8s.node.uid", uid);
    }
}

/// Runs `k8s`.
pub(super) fn detect_pod(host: &Host, config: &K8s, findings: &mut Findings) {
    let wanted = &config.resource_attributes;
    let cgroup = || host.read_own(CGROUP_FILE).unwrap_or_default();
    let namespace_file =
        || host.read_own(NAMESPACE_FILE).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let variable = |names: &[&str]| host.first_variable(names);
    let mut add = |enabled: bool, key: &str, find: &dyn Fn() -> Option<String>, from: &str| {
        if !enabled {
            return;
        }
        match find() {
            Some(value) => findings.add(key, value),
            None => findings.problem(format!("{key} is not known: {from}")),
        }
    };
    let set = "set the variable from the downward API:";
    let node = || variable(&["K8S_NODE_NAME", "OTEL_K8S_NODE_NAME"]);
    add(wanted.node_name.enabled, "k8s.node.name", &node, &format!("{set} K8S_NODE_NAME (fieldPath: spec.nodeName)"));
    let cluster = || variable(&["K8S_CLUSTER_NAME", "OTEL_K8S_CLUSTER_NAME"]);
    add(
        wanted.cluster_name.enabled,
        "k8s.cluster.name",
        &cluster,
        "no pod can see it; set the variable K8S_CLUSTER_NAME",
    );
    let namespace = || variable(&["K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "OTEL_K8S_NAMESPACE"]).or_else(namespace_file);
    add(
        wanted.namespace_name.enabled,
        "k8s.namespace.name",
        &namespace,
        &format!("{set} K8S_NAMESPACE_NAME (fieldPath: metadata.namespace)"),
    );
    let pod = || variable(&["K8S_POD_NAME", "OTEL_K8S_POD_NAME"]);
    add(wanted.pod_name.enabled, "k8s.pod.name", &pod, &format!("{set} K8S_POD_NAME (fieldPath: metadata.name)"));
    let uid = || variable(&["K8S_POD_UID", "OTEL_K8S_POD_UID"]).or_else(|| cgroup::ids(&cgroup()).pod);
    add(wanted.pod_uid.enabled, "k8s.pod.uid", &uid, &format!("{set} K8S_POD_UID (fieldPath: metadata.uid)"));
    let container = || variable(&["K8S_CONTAINER_NAME", "OTEL_K8S_CONTAINER_NAME"]);
    add(
        wanted.container_name.enabled,
        "k8s.container.name",
        &container,
        "set the variable K8S_CONTAINER_NAME to the container's name",
    );
    let container_id = || cgroup::ids(&cgroup()).container;
    add(wanted.container_id.enabled, "container.id", &container_id, "the agent's own cgroup shows no container");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_detection::config::Toggle;
    use crate::resource_detection::tests::host;

    #[test]
    fn the_node_comes_from_the_variable_that_is_named() {
        let mut config = K8sNode::default();
        let mut findings = Findings::default();
        detect_node(&host(&[], &[("K8S_NODE_NAME", "n1")]), &config, &mut findings);
        assert_eq!(findings.get("k8s.node.name"), Some(&"n1".into()));
        config.node_from_env_var = "MY_NODE".into();
        let mut findings = Findings::default();
        detect_node(&host(&[], &[("MY_NODE", "n2"), ("K8S_NODE_UID", "u")]), &config, &mut findings);
        assert_eq!(findings.get("k8s.node.name"), Some(&"n2".into()));
        assert_eq!(findings.get("k8s.node.uid"), Some(&"u".into()));
        let mut findings = Findings::default();
        detect_node(&host(&[], &[]), &config, &mut findings);
        assert!(findings.problems().concat().contains("MY_NODE"));
    }

    #[test]
    fn the_agents_pod_only_when_asked_for() {
        let id = "0123456789abcdef".repeat(4);
        let uid = "1b2c3d4e-0000-4000-8000-aabbccddeeff";
        let cgroup = format!("0::/kubepods/besteffort/pod{uid}/{id}\n");
        let files = [
            ("proc/self/cgroup", cgroup.as_str()),
            ("var/run/secrets/kubernetes.io/serviceaccount/namespace", "monitoring\n"),
        ];
        let variables = [("OTEL_K8S_NODE_NAME", "n1"), ("K8S_POD_NAME", "phoenix-x"), ("K8S_CLUSTER_NAME", "c")];
        let host = host(&files, &variables);
        let mut config = K8s::default();
        let mut findings = Findings::default();
        detect_pod(&host, &config, &mut findings);
        assert_eq!(findings.keys(), ["k8s.node.name"]);
        let on = Toggle { enabled: true };
        let wanted = &mut config.resource_attributes;
        (wanted.cluster_name, wanted.namespace_name, wanted.pod_name) = (on, on, on);
        (wanted.pod_uid, wanted.container_name, wanted.container_id) = (on, on, on);
        let mut findings = Findings::default();
        detect_pod(&host, &config, &mut findings);
        assert_eq!(findings.get("k8s.cluster.name"), Some(&"c".into()));
        assert_eq!(findings.get("k8s.namespace.name"), Some(&"monitoring".into()));
        assert_eq!(findings.get("k8s.pod.name"), Some(&"phoenix-x".into()));
        assert_eq!(findings.get("k8s.pod.uid"), Some(&uid.into()));
        assert_eq!(findings.get("container.id"), Some(&id.into()));
        assert!(findings.problems().concat().contains("k8s.container.name"));
    }
}
