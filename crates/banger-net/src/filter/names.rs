//! A guest's questions for names, passed to the host's name servers of the moment.
//!
//! The guest knows one name server, an address of its own network. Its questions end here, and are asked anew from a socket of the
//! host (see `banger-names`). A question is a datagram whose content is nobody's business but the guest's and the server's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use banger_names::{NAME_PORT, Servers};
use etherparse::{EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, UdpHeader};

/// Most questions that are under way at a time; the guest's resolver asks those again that find no place.
const MOST_QUESTIONS: usize = 64;
/// Hops that an answer has left (RFC 1700, "Internet protocol numbers").
const HOPS: u8 = 64;

/// A question, and what its answer needs to find its way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub client: SocketAddr,
    /// Its hardware address.
    pub client_mac: [u8; 6],
    /// Whom it asks.
    pub nameserver: Ipv4Addr,
    /// The hardware address of that.
    pub nameserver_mac: [u8; 6],
    /// What it asks: a message of RFC 1035 section 4.1.
    pub message: Vec<u8>,
}

/// Asks the host's name servers.
#[derive(Debug, Clone)]
pub struct Names {
    servers: Servers,
    under_way: Arc<AtomicUsize>,
}

impl Names {
    /// Returns who asks the name servers that a `resolv.conf(5)` names, whenever something is asked.
    pub fn new(configuration: impl Into<PathBuf>) -> Self {
        Self { servers: Servers::new(configuration), under_way: Arc::default() }
    }

    /// Asks, in a thread of its own, and gives `deliver` the answer in frames of at most `mtu` bytes of packet. Nobody waits for it,
    /// and what finds no place is lost, as any datagram may be.
    pub fn ask(&self, question: Question, mtu: usize, deliver: impl Fn(&[u8]) + Send + 'static) {
        let place = Place(Arc::clone(&self.under_way));
        if place.0.fetch_add(1, Ordering::AcqRel) >= MOST_QUESTIONS {
            return;
        }
        let names = self.clone();
        let thread = std::thread::Builder::new().name("name".to_owned()).stack_size(256 << 10);
        // Without a thread, it is lost.
        let _ = thread.spawn(move || {
            let _place = place;
            if let Some(answer) = names.servers.answer(&question.message) {
                for frame in frames(&question, &answer, mtu) {
                    deliver(&frame);
                }
            }
        });
    }
}

/// A question that is under way.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Returns the frames that bring an answer back: one, or as many as it takes in fragments (RFC 791 section 3.2). One that is too long for
/// any datagram has none.
fn frames(question: &Question, message: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    datagram(question, message).map_or_else(Vec::new, |datagram| {
        let most = (mtu - Ipv4Header::MIN_LEN) / 8 * 8;
        let pieces = datagram.chunks(most).count();
        datagram
            .chunks(most)
            .enumerate()
            .filter_map(|(index, piece)| packet(question, piece, index * most, index + 1 < pieces))
            .collect()
    })
}

/// Returns an answer as UDP has it.
fn datagram(question: &Question, message: &[u8]) -> Option<Vec<u8>> {
    let IpAddr::V4(client) = question.client.ip() else { return None };
    let length = u16::try_from(message.len()).ok()?;
    let addresses =
        Ipv4Header::new(length, HOPS, IpNumber::UDP, question.nameserver.octets(), client.octets()).ok()?;
    let header =
        UdpHeader::with_ipv4_checksum(NAME_PORT, question.client.port(), &addresses, message).ok()?;
    Some([&header.to_bytes()[..], message].concat())
}

/// Returns a piece of a datagram in a frame.
fn packet(question: &Question, piece: &[u8], offset: usize, more: bool) -> Option<Vec<u8>> {
    let IpAddr::V4(client) = question.client.ip() else { return None };
    let length = u16::try_from(piece.len()).ok()?;
    let mut header =
        Ipv4Header::new(length, HOPS, IpNumber::UDP, question.nameserver.octets(), client.octets()).ok()?;
    // Pieces of one datagram are known by its number: the question's, which no other has meanwhile.
    header.identification = u16::from_be_bytes([*question.message.first()?, *question.message.get(1)?]);
    header.dont_fragment = false;
    header.more_fragments = more;
    header.fragment_offset = IpFragOffset::try_new(u16::try_from(offset / 8).ok()?).ok()?;
    header.header_checksum = header.calc_header_checksum();
    let ethernet = Ethernet2Header {
        source: question.nameserver_mac,
        destination: question.client_mac,
        ether_type: EtherType::IPV4,
    };
    Some([&ethernet.to_bytes()[..], &header.to_bytes()[..], piece].concat())
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn question(message: &[u8]) -> Question {
        Question {
            client: "198.18.0.2:4000".parse().unwrap(),
            client_mac: [1; 6],
            nameserver: Ipv4Addr::new(198, 18, 0, 53),
            nameserver_mac: [2; 6],
            message: message.to_vec(),
        }
    }

    #[test]
    fn an_answer_comes_from_whom_was_asked() {
        let frames = frames(&question(b"\x12\x34"), b"an answer", 1500);
        let [frame] = frames.as_slice() else { panic!("{} frames", frames.len()) };
        assert_eq!(frame[..12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!() };
        assert_eq!(ip.header().source_addr(), Ipv4Addr::new(198, 18, 0, 53));
        assert_eq!(ip.header().destination_addr(), Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
        let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!() };
        assert_eq!((udp.source_port(), udp.destination_port(), udp.payload()), (53, 4000, &b"an answer"[..]));
        let checksum = udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), b"an answer").unwrap();
        assert_eq!(udp.checksum(), checksum);
    }

    #[test]
    fn a_long_answer_comes_in_pieces_that_are_put_together_again() {
        let message: Vec<u8> = (0..4000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let frames = frames(&question(b"\x12\x34"), &message, 1500);
        assert_eq!(frames.len(), 3);
        let mut whole = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            assert!(frame.len() <= 14 + 1500);
            let packet = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!() };
            assert_eq!(usize::from(ip.header().fragments_offset().value()) * 8, whole.len());
            assert_eq!((ip.header().more_fragments(), ip.header().identification()), (index < 2, 0x1234));
            whole.extend_from_slice(ip.payload().payload);
        }
        assert!(whole[8..] == message);
        assert!(
            super::frames(&question(b"\x12\x34"), &vec![0; 65_535], 1500).is_empty(),
            "longer than any datagram"
        );
    }
}
