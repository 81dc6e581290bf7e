//! Clients that are attached to the guest's serial console.

use std::io::{BufRead as _, Read as _, Write as _};

use banger_types::monitor::{MonitorPhase, MonitorReply, MonitorRequest, file};

use crate::fake_vmm::ECHO;
use crate::support::{Client, Vm, launch};

/// Most bytes that a monitor keeps for a client that reads slowly, and what the sockets and pipes on the way may hold.
const KEPT: usize = 1 << 20;

fn with_console() -> Vm {
    let vm = Vm::start(&launch(), "console");
    vm.await_ready();
    vm
}

fn attach(vm: &Vm) -> Client {
    let mut client = vm.connect();
    assert_eq!(client.ask(&MonitorRequest::Console), MonitorReply::Connected);
    client
}

/// Reads what the guest prints, up to a line.
fn read_until(client: &mut Client, wanted: &str) -> String {
    let mut text = String::new();
    loop {
        let before = text.len();
        assert!(client.reader.read_line(&mut text).unwrap() > 0, "the console ended after {text:?}");
        if text[before..].trim_end() == wanted {
            return text;
        }
    }
}

#[test]
fn what_is_typed_reaches_the_guest_and_what_it_prints_everybody() {
    let vm = with_console();
    let (mut one, mut other) = (attach(&vm), attach(&vm));
    one.write(b"hello\n");
    read_until(&mut one, "typed: hello");
    read_until(&mut other, "typed: hello");
    other.write(b"hello again\n");
    read_until(&mut one, "typed: hello again");
    assert!(vm.read(file::SERIAL_LOG).contains("typed: hello\r\ntyped: hello again\r\n"));
    // One that goes leaves the other alone, and one that has nothing more to say still reads.
    drop(one);
    other.write(b"last\n");
    other.finish();
    read_until(&mut other, "typed: last");
}

#[test]
fn what_was_typed_along_with_the_request_is_typed() {
    let vm = with_console();
    let mut client = vm.connect();
    client.write(b"\"console\"\nright behind it\n");
    assert_eq!(client.read_line::<MonitorReply>(), MonitorReply::Connected);
    read_until(&mut client, "typed: right behind it");
}

#[test]
fn a_client_that_does_not_read_misses_something_and_holds_nobody_up() {
    let vm = with_console();
    let (mut slow, mut quick) = (attach(&vm), attach(&vm));
    let mut all = String::new();
    // So little at a time that one who reads misses nothing.
    while all.len() < 2 * KEPT {
        quick.write(b"print 4000\n");
        all += &read_until(&mut quick, "console line 3999");
    }
    // It gets the beginning, how much is missing, and what comes then.
    let missing = |text: &str| -> Option<usize> {
        text.lines().find_map(|line| line.strip_prefix('[')?.strip_suffix(" bytes left out]")?.parse().ok())
    };
    let mut seen = String::new();
    while missing(&seen).is_none() {
        assert!(slow.reader.read_line(&mut seen).unwrap() > 0);
    }
    let notice = seen.rfind("\r\n[").unwrap();
    assert!(all.starts_with(&seen[..notice]), "it is the beginning");
    assert_eq!(notice + missing(&seen).unwrap(), all.len());
    assert!(notice < KEPT, "{notice} bytes were kept for it");
    slow.write(b"here again\n");
    assert!(!read_until(&mut slow, "typed: here again").contains("console line"));
}

#[test]
fn a_guest_that_does_not_read_holds_up_who_types_and_nobody_else() {
    let vm = Vm::ready();
    let mut typing = attach(&vm);
    typing.reader.get_ref().set_nonblocking(true).unwrap();
    let mut typed = 0;
    while let Ok(length) = typing.reader.get_mut().write(&[b'x'; 4096]) {
        typed += length;
        assert!(typed < KEPT, "somebody keeps what is typed without bound");
    }
    let mut stream = vm.stream(ECHO);
    stream.write(b"hello");
    stream.finish();
    assert_eq!(stream.read_to_end(), b"hello");
    // What the guest prints goes on, too.
    let mut watching = attach(&vm);
    let _command = vm.command("say hello");
    read_until(&mut watching, "hello");
}

#[test]
fn what_was_typed_before_a_client_went_is_typed() {
    let vm = with_console();
    let mut watching = attach(&vm);
    let mut going = attach(&vm);
    // More than is taken at a time, and all of it is answered to one who has gone.
    let much = format!("{}\n", "x".repeat(100)).repeat(400);
    going.write(format!("{much}last words\n").as_bytes());
    drop(going);
    read_until(&mut watching, "typed: last words");
}

#[test]
fn the_console_is_the_next_boots_after_a_reboot() {
    let vm = with_console();
    let mut client = attach(&vm);
    let _command = vm.command("announce reboot\nsay the last line\nexit 0");
    read_until(&mut client, "the last line");
    vm.await_status(|status| status.phase == MonitorPhase::Ready && status.vmm_pid != vm.status.vmm_pid);
    client.write(b"are you there?\n");
    read_until(&mut client, "typed: are you there?");
}

#[test]
fn the_last_words_come_before_the_end() {
    let mut vm = with_console();
    let mut client = attach(&vm);
    // Nobody reads before it has ended.
    let _command = vm.command("print 1000\nexit 0");
    vm.wait();
    let text = String::from_utf8(client.read_to_end()).unwrap();
    assert!(text.ends_with("console line 999\n"), "{:?}", text.lines().last());
    assert_eq!(text.lines().filter(|line| line.starts_with("console line ")).count(), 1000);
}

#[test]
fn there_is_room_for_sixteen() {
    let vm = with_console();
    let mut attached: Vec<Client> = (0..16).map(|_| attach(&vm)).collect();
    let mut refused = vm.connect();
    let reply = refused.ask(&MonitorRequest::Console);
    assert_eq!(reply, MonitorReply::Failed("its console has 16 clients already".to_owned()));
    // The connection is as good as any other.
    assert!(matches!(refused.ask(&MonitorRequest::Status), MonitorReply::Status(_)));
    let mut gone = attached.pop().unwrap();
    gone.reader.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(gone.reader.read(&mut [0]).unwrap(), 0);
    drop(gone);
    // The monitor has seen that it went when it has served somebody after it.
    vm.ask(&MonitorRequest::Status);
    attach(&vm);
}
