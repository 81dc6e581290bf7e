//! Addresses of a user-mode network. Every VM has the same: none of them can see another's.

use std::net::{IpAddr, Ipv4Addr};

use banger_types::guest::GuestNetwork;

/// The addresses of one guest's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    /// The guest's hardware address; locally administered (IEEE 802 section 8.4).
    pub mac: &'static str,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
    /// The router's address; there is nothing behind it but the world.
    pub gateway: Ipv4Addr,
    /// Where the guest asks for names when the host's own name server cannot be reached from it.
    pub nameserver: Ipv4Addr,
    /// Largest packet, bytes.
    pub mtu: u32,
}

/// The plan of every user-mode network. The block is set aside for benchmarks of network devices
/// (RFC 2544, RFC 6890), so that it hides nobody's real network from the guest.
pub const USER_NETWORK: AddressPlan = AddressPlan {
    mac: "02:62:6e:67:00:01",
    address: Ipv4Addr::new(198, 18, 0, 2),
    prefix: 24,
    gateway: Ipv4Addr::new(198, 18, 0, 1),
    nameserver: Ipv4Addr::new(198, 18, 0, 53),
    mtu: 1500,
};

impl AddressPlan {
    /// Returns what a guest is told, on a host with these name servers.
    ///
    /// A name server on the host's loopback cannot be the guest's: it asks the plan's own, which
    /// leads there.
    pub fn guest(&self, host_nameservers: &[IpAddr]) -> GuestNetwork {
        let mut nameservers: Vec<String> = host_nameservers
            .iter()
            .map(|address| if is_reachable(*address) { *address } else { self.nameserver.into() })
            .map(|address| address.to_string())
            .collect();
        nameservers.dedup();
        if nameservers.is_empty() {
            nameservers.push(self.nameserver.to_string());
        }
        GuestNetwork {
            mac: self.mac.to_owned(),
            mtu: self.mtu,
            addresses: vec![format!("{}/{}", self.address, self.prefix)],
            gateways: vec![self.gateway.to_string()],
            nameservers,
            search: Vec::new(),
        }
    }

    /// Returns the host's name server to which the plan's own leads, when one is needed: the first
    /// that the guest cannot ask itself.
    pub fn forwarded_nameserver(&self, host_nameservers: &[IpAddr]) -> Option<IpAddr> {
        host_nameservers.iter().copied().find(|address| !is_reachable(*address))
    }
}

/// The guest has IPv4 alone, and the host's loopback is not its.
fn is_reachable(address: IpAddr) -> bool {
    address.is_ipv4() && !address.is_loopback() && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(host: &[&str]) -> Vec<String> {
        let host: Vec<IpAddr> = host.iter().map(|text| text.parse().unwrap()).collect();
        USER_NETWORK.guest(&host).nameservers
    }

    #[test]
    fn a_nameserver_of_the_hosts_loopback_is_asked_through_the_network() {
        assert_eq!(told(&["127.0.0.53"]), ["198.18.0.53"]);
        assert_eq!(told(&["10.0.0.1", "127.0.0.53"]), ["10.0.0.1", "198.18.0.53"]);
        assert_eq!(told(&["::1", "fd00::1"]), ["198.18.0.53"]);
        assert_eq!(told(&[]), ["198.18.0.53"]);
    }
}
