//! What secrets look like when nothing around them says so.
//!
//! Only shapes that issuers made to be recognised, and AWS secret keys by their length and mixture. Hexadecimal text (hashes,
//! UUIDs) is never taken for a secret here.

/// Prefix and the least number of characters that follow it.
#[rustfmt::skip] // one issuer a line
const PREFIXES: &[(&str, usize)] = &[
    ("AKIA", 16), ("ASIA", 16), ("AIDA", 16), ("AROA", 16), ("AGPA", 16), ("ANPA", 16), ("ANVA", 16), ("ABIA", 16), // AWS
    ("ghp_", 16), ("gho_", 16), ("ghu_", 16), ("ghs_", 16), ("ghr_", 16), ("github_pat_", 16), // GitHub
    ("glpat-", 16), ("glptt-", 16), ("gldt-", 16), ("glrt-", 16), ("glsoat-", 16), ("glcbt-", 16), // GitLab
    ("glsa_", 16), ("glc_", 16), // Grafana
    ("xoxa-", 8), ("xoxb-", 8), ("xoxe-", 8), ("xoxo-", 8), ("xoxp-", 8), ("xoxr-", 8), ("xoxs-", 8), ("xapp-", 8), // Slack
    ("sk_live_", 8), ("sk_test_", 8), ("rk_live_", 8), ("rk_test_", 8), ("whsec_", 8), // Stripe
    ("AIza", 30), ("ya29.", 16), ("GOCSPX-", 16), // Google
    ("hvs.", 16), ("hvb.", 16), ("hvr.", 16), // Vault
    ("npm_", 20), ("pypi-", 20), ("dckr_pat_", 16), ("rubygems_", 20), // registries
    ("sk-", 20), ("hf_", 20), // model services
    ("NRAK-", 16), ("NRII-", 16), ("dt0c01.", 16), ("dt0s01.", 16), // New Relic, Dynatrace
    ("dop_v1_", 16), ("doo_v1_", 16), ("shpat_", 16), ("SG.", 30), ("PMAK-", 16), ("tskey-", 12), ("lin_api_", 16), ("dapi", 32),
    ("AGE-SECRET-KEY-1", 16),
];

/// So much of a token is looked at before it is taken for one.
const SAMPLE: usize = 64;

/// An AWS secret access key has this many characters.
const AWS_SECRET_LEN: usize = 40;

/// Changes between upper case, lower case and digits: 40 random characters have 24 ± 3, names and relative paths fewer than this.
const MIXTURE: usize = 13;

/// The same for text that begins like an absolute path.
const MIXTURE_OF_PATHS: usize = 18;

/// The length of the secret that begins at `at`; `None` if none begins there.
pub(super) fn secret_len(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let before = at.checked_sub(1).and_then(|i| bytes.get(i)).copied();
    let tail = text.get(at..)?;
    if before.is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    if tail.starts_with("-----BEGIN ")
        && tail.get(..48.min(tail.len())).is_some_and(|head| head.contains("PRIVATE KEY"))
    {
        return Some(tail.len());
    }
    prefixed(tail).or_else(|| web_token(tail)).or_else(|| new_relic(tail)).or_else(|| aws_secret(before, tail))
}

/// The number of leading characters that satisfy `keep`; all of them are ASCII.
fn run(text: &str, keep: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&b| keep(b)).count()
}

fn in_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'~' | b'+' | b'=')
}

fn prefixed(tail: &str) -> Option<usize> {
    let (prefix, least) = PREFIXES.iter().find(|(prefix, _)| tail.starts_with(prefix))?;
    let body = tail.get(prefix.len()..)?;
    let head = body.get(..run(body.get(..SAMPLE.min(body.len())).unwrap_or(body), in_token))?;
    // Names such as `sk-learn-model-server` have no digits and no upper case; issued tokens do.
    let mixed = head.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    (head.len() >= *least && mixed).then(|| prefix.len() + run(body, in_token))
}

/// A JWT: two or more base64url parts, the first of which is a JSON object.
fn web_token(tail: &str) -> Option<usize> {
    if !tail.starts_with("eyJ") {
        return None;
    }
    let len = run(tail, in_token);
    let (head, rest) = tail.get(..len)?.split_once('.')?;
    (head.len() >= 8 && rest.len() >= 4).then_some(len)
}

/// A New Relic licence key: 36 hexadecimal digits and `NRAL`.
fn new_relic(tail: &str) -> Option<usize> {
    let hex = run(tail, |b| b.is_ascii_hexdigit());
    (hex == 36 && tail.get(36..)?.starts_with("NRAL")).then_some(40)
}

fn aws_secret(before: Option<u8>, tail: &str) -> Option<usize> {
    let in_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+');
    let joins = |b: u8| in_key(b) || matches!(b, b'.' | b'-' | b'_' | b'~');
    let len = tail.bytes().take(AWS_SECRET_LEN + 1).take_while(|&b| in_key(b)).count();
    let alone = !before.is_some_and(joins) && !tail.as_bytes().get(len).copied().is_some_and(joins);
    if len != AWS_SECRET_LEN || !alone || tail.bytes().take(len).all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let class = |b: u8| (b.is_ascii_uppercase(), b.is_ascii_digit());
    let letters: Vec<u8> = tail.bytes().take(len).filter(u8::is_ascii_alphanumeric).collect();
    let changes = letters.windows(2).filter(|pair| matches!(pair, [a, b] if class(*a) != class(*b))).count();
    let least = if tail.starts_with('/') { MIXTURE_OF_PATHS } else { MIXTURE };
    (changes >= least).then_some(len)
}
