//! Which of a guest's frames go out.
//!
//! passt, or a VMM's own network, opens a socket of the host for each connection that it sees in a guest's packets, to whatever
//! address they name. passt's `--no-map-gw` keeps the gateway from being the host, but its version of Debian 12 (2023-03) takes
//! packets for 127.0.0.1, which a hostile root of a guest can send out of its network card, to the host's own loopback; and any
//! version takes those for the host's other addresses to whoever listens there. So no frame gets there that the network has no
//! place for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{EtherType, Ethernet2Slice, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpSlice};

use super::names::Question;
use banger_names::NAME_PORT;

/// Types of `ICMPv6` by which neighbours find each other: solicitation and advertisement (RFC 4861 section 4).
const NEIGHBOUR: [u8; 2] = [135, 136];

/// Types of `ICMPv6` by which routers give addresses and ways: advertisement and redirect (RFC 4861 section 4).
const ROUTER: [u8; 2] = [134, 137];

/// Returns whether a frame may come to the guest: all but what would give it addresses and ways that its network has no place for, as
/// QEMU's network stack does of its own accord.
pub fn may_come(frame: &[u8]) -> bool {
    let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else { return false };
    if ethernet.ether_type() != EtherType::IPV6 {
        return true;
    }
    let packet = ethernet.payload_slice();
    let Ok(header) = Ipv6HeaderSlice::from_slice(packet) else { return false };
    let kind = packet.get(header.slice().len());
    header.next_header() != IpNumber::IPV6_ICMP || kind.is_none_or(|kind| !ROUTER.contains(kind))
}

/// What the host says of an address.
pub trait Reach {
    /// Returns whether what goes there leaves the host.
    fn is_beyond(&mut self, address: IpAddr) -> bool;
}

/// What a guest may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The guest's address, and the length of its network's prefix, bits. Nothing of that network is anything but what opens the
    /// host's sockets, which may take it for the host itself, as QEMU's does.
    pub guest: (Ipv4Addr, u8),
    /// The same of IPv6, if its network has that.
    pub guest_v6: Option<(Ipv6Addr, u8)>,
    /// Where it asks for names, by datagrams.
    pub nameserver: Ipv4Addr,
    /// Whether it reaches the host's own addresses, but for the loopback.
    pub allow_host: bool,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Leaves,
    /// It goes nowhere.
    Stays,
    /// It asks for a name, and is answered here.
    Asks(Question),
}

impl Rules {
    /// Judges a frame.
    pub fn judge(&self, frame: &[u8], reach: &mut impl Reach) -> Verdict {
        let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else { return Verdict::Stays };
        let leaves = match ethernet.ether_type() {
            EtherType::ARP => true,
            EtherType::IPV4 => match self.question(&ethernet) {
                Some(question) => return Verdict::Asks(question),
                None => self.v4_leaves(ethernet.payload_slice(), reach),
            },
            EtherType::IPV6 => self.v6_leaves(ethernet.payload_slice(), reach),
            // The network has nothing else, and no tags.
            _ => false,
        };
        if leaves { Verdict::Leaves } else { Verdict::Stays }
    }

    fn v4_leaves(&self, packet: &[u8], reach: &mut impl Reach) -> bool {
        let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else { return false };
        let ((guest, prefix), to) = (self.guest, header.destination_addr());
        if header.source_addr() != guest {
            return false;
        }
        if first_bits(to.into(), prefix) == first_bits(guest.into(), prefix) {
            return to == self.nameserver && is_question_by_tcp(&header, packet);
        }
        is_of_the_world(to) && self.is_reached(to.into(), reach)
    }

    fn v6_leaves(&self, packet: &[u8], reach: &mut impl Reach) -> bool {
        let Ok(header) = Ipv6HeaderSlice::from_slice(packet) else { return false };
        let Some((guest, prefix)) = self.guest_v6 else { return false };
        let to = header.destination_addr();
        match header.next_header() {
            // Between neighbours, who send it from their own link alone (RFC 4861 section 7.1).
            IpNumber::IPV6_ICMP
                if header.hop_limit() == 255
                    && packet.get(header.slice().len()).is_some_and(|kind| NEIGHBOUR.contains(kind)) =>
            {
                true
            }
            // Whatever else may stand there first has no place in the network.
            IpNumber::TCP | IpNumber::UDP | IpNumber::IPV6_ICMP => {
                header.source_addr() == guest
                    && first_bits(to.into(), prefix) != first_bits(guest.into(), prefix)
                    && is_of_the_world_v6(to)
                    && self.is_reached(to.into(), reach)
            }
            _ => false,
        }
    }

    fn is_reached(&self, to: IpAddr, reach: &mut impl Reach) -> bool {
        self.allow_host || reach.is_beyond(to)
    }

    /// Returns the question that a frame has for the name server, if it has one.
    fn question(&self, ethernet: &Ethernet2Slice<'_>) -> Option<Question> {
        let packet = ethernet.payload_slice();
        let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
        let (guest, _) = self.guest;
        let is_ours = header.source_addr() == guest
            && header.destination_addr() == self.nameserver
            && header.protocol() == IpNumber::UDP
            && !header.is_fragmenting_payload();
        if !is_ours {
            return None;
        }
        let datagram = UdpSlice::from_slice(packet.get(header.slice().len()..)?).ok()?;
        (datagram.destination_port() == NAME_PORT).then(|| Question {
            client: SocketAddr::from((guest, datagram.source_port())),
            client_mac: ethernet.source(),
            nameserver: self.nameserver,
            nameserver_mac: ethernet.destination(),
            message: datagram.payload().to_vec(),
        })
    }
}

/// Returns so many of an address's first bits, and nothing of the rest.
fn first_bits(address: IpAddr, prefix: u8) -> u128 {
    let (bits, length) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    bits.checked_shr(length - u32::from(prefix)).unwrap_or(0)
}

/// Whether a packet belongs to a connection to a name server. (Datagrams have their own way.)
fn is_question_by_tcp(header: &Ipv4HeaderSlice<'_>, packet: &[u8]) -> bool {
    let port = packet.get(header.slice().len() + 2..header.slice().len() + 4);
    header.protocol() == IpNumber::TCP
        && !header.is_fragmenting_payload()
        && port == Some(&NAME_PORT.to_be_bytes())
}

/// Where clouds keep what they tell a machine about itself, credentials among it, beside the link-local address that most have: Azure,
/// Alibaba, Oracle. What a host is told is not its guests'.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// The same by IPv6: Google, Oracle, Scaleway.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];
/// The first two groups of Amazon's, `fd00:ec2::/32`.
const METADATA_OF_AMAZON: [u16; 2] = [0xfd00, 0xec2];

/// Whether an address can be somebody's beyond a host: RFC 6890. Those for private use can.
fn is_of_the_world(address: Ipv4Addr) -> bool {
    let no_ones = [
        METADATA.contains(&address),
        // A connection to 0.0.0.0 is one to the loopback, on Linux.
        address.octets()[0] == 0,
        address.is_loopback(),
        address.is_link_local(),
        address.is_multicast(),
        // Reserved, and the broadcast address (RFC 1112 section 4).
        address.octets()[0] >= 240,
    ];
    !no_ones.contains(&true)
}

/// As [`is_of_the_world`].
fn is_of_the_world_v6(address: Ipv6Addr) -> bool {
    let no_ones = [
        METADATA_V6.contains(&address),
        address.segments()[..2] == METADATA_OF_AMAZON,
        address.is_unspecified(),
        address.is_loopback(),
        address.is_unicast_link_local(),
        address.is_multicast(),
        // An address of IPv4 in another form (RFC 4291 section 2.5.5), which the kernel takes for that.
        address.to_ipv4().is_some(),
    ];
    !no_ones.contains(&true)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
    const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd62, 0, 0, 0, 0, 0, 0, 2);
    const NAMESERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);

    /// A host with these addresses.
    struct Host(Vec<IpAddr>);

    impl Reach for Host {
        fn is_beyond(&mut self, address: IpAddr) -> bool {
            !self.0.contains(&address)
        }
    }

    fn host() -> Host {
        Host(["10.0.0.5", "2001:db8::5"].iter().map(|text| text.parse().unwrap()).collect())
    }

    fn rules() -> Rules {
        Rules {
            guest: (GUEST, 24),
            guest_v6: Some((GUEST_V6, 64)),
            nameserver: NAMESERVER,
            allow_host: false,
        }
    }

    /// Returns a datagram in a frame.
    fn datagram(from: impl Into<IpAddr>, to: impl Into<IpAddr>, port: u16) -> Vec<u8> {
        let (mut frame, ethernet) = (Vec::new(), PacketBuilder::ethernet2([1; 6], [2; 6]));
        match (from.into(), to.into()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ethernet
                    .ipv4(from.octets(), to.octets(), 64)
                    .udp(4000, port)
                    .write(&mut frame, b"?")
                    .unwrap();
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ethernet
                    .ipv6(from.octets(), to.octets(), 64)
                    .udp(4000, port)
                    .write(&mut frame, b"?")
                    .unwrap();
            }
            (from, to) => panic!("from {from} to {to}"),
        }
        frame
    }

    fn leaves(rules: &Rules, frame: &[u8]) -> bool {
        rules.judge(frame, &mut host()) == Verdict::Leaves
    }

    #[test]
    fn the_world_is_reached_and_the_host_is_not() {
        for world in ["93.184.215.14", "10.0.0.6", "192.168.1.1", "172.17.0.2", "100.64.0.1", "198.18.1.1"] {
            let world: Ipv4Addr = world.parse().unwrap();
            assert!(leaves(&rules(), &datagram(GUEST, world, 9)), "{world}");
            assert!(!leaves(&rules(), &datagram(Ipv4Addr::new(198, 18, 0, 3), world, 9)), "a forged source");
        }
        for own in [
            "10.0.0.5",
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.251",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "198.18.0.7",
            "198.18.0.53",
        ] {
            let own: Ipv4Addr = own.parse().unwrap();
            assert!(!leaves(&rules(), &datagram(GUEST, own, 9)), "{own}");
        }
    }

    #[test]
    fn the_world_is_reached_and_the_host_is_not_by_the_other_family() {
        for world in ["2606:2800:21f:cb07::1", "fd00::1", "2001:db8::6"] {
            let world: Ipv6Addr = world.parse().unwrap();
            assert!(leaves(&rules(), &datagram(GUEST_V6, world, 9)), "{world}");
            assert!(
                !leaves(&rules(), &datagram("fd62::3".parse::<Ipv6Addr>().unwrap(), world, 9)),
                "a forged source"
            );
            let without = Rules { guest_v6: None, ..rules() };
            assert!(!leaves(&without, &datagram(GUEST_V6, world, 9)), "a network without it");
        }
        for own in [
            "2001:db8::5",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "fe80::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "ff02::1",
            "ff0e::1",
            "fd62::1",
        ] {
            let own: Ipv6Addr = own.parse().unwrap();
            assert!(!leaves(&rules(), &datagram(GUEST_V6, own, 9)), "{own}");
        }
    }

    #[test]
    fn the_hosts_addresses_can_be_opened_and_its_loopback_cannot() {
        let open = Rules { allow_host: true, ..rules() };
        assert!(leaves(&open, &datagram(GUEST, Ipv4Addr::new(10, 0, 0, 5), 9)));
        assert!(leaves(&open, &datagram(GUEST_V6, "2001:db8::5".parse::<Ipv6Addr>().unwrap(), 9)));
        for own in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(169, 254, 169, 254)] {
            assert!(!leaves(&open, &datagram(GUEST, own, 9)), "{own}");
        }
        assert!(!leaves(&open, &datagram(GUEST_V6, Ipv6Addr::LOCALHOST, 9)));
    }

    #[test]
    fn names_are_asked_for_by_datagrams_to_the_name_server() {
        let Verdict::Asks(question) = rules().judge(&datagram(GUEST, NAMESERVER, 53), &mut host()) else {
            panic!()
        };
        assert_eq!(question.client, SocketAddr::from((GUEST, 4000)));
        assert_eq!((question.client_mac, question.nameserver_mac), ([1; 6], [2; 6]));
        assert_eq!(question.message, b"?");
        assert!(!leaves(&rules(), &datagram(GUEST, NAMESERVER, 54)));
        assert!(leaves(&rules(), &datagram(GUEST, Ipv4Addr::new(9, 9, 9, 9), 53)));
        assert!(!leaves(&rules(), &datagram(Ipv4Addr::new(9, 9, 9, 9), NAMESERVER, 53)));
    }

    #[test]
    fn names_may_be_asked_for_by_connections_too() {
        let segment = |to: Ipv4Addr, port| {
            let mut frame = Vec::new();
            let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(GUEST.octets(), to.octets(), 64);
            ethernet.tcp(4000, port, 1, 1024).syn().write(&mut frame, b"").unwrap();
            frame
        };
        assert!(leaves(&rules(), &segment(NAMESERVER, 53)));
        assert!(!leaves(&rules(), &segment(NAMESERVER, 80)));
        assert!(!leaves(&rules(), &segment(Ipv4Addr::new(198, 18, 0, 1), 53)), "the gateway");
    }

    /// Returns a message between neighbours in a frame.
    fn neighbour(kind: u8, hop_limit: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        let to: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
        let from: Ipv6Addr = "fe80::1".parse().unwrap();
        let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(from.octets(), to.octets(), hop_limit);
        ethernet.icmpv6_raw(kind, 0, [0; 4]).write(&mut frame, &[0; 16]).unwrap();
        frame
    }

    #[test]
    fn neighbours_find_each_other_and_routers_are_not_looked_for() {
        assert!(leaves(&rules(), &neighbour(135, 255)) && leaves(&rules(), &neighbour(136, 255)));
        for (kind, hop_limit) in [(135, 64), (133, 255), (134, 255), (137, 255), (143, 1)] {
            assert!(!leaves(&rules(), &neighbour(kind, hop_limit)), "{kind} {hop_limit}");
        }
    }

    #[test]
    fn no_router_gives_a_guest_addresses() {
        assert!(!may_come(&neighbour(134, 255)) && !may_come(&neighbour(137, 255)));
        assert!(may_come(&neighbour(135, 255)) && may_come(&neighbour(136, 255)));
        assert!(may_come(&datagram(Ipv4Addr::new(9, 9, 9, 9), GUEST, 9)));
        assert!(may_come(&datagram("2001:db8::6".parse::<Ipv6Addr>().unwrap(), GUEST_V6, 9)));
    }

    #[test]
    fn nothing_else_leaves() {
        let mut frame = datagram(GUEST, Ipv4Addr::new(1, 1, 1, 1), 9);
        frame[12..14].copy_from_slice(&EtherType::ARP.0.to_be_bytes());
        assert!(leaves(&rules(), &frame));
        for other in [[0x81, 0x00], [0x88, 0xa8], [0x00, 0x10], [0x86, 0xdd]] {
            frame[12..14].copy_from_slice(&other);
            assert!(!leaves(&rules(), &frame), "{other:x?}");
        }
        assert!(!leaves(&rules(), &datagram(GUEST, Ipv4Addr::new(1, 1, 1, 1), 9)[..33]), "cut off");
        // A header of options before the datagram (RFC 8200 section 4.3).
        let mut frame = datagram(GUEST_V6, "2001:db8::6".parse::<Ipv6Addr>().unwrap(), 9);
        frame[20] = 0;
        assert!(!leaves(&rules(), &frame));
    }

    proptest! {
        #[test]
        fn no_frame_breaks_it(mut frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4_usize) {
            if frame.len() > 13 {
                let kinds = [EtherType::ARP, EtherType::IPV4, EtherType::IPV6, EtherType(7)];
                frame[12..14].copy_from_slice(&kinds[kind].0.to_be_bytes());
            }
            rules().judge(&frame, &mut host());
        }
    }
}
