//! A wire between the agent and the backend that can be slow, cut, or gone; as a process of its own it can be stopped.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Fault;

/// What the wire does to connections, open ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    #[default]
    Good,
    /// Every piece of an answer is held for so long.
    Slow(Duration),
    /// Resets a connection when so many bytes of answers have passed.
    CutAnswers(usize),
    /// Resets a connection when so many bytes of requests have passed.
    CutRequests(usize),
}

/// A wire from a port of its own to a backend's.
pub struct Relay {
    pub port: u16,
    to: u16,
    wire: Arc<watch::Sender<Wire>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Relay {
    /// Listens on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(to: u16) -> Result<Self, Fault> {
        Self::at(0, to).await
    }

    /// Listens on this port.
    ///
    /// # Errors
    /// It is taken.
    pub async fn at(port: u16, to: u16) -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let mut relay = Relay {
            port: listener.local_addr()?.port(),
            to,
            wire: Arc::new(watch::Sender::new(Wire::Good)),
            task: None,
        };
        relay.task = Some(tokio::spawn(accept(listener, to, Arc::clone(&relay.wire))));
        Ok(relay)
    }

    /// What the wire does from now on.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Nobody listens any more, and all connections are closed.
    pub async fn down(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // The error is that it was aborted.
            let _ = task.await;
        }
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// Somebody else took the port.
    pub async fn up(&mut self) -> Result<(), Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        self.task = Some(tokio::spawn(accept(listener, self.to, Arc::clone(&self.wire))));
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, to: u16, wire: Arc<watch::Sender<Wire>>) {
    // Dropped with this task, and all connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                connections.spawn(carry(near, to, wire.subscribe()));
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Carries one connection to its end, which either side or the wire may bring.
async fn carry(mut near: TcpStream, to: u16, mut wire: watch::Receiver<Wire>) {
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    // Small pieces are what is measured here, so none waits for another; a socket that cannot is none the worse.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (mut asked, mut answered) = (0, 0);
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let cut = loop {
        tokio::select! {
            read = near.read(&mut up) => match read {
                Ok(count) if count > 0 => {
                    let now = *wire.borrow();
                    let (pass, over) = match now {
                        Wire::CutRequests(limit) => (count.min(limit.saturating_sub(asked)), asked + count >= limit),
                        _ => (count, false),
                    };
                    asked += pass;
                    if far.write_all(&up[..pass]).await.is_err() || over {
                        break over;
                    }
                }
                _ => break false,
            },
            read = far.read(&mut down) => match read {
                Ok(count) if count > 0 => {
                    let now = *wire.borrow();
                    let (pass, over) = match now {
                        Wire::CutAnswers(limit) => (count.min(limit.saturating_sub(answered)), answered + count >= limit),
                        _ => (count, false),
                    };
                    if let Wire::Slow(time) = now {
                        tokio::time::sleep(time).await;
                    }
                    answered += pass;
                    if near.write_all(&down[..pass]).await.is_err() || over {
                        break over;
                    }
                }
                _ => break false,
            },
            changed = wire.changed() => {
                if changed.is_err() {
                    break false;
                }
                (asked, answered) = (0, 0);
            }
        }
    };
    if cut {
        // The peer sees a reset, not an end. A socket that is gone already needs none.
        let _ = near.set_zero_linger();
    }
}
