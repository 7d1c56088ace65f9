//! The container and the pod that a process runs in, from its `/proc/PID/cgroup`.
//!
//! The shapes of the path are those of containerd, cri-o, docker, podman and ECS under both drivers, on v1 and v2, also
//! nested (docker in docker): the innermost container and pod are meant.

/// The 64-digit id (or ECS's form of it) of the innermost container in a cgroup file.
pub(super) fn container_id(cgroup: &str) -> Option<String> {
    paths(cgroup).find_map(|path| path.rsplit('/').find_map(container_in).map(str::to_owned))
}

/// The uid of the innermost pod in a cgroup file, in the API's form.
pub(super) fn pod_uid(cgroup: &str) -> Option<String> {
    paths(cgroup).find_map(|path| path.rsplit('/').find_map(pod_in))
}

/// The paths of all hierarchies, without the roots.
fn paths(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).filter(|path| *path != "/")
}

/// The container's id in one element of a path: `cri-containerd-ID.scope`, `slice:cri-containerd:ID`, `crio-ID`, `ID`.
fn container_in(element: &str) -> Option<&str> {
    let element = element.strip_suffix(".scope").unwrap_or(element);
    let element = element.rsplit(':').next().unwrap_or(element);
    let plain = element.rsplit('-').next().unwrap_or(element);
    if is_hex(plain, 64) {
        return Some(plain);
    }
    // ECS: 32 digits of the task, a dash, and decimal digits.
    let (task, number) = element.split_once('-')?;
    let ecs = is_hex(task, 32) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    ecs.then_some(element)
}

/// The pod's uid in one element of a path: `kubepods-burstable-podUID.slice` (with `_`), `podUID`.
fn pod_in(element: &str) -> Option<String> {
    let element = element.split(':').next().unwrap_or(element);
    let element = element.strip_suffix(".slice").unwrap_or(element);
    let uid = match element.strip_prefix("pod") {
        Some(uid) => uid,
        None => element.rsplit_once("-pod")?.1,
    };
    let uid = uid.replace('_', "-");
    let parts: Vec<usize> = uid.split('-').map(str::len).collect();
    let hex = uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    // A static pod's uid is a hash without dashes.
    (hex && matches!(parts.as_slice(), [8, 4, 4, 4, 12] | [32])).then_some(uid)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OUTER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const UID: &str = "1b2c3d4e-0000-4000-8000-aabbccddeeff";

    fn both(path: &str) -> (Option<String>, Option<String>) {
        let path = path
            .replace("{ID}", ID)
            .replace("{OUTER}", OUTER)
            .replace("{UID}", UID)
            .replace("{UID_}", &UID.replace('-', "_"));
        let cgroup = format!("12:pids:/\n5:memory:{path}\n0::/\n");
        (container_id(&cgroup), pod_uid(&cgroup))
    }

    #[test]
    fn shapes_of_kubernetes() {
        for path in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/kubepods/besteffort/pod{UID}/{ID}",
            "/system.slice/containerd.service/kubepods-besteffort-pod{UID_}.slice:cri-containerd:{ID}",
            "/kubepods.slice/kubepods-pod{UID_}.slice/crio-{ID}.scope",
            "/kubepods/pod{UID}/crio-{ID}",
            "/docker/{OUTER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope",
            "/../../pod{UID}/{ID}",
            "/kubepods/besteffort/pod{UID}/{ID}/init",
        ] {
            assert_eq!(both(path), (Some(ID.into()), Some(UID.into())), "{path}");
        }
    }

    #[test]
    fn shapes_without_a_pod() {
        for path in [
            "/system.slice/docker-{ID}.scope",
            "/docker/{ID}",
            "/machine.slice/libpod-{ID}.scope",
            "/../cri-containerd-{ID}.scope",
        ] {
            assert_eq!(both(path), (Some(ID.into()), None), "{path}");
        }
        let task = "/ecs/x/0123456789abcdef0123456789abcdef-42";
        assert_eq!(both(task).0.as_deref(), Some("0123456789abcdef0123456789abcdef-42"));
    }

    #[test]
    fn what_is_no_container() {
        for path in ["/", "/user.slice/user-1000.slice/app-{UID}.scope", "/system.slice/podman.service", "/init.scope"]
        {
            assert_eq!(both(path), (None, None), "{path}");
        }
        assert_eq!((container_id("garbage"), pod_uid("")), (None, None));
    }

    #[test]
    fn a_static_pod_has_a_hash() {
        assert_eq!(
            both("/kubepods/burstable/pod0123456789abcdef0123456789abcdef/{ID}").1.as_deref(),
            Some("0123456789abcdef0123456789abcdef")
        );
    }
}
