//! `banger exec` against a real SSH server.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Child;

use banger_types::bytes::ByteString;
use banger_types::vm::VmState;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{GuestShown, World, vm};

pub(crate) fn world() -> World {
    let world = World::new();
    world.daemon().shown(|shown| shown.vms = vec![vm("web", VmState::Running)]);
    world
}

fn shown(world: &World, arguments: &[&OsStr]) -> GuestShown {
    let ended = world.run(arguments);
    assert_eq!(ended.code, 0, "{ended}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn the_exit_code_is_the_programs_own() {
    let world = world();
    for code in [0, 3, 125, 255] {
        assert_eq!(world.run(["exec", "web", "exit", &code.to_string()]).code, code);
    }
    assert_eq!(world.run(["exec", "web", "exit", "256"]).code, 255, "never a success");
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("USR2", 140), ("34@banger", 162), ("NONE", 255)] {
        assert_eq!(world.run(["exec", "web", "--", "die", signal]).code, code, "{signal}");
    }
}

#[test]
fn output_and_error_stay_apart() {
    let ended = world().run(["vm", "exec", "web", "--", "both"]);
    assert_eq!((ended.code, ended.text(), ended.stderr.as_str()), (0, "to output\n", "to error\n"));
}

#[test]
fn arguments_arrive_unchanged() {
    let world = world();
    let odd = OsStr::from_bytes(b"a b\n'\"\\$HOME\xff");
    let words = ["exec", "web", "show", "--json", "--", "-t", "", "*"].map(OsStr::new);
    let shown = shown(&world, &[&words[..], &[odd]].concat());
    let expected: Vec<ByteString> = [b"show" as &[u8], b"--json", b"--", b"-t", b"", b"*", odd.as_bytes()]
        .map(|w| w.to_vec().into())
        .into();
    assert_eq!(shown.request.argv, expected);
    assert_eq!((shown.user.as_str(), shown.terminal), ("dev", None));
    assert_eq!((shown.request.environment, shown.request.directory), (Vec::new(), None));
}

#[test]
fn user_directory_and_environment_are_passed_on() {
    let world = world();
    let words = ["exec", "-u", "root", "-w", "/srv", "-e", "A=b=c", "web", "--", "show"].map(OsStr::new);
    let shown = shown(&world, &words);
    assert_eq!(shown.user, "root");
    assert_eq!(shown.request.directory, Some("/srv".into()));
    assert_eq!(shown.request.environment, [("A".into(), "b=c".into())]);
    assert_eq!(shown.request.argv, ["show".into()]);
}

#[test]
fn a_terminal_can_be_had_without_one() {
    let world = world();
    let shown = shown(&world, &["exec", "-it", "web", "show"].map(OsStr::new));
    assert_eq!(shown.terminal, Some(("xterm".to_owned(), 80, 24)));
}

#[test]
fn ten_mebibytes_go_in_and_come_back_the_same() {
    let mut state = 1u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(10 << 20)
    .collect();
    let ended = world().run_with_input(["exec", "web", "echo"], bytes.clone());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout == bytes, "{} bytes came back", ended.stdout.len());
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let world = world();
    let mut child = world.command(["exec", "web", "flood"]).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 4096]).unwrap();
    drop(output);
    let ended = world.end(child);
    assert_eq!((ended.code, ended.stderr.as_str()), (141, ""));
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn signals_reach_the_program() {
    let world = world();
    let mut child = world.command(["exec", "web", "signals"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::INT, "INT"), (Signal::TERM, "TERM")]
    {
        send(&child, signal);
        assert_eq!(lines.next().unwrap(), name);
    }
    send(&child, Signal::QUIT);
    assert_eq!(world.end(child).code, 131, "the program's own death by SIGQUIT");
}

#[test]
fn a_second_interrupt_ends_the_client() {
    let world = world();
    let mut child = world.command(["exec", "web", "signals"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    send(&child, Signal::INT);
    assert_eq!(lines.next().unwrap(), "INT");
    send(&child, Signal::INT);
    assert_eq!(world.end(child).code, 130);
}

#[test]
fn a_lost_connection_is_told_as_what_it_is() {
    let world = world();
    insta::assert_snapshot!(world.run(["exec", "web", "vanish"]), @r"
    exit code: 125
    --- stdout
    bye
    --- stderr
    error: the session in VM 'web' broke
      because: the connection to the guest was lost
      try: see what became of it: banger vm show web, banger vm logs web
    ");
    insta::assert_snapshot!(world.run(["exec", "web", "close"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: the session in VM 'web' broke
      because: the guest ended the session without an exit status
      try: see what became of it: banger vm show web, banger vm logs web
    ");
}

#[test]
fn what_keeps_a_session_from_opening_is_told() {
    let world = world();
    insta::assert_snapshot!(world.run(["exec", "none", "true"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: there is no VM named 'none'
      try: banger vm ls
    ");
    insta::assert_snapshot!(world.run(["exec", "-u", "stranger", "web", "true"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: no session in VM 'web'
      because: the guest does not let the user 'stranger' in; most likely it has no such user
      try: a user that the image has: banger exec -u root web ...
    ");
    *world.daemon().guest.refusal.lock().unwrap() = Some("the guest is not connected".to_owned());
    insta::assert_snapshot!(world.run(["exec", "web", "true"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: no session in VM 'web'
      because: the VM's monitor does not connect to the guest: the guest is not connected
      try: see what became of it: banger vm show web, banger vm logs web
    ");
    world.daemon().shown(|shown| shown.session = None);
    insta::assert_snapshot!(world.run(["exec", "web", "true"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: VM 'web' is stopped
      try: banger vm start web
    ");
}

#[test]
fn another_key_than_the_daemons_is_refused() {
    let world = world();
    let other = World::new();
    world.daemon().shown(|shown| {
        let key = other.daemon().guest.target().host_public_key;
        shown.session.as_mut().unwrap().host_public_key = key;
    });
    insta::assert_snapshot!(world.run(["exec", "web", "echo"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: no session in VM 'web'
      because: the guest's SSH server has another key than bangerd gave it
      try: if you do not trust the guest: banger vm kill web
    ");
}
