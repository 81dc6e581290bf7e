//! The daemon's socket: for one user alone.

use std::io;

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

/// The process at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// Its number; 0 when it cannot be seen from here.
    pub(crate) pid: u32,
}

/// A listener that lets in only those who run as the daemon's own user.
///
/// The socket's mode says so already; this holds even where somebody has changed it.
pub(crate) struct PrivateListener {
    inner: UnixListener,
    uid: u32,
}

impl PrivateListener {
    pub(crate) fn new(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let uid = rustix::process::geteuid().as_raw();
        Ok(Self { inner: UnixListener::from_std(listener)?, uid })
    }
}

impl Listener for PrivateListener {
    type Io = UnixStream;
    type Addr = Client;

    async fn accept(&mut self) -> (UnixStream, Client) {
        loop {
            // Waits out a shortage of descriptors, as axum does for its own listeners.
            let (stream, _) = Listener::accept(&mut self.inner).await;
            match banger_host::peer(&stream) {
                Ok(peer) if peer.uid == self.uid => return (stream, Client { pid: peer.pid }),
                Ok(peer) => tracing::warn!(uid = peer.uid, pid = peer.pid, "another user was turned away"),
                Err(error) => tracing::warn!(%error, "a client that cannot be told was turned away"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Client> {
        Ok(Client { pid: std::process::id() })
    }
}
