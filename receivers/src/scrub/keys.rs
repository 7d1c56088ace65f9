//! Which names announce a secret: of options, variables, properties, headers, JSON members and query parameters alike.
//!
//! Only the name is judged here, never the value.

/// How surely a name announces a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// Often a secret, but also the name of switches and files: an option or a path after it stays.
    Weak,
    /// Always taken for one.
    Strong,
}

/// Found anywhere in a name, these make it a secret's.
#[rustfmt::skip] // a list of words
const STRONG_PARTS: &[&str] = &[
    "password", "passwd", "passphrase", "passcode", "secret", "apikey", "api_key", "accesskey",
    "access_key", "privatekey", "private_key", "accountkey", "account_key", "sharedkey", "shared_key", "licensekey",
    "license_key", "insertkey", "insert_key", "authkey", "auth_key", "masterkey", "master_key", "encryptionkey",
    "encryption_key", "signingkey", "signing_key", "masterauth", "bearer",
];

/// A word of a name (between `_`, `-`, `.` or a change of case) that is one of these.
#[rustfmt::skip] // a list of words
const STRONG_WORDS: &[&str] = &[
    "pass", "pwd", "pw", "psw", "pswd", "passin", "passout", "requirepass", "storepass", "keypass", "userpass",
    "dbpass", "jwt", "creds",
];

/// The last word of a name that may be a secret's.
const WEAK_LAST: &[&str] = &["auth", "cookie", "sig", "signature", "pat", "otp", "cred", "setcookie", "community"];

/// Words before `key` that make it an ordinary one.
#[rustfmt::skip] // a list of words
const ORDINARY_KEYS: &[&str] = &[
    "public", "pub", "primary", "foreign", "sort", "partition", "group", "host", "routing", "row", "index", "cache",
    "shard", "order", "object", "registry", "map", "lookup", "message", "record", "join", "cluster", "label",
    "config",
];

/// A last word that makes the name one about a secret, not of one.
#[rustfmt::skip] // a list of words
const ABOUT: &[&str] = &[
    "file", "path", "dir", "url", "uri", "endpoint", "ttl", "timeout", "expiry", "expiration", "length", "size",
    "count", "limit", "policy", "type", "provider", "name", "stdin", "prompt", "enabled", "disabled", "version",
    "algorithm", "mode", "interval", "ref", "webhook", "header", "issuer", "audience", "lifetime", "rotation",
    "namespace", "class", "format",
];

/// A first word that makes the name a switch.
const SWITCHES: &[&str] = &["no", "use", "ask", "prompt", "enable", "disable", "skip", "without", "require", "allow"];

/// Judges a name; leading dashes and the `-D` of Java's properties do not count.
pub(super) fn strength(key: &str) -> Option<Strength> {
    let name = normal(key.strip_prefix("-D").unwrap_or(key).trim_start_matches('-'));
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    let (first, last) = (*words.first()?, *words.last()?);
    let about = ABOUT.contains(&last) || ["file", "path", "url"].iter().any(|end| last.ends_with(end));
    if about || (words.len() > 1 && SWITCHES.contains(&first)) {
        return None;
    }
    let token = |word: &str| word.ends_with("token");
    let strong_last = last.ends_with("authorization");
    if strong_last
        || STRONG_PARTS.iter().any(|part| name.contains(part))
        || words.iter().any(|word| STRONG_WORDS.contains(word) || token(word))
    {
        return Some(Strength::Strong);
    }
    let keyed = last == "key" && words.len() > 1 && !words.iter().any(|word| ORDINARY_KEYS.contains(word));
    (keyed || name.contains("credential") || WEAK_LAST.contains(&last)).then_some(Strength::Weak)
}

/// True for the names of HTTP headers that carry secrets: what follows their colon is a secret to the end of the header.
pub(super) fn is_header(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let key = key.strip_prefix("-h").unwrap_or(&key);
    key.ends_with("authorization") || key.ends_with("cookie") || (key.starts_with("x-") && strength(key).is_some())
}

/// Lower case with `_` between words: `db-Password`, `dbPassword` and `DB_PASSWORD` are one name.
fn normal(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    let mut was_lower = false;
    for c in key.chars() {
        if matches!(c, '-' | '.' | '_' | ' ') {
            name.push('_');
            was_lower = false;
            continue;
        }
        if c.is_ascii_uppercase() && was_lower {
            name.push('_');
        }
        was_lower = c.is_ascii_lowercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}
