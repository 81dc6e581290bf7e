//! Every way in which a VM's processes can end, and what is said of it.

use banger_testkit::{Environment, pidfd, wait_for_end};
use banger_types::ErrorKind;
use banger_types::operation::OperationStatus;
use banger_types::vm::{RestartPolicy, VmState, VmStopRequest};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Daemon, assert_says, kill, request, signal};

#[test]
fn a_killed_vmm_a_killed_monitor_and_both_are_said_at_once() {
    let daemon = Daemon::new();
    daemon.create("vmm", |_| ());
    kill(daemon.vmm_pid("vmm"));
    let vm = daemon.wait_for("vmm", VmState::Failed);
    assert_eq!(vm.reason.as_deref(), Some("qemu was killed by signal 9"));

    daemon.create("monitor", |_| ());
    let vmm = banger_testkit::pidfd(daemon.vmm_pid("monitor"));
    kill(daemon.monitor_pid("monitor"));
    let vm = daemon.wait_for("monitor", VmState::Failed);
    assert_eq!(vm.reason.as_deref(), Some("its monitor ended unexpectedly"));
    assert!(wait_for_end(&vmm), "a VMM outlives its monitor");

    daemon.create("both", |_| ());
    let (monitor, vmm) = (daemon.monitor_pid("both"), daemon.vmm_pid("both"));
    kill(monitor);
    kill_if_there(vmm);
    daemon.wait_for("both", VmState::Failed);
    for name in ["vmm", "monitor", "both"] {
        daemon.succeed(daemon.client.start_vm(name));
        assert_eq!(daemon.vm(name).state, VmState::Running);
    }
}

/// It dies with its monitor, perhaps before this.
fn kill_if_there(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).ok();
}

#[test]
fn a_guest_that_does_not_answer_can_be_stopped_killed_and_deleted() {
    let daemon = Daemon::new();
    daemon.create("frozen", |_| ());
    // Nobody in there answers any more, and the VMM does not either.
    signal(daemon.vmm_pid("frozen"), Signal::STOP);
    let stop = VmStopRequest { timeout_ms: 300, ..VmStopRequest::default() };
    daemon.succeed(daemon.client.stop_vm("frozen", &stop));
    assert_eq!(daemon.vm("frozen").state, VmState::Stopped);

    daemon.succeed(daemon.client.start_vm("frozen"));
    signal(daemon.vmm_pid("frozen"), Signal::STOP);
    // A stop that would wait for a minute gives way to a kill, and that to nothing.
    let patient = VmStopRequest { timeout_ms: 60_000, ..VmStopRequest::default() };
    let stopping = daemon.call(daemon.client.stop_vm("frozen", &patient)).unwrap();
    daemon.succeed(daemon.client.kill_vm("frozen"));
    let stopped = daemon.call(daemon.client.operation(stopping.id.as_str())).unwrap();
    assert_eq!(stopped.status, OperationStatus::Cancelled, "{stopped:?}");

    daemon.succeed(daemon.client.start_vm("frozen"));
    signal(daemon.vmm_pid("frozen"), Signal::STOP);
    daemon.succeed(daemon.client.delete_vm("frozen", true));
    assert_says(&daemon.refused(daemon.client.vm("frozen")), ErrorKind::NotFound, "frozen");
}

#[test]
fn a_stop_goes_on_by_its_own_terms_after_a_crash() {
    let daemon = Daemon::new();
    daemon.environment.behave(&json!({ "ignore_shutdown": true }));
    daemon.create("deaf", |_| ());
    let stop = VmStopRequest { timeout_ms: 1500, ..VmStopRequest::default() };
    let begun = daemon.call(daemon.client.stop_vm("deaf", &stop)).unwrap();
    assert_eq!(begun.stop, Some(stop));
    daemon.reach(&begun, "wait for the guest");
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    daemon.environment.succeed(&["op", "watch", begun.id.as_str()]);
    assert_eq!(daemon.vm("deaf").state, VmState::Stopped);
    let log = daemon.environment.data().join(format!("operations/{}.log", begun.id));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("the guest took longer than 1500 ms"), "{log}");
}

#[test]
fn a_monitor_that_does_not_answer_keeps_nobody_from_anything() {
    let daemon = Daemon::new();
    daemon.create("mute", |_| ());
    daemon.create("other", |_| ());
    let monitor = daemon.monitor_pid("mute");
    signal(monitor, Signal::STOP);
    daemon.environment.crash_daemon();
    // The next daemon starts all the same, and says what it knows.
    daemon.environment.succeed(&["daemon", "start"]);
    let vm = daemon.wait("mute", |vm| vm.reason.is_some());
    assert_eq!(vm.state, VmState::Running, "{vm:?}\n{}", daemon.environment.last_words());
    assert!(vm.reason.unwrap().contains("does not answer"));
    assert_eq!(daemon.vm("other").state, VmState::Running);
    // It is found again when it goes on.
    signal(monitor, Signal::CONT);
    let vm = daemon.wait("mute", |vm| vm.reason.is_none());
    assert_eq!((vm.state, vm.vmm_pid.is_some()), (VmState::Running, true));

    // And one that never does is ended itself.
    let process = banger_testkit::pidfd(monitor);
    signal(monitor, Signal::STOP);
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    daemon.succeed(daemon.client.delete_vm("mute", true));
    assert!(wait_for_end(&process));
}

#[test]
fn a_monitor_that_does_not_answer_is_not_waited_for_by_who_asks_it_for_a_forward() {
    let daemon = Daemon::new();
    daemon.create("held", |_| ());
    let monitor = daemon.monitor_pid("held");
    let process = banger_testkit::pidfd(monitor);
    signal(monitor, Signal::STOP);
    let forward = banger_types::monitor::Forward { listen: "127.0.0.1:0".parse().unwrap(), guest_port: 80 };
    let error = daemon.refused(daemon.client.add_forward("held", &forward));
    assert_says(&error, ErrorKind::Conflict, "does not answer");
    daemon.succeed(daemon.client.delete_vm("held", true));
    assert!(wait_for_end(&process));
}

#[test]
fn a_guest_that_reboots_and_does_not_come_up_has_failed() {
    let environment = Environment::with_fake_vmm();
    crate::boots::limit_boots(&environment, "2");
    let daemon = Daemon::of(environment);
    daemon.create("reboots", |_| ());
    daemon.environment.behave(&json!({ "never_ready": true }));
    daemon.guest("reboots", "reboot");
    let vm = daemon.wait_for("reboots", VmState::Failed);
    assert_eq!(vm.reason.as_deref(), Some("the guest did not become ready within 2 s"));
    daemon.environment.behave(&json!({}));
    daemon.succeed(daemon.client.start_vm("reboots"));
}

#[test]
fn a_guest_that_is_never_ready_can_be_cancelled_and_nothing_is_left() {
    let daemon = Daemon::new();
    daemon.environment.behave(&json!({ "never_ready": true }));
    let operation = daemon.call(daemon.client.create_vm(&request("slow", |_| ()))).unwrap();
    daemon.reach(&operation, "boot the guest");
    daemon.call(daemon.client.cancel_operation(operation.id.as_str())).unwrap();
    let ended = daemon.finish(daemon.client.operation(operation.id.as_str()));
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    assert_says(&daemon.refused(daemon.client.vm("slow")), ErrorKind::NotFound, "slow");
    assert_eq!(std::fs::read_dir(daemon.environment.data().join("vms")).unwrap().count(), 0);
}

#[test]
fn policies_start_what_has_ended_and_leave_what_was_stopped() {
    let daemon = Daemon::new();
    daemon.create("never", |_| ());
    daemon.create("failure", |request| request.restart = RestartPolicy::OnFailure);
    daemon.create("always", |request| request.restart = RestartPolicy::Always);
    let before = ["never", "failure", "always"].map(|name| daemon.vmm_pid(name));

    // A crash: all but the first come back, with another VMM.
    for pid in before {
        kill(pid);
    }
    daemon.wait_for("never", VmState::Failed);
    for (name, before) in [("failure", before[1]), ("always", before[2])] {
        let vm = daemon.wait(name, |vm| {
            vm.state == VmState::Running
                && vm.vmm_pid.is_some_and(|pid| i32::try_from(pid).unwrap() != before)
        });
        assert_eq!(vm.restart_at, None);
    }

    // A guest that powers off: only the last comes back.
    daemon.guest("failure", "poweroff");
    daemon.wait_for("failure", VmState::Stopped);
    let before = daemon.vmm_pid("always");
    daemon.guest("always", "poweroff");
    daemon.wait("always", |vm| vm.restart_at.is_some());
    daemon.wait("always", |vm| {
        vm.state == VmState::Running && vm.vmm_pid.is_some_and(|pid| i32::try_from(pid).unwrap() != before)
    });

    // A user's stop is a user's stop, now and for the next daemon.
    daemon.succeed(daemon.client.stop_vm("always", &VmStopRequest::default()));
    assert_eq!((daemon.vm("always").state, daemon.vm("always").restart_at), (VmState::Stopped, None));
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    assert_eq!(daemon.vm("always").state, VmState::Stopped);
}

#[test]
fn a_waiting_restart_can_be_called_off() {
    let daemon = Daemon::new();
    daemon.create("weak", |request| request.restart = RestartPolicy::OnFailure);
    // From now on each boot fails, and each pause is twice as long.
    daemon.environment.behave(&json!({ "exit_at_boot": 1 }));
    kill(daemon.vmm_pid("weak"));
    let first = daemon.wait("weak", |vm| vm.restart_at.is_some());
    let second = daemon.wait("weak", |vm| {
        vm.restart_at.is_some_and(|at| Some(at) > first.restart_at) && vm.generation > first.generation
    });
    assert_eq!(second.state, VmState::Failed);
    daemon.succeed(daemon.client.stop_vm("weak", &VmStopRequest::default()));
    assert_eq!(daemon.vm("weak").restart_at, None);
    daemon.environment.behave(&json!({}));
    daemon.succeed(daemon.client.start_vm("weak"));
}

#[test]
fn what_went_down_in_order_with_its_host_runs_again_by_its_policy() {
    let daemon = Daemon::new();
    let policies = [RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always];
    let names = ["no", "failure", "always"];
    for (name, policy) in names.into_iter().zip(policies) {
        daemon.create(name, |request| request.restart = policy);
    }
    let pids = names.map(|name| daemon.vmm_pid(name));
    // The host goes down: its init ends the daemon, and asks every monitor.
    let monitors = names.map(|name| pidfd(daemon.monitor_pid(name)));
    daemon.environment.succeed(&["daemon", "stop"]);
    for monitor in &monitors {
        rustix::process::pidfd_send_signal(monitor, Signal::TERM).unwrap();
    }
    for (monitor, name) in monitors.iter().zip(names) {
        assert!(wait_for_end(monitor), "{name}");
    }
    daemon.environment.succeed(&["daemon", "start"]);
    let vm = daemon.vm("no");
    assert_eq!(vm.state, VmState::Stopped);
    assert_eq!(vm.reason.as_deref(), Some("the host was going down"));
    for (name, before) in [("failure", pids[1]), ("always", pids[2])] {
        let vm = daemon.wait_for(name, VmState::Running);
        assert_ne!(vm.vmm_pid.map(i64::from), Some(i64::from(before)));
    }
}

#[test]
fn what_ran_when_the_host_went_down_runs_again() {
    let daemon = Daemon::new();
    daemon.create("plain", |_| ());
    daemon.create("stubborn", |request| request.restart = RestartPolicy::OnFailure);
    // A host that loses power: everything is gone at once, and what the monitors wrote is from another boot.
    let directories = ["plain", "stubborn"].map(|name| daemon.vm(name).directory);
    let monitors = ["plain", "stubborn"].map(|name| daemon.monitor_pid(name));
    daemon.environment.crash_daemon();
    for monitor in monitors {
        let (_, process) = kill(monitor);
        assert!(wait_for_end(&process));
    }
    for directory in &directories {
        let path = directory.join("status.json");
        let mut status: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        status["host_boot_id"] = json!("00000000-0000-0000-0000-000000000000");
        std::fs::write(&path, status.to_string()).unwrap();
    }
    daemon.environment.succeed(&["daemon", "start"]);
    let plain = daemon.vm("plain");
    assert_eq!(plain.state, VmState::Failed);
    assert_eq!(plain.reason.as_deref(), Some("the host went down while it ran"));
    daemon.wait_for("stubborn", VmState::Running);
}
