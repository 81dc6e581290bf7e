//! The kernel's own announcements of devices: no udev is needed to hear them.
//!
//! A uevent is one datagram on a `NETLINK_KOBJECT_UEVENT` socket: `ACTION@DEVPATH`, then `KEY=VALUE` fields, each ended
//! by NUL. Group 1 is the kernel's, as against group 2, which is udev's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// Opens a socket on which each uevent from now on wakes the reader. It does not block.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

/// Takes everything that waits on the socket away. What the events say does not matter: whoever waits looks again.
pub(crate) fn drain(socket: impl AsFd) {
    let mut buffer = [0u8; 8192];
    // An overrun (ENOBUFS) has woken the reader like an event has.
    while recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT).is_ok() {}
}
