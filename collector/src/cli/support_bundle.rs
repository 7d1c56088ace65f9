//! `phoenix support-bundle`: what a bug report needs in one `.tar.gz`, with the secrets of the config taken out of all of it.
//!
//! Nothing is sent anywhere and nothing is changed. A part that cannot be had says why in its own file. No process list,
//! no command lines, no environment and no queued data are taken.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use flate2::{Compression, write::GzEncoder};
use phoenix_pipeline::config::{Kind, REDACTED, Value};

use super::admin::{self, TOKEN};
use super::client::Call;
use super::health;
use crate::config::{Model, Request, Tables, redacted, report};
use crate::run::VERSION;

/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is kept of one part, bytes: its end, where the newest log lines are.
const MAX_PART: usize = 8 << 20;
/// Lines of the journal.
const JOURNAL_LINES: &str = "5000";
/// Files of the state directory that are listed, and how deep.
const MAX_FILES: usize = 2000;
const MAX_DEPTH: usize = 5;
/// A shorter secret is not looked for: it would be found in any text.
const MIN_SECRET: usize = 4;

/// The questions to the admin endpoint, by the name of their part.
const ADMIN: [(&str, &str); 6] = [
    ("control-state.json", "/control/state"),
    ("control-decisions.json", "/control/decisions?limit=1000"),
    ("control-history.json", "/control/history"),
    ("control-cost.json", "/control/cost"),
    ("profiles.json", "/control/profile"),
    ("entities.json", "/debug/entities"),
];

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The admin endpoint, where it is not the config's.
    pub admin: Option<String>,
    /// Where the state is, where the service manager or the user's home does not say it.
    pub state_dir: Option<PathBuf>,
    /// The file that is written; by default one in the current directory.
    pub output: Option<PathBuf>,
}

/// Collects, writes, and says where.
///
/// # Errors
/// The file cannot be written, or is there already.
pub(super) fn write(request: &Request, options: &Options) -> Result<String, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let path = options.output.clone().unwrap_or_else(|| PathBuf::from(format!("phoenix-support-{now}.tar.gz")));
    let (mut parts, secrets) = collect(request, options, now);
    for (_, text) in &mut parts {
        *text = clean(std::mem::take(text), &secrets);
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let packed = file.and_then(|file| {
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, text) in &parts {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("phoenix-support/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.sync_all()
    });
    packed.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(format!(
        "{}: {} parts, the config's {} secrets taken out. Read it before you send it: logs and metrics name hosts, users and programs.\n",
        path.display(),
        parts.len(),
        secrets.len()
    ))
}

type Part = (&'static str, String);

fn collect(request: &Request, options: &Options, now: u64) -> (Vec<Part>, Vec<String>) {
    let mut secrets: Vec<String> = std::env::var(TOKEN).into_iter().collect();
    let mut parts = vec![("about.txt", about(request, now))];
    let mut model = None;
    match request.read() {
        Ok(loaded) => {
            let shown = redacted(&loaded.value);
            find_secrets(&loaded.value, &shown, &mut secrets);
            parts.push(("config.yaml", serde_yaml::to_string(&shown.to_yaml()).unwrap_or_else(|why| why.to_string())));
            let judged = match loaded.check(&Tables::agent()) {
                Ok((checked, notices)) => {
                    model = Some(checked);
                    let lines = notices.iter().map(|notice| format!("{}\n", notice.text));
                    std::iter::once("the config is right\n".to_owned()).chain(lines).collect()
                }
                Err(mistakes) => report(&mistakes).to_string(),
            };
            parts.push(("config-check.txt", judged));
        }
        Err(mistakes) => parts.push(("config-check.txt", report(&mistakes).to_string())),
    }
    parts.push(("health.json", page(&health_address(model.as_ref()))));
    let own = model.as_ref().and_then(Model::own_metrics_page).map(|page| page.address);
    parts.push(("own-metrics.txt", page(&format!("{}/metrics", own.as_deref().unwrap_or("localhost:8888")))));
    let configured = model.as_ref().map(|model| model.admin.endpoint.clone());
    let endpoint = options.admin.clone().or(configured);
    for (name, target) in ADMIN {
        let answer = admin::exchange(admin::address(endpoint.as_deref()), "GET", target, "");
        parts.push((name, answer.map_or_else(|why| why, |value| format!("{value:#}"))));
    }
    parts.push(("processes.txt", processes()));
    parts.push(("state.txt", state(options.state_dir.as_deref())));
    parts.push(("journal.txt", journal()));
    (parts, long_first(secrets))
}

/// Versions, host, limits.
fn about(request: &Request, now: u64) -> String {
    let mut out = format!("phoenix {VERSION}\ntime {now} (Unix seconds)\nconfig {}\n", request.describe());
    for path in [
        "/proc/sys/kernel/osrelease",
        "/proc/sys/kernel/version",
        "/etc/os-release",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/loadavg",
        "/proc/uptime",
        "/proc/self/cgroup",
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/cpu.max",
    ] {
        out.push_str(&format!("\n== {path}\n{}", file(path)));
    }
    out
}

fn file(path: impl AsRef<Path>) -> String {
    std::fs::read(path).map_or_else(|why| format!("{why}\n"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// `host:port[/path]` of the health page.
fn health_address(model: Option<&Model>) -> String {
    let extensions = model.into_iter().flat_map(|model| &model.extensions);
    let found = extensions.filter(|(id, _)| id.kind() == "health_check").map(|(_, config)| config).next();
    let text = |key: &str, default: &str| {
        let written = found.and_then(|config| config.get(key)?.scalar_text());
        written.filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    format!("{}{}", text("endpoint", health::DEFAULT_ENDPOINT), text("path", "/"))
}

fn page(address: &str) -> String {
    let (host, path) = address.find('/').map_or((address, "/"), |at| address.split_at(at));
    match Call::get(host, path, PATIENCE).ask() {
        Ok(answer) => answer.body,
        Err(why) => format!("http://{address}: {why}\n"),
    }
}

/// What the kernel says about the agents that run here.
fn processes() -> String {
    let own = std::process::id().to_string();
    let mut out = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let (path, pid) = (entry.path(), entry.file_name());
        let agent =
            pid != *own && std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "phoenix");
        if !agent {
            continue;
        }
        for name in ["status", "limits", "cgroup", "stat", "io", "smaps_rollup"] {
            let path = path.join(name);
            out.push_str(&format!("== {}\n{}\n", path.display(), file(&path)));
        }
        let open = std::fs::read_dir(path.join("fd")).map(Iterator::count);
        out.push_str(&format!("== {}/fd\n{open:?} open\n", path.display()));
    }
    if out.is_empty() { "no process called phoenix runs here\n".to_owned() } else { out }
}

/// Names, sizes and ages of what is kept; not what is in it.
fn state(named: Option<&Path>) -> String {
    let Some(place) = crate::state::Place::find(named, |name| std::env::var_os(name)) else {
        return "there is no home directory; --state-dir names the state directory\n".to_owned();
    };
    // Under systemd the variable is set for the agent only.
    let package = Path::new("/var/lib/phoenix");
    let root = if named.is_none() && !place.path().is_dir() { package } else { place.path() };
    let mut out = format!("{}\n", root.display());
    let mut left = MAX_FILES;
    list(root, MAX_DEPTH, &mut left, &mut out);
    out
}

fn list(directory: &Path, depth: usize, left: &mut usize, out: &mut String) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(why) => return out.push_str(&format!("{}: {why}\n", directory.display())),
    };
    for entry in entries.flatten() {
        if *left == 0 {
            return out.push_str("there are more\n");
        }
        *left -= 1;
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        let shown = path.display();
        out.push_str(&format!(
            "{shown} {} bytes, mode {:o}, mtime {}\n",
            meta.len(),
            meta.mode() & 0o7777,
            meta.mtime()
        ));
        if meta.is_dir() && depth > 0 {
            list(&path, depth - 1, left, out);
        }
    }
}

/// The service's newest log lines, where there is a journal.
fn journal() -> String {
    let arguments = ["--unit=phoenix", "--no-pager", "--output=short-iso", "--lines", JOURNAL_LINES];
    match Command::new("journalctl").args(arguments).output() {
        Ok(output) => {
            let bytes = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Err(why) => format!("journalctl: {why}\n"),
    }
}

/// What `shown` hides of `value`.
fn find_secrets(value: &Value, shown: &Value, found: &mut Vec<String>) {
    match (&value.kind, &shown.kind) {
        (Kind::Map(real), Kind::Map(shown)) => {
            real.iter().zip(shown).for_each(|((_, real), (_, shown))| find_secrets(real, shown, found));
        }
        (Kind::Seq(real), Kind::Seq(shown)) => {
            real.iter().zip(shown).for_each(|(real, shown)| find_secrets(real, shown, found));
        }
        (_, Kind::String(shown)) => {
            let Some(mut rest) = value.scalar_text().filter(|text| text != shown) else { return };
            // What stands between the parts that are shown is hidden.
            let mut parts = shown.split(REDACTED);
            let first = parts.next().unwrap_or_default();
            rest = rest.strip_prefix(first).unwrap_or(&rest).to_owned();
            for part in parts {
                let end = if part.is_empty() { rest.len() } else { rest.find(part).unwrap_or(rest.len()) };
                found.push(rest.get(..end).unwrap_or_default().to_owned());
                rest = rest.get(end + part.len()..).unwrap_or_default().to_owned();
            }
        }
        _ => {}
    }
}

/// The longest first: one secret may be a part of another.
fn long_first(mut secrets: Vec<String>) -> Vec<String> {
    secrets.retain(|secret| secret.len() >= MIN_SECRET);
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// The end of a text, without the secrets.
fn clean(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        text = text.replace(secret.as_str(), REDACTED);
    }
    if text.len() > MAX_PART {
        let mut at = text.len() - MAX_PART;
        while !text.is_char_boundary(at) {
            at += 1;
        }
        text = format!("... the first {at} bytes are left out\n{}", text.get(at..).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const CONFIG: &str = "receivers: {hostmetrics: {scrapers: {load: }}}\nexporters:\n  otlp_http:\n    \
        endpoint: https://user:passw0rd1@h:1/?api_key=parameter2\n    headers: {api-key: header-secret3}\n\
        extensions: {health_check: {endpoint: 'localhost:1'}}\n\
        service:\n  admin: {endpoint: 'localhost:1', token: token-4444}\n  telemetry: {metrics: {level: none}}\n  extensions: [health_check]\n  \
        pipelines: {metrics: {receivers: [hostmetrics], exporters: [otlp_http]}}\n";

    #[test]
    fn a_bundle_has_every_part_and_no_secret() {
        let room = tempfile::tempdir().unwrap();
        let config = room.path().join("c.yaml");
        std::fs::write(&config, CONFIG).unwrap();
        let state = room.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("named-header-secret3"), "x").unwrap();
        let output = room.path().join("b.tar.gz");
        let request = Request { sources: vec![config.display().to_string()], ..Request::default() };
        let options = Options { admin: None, state_dir: Some(state), output: Some(output.clone()) };
        let said = write(&request, &options).unwrap();
        assert!(said.contains("4 secrets"), "{said}");

        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&output).unwrap()));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert!(!text.is_empty(), "{name}");
            for secret in ["passw0rd1", "parameter2", "header-secret3", "token-4444"] {
                assert!(!text.contains(secret), "{name}: {text}");
            }
            if name.ends_with("state.txt") {
                assert!(text.contains("named-[REDACTED] 1 bytes"), "{text}");
            }
            if name.ends_with("config.yaml") {
                assert!(text.contains("https://user:[REDACTED]@h:1/?api_key=[REDACTED]"), "{text}");
            }
            names.push(name);
        }
        assert_eq!(names.len(), 6 + ADMIN.len() + 2, "{names:?}");
        let error = write(&request, &options).unwrap_err();
        assert!(error.contains("b.tar.gz"), "a file that is there is never overwritten: {error}");
    }

    #[test]
    fn a_long_part_keeps_its_end() {
        let text = format!("{}é{}", "a".repeat(MAX_PART), "b".repeat(MAX_PART - 1));
        let kept = clean(text, &[]);
        assert!(kept.starts_with("... the first") && kept.ends_with('b') && kept.len() < MAX_PART + 64);
    }
}
