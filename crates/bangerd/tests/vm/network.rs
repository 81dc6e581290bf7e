//! What a guest reaches and what it does not.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use banger_testkit::{Environment, programs};

use crate::guest::{EchoServer, create_with_network};

/// Addresses of the test's own network: documentation's, and so nobody's (RFC 5737).
const OUTSIDE: &str = "203.0.113.2";
const HOST_SIDE: &str = "203.0.113.1/30";
const OUTSIDE_WITH_PREFIX: &str = "203.0.113.2/30";

/// A server in a network namespace beyond the host, at the other end of a cable.
struct Outside {
    namespace: String,
    cable: String,
    server: Option<EchoServer>,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Outside {
    fn new() -> Self {
        let own = std::process::id();
        let mut outside =
            Self { namespace: format!("banger-{own}"), cable: format!("bt{own}"), server: None };
        let (namespace, cable) = (outside.namespace.clone(), outside.cable.clone());
        ip(&["netns", "add", &namespace]);
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "outside", "netns", &namespace]);
        ip(&["address", "add", HOST_SIDE, "dev", &cable]);
        ip(&["link", "set", &cable, "up"]);
        ip(&["-n", &namespace, "address", "add", OUTSIDE_WITH_PREFIX, "dev", "outside"]);
        ip(&["-n", &namespace, "link", "set", "outside", "up"]);
        let probe = programs().join("banger-test-probe");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace]).arg(probe).args(["serve", &format!("{OUTSIDE}:8000")]);
        outside.server = Some(EchoServer::start(&mut command));
        outside
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.server.take());
        Command::new("ip").args(["link", "delete", &self.cable]).status().ok();
        Command::new("ip").args(["netns", "delete", &self.namespace]).status().ok();
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
    assert!(reaches(&environment, "left", &format!("{OUTSIDE}:8000")), "the world");
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
