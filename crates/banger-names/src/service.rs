//! A name server for guests.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::servers::{Servers, read_message, write_message};
use crate::zone::Zone;

/// Most questions that are under way at a time, and most of one guest's; resolvers ask those again that find no place.
const MOST_QUESTIONS: usize = 256;
const MOST_OF_ONE: usize = 32;
/// How long a connection may be without a whole question.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Most questions of one connection.
const MOST_OF_CONNECTION: usize = 100;
/// Longest question that comes as a datagram, bytes.
const LONGEST: usize = 4096;
const STACK: usize = 256 << 10;

/// Where guests ask: one address, by datagrams and by streams (RFC 1035 section 4.2).
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub datagrams: UdpSocket,
    /// For streams.
    pub streams: TcpListener,
}

impl Sockets {
    /// Binds both to one address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { datagrams: UdpSocket::bind(address)?, streams: TcpListener::bind(address)? })
    }
}

/// A name server for guests: it knows the names of one domain, and asks the host's servers for all others.
#[derive(Debug, Clone)]
pub struct Service {
    zone: Arc<Zone>,
    servers: Servers,
    places: Arc<Places>,
}

impl Service {
    /// Returns one that serves nobody yet.
    pub fn new(zone: Zone, servers: Servers) -> Self {
        Self { zone: Arc::new(zone), servers, places: Arc::default() }
    }

    /// Serves who asks there, in threads of their own, for as long as this process lives. Returns when they have begun.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn serve(&self, sockets: Sockets) -> io::Result<()> {
        let (datagrams, streams) = (Arc::new(sockets.datagrams), sockets.streams);
        let begun = Arc::new(Barrier::new(3));
        let (service, has_begun) = (self.clone(), Arc::clone(&begun));
        thread(move || {
            has_begun.wait();
            service.take_datagrams(&datagrams);
        })?;
        let (service, has_begun) = (self.clone(), Arc::clone(&begun));
        thread(move || {
            has_begun.wait();
            service.take_streams(&streams);
        })?;
        begun.wait();
        Ok(())
    }

    fn take_datagrams(&self, socket: &Arc<UdpSocket>) {
        let mut buffer = vec![0; LONGEST];
        loop {
            // What is wrong with one datagram is not so with the next.
            let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
            let Some(place) = Place::take(&self.places, client.ip()) else { continue };
            let (service, socket, message) = (self.clone(), Arc::clone(socket), buffer[..length].to_vec());
            // Without a thread it is lost, as any datagram may be.
            let _ = thread(move || {
                let _place = place;
                if let Some(answer) = service.answer(&message, Servers::answer) {
                    let _ = socket.send_to(&answer, client);
                }
            });
        }
    }

    fn take_streams(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Ok(client) = stream.peer_addr() else { continue };
            let Some(place) = Place::take(&self.places, client.ip()) else { continue };
            let service = self.clone();
            let _ = thread(move || {
                let _place = place;
                for _ in 0..MOST_OF_CONNECTION {
                    if service.answer_one(&mut stream).is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// Answers the next question of a connection.
    fn answer_one(&self, stream: &mut TcpStream) -> io::Result<()> {
        let message = read_message(stream, Instant::now() + IDLE_LIMIT)?;
        let answer = self.answer(&message, Servers::answer_by_stream);
        stream.set_write_timeout(Some(IDLE_LIMIT))?;
        write_message(stream, &answer.ok_or(io::ErrorKind::NotConnected)?)
    }

    fn answer(&self, message: &[u8], ask: fn(&Servers, &[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.zone.answer(message).or_else(|| ask(&self.servers, message))
    }
}

fn thread(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("names".to_owned()).stack_size(STACK).spawn(run).map(drop)
}

/// Questions that are under way, by who asks.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<IpAddr, usize>>);

/// One of them.
struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Place {
    /// Returns a place, if there is one for this client.
    fn take(places: &Arc<Places>, client: IpAddr) -> Option<Self> {
        let mut taken = places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= MOST_QUESTIONS || taken.get(&client) >= Some(&MOST_OF_ONE) {
            return None;
        }
        *taken.entry(client).or_default() += 1;
        drop(taken);
        Some(Self { places: Arc::clone(places), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a service for a host whose name server is not there, and where it listens.
    fn service() -> (Service, SocketAddr) {
        let zone = Zone::new("banger", |name| {
            if name == "web.banger" { vec!["10.0.0.2".parse().unwrap()] } else { Vec::new() }
        });
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("resolv.conf");
        std::fs::write(&configuration, "nameserver 127.0.0.254\n").unwrap();
        // The directory stays for as long as the service does.
        std::mem::forget(directory);
        let service = Service::new(zone, Servers::new(configuration));
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = datagrams.local_addr().unwrap();
        let streams = TcpListener::bind(address).unwrap();
        service.serve(Sockets { datagrams, streams }).unwrap();
        (service, address)
    }

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x06banger\0\0\x01\0\x01";

    #[test]
    fn it_answers_by_datagrams_and_by_streams() {
        let (_, address) = service();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.send_to(QUESTION, address).unwrap();
        let mut answer = [0; 512];
        let (length, _) = client.recv_from(&mut answer).unwrap();
        assert!(answer[..length].ends_with(&[10, 0, 0, 2]), "{:?}", &answer[..length]);
        let mut stream = TcpStream::connect(address).unwrap();
        for _ in 0..2 {
            write_message(&mut stream, QUESTION).unwrap();
            let again = read_message(&mut stream, Instant::now() + Duration::from_secs(10)).unwrap();
            assert_eq!(again, answer[..length]);
        }
    }

    #[test]
    fn one_that_asks_without_end_leaves_room_for_others() {
        let places = Arc::new(Places::default());
        let client = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut taken: Vec<Place> =
            std::iter::from_fn(|| Place::take(&places, client(2))).take(MOST_QUESTIONS).collect();
        assert_eq!(taken.len(), MOST_OF_ONE);
        taken.push(Place::take(&places, client(3)).unwrap());
        let others = (4..).map_while(|last| Place::take(&places, client(last)));
        taken.extend(others.take(MOST_QUESTIONS));
        taken.extend((4..).map_while(|last| Place::take(&places, client(last))).take(MOST_QUESTIONS));
        assert!(taken.len() <= MOST_QUESTIONS);
        drop(taken);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
