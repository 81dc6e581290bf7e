//! Which addresses are free.

use std::net::Ipv4Addr;

use banger_types::helper::Ipv4Block;

/// Length of the prefix of a user's network, bits.
const NETWORK_PREFIX: u8 = 24;
/// The number of the first address that a VM may have: before it are the network's own and its gateway's.
const FIRST_VM: u32 = 2;

/// Shorter prefixes are a default route in parts, as some VPNs have it (`0.0.0.0/1` and `128.0.0.0/1`), bits.
const SHORTEST: u8 = 4;

/// Returns a network out of the pool that overlaps none of these.
pub(crate) fn network(pool: Ipv4Block, taken: &[Ipv4Block]) -> Option<Ipv4Block> {
    pool.parts(NETWORK_PREFIX).find(|candidate| !taken.iter().any(|other| other.overlaps(*candidate)))
}

/// Returns an address of the network that none of these is, nor its gateway's, nor that for all.
pub(crate) fn address(network: Ipv4Block, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let candidates = (FIRST_VM..).map_while(|number| network.address(number));
    candidates.take_while(|candidate| *candidate != network.last()).find(|candidate| !taken(*candidate))
}

/// Returns the address of a network's gateway.
pub(crate) fn gateway(network: Ipv4Block) -> Ipv4Addr {
    network.address(1).unwrap_or_else(|| network.first())
}

/// Returns the networks that routes lead to, as `ip -4 route show table all` prints them. A default route leads to all of them
/// that no other does, and is none of these.
pub(crate) fn routed(text: &str) -> Vec<Ipv4Block> {
    let destination = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let kinds = [
            "local",
            "broadcast",
            "unreachable",
            "blackhole",
            "prohibit",
            "throw",
            "multicast",
            "unicast",
            "anycast",
            "nat",
        ];
        let destination = if kinds.contains(&first) { words.next()? } else { first };
        let with_prefix =
            if destination.contains('/') { destination.to_owned() } else { format!("{destination}/32") };
        with_prefix.parse().ok()
    };
    text.lines().filter_map(destination).filter(|block: &Ipv4Block| block.prefix() >= SHORTEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Ipv4Block {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_nobody_elses() {
        let pool = block("10.213.0.0/22");
        let network =
            |taken: &[&str]| network(pool, &taken.iter().map(|text| block(text)).collect::<Vec<_>>());
        assert_eq!(network(&[]), Some(block("10.213.0.0/24")));
        assert_eq!(network(&["10.213.0.0/24", "10.213.1.7/32"]), Some(block("10.213.2.0/24")));
        assert_eq!(network(&["10.213.0.0/23", "192.168.0.0/16"]), Some(block("10.213.2.0/24")));
        assert_eq!(network(&["10.0.0.0/8"]), None);
    }

    #[test]
    fn an_address_is_neither_the_gateways_nor_one_for_all() {
        let network = block("10.213.0.0/24");
        assert_eq!(gateway(network), Ipv4Addr::new(10, 213, 0, 1));
        assert_eq!(address(network, |_| false), Some(Ipv4Addr::new(10, 213, 0, 2)));
        assert_eq!(address(network, |it| it.octets()[3] < 9), Some(Ipv4Addr::new(10, 213, 0, 9)));
        assert_eq!(address(network, |it| it.octets()[3] < 254), Some(Ipv4Addr::new(10, 213, 0, 254)));
        assert_eq!(address(network, |it| it.octets()[3] < 255), None);
    }

    #[test]
    fn routes_are_read_as_ip_prints_them() {
        let text = "default via 192.168.1.1 dev wlan0 proto dhcp metric 600\n\
                    0.0.0.0/1 via 10.8.0.1 dev tun0
                    10.8.0.0/24 dev tun0 proto kernel scope link src 10.8.0.2\n\
                    172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown\n\
                    local 192.168.1.5 dev wlan0 table local proto kernel scope host src 192.168.1.5\n\
                    broadcast 192.168.1.255 dev wlan0 table local proto kernel\n\
                    unreachable 10.9.0.0/16\n";
        let found: Vec<String> = routed(text).into_iter().map(String::from).collect();
        assert_eq!(
            found,
            ["10.8.0.0/24", "172.17.0.0/16", "192.168.1.5/32", "192.168.1.255/32", "10.9.0.0/16"]
        );
    }
}
