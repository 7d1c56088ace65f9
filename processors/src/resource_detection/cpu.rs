//! host.cpu.*: what `/proc/cpuinfo` says of the first processor.

use super::config::SystemAttributes;
use super::findings::{Findings, Found};
use super::host::Host;

/// Adds what is wanted. The keys of other architectures than x86 differ; what is not there is left out.
pub(super) fn detect(host: &Host, wanted: &SystemAttributes, findings: &mut Findings) {
    let texts = [
        (wanted.host_cpu_vendor_id, "host.cpu.vendor.id", "vendor_id"),
        (wanted.host_cpu_family, "host.cpu.family", "cpu family"),
        (wanted.host_cpu_model_id, "host.cpu.model.id", "model"),
        (wanted.host_cpu_model_name, "host.cpu.model.name", "model name"),
        (wanted.host_cpu_stepping, "host.cpu.stepping", "stepping"),
    ];
    if !wanted.host_cpu_cache_l2_size.enabled && texts.iter().all(|(toggle, ..)| !toggle.enabled) {
        return;
    }
    let info = match host.read("/proc/cpuinfo") {
        Ok(info) => info,
        Err(error) => return findings.problem(format!("host.cpu.* is not known: cannot read /proc/cpuinfo: {error}")),
    };
    for (_, key, name) in texts.into_iter().filter(|(toggle, ..)| toggle.enabled) {
        match value(&info, name) {
            Some(text) => findings.add(key, text),
            None => findings.problem(format!("{key} is not known: /proc/cpuinfo has no \"{name}\"")),
        }
    }
    if wanted.host_cpu_cache_l2_size.enabled {
        match value(&info, "cache size").and_then(kibibytes) {
            Some(bytes) => findings.add("host.cpu.cache.l2.size", Found::Int(bytes)),
            None => findings.problem("host.cpu.cache.l2.size is not known: /proc/cpuinfo has no \"cache size\" in KB"),
        }
    }
}

/// The value of the first line of that name.
fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// Bytes of a size like `512 KB`.
fn kibibytes(text: &str) -> Option<i64> {
    text.strip_suffix("KB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_detection::config::Toggle;
    use crate::resource_detection::tests::host;

    const INFO: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\
        stepping\t: 1\ncache size\t: 1024 KB\n\nprocessor\t: 1\nvendor_id\t: Other\n";

    fn all() -> SystemAttributes {
        let on = Toggle { enabled: true };
        SystemAttributes {
            host_cpu_vendor_id: on,
            host_cpu_family: on,
            host_cpu_model_id: on,
            host_cpu_model_name: on,
            host_cpu_stepping: on,
            host_cpu_cache_l2_size: on,
            ..SystemAttributes::default()
        }
    }

    #[test]
    fn the_first_processor_counts() {
        let mut findings = Findings::default();
        detect(&host(&[("proc/cpuinfo", INFO)], &[]), &all(), &mut findings);
        assert!(findings.problems().is_empty());
        assert_eq!(findings.get("host.cpu.vendor.id"), Some(&"AuthenticAMD".into()));
        assert_eq!(findings.get("host.cpu.family"), Some(&"26".into()));
        assert_eq!(findings.get("host.cpu.model.id"), Some(&"2".into()));
        assert_eq!(findings.get("host.cpu.model.name"), Some(&"AMD EPYC".into()));
        assert_eq!(findings.get("host.cpu.stepping"), Some(&"1".into()));
        assert_eq!(findings.get("host.cpu.cache.l2.size"), Some(&Found::Int(1 << 20)));
    }

    #[test]
    fn what_is_missing_is_said_and_what_is_off_is_not_read() {
        let mut findings = Findings::default();
        detect(&host(&[("proc/cpuinfo", "processor : 0\nBogoMIPS : 50\n")], &[]), &all(), &mut findings);
        assert_eq!((findings.keys().len(), findings.problems().len()), (0, 6));
        let mut findings = Findings::default();
        detect(&host(&[], &[]), &SystemAttributes::default(), &mut findings);
        assert!(findings.problems().is_empty());
    }
}
