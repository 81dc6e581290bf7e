//! Who is at the other end of a unix socket.

use std::os::fd::AsFd;

use rustix::net::sockopt::socket_peercred;

/// The process that connected, as the kernel knows it (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its number; 0 when it is outside of our process namespace.
    pub pid: u32,
}

/// Returns who connected to `socket`.
pub fn peer(socket: impl AsFd) -> std::io::Result<Peer> {
    let credentials = socket_peercred(socket)?;
    Ok(Peer {
        uid: credentials.uid.as_raw(),
        pid: u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or(0),
    })
}
