//! What every end-to-end test stands on: a folder, processes that end with the test, ports, a page reader, patience.
//!
//! A process is ended by its pid and only by the [`Running`] that started it. Waiting is polling with a limit, never a
//! fixed sleep.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest a single step of a test may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A temporary folder of one test.
pub struct Room(tempfile::TempDir);

impl Room {
    pub fn new() -> Self {
        Room(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the folder is writable");
        path
    }

    /// Starts a process whose output goes to files in this folder, with a pipe for its input. An agent that is told no
    /// state directory keeps its state in this folder, too: what another test has left must not go on here.
    pub fn start(&self, name: &str, command: &mut Command) -> Running {
        let (stdout, stderr) = (self.path(&format!("{name}.stdout")), self.path(&format!("{name}.stderr")));
        let out = File::create(&stdout).expect("the folder is writable");
        let err = File::create(&stderr).expect("the folder is writable");
        command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", self.path("state"));
        let child = command.stdin(Stdio::piped()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Running { name: name.to_owned(), child, stdout, stderr }
    }

    /// Starts the agent with a config.
    pub fn phoenix(&self, config: &str) -> Running {
        let path = self.file("phoenix.yaml", config);
        self.start("phoenix", agent().arg("--config").arg(path))
    }
}

/// The built agent, with an environment in which nothing but the test speaks to it.
pub fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phoenix"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the agent to its end, which must come soon: for subcommands and for configs it refuses.
pub fn finish(command: &mut Command) -> Output {
    let room = Room::new();
    let mut running = room.start("phoenix", command);
    let status = running.wait(PATIENCE);
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    Output { status, stdout: read(&running.stdout), stderr: read(&running.stderr) }
}

/// A process of the test. Dropped, it is killed; if the test is failing then, what it said is printed.
pub struct Running {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Everything it has written to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} of {}", self.name);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, limit, || self.ended())
    }

    /// Ends it with SIGTERM and holds it to status 0.
    pub fn end(&mut self) {
        self.signal("TERM");
        let status = self.wait(PATIENCE);
        assert!(status.success(), "{} ends with {status}", self.name);
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Fails if it has ended.
    pub fn assert_running(&mut self) {
        let status = self.ended();
        assert!(status.is_none(), "{} has ended: {status:?}", self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            say(&format!("---- standard error of {} ----\n{}", self.name, self.stderr()));
        }
    }
}

/// A shell that does nothing but use the CPU, and leaves it to everybody else.
pub fn busy() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19", "sh", "-c", "while :; do :; done"]);
    command
}

/// Calls `look` until it gives something. Fails when the limit is over.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A free port of loopback below the range from which the kernel takes ports of outgoing connections, so that none of
/// those takes it before its owner listens. No port is given twice.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let seed = std::process::id() * 61;
    let candidates = (0..10_000).map(|_| 20_000 + (seed + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    candidates.map(|port| port as u16).find(free).expect("a free port")
}

/// An answer to a GET.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Reads a page of loopback. HTTP/1.0, so that the body is what comes until the end.
pub fn get(port: u16, path: &str, headers: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let broken = || io::Error::other(format!("no HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Waits until a page answers with 200 and returns its body.
pub fn page(port: u16, path: &str, what: &str) -> String {
    until(what, PATIENCE, || get(port, path, "").ok().filter(|answer| answer.status == 200)).body
}

/// Says that a test is skipped; `false`, to return on.
pub fn skip(why: &str) -> bool {
    say(&format!("skipped: {why}"));
    false
}

/// Whether a tool that CI must have is here. Absence fails in CI and skips elsewhere.
pub fn required(tool: &str, is_here: bool) -> bool {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(is_here || !ci, "{tool} is not installed, and in CI it must be");
    is_here || skip(&format!("{tool} is not installed"))
}

/// Whether a program can be started and ends well.
pub fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Writes a line to standard error itself: what the test framework captures is not shown when a test passes.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
