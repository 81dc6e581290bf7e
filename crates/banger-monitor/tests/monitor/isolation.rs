//! Who may do what, and what programs are given.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use banger_testkit::not_run;
use banger_types::monitor::{InheritedDescriptor, MonitorPhase, MonitorReply, MonitorRequest, file};
use rustix::fs::{Mode, OFlags};

use crate::support::{Vm, helper, launch};

#[test]
fn programs_get_their_descriptors_and_nothing_else() {
    // Open in the spawner, and inherited by the monitor.
    let leak = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
    assert!(leak.as_fd().try_clone_to_owned().is_ok());
    let mut spec = launch();
    let mut talker = helper("printf ping >&9; exec sleep 1000");
    talker.descriptors = vec![InheritedDescriptor { number: 9, pair: "net".to_owned() }];
    spec.helpers = vec![talker];
    spec.vmm.descriptors.push(InheritedDescriptor { number: 4, pair: "net".to_owned() });
    let vm = Vm::start(&spec, "");
    vm.await_phase(|phase| *phase == MonitorPhase::Ready);
    let description: serde_json::Value = vm.command("describe").read_line();
    assert_eq!(description["descriptors"], serde_json::json!([0, 1, 2, 3, 4]));
    assert_eq!(description["environment"], serde_json::json!(["PATH"]));
    // SIGTERM alone, which is the monitor's to heed: bit 14 (proc_pid_status(5)).
    assert_eq!(description["blocked"], "0000000000004000");
    // A file's privileges count for nothing (no_new_privs, prctl(2)): they would undo that it ends with its monitor.
    assert_eq!(description["no_new_privileges"], "1");
    // The way to the console's input, and not the monitor's own.
    assert!(description["stdin"].as_str().unwrap().starts_with("pipe:"), "{description}");
    let directory = std::fs::canonicalize(vm.directory.path()).unwrap();
    assert_eq!(description["directory"], directory.to_str().unwrap());
    let mut stream = vm.command("pair");
    let mut word = String::new();
    std::io::BufRead::read_line(&mut stream.reader, &mut word).unwrap();
    assert_eq!(word, "ping\n");
}

#[test]
fn files_are_private() {
    let vm = Vm::ready();
    for name in [
        file::SOCKET,
        file::STATUS,
        file::SERIAL_LOG,
        file::BOOT_LOG,
        file::ENGINE_LOG,
        file::MONITOR_LOG,
        file::LOCK,
    ] {
        let mode = std::fs::metadata(vm.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[test]
fn another_user_is_turned_away() {
    if !rustix::process::geteuid().is_root() {
        not_run("another_user_is_turned_away", "only root can become somebody else");
        return;
    }
    let vm = Vm::ready();
    // Even when the file system would let them.
    std::fs::set_permissions(vm.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(vm.path(file::SOCKET), PermissionsExt::from_mode(0o666)).unwrap();
    let socket = vm.path(file::SOCKET);
    let answer = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        // Of this thread only.
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut client = crate::support::Client::connect(&socket);
        let mut bytes = Vec::new();
        let _reset = std::io::Read::read_to_end(&mut client.reader, &mut bytes);
        bytes
    })
    .join()
    .unwrap();
    assert!(answer.is_empty());
    crate::support::eventually("the log says why", || vm.read(file::MONITOR_LOG).contains("uid 65534"));
    assert!(
        matches!(vm.ask(&MonitorRequest::Status), MonitorReply::Status(status) if status.phase == MonitorPhase::Ready)
    );
}
