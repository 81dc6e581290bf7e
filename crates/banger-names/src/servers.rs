//! The host's name servers.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::resolver::nameservers;

/// How many name servers are asked, and how long each may take: less than resolvers wait before they ask again, which is 5 s
/// (`resolv.conf(5)`).
const MOST_SERVERS: usize = 3;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest message: what a datagram holds.
const LONGEST: usize = 65_535;
/// Bytes of a message's header, and which of them say whose answer it is and that it is one (RFC 1035 section 4.1.1).
pub const HEADER: usize = 12;
const IS_ANSWER: u8 = 0x80;

/// Asks the host's name servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Where the host's name servers stand.
    configuration: PathBuf,
    /// The one that has answered last: it is asked first.
    good: Arc<Mutex<Option<SocketAddr>>>,
}

impl Servers {
    /// Returns who asks the name servers that a `resolv.conf(5)` names, whenever something is asked.
    pub fn new(configuration: impl Into<PathBuf>) -> Self {
        Self { configuration: configuration.into(), good: Arc::default() }
    }

    /// Asks a message of RFC 1035 section 4.1 by datagrams. Blocks until there is an answer, for some seconds at most.
    pub fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.ask(message, ask)
    }

    /// The same by a stream, for answers that are too long for a datagram (RFC 7766).
    pub fn answer_by_stream(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.ask(message, ask_by_stream)
    }

    fn ask(&self, message: &[u8], ask: fn(SocketAddr, &[u8]) -> io::Result<Vec<u8>>) -> Option<Vec<u8>> {
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

fn is_answer(answer: &[u8], message: &[u8]) -> bool {
    answer.len() >= HEADER && answer[..2] == message[..2] && answer[2] & IS_ANSWER != 0
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
        socket.set_read_timeout(Some(left(deadline)?))?;
        let length = socket.recv(&mut answer)?;
        if is_answer(&answer[..length], message) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

fn ask_by_stream(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_LIMIT)?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    write_message(&mut stream, message)?;
    let answer = read_message(&mut stream, deadline)?;
    if is_answer(&answer, message) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Returns what is left until then.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads a message off a stream, after its length in two bytes (RFC 1035 section 4.2.2), until then.
pub(crate) fn read_message(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    read_exact(stream, &mut length, deadline)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    read_exact(stream, &mut message, deadline)?;
    Ok(message)
}

/// Reads all of it until then, however slowly it comes.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let count = stream.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[count..];
    }
    Ok(())
}

/// Writes a message to a stream.
pub(crate) fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

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
        assert_eq!(ask_by_stream(address, &[0; 20]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(before.elapsed() < ANSWER_LIMIT);
    }

    #[test]
    fn a_message_that_is_none_and_a_host_without_servers_have_no_answer() {
        let servers = Servers::new("/there/is/none");
        assert_eq!(servers.answer(b"short"), None);
        assert_eq!(servers.answer_by_stream(b"short"), None);
    }

    #[test]
    fn a_stream_brings_a_message_of_any_length_in_any_pieces() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let long = [&b"\x12\x34\x80\0........"[..], &vec![7; 60_000]].concat();
        let answer = long.clone();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = read_message(&mut stream, Instant::now() + ANSWER_LIMIT).unwrap();
            write_message(&mut stream, &answer).unwrap();
            asked
        });
        let message = b"\x12\x34\x01\0........the question";
        assert!(ask_by_stream(address, message).unwrap() == long);
        assert_eq!(served.join().unwrap(), message);
    }
}
