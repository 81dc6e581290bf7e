//! Addresses of guests. In user-mode networks every VM has the same: none of them can see another's.

use std::net::{Ipv4Addr, Ipv6Addr};

use banger_core::network::{Attachment, NetworkPlan};
use banger_types::guest::GuestNetwork;
use banger_types::helper::{DOMAIN, VmPlace};

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

/// Largest packet of Ethernet, bytes (RFC 894).
const ETHERNET_MTU: u32 = 1500;

/// Returns the plan of a VM that has a place in a network of the root helper's, on a host that looks for names in these domains.
pub(crate) fn placed(place: &VmPlace, mut search: Vec<String>) -> NetworkPlan {
    let (network, device) = (&place.network, &place.device);
    let mut guest = GuestNetwork {
        mac: device.mac.clone(),
        mtu: ETHERNET_MTU,
        addresses: vec![format!("{}/{}", device.address, network.block.prefix())],
        gateways: vec![network.gateway.to_string()],
        nameservers: vec![network.gateway.to_string()],
        search: Vec::new(),
    };
    if let (Some(address), Some((gateway, prefix))) = (device.address_v6, network.gateway_v6) {
        guest.addresses.push(format!("{address}/{prefix}"));
        guest.gateways.push(gateway.to_string());
    }
    // Its neighbours go by their short names, too, where the host's domains have no such name.
    search.push(DOMAIN.to_owned());
    let attachment = Attachment::Device(device.device.clone());
    NetworkPlan { helpers: Vec::new(), attachment, own_stack: None, guest: GuestNetwork { search, ..guest } }
}

#[cfg(test)]
mod tests {
    use banger_types::helper::{UserNetwork, VmDevice};

    use super::*;

    #[test]
    fn a_placed_guest_has_the_addresses_of_its_place_and_asks_its_gateway() {
        let network = UserNetwork {
            bridge: "bgr1001".to_owned(),
            block: "10.213.7.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 213, 7, 1),
            gateway_v6: Some(("fd00::1".parse().unwrap(), 64)),
            name_server: None,
        };
        let device = VmDevice {
            device: "bgt0123456789ab".to_owned(),
            mac: "02:62:67:d5:07:02".to_owned(),
            address: Ipv4Addr::new(10, 213, 7, 2),
            address_v6: Some("fd00::2".parse().unwrap()),
        };
        let place =
            VmPlace { network, device, name: "web.banger".to_owned(), jail: None, warnings: Vec::new() };
        let plan = placed(&place, vec!["lan".to_owned()]);
        assert_eq!(plan.attachment, Attachment::Device("bgt0123456789ab".to_owned()));
        assert!(plan.helpers.is_empty() && plan.own_stack.is_none());
        let guest = plan.guest;
        assert_eq!(guest.addresses, ["10.213.7.2/24", "fd00::2/64"]);
        assert_eq!(guest.gateways, ["10.213.7.1", "fd00::1"]);
        assert_eq!(
            (guest.nameservers, guest.search),
            (vec!["10.213.7.1".into()], vec!["lan".into(), "banger".into()])
        );
    }
}
