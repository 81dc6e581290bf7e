//! Forwards of a VM that exists: of connections and datagrams, by both families.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use banger_types::ErrorKind;
use banger_types::address::HostPort;
use banger_types::guest::Transport;
use banger_types::monitor::Forward;
use banger_types::vm::VmStopRequest;

use crate::support::{Daemon, assert_says};

fn echoes(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 3];
    stream.write_all(b"hey").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hey"
}

#[test]
fn forwards_come_and_go_while_it_runs_and_stay_for_the_next_start() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| ());
    let any = Forward { listen: "127.0.0.1:0".parse().unwrap(), guest_port: 7 };
    let forward = daemon.call(daemon.client.add_forward("vm", &any)).unwrap();
    assert!(echoes(forward.listen.address));
    assert_eq!(daemon.call(daemon.client.forwards("vm")).unwrap(), std::slice::from_ref(&forward));
    let error = daemon.refused(daemon.client.add_forward("vm", &forward));
    assert_says(&error, ErrorKind::Conflict, "already");

    // A port that somebody else has.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = Forward { listen: HostPort::tcp(taken.local_addr().unwrap()), guest_port: 7 };
    let error = daemon.refused(daemon.client.add_forward("vm", &wanted));
    assert_says(&error, ErrorKind::Conflict, "address in use");
    let owner = format!("(process {})", std::process::id());
    assert_says(&error, ErrorKind::Conflict, &owner);
    drop(taken);

    // An open connection outlives its forward; a new one is not to be had.
    let mut open = TcpStream::connect(forward.listen.address).unwrap();
    daemon.call(daemon.client.remove_forward("vm", forward.listen)).unwrap();
    open.write_all(b"x").unwrap();
    open.read_exact(&mut [0]).unwrap();
    assert!(TcpStream::connect(forward.listen.address).is_err());
    let error = daemon.refused(daemon.client.remove_forward("vm", forward.listen));
    assert_says(&error, ErrorKind::NotFound, "no forward on");

    // What is added to a stopped VM is there when it starts, on the very port.
    let kept = daemon.call(daemon.client.add_forward("vm", &forward)).unwrap();
    daemon.succeed(daemon.client.stop_vm("vm", &VmStopRequest::default()));
    assert!(!echoes(kept.listen.address));
    daemon.succeed(daemon.client.start_vm("vm"));
    assert!(echoes(kept.listen.address));
    daemon.environment.crash_daemon();
    assert!(echoes(kept.listen.address), "forwards need no daemon");
}

/// Says whether a datagram comes back.
fn echoes_datagrams(forward: HostPort) -> bool {
    let socket = UdpSocket::bind((forward.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 8];
    socket.connect(forward.address).unwrap();
    let sent = socket.send(b"hey");
    sent.and_then(|_| socket.recv(&mut answer)).is_ok_and(|length| answer[..length] == *b"hey")
}

#[test]
fn datagrams_are_forwarded_beside_connections_and_by_both_families() {
    let daemon = Daemon::new();
    daemon.create("vm", |request| {
        let forward = |listen: &str| Forward { listen: listen.parse().unwrap(), guest_port: 7 };
        request.forwards = ["127.0.0.1:0/udp", "[::1]:0/udp", "[::1]:0"].map(forward).to_vec();
    });
    let forwards = daemon.call(daemon.client.forwards("vm")).unwrap();
    let [v4, v6, connections] = forwards.as_slice() else { panic!("{forwards:?}") };
    assert!(echoes_datagrams(v4.listen) && echoes_datagrams(v6.listen) && echoes(connections.listen.address));
    // A port of TCP is another than one of UDP, whatever its number.
    let beside = Forward { listen: HostPort::tcp(v4.listen.address), guest_port: 7 };
    daemon.call(daemon.client.add_forward("vm", &beside)).unwrap();
    assert!(echoes(beside.listen.address) && echoes_datagrams(v4.listen));
    let shown = daemon.environment.succeed(&["vm", "forward", "ls", "vm"]);
    assert!(shown.contains(&format!("{}/udp ", v4.listen.address)), "{shown}");
    daemon.call(daemon.client.remove_forward("vm", v4.listen)).unwrap();
    assert!(!echoes_datagrams(v4.listen) && echoes(beside.listen.address));
    assert_says(&daemon.refused(daemon.client.remove_forward("vm", v4.listen)), ErrorKind::NotFound, "/udp");

    daemon.environment.crash_daemon();
    assert!(echoes_datagrams(v6.listen), "forwards need no daemon");
    daemon.environment.succeed(&["daemon", "start"]);
    daemon.succeed(daemon.client.restart_vm("vm", &VmStopRequest::default()));
    let forwards = daemon.call(daemon.client.forwards("vm")).unwrap();
    let datagrams: Vec<&Forward> =
        forwards.iter().filter(|it| it.listen.protocol == Transport::Udp).collect();
    assert_eq!((datagrams.len(), forwards.len()), (1, 3), "{forwards:?}");
    assert!(echoes_datagrams(datagrams[0].listen));
}
