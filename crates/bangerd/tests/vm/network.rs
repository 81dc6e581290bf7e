//! What a guest reaches and what it does not.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use banger_testkit::{Environment, programs};

use crate::guest::{BUSYBOX, EchoServer, create_with_network, small, start};

/// How many of these this process has made.
static OUTSIDES: AtomicU32 = AtomicU32::new(0);

/// A server in a network namespace beyond the host, at the other end of a cable.
///
/// The namespace has no name: it is there as long as a program is in it, and its cable goes with it. So a
/// test that is killed leaves neither behind, and the next one's way out is its own.
pub(crate) struct Outside {
    holder: Child,
    /// Where the server is, with its port.
    pub(crate) address: String,
    /// Where it is by IPv6.
    address_v6: String,
    /// The host's own address on the cable.
    host: Ipv4Addr,
    servers: Vec<EchoServer>,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Outside {
    pub(crate) fn new() -> Self {
        let (own, number) = (std::process::id(), OUTSIDES.fetch_add(1, Ordering::Relaxed));
        let cable = format!("bt{own}-{number}");
        // A network of its own of those for documentation, and so nobody's (RFC 5737).
        let network = u8::try_from((own + number * 32) % 64 * 4).unwrap();
        let host = Ipv4Addr::new(203, 0, 113, network + 1);
        let (host_side, address) = (format!("{host}/30"), format!("203.0.113.{}", network + 2));
        // Likewise (RFC 3849). Nobody has to look whether somebody has the address.
        let v6 = |end: u8| format!("2001:db8:0:{network:x}::{end}");
        let v6_on = |end: u8, interface: &str| {
            format!("-6 address add {}/64 dev {interface} nodad", v6(end))
                .split(' ')
                .map(str::to_owned)
                .collect()
        };
        // It ends with its standard input, and that with this process.
        let mut hold = Command::new("unshare");
        hold.args(["--net", "--", "sh", "-c", "echo there; exec cat"]).stdin(Stdio::piped());
        let (holder, _output) = start(&mut hold, "there");
        let namespace = holder.id().to_string();
        let inside = ["-t", &namespace, "-n", "--"];
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "outside", "netns", &namespace]);
        run("ip", &["address", "add", &host_side, "dev", &cable]);
        run("ip", &["link", "set", &cable, "up"]);
        let own_v6: Vec<String> = v6_on(1, &cable);
        run("ip", &own_v6.iter().map(String::as_str).collect::<Vec<_>>());
        let with_prefix = format!("{address}/30");
        run("nsenter", &[&inside[..], &["ip", "address", "add", &with_prefix, "dev", "outside"]].concat());
        run("nsenter", &[&inside[..], &["ip", "link", "set", "outside", "up"]].concat());
        let its_v6: Vec<String> = v6_on(2, "outside");
        let its_v6: Vec<&str> = its_v6.iter().map(String::as_str).collect();
        run("nsenter", &[&inside[..], &["ip"], &its_v6].concat());
        let (address, address_v6) = (format!("{address}:8000"), format!("[{}]:8000", v6(2)));
        let serve = |address: &str| {
            let mut serve = Command::new("nsenter");
            serve.args(inside).arg(programs().join("banger-test-probe")).args(["serve", address]);
            EchoServer::start(&mut serve)
        };
        let servers = [&address, &address_v6].map(|address| serve(address)).into();
        Self { holder, address, address_v6, host, servers }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.servers.clear();
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// Asks the echo server at `address` from inside; says whether it answered.
pub(crate) fn reaches(environment: &Environment, vm: &str, address: &str) -> bool {
    let arguments = ["exec", "-u", "root", vm, "--", "/bin/probe", "ask", address];
    let outcome = environment.run_with_input(&arguments, b"");
    assert!([0, 1].contains(&outcome.code), "{}", outcome.stderr);
    outcome.code == 0
}

/// Returns a server that must not be connected to, or at least does not wait for that.
fn listen(address: Ipv4Addr) -> TcpListener {
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn reaches_the_world_and_not_the_host(environment: &Environment, vm: &str, outside: &Outside) {
    assert!(reaches(environment, vm, &outside.address), "the world");
    if has_v6() {
        assert!(reaches(environment, vm, &outside.address_v6), "the world by IPv6");
    } else {
        banger_testkit::not_run("a_guest_reaches_the_world", "by IPv6: this host has no way out by that");
    }
    for (host, ways) in [
        (outside.host, &[outside.host.to_string()][..]),
        // Addresses that a network stack may take for the host's loopback.
        (Ipv4Addr::LOCALHOST, &["198.18.0.1", "198.18.0.9", "198.18.0.53"].map(str::to_owned)),
    ] {
        let listener = listen(host);
        let port = listener.local_addr().unwrap().port();
        for way in ways {
            assert!(!reaches(environment, vm, &format!("{way}:{port}")), "the host, by {way}");
        }
        assert!(listener.accept().is_err(), "somebody came to {host}");
    }
}

#[test]
fn without_passt_the_vmms_own_network_goes_through_the_same_filter() {
    if !rustix::process::geteuid().is_root() {
        banger_testkit::not_run("without_passt", "only root can make a network namespace");
        return;
    }
    let (environment, outside) = (Environment::new(), Outside::new());
    // The daemon, which this starts, sees something else in the place of passt.
    let hidden = "for place in /usr/bin /bin /usr/local/bin; do test ! -e $place/passt || mount --bind /dev/null $place/passt; done; \
                  exec \"$@\"";
    let mut create = environment.command("unshare");
    create.args(["--mount", "sh", "-c", hidden, "sh"]).arg(programs().join("banger"));
    create.args(["vm", "create", "vm", "--engine", "qemu"]).args(&small(&BUSYBOX)[..6]);
    let outcome = environment.outcome(&mut create);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("passt is not installed"), "{}", outcome.stderr);
    reaches_the_world_and_not_the_host(&environment, "vm", &outside);
}

/// Whether this host has a way out by IPv6, without which its guests have none.
fn has_v6() -> bool {
    let route = Command::new("ip").args(["-6", "route", "show", "default"]).output().unwrap();
    !route.stdout.is_empty()
}

#[test]
fn a_guest_reaches_the_world_but_neither_the_hosts_loopback_nor_another_guest() {
    if !rustix::process::geteuid().is_root() {
        banger_testkit::not_run("a_guest_reaches_the_world", "only root can make a network namespace");
        return;
    }
    let environment = Environment::new();
    let outside = Outside::new();
    create_with_network(&environment, "left", &[]);
    create_with_network(&environment, "right", &["--allow-host"]);
    reaches_the_world_and_not_the_host(&environment, "left", &outside);
    // The host by an address of its own, if that is wanted.
    let listener = listen(outside.host);
    reaches(&environment, "right", &listener.local_addr().unwrap().to_string());
    assert!(listener.accept().is_ok(), "the host lets itself be reached, and is not");
    drop((listener, outside));

    let listener = listen(Ipv4Addr::LOCALHOST);
    let port = listener.local_addr().unwrap().port();
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
