//! Which container and pod a process belongs to, from the text of its `/proc/PID/cgroup`, v1, v2 and both at once.
//!
//! It stands here because the `process` scraper asks it about every process and resource detection about the agent's own.
//!
//! Only the shapes that container runtimes write are accepted: 64 hexadecimal digits, or ECS's 32 and a number. A bare UUID is
//! not one, since desktop scopes look like that. Nothing is read or looked up here.

/// What the path of a control group says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The container's id as its runtime knows it.
    pub container: Option<String>,
    /// The pod's uid; of a static pod the hash of its configuration.
    pub pod: Option<String>,
}

/// Reads the ids from all lines; the first line that names a container wins, and a pod may stand in any.
pub fn ids(text: &str) -> Ids {
    let mut ids = Ids::default();
    for line in text.lines() {
        let Some(path) = line.splitn(3, ':').nth(2).filter(|path| *path != "/") else { continue };
        ids.container = ids.container.or_else(|| container(path));
        ids.pod = ids.pod.or_else(|| pod(path));
    }
    ids
}

/// The last element that is an id: nested runtimes write the outer one first, and a container may have groups of its own below.
fn container(path: &str) -> Option<String> {
    path.split('/').rev().find_map(id_of).map(str::to_owned)
}

/// The id in one element: `ID`, `RUNTIME-ID.scope`, `UNIT:RUNTIME:ID`; conmon's scope is the monitor beside the container.
fn id_of(element: &str) -> Option<&str> {
    let element = element.strip_suffix(".scope").unwrap_or(element);
    let element = element.rsplit(':').next().unwrap_or(element);
    if is_ecs(element) {
        return Some(element);
    }
    if element.contains("conmon-") {
        return None;
    }
    let id = element.rsplit('-').next().unwrap_or(element);
    (id.len() == 64 && is_hex(id)).then_some(id)
}

fn is_ecs(element: &str) -> bool {
    element.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32 && is_hex(task) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The last `podUID` or `…-podUID.slice`.
fn pod(path: &str) -> Option<String> {
    path.split('/').rev().find_map(|element| {
        let element = element.split(':').next().unwrap_or(element);
        let element = element.strip_suffix(".slice").unwrap_or(element);
        let uid = element.strip_prefix("pod").or_else(|| element.rsplit_once("-pod").map(|(_, uid)| uid))?;
        let uid = uid.replace('_', "-");
        is_pod_uid(&uid).then_some(uid)
    })
}

/// A UUID, or the 32 digits of a static pod.
fn is_pod_uid(uid: &str) -> bool {
    let groups: Vec<usize> = uid.split('-').map(str::len).collect();
    uid.split('-').all(is_hex) && matches!(groups.as_slice(), [8, 4, 4, 4, 12] | [32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const OUTER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const UID: &str = "550e8400-e29b-41d4-a716-446655440000";
    const TASK: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";

    #[test]
    fn every_shape_of_the_runtimes() {
        let unit = UID.replace('-', "_");
        let table = [
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{unit}.slice/cri-containerd-{ID}.scope"
                ),
                Some(ID),
                Some(UID),
            ),
            (format!("0::/kubepods/besteffort/pod{UID}/{ID}"), Some(ID), Some(UID)),
            (
                format!(
                    "4:memory:/system.slice/containerd.service/kubepods-besteffort-pod{unit}.slice:cri-containerd:{ID}"
                ),
                Some(ID),
                Some(UID),
            ),
            (
                format!(
                    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{unit}.slice/crio-{ID}.scope"
                ),
                Some(ID),
                Some(UID),
            ),
            (
                format!(
                    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{unit}.slice/crio-conmon-{ID}.scope"
                ),
                None,
                Some(UID),
            ),
            (format!("0::/kubepods/besteffort/pod{UID}/crio-{ID}"), Some(ID), Some(UID)),
            (format!("0::/system.slice/docker-{ID}.scope"), Some(ID), None),
            (format!("9:name=systemd:/docker/{ID}\n0::/"), Some(ID), None),
            (
                format!(
                    "0::/docker/{OUTER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{unit}.slice/cri-containerd-{ID}.scope"
                ),
                Some(ID),
                Some(UID),
            ),
            (format!("0::/../../pod{UID}/{ID}"), Some(ID), Some(UID)),
            (format!("0::/../cri-containerd-{ID}.scope"), Some(ID), None),
            (format!("0::/kubepods/besteffort/pod{UID}/{ID}/init"), Some(ID), Some(UID)),
            (format!("0::/kubepods/burstable/pod{TASK}/{ID}"), Some(ID), Some(TASK)),
            (format!("12:pids:/\n5:memory:/kubepods/pod{UID}/{ID}\n0::/\n"), Some(ID), Some(UID)),
            ("0::/".to_owned(), None, None),
            ("0::/init.scope".to_owned(), None, None),
            ("0::/system.slice/podman.service".to_owned(), None, None),
            ("garbage".to_owned(), None, None),
            (String::new(), None, None),
            (format!("0::/kubepods.slice/kubepods-pod{unit}.slice/cri-containerd-{ID}.scope"), Some(ID), Some(UID)),
            (format!("0::/kubepods/pod{UID}/{ID}"), Some(ID), Some(UID)),
            (format!("0::/kubepods/pod{TASK}/{ID}"), Some(ID), Some(TASK)),
            (format!("2:cpu:/ecs/{TASK}/{TASK}-1234567890"), Some("0a1b2c3d4e5f60718293a4b5c6d7e8f9-1234567890"), None),
            (format!("0::/machine.slice/libpod-{ID}.scope"), Some(ID), None),
            (format!("0::/machine.slice/libpod-conmon-{ID}.scope"), None, None),
            (format!("0::/machine.slice/libpod-{ID}.scope/container"), Some(ID), None),
            (format!("0::/system.slice/docker-{ID}.scope/init"), Some(ID), None),
            (format!("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-{UID}.scope"), None, None),
            ("0::/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service".to_owned(), None, None),
            (format!("11:cpu:/\n10:memory:/docker/{ID}\n0::/"), Some(ID), None),
        ];
        for (text, container, pod) in table {
            let found = ids(&text);
            assert_eq!((found.container.as_deref(), found.pod.as_deref()), (container, pod), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_found_has_the_shape_of_an_id(text in "([0-9]:[a-z]{0,3}:)?([/a-f0-9:._-]|pod|crio-|\\.scope){0,120}") {
            let found = ids(&text);
            if let Some(id) = found.container {
                prop_assert!(id.len() == 64 || is_ecs(&id));
            }
            if let Some(uid) = found.pod {
                prop_assert!(is_pod_uid(&uid));
            }
        }
    }
}
