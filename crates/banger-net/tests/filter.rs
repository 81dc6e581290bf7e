//! The real filter between two ends of ours, on a host of its own: in namespaces of network and mounts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use banger_net::{FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, FilterOptions, Rules, write_frame};
use banger_testkit::programs;
use command_fds::{CommandFdExt as _, FdMapping};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const NAMESERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);
/// How long a frame may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host, as far as network and `/etc/resolv.conf` go. Nothing of it outlives the test.
struct Host {
    holder: Child,
    resolver: tempfile::NamedTempFile,
}

impl Host {
    /// Returns one, or says that the test is not run.
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            banger_testkit::not_run(test, "only root can make a host of its own");
            return None;
        }
        let resolver = tempfile::NamedTempFile::new().unwrap();
        // It ends with its standard input, and that with this process.
        let script = "mount --bind \"$0\" /etc/resolv.conf && ip link set lo up && echo there && exec cat";
        let mut hold = Command::new("unshare");
        hold.args(["--net", "--mount", "sh", "-c", script]).arg(resolver.path());
        let holder = started(&mut hold, "there");
        Some(Self { holder, resolver })
    }

    /// Returns a program in it.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "-m", "--"]).arg(program);
        command
    }

    fn run(&self, words: &str) {
        let mut words = words.split(' ');
        let status = self.command(words.next().unwrap()).args(words).status().unwrap();
        assert!(status.success());
    }

    /// Names its name servers, in the place, as whoever the file belongs to may.
    fn names_are_asked_of(&self, server: &str) {
        std::fs::write(self.resolver.path(), format!("nameserver {server}\n")).unwrap();
    }

    /// Returns a name server that answers each message with itself.
    fn serve_names(&self, address: &str) -> Server {
        let mut serve = self.command(programs().join("banger-test-probe"));
        Server(started(serve.args(["serve", &format!("{address}:53/udp")]), "serving"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// A server, which ends with its standard input.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// Starts a program and waits for its first line.
fn started(command: &mut Command, line: &str) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said.trim_end(), line, "{command:?}");
    child
}

/// A filter, and what is at its ends.
struct Filter {
    child: Child,
    guest: UnixStream,
    world: UnixStream,
}

impl Filter {
    fn start(host: &Host) -> Self {
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
    let Some(host) = Host::new("addresses_are_the_hosts") else { return };
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
    let Some(host) = Host::new("names_are_asked_of_whom_the_host_asks_now") else { return };
    // The server answers each message with itself, so that it has to be an answer.
    let message = |number: u8| [&[number, 7, 0x80, 0][..], &[0; 8], b"example"].concat();
    let filter = Filter::start(&host);
    host.names_are_asked_of("127.0.0.53");
    let first = host.serve_names("127.0.0.53");
    assert_eq!(filter.ask(&message(1)), message(1));
    // Another network.
    drop(first);
    host.names_are_asked_of("127.0.0.54");
    let _second = host.serve_names("127.0.0.54");
    assert_eq!(filter.ask(&message(2)), message(2));
    // What goes elsewhere goes there.
    assert!(filter.lets_through(Ipv4Addr::new(192, 0, 2, 53)));
}
