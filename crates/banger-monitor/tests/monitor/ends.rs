//! How guests end, as their kernels tell it on the console.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use banger_types::guest::ShutdownAction;
use banger_types::monitor::{
    EndReason, LaunchSpec, MonitorPhase, MonitorReply, MonitorRequest, SocketQuestion, SocketRequest, file,
};

use crate::support::{Vm, end, eventually, kill, launch};

/// How long the end of a guest may take to be known. On a busy machine it takes longer, but not because of a wait.
const LIMIT: Duration = Duration::from_secs(2);

/// Gives a guest its last commands, and returns how the VM has ended and how long that took.
fn end_of(commands: &str) -> (EndReason, Duration) {
    let mut vm = Vm::ready();
    let begin = Instant::now();
    let _stream = vm.command(commands);
    vm.await_phase(|phase| matches!(phase, MonitorPhase::Ended(_)));
    let took = begin.elapsed();
    (end(&vm.wait_for_end()).clone(), took)
}

#[test]
fn a_guest_that_powers_off_has_announced_it_though_its_agent_did_not() {
    let (reason, _) = end_of("say [   12.345678] reboot: Power down\nexit 0");
    assert_eq!((reason.code, reason.announced), (Some(0), Some(ShutdownAction::Poweroff)));
    assert_eq!((reason.killed, reason.message.as_str()), (false, "fake exited with code 0"));
}

#[test]
fn a_vmm_that_stays_after_its_guests_end_is_ended() {
    for (word, message) in [
        ("Power down", "the guest has powered off, so fake was ended"),
        ("System halted", "the guest has halted, so fake was ended"),
    ] {
        let (reason, took) = end_of(&format!("say [   12.345678] reboot: {word}\nstand"));
        assert_eq!((reason.signal, reason.announced), (Some(9), Some(ShutdownAction::Poweroff)));
        assert_eq!((reason.killed, reason.message.as_str()), (false, message));
        assert!(took < LIMIT, "{took:?}");
    }
}

#[test]
fn a_panic_is_a_failure_with_its_reason() {
    let panic = "say [   12.345678] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009";
    let end_line = "say [   12.345679] ---[ end Kernel panic - not syncing: Attempted to kill init! ]---";
    for last in ["exit 0", "stand"] {
        let (reason, took) = end_of(&format!("{panic}\n{end_line}\n{last}"));
        assert_eq!((reason.announced, reason.killed), (None, false));
        assert_eq!(
            reason.message,
            "the guest's kernel panicked: Attempted to kill init! exitcode=0x00000009"
        );
        assert!(took < LIMIT, "{took:?}");
    }
}

#[test]
fn a_panic_on_the_way_down_is_no_shutdown_and_no_reboot() {
    let panic = "say [   12.345678] Kernel panic - not syncing: Fatal exception";
    for action in ["poweroff", "reboot"] {
        let (reason, _) = end_of(&format!("announce {action}\n{panic}\nexit 0"));
        assert_eq!((reason.announced, reason.killed), (None, false));
        assert_eq!(reason.message, "the guest's kernel panicked: Fatal exception");
    }
}

#[test]
fn an_end_that_nobody_announced_is_none_of_these() {
    let (reason, _) = end_of("say reboot: Power down\nexit 0");
    assert_eq!((reason.code, reason.announced, reason.killed), (Some(0), None, false));
}

#[test]
fn last_words_of_a_guest_that_lives_are_nothing_but_text() {
    for word in ["reboot: System halted", "reboot: Restarting system", "Kernel panic - not syncing: inner"] {
        let mut vm = Vm::ready();
        // The console of a VM within the VM, say.
        let mut stream = vm.command(&format!("say [   12.345678] {word}"));
        eventually("the agent is asked for a sign of life", || {
            vm.read(file::SERIAL_LOG).contains("asked for statistics")
        });
        // The sign comes before this.
        stream.write(b"exit 3\n");
        let status = vm.wait_for_end();
        assert_eq!((end(&status).code, end(&status).announced), (Some(3), None));
        assert_eq!(end(&status).message, "fake exited with code 3");
    }
}

#[test]
fn a_guest_that_stands_still_is_not_dead_however_silent_it_is() {
    let socket = "vmm.sock";
    let ask = SocketRequest { socket: socket.into(), request: "stands it still?\n".to_owned() };
    let standing =
        SocketQuestion { ask, yes: vec!["\"still\":true".into()], no: vec!["\"still\":false".into()] };
    let spec = LaunchSpec { standing: Some(standing), ..launch() };
    let mut vm = Vm::start(&spec, "mute");
    let vmm = UnixListener::bind(vm.path(socket)).unwrap();
    vm.await_ready();
    let answer = |text: &str| {
        let (mut question, _) = vmm.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&question).read_line(&mut line).unwrap();
        assert_eq!(line, "stands it still?\n");
        question.write_all(text.as_bytes()).unwrap();
        question
    };
    let mut stream = vm.command("say [   12.345678] reboot: System halted");
    let mut first = answer("a greeting\n{\"still\": true }\n");
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    // It was not killed: it says more, and its VMM is asked again.
    stream.write(b"say [   13.345678] reboot: System halted\n");
    let _second = answer("{\"still\":\r\nfalse}");
    let status = vm.wait_for_end();
    assert_eq!(end(&status).announced, Some(ShutdownAction::Poweroff));
}

#[test]
fn a_vmm_that_is_stopped_is_not_dead() {
    let mut vm = Vm::start(&launch(), "mute");
    vm.await_ready();
    let mut stream = vm.command("say [   12.345678] reboot: System halted\nstop");
    eventually("the words count for nothing", || vm.read(file::MONITOR_LOG).contains("the VMM is stopped"));
    kill(vm.status.vmm_pid, rustix::process::Signal::CONT);
    stream.write(b"exit 3\n");
    assert_eq!(end(&vm.wait_for_end()).code, Some(3));
}

#[test]
fn what_a_guest_said_before_its_vmm_was_stopped_counts_when_that_goes_on() {
    let halted = "say [   12.345678] reboot: System halted\nstop";
    for (script, lives) in [("mute", false), ("", true)] {
        let mut vm = Vm::start(&launch(), script);
        vm.await_ready();
        let mut stream = vm.command(halted);
        eventually("the VMM is seen to be stopped", || {
            vm.read(file::MONITOR_LOG).contains("the VMM is stopped")
        });
        kill(vm.status.vmm_pid, rustix::process::Signal::CONT);
        if lives {
            eventually("the agent is asked for a sign of life", || {
                vm.read(file::SERIAL_LOG).contains("asked for statistics")
            });
            stream.write(b"exit 3\n");
        }
        let end = end(&vm.wait_for_end()).clone();
        let expected = if lives { (Some(3), None) } else { (None, Some(ShutdownAction::Poweroff)) };
        assert_eq!((end.code, end.announced), expected);
    }
}

#[test]
fn a_guest_without_an_agent_ends_too() {
    let mut vm = Vm::start(&crate::support::launch(), "future");
    vm.await_status(|status| status.guest.is_some());
    let _stream = vm.command("say [   12.345678] reboot: System halted\nstand");
    assert_eq!(end(&vm.wait_for_end()).announced, Some(ShutdownAction::Poweroff));
}

#[test]
fn the_boot_log_has_the_beginning_of_the_console() {
    let mut vm = Vm::ready();
    let _stream = vm.command("print 20000\nexit 0");
    vm.wait_for_end();
    let log = vm.read(file::BOOT_LOG);
    assert_eq!(log.len(), 256 << 10);
    assert!(log.contains("console line 0\n") && vm.read(file::SERIAL_LOG).starts_with(&log));
}

#[test]
fn a_kill_is_a_kill_whatever_the_guest_said() {
    let mut vm = Vm::ready();
    let _stream = vm.command("say [   12.345678] reboot: Restarting system\nstand");
    eventually("it is said", || vm.read(file::SERIAL_LOG).contains("Restarting"));
    assert_eq!(vm.ask(&MonitorRequest::Kill), MonitorReply::Done);
    let status = vm.wait_for_end();
    assert!(end(&status).killed);
    assert_eq!(end(&status).message, "killed on request");
}
