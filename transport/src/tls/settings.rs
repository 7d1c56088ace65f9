//! `tls`: the Collector's `configtls` keys, for clients and for servers.
//!
//! Both sides have most keys in common; [`Common`] is the view of a block in which they are checked and used once.

use std::time::Duration;

use phoenix_pipeline::config::{self, Report, Secret};
use serde::{Deserialize, Serialize};

/// Names of TLS versions a setting may hold, oldest first.
const VERSIONS: [&str; 4] = ["1.0", "1.1", "1.2", "1.3"];
/// Names of key exchange groups that are served.
pub(super) const CURVES: [&str; 3] = ["X25519", "P256", "P384"];
/// How often files are read again, by default.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// `tls`: how the peer is verified and who this side is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Plain text instead of TLS, where the endpoint's scheme does not say which. Default false: what leaves the host is
    /// encrypted unless somebody decides otherwise.
    pub insecure: bool,
    /// Encrypts, but accepts any certificate. Default false: it gives the data to whoever answers.
    pub insecure_skip_verify: bool,
    /// The name the certificate must hold, instead of the endpoint's host. Default: the endpoint's host.
    pub server_name_override: String,
    /// A PEM file with the authorities to trust. Default: the system's.
    pub ca_file: Option<String>,
    /// The same, in place.
    pub ca_pem: Option<Secret>,
    /// Trusts the system's authorities besides `ca_file` or `ca_pem`. Default false.
    pub include_system_ca_certs_pool: bool,
    /// A PEM file with this side's certificate chain (mutual TLS); needs a key.
    pub cert_file: Option<String>,
    /// The same, in place.
    pub cert_pem: Option<Secret>,
    /// A PEM file with the certificate's private key.
    pub key_file: Option<String>,
    /// The same, in place.
    pub key_pem: Option<Secret>,
    /// The oldest version spoken. Default 1.2; older ones are never spoken, whatever this says.
    pub min_version: Option<String>,
    /// The newest version spoken. Default: the newest there is (1.3).
    pub max_version: Option<String>,
    /// Cipher suites of TLS 1.2, by their IANA names; those of 1.3 are not selectable. Default: all that are served, all
    /// of them safe.
    pub cipher_suites: Vec<String>,
    /// Key exchange groups. Default: X25519, P256, P384.
    pub curve_preferences: Vec<String>,
    /// Accepted; unsafe suites are not built in.
    pub include_insecure_cipher_suites: bool,
    /// How often the files are read again; 0s = never. Default 1m: short-lived certificates are replaced hours before they
    /// expire, and a revoked authority should not be trusted for long.
    #[serde(with = "config::duration")]
    pub reload_interval: Duration,
    /// Keys in a trusted platform module; must stay off.
    pub tpm: Tpm,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings {
            insecure: false,
            insecure_skip_verify: false,
            server_name_override: String::new(),
            ca_file: None,
            ca_pem: None,
            include_system_ca_certs_pool: false,
            cert_file: None,
            cert_pem: None,
            key_file: None,
            key_pem: None,
            min_version: None,
            max_version: None,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            include_insecure_cipher_suites: false,
            reload_interval: RELOAD_INTERVAL,
            tpm: Tpm::default(),
        }
    }
}

/// `tls` of a server: who this side is, and which clients are let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTlsSettings {
    /// A PEM file with the server's certificate chain. This or `cert_pem` is required.
    pub cert_file: Option<String>,
    /// The same, in place.
    pub cert_pem: Option<Secret>,
    /// A PEM file with the certificate's private key. This or `key_pem` is required.
    pub key_file: Option<String>,
    /// The same, in place.
    pub key_pem: Option<Secret>,
    /// A PEM file with the authorities of clients. Where it is set, a client without a certificate of theirs is refused.
    pub client_ca_file: Option<String>,
    /// Whether `client_ca_file` is read again like the other files. Default true, unlike the Collector's: an authority that
    /// was taken out of the file must not let anybody in until the next restart.
    pub client_ca_file_reload: bool,
    /// Accepted; servers verify clients with `client_ca_file`.
    pub ca_file: Option<String>,
    /// Accepted; servers verify clients with `client_ca_file`.
    pub ca_pem: Option<Secret>,
    /// Accepted; the system's authorities vouch for servers, not for clients.
    pub include_system_ca_certs_pool: bool,
    /// The oldest version spoken. Default 1.2; older ones are never spoken, whatever this says.
    pub min_version: Option<String>,
    /// The newest version spoken. Default: the newest there is (1.3).
    pub max_version: Option<String>,
    /// Cipher suites of TLS 1.2, by their IANA names; those of 1.3 are not selectable. Default: all that are served, all
    /// of them safe.
    pub cipher_suites: Vec<String>,
    /// Key exchange groups. Default: X25519, P256, P384.
    pub curve_preferences: Vec<String>,
    /// Accepted; unsafe suites are not built in.
    pub include_insecure_cipher_suites: bool,
    /// How often the files are read again; 0s = never. Default 1m, as for clients.
    #[serde(with = "config::duration")]
    pub reload_interval: Duration,
    /// Keys in a trusted platform module; must stay off.
    pub tpm: Tpm,
}

impl Default for ServerTlsSettings {
    fn default() -> Self {
        ServerTlsSettings {
            cert_file: None,
            cert_pem: None,
            key_file: None,
            key_pem: None,
            client_ca_file: None,
            client_ca_file_reload: true,
            ca_file: None,
            ca_pem: None,
            include_system_ca_certs_pool: false,
            min_version: None,
            max_version: None,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            include_insecure_cipher_suites: false,
            reload_interval: RELOAD_INTERVAL,
            tpm: Tpm::default(),
        }
    }
}

/// `tls.tpm`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tpm {
    /// Must be false: keys in a TPM are not served.
    pub enabled: bool,
    /// The device. No effect.
    pub path: String,
    /// No effect.
    pub owner_auth: Option<Secret>,
    /// No effect.
    pub auth: Option<Secret>,
}

impl TlsSettings {
    /// Checks what the types cannot. Paths are relative to this block. Opens no file.
    pub fn check(&self, report: &mut Report<'_>) {
        self.common().check(report);
    }

    /// Keys that are set and have no effect, for one line in the log.
    pub fn without_effect(&self) -> Vec<&'static str> {
        self.common().without_effect()
    }

    pub(super) fn common(&self) -> Common<'_> {
        Common {
            ca: Source::new("ca", &self.ca_file, &self.ca_pem),
            cert: Source::new("cert", &self.cert_file, &self.cert_pem),
            key: Source::new("key", &self.key_file, &self.key_pem),
            min_version: self.min_version.as_deref(),
            max_version: self.max_version.as_deref(),
            cipher_suites: &self.cipher_suites,
            curve_preferences: &self.curve_preferences,
            include_insecure_cipher_suites: self.include_insecure_cipher_suites,
            tpm: &self.tpm,
        }
    }
}

impl ServerTlsSettings {
    /// Checks what the types cannot. Paths are relative to this block. Opens no file.
    pub fn check(&self, report: &mut Report<'_>) {
        let common = self.common();
        common.check(report);
        if !common.cert.is_set() && !common.key.is_set() {
            report.error("", "a server needs a certificate and its key: set cert_file and key_file");
        }
    }

    /// Keys that are set and have no effect, for one line in the log.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let mut keys = self.common().without_effect();
        if self.ca_file.is_some() || self.ca_pem.is_some() || self.include_system_ca_certs_pool {
            keys.push("tls.ca_file and its kin (clients are verified with client_ca_file)");
        }
        keys
    }

    pub(super) fn common(&self) -> Common<'_> {
        Common {
            // Named by the Collector and used by no server.
            ca: Source::new("ca", &None, &None),
            cert: Source::new("cert", &self.cert_file, &self.cert_pem),
            key: Source::new("key", &self.key_file, &self.key_pem),
            min_version: self.min_version.as_deref(),
            max_version: self.max_version.as_deref(),
            cipher_suites: &self.cipher_suites,
            curve_preferences: &self.curve_preferences,
            include_insecure_cipher_suites: self.include_insecure_cipher_suites,
            tpm: &self.tpm,
        }
    }

    pub(super) fn client_ca(&self) -> Source<'_> {
        Source::new("client_ca", &self.client_ca_file, &None)
    }
}

/// Where one piece of PEM comes from: a file, or the text itself.
#[derive(Clone, Copy)]
pub(super) struct Source<'s> {
    /// The name of its keys, without `_file` and `_pem`.
    pub(super) key: &'static str,
    pub(super) file: Option<&'s str>,
    pub(super) pem: Option<&'s Secret>,
}

impl<'s> Source<'s> {
    fn new(key: &'static str, file: &'s Option<String>, pem: &'s Option<Secret>) -> Self {
        // An empty text is what an unset variable of the environment leaves; the Collector takes it for unset, too.
        let file = file.as_deref().filter(|file| !file.is_empty());
        Source { key, file, pem: pem.as_ref().filter(|pem| !pem.is_empty()) }
    }

    fn is_set(&self) -> bool {
        self.file.is_some() || self.pem.is_some()
    }

    /// The file, if it is one.
    pub(super) fn files(&self) -> Vec<String> {
        self.file.map(ToOwned::to_owned).into_iter().collect()
    }
}

/// What the blocks of clients and servers have in common.
pub(super) struct Common<'s> {
    pub(super) ca: Source<'s>,
    pub(super) cert: Source<'s>,
    pub(super) key: Source<'s>,
    pub(super) min_version: Option<&'s str>,
    pub(super) max_version: Option<&'s str>,
    pub(super) cipher_suites: &'s [String],
    pub(super) curve_preferences: &'s [String],
    include_insecure_cipher_suites: bool,
    tpm: &'s Tpm,
}

impl Common<'_> {
    /// The files that are named.
    pub(super) fn files(&self) -> Vec<String> {
        [self.ca, self.cert, self.key].iter().flat_map(Source::files).collect()
    }

    fn check(&self, report: &mut Report<'_>) {
        for Source { key, file, pem } in [self.ca, self.cert, self.key] {
            if file.is_some() && pem.is_some() {
                report.error(&format!("{key}_pem"), format!("{key}_file is set too: only one of the two is allowed"));
            }
        }
        if self.cert.is_set() != self.key.is_set() {
            report.error("", "a certificate and its key go together: set cert_file and key_file (or cert_pem and key_pem), or neither");
        }
        self.check_versions(report);
        for suite in self.cipher_suites {
            if !super::crypto::suites().any(|known| known == *suite) {
                let allowed: Vec<_> = super::crypto::suites().collect();
                report.unknown("cipher_suites", suite, allowed.iter().map(String::as_str));
            }
        }
        for curve in self.curve_preferences {
            if !CURVES.contains(&curve.as_str()) {
                report.unknown("curve_preferences", curve, CURVES);
            }
        }
        if self.tpm.enabled {
            report.error("tpm.enabled", "keys in a TPM are not served: use key_file");
        }
    }

    fn check_versions(&self, report: &mut Report<'_>) {
        let place = |version: Option<&str>, default| match version {
            None | Some("") => Some(default),
            Some(name) => VERSIONS.iter().position(|known| *known == name),
        };
        let (min, max) = (place(self.min_version, 2), place(self.max_version, 3));
        for (name, found, version) in [("min_version", min, self.min_version), ("max_version", max, self.max_version)] {
            if found.is_none() {
                report.unknown(name, version.unwrap_or_default(), VERSIONS);
            }
        }
        let (Some(min), Some(max)) = (min, max) else { return };
        if max < 2 {
            report.error("max_version", "TLS older than 1.2 is not spoken: 1.2 or 1.3 is allowed");
        } else if max < min {
            report.error("max_version", "is older than min_version");
        }
    }

    fn without_effect(&self) -> Vec<&'static str> {
        let keys = [
            ("tls.min_version (1.2 is the oldest spoken)", matches!(self.min_version, Some("1.0" | "1.1"))),
            ("tls.include_insecure_cipher_suites", self.include_insecure_cipher_suites),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }
}
