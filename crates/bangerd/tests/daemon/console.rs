//! The serial console: through the API by an upgrade, and through `banger vm console`. The guests are fakes, and say what is
//! typed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use banger_testkit::{Terminal, exit_code};
use banger_types::ErrorKind;
use banger_types::vm::{VmState, VmStopRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Daemon, assert_says};

const UPGRADE: &str = "Connection: keep-alive, Upgrade\nUpgrade: banger-console\n";

/// Sends a request for the console of a VM, and returns what is answered to it up to `end`.
fn ask(daemon: &Daemon, vm: &str, headers: &str, end: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(daemon.client.socket()).unwrap();
    let request = format!("GET /v1/vms/{vm}/console HTTP/1.1\nHost: banger\n{headers}\n");
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
    let answer = read_until(&mut stream, end);
    (stream, answer)
}

fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "after {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn attach(daemon: &Daemon, terminal: &mut Terminal) -> Child {
    let client = terminal.spawn(daemon.environment.banger(&["vm", "console", "vm"]));
    terminal.wait_for("Ctrl-] leaves");
    client
}

#[test]
fn a_connection_becomes_the_console_when_it_asks_to() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| {});
    for headers in ["", "Upgrade: banger-console\n", "Connection: upgrade\nUpgrade: websocket\n"] {
        let (_, answer) = ask(&daemon, "vm", headers, "}");
        assert!(answer.starts_with("HTTP/1.1 426 "), "{headers}: {answer}");
        assert!(answer.contains("\r\nupgrade: banger-console\r\n"), "{answer}");
    }
    let (_, answer) = ask(&daemon, "none", UPGRADE, "}");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let (mut stream, answer) = ask(&daemon, "vm", UPGRADE, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(b"by hand\n").unwrap();
    read_until(&mut stream, "typed: by hand\n");

    // Beside it, through the client; both see everything.
    daemon.call(async {
        let mut console = daemon.client.vm_console("vm").await.unwrap();
        console.write_all(b"by the client\n").await.unwrap();
        let mut text = String::new();
        while !text.ends_with("typed: by the client\n") {
            text.push(char::from(console.read_u8().await.unwrap()));
        }
    });
    read_until(&mut stream, "typed: by the client\n");
    daemon.succeed(daemon.client.stop_vm("vm", &VmStopRequest::default()));
    // It ends with the VM.
    stream.read_to_end(&mut Vec::new()).unwrap();
    let refused = daemon.call(async { daemon.client.vm_console("vm").await.map(drop) });
    let refused = daemon.refused(async { refused });
    assert_says(&refused, ErrorKind::Conflict, "it is stopped");
}

#[test]
fn a_terminal_is_attached_until_a_key_or_the_vms_end() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| {});
    let mut terminal = Terminal::new(80, 24);
    let mut client = attach(&daemon, &mut terminal);
    // Keys go as they are: a fake's line ends with a newline, which Enter is not.
    terminal.type_keys(b"hello\n");
    terminal.wait_for("typed: hello");
    // What is typed before the key is typed, what comes after is not.
    terminal.type_keys(b"bye\n\x1dlost\n");
    assert_eq!(exit_code(&mut client), 0);
    terminal.wait_for("left the console");
    assert!(terminal.is_cooked());
    assert_eq!(daemon.vm("vm").state, VmState::Running);

    let mut client = attach(&daemon, &mut terminal);
    daemon.environment.succeed(&["vm", "stop", "vm"]);
    terminal.wait_for("VM 'vm' is stopped");
    assert_eq!(exit_code(&mut client), 0);
    assert!(terminal.is_cooked());
    let log = daemon.environment.succeed(&["vm", "logs", "vm"]);
    assert!(log.contains("typed: bye") && !log.contains("lost"), "{log}");
}

#[test]
fn a_daemon_that_ends_closes_consoles_and_says_that_the_vm_goes_on() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| {});
    let mut terminal = Terminal::new(80, 24);
    let mut client = attach(&daemon, &mut terminal);
    daemon.environment.succeed(&["daemon", "stop"]);
    terminal.wait_for("the VM itself goes on without bangerd");
    assert_eq!(exit_code(&mut client), 5);
    assert!(terminal.is_cooked());
    // The next command starts the next daemon.
    let mut client = attach(&daemon, &mut terminal);
    terminal.type_keys(b"still there\n");
    terminal.wait_for("typed: still there");
    terminal.type_keys(b"\x1d");
    assert_eq!(exit_code(&mut client), 0);
}

#[test]
fn without_a_terminal_it_types_its_input_and_prints_until_the_end() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| {});
    let mut command = daemon.environment.banger(&["vm", "console", "vm"]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The key is a byte like any other.
    client.stdin.take().unwrap().write_all(b"all\x1d of it\n").unwrap();
    let mut stdout = client.stdout.take().unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"typed: all\x1d of it\n") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{text:?}");
        text.push(byte[0]);
    }
    daemon.environment.succeed(&["vm", "kill", "vm"]);
    assert_eq!(exit_code(&mut client), 0);
}
