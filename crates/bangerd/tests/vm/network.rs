//! What a guest reaches and what it does not.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use banger_testkit::{Environment, programs};

use crate::guest::{EchoServer, create_with_network, start};

/// A server in a network namespace beyond the host, at the other end of a cable.
///
/// The namespace has no name: it is there as long as a program is in it, and its cable goes with it. So a
/// test that is killed leaves neither behind, and the next one's way out is its own.
pub(crate) struct Outside {
    holder: Child,
    /// Where the server is, with its port.
    pub(crate) address: String,
    server: Option<EchoServer>,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Outside {
    pub(crate) fn new() -> Self {
        let own = std::process::id();
        let cable = format!("bt{own}");
        // A network of its own of those for documentation, and so nobody's (RFC 5737).
        let network = own % 64 * 4;
        let (host_side, address) =
            (format!("203.0.113.{}/30", network + 1), format!("203.0.113.{}", network + 2));
        // It ends with its standard input, and that with this process.
        let mut hold = Command::new("unshare");
        hold.args(["--net", "--", "sh", "-c", "echo there; exec cat"]).stdin(Stdio::piped());
        let (holder, _output) = start(&mut hold, "there");
        let namespace = holder.id().to_string();
        let inside = ["-t", &namespace, "-n", "--"];
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "outside", "netns", &namespace]);
        run("ip", &["address", "add", &host_side, "dev", &cable]);
        run("ip", &["link", "set", &cable, "up"]);
        let with_prefix = format!("{address}/30");
        run("nsenter", &[&inside[..], &["ip", "address", "add", &with_prefix, "dev", "outside"]].concat());
        run("nsenter", &[&inside[..], &["ip", "link", "set", "outside", "up"]].concat());
        let address = format!("{address}:8000");
        let mut serve = Command::new("nsenter");
        serve.args(inside).arg(programs().join("banger-test-probe")).args(["serve", &address]);
        Self { server: Some(EchoServer::start(&mut serve)), holder, address }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.server.take());
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// Asks the echo server at `address` from inside; says whether it answered.
fn reaches(environment: &Environment, vm: &str, address: &str) -> bool {
    let arguments = ["exec", "-u", "root", vm, "--", "/bin/probe", "ask", address];
    let outcome = environment.run_with_input(&arguments, b"");
    assert!([0, 1].contains(&outcome.code), "{}", outcome.stderr);
    outcome.code == 0
}

#[test]
fn a_guest_reaches_the_world_but_neither_the_hosts_loopback_nor_another_guest() {
    if !rustix::process::geteuid().is_root() {
        banger_testkit::not_run("a_guest_reaches_the_world", "only root can make a network namespace");
        return;
    }
    let environment = Environment::new();
    let outside = Outside::new();
    for name in ["left", "right"] {
        create_with_network(&environment, name, &[]);
    }
    assert!(reaches(&environment, "left", &outside.address), "the world");
    drop(outside);

    // A server on the host's loopback, which must never be connected to.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    assert!(!reaches(&environment, "left", &format!("198.18.0.1:{port}")), "through the gateway");
    // A hostile root of the guest sends packets for 127.0.0.1 out of its network card.
    let hostile = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; \
                   echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; \
                   ip route del local 127.0.0.0/8 dev lo table local; \
                   ip route del local 127.0.0.1 dev lo table local; \
                   ip route add 127.0.0.1 via 198.18.0.1 dev eth0 src 198.18.0.2 && ip route get 127.0.0.1";
    let route = environment.succeed(&["exec", "-u", "root", "left", "--", "sh", "-c", hostile]);
    assert!(route.contains("via 198.18.0.1"), "{route}");
    assert!(!reaches(&environment, "left", &format!("127.0.0.1:{port}")), "with packets of its own making");
    assert!(listener.accept().is_err(), "nobody came to the host's loopback");

    // Every guest has the same address: what it finds there is itself.
    let _server = EchoServer::inside(&environment, "right", "0.0.0.0:8000");
    for address in ["198.18.0.2:8000", "198.18.0.1:8000", "198.18.0.3:8000"] {
        assert!(!reaches(&environment, "left", address), "{address}");
    }
    assert!(reaches(&environment, "right", "198.18.0.2:8000"), "the server is there, for its own guest");
}
