//! The `system` detector: the host's names, from files alone; its operating system, addresses and processor stand beside.
//!
//! Nothing is looked up in the network: a host's full name is what its hosts file says. With a `root_path` the host's own
//! files are read; its name then comes from `/etc/hostname`, because the kernel would answer with the container's.

use super::addresses;
use super::config::{HostnameSource, System};
use super::cpu;
use super::findings::Findings;
use super::host::Host;
use super::os;

/// Runs the detector.
pub(super) fn detect(host: &Host, config: &System, findings: &mut Findings) {
    let wanted = &config.resource_attributes;
    if wanted.host_name.enabled {
        match host_name(host, &config.hostname_sources) {
            Ok(name) => findings.add("host.name", name),
            Err(why) => findings.problem(why),
        }
    }
    if wanted.os_type.enabled {
        findings.add("os.type", std::env::consts::OS);
    }
    if wanted.host_arch.enabled {
        findings.add("host.arch", arch(std::env::consts::ARCH));
    }
    if wanted.host_id.enabled {
        match machine_id(host) {
            Some(id) => findings.add("host.id", id),
            None => findings
                .problem("host.id is not known: neither /etc/machine-id nor /var/lib/dbus/machine-id holds an id"),
        }
    }
    os::detect(host, wanted, findings);
    addresses::detect(host, wanted, findings);
    cpu::detect(host, wanted, findings);
}

/// The first name that one of the sources gives.
fn host_name(host: &Host, sources: &[HostnameSource]) -> Result<String, String> {
    let short = short_name(host)?;
    // Sources that only the network could answer give nothing; if no other is listed, the short name is better than none.
    let named = sources.iter().find_map(|source| match source {
        HostnameSource::Os => Some(short.clone()),
        HostnameSource::Dns | HostnameSource::Cname => {
            host.read("/etc/hosts").ok().and_then(|hosts| full_name(&hosts, &short))
        }
        HostnameSource::Lookup => None,
    });
    Ok(named.unwrap_or(short))
}

/// The host's name as the kernel or its file has it.
pub(super) fn short_name(host: &Host) -> Result<String, String> {
    let kernel = || host.read_own("/proc/sys/kernel/hostname");
    let (first, text) = if host.is_elsewhere() {
        ("/etc/hostname under root_path", host.read("/etc/hostname").or_else(|_| kernel()))
    } else {
        ("/proc/sys/kernel/hostname", kernel())
    };
    let text = text.map_err(|error| format!("host.name is not known: cannot read {first}: {error}"))?;
    // /etc/hostname may begin with comments (hostname(5)).
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    name.map(str::to_owned).ok_or_else(|| format!("host.name is not known: {first} holds no name"))
}

/// The canonical name (the first of its line) that a hosts file (hosts(5)) has for `name`, if it is a full one.
fn full_name(hosts: &str, name: &str) -> Option<String> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut canonical = lines.filter_map(|line| {
        let mut names = line.split_ascii_whitespace().skip(1);
        let canonical = names.next()?;
        (canonical == name || names.any(|alias| alias == name)).then_some(canonical)
    });
    // A line that says "127.0.0.1 localhost myhost" knows no full name of myhost.
    canonical.find(|canonical| canonical.contains('.') && !canonical.starts_with("localhost")).map(str::to_owned)
}

fn machine_id(host: &Host) -> Option<String> {
    let files = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let ids = files.into_iter().filter_map(|file| host.read(file).ok());
    // Images are shipped with an empty file, or with the word "uninitialized".
    ids.map(|id| id.trim().to_owned()).find(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The convention's names of architectures, from Rust's; its own where there is none.
fn arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_detection::config::{SystemAttributes, Toggle};
    use crate::resource_detection::tests::{host, host_elsewhere};

    fn on() -> Toggle {
        Toggle { enabled: true }
    }

    fn named(hosts: &str, sources: &[HostnameSource]) -> String {
        let files = [("proc/sys/kernel/hostname", "web1\n"), ("etc/hosts", hosts)];
        host_name(&host(&files, &[]), sources).unwrap()
    }

    #[test]
    fn the_full_name_is_what_the_hosts_file_says() {
        use HostnameSource::{Cname, Dns, Lookup, Os};
        let hosts = "127.0.0.1 localhost\n# 10.0.0.9 no.example web1\n10.0.0.1 web1.example.org web1 # here\n";
        assert_eq!(named(hosts, &[Dns, Os]), "web1.example.org");
        assert_eq!(named(hosts, &[Os, Dns]), "web1");
        assert_eq!(named(hosts, &[Cname]), "web1.example.org");
        assert_eq!(named(hosts, &[Lookup]), "web1", "no source is left: the short name");
        assert_eq!(named("127.0.1.1 web1\n127.0.0.1 localhost.localdomain localhost web1\n", &[Dns, Os]), "web1");
    }

    #[test]
    fn a_node_seen_from_a_container_has_its_own_name() {
        let own = [("proc/sys/kernel/hostname", "phoenix-pod\n")];
        let node = host_elsewhere(
            &own,
            &[("etc/hostname", "# comment\nnode7\n"), ("etc/hosts", "1.2.3.4 node7.example node7\n")],
        );
        assert_eq!(host_name(&node, &[HostnameSource::Os]).unwrap(), "node7");
        assert_eq!(host_name(&node, &[HostnameSource::Dns]).unwrap(), "node7.example");
        let node = host_elsewhere(&own, &[]);
        assert_eq!(host_name(&node, &[HostnameSource::Os]).unwrap(), "phoenix-pod");
        assert!(host_name(&host(&[], &[]), &[]).unwrap_err().contains("/proc/sys/kernel/hostname"));
    }

    #[test]
    fn two_attributes_by_default_and_the_rest_on_request() {
        let files = [
            ("proc/sys/kernel/hostname", "web1\n"),
            ("etc/machine-id", "uninitialized\n"),
            ("var/lib/dbus/machine-id", "00112233445566778899aabbccddeeff\n"),
        ];
        let host = host(&files, &[]);
        let mut findings = Findings::default();
        detect(&host, &System::default(), &mut findings);
        assert_eq!(findings.keys(), ["host.name", "os.type"]);
        assert!(findings.problems().is_empty());
        let attributes = SystemAttributes { host_id: on(), host_arch: on(), ..SystemAttributes::default() };
        let mut findings = Findings::default();
        detect(&host, &System { resource_attributes: attributes, ..System::default() }, &mut findings);
        assert_eq!(findings.get("host.id"), Some(&"00112233445566778899aabbccddeeff".into()));
        assert_eq!((arch("x86_64"), arch("s390x")), ("amd64", "s390x"));
    }

    #[test]
    fn what_is_wanted_and_missing_is_said() {
        let attributes = SystemAttributes { host_id: on(), os_name: on(), ..SystemAttributes::default() };
        let mut findings = Findings::default();
        detect(&host(&[], &[]), &System { resource_attributes: attributes, ..System::default() }, &mut findings);
        let problems = findings.problems().join("\n");
        assert!(
            problems.contains("host.name") && problems.contains("machine-id") && problems.contains("os-release"),
            "{problems}"
        );
    }
}
