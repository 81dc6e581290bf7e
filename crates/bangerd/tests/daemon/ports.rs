//! What listens in a VM: seen, forwarded by itself, waited for. The guests are fakes, and say what they are told to say.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use banger_types::ErrorKind;
use banger_types::address::HostPort;
use banger_types::monitor::Forward;
use banger_types::port::Scheme;
use banger_types::vm::{Vm, VmSetRequest, VmState, VmStopRequest};

use crate::support::{Daemon, assert_says};

/// Returns a port of the guest that is free on the host now, of the range that no kernel gives to who asks for any (ip(7),
/// `ip_local_port_range`), and above those that the fault tests ask for. Each test has numbers of its own.
fn free_port(number: u16) -> u16 {
    let first = 30_200 + u16::try_from(std::process::id() % 25).unwrap() * 100 + number * 10;
    (first..first + 10).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn to(port: u16, guest_port: u16) -> Forward {
    Forward { listen: HostPort::tcp(local(port)), guest_port }
}

/// Returns what leads to a port of the guest by itself.
fn leads(vm: &Vm, guest_port: u16) -> Option<SocketAddr> {
    let mut automatic = vm.automatic_forwards.iter();
    automatic.find(|forward| forward.guest_port == guest_port).map(|forward| forward.listen.address)
}

fn is_an_echo(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"there and back").unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"there and back");
}

#[test]
fn what_listens_has_a_port_of_the_host_for_as_long_as_it_listens() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| {});
    let port = free_port(0);
    daemon.guest("vm", &format!("listen {port} postgres"));
    let vm = daemon.wait("vm", |vm| leads(vm, port).is_some());
    assert_eq!(leads(&vm, port), Some(local(port)));
    is_an_echo(local(port));

    // A port that somebody has is not taken from them, nor one of the host's own.
    let taken = free_port(1);
    let _taker = TcpListener::bind(local(taken)).unwrap();
    daemon.guest("vm", &format!("listen {taken} taken"));
    daemon.guest("vm", "listen 80 nginx");
    let vm = daemon.wait("vm", |vm| leads(vm, taken).and(leads(vm, 80)).is_some());
    assert!(leads(&vm, taken).unwrap().port() > taken);
    assert!(leads(&vm, 80).unwrap().port() >= 8080);

    let ports = daemon.call(daemon.client.vm_ports("vm")).unwrap();
    let of = |port: u16| ports.ports.iter().find(|it| it.socket.port == port).unwrap();
    assert!(ports.told && !ports.more && of(port).automatic);
    assert_eq!(of(port).socket.process.as_deref(), Some("postgres"));
    assert_eq!(of(port).url, Some(format!("tcp://127.0.0.1:{port}")));
    assert_eq!(of(80).speaks, Some(Scheme::Http));
    assert_eq!(of(80).url, Some(format!("http://{}/", leads(&vm, 80).unwrap())));
    let shown = daemon.environment.succeed(&["vm", "ports", "vm"]);
    assert!(shown.contains(&of(80).url.clone().unwrap()) && shown.contains("postgres (7)"), "{shown}");

    daemon.guest("vm", &format!("close {port}"));
    daemon.wait("vm", |vm| leads(vm, port).is_none());
    assert!(TcpStream::connect(local(port)).is_err());
    daemon.succeed(daemon.client.stop_vm("vm", &VmStopRequest::default()));
    assert!(daemon.vm("vm").automatic_forwards.is_empty() && daemon.vm("vm").sockets.is_empty());
    assert_says(&daemon.refused(daemon.client.vm_ports("vm")), ErrorKind::Conflict, "it is stopped");
}

#[test]
fn what_was_asked_for_comes_before_what_came_by_itself() {
    let daemon = Daemon::new();
    let port = free_port(2);
    daemon.create("first", |_| {});
    daemon.guest("first", &format!("listen {port} web"));
    daemon.wait("first", |vm| leads(vm, port) == Some(local(port)));
    // Another VM's.
    let asked_for = to(port, 7);
    daemon.create("second", |request| request.forwards = vec![asked_for.clone()]);
    assert_eq!(daemon.vm("second").forwards, [asked_for]);
    let vm = daemon.wait("first", |vm| leads(vm, port).is_some_and(|listen| listen != local(port)));
    is_an_echo(leads(&vm, port).unwrap());
    // Its own: it is reached by that, and needs no other.
    let own = to(0, port);
    let own = daemon.call(daemon.client.add_forward("first", &own)).unwrap();
    daemon.wait("first", |vm| leads(vm, port).is_none());
    let ports = daemon.call(daemon.client.vm_ports("first")).unwrap();
    assert_eq!((ports.ports[0].forward, ports.ports[0].automatic), (Some(own.listen), false));
    daemon.call(daemon.client.remove_forward("first", own.listen)).unwrap();
    daemon.wait("first", |vm| leads(vm, port).is_some());

    // A port that is asked for no more is like any other.
    let another = free_port(7);
    let asked_for = to(another, 7);
    daemon.call(daemon.client.add_forward("first", &asked_for)).unwrap();
    daemon.call(daemon.client.remove_forward("first", asked_for.listen)).unwrap();
    daemon.guest("first", &format!("listen {another} again"));
    let vm = daemon.wait("first", |vm| leads(vm, another).is_some());
    assert_eq!(leads(&vm, another), Some(local(another)));

    // The next daemon finds it as it was, and no change for any client.
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    assert_eq!(
        daemon.wait("first", |vm| leads(vm, another).is_some()).automatic_forwards,
        vm.automatic_forwards
    );
}

#[test]
fn nothing_is_forwarded_where_that_is_not_wanted() {
    let daemon = Daemon::new();
    let port = free_port(3);
    daemon.create("vm", |request| request.automatic_forwards = Some(false));
    daemon.guest("vm", &format!("listen {port} web"));
    let vm = daemon.wait("vm", |vm| !vm.sockets.is_empty());
    assert_eq!(vm.automatic_forwards, []);
    let ports = daemon.call(daemon.client.vm_ports("vm")).unwrap();
    assert_eq!((ports.ports[0].forward, &ports.ports[0].url), (None, &None));
    for wanted in [true, false] {
        let set = VmSetRequest { automatic_forwards: Some(wanted), ..VmSetRequest::default() };
        daemon.call(daemon.client.set_vm("vm", &set)).unwrap();
        daemon.wait("vm", |vm| leads(vm, port).is_some() == wanted);
    }
}

#[test]
fn a_port_is_waited_for_whether_the_kernel_tells_of_it_or_not() {
    let daemon = Daemon::new();
    let port = free_port(4);
    daemon.create("vm", |_| {});
    daemon.environment.succeed(&["vm", "wait", "vm", "--for", "ssh"]);
    for hush in [false, true] {
        if hush {
            daemon.guest("vm", &format!("close {port}"));
            daemon.wait("vm", |vm| vm.sockets.is_empty());
            daemon.guest("vm", "hush");
        }
        let mut waiting = daemon.environment.banger(&["vm", "wait", "vm", "--for", &format!("port:{port}")]);
        let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
        daemon.guest("vm", &format!("listen {port} web"));
        let ended = waiting.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(ended.stdout).unwrap(), "vm\n", "hush: {hush}");
        is_an_echo(leads(&daemon.vm("vm"), port).unwrap());
    }
    let late = format!("port:{}", port + 1);
    let ended = daemon.environment.run(&["vm", "wait", "vm", "--for", &late, "--timeout", "1"]);
    assert!(ended.stderr.contains(&format!("did not listen on port {}", port + 1)), "{}", ended.stderr);
}

/// A guest may say what it likes, as often as it likes.
#[test]
fn a_port_that_flaps_costs_little_and_names_are_only_names() {
    let daemon = Daemon::new();
    let (flapping, last) = (free_port(5), free_port(6));
    daemon.create("hostile", |_| {});
    daemon.create("other", |_| {});
    let generation = daemon.vm("hostile").generation;
    let changes = daemon.call(async {
        let mut changes = daemon.client.watch_vm("hostile").await.unwrap();
        let first = changes.next().await.unwrap().unwrap();
        assert_eq!(first.state, VmState::Running);
        daemon.guest("hostile", &format!("flap {flapping} 1000"));
        daemon.guest(
            "hostile",
            &format!("listen {last} \u{1b}[2J<script>alert(1)</script>{}", "x".repeat(5000)),
        );
        let mut count = 0;
        loop {
            let vm = changes.next().await.unwrap().unwrap();
            count += 1;
            if leads(&vm, last).is_some() && leads(&vm, flapping).is_none() {
                return count;
            }
        }
    });
    assert!(changes < 30, "{changes} changes");
    // Ports are no changes of what is wanted: whoever changes the VM has missed nothing.
    assert_eq!(daemon.vm("hostile").generation, generation);
    let shown = daemon.environment.succeed(&["vm", "ports", "hostile"]);
    assert!(shown.contains("<script>") && !shown.contains('\u{1b}') && shown.len() < 1000, "{shown:?}");
    assert_eq!(daemon.call(daemon.client.vm_ports("other")).unwrap().ports, []);
    daemon.succeed(daemon.client.stop_vm("other", &VmStopRequest::default()));
}
