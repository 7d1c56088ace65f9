//! Listening sockets: who holds which address, and a clear word when it is taken.
//!
//! A reload builds the new component before it stops the old one, so both need the same port for a moment. They share
//! the socket: [`Listeners::bind`] hands the one that is open to whoever asks for the same address under the same key. The
//! same goes for sockets in the file system, [`Listeners::bind_unix`].

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::BuildError;

/// An open listening socket. It closes when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Open>);

#[derive(Debug)]
struct Open {
    socket: TcpListener,
    address: SocketAddr,
    key: String,
}

impl Listener {
    /// The address it listens on, with the real port where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The socket for the asynchronous edge. Must be called on a runtime.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn accepting(&self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.0.socket.try_clone()?)
    }
}

/// An open listening socket in the file system. It closes, and its file goes, when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct UnixSocket(Arc<OpenUnix>);

#[derive(Debug)]
struct OpenUnix {
    socket: UnixListener,
    path: PathBuf,
    key: String,
}

impl UnixSocket {
    /// The socket for the asynchronous edge. Must be called on a runtime.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn accepting(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.0.socket.try_clone()?)
    }
}

impl Drop for OpenUnix {
    fn drop(&mut self) {
        // What is gone already needs no removing.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The addresses this agent listens on. Clones are one register.
#[derive(Clone, Debug, Default)]
pub struct Listeners(Arc<Mutex<HashMap<SocketAddr, Weak<Open>>>>, Arc<Mutex<HashMap<PathBuf, Weak<OpenUnix>>>>);

impl Listeners {
    /// Listens on `address` (`host:port`; `:port` means every interface). `key` is the configuration key that moves it.
    ///
    /// # Errors
    /// [`BuildError::Failed`] in one sentence: which address, which key, and who holds it where the host tells.
    pub fn bind(&self, address: &str, key: &str) -> Result<Listener, BuildError> {
        let fail = |why: String| BuildError::Failed(format!("cannot listen on {address}: {why}; {key} moves it"));
        let resolved = resolve(address).map_err(|error| fail(error.to_string()))?;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(&resolved).and_then(Weak::upgrade) {
            if shared.key == key {
                return Ok(Listener(shared));
            }
            return Err(fail(format!("{} of this agent listens there", shared.key)));
        }
        let socket = TcpListener::bind(resolved).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => fail(format!(
                "the port is taken{}",
                holder(resolved.port()).map_or(String::new(), |who| format!(" by {who}"))
            )),
            _ => fail(error.to_string()),
        })?;
        socket.set_nonblocking(true).map_err(|error| fail(error.to_string()))?;
        let address = socket.local_addr().map_err(|error| fail(error.to_string()))?;
        let listener = Arc::new(Open { socket, address, key: key.to_owned() });
        open.retain(|_, weak| weak.strong_count() > 0);
        if resolved.port() != 0 {
            open.insert(resolved, Arc::downgrade(&listener));
        }
        Ok(Listener(listener))
    }

    /// Listens on a socket file at `path`. A file that a dead process left there is taken over; whoever may write to the
    /// file may send.
    ///
    /// # Errors
    /// [`BuildError::Failed`] in one sentence: which path, which key, and what is wrong.
    pub fn bind_unix(&self, path: &Path, key: &str) -> Result<UnixSocket, BuildError> {
        let fail = |why: String| {
            BuildError::Failed(format!("cannot listen on unix:{}: {why}; {key} moves it", path.display()))
        };
        let mut open = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(path).and_then(Weak::upgrade) {
            if shared.key == key {
                return Ok(UnixSocket(shared));
            }
            return Err(fail(format!("{} of this agent listens there", shared.key)));
        }
        let socket = UnixListener::bind(path).or_else(|error| {
            // A file that is no socket refuses connections, too, and is somebody's.
            let left_behind = error.kind() == io::ErrorKind::AddrInUse
                && std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
                && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !left_behind {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        });
        let socket = socket.map_err(|error| fail(error.to_string()))?;
        socket.set_nonblocking(true).map_err(|error| fail(error.to_string()))?;
        let socket = Arc::new(OpenUnix { socket, path: path.to_owned(), key: key.to_owned() });
        open.retain(|_, weak| weak.strong_count() > 0);
        open.insert(path.to_owned(), Arc::downgrade(&socket));
        Ok(UnixSocket(socket))
    }
}

/// `host:port` to one socket address, IPv4 first as "localhost" is expected to mean 127.0.0.1.
fn resolve(address: &str) -> io::Result<SocketAddr> {
    let every = format!("0.0.0.0{address}");
    let text = if address.starts_with(':') { &every } else { address };
    let all: Vec<SocketAddr> = text.to_socket_addrs()?.collect();
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// "NAME (pid N)" of the process that listens on a TCP port, as far as this process may see it.
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&std::fs::read_to_string(table).ok()?, port))?;
    let wanted = format!("socket:[{inode}]");
    let pid = std::fs::read_dir("/proc").ok()?.flatten().find(|entry| {
        let fds = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            && fds
                .into_iter()
                .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
    })?;
    let name = std::fs::read_to_string(pid.path().join("comm")).ok()?;
    Some(format!("{} (pid {})", name.trim_end(), pid.file_name().to_string_lossy()))
}

/// The inode of the socket in state LISTEN (0A) on `port`, from the text of /proc/net/tcp.
fn listening_inode(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (_, hex) = local.rsplit_once(':')?;
        (*state == "0A" && u16::from_str_radix(hex, 16) == Ok(port)).then(|| (*inode).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_the_holder_and_the_key() {
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = foreign.local_addr().unwrap().to_string();
        let error = Listeners::default().bind(&address, "exporters::prometheus::endpoint").unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("exporters::prometheus::endpoint moves it"), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    #[test]
    fn the_same_key_shares_the_socket_and_another_key_does_not() {
        let listeners = Listeners::default();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("localhost:{port}");
        let first = listeners.bind(&address, "a").unwrap();
        assert!(Arc::ptr_eq(&first.0, &listeners.bind(&address, "a").unwrap().0));
        assert!(listeners.bind(&address, "b").unwrap_err().to_string().contains("a of this agent listens there"));
        drop(first);
        assert!(listeners.bind(&address, "b").is_ok(), "closed when the last holder let go");
    }

    #[test]
    fn a_socket_file_is_shared_by_key_taken_over_from_the_dead_and_gone_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let listeners = Listeners::default();
        let first = listeners.bind_unix(&path, "a").unwrap();
        assert!(Arc::ptr_eq(&first.0, &listeners.bind_unix(&path, "a").unwrap().0));
        assert!(listeners.bind_unix(&path, "b").unwrap_err().to_string().contains("a of this agent listens there"));
        let foreign = Listeners::default().bind_unix(&path, "b").unwrap_err().to_string();
        assert!(foreign.contains("b moves it"), "{foreign}");
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").unwrap();
        assert!(listeners.bind_unix(&path, "a").is_err());
        assert!(path.exists(), "a file that is no socket stays");
    }
}
