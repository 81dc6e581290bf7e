//! `banger vm wait`.

use banger_types::vm::{Vm, VmState};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Ended, World, vm};

fn world(changes: &[VmState], goes_on: bool) -> World {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.changes = changes.iter().map(|state| vm("web", *state)).collect();
        shown.watch_goes_on = goes_on;
    });
    world
}

fn wait(changes: &[VmState], arguments: &[&str]) -> Ended {
    // The stream goes on: a wait that does not see its state hangs, and the test with it.
    world(changes, true).run([&["vm", "wait", "web"], arguments].concat())
}

#[test]
fn a_wait_ends_with_the_state() {
    use VmState::{Creating, Failed, Paused, Running, Starting, Stopped, Stopping};
    for (changes, arguments) in [
        (&[Running, Stopping, Stopped][..], &[][..]),
        (&[Stopped], &["--for", "stopped"]),
        // A VM that is being made is stopped before its first boot.
        (&[Creating, Stopped, Starting, Running], &["--for", "running"]),
        (&[Stopped, Starting, Running], &["--for", "running"]),
        // Whoever starts it again has not done so yet.
        (&[Failed, Starting, Running], &["--for", "running"]),
        (&[Running, Paused], &["--for", "paused"]),
        (&[Running, Failed], &["--for", "failed", "--timeout", "60"]),
    ] {
        let ended = wait(changes, arguments);
        assert_eq!((ended.code, ended.text()), (0, "web\n"), "{changes:?} {arguments:?}: {ended}");
    }
    let ended = wait(&[Running, Stopped], &["--json"]);
    assert_eq!(serde_json::from_slice::<Vm>(&ended.stdout).unwrap().state, Stopped);
}

#[test]
fn a_vm_that_ends_otherwise_is_an_error_with_the_reason() {
    use VmState::{Failed, Running, Starting, Stopped, Stopping};
    insta::assert_snapshot!(wait(&[Starting, Failed], &["--for", "running"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: VM 'web' has failed; waited for it to be running
      because: qemu exited with code 1
      try: see what became of it: banger vm logs web
    ");
    for (changes, state) in [
        (&[Starting, Stopping, Stopped][..], "running"),
        (&[Running, Failed], "stopped"),
        (&[Failed], "stopped"),
        (&[Running, Stopped], "failed"),
    ] {
        assert_eq!(wait(changes, &["--for", state]).code, 1, "{changes:?}");
    }
}

#[test]
fn a_vm_that_is_to_be_started_again_is_waited_for() {
    let world = world(&[VmState::Running, VmState::Failed, VmState::Starting, VmState::Running], true);
    world.daemon().shown(|shown| {
        shown.changes.remove(0);
        shown.changes.insert(0, vm("web", VmState::Starting));
        shown.changes[1].restart_at = Some(jiff::Timestamp::now());
    });
    assert_eq!(world.run(["vm", "wait", "web", "--for", "running"]).code, 0);
}

#[test]
fn a_deleted_vm_is_stopped_and_nothing_else() {
    let changes = &[VmState::Starting, VmState::Deleting];
    assert_eq!(world(changes, false).run(["vm", "wait", "web"]).text(), "web\n");
    assert_eq!(world(changes, false).run(["vm", "wait", "web", "--json"]).text(), "{\"deleted\":\"web\"}\n");
    insta::assert_snapshot!(world(changes, false).run(["vm", "wait", "web", "--for", "running"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: VM 'web' was deleted; it will not be running
    ");
}

#[test]
fn a_daemon_that_says_no_more_is_an_error() {
    let world = world(&[VmState::Running], false);
    // It is asked by its id: the name may be another VM's by now.
    world.daemon().shown(|shown| shown.vms = vec![vm("0123456789ab", VmState::Running)]);
    insta::assert_snapshot!(world.run(["vm", "wait", "web"]), @r"
    exit code: 5
    --- stdout
    --- stderr
    error: bangerd stopped telling about VM 'web'
      try: banger vm wait web
    ");
}

#[test]
fn a_wait_has_a_limit_if_wanted() {
    insta::assert_snapshot!(wait(&[VmState::Running], &["--timeout", "1"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: VM 'web' was not stopped after 1 second
      because: it is running
      try: banger vm show web
    ");
}

#[test]
fn several_vms_are_waited_for_at_once() {
    let world = world(&[VmState::Stopped], true);
    assert_eq!(world.run(["vm", "wait", "a", "b"]).text(), "web\nweb\n");
}

#[test]
fn an_interrupt_ends_a_wait() {
    let world = world(&[VmState::Running], true);
    let child = world.command(["vm", "wait", "web"]).spawn().unwrap();
    world.watched();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(world.end(child).code, 130);
}
