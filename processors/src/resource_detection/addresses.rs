//! host.ip and host.mac: the addresses of the interfaces that are up, without the loopback; host.interface: all names.
//!
//! Read from `/proc/net` and `/sys/class/net`, so that with a `root_path` the node's network is seen: through its first
//! process, since `/proc/net` itself always shows the reader's own.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::config::SystemAttributes;
use super::findings::{Findings, Found};
use super::host::Host;

/// Flags of an interface (linux/if.h).
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;

/// Adds what is wanted.
pub(super) fn detect(host: &Host, wanted: &SystemAttributes, findings: &mut Findings) {
    if wanted.host_ip.enabled {
        let net = if host.is_elsewhere() { "/proc/1/net" } else { "/proc/self/net" };
        // A kernel without IPv4 or without IPv6 lacks the file.
        let v4 = host.read(&format!("{net}/fib_trie")).map(|text| local_v4(&text)).unwrap_or_default();
        let v6 = host.read(&format!("{net}/if_inet6")).map(|text| local_v6(&text)).unwrap_or_default();
        let addresses: Vec<String> =
            v4.iter().map(Ipv4Addr::to_string).chain(v6.iter().map(Ipv6Addr::to_string)).collect();
        add(findings, "host.ip", addresses, "no interface has an address");
    }
    if wanted.host_mac.enabled || wanted.host_interface.enabled {
        let interfaces = interfaces(host);
        if wanted.host_mac.enabled {
            let up = interfaces.iter().filter(|interface| interface.counts);
            let address = |interface: &Interface| host.read(&format!("/sys/class/net/{}/address", interface.name)).ok();
            let macs = up.filter_map(address).filter_map(|address| hardware_address(&address)).collect();
            add(findings, "host.mac", macs, "no interface that is up has a hardware address");
        }
        if wanted.host_interface.enabled {
            let names = interfaces.into_iter().map(|interface| interface.name).collect();
            add(findings, "host.interface", names, "no interface can be seen");
        }
    }
}

fn add(findings: &mut Findings, key: &str, values: Vec<String>, otherwise: &str) {
    if values.is_empty() {
        findings.problem(format!("{key} is not known: {otherwise}"));
    } else {
        findings.add(key, Found::List(values));
    }
}

/// The local addresses of a `fib_trie`, sorted. An address line is followed by lines that say what it is:
/// `|-- 10.0.0.5` and `/32 host LOCAL`.
fn local_v4(trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut address = None;
    let mut found = BTreeSet::new();
    for line in trie.lines().map(str::trim_start) {
        if let Some(text) = line.strip_prefix("|-- ") {
            address = text.trim().parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(address.filter(|address| !address.is_loopback()));
        }
    }
    found
}

/// The addresses of an `if_inet6`, in the order of the file: 32 hexadecimal digits, then index, prefix, scope, flags, name.
fn local_v6(table: &str) -> Vec<Ipv6Addr> {
    let addresses = table.lines().filter_map(|line| line.split_ascii_whitespace().next());
    let addresses = addresses.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from);
    addresses.filter(|address| !address.is_loopback()).collect()
}

/// A network interface.
struct Interface {
    index: u32,
    name: String,
    /// Up, and no loopback.
    counts: bool,
}

/// All interfaces, in the order of their indexes.
fn interfaces(host: &Host) -> Vec<Interface> {
    let entries = fs::read_dir(host.path("/sys/class/net")).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let interface = |name: String| {
        let number = |file: &str| {
            let text = host.read(&format!("/sys/class/net/{name}/{file}")).ok()?;
            match text.trim().strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => text.trim().parse().ok(),
            }
        };
        // Not every entry is an interface: bonding puts a file there.
        let (index, flags) = (number("ifindex")?, number("flags")?);
        Some(Interface { index, counts: flags & UP != 0 && flags & LOOPBACK == 0, name })
    };
    let mut interfaces: Vec<Interface> = names.filter_map(interface).collect();
    interfaces.sort_unstable_by_key(|interface| interface.index);
    interfaces
}

/// The convention's form of a hardware address: `AC-DE-48-23-45-67`. Tunnels have none, or one of zeros.
fn hardware_address(text: &str) -> Option<String> {
    let octets: Vec<&str> = text.trim().split(':').collect();
    let well_formed =
        octets.len() >= 6 && octets.iter().all(|octet| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok());
    let zero = octets.iter().all(|octet| *octet == "00");
    (well_formed && !zero).then(|| octets.join("-").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_detection::config::Toggle;
    use crate::resource_detection::tests::host;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.0.0.0/24 2 0 2\n        \
        |-- 10.0.0.0\n           /24 link UNICAST\n        |-- 10.0.0.5\n           /32 host LOCAL\n        |-- 10.0.0.255\n           \
        /32 link BROADCAST\nLocal:\n        |-- 127.0.0.1\n           /32 host LOCAL\n        |-- 10.0.0.5\n           /32 host LOCAL\n";
    const INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo\nfe80000000000000a8aa00fffe000001 02 40 20 80     eth0\n";

    #[test]
    fn addresses_of_interfaces_that_are_up() {
        let files = [
            ("proc/self/net/fib_trie", TRIE),
            ("proc/self/net/if_inet6", INET6),
            ("sys/class/net/bonding_masters", "\n"),
            ("sys/class/net/lo/ifindex", "1\n"),
            ("sys/class/net/lo/flags", "0x9\n"),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("sys/class/net/eth0/ifindex", "3\n"),
            ("sys/class/net/eth0/flags", "0x1003\n"),
            ("sys/class/net/eth0/address", "ac:de:48:23:45:67\n"),
            ("sys/class/net/eth1/ifindex", "2\n"),
            ("sys/class/net/eth1/flags", "0x1002\n"),
            ("sys/class/net/eth1/address", "ac:de:48:23:45:68\n"),
            ("sys/class/net/tun0/ifindex", "4\n"),
            ("sys/class/net/tun0/flags", "0x1091\n"),
            ("sys/class/net/tun0/address", "\n"),
        ];
        let on = Toggle { enabled: true };
        let wanted = SystemAttributes { host_ip: on, host_mac: on, host_interface: on, ..SystemAttributes::default() };
        let mut findings = Findings::default();
        detect(&host(&files, &[]), &wanted, &mut findings);
        let list = |texts: &[&str]| Some(Found::List(texts.iter().map(|text| (*text).to_owned()).collect()));
        assert_eq!(findings.get("host.ip").cloned(), list(&["10.0.0.5", "fe80::a8aa:ff:fe00:1"]));
        assert_eq!(findings.get("host.mac").cloned(), list(&["AC-DE-48-23-45-67"]));
        assert_eq!(findings.get("host.interface").cloned(), list(&["lo", "eth1", "eth0", "tun0"]));
        let mut findings = Findings::default();
        detect(&host(&[], &[]), &wanted, &mut findings);
        assert_eq!(findings.problems().len(), 3);
    }
}
