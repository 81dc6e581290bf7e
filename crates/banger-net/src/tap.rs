//! A TAP device in a network namespace that nobody else is in, for VMMs that know nothing but TAPs.
//!
//! ```text
//!   VMM ── TAP ═ device ═ packet socket ── banger-filter ── passt
//!   └──────── its own namespaces ─────┘
//! ```
//!
//! None of it takes a privilege: a user namespace gives the right to make a network namespace, and that the right to make
//! the device. What the VMM writes into the TAP comes out of the device, where a packet socket takes it up; the device
//! has no address, and nothing else is in the namespace, so that the host's kernel has no part in it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The device's name in its namespace.
pub const TAP: &str = "tap0";

/// Has `banger-tap` make a device and nothing else, to see whether it can.
pub const TAP_CHECK: &str = "--check";

/// Where TAPs are made (Linux, Documentation/networking/tuntap.rst).
pub(crate) const TUN_DEVICE: &str = "/dev/net/tun";

/// Moves this process into a network namespace of its own. Unless it is root, that takes a user namespace, in which it is
/// who it was. It must have one thread. Afterwards no signal tells it of its parent's end any more: the kernel takes that
/// away.
///
/// # Errors
/// When the host's kernel does not let users make namespaces.
pub fn enter_namespaces() -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let own = UnshareFlags::NEWNET;
    let namespaces = if geteuid().is_root() { own } else { own | UnshareFlags::NEWUSER };
    // SAFETY: descriptors stay shared; there is no other thread that could be surprised.
    #[expect(unsafe_code, reason = "unsharing is unsafe for some flags, which are not used here")]
    unsafe { unshare_unsafe(namespaces) }?;
    if geteuid().is_root() {
        return Ok(());
    }
    // user_namespaces(7): without this, groups cannot be mapped without privilege.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Makes the device [`TAP`], which stays when nobody has it open, and may be opened by this process's user.
///
/// # Errors
/// When it cannot be made, as where there is no `/dev/net/tun`.
pub fn make_tap() -> io::Result<()> {
    let tun = std::fs::OpenOptions::new().read(true).write(true).open(TUN_DEVICE);
    let tun = tun.map_err(|error| io::Error::new(error.kind(), format!("{TUN_DEVICE}: {error}")))?;
    let mut request = interface_request();
    // With a header before each frame, as VMMs' network cards have it.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = narrow(flags)?;
    control(&tun, libc::TUNSETIFF, &raw mut request as libc::c_ulong)?;
    control(&tun, libc::TUNSETOWNER, libc::c_ulong::from(geteuid().as_raw()))?;
    control(&tun, libc::TUNSETPERSIST, 1)?;
    // The kernel would send words of its own.
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6"), "1").or_else(ignore_missing)?;
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let mut request = interface_request();
    request.ifr_ifru.ifru_flags = narrow(libc::IFF_UP)?;
    control(&socket, libc::SIOCSIFFLAGS, &raw mut request as libc::c_ulong)
}

/// Opens a socket for all frames of the device (packet(7)).
///
/// # Errors
/// When the process has no right to, or the device is not there.
pub fn packet_socket() -> io::Result<OwnedFd> {
    let (protocol, family) = (narrow::<u16>(libc::ETH_P_ALL)?.to_be(), narrow(libc::AF_PACKET)?);
    let sizes = (narrow(size_of::<libc::sockaddr_ll>())?, narrow(size_of::<libc::c_int>())?);
    // SAFETY: takes no pointers, and returns a descriptor that is nobody's yet.
    #[expect(unsafe_code, reason = "rustix knows no packet sockets")]
    let socket = unsafe {
        let number = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(number)
    };
    let index = rustix::net::netdevice::name_to_index(&socket, TAP)?;
    let ignore: libc::c_int = 1;
    // SAFETY: an all-zero address of the family is one; the pointers are of the sizes that are given beside them.
    #[expect(unsafe_code, reason = "rustix knows no addresses of packet sockets")]
    let bound = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = family;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), sizes.0);
        // What goes to the guest is not to come back.
        bound
            | libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_IGNORE_OUTGOING,
                (&raw const ignore).cast(),
                sizes.1,
            )
    };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Sends a descriptor over a unix socket.
///
/// # Errors
/// When the socket breaks.
pub fn send_descriptor(socket: impl AsFd, descriptor: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Waits for a descriptor that comes over a unix socket.
///
/// # Errors
/// When the socket ends without one.
pub fn receive_descriptor(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let received = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    received.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no descriptor came"))
}

fn interface_request() -> libc::ifreq {
    // SAFETY: an interface request of zeros is one without a name.
    #[expect(unsafe_code, reason = "a structure of the kernel's with a union in it")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(TAP.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn control(descriptor: &impl AsFd, operation: libc::Ioctl, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: each operation here takes a number, or reads and writes an interface request, which its caller has.
    #[expect(unsafe_code, reason = "rustix knows none of these operations")]
    let result = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), operation, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's constants have the type of no field.
fn narrow<N>(number: impl TryInto<N>) -> io::Result<N> {
    number.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
