//! Forwards of datagrams.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;

use banger_types::address::HostPort;
use banger_types::monitor::{MonitorReply, MonitorRequest};

use crate::fake_vmm::{ECHO, STALL};
use crate::support::{PATIENCE, Vm, launch};

const ANY: &str = "127.0.0.1:0/udp";

/// Returns a client of a forward.
fn client(forward: HostPort) -> UdpSocket {
    let socket = UdpSocket::bind((forward.ip(), 0)).unwrap();
    socket.connect(forward.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(client: &UdpSocket, datagram: &[u8]) {
    client.send(datagram).unwrap();
    let mut answer = vec![0; 1 << 16];
    let length = client.recv(&mut answer).unwrap();
    assert!(
        answer[..length] == *datagram,
        "{length} bytes came back, and not the {} that were sent",
        datagram.len()
    );
}

#[test]
fn datagrams_of_any_length_come_back_to_who_has_sent_them() {
    let vm = Vm::ready();
    for listen in [ANY, "[::1]:0/udp"] {
        let forward = vm.forward(listen, ECHO);
        let clients: Vec<(UdpSocket, u8)> = (1..5).map(|number| (client(forward), number)).collect();
        for length in [1, 0, 1472, 9000] {
            for (client, number) in &clients {
                client.send(&vec![*number; length]).unwrap();
            }
            for (client, number) in &clients {
                let mut answer = vec![0; 1 << 16];
                let received = client.recv(&mut answer).unwrap();
                assert!(answer[..received] == vec![*number; length], "{length} bytes of client {number}");
            }
        }
        // The longest that the loopback has: RFC 768, within IPv4. The kernel's queue has no room for more than one or two.
        for (client, number) in &clients {
            ask(client, &vec![*number; 65_507]);
        }
    }
}

#[test]
fn none_is_lost_of_those_that_a_client_can_wait_for() {
    let vm = Vm::ready();
    let client = client(vm.forward(ANY, ECHO));
    let (mut missing, mut answer) = (BTreeSet::new(), [0; 2000]);
    for number in 0..20_000_u32 {
        let mut datagram = [7; 1400];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        client.send(&datagram).unwrap();
        missing.insert(number);
        while missing.len() >= 32 || (number == 19_999 && !missing.is_empty()) {
            let received = client.recv(&mut answer);
            assert_eq!(received.unwrap_or_else(|error| panic!("{missing:?} of {number}: {error}")), 1400);
            assert!(missing.remove(&u32::from_be_bytes(answer[..4].try_into().unwrap())), "one came twice");
        }
    }
}

#[test]
fn a_guest_that_takes_none_holds_nobody_else_up() {
    let vm = Vm::ready();
    let (stalled, other) = (client(vm.forward(ANY, STALL)), client(vm.forward(ANY, ECHO)));
    // More than its window and the kernel's queue hold.
    for _ in 0..2000 {
        stalled.send(&[1; 1400]).unwrap();
        ask(&other, b"still there");
    }
}

#[test]
fn a_forward_that_is_removed_takes_no_more() {
    let vm = Vm::ready();
    let forward = vm.forward(ANY, ECHO);
    let client = client(forward);
    ask(&client, b"before");
    // TCP's ports are others.
    assert!(matches!(
        vm.ask(&MonitorRequest::ForwardRemove(HostPort::tcp(forward.address))),
        MonitorReply::Failed(_)
    ));
    ask(&client, b"still");
    assert_eq!(vm.ask(&MonitorRequest::ForwardRemove(forward)), MonitorReply::Done);
    let refused = client.send(b"after").and_then(|_| client.recv(&mut [0; 8]));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // Another one may have the port.
    assert_eq!(vm.forward(&forward.to_string(), ECHO), forward);
    ask(&client, b"again");
}

#[test]
fn a_guest_that_is_replaced_gets_what_comes_then() {
    let vm = Vm::ready();
    let client = client(vm.forward(ANY, ECHO));
    ask(&client, b"first");
    vm.command("restart 100");
    // What comes in between is lost.
    client.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while client.send(b"second").and_then(|_| client.recv(&mut [0; 8])).is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing comes back");
    }
}

#[test]
fn before_the_guest_is_there_datagrams_are_lost_and_nothing_else_is() {
    let vm = Vm::start(&launch(), "");
    let forward = vm.forward(ANY, ECHO);
    let client = client(forward);
    client.send(b"early").unwrap();
    vm.await_ready();
    client.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while client.send(b"late").and_then(|_| client.recv(&mut [0; 8])).is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing comes back");
    }
}
