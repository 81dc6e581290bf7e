//! A guest that reboots by itself, and everything that stays as it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use banger_types::guest::{GuestRequest, ShutdownAction};
use banger_types::monitor::{
    Forward, InheritedDescriptor, LaunchSpec, MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus, file,
};
use rustix::process::Signal;

use crate::fake_vmm::ECHO;
use crate::support::{PATIENCE, Vm, dialed, end, ends, eventually, helper, kill, launch, pid};

const REBOOT: &str = "announce reboot\nexit 0";
const FORCED_REBOOT: &str = "say [   12.345678] reboot: Restarting system\nexit 0";
const POWEROFF: MonitorRequest = MonitorRequest::Guest(GuestRequest::Shutdown(ShutdownAction::Poweroff));

/// Reboots the guest, and waits until the next one is ready.
fn reboot(vm: &mut Vm, commands: &str) {
    let before = vm.status.clone();
    let _stream = vm.command(commands);
    vm.status = vm.await_status(|status| {
        assert!(!matches!(status.phase, MonitorPhase::Ended(_)), "{:?}", status.phase);
        status.phase == MonitorPhase::Ready && status.vmm_pid != before.vmm_pid
    });
    assert!(vm.status.started_at_ns > before.started_at_ns);
    assert_eq!(vm.status.monitor_pid, before.monitor_pid);
    assert!(ends(pid(before.vmm_pid)));
}

fn echo(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    socket
}

#[test]
fn everything_that_is_not_the_guests_stays() {
    let mut vm = Vm::ready();
    let forward = Forward { listen: vm.forward("127.0.0.1:0", ECHO), guest_port: ECHO };
    let mut watcher = vm.connect();
    assert!(matches!(watcher.ask(&MonitorRequest::Watch), MonitorReply::Status(_)));
    let mut client = vm.connect();
    let mut waiting = vm.connect();
    waiting.send(&MonitorRequest::Guest(GuestRequest::SetClock(0)));
    for commands in [REBOOT, FORCED_REBOOT] {
        let mut forwarded = echo(forward.listen.address);
        let mut stream = vm.stream(ECHO);
        reboot(&mut vm, commands);
        // What belonged to the old boot has ended.
        assert!(matches!(forwarded.read(&mut [0]), Ok(0) | Err(_)));
        assert!(stream.read_to_end().is_empty());
        // The rest is as it was.
        echo(forward.listen.address);
        assert_eq!(vm.status.forwards, std::slice::from_ref(&forward));
        assert!(matches!(client.ask(&MonitorRequest::Status), MonitorReply::Status(_)));
        loop {
            let status: MonitorStatus = watcher.read_line();
            if status.vmm_pid == vm.status.vmm_pid && status.phase == MonitorPhase::Ready {
                break;
            }
        }
        let written: MonitorStatus = serde_json::from_str(&vm.read(file::STATUS)).unwrap();
        assert_eq!(written.vmm_pid, vm.status.vmm_pid);
    }
    assert!(matches!(waiting.read_line(), MonitorReply::Failed(_)));
    assert_eq!(vm.ask(&MonitorRequest::Kill), MonitorReply::Done);
}

#[test]
fn a_vmm_that_does_not_reset_is_ended_and_started_again() {
    let mut vm = Vm::ready();
    reboot(&mut vm, "say [   12.345678] reboot: Restarting system\nstand");
}

#[test]
fn helpers_are_started_again_with_pairs_of_their_own() {
    let mut spec = launch();
    let mut talker = helper("echo $$ >> helpers; printf ping >&9; exec sleep 1000");
    talker.descriptors = vec![InheritedDescriptor { number: 9, pair: "net".to_owned() }];
    spec.helpers = vec![talker];
    spec.vmm.descriptors.push(InheritedDescriptor { number: 4, pair: "net".to_owned() });
    let mut vm = Vm::start(&spec, "");
    vm.await_ready();
    reboot(&mut vm, REBOOT);
    let mut stream = vm.command("pair");
    let mut word = String::new();
    std::io::BufRead::read_line(&mut stream.reader, &mut word).unwrap();
    assert_eq!(word, "ping\n");
    let helpers: Vec<u32> = vm.read("helpers").lines().map(|line| line.parse().unwrap()).collect();
    assert!(helpers.len() == 2 && ends(pid(helpers[0])));
    assert!(rustix::process::test_kill_process(pid(helpers[1])).is_ok());
}

#[test]
fn a_channel_that_is_dialed_is_dialed_again() {
    let mut vm = Vm::start(&dialed(), "dialed");
    vm.await_ready();
    reboot(&mut vm, REBOOT);
    let mut stream = vm.stream(ECHO);
    stream.write(b"again");
    stream.finish();
    assert_eq!(stream.read_to_end(), b"again");
}

#[test]
fn many_reboots_leave_nothing_behind() {
    let mut spec = launch();
    spec.helpers = vec![helper("exec sleep 1000")];
    let mut vm = Vm::start(&spec, "");
    vm.await_ready();
    reboot(&mut vm, REBOOT);
    let open = |vm: &Vm| std::fs::read_dir(format!("/proc/{}/fd", vm.monitor.id())).unwrap().count();
    let children = |vm: &Vm| {
        let id = vm.monitor.id();
        std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap().split_whitespace().count()
    };
    let before = open(&vm);
    for _ in 0..10 {
        reboot(&mut vm, REBOOT);
    }
    // Clients that have hung up may not have been noticed yet.
    eventually("everything of the old boots is closed", || open(&vm) <= before);
    assert_eq!(children(&vm), 2);
}

#[test]
fn logs_go_on_and_the_boot_log_begins_anew() {
    let mut vm = Vm::ready();
    reboot(&mut vm, "say first boot\nwarn\nannounce reboot\nexit 0");
    let _stream = vm.command("say second boot\nwarn\nexit 0");
    vm.wait_for_end();
    let serial = vm.read(file::SERIAL_LOG);
    assert!(serial.find("first boot").unwrap() < serial.find("second boot").unwrap());
    let boot = vm.read(file::BOOT_LOG);
    assert!(boot.contains("second boot") && !boot.contains("first boot"));
    assert_eq!(vm.read(file::ENGINE_LOG).matches("a warning of the VMM").count(), 2);
}

#[test]
fn a_guest_that_was_told_to_power_off_is_not_started_again() {
    let mut vm = Vm::start(&launch(), "contrary");
    vm.await_ready();
    assert!(matches!(vm.ask(&POWEROFF), MonitorReply::Guest(_)));
    let status = vm.wait_for_end();
    assert_eq!(end(&status).announced, Some(ShutdownAction::Reboot));
    assert_eq!(status.vmm_pid, vm.status.vmm_pid);
}

#[test]
fn a_guest_that_refused_to_power_off_may_reboot() {
    let mut vm = Vm::start(&launch(), "refuse");
    vm.await_ready();
    assert!(matches!(vm.ask(&POWEROFF), MonitorReply::Failed(_)));
    reboot(&mut vm, REBOOT);
}

#[test]
fn a_guest_that_was_told_to_reboot_does() {
    let vm = Vm::ready();
    let request = MonitorRequest::Guest(GuestRequest::Shutdown(ShutdownAction::Reboot));
    assert!(matches!(vm.ask(&request), MonitorReply::Guest(_)));
    vm.await_status(|status| status.phase == MonitorPhase::Ready && status.vmm_pid != vm.status.vmm_pid);
}

#[test]
fn a_host_that_goes_down_starts_nothing_again() {
    let mut vm = Vm::start(&launch(), "contrary");
    vm.await_ready();
    kill(vm.monitor.id(), Signal::TERM);
    let status = vm.wait_for_end();
    assert!(end(&status).host_shutdown);
    assert_eq!(end(&status).announced, Some(ShutdownAction::Reboot));
    assert_eq!(status.vmm_pid, vm.status.vmm_pid);
}

/// Starts a VM whose helper takes its time, and lets its guest reboot: the VMM is gone, and not started yet.
fn between_two_boots(spec: &mut LaunchSpec) -> Vm {
    spec.helpers = vec![helper("trap '' TERM; exec sleep 1000")];
    let vm = Vm::start(spec, "");
    vm.await_ready();
    let _stream = vm.command(REBOOT);
    assert!(ends(pid(vm.status.vmm_pid)));
    vm
}

#[test]
fn a_kill_between_two_boots_ends_the_vm() {
    let mut vm = between_two_boots(&mut launch());
    assert_eq!(vm.ask(&MonitorRequest::Kill), MonitorReply::Done);
    let status = vm.wait_for_end();
    assert!(end(&status).killed);
    assert_eq!(end(&status).message, "killed on request");
}

#[test]
fn sigterm_between_two_boots_ends_the_vm() {
    let mut vm = between_two_boots(&mut launch());
    kill(vm.monitor.id(), Signal::TERM);
    assert!(end(&vm.wait_for_end()).host_shutdown);
}

#[test]
fn a_reboot_that_fails_is_a_failure_that_says_why() {
    let programs = tempfile::tempdir().unwrap();
    let mut spec = launch();
    let vmm = programs.path().join("vmm");
    std::fs::copy(&spec.vmm.path, &vmm).unwrap();
    spec.vmm.path.clone_from(&vmm);
    let mut vm = Vm::start(&spec, "");
    vm.await_ready();
    std::fs::remove_file(&vmm).unwrap();
    let _stream = vm.command(REBOOT);
    let status = vm.wait_for_end();
    assert_eq!((end(&status).announced, end(&status).killed), (None, false));
    assert_eq!(
        end(&status).message,
        format!(
            "the guest rebooted, but cannot be started again: cannot start 'fake' ({}): \
             No such file or directory (os error 2)",
            vmm.display()
        )
    );
}

#[test]
fn a_guest_that_reboots_before_it_is_ready_is_written_down_as_the_next() {
    // It never will be.
    let vm = Vm::start(&launch(), "future");
    vm.await_status(|status| status.guest.is_some());
    let _stream = vm.command(FORCED_REBOOT);
    let next = vm.await_status(|status| status.guest.is_some() && status.vmm_pid != vm.status.vmm_pid);
    assert_eq!(next.phase, MonitorPhase::Booting);
    let written: MonitorStatus = serde_json::from_str(&vm.read(file::STATUS)).unwrap();
    assert_eq!(written.vmm_pid, next.vmm_pid);
}
