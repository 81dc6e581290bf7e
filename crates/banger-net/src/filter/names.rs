//! A guest's questions for names, passed to the host's name servers of the moment.
//!
//! The guest knows one name server, an address of its own network. What the host asks may change while the guest runs (a
//! laptop that moves, a VPN), and may listen on the host's loopback (systemd-resolved, dnsmasq), where no guest gets: so its
//! questions end here, and are asked anew from a socket of the host. A question is a datagram whose content is nobody's business but
//! the guest's and the server's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use etherparse::{EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, UdpHeader};

use crate::resolver::{NAME_PORT, nameservers};

/// Most questions that are under way at a time; the guest's resolver asks those again that find no place.
const MOST_QUESTIONS: usize = 64;
/// How many name servers are asked, and how long each may take: less than resolvers wait before they ask again, which is 5 s
/// (`resolv.conf(5)`).
const MOST_SERVERS: usize = 3;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest message: what a datagram holds.
const LONGEST: usize = 65_535;
/// Bytes of a message's header, and which of them say whose answer it is and that it is one (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
const IS_ANSWER: u8 = 0x80;
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
    /// Where the host's name servers stand.
    configuration: PathBuf,
    under_way: Arc<AtomicUsize>,
    /// The one that has answered last: it is asked first.
    good: Arc<Mutex<Option<SocketAddr>>>,
}

impl Names {
    /// Returns who asks the name servers that a `resolv.conf(5)` names, whenever something is asked.
    pub fn new(configuration: impl Into<PathBuf>) -> Self {
        Self { configuration: configuration.into(), under_way: Arc::default(), good: Arc::default() }
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
            if let Some(answer) = names.answer(&question.message) {
                for frame in frames(&question, &answer, mtu) {
                    deliver(&frame);
                }
            }
        });
    }

    fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < HEADER {
            return None;
        }
        let text = std::fs::read_to_string(&self.configuration).unwrap_or_default();
        let mut servers: Vec<SocketAddr> = nameservers(&text).into_iter().take(MOST_SERVERS).collect();
        let good = *self.good.lock().unwrap_or_else(PoisonError::into_inner);
        servers.sort_by_key(|server| Some(*server) != good);
        for server in servers {
            if let Ok(answer) = ask(server, message) {
                *self.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
                return Some(answer);
            }
        }
        None
    }
}

/// A question that is under way.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks one server, from a port that nobody can guess.
fn ask(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(message)?;
    let deadline = Instant::now() + ANSWER_LIMIT;
    let mut answer = vec![0; LONGEST];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut answer)?;
        if length >= HEADER && answer[..2] == message[..2] && answer[2] & IS_ANSWER != 0 {
            answer.truncate(length);
            return Ok(answer);
        }
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
    use std::sync::mpsc;

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

    /// Returns a name server that answers so, once, and what it was asked.
    fn server(answer: &'static [u8]) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, asked) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            sender.send(buffer[..length].to_vec()).unwrap();
            // What is no answer, or another's, is not taken for it.
            for datagram in [b"", &b"\x12\x34\x01\0........"[..], b"\x99\x99\x80\0........", answer] {
                socket.send_to(datagram, client).unwrap();
            }
        });
        (address, asked)
    }

    #[test]
    fn an_answer_is_known_by_its_number() {
        let (address, asked) = server(b"\x12\x34\x80\0........the answer");
        let message = b"\x12\x34\x01\0........the question";
        assert_eq!(ask(address, message).unwrap(), b"\x12\x34\x80\0........the answer");
        assert_eq!(asked.recv().unwrap(), message);
    }

    #[test]
    fn nobody_who_listens_is_an_error_at_once() {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let before = Instant::now();
        assert_eq!(ask(address, &[0; 20]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(before.elapsed() < ANSWER_LIMIT);
    }

    #[test]
    fn a_message_that_is_none_and_a_host_without_servers_have_no_answer() {
        let names = Names::new("/there/is/none");
        assert_eq!(names.answer(b"short"), None);
    }
}
