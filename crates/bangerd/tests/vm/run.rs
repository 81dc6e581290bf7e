//! `vm run`: the command's own end, a login shell on a terminal, and `--rm`, which is the daemon's duty.

use std::process::Stdio;

use banger_testkit::{Environment, Terminal, exit_code, wait_until};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::guest::{BUSYBOX, signal, small, start};

/// Returns `vm run --rm` with these further arguments, not yet started.
fn run(environment: &Environment, arguments: &[&str]) -> std::process::Command {
    environment.banger(&[&["vm", "run", "--rm"], &small(&BUSYBOX)[..], arguments].concat())
}

fn names(environment: &Environment) -> String {
    environment.succeed(&["vm", "ls", "-q"])
}

fn assert_nothing_is_left(environment: &Environment) {
    assert_eq!(names(environment), "");
    assert_eq!(std::fs::read_dir(environment.data().join("vms")).unwrap().count(), 0);
}

#[test]
fn run_ends_as_its_command_does() {
    let environment = Environment::new();
    let script = "id -un; pwd; echo \"$SHARED\"; cat; exit 3";
    let arguments = ["-u", "alice", "-w", "/tmp", "-e", "SHARED=a b", "--", "sh", "-c", script];
    let mut command = run(&environment, &arguments);
    let input = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&input, "from outside\n").unwrap();
    let outcome = environment.outcome(command.stdin(Stdio::from(std::fs::File::open(&input).unwrap())));
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert_eq!(outcome.text(), "alice\n/tmp\na b\nfrom outside\n");
    assert_nothing_is_left(&environment);

    // Without a command it is a login shell, if there is a terminal: one with a prompt.
    let mut terminal = Terminal::new(100, 30);
    let mut client = terminal.spawn(run(&environment, &["--name", "shell"]));
    terminal.wait_for("# ");
    terminal.type_keys(b"echo \"[$0]\" \"$(hostname)\"\r");
    terminal.wait_for("[-sh] shell\r\n");
    terminal.type_keys(b"exit 7\r");
    assert_eq!(exit_code(&mut client), 7);
    assert!(terminal.is_cooked());
    assert_nothing_is_left(&environment);
}

#[test]
fn a_killed_client_leaves_no_vm() {
    let environment = Environment::new();
    let mut command = run(&environment, &["--name", "orphan", "--", BUSYBOX.probe, "wait"]);
    let (mut client, _output) = start(&mut command, "waiting");
    let shown = environment.vm("orphan")["vmm_pid"].as_i64().unwrap();
    let vmm = pidfd_open(Pid::from_raw(i32::try_from(shown).unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    signal(&client, Signal::KILL);
    assert_eq!(exit_code(&mut client), 137);
    let limit = rustix::time::Timespec { tv_sec: 120, tv_nsec: 0 };
    let ended = rustix::event::poll(&mut [PollFd::new(&vmm, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "the VMM goes on");
    wait_until(|| names(&environment), str::is_empty);
    assert_nothing_is_left(&environment);

    // A client that is killed while the VM is still being made or booted leaves none either.
    let mut client = run(&environment, &["--name", "unborn", "--", "true"]).spawn().unwrap();
    wait_until(|| names(&environment), |names| names == "unborn\n");
    signal(&client, Signal::KILL);
    assert_eq!(exit_code(&mut client), 137);
    wait_until(|| names(&environment), str::is_empty);
    assert_nothing_is_left(&environment);

    // One that is asked to end says so, and there is nothing left when it has ended.
    let mut command = run(&environment, &["--name", "told", "--", BUSYBOX.probe, "wait"]);
    let (mut client, _output) = start(&mut command, "waiting");
    signal(&client, Signal::TERM);
    assert_eq!(exit_code(&mut client), 143);
    assert_nothing_is_left(&environment);
}
