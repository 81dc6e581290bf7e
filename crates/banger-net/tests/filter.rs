//! The real filter between two ends of ours, on a host of its own: in namespaces of network and mounts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use banger_net::{FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, FilterOptions, Rules, write_frame};
use banger_testkit::NetworkHost;
use command_fds::{CommandFdExt as _, FdMapping};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const NAMESERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);
/// How long a frame may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A filter, and what is at its ends.
struct Filter {
    child: Child,
    guest: UnixStream,
    world: UnixStream,
}

impl Filter {
    fn start(host: &NetworkHost) -> Self {
        let rules = Rules { guest: (GUEST, 24), guest_v6: None, nameserver: NAMESERVER, allow_host: false };
        let options = FilterOptions { rules, mtu: 1500, packets: false };
        let ((guest, guests), (world, worlds)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let mut command = host.command(env!("CARGO_BIN_EXE_banger-filter"));
        let mapping = |end: UnixStream, child_fd| FdMapping { parent_fd: OwnedFd::from(end), child_fd };
        let mappings =
            vec![mapping(guests, FILTER_GUEST_DESCRIPTOR), mapping(worlds, FILTER_WORLD_DESCRIPTOR)];
        command.args(options.to_arguments()).fd_mappings(mappings).unwrap();
        let child = command.spawn().unwrap();
        for end in [&guest, &world] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { child, guest, world }
    }

    /// Says whether a frame for this address comes out; one that always does follows it.
    fn lets_through(&self, to: Ipv4Addr) -> bool {
        let mark = datagram(Ipv4Addr::new(192, 0, 2, 1), 9, b"mark");
        write_frame(&self.guest, &datagram(to, 9, b"x")).unwrap();
        write_frame(&self.guest, &mark).unwrap();
        let first = read_frame(&self.world);
        let came_out = first != mark;
        if came_out {
            assert_eq!(read_frame(&self.world), mark);
        }
        came_out
    }

    /// Asks the name server, and returns what it answers.
    fn ask(&self, message: &[u8]) -> Vec<u8> {
        write_frame(&self.guest, &datagram(NAMESERVER, 53, message)).unwrap();
        let frame = read_frame(&self.guest);
        let Some(TransportSlice::Udp(udp)) = SlicedPacket::from_ethernet(&frame).unwrap().transport else {
            panic!()
        };
        assert_eq!((udp.source_port(), udp.destination_port()), (53, 4000));
        udp.payload().to_vec()
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn datagram(to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    ethernet.ipv4(GUEST.octets(), to.octets(), 64).udp(4000, port).write(&mut frame, payload).unwrap();
    frame
}

fn read_frame(mut from: &UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    from.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut frame).unwrap();
    frame
}

#[test]
fn addresses_are_the_hosts_from_the_moment_on_in_which_it_has_them() {
    let Some(host) = NetworkHost::new("addresses_are_the_hosts") else { return };
    host.run("ip address add 10.9.8.7/24 dev lo");
    let filter = Filter::start(&host);
    assert!(filter.lets_through(Ipv4Addr::new(10, 9, 9, 1)));
    assert!(!filter.lets_through(Ipv4Addr::LOCALHOST));
    assert!(!filter.lets_through(Ipv4Addr::new(10, 9, 8, 7)));
    assert!(!filter.lets_through(Ipv4Addr::new(10, 9, 8, 255)), "a network's broadcast address");
    let another = Ipv4Addr::new(10, 9, 9, 1);
    host.run("ip address add 10.9.9.1/32 dev lo");
    // The kernel tells the filter.
    let deadline = Instant::now() + PATIENCE;
    while filter.lets_through(another) {
        assert!(Instant::now() < deadline, "an address that the host was given is still reached");
    }
    host.run("ip address del 10.9.9.1/32 dev lo");
    while !filter.lets_through(another) {
        assert!(Instant::now() < deadline, "an address that the host has no more is not reached");
    }
}

#[test]
fn names_are_asked_of_whom_the_host_asks_now() {
    let Some(host) = NetworkHost::new("names_are_asked_of_whom_the_host_asks_now") else { return };
    // The server answers each message with itself, so that it has to be an answer.
    let message = |number: u8| [&[number, 7, 0x80, 0][..], &[0; 8], b"example"].concat();
    let filter = Filter::start(&host);
    host.names_are_asked_of("127.0.0.53");
    let first = host.serve("127.0.0.53:53/udp");
    assert_eq!(filter.ask(&message(1)), message(1));
    // Another network.
    drop(first);
    host.names_are_asked_of("127.0.0.54");
    let _second = host.serve("127.0.0.54:53/udp");
    assert_eq!(filter.ask(&message(2)), message(2));
    // What goes elsewhere goes there.
    assert!(filter.lets_through(Ipv4Addr::new(192, 0, 2, 53)));
}
