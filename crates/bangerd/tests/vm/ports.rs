//! What listens in a real guest, told by its kernel.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use banger_types::address::HostPort;
use banger_types::monitor::Forward;
use banger_types::port::VmPorts;

use crate::guest::{BUSYBOX, EchoServer, Guest};

/// The port in the guest.
const PORT: u16 = 6123;

pub(crate) fn what_listens_is_seen_and_reached(guest: &Guest) {
    is_seen_and_reached(guest, "0.0.0.0");
    // What listens on the card alone is reached by that.
    let card = guest.answer(&[], &["address"]);
    if !card.trim().is_empty() {
        is_seen_and_reached(guest, card.trim());
    }
}

fn is_seen_and_reached(guest: &Guest, address: &str) {
    let (name, environment) = (guest.image.name, &guest.environment);
    let serve = [guest.image.probe, "serve", &format!("{address}:{PORT}")];
    let server = EchoServer::start(&mut guest.client(&["-i"], &serve));
    environment.succeed(&["vm", "wait", name, "--for", &format!("port:{PORT}"), "--timeout", "60"]);
    let ports = environment.run(&["vm", "ports", name, "--json"]);
    let ports: VmPorts = serde_json::from_slice(&ports.stdout).unwrap();
    assert!(ports.told, "{ports:?}");
    let port = ports.ports.iter().find(|port| port.socket.port == PORT).unwrap();
    assert!(port.socket.process.as_ref().is_some_and(|name| guest.image.probe.contains(name)), "{port:?}");
    assert!(port.automatic && port.socket.pid.is_some(), "{port:?}");
    let forward: SocketAddr = port.forward.unwrap().address;
    assert!(forward.ip().is_loopback());
    let mut stream = TcpStream::connect(forward).unwrap();
    stream.write_all(b"through").unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"through");
    drop(stream);

    drop(server);
    let deadline = Instant::now() + Duration::from_mins(1);
    while TcpStream::connect(forward).is_ok() {
        assert!(Instant::now() < deadline, "the forward is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let shown = environment.run(&["vm", "ports", name, "--json"]);
    let shown: VmPorts = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(shown.ports.iter().all(|port| port.socket.port != PORT), "{shown:?}");
}

/// Bytes that go through a forward, and back again.
const SOME: usize = 4 << 20;
/// As many as nobody's luck is enough for.
const MANY: usize = 1 << 30;

/// Leads a port of the host, as `listen` says, to what listens at `address` in the guest.
fn forwarded(guest: &Guest, listen: &str, address: &str, through: impl FnOnce(HostPort)) {
    let (name, environment) = (guest.image.name, &guest.environment);
    let protocol = if address.ends_with("/udp") { "/udp" } else { "" };
    let server = EchoServer::start(&mut guest.client(&["-i"], &[guest.image.probe, "serve", address]));
    let added =
        environment.run(&["vm", "forward", "add", name, &format!("{listen}:0:{PORT}{protocol}"), "--json"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let forward: Forward = serde_json::from_slice(&added.stdout).unwrap();
    through(forward.listen);
    let ports = environment.run(&["vm", "ports", name, "--json"]);
    let ports: VmPorts = serde_json::from_slice(&ports.stdout).unwrap();
    let port = ports.ports.iter().find(|port| port.socket.port == PORT).unwrap();
    assert_eq!((port.forward, port.automatic), (Some(forward.listen), false), "{port:?}");
    let scheme = forward.listen.protocol;
    assert_eq!(port.url, Some(format!("{scheme}://{}", forward.listen.address)));
    let argument = format!("{}:{PORT}{protocol}", forward.listen.address);
    environment.succeed(&["vm", "forward", "rm", name, &argument]);
    drop(server);
}

/// By both protocols, from both families of addresses of the host and to both of the guest, nothing is lost.
pub(crate) fn forwards_lose_nothing(guest: &Guest) {
    let bytes = if banger_testkit::is_full_run() && guest.image.name == BUSYBOX.name { MANY } else { SOME };
    let straight = [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]")].map(|way| (way, bytes));
    let across = [("127.0.0.1", "[::]"), ("[::1]", "0.0.0.0")].map(|way| (way, SOME));
    for ((listen, address), bytes) in straight.into_iter().chain(across) {
        let address = format!("{address}:{PORT}");
        forwarded(guest, listen, &address, |forward| pour(forward.address, bytes));
        forwarded(guest, listen, &format!("{address}/udp"), |forward| pour_datagrams(forward.address, bytes));
    }
}

/// Sends bytes to an echo server, and sees them come back.
fn pour(forward: SocketAddr, bytes: usize) {
    let mut stream = TcpStream::connect(forward).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let piece: Vec<u8> =
        (0..1_u32 << 16).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let pieces = bytes / piece.len();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..pieces).for_each(|_| writer.write_all(&piece).unwrap()));
        let mut back = vec![0; piece.len()];
        for number in 0..pieces {
            stream.read_exact(&mut back).unwrap();
            assert!(back == piece, "piece {number} of {pieces} is another");
        }
    });
}

/// Sends datagrams to an echo server, as many at a time as nobody has to lose, and sees them come back.
fn pour_datagrams(forward: SocketAddr, bytes: usize) {
    const LENGTH: usize = 1400;
    const AT_ONCE: usize = 32;
    let socket = UdpSocket::bind((forward.ip(), 0)).unwrap();
    socket.connect(forward).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let (count, mut missing) = (bytes / LENGTH, std::collections::BTreeSet::new());
    let mut datagram = [7; LENGTH];
    for number in 0..count {
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        socket.send(&datagram).unwrap();
        missing.insert(number);
        while missing.len() >= AT_ONCE || (number + 1 == count && !missing.is_empty()) {
            let length =
                socket.recv(&mut datagram).unwrap_or_else(|error| panic!("{missing:?} of {count}: {error}"));
            let number = usize::from_be_bytes(datagram[..8].try_into().unwrap());
            assert!(length == LENGTH && missing.remove(&number), "{number} of {count} came twice");
        }
    }
}
