//! What the service manager is told (systemd's `Type=notify`): ready, reloading, stopping, a line of status, and that
//! the agent is alive.
//!
//! Without `NOTIFY_SOCKET` nothing is said. A message that cannot be delivered is dropped: no agent ends because its
//! manager does not listen. The watchdog is fed by the thread of the edges, so what it proves is that signals, pages and
//! exporters are still served; a stage that panics ends the agent by itself.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As `environment` says: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` where it is meant for this process (`WATCHDOG_PID`).
    pub fn find(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| environment(name)?.into_string().ok();
        let to = environment("NOTIFY_SOCKET").and_then(|path| {
            let path = path.as_bytes();
            let address = match path.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not hold up the agent.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address.ok()?))
        });
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = text("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|usec| ours && *usec > 0);
        Notifier { to, watchdog: limit.map(Duration::from_micros) }
    }

    /// How often the watchdog wants to hear something: half of its limit, as its manual asks.
    pub fn watchdog(&self) -> Option<Duration> {
        self.to.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// All components are built and started, or a reload is over.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// A reload begins.
    pub fn reloading(&self) {
        self.tell("RELOADING=1\nSTATUS=reading the config again");
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending: receivers stop, queues drain");
    }

    /// What `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", line(status)));
    }

    /// The agent is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// Text as one line: a line break would begin another variable.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_spoken_to() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("notify");
        let name = format!("phoenix-notify-{}", std::process::id());
        let listeners = [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}").into(),
            ),
        ];
        for (listener, address) in listeners {
            let notifier = Notifier::find(|name| (name == "NOTIFY_SOCKET").then(|| address.clone()));
            assert!(notifier.is_heard() && notifier.watchdog().is_none());
            notifier.ready("two\nlines");
            assert_eq!(heard(&listener), "READY=1\nSTATUS=two lines");
            notifier.alive();
            assert_eq!(heard(&listener), "WATCHDOG=1");
        }
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_limit_and_only_if_it_watches_this_process() {
        let own = std::process::id().to_string();
        let watchdog = |pid: Option<&str>, usec: &str| {
            let look = |name: &str| match name {
                "NOTIFY_SOCKET" => Some("/nowhere".into()),
                "WATCHDOG_USEC" => Some(usec.into()),
                "WATCHDOG_PID" => pid.map(Into::into),
                _ => None,
            };
            let notifier = Notifier::find(look);
            notifier.alive();
            notifier.watchdog()
        };
        assert_eq!(watchdog(Some(&own), "30000000"), Some(Duration::from_secs(15)));
        assert_eq!(watchdog(None, "2"), Some(Duration::from_micros(1)));
        assert_eq!(watchdog(Some("1"), "30000000"), None);
        assert_eq!(watchdog(Some(&own), "soon"), None);
        assert_eq!(watchdog(Some(&own), "0"), None);
        assert_eq!(Notifier::find(|_| None).watchdog(), None);
    }
}
