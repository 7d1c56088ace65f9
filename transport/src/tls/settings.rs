//! `tls`: the Collector's `configtls` keys for clients.

use std::time::Duration;

use phoenix_pipeline::config::{self, Report, Secret};
use serde::{Deserialize, Serialize};

/// Names of TLS versions a setting may hold, oldest first.
const VERSIONS: [&str; 4] = ["1.0", "1.1", "1.2", "1.3"];
/// Names of key exchange groups that are served.
pub(super) const CURVES: [&str; 3] = ["X25519", "P256", "P384"];

/// `tls`: how the peer is verified and who this side is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// How often the files are read again. Accepted; they are read when the exporter is built.
    #[serde(with = "config::duration")]
    pub reload_interval: Duration,
    /// Keys in a trusted platform module; must stay off.
    pub tpm: Tpm,
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
        let twice = [
            ("ca", self.ca_file.is_some() && self.ca_pem.is_some()),
            ("cert", self.cert_file.is_some() && self.cert_pem.is_some()),
            ("key", self.key_file.is_some() && self.key_pem.is_some()),
        ];
        for (name, both) in twice {
            if both {
                report.error(&format!("{name}_pem"), format!("{name}_file is set too: only one of the two is allowed"));
            }
        }
        let (cert, private) =
            (self.cert_file.is_some() || self.cert_pem.is_some(), self.key_file.is_some() || self.key_pem.is_some());
        if cert != private {
            report.error("", "a certificate and its key go together: set cert_file and key_file (or cert_pem and key_pem), or neither");
        }
        self.check_versions(report);
        for suite in &self.cipher_suites {
            if !super::trust::suites().any(|known| known == *suite) {
                let allowed: Vec<_> = super::trust::suites().collect();
                report.unknown("cipher_suites", suite, allowed.iter().map(String::as_str));
            }
        }
        for curve in &self.curve_preferences {
            if !CURVES.contains(&curve.as_str()) {
                report.unknown("curve_preferences", curve, CURVES);
            }
        }
        if self.tpm.enabled {
            report.error("tpm.enabled", "keys in a TPM are not served: use key_file");
        }
    }

    fn check_versions(&self, report: &mut Report<'_>) {
        let place = |version: &Option<String>, default| match version.as_deref() {
            None | Some("") => Some(default),
            Some(name) => VERSIONS.iter().position(|known| *known == name),
        };
        let (min, max) = (place(&self.min_version, 2), place(&self.max_version, 3));
        for (name, found, version) in [("min_version", min, &self.min_version), ("max_version", max, &self.max_version)]
        {
            if found.is_none() {
                let version = version.as_deref().unwrap_or_default();
                report.unknown(name, version, VERSIONS);
            }
        }
        let (Some(min), Some(max)) = (min, max) else { return };
        if max < 2 {
            report.error("max_version", "TLS older than 1.2 is not spoken: 1.2 or 1.3 is allowed");
        } else if max < min {
            report.error("max_version", "is older than min_version");
        }
    }

    /// Keys that are set and have no effect, for one line in the log.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let old = |version: &Option<String>| matches!(version.as_deref(), Some("1.0" | "1.1"));
        let keys = [
            ("tls.reload_interval", !self.reload_interval.is_zero()),
            ("tls.min_version (1.2 is the oldest spoken)", old(&self.min_version)),
            ("tls.include_insecure_cipher_suites", self.include_insecure_cipher_suites),
        ];
        keys.into_iter().filter_map(|(key, set)| set.then_some(key)).collect()
    }
}
