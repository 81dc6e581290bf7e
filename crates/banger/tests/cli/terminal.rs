//! On a real terminal: raw mode, sizes, bars, questions.

use banger_types::operation::{OperationKind, Progress, ProgressPart};
use banger_types::vm::VmState;
use rustix::process::{Pid, Signal, kill_process};

use crate::exec::world;
use crate::support::{Terminal, World, operation, succeeded, vm};

#[test]
fn keys_and_sizes_reach_the_program_and_the_terminal_is_put_back() {
    let world = world();
    let mut terminal = Terminal::new(100, 30);
    let child = terminal.spawn(world.command(["exec", "-it", "web", "keys"]));
    terminal.wait_for("size 100x30\r\n");
    assert!(!terminal.is_cooked());
    terminal.resize(120, 40);
    terminal.wait_for("size 120x40\r\n");
    terminal.type_keys(b"\x03\x1a\r\xc3");
    terminal.wait_for("key 03\r\nkey 1a\r\nkey 0d\r\nkey c3\r\n");
    terminal.type_keys(b"q");
    assert_eq!(world.end(child).code, 0);
    assert!(terminal.is_cooked());
}

#[test]
fn a_client_that_is_told_to_end_puts_the_terminal_back() {
    let world = world();
    let mut terminal = Terminal::new(80, 24);
    let child = terminal.spawn(world.command(["exec", "-it", "web", "keys"]));
    terminal.wait_for("size 80x24\r\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(world.end(child).code, 143);
    assert!(terminal.is_cooked());
}

#[test]
fn a_login_shell_has_the_terminal() {
    let world = world();
    let mut terminal = Terminal::new(80, 24);
    let child = terminal.spawn(world.command(["ssh", "web"]));
    terminal.wait_for("login shell of dev with a terminal");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(world.end(child).code, 129);
    assert!(terminal.is_cooked());
}

#[test]
fn a_deletion_is_asked_about() {
    let world = World::new();
    let mut terminal = Terminal::new(80, 24);
    let child = terminal.spawn(world.command(["rm", "web"]));
    terminal.wait_for("Delete 'web' with all that is on its disk? [y/N] ");
    terminal.type_keys(b"\n");
    assert_eq!(world.end(child).code, 7);
    assert!(world.daemon().requests().is_empty());

    world.daemon().shown(|shown| shown.operations.push_back(succeeded(OperationKind::VmDelete, "web")));
    let child = terminal.spawn(world.command(["rm", "web"]));
    terminal.wait_for("[y/N] ");
    terminal.type_keys(b"y\n");
    assert_eq!(world.end(child).code, 0);
    assert_eq!(world.daemon().requests().len(), 1);
}

#[test]
fn an_interrupt_asks_whether_to_detach_or_cancel() {
    for (answer, code, cancels) in [("d\n", 0, false), ("c\n", 7, true)] {
        let world = World::new();
        world.daemon().shown(|shown| {
            shown.operations.push_back(vec![operation(OperationKind::VmCreate, "web")]);
        });
        let mut terminal = Terminal::new(100, 24);
        let child = terminal.spawn(world.command(["vm", "create", "web"]));
        terminal.wait_for("disk: copy template");
        terminal.type_keys(b"\x03");
        terminal.wait_for("Stop waiting?");
        terminal.type_keys(answer.as_bytes());
        assert_eq!(world.end(child).code, code, "{answer}");
        let cancelled = world.daemon().requests().iter().any(|request| request.path.ends_with("/cancel"));
        assert_eq!(cancelled, cancels);
    }
}

#[test]
fn an_interrupt_does_what_was_chosen_without_a_question() {
    for (chosen, code, cancels) in [("detach", 0, false), ("cancel", 7, true)] {
        let world = World::new();
        world.daemon().shown(|shown| {
            shown.operations.push_back(vec![operation(OperationKind::VmCreate, "web")]);
        });
        let mut terminal = Terminal::new(100, 24);
        let child = terminal.spawn(world.command(["vm", "create", "web", "--on-interrupt", chosen]));
        terminal.wait_for("disk: copy template");
        terminal.type_keys(b"\x03");
        assert_eq!(world.end(child).code, code, "{chosen}");
        let cancelled = world.daemon().requests().iter().any(|request| request.path.ends_with("/cancel"));
        assert_eq!(cancelled, cancels);
    }
}

#[test]
fn layers_that_come_side_by_side_have_a_line_each() {
    let world = World::new();
    let mut pull = operation(OperationKind::ImagePull, "mine");
    let part = |name: &str, done| ProgressPart { name: name.to_owned(), done, total: Some(10 << 20) };
    let parts = vec![part("0123456789ab", 5 << 20), part("ba9876543210", 1 << 20)];
    pull.progress = Some(Progress { parts, ..Progress::of("image: layers") });
    world.daemon().shown(|shown| shown.operations.push_back(vec![pull]));
    let mut terminal = Terminal::new(100, 24);
    let child = terminal.spawn(world.command(["pull", "mine", "--on-interrupt", "detach"]));
    let seen = terminal.wait_for("ba9876543210 [##");
    assert!(seen.contains("0123456789ab [############") && seen.contains("5.00 MiB/10.00 MiB"), "{seen}");
    terminal.type_keys(b"\x03");
    assert_eq!(world.end(child).code, 0);
}

#[test]
fn with_rm_there_is_nothing_to_detach_from() {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.operations.push_back(vec![operation(OperationKind::VmCreate, "web")]);
    });
    let mut terminal = Terminal::new(100, 24);
    let child = terminal.spawn(world.command(["run", "--rm", "true"]));
    terminal.wait_for("disk: copy template");
    terminal.type_keys(b"\x03");
    let asked = terminal.wait_for("keep waiting");
    assert!(asked.contains("Cancel it?") && !asked.contains("detach"), "{asked}");
    // What meant to detach now means to wait.
    terminal.type_keys(b"d\n");
    terminal.wait_for("waiting on");
    terminal.type_keys(b"\x03");
    terminal.wait_for("keep waiting");
    terminal.type_keys(b"c\n");
    assert_eq!(world.end(child).code, 125);
    assert_eq!(world.daemon().requests().last().unwrap().path, "/v1/operations/0000000000c1/cancel");
}

#[test]
fn no_guest_steers_the_terminal_through_its_log() {
    let world = World::new();
    world.daemon().shown(|shown| shown.vms = vec![vm("web", VmState::Running)]);
    let mut terminal = Terminal::new(80, 24);
    let child = terminal.spawn(world.command(["logs", "web"]));
    let printed = terminal.wait_for("three");
    assert_eq!(world.end(child).code, 0);
    assert!(printed.contains("two[2J") && !printed.contains('\x1b'), "{printed:?}");
}

#[test]
fn errors_are_coloured_on_a_terminal_unless_refused() {
    let world = World::new();
    let mut terminal = Terminal::new(80, 24);
    let child = terminal.spawn(world.command(["vm", "show", "none"]));
    assert!(terminal.wait_for("error:").ends_with("\x1b[1;31merror:"));
    assert_eq!(world.end(child).code, 3);
    terminal.wait_for("banger vm ls");
    let mut command = world.command(["vm", "show", "none"]);
    command.env("NO_COLOR", "1");
    let child = terminal.spawn(command);
    assert!(!terminal.wait_for("error:").contains('\x1b'));
    assert_eq!(world.end(child).code, 3);
}
