//! What listens in a real guest, told by its kernel.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use banger_types::port::VmPorts;

use crate::guest::{EchoServer, Guest};

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
    let forward: SocketAddr = port.forward.unwrap();
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
