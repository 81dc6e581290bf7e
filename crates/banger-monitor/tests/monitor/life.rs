//! From the start to the end.

use banger_types::guest::{GuestReply, GuestRequest, ShutdownAction};
use banger_types::monitor::{
    InheritedDescriptor, MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus, file,
};
use rustix::process::Signal;

use crate::support::{Vm, end, ends, eventually, helper, kill, launch, pid, spawn};

/// Returns the process id that a helper writes down when it runs.
fn helper_id(vm: &Vm) -> u32 {
    let id = || std::fs::read_to_string(vm.path("helper.pid")).ok().filter(|id| id.ends_with('\n'));
    eventually("the helper runs", || id().is_some());
    id().unwrap().trim().parse().unwrap()
}

#[test]
fn a_guest_becomes_ready() {
    let vm = Vm::start(&launch(), "");
    assert_eq!(vm.status.phase, MonitorPhase::Booting);
    assert_eq!(vm.status.monitor_pid, vm.monitor.id());
    let status = vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    assert_eq!(status.guest.unwrap().kernel_release, "6.1");
    eventually("the file says so, too", || {
        let status: MonitorStatus = serde_json::from_str(&vm.read(file::STATUS)).unwrap();
        status.phase == MonitorPhase::Ready
    });
}

#[test]
fn the_exit_code_is_kept() {
    let mut vm = Vm::start(&launch(), "exit 3");
    let status = vm.wait_for_end();
    assert_eq!((end(&status).code, end(&status).signal, end(&status).killed), (Some(3), None, false));
    assert_eq!(end(&status).message, "fake exited with code 3");
    assert!(!vm.path(file::SOCKET).exists());
}

#[test]
fn the_signal_is_kept() {
    let mut vm = Vm::ready();
    let _stream = vm.command("abort");
    let status = vm.wait_for_end();
    assert_eq!((end(&status).code, end(&status).signal), (None, Some(6)));
    assert_eq!(end(&status).message, "fake was killed by signal 6");
}

#[test]
fn a_kill_is_answered_when_it_is_done() {
    let mut vm = Vm::ready();
    assert_eq!(vm.ask(&MonitorRequest::Kill), MonitorReply::Done);
    assert!(ends(pid(vm.status.vmm_pid)));
    let status = vm.wait_for_end();
    assert!(end(&status).killed);
    assert_eq!(end(&status).signal, Some(9));
    assert_eq!(end(&status).message, "killed on request");
}

#[test]
fn a_kill_needs_no_client_to_wait_for_it() {
    let mut vm = Vm::ready();
    vm.connect().send(&MonitorRequest::Kill);
    assert!(end(&vm.wait_for_end()).killed);
}

#[test]
fn watchers_see_everything_to_the_end() {
    let vm = Vm::start(&launch(), "");
    let mut watcher = vm.connect();
    let MonitorReply::Status(first) = watcher.ask(&MonitorRequest::Watch) else { panic!() };
    let mut phases = vec![first.phase];
    let shutdown = MonitorRequest::Guest(GuestRequest::Shutdown(ShutdownAction::Poweroff));
    loop {
        if phases.last() == Some(&MonitorPhase::Ready) && phases.len() < 10 {
            let reply = vm.ask(&shutdown);
            assert_eq!(
                reply,
                MonitorReply::Guest(GuestReply::Done),
                "{phases:?} {}",
                vm.read(file::MONITOR_LOG)
            );
        }
        let status: MonitorStatus = watcher.read_line();
        if phases.last() != Some(&status.phase) {
            phases.push(status.phase.clone());
        }
        if let MonitorPhase::Ended(reason) = status.phase {
            assert_eq!((reason.code, reason.announced), (Some(0), Some(ShutdownAction::Poweroff)));
            break;
        }
    }
    assert!(phases.contains(&MonitorPhase::Stopping(ShutdownAction::Poweroff)), "{phases:?}");
    assert!(watcher.read_to_end().is_empty());
}

#[test]
fn sigterm_asks_the_guest_to_power_off() {
    let mut vm = Vm::ready();
    kill(vm.monitor.id(), Signal::INT);
    kill(vm.monitor.id(), Signal::HUP);
    kill(vm.monitor.id(), Signal::TERM);
    let status = vm.wait_for_end();
    assert_eq!((end(&status).code, end(&status).announced), (Some(0), Some(ShutdownAction::Poweroff)));
    assert!(end(&status).host_shutdown);
}

#[test]
fn a_host_that_tells_every_process_to_end_lets_the_guest_go_down_in_order() {
    let mut spec = launch();
    spec.helpers = vec![helper("echo $$ > helper.pid; exec sleep 1000")];
    let mut vm = Vm::start(&spec, "");
    let vmm = vm.await_ready().vmm_pid;
    for process in [helper_id(&vm), vmm, vm.monitor.id()] {
        kill(process, Signal::TERM);
    }
    let status = vm.wait_for_end();
    assert_eq!((end(&status).code, end(&status).announced), (Some(0), Some(ShutdownAction::Poweroff)));
    assert!(end(&status).host_shutdown);
    assert_eq!(end(&status).message, "fake exited with code 0");
}

#[test]
fn a_guest_that_does_not_go_down_with_the_host_is_killed() {
    let mut vm = Vm::start_with_limit(&launch(), "ignore", "100");
    vm.await_ready();
    kill(vm.monitor.id(), Signal::TERM);
    let status = vm.wait_for_end();
    let reason = end(&status);
    assert!(reason.host_shutdown && !reason.killed);
    assert_eq!((reason.signal, reason.announced), (Some(9), None));
    assert!(reason.message.starts_with("the host goes down and the guest did not power off"), "{reason:?}");
}

#[test]
fn a_guest_may_go_down_with_the_host_though_its_helpers_have_ended() {
    let mut spec = launch();
    spec.helpers = vec![helper("echo $$ > helper.pid; exec sleep 1000")];
    let mut vm = Vm::start(&spec, "ignore");
    vm.await_ready();
    kill(vm.monitor.id(), Signal::TERM);
    eventually("the monitor knows", || vm.read(file::MONITOR_LOG).contains("SIGTERM"));
    kill(helper_id(&vm), Signal::KILL);
    eventually("the helper is gone", || vm.read(file::MONITOR_LOG).contains("helper was killed by signal 9"));
    let _stream = vm.command("announce poweroff\nexit 0");
    let status = vm.wait_for_end();
    assert_eq!((end(&status).code, end(&status).announced), (Some(0), Some(ShutdownAction::Poweroff)));
    assert_eq!(end(&status).message, "fake exited with code 0");
}

#[test]
fn a_helper_that_ends_because_the_vmm_did_is_not_blamed() {
    let mut spec = launch();
    let mut talker = helper("exec cat <&9");
    talker.descriptors = vec![InheritedDescriptor { number: 9, pair: "net".to_owned() }];
    spec.helpers = vec![talker];
    spec.vmm.descriptors.push(InheritedDescriptor { number: 4, pair: "net".to_owned() });
    for _ in 0..10 {
        let mut vm = Vm::start(&spec, "");
        vm.await_ready();
        let _stream = vm.command("abort");
        assert_eq!(end(&vm.wait_for_end()).message, "fake was killed by signal 6");
    }
}

#[test]
fn the_vmm_does_not_outlive_a_helper() {
    let mut spec = launch();
    spec.helpers = vec![helper("exec sleep 1000"), helper("echo helper says this >&2; read line; exit 7")];
    // Its standard input is empty, so it ends at once; the VMM may not even be ready.
    let mut vm = Vm::start(&spec, "");
    let status = vm.wait_for_end();
    assert_eq!(end(&status).message, "helper exited with code 7, so fake was killed");
    assert!(!end(&status).killed);
    assert!(vm.read(file::ENGINE_LOG).contains("helper says this"));
    assert!(ends(pid(vm.status.vmm_pid)));
}

#[test]
fn helpers_end_after_the_vmm_even_stubborn_ones() {
    let mut spec = launch();
    spec.helpers = vec![helper("trap '' TERM; echo $$ > helper.pid; exec sleep 1000")];
    let mut vm = Vm::start(&spec, "");
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    let id = helper_id(&vm);
    let _stream = vm.command("exit 0");
    assert_eq!(end(&vm.wait_for_end()).code, Some(0));
    assert!(ends(pid(id)));
}

#[test]
fn a_monitor_killed_by_sigkill_takes_the_vmm_with_it() {
    let mut spec = launch();
    spec.helpers = vec![helper("echo $$ > helper.pid; exec sleep 1000")];
    let mut vm = Vm::start(&spec, "");
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    let id = helper_id(&vm);
    kill(vm.monitor.id(), Signal::KILL);
    assert!(!vm.wait().success());
    assert!(ends(pid(vm.status.vmm_pid)) && ends(pid(id)));
    // The directory can be used again, in spite of the socket that was left.
    assert!(vm.path(file::SOCKET).exists());
    let (monitor, status) = spawn(vm.directory.path());
    let before = std::mem::replace(&mut vm.monitor, monitor);
    drop(before);
    assert!(status.is_ok());
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
}

#[test]
fn the_console_is_kept_and_rotated() {
    let mut spec = launch();
    spec.log_limit = 100_000;
    let mut vm = Vm::start(&spec, "");
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    let _stream = vm.command("print 20000\nwarn\nexit 0");
    vm.wait_for_end();
    let (older, newer) = (vm.read("serial.log.1"), vm.read(file::SERIAL_LOG));
    assert!(older.len() <= 100_000 && newer.len() <= 100_000 && older.len() > 50_000);
    // Nothing is missing between the two, and the last line is there.
    let lines: Vec<&str> = older.lines().chain(newer.lines()).collect();
    let first: usize = lines[0].rsplit(' ').next().unwrap().parse().unwrap();
    for (offset, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("console line {}", first + offset));
    }
    assert_eq!(first + lines.len(), 20_000);
    assert!(vm.read(file::ENGINE_LOG).contains("a warning of the VMM"));
}

#[test]
fn a_monitor_that_is_on_its_way_out_is_waited_for() {
    let mut vm = Vm::ready();
    // Somebody who does not read what came for them last: they get a moment.
    let _stalled = vm.command("send 262144\nexit 0");
    vm.await_phase(|phase| matches!(phase, MonitorPhase::Ended(_)));
    let (monitor, status) = spawn(vm.directory.path());
    let mut before = std::mem::replace(&mut vm.monitor, monitor);
    assert_eq!(status.unwrap().phase, MonitorPhase::Booting);
    assert!(before.wait().unwrap().success());
    vm.await_ready();
}

#[test]
fn a_second_monitor_is_refused() {
    let vm = Vm::ready();
    let (mut second, result) = spawn(vm.directory.path());
    assert!(result.unwrap_err().starts_with("another monitor works in"));
    assert!(!second.wait().unwrap().success());
    assert!(matches!(vm.ask(&MonitorRequest::Status), MonitorReply::Status(_)));
}

#[test]
fn what_cannot_be_started_is_said() {
    let mut spec = launch();
    spec.vmm.path = "/nowhere/qemu".into();
    spec.helpers = vec![helper("echo $$ > helper.pid; exec sleep 1000")];
    let directory = crate::support::directory(&spec, "");
    let (mut monitor, result) = spawn(directory.path());
    assert_eq!(
        result.unwrap_err(),
        "cannot start 'fake' (/nowhere/qemu): No such file or directory (os error 2)"
    );
    assert!(!monitor.wait().unwrap().success());

    spec.vmm.path = "qemu".into();
    let directory = crate::support::directory(&spec, "");
    let (mut monitor, result) = spawn(directory.path());
    assert!(result.unwrap_err().contains("not absolute"));
    assert!(!monitor.wait().unwrap().success());

    let mut spec = launch();
    spec.vmm.descriptors[0].pair = "other".to_owned();
    let directory = crate::support::directory(&spec, "");
    let (mut monitor, result) = spawn(directory.path());
    assert_eq!(result.unwrap_err(), "the pair 'control' has 1 users, not two");
    assert!(!monitor.wait().unwrap().success());
}
