//! Operations: who asked, in what order, once or twice, until when.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use banger_api::ClientError;
use banger_api::request::PullRequest;
use banger_testkit::Environment;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::vm::{RestartPolicy, VmSetRequest, VmState, VmStopRequest};
use banger_types::{ErrorKind, Refusal};
use serde_json::json;

use crate::support::{Daemon, Pipe, assert_left, assert_says, kill, request};

/// A daemon with a configuration, and without VMs.
fn configured(text: &str) -> Daemon {
    let environment = Environment::empty();
    environment.configure(text);
    Daemon::of(environment)
}

/// Begins a pull that goes on until it is cancelled.
fn endless(daemon: &Daemon, pipe: &Pipe, name: &str) -> Operation {
    let request = PullRequest { source: pipe.source(), name: Some(name.to_owned()) };
    daemon.call(daemon.client.pull_image(&request)).unwrap()
}

fn status(daemon: &Daemon, operation: &Operation) -> OperationStatus {
    daemon.call(daemon.client.operation(operation.id.as_str())).unwrap().status
}

fn cancel(daemon: &Daemon, operation: &Operation) -> Operation {
    daemon.finish(daemon.client.cancel_operation(operation.id.as_str()))
}

#[test]
fn those_that_make_something_take_turns_in_their_order() {
    let daemon = configured("[operations]\nat_once = 1\n");
    let pipe = Pipe::new();
    let [first, second, third, fourth] =
        ["one", "two", "three", "four"].map(|name| endless(&daemon, &pipe, name));
    assert_eq!(first.status, OperationStatus::Running);
    for waiting in [&second, &third, &fourth] {
        assert_eq!(waiting.status, OperationStatus::Pending);
        assert_eq!(status(&daemon, waiting), OperationStatus::Pending);
    }
    // One that waits is cancelled at once, and its place goes to the next.
    assert_eq!(cancel(&daemon, &second).status, OperationStatus::Cancelled);
    assert_eq!(status(&daemon, &first), OperationStatus::Running);
    assert_eq!(cancel(&daemon, &first).status, OperationStatus::Cancelled);
    daemon.follow_until(&third, |operation| operation.status == OperationStatus::Running);
    assert_eq!(status(&daemon, &fourth), OperationStatus::Pending);
    // A daemon that is killed leaves one that runs and one that waits: both are undone, and say so.
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    for left in [&third, &fourth] {
        let left = daemon.call(daemon.client.operation(left.id.as_str())).unwrap();
        assert_eq!(left.status, OperationStatus::Failed, "{left:?}");
        assert!(left.error.unwrap().why[0].contains("bangerd ended"));
    }
    assert_left(&daemon.environment, 0, 0, 0);
}

#[test]
fn a_request_to_a_vm_waits_for_no_download() {
    let environment = Environment::with_fake_vmm();
    environment.configure("[operations]\nat_once = 1\n");
    let daemon = Daemon::of(environment);
    daemon.create("web", |_| ());
    let pipe = Pipe::new();
    let pull = endless(&daemon, &pipe, "slow");
    daemon.succeed(daemon.client.kill_vm("web"));
    daemon.succeed(daemon.client.start_vm("web"));
    assert_eq!(status(&daemon, &pull), OperationStatus::Running);
    cancel(&daemon, &pull);
}

#[test]
fn a_cancel_is_asked_for_as_often_as_one_likes_and_what_has_ended_stays() {
    let daemon = Daemon::of(Environment::empty());
    let pipe = Pipe::new();
    let pull = endless(&daemon, &pipe, "slow");
    let ids = [pull.id.as_str(); 3];
    let answers = daemon.call(async {
        let [one, two, three] = ids.map(|id| daemon.client.cancel_operation(id));
        let (one, two, three) = tokio::join!(one, two, three);
        [one, two, three]
    });
    // Whoever comes when it has ended already hears that.
    let mut taken = 0;
    for answer in answers {
        match answer {
            Ok(operation) => {
                taken += 1;
                assert!(!matches!(operation.status, OperationStatus::Running | OperationStatus::Pending));
            }
            Err(ClientError::Api(error)) => {
                assert_says(&error, ErrorKind::Conflict, "it has ended: cancelled");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(taken >= 1);
    daemon.follow_until(&pull, |operation| operation.status.is_final());
    let error = daemon.refused(daemon.client.cancel_operation(pull.id.as_str()));
    assert_says(&error, ErrorKind::Conflict, "it has ended: cancelled");
    let error = daemon.refused(daemon.client.cancel_operation("0123456789ab"));
    assert_says(&error, ErrorKind::NotFound, "there is no operation");
    // The name is free again.
    let again = endless(&daemon, &pipe, "slow");
    assert_eq!(cancel(&daemon, &again).status, OperationStatus::Cancelled);
    assert_left(&daemon.environment, 0, 0, 0);
}

#[test]
fn the_same_key_and_request_are_the_same_operation() {
    let daemon = Daemon::new();
    let client = daemon.client.with_key("make-it");
    let make = request("web", |_| ());
    let (one, two) = daemon.call(async { tokio::join!(client.create_vm(&make), client.create_vm(&make)) });
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id, two.id, "two at once");
    let made = daemon.follow_until(&one, |operation| operation.status.is_final());
    assert_eq!(made.status, OperationStatus::Succeeded, "{made:?}");
    let again = daemon.call(client.create_vm(&make)).unwrap();
    assert_eq!(again, made, "after its end");
    let other = daemon.refused(client.create_vm(&request("other", |_| ())));
    assert_says(&other, ErrorKind::Conflict, "the idempotency key 'make-it' is another request's");
    // Another path is another request, too.
    let other = daemon.refused(client.stop_vm("web", &VmStopRequest::default()));
    assert_says(&other, ErrorKind::Conflict, "make-it");
    // The next daemon knows it, even after a crash.
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    assert_eq!(daemon.call(client.create_vm(&make)).unwrap(), made);
    // What was refused has not used its key up.
    let client = daemon.client.with_key("later");
    assert_says(&daemon.refused(client.start_vm("none")), ErrorKind::NotFound, "none");
    daemon.create("none", |request| request.no_start = true);
    daemon.succeed(client.start_vm("none"));
    for wrong in ["", &"k".repeat(256)] {
        let error = daemon.refused(daemon.client.with_key(wrong).kill_vm("web"));
        assert_says(&error, ErrorKind::Usage, "1 to 255");
    }
    assert_left(&daemon.environment, 2, 3, 1);
}

#[test]
fn an_operation_says_who_asked_and_what_was_made() {
    let daemon = Daemon::new();
    let client = daemon.client.clone().of_program("tester/7");
    let made = daemon.finish(client.create_vm(&request("web", |_| ())));
    let asker = made.asked_by.unwrap();
    assert_eq!((asker.program.as_str(), asker.pid), ("tester/7", Some(std::process::id())));
    let product = made.made.unwrap();
    assert_eq!((product.name.as_str(), product.id.unwrap()), ("web", daemon.vm("web").id.to_string()));
    let shown = daemon.environment.succeed(&["op", "show", made.id.as_str()]);
    assert!(shown.contains(&format!("tester/7, process {}", std::process::id())), "{shown}");
}

#[test]
fn one_that_has_ended_is_forgotten_with_its_log_when_its_time_is_over() {
    let environment = Environment::empty();
    environment.configure("[operations]\nkept = \"1s\"\n");
    let daemon = Daemon::of(environment);
    let pipe = Pipe::new();
    let pull = endless(&daemon, &pipe, "slow");
    let log = daemon.environment.data().join(format!("operations/{}.log", pull.id));
    assert!(log.exists());
    let goes_on = endless(&daemon, &pipe, "other");
    cancel(&daemon, &pull);
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while log.exists() {
        assert!(std::time::Instant::now() < deadline, "its log is still there");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let error = daemon.refused(daemon.client.operation(pull.id.as_str()));
    assert_says(&error, ErrorKind::NotFound, pull.id.as_str());
    assert_eq!(status(&daemon, &goes_on), OperationStatus::Running, "what goes on is not old");
    cancel(&daemon, &goes_on);
}

#[test]
fn operations_come_in_parts() {
    let daemon = Daemon::of(Environment::empty());
    let pipe = Pipe::new();
    let mut begun: Vec<_> = (0..5).map(|number| endless(&daemon, &pipe, &number.to_string())).collect();
    for operation in &begun {
        cancel(&daemon, operation);
    }
    begun.reverse();
    let expected: Vec<_> = begun.into_iter().map(|operation| operation.id).collect();
    let ids = |operations: Vec<Operation>| operations.into_iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(daemon.call(daemon.client.operations()).unwrap()), expected);
    assert_eq!(ids(daemon.call(daemon.client.newest_operations(2)).unwrap()), expected[..2]);
    let (one, two) = (&expected[1], &expected[3]);
    for (after, rest) in [(one, &expected[2..4]), (two, &expected[4..])] {
        let part = daemon.call(daemon.client.operations_after(after, 2)).unwrap();
        assert_eq!(ids(part), rest);
    }
    for limit in [0, 1001] {
        let error = daemon.refused(daemon.client.newest_operations(limit));
        assert_says(&error, ErrorKind::Usage, "from 1 to 1000");
    }
}

#[test]
fn one_that_waits_for_another_of_the_same_is_cancelled_at_once() {
    let daemon = configured("");
    let pipe = Pipe::new();
    let [first, second] = ["same", "same"].map(|name| endless(&daemon, &pipe, name));
    daemon.reach(&second, "wait for another operation that makes the same");
    assert_eq!(cancel(&daemon, &second).status, OperationStatus::Cancelled);
    assert_eq!(status(&daemon, &first), OperationStatus::Running);
    assert_eq!(cancel(&daemon, &first).status, OperationStatus::Cancelled);
    assert_left(&daemon.environment, 0, 0, 0);
}

#[test]
fn a_request_that_waits_is_cancelled_and_nothing_comes_of_it() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| ());
    // Its guest does not say that it has set its clock, for which a resume waits a while and gives way to nothing.
    daemon.guest("vm", "mute");
    daemon.succeed(daemon.client.pause_vm("vm"));
    let resume = daemon.call(daemon.client.resume_vm("vm")).unwrap();
    daemon.reach(&resume, "resume the VM");
    let waits = daemon.call(daemon.client.delete_vm("vm", true)).unwrap();
    assert_eq!(waits.status, OperationStatus::Pending);
    // What is refused meanwhile says what is in the way.
    let refused = daemon.refused(daemon.client.trim_vm("vm"));
    assert_eq!(refused.refusal, Some(Refusal::Deleting), "{refused:?}");
    assert_eq!(cancel(&daemon, &waits).status, OperationStatus::Cancelled);
    assert_eq!(status(&daemon, &resume), OperationStatus::Running, "nobody waited for it");
    let refused = daemon.refused(daemon.client.trim_vm("vm"));
    assert_eq!((refused.refusal, refused.operation), (Some(Refusal::Busy), Some(resume.id.clone())));
    let resumed = daemon.follow_until(&resume, |operation| operation.status.is_final());
    assert_eq!(resumed.status, OperationStatus::Succeeded, "{resumed:?}");
    assert_eq!(daemon.vm("vm").state, VmState::Running);
    // What was wanted before still is: it is started again.
    let set = VmSetRequest { restart: Some(RestartPolicy::Always), ..VmSetRequest::default() };
    daemon.call(daemon.client.set_vm("vm", &set)).unwrap();
    let vmm = daemon.vm("vm").vmm_pid.unwrap();
    kill(i32::try_from(vmm).unwrap());
    daemon.wait("vm", |vm| vm.state == VmState::Running && vm.vmm_pid.is_some_and(|pid| pid != vmm));
}

#[test]
fn a_restart_is_cancelled_while_the_guest_boots() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| ());
    daemon.environment.behave(&json!({ "never_ready": true }));
    let restart = daemon.call(daemon.client.restart_vm("vm", &VmStopRequest::default())).unwrap();
    daemon.follow_until(&restart, |operation| {
        operation.may_cancel && operation.finished_phases.iter().any(|it| it.stage == "wait for the guest")
    });
    daemon.wait("vm", |vm| vm.state == VmState::Starting);
    assert_eq!(cancel(&daemon, &restart).status, OperationStatus::Cancelled);
    daemon.wait("vm", |vm| !vm.state.is_alive());
}

#[test]
fn a_begin_whose_client_goes_is_done_and_is_what_its_key_stands_for() {
    let daemon = Daemon::new();
    let database = rusqlite::Connection::open(daemon.environment.data().join("banger.db")).unwrap();
    for number in 0..10 {
        let request = request(&format!("vm{number}"), |request| request.no_start = true);
        let key = format!("key-{number}");
        let body = serde_json::to_string(&request).unwrap();
        // As on a disk that is busy: nothing can be remembered.
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut client = UnixStream::connect(daemon.client.socket()).unwrap();
        let head = format!(
            "POST /v1/vms HTTP/1.1\r\nHost: banger\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all((head + &body).as_bytes()).unwrap();
        // Who comes later, and asks for nothing that is in the database, is answered: it has been read.
        daemon.call(daemon.client.vms()).unwrap();
        drop(client);
        daemon.call(daemon.client.vms()).unwrap();
        database.execute_batch("ROLLBACK").unwrap();
        let again = daemon.finish(daemon.client.with_key(&key).create_vm(&request));
        assert_eq!(again.status, OperationStatus::Succeeded, "{again:?}");
    }
    let all = daemon.call(daemon.client.operations()).unwrap();
    assert_eq!(all.iter().filter(|it| it.request.is_some()).count(), 10, "{all:?}");
}
