//! What the host's kernel says of addresses: rtnetlink(7).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::rules::Reach;

/// The changes after which what was said may not be so any more.
const CHANGES: [libc::c_uint; 4] = [
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// Nobody tells of changes any more: nothing is remembered.
const UNTOLD: u64 = u64::MAX;
/// Most addresses that are remembered: a guest may name all there are.
const MOST_KNOWN: usize = 4096;

/// The host's routes, as the kernel would take them.
pub struct HostRoutes {
    socket: Socket,
    /// Whether what goes to these addresses leaves the host.
    known: HashMap<IpAddr, bool>,
    /// How often something had changed when they were asked for.
    asked_at: u64,
    changes: Arc<AtomicU64>,
}

impl std::fmt::Debug for HostRoutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostRoutes").field("known", &self.known).finish_non_exhaustive()
    }
}

impl HostRoutes {
    /// Begins to listen for changes, in a thread of its own.
    ///
    /// # Errors
    /// When the kernel lets nobody ask, or the thread cannot be started.
    pub fn open() -> io::Result<Self> {
        let mut listener = Socket::new(NETLINK_ROUTE)?;
        listener.bind(&SocketAddr::new(0, 0))?;
        for group in CHANGES {
            listener.add_membership(group)?;
        }
        let changes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&changes);
        std::thread::Builder::new().name("routes".to_owned()).spawn(move || count(&listener, &counted))?;
        Ok(Self { socket: connected()?, known: HashMap::new(), asked_at: 0, changes })
    }

    fn ask(&mut self, address: IpAddr) -> io::Result<bool> {
        let request = question(address);
        self.socket.send(&request, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        Ok(match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                route.header.kind == RouteType::Unicast
            }
            // There is no way there: whoever tries is told so.
            NetlinkPayload::Error(_) => true,
            _ => false,
        })
    }
}

impl Reach for HostRoutes {
    fn is_beyond(&mut self, address: IpAddr) -> bool {
        let changes = self.changes.load(Ordering::Acquire);
        if changes != self.asked_at || changes == UNTOLD || self.known.len() >= MOST_KNOWN {
            self.known.clear();
            self.asked_at = changes;
        }
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let beyond = self.ask(address);
        if beyond.is_err() {
            // What is left of the answer must not be taken for the next one.
            match connected() {
                Ok(socket) => self.socket = socket,
                Err(_) => return false,
            }
        }
        let beyond = beyond.unwrap_or(false);
        self.known.insert(address, beyond);
        beyond
    }
}

/// Counts changes for as long as the kernel tells of them; what it could not tell counts as one.
fn count(listener: &Socket, changes: &AtomicU64) {
    loop {
        match listener.recv_from_full() {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return changes.store(UNTOLD, Ordering::Release),
        }
        changes.fetch_add(1, Ordering::AcqRel);
    }
}

fn connected() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Returns `RTM_GETROUTE` for an address: which route would be taken.
fn question(address: IpAddr) -> Vec<u8> {
    let mut route = RouteMessage::default();
    (route.header.address_family, route.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    route.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetRoute(route)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_not_beyond_it() {
        let mut routes = HostRoutes::open().unwrap();
        for own in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert!(!routes.is_beyond(own.parse().unwrap()), "{own}");
            assert!(!routes.is_beyond(own.parse().unwrap()), "{own}, from memory");
        }
        // Connecting a datagram socket sends nothing, and says which address is this host's towards the world.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            assert!(!routes.is_beyond(socket.local_addr().unwrap().ip()));
        }
        // Nobody's (RFC 5737, RFC 3849): beyond, whether there is a way or not.
        for world in ["192.0.2.1", "2001:db8::1"] {
            assert!(routes.is_beyond(world.parse().unwrap()), "{world}");
        }
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut routes = HostRoutes::open().unwrap();
        for number in 0..MOST_KNOWN + 10 {
            let low = u16::try_from(number).unwrap().to_be_bytes();
            routes.is_beyond([192, 0, low[0], low[1]].into());
        }
        assert!(routes.known.len() <= MOST_KNOWN);
    }
}
