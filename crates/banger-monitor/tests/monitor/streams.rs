//! Streams to the guest, and forwards.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

use banger_channel::WINDOW;
use banger_types::address::HostPort;
use banger_types::guest::{GuestReply, GuestRequest};
use banger_types::monitor::{Forward, MonitorPhase, MonitorReply, MonitorRequest};

use crate::fake_vmm::{COUNT, ECHO, STALL};
use crate::support::{KNOCK, PATIENCE, Vm, dialed, launch, process_status};

const BULK: usize = 10 << 20;

/// Bytes that repeat late and show any displacement.
fn bulk(seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..BULK)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// Sends everything, half-closes, and returns what comes back.
fn echo(vm: &Vm, seed: u32) {
    let mut stream = vm.stream(ECHO);
    let mut writer = stream.reader.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let bytes = bulk(seed);
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        bytes
    });
    let back = stream.read_to_end();
    assert!(sender.join().unwrap() == back, "the bytes are not the same");
}

#[test]
fn ten_mebibytes_come_back_the_same() {
    echo(&Vm::ready(), 1);
}

#[test]
fn many_streams_at_once_beside_one_that_stalls() {
    let vm = Vm::ready();
    let mut stalled = vm.stream(STALL);
    stalled.reader.get_ref().set_nonblocking(true).unwrap();
    let mut taken = 0;
    // Fill it until neither the guest's window nor the socket takes more.
    while let Ok(length) = stalled.reader.get_mut().write(&vec![0; 65_536]) {
        taken += length;
        assert!(taken < 4 << 20, "somebody buffers without bound");
    }
    std::thread::scope(|scope| {
        for seed in 2..6 {
            let vm = &vm;
            scope.spawn(move || echo(vm, seed));
        }
    });
}

#[test]
fn a_reader_that_stalls_holds_nobody_up() {
    let vm = Vm::ready();
    let mut stalled = vm.stream(ECHO);
    stalled.reader.get_ref().set_nonblocking(true).unwrap();
    let mut taken = 0;
    while let Ok(length) = stalled.reader.get_mut().write(&vec![0; 65_536]) {
        taken += length;
        assert!(taken < 8 << 20, "somebody buffers without bound");
    }
    echo(&vm, 9);
    // It gets everything when it reads at last.
    stalled.reader.get_ref().set_nonblocking(false).unwrap();
    stalled.finish();
    let back = stalled.read_to_end();
    assert!(back.len() >= taken - 65_536 && back.len() <= taken);
}

#[test]
fn bytes_sent_along_with_the_request_belong_to_the_stream() {
    let vm = Vm::ready();
    let mut client = vm.connect();
    client.write(b"{\"connect\":\"tcp:7\"}\nright behind it");
    client.finish();
    assert_eq!(client.read_line::<MonitorReply>(), MonitorReply::Connected);
    assert_eq!(client.read_to_end(), b"right behind it");
}

fn forward(vm: &Vm, guest_port: u16) -> SocketAddr {
    vm.forward("127.0.0.1:0", guest_port).address
}

fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_forward_relays_half_closed_connections() {
    let vm = Vm::ready();
    let address = forward(&vm, COUNT);
    let mut socket = dial(address);
    socket.write_all(&vec![1; 100_000]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000");
}

#[test]
fn a_forward_relays_bulk_and_outlives_its_removal() {
    let vm = Vm::ready();
    let address = forward(&vm, ECHO);
    let mut socket = dial(address);
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    let removal = MonitorRequest::ForwardRemove(HostPort::tcp(address));
    assert_eq!(vm.ask(&removal), MonitorReply::Done);
    assert!(matches!(vm.ask(&removal), MonitorReply::Failed(_)));
    assert!(TcpStream::connect(address).is_err());
    let mut writer = socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let bytes = bulk(20);
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        bytes
    });
    let mut back = Vec::new();
    socket.read_to_end(&mut back).unwrap();
    assert!(sender.join().unwrap() == back);
}

#[test]
fn forwards_are_published_and_taken_ports_are_told() {
    let vm = Vm::ready();
    let address = forward(&vm, ECHO);
    let status = vm.await_status(|status| !status.forwards.is_empty());
    assert_eq!(status.forwards, [Forward { listen: HostPort::tcp(address), guest_port: ECHO }]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_too = UdpSocket::bind("127.0.0.1:0").unwrap();
    for listen in [HostPort::tcp(taken.local_addr().unwrap()), HostPort::udp(taken_too.local_addr().unwrap())]
    {
        assert_eq!(
            vm.ask(&MonitorRequest::ForwardAdd(Forward { listen, guest_port: 80 })),
            MonitorReply::Failed(format!(
                "cannot listen on {listen}: address in use by {} (process {})",
                std::fs::read_to_string("/proc/self/comm").unwrap().trim_end(),
                std::process::id()
            ))
        );
    }
}

#[test]
fn a_forward_without_a_guest_breaks_the_connection_off() {
    let vm = Vm::start(&launch(), "");
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    let address = forward(&vm, ECHO);
    let mut stream = vm.command("garbage");
    assert!(stream.read_to_end().is_empty());
    let mut socket = dial(address);
    assert!(socket.read(&mut [0]).is_err(), "a reset, not an end");
}

#[test]
fn a_knock_of_anybody_else_changes_nothing() {
    let vm = Vm::start(&dialed(), "dialed");
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    let mut open = vm.stream(ECHO);
    for _ in 0..3 {
        let mut knock = std::os::unix::net::UnixStream::connect(vm.path(KNOCK)).unwrap();
        // It says nothing, and is closed: the monitor has looked.
        assert!(matches!(std::io::Read::read(&mut knock, &mut [0]), Ok(0) | Err(_)));
    }
    open.write(b"still");
    open.finish();
    assert_eq!(open.read_to_end(), b"still");
    echo(&vm, 30);
}

#[test]
fn what_the_guest_sent_last_is_delivered_after_its_end() {
    let mut vm = Vm::ready();
    let mut stream = vm.command("send 200000\nexit 0");
    assert!(crate::support::ends(crate::support::pid(vm.status.vmm_pid)));
    assert_eq!(stream.read_to_end().len(), 200_000);
    vm.wait_for_end();
}

#[test]
fn a_window_of_tiny_frames_costs_a_window() {
    let vm = Vm::ready();
    let before = process_status(vm.monitor.id(), "RssAnon:");
    let mut stalled = vm.command(&format!("drip {WINDOW}"));
    // The answer to this comes after all of it.
    assert_eq!(
        vm.ask(&MonitorRequest::Guest(GuestRequest::SetClock(1))),
        MonitorReply::Guest(GuestReply::Done)
    );
    let after = process_status(vm.monitor.id(), "RssAnon:");
    assert!(after < before + 2048, "from {before} to {after} KiB");
    stalled.finish();
    assert_eq!(stalled.read_to_end().len(), WINDOW);
}

#[test]
fn a_greeting_right_behind_garbage_is_heard() {
    let vm = Vm::ready();
    vm.command("relapse");
    vm.await_status(|status| {
        status.phase == MonitorPhase::Ready
            && status.guest.as_ref().is_some_and(|guest| guest.version == "session 2")
    });
    let mut stream = vm.stream(ECHO);
    stream.write(b"there?");
    stream.finish();
    assert_eq!(stream.read_to_end(), b"there?");
}

#[test]
fn a_stream_that_outlived_its_guest_touches_no_stream_of_the_next() {
    let vm = Vm::ready();
    let garbage = vm.command(&format!("send {WINDOW}\ngarbage\nrestart 0"));
    vm.await_status(|status| {
        status.phase == MonitorPhase::Ready
            && status.guest.as_ref().is_some_and(|guest| guest.version == "session 2")
    });
    // As many as there were, so that any number of then is one of now.
    let mut streams: Vec<_> = (0..4).map(|_| vm.stream(ECHO)).collect();
    // Its connection breaks with bytes of the old guest in it.
    drop(garbage);
    for stream in &mut streams {
        stream.write(b"still mine");
        stream.finish();
        assert_eq!(stream.read_to_end(), b"still mine");
    }
}
