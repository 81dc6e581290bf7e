//! Operations, and Ctrl-C while one runs.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use banger_types::operation::{Operation, OperationKind, OperationStatus};
use banger_types::{ApiError, ErrorKind};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{World, operation, succeeded};

fn failed() -> Vec<Operation> {
    let mut steps = succeeded(OperationKind::VmCreate, "web");
    let last = steps.last_mut().unwrap();
    last.status = OperationStatus::Failed;
    last.error = Some(ApiError::new(ErrorKind::Conflict, "the name 'web' is taken").fix("banger vm rm web"));
    steps
}

#[test]
fn operations_are_listed_and_shown() {
    let world = World::new();
    world.daemon().prepare(succeeded(OperationKind::VmCreate, "web"));
    insta::assert_snapshot!(world.run(["op", "ls"]), @r"
    exit code: 0
    --- stdout
    ID             KIND        SUBJECT   STATUS      BEGAN          PHASE
    0000000000c1   create VM   web       running     1 minute ago   disk: copy template
    0000000000c1   create VM   web       running     1 minute ago   boot (10.4 MB of 20.9 MB)
    0000000000c1   create VM   web       succeeded   1 minute ago   boot (10.4 MB of 20.9 MB)
    --- stderr
    ");
    world.daemon().prepare(failed());
    insta::assert_snapshot!(world.run(["op", "show", "0000000000c1"]), @r"
    exit code: 0
    --- stdout
    Id:         0000000000c1
    Kind:       create VM
    Subject:    web
    Status:     failed
    Began:      1 minute ago
    Changed:    1 minute ago
    Phase:      boot (10.4 MB of 20.9 MB)
    Finished:   disk: copy template (12 ms)
                boot (2.3 s)
    Error:      the name 'web' is taken
    Try:        banger vm rm web
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["op", "show", "none"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: there is no operation named 'none'
    ");
    assert_eq!(world.run(["op", "logs", "0000000000c1"]).text(), "line of the log\n");
}

#[test]
fn a_watch_tells_each_phase_and_the_end() {
    let world = World::new();
    world.daemon().prepare(succeeded(OperationKind::VmCreate, "web"));
    // A finished operation is followed from its last step.
    assert_eq!(world.run(["op", "watch", "0000000000c1"]).text(), "web\n");
    let ended = world.run(["op", "watch", "0000000000c1", "--json"]);
    let steps: Vec<Operation> =
        ended.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.len(), 3);
    world.daemon().prepare(failed());
    insta::assert_snapshot!(world.run(["op", "watch", "0000000000c1"]), @r"
    exit code: 4
    --- stdout
    --- stderr
    disk: copy template: 12 ms
    boot: 2.3 s
    error: the name 'web' is taken
      try: banger vm rm web
    ");
}

#[test]
fn a_cancelled_operation_says_itself_what_is_left() {
    let world = World::new();
    let mut steps = succeeded(OperationKind::VmStart, "web");
    let last = steps.last_mut().unwrap();
    last.status = OperationStatus::Cancelled;
    last.error =
        Some(ApiError::new(ErrorKind::Cancelled, "VM 'web' is not started").because("it was cancelled"));
    world.daemon().shown(|shown| shown.operations.push_back(steps));
    insta::assert_snapshot!(world.run(["start", "web"]), @r"
    exit code: 7
    --- stdout
    --- stderr
    disk: copy template ...
    disk: copy template: 12 ms
    boot ...
    boot: 2.3 s
    error: VM 'web' is not started
      because: it was cancelled
    ");
}

#[test]
fn one_that_waits_for_its_turn_says_so() {
    let world = World::new();
    let mut steps = succeeded(OperationKind::VmCreate, "web");
    steps[0].status = OperationStatus::Pending;
    steps[0].progress = None;
    world.daemon().shown(|shown| shown.operations.push_back(steps));
    let ended = world.run(["vm", "create", "web"]);
    assert_eq!(ended.code, 0);
    assert!(ended.to_string().contains("--- stderr\nwait for others to end ...\n"), "{ended}");
}

#[test]
fn a_cancel_waits_until_all_is_undone() {
    let world = World::new();
    world.daemon().prepare(vec![operation(OperationKind::ImagePull, "mine")]);
    assert_eq!(world.run(["op", "cancel", "0000000000c1"]).text(), "cancelled\n");
    assert_eq!(world.daemon().requests()[0].path, "/v1/operations/0000000000c1/cancel");
}

/// Interrupts `vm create`, without a terminal, while it waits. Returns its exit code and what it said after that.
fn interrupted(world: &World, arguments: &[&str]) -> (i32, String) {
    interrupted_in(world, OperationKind::VmCreate, &[&["vm", "create", "web"], arguments].concat())
}

fn interrupted_in(world: &World, kind: OperationKind, arguments: &[&str]) -> (i32, String) {
    world.daemon().shown(|shown| shown.operations.push_back(vec![operation(kind, "web")]));
    let mut command = world.command(arguments);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert_eq!(line, "disk: copy template ...\n");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut errors, &mut rest).unwrap();
    (world.end(child).code, rest)
}

#[test]
fn an_interrupt_without_a_terminal_detaches_if_that_was_chosen() {
    let world = World::new();
    let (code, said) = interrupted(&world, &["--on-interrupt", "detach"]);
    assert_eq!(code, 0);
    assert_eq!(said, "operation 0000000000c1 goes on; to follow it: banger op watch 0000000000c1\n");
    assert_eq!(world.daemon().requests().len(), 1, "nothing is cancelled");
}

#[test]
fn an_interrupt_ends_the_rest_of_what_was_asked_for() {
    for (kind, command) in [(OperationKind::ImageDelete, "image"), (OperationKind::VmDelete, "vm")] {
        for how in ["cancel", "detach"] {
            let world = World::new();
            let typed = [command, "rm", "--yes", "--on-interrupt", how, "web", "b", "c"];
            let (code, said) = interrupted_in(&world, kind, &typed);
            assert_eq!(code, 7, "{said}");
            assert!(said.ends_with("not begun: 'b' and 'c'\n"), "{said}");
            let deleted = world.daemon().requests();
            assert_eq!(deleted.iter().filter(|request| request.method == "DELETE").count(), 1);
        }
    }
}

#[test]
fn an_interrupt_without_a_terminal_cancels() {
    let world = World::new();
    let (code, rest) = interrupted(&world, &[]);
    assert_eq!(code, 7);
    insta::assert_snapshot!(rest, @r"
    cancelling; once more to stop waiting
    error: the operation on 'web' was cancelled
      try: banger op logs 0000000000c1
    ");
    assert_eq!(world.daemon().requests()[1].path, "/v1/operations/0000000000c1/cancel");
}
