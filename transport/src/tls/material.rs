//! Certificates, keys and authorities out of PEM: the one place that reads files, each of them once per look.
//!
//! Messages name the key and the file and what is wrong with it, never its content.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::settings::Source;

/// The longest file that is read: the largest public bundle of authorities is a twentieth of it.
const LONGEST: u64 = 4 << 20;

/// The content of all files that the settings name, as it was at one moment.
pub(super) struct Files(BTreeMap<String, Result<Vec<u8>, String>>);

impl Files {
    /// Reads them all. One that cannot be read is a complaint of whoever needs it.
    pub(super) fn read(paths: &[String]) -> Files {
        let content = |path: &String| (path.clone(), bounded(path).map_err(|error| error.to_string()));
        Files(paths.iter().map(content).collect())
    }

    /// Equal for equal content; a change of dates or of a link's target alone is none.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

/// The content of a file. What has no end (a device) is not read to it.
fn bounded(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut content)?;
    match content.len() as u64 {
        0..=LONGEST => Ok(content),
        _ => Err(io::Error::other("it is larger than any PEM file (4 MiB)")),
    }
}

/// PEM text and where it came from, for messages.
struct Pem<'f> {
    place: String,
    bytes: &'f [u8],
}

fn pem<'f>(source: &Source<'f>, files: &'f Files) -> Result<Option<Pem<'f>>, String> {
    let Source { key, file, pem } = source;
    match (file, pem) {
        (Some(path), _) => match files.0.get(*path) {
            Some(Ok(bytes)) => Ok(Some(Pem { place: format!("tls.{key}_file {path}"), bytes })),
            Some(Err(error)) => Err(format!("tls.{key}_file: cannot read {path}: {error}")),
            None => Err(format!("tls.{key}_file: {path} was not read")),
        },
        (None, Some(text)) => Ok(Some(Pem { place: format!("tls.{key}_pem"), bytes: text.reveal().as_bytes() })),
        (None, None) => Ok(None),
    }
}

fn certificates(pem: &Pem<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.bytes).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("{}: no certificate in PEM form in it", pem.place)),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{}: {error}", pem.place)),
    }
}

/// The authorities of a file or text; `None` where neither is set.
pub(super) fn authorities(source: &Source<'_>, files: &Files) -> Result<Option<RootCertStore>, String> {
    let Some(own) = pem(source, files)? else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for authority in certificates(&own)? {
        roots
            .add(authority)
            .map_err(|error| format!("{}: a certificate in it cannot be trusted: {error}", own.place))?;
    }
    Ok(Some(roots))
}

/// A certificate chain with its key: who this side is.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) validity: Validity,
    /// Names the certificate in messages.
    pub(super) place: String,
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Validity {
    /// What is wrong with the certificate at `now`, if anything.
    pub(super) fn complaint(&self, now: SystemTime) -> Option<String> {
        let date = httpdate::fmt_http_date;
        if now > self.until {
            Some(format!("it expired on {}", date(self.until)))
        } else if now < self.from {
            Some(format!("it is not valid before {}", date(self.from)))
        } else {
            None
        }
    }
}

/// The identity of a certificate and a key; `None` where there is no certificate. Whether they go together is found when
/// they are put to use.
pub(super) fn identity(cert: &Source<'_>, key: &Source<'_>, files: &Files) -> Result<Option<Identity>, String> {
    let (Some(cert), Some(key)) = (pem(cert, files)?, pem(key, files)?) else { return Ok(None) };
    let chain = certificates(&cert)?;
    let private = PrivateKeyDer::from_pem_slice(key.bytes)
        .map_err(|error| format!("{}: no private key in PEM form: {error}", key.place))?;
    let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let Some((_, leaf)) = leaf else { return Err(format!("{}: its first certificate cannot be read", cert.place)) };
    let time = |time: &x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
    };
    let validity = Validity { from: time(&leaf.validity().not_before), until: time(&leaf.validity().not_after) };
    drop(leaf);
    Ok(Some(Identity { chain, key: private, validity, place: cert.place }))
}

/// The subject of a certificate as RFC 4514 writes it ("CN=agent"), cut to what a log line or a label can bear.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string().chars().take(256).collect())
}
