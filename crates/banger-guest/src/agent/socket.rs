//! The socket device's side of the control channel (vsock(7)).
//!
//! This program listens on a port that only root can have, and knocks at the host's port of the same number: any
//! program of the guest could do that, so that it means nothing but "look whether I listen".

use std::io;
use std::os::fd::OwnedFd;

use banger_types::guest::CONTROL_SOCKET_PORT;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;

use crate::async_file::AsyncFile;

/// The host (vsock(7), `VMADDR_CID_HOST`).
const HOST: u32 = 2;
/// Any address (vsock(7), `VMADDR_CID_ANY`).
const ANY: u32 = u32::MAX;

/// Where the host connects to.
#[derive(Debug)]
pub(super) struct Listener(AsyncFile);

impl Listener {
    pub(super) fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::VSOCK, Type::STREAM.cloexec().nonblocking(), None)?;
        socket.bind(&SockAddr::vsock(ANY, CONTROL_SOCKET_PORT))?;
        socket.listen(1)?;
        Ok(Self(AsyncFile::new(OwnedFd::from(socket), Interest::READABLE)?))
    }

    /// Tells the host that there is somebody, and waits until it connects.
    pub(super) async fn connected(&self) -> io::Result<OwnedFd> {
        knock()?;
        loop {
            let accepted = self.0.take(|listener| {
                let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
                rustix::net::accept_with(listener, flags)
            });
            let socket = Socket::from(accepted.await?);
            // Not from within, through the loopback.
            if socket.peer_addr()?.as_vsock_address().is_some_and(|(peer, _)| peer == HOST) {
                return Ok(OwnedFd::from(socket));
            }
        }
    }
}

fn knock() -> io::Result<()> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM.cloexec(), None)?;
    socket.connect(&SockAddr::vsock(HOST, CONTROL_SOCKET_PORT))
}
