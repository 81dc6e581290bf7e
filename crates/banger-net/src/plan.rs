//! Addresses of a user-mode network. Every VM has the same: none of them can see another's.

use std::net::{Ipv4Addr, Ipv6Addr};

use banger_types::guest::GuestNetwork;

/// The addresses of one guest's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    /// The guest's hardware address; locally administered (IEEE 802 section 8.4).
    pub mac: &'static str,
    /// The network's first address.
    pub network: Ipv4Addr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The router's address; there is nothing behind it but the world.
    pub gateway: Ipv4Addr,
    /// The router's hardware address, where the host has no interface whose one could be had.
    pub gateway_mac: &'static str,
    /// Where the guest asks for names: the filter passes it on.
    pub nameserver: Ipv4Addr,
    /// The addresses of IPv6, for a guest whose host has that.
    pub v6: PlanV6,
    /// Largest packet, bytes.
    pub mtu: u32,
}

/// As [`AddressPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanV6 {
    /// The network's first address.
    pub network: Ipv6Addr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
    /// The guest's address.
    pub address: Ipv6Addr,
    /// The router's address.
    pub gateway: Ipv6Addr,
}

/// The plan of every user-mode network. The block of IPv4 is set aside for benchmarks of network devices (RFC 2544, RFC 6890),
/// so that it hides nobody's real network from the guest; the prefix of IPv6 is a local one whose number was drawn (RFC 4193
/// section 3.2), for which names with addresses of both families lead to IPv4 first (RFC 6724 section 2.1).
pub const USER_NETWORK: AddressPlan = AddressPlan {
    mac: "02:62:6e:67:00:01",
    network: Ipv4Addr::new(198, 18, 0, 0),
    prefix: 24,
    address: Ipv4Addr::new(198, 18, 0, 2),
    gateway: Ipv4Addr::new(198, 18, 0, 1),
    gateway_mac: "02:62:6e:67:00:fe",
    nameserver: Ipv4Addr::new(198, 18, 0, 53),
    v6: PlanV6 {
        network: Ipv6Addr::new(0xfd8b, 0x41c5, 0x9e07, 0, 0, 0, 0, 0),
        prefix: 64,
        address: Ipv6Addr::new(0xfd8b, 0x41c5, 0x9e07, 0, 0, 0, 0, 2),
        gateway: Ipv6Addr::new(0xfd8b, 0x41c5, 0x9e07, 0, 0, 0, 0, 1),
    },
    mtu: 1500,
};

impl AddressPlan {
    /// Returns what a guest is told, with addresses of IPv6 or without, on a host that looks for names in these domains.
    pub fn guest(&self, has_v6: bool, search: Vec<String>) -> GuestNetwork {
        let mut network = GuestNetwork {
            mac: self.mac.to_owned(),
            mtu: self.mtu,
            addresses: vec![format!("{}/{}", self.address, self.prefix)],
            gateways: vec![self.gateway.to_string()],
            nameservers: vec![self.nameserver.to_string()],
            search,
        };
        if has_v6 {
            network.addresses.push(format!("{}/{}", self.v6.address, self.v6.prefix));
            network.gateways.push(self.v6.gateway.to_string());
        }
        network
    }
}
