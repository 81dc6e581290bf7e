//! Two users at once, who want opposite things of one VM: each gets a defined answer, and the end is true.

use banger_api::ClientError;
use banger_testkit::is_full_run;
use banger_types::ErrorKind;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::vm::{VmState, VmStopRequest};

use crate::support::{Daemon, request};

/// How often each pair is tried.
fn rounds() -> usize {
    if is_full_run() { 1000 } else { 100 }
}

/// Fails unless this is an answer that a user can make sense of.
fn assert_defined(answer: &Result<Operation, ClientError>) {
    match answer {
        Ok(_) => {}
        Err(ClientError::Api(error)) => {
            assert!(matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound), "{error:?}");
            assert!(!error.what.is_empty());
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Follows an operation to its end.
async fn end_of(daemon: &Daemon, operation: &Operation) -> Operation {
    let mut lines = daemon.client.watch_operation(operation.id.as_str()).await.unwrap();
    let mut last = operation.clone();
    while let Some(operation) = lines.next().await.unwrap() {
        last = operation;
    }
    last
}

#[test]
fn start_and_stop_at_once_end_in_what_the_later_one_wanted_or_nothing() {
    let daemon = Daemon::new();
    daemon.create("torn", |_| ());
    let stop = VmStopRequest { timeout_ms: 20_000, ..VmStopRequest::default() };
    for round in 0..rounds() {
        let (started, stopped) = daemon.call(async {
            tokio::join!(daemon.client.start_vm("torn"), daemon.client.stop_vm("torn", &stop))
        });
        assert_defined(&started);
        assert_defined(&stopped);
        let ends = daemon.call(async {
            let mut ends = Vec::new();
            for operation in [&started, &stopped].into_iter().flatten() {
                ends.push(end_of(&daemon, operation).await);
            }
            ends
        });
        assert!(ends.iter().all(|end| end.status != OperationStatus::Failed), "round {round}: {ends:?}");
        let vm = daemon.vm("torn");
        // It runs or it does not, and its processes are those of that state.
        assert!(matches!(vm.state, VmState::Running | VmState::Stopped), "round {round}: {vm:?}");
        assert_eq!(vm.vmm_pid.is_some(), vm.state == VmState::Running, "round {round}: {vm:?}");
        let stop_won = ends.last().is_some_and(|end| {
            stopped.as_ref().is_ok_and(|stopped| stopped.id == end.id)
                && end.status == OperationStatus::Succeeded
        });
        if stop_won {
            assert_eq!(vm.state, VmState::Stopped, "round {round}");
        }
    }
}

#[test]
fn pause_and_resume_and_kill_at_once_leave_a_true_state() {
    let daemon = Daemon::new();
    daemon.create("torn", |_| ());
    for round in 0..rounds() / 2 {
        let answers = daemon.call(async {
            let (pause, resume, kill) = tokio::join!(
                daemon.client.pause_vm("torn"),
                daemon.client.resume_vm("torn"),
                daemon.client.kill_vm("torn")
            );
            let answers = [pause, resume, kill];
            for operation in answers.iter().flatten() {
                end_of(&daemon, operation).await;
            }
            answers
        });
        answers.iter().for_each(assert_defined);
        let vm = daemon.vm("torn");
        assert!(!vm.state.is_alive(), "round {round}: {vm:?}");
        daemon.succeed(daemon.client.start_vm("torn"));
    }
}

#[test]
fn a_deletion_and_whatever_comes_with_it_end_in_nothing() {
    let daemon = Daemon::new();
    for round in 0..rounds() / 4 {
        daemon.create("short", |_| ());
        let rename = banger_types::vm::VmRenameRequest { name: "long".parse().unwrap() };
        let (deleted, connected, renamed) = daemon.call(async {
            tokio::join!(
                daemon.client.delete_vm("short", true),
                daemon.client.session("short"),
                daemon.client.rename_vm("short", &rename)
            )
        });
        assert_defined(&deleted);
        if let Err(error) = connected {
            assert!(
                matches!(&error, ClientError::Api(error) if error.kind != ErrorKind::Failed),
                "{error:?}"
            );
        }
        // Whichever came first: if it was renamed before, the deletion was of the old name, or of this very VM.
        match (&deleted, &renamed) {
            (Ok(operation), _) => {
                let end = daemon.call(end_of(&daemon, operation));
                assert_eq!(end.status, OperationStatus::Succeeded, "round {round}: {end:?}, {renamed:?}");
            }
            (Err(_), Ok(_)) => daemon.succeed(daemon.client.delete_vm("long", true)),
            (Err(error), Err(other)) => panic!("round {round}: {error:?} {other:?}"),
        }
        let left = daemon.call(daemon.client.vms()).unwrap();
        assert!(left.is_empty(), "round {round}: {left:?}, {renamed:?}");
        assert_eq!(std::fs::read_dir(daemon.environment.data().join("vms")).unwrap().count(), 0);
    }
}

#[test]
fn of_two_creates_of_one_name_one_gets_it() {
    let daemon = Daemon::new();
    for round in 0..rounds() / 4 {
        let wanted = request("name", |request| request.no_start = true);
        let (one, other) = daemon
            .call(async { tokio::join!(daemon.client.create_vm(&wanted), daemon.client.create_vm(&wanted)) });
        assert_defined(&one);
        assert_defined(&other);
        assert!(one.is_ok() != other.is_ok(), "round {round}: {one:?} {other:?}");
        let begun = one.or(other).unwrap();
        let end = daemon.call(end_of(&daemon, &begun));
        assert_eq!(end.status, OperationStatus::Succeeded, "round {round}: {end:?}");
        daemon.succeed(daemon.client.delete_vm("name", false));
    }
}
