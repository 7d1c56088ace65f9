//! os.name, os.version, os.build.id and os.description, with the Collector's choice of sources.

use super::config::SystemAttributes;
use super::findings::Findings;
use super::host::Host;
use super::system::short_name;

/// Adds what is wanted.
pub(super) fn detect(host: &Host, wanted: &SystemAttributes, findings: &mut Findings) {
    let toggles = [wanted.os_name, wanted.os_version, wanted.os_build_id, wanted.os_description];
    if toggles.iter().all(|toggle| !toggle.enabled) {
        return;
    }
    let release = host.read("/etc/os-release").or_else(|_| host.read("/usr/lib/os-release"));
    let release = release.unwrap_or_else(|error| {
        findings.problem(format!("cannot read /etc/os-release: {error}"));
        String::new()
    });
    let kernel =
        |file: &str| host.read_own(&format!("/proc/sys/kernel/{file}")).ok().map(|text| text.trim().to_owned());
    let mut add = |enabled: bool, key: &str, value: &dyn Fn() -> Option<String>| {
        if let Some(value) = enabled.then(value).flatten() {
            findings.add(key, value);
        }
    };
    add(wanted.os_name.enabled, "os.name", &|| os_release(&release, "ID"));
    add(wanted.os_version.enabled, "os.version", &|| {
        debian_version(host, &release).or_else(|| os_release(&release, "VERSION_ID"))
    });
    add(wanted.os_build_id.enabled, "os.build.id", &|| {
        os_release(&release, "BUILD_ID").or_else(|| kernel("osrelease"))
    });
    add(wanted.os_description.enabled, "os.description", &|| {
        let machine = Some(std::env::consts::ARCH.to_owned());
        let uname = [kernel("ostype"), short_name(host).ok(), kernel("osrelease"), kernel("version"), machine];
        let uname = uname.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let name = os_release(&release, "PRETTY_NAME").or_else(|| os_release(&release, "NAME"));
        Some(name.map_or(uname.clone(), |name| format!("{name} ({uname})")))
    });
}

/// Debian's point release, which its os-release does not hold; testing has a word there instead of a number.
fn debian_version(host: &Host, release: &str) -> Option<String> {
    os_release(release, "ID").filter(|id| id == "debian")?;
    let version = host.read("/etc/debian_version").ok()?;
    Some(version.trim().to_owned()).filter(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// A value of an os-release file (os-release(5)): shell quoting, the last assignment holds, empty is not there.
fn os_release(text: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().rev();
    let value = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut plain = String::with_capacity(value.len());
    let mut characters = quoted.unwrap_or(value).chars();
    while let Some(character) = characters.next() {
        // A backslash only protects the next character.
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    Some(plain).filter(|plain| !plain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_detection::config::Toggle;
    use crate::resource_detection::tests::host;

    const RELEASE: &str =
        "NAME=\"Debian GNU/Linux\"\nVERSION_ID='13'\nPRETTY_NAME=\"Debian \\\"x\\\"\"\nID=debian\nEMPTY=\n";

    fn all() -> SystemAttributes {
        let on = Toggle { enabled: true };
        SystemAttributes {
            os_name: on,
            os_version: on,
            os_build_id: on,
            os_description: on,
            ..SystemAttributes::default()
        }
    }

    #[test]
    fn os_release_is_read_like_a_shell_does() {
        assert_eq!(os_release(RELEASE, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(os_release(RELEASE, "VERSION_ID").as_deref(), Some("13"));
        assert_eq!(os_release(RELEASE, "PRETTY_NAME").as_deref(), Some("Debian \"x\""));
        assert_eq!(os_release(RELEASE, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(RELEASE, "EMPTY"), None);
        assert_eq!(os_release(RELEASE, "BUILD_ID"), None);
    }

    #[test]
    fn names_and_versions() {
        let mut files = vec![
            ("proc/sys/kernel/hostname", "web1\n"),
            ("proc/sys/kernel/ostype", "Linux\n"),
            ("proc/sys/kernel/osrelease", "6.18.0\n"),
            ("proc/sys/kernel/version", "#1 SMP\n"),
            ("usr/lib/os-release", RELEASE),
        ];
        let found = |files: &[(&str, &str)]| {
            let mut findings = Findings::default();
            detect(&host(files, &[]), &all(), &mut findings);
            assert!(findings.problems().is_empty());
            findings
        };
        let findings = found(&files);
        assert_eq!(findings.get("os.name"), Some(&"debian".into()));
        assert_eq!(findings.get("os.version"), Some(&"13".into()));
        assert_eq!(findings.get("os.build.id"), Some(&"6.18.0".into()));
        let description = format!("Debian \"x\" (Linux web1 6.18.0 #1 SMP {})", std::env::consts::ARCH);
        assert_eq!(findings.get("os.description"), Some(&description.as_str().into()));
        files.push(("etc/debian_version", "13.2\n"));
        assert_eq!(found(&files).get("os.version"), Some(&"13.2".into()));
        files.push(("etc/debian_version", "forky/sid\n"));
        assert_eq!(found(&files).get("os.version"), Some(&"13".into()));
    }
}
