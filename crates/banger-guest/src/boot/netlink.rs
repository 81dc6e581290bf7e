//! Route netlink: the few requests that configure a link, written out (rtnetlink(7), netlink(7)).
//!
//! A message is a `nlmsghdr` (length, type, flags, sequence, port), a struct that depends on the type, and attributes, each
//! with length and type before it and padded to 4 bytes. Numbers are in the machine's own order.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 0x1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection (IPv6): the address can be used at once, and nobody else is on the link.
const IFA_F_NODAD: u8 = 0x02;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A request, without its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self(bytes).sealed()
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Values here are addresses and numbers, 16 bytes at most.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.sealed()
    }

    /// Writes the length into the header.
    fn sealed(mut self) -> Self {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Takes a link up, and sets its MTU.
    pub(super) fn link_up(index: u32, mtu: Option<u32>) -> Self {
        // struct ifinfomsg: family, padding, type (2), index (4), flags (4), mask of flags to change (4).
        let mut body = vec![0; 4];
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&IFF_UP.to_ne_bytes());
        body.extend_from_slice(&IFF_UP.to_ne_bytes());
        let request = Self::new(RTM_NEWLINK, 0, &body);
        match mtu {
            Some(mtu) => request.attribute(IFLA_MTU, &mtu.to_ne_bytes()),
            None => request,
        }
    }

    /// Gives a link an address.
    pub(super) fn address(index: u32, address: IpAddr, prefix: u8) -> Self {
        // struct ifaddrmsg: family, prefix length, flags, scope, index (4).
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut body = vec![family(address), prefix, flags, RT_SCOPE_UNIVERSE];
        body.extend_from_slice(&index.to_ne_bytes());
        let request = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(IFA_LOCAL, &octets(address))
            .attribute(IFA_ADDRESS, &octets(address));
        match address {
            IpAddr::V4(address) if prefix < 31 => {
                let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let broadcast = address.to_bits() | host_bits;
                request.attribute(IFA_BROADCAST, &broadcast.to_be_bytes())
            }
            _ => request,
        }
    }

    /// Makes the default route of the gateway's family lead to it.
    pub(super) fn default_route(index: u32, gateway: IpAddr) -> Self {
        // struct rtmsg: family, length of destination and of source, tos, table, protocol, scope, type, flags (4).
        let body = [
            family(gateway),
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_BOOT,
            RT_SCOPE_UNIVERSE,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        Self::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(RTA_GATEWAY, &octets(gateway))
            .attribute(RTA_OIF, &index.to_ne_bytes())
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A route netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one.
    pub(super) fn open() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and returns what the kernel says of it.
    pub(super) fn call(&mut self, request: Request) -> io::Result<()> {
        self.sequence += 1;
        let mut bytes = request.0;
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut buffer = [0u8; 4096];
        loop {
            let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            if let Some(result) = acknowledgement(&buffer[..length], self.sequence) {
                return result;
            }
        }
    }
}

/// Returns the verdict on the request of this number, if `message` is one: `NLMSG_ERROR`, whose first number is 0 or a
/// negative errno.
fn acknowledgement(message: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let number = u32::from_ne_bytes(message.get(8..12)?.try_into().ok()?);
    if kind != NLMSG_ERROR || number != sequence {
        return None;
    }
    let error = i32::from_ne_bytes(message.get(HEADER..HEADER + 4)?.try_into().ok()?);
    Some(if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) })
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        assert_eq!(
            Request::link_up(2, Some(1500)).0,
            [
                40, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, // header
                0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // ifinfomsg
                8, 0, 4, 0, 0xdc, 5, 0, 0, // IFLA_MTU
            ]
        );
        assert_eq!(
            Request::address(2, "10.0.2.15".parse().unwrap(), 24).0,
            [
                48, 0, 0, 0, 20, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0, // header
                2, 24, 0, 0, 2, 0, 0, 0, // ifaddrmsg
                8, 0, 2, 0, 10, 0, 2, 15, // IFA_LOCAL
                8, 0, 1, 0, 10, 0, 2, 15, // IFA_ADDRESS
                8, 0, 4, 0, 10, 0, 2, 255, // IFA_BROADCAST
            ]
        );
        let route = Request::default_route(2, "fd00::1".parse().unwrap()).0;
        assert_eq!(route.len(), 16 + 12 + 20 + 8);
        assert_eq!(route[16..28], [10, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        assert_eq!(route[28..34], [20, 0, 5, 0, 0xfd, 0]);
        assert_eq!(route[48..], [8, 0, 4, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn extreme_prefixes_have_no_wrong_broadcast() {
        let address = "10.0.0.1".parse().unwrap();
        assert_eq!(Request::address(1, address, 32).0.len(), 40);
        assert_eq!(Request::address(1, address, 0).0[44..], [255, 255, 255, 255]);
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_error_and_from_other_messages() {
        let mut message = vec![36, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(acknowledgement(&message, 7).unwrap().is_ok());
        assert!(acknowledgement(&message, 8).is_none());
        message[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(acknowledgement(&message, 7).unwrap().unwrap_err().raw_os_error(), Some(17));
        assert!(acknowledgement(&message[..10], 7).is_none());
    }

    #[test]
    fn the_kernel_understands_a_request() {
        // Index 0 is no link: any user may ask, and the kernel answers that request by number.
        let error = Netlink::open().unwrap().call(Request::link_up(0x7fff_fff0, None)).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
    }
}
