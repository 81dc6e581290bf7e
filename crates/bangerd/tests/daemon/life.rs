//! A fake VM's life, and every way in which it can be told to behave.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use banger_core::engine::{Engine as _, RunningVmm};
use banger_engine::{Confinement, Qemu};
use banger_host::HostCommands;
use banger_testkit::Environment;
use serde_json::json;

use crate::support::SMALL;

fn create(environment: &Environment, name: &str) {
    environment.succeed(&[&["vm", "create", name], &SMALL[..]].concat());
}

fn directory(environment: &Environment, name: &str) -> PathBuf {
    PathBuf::from(environment.vm(name)["directory"].as_str().unwrap())
}

/// Waits for an end that nobody has asked for.
fn await_state(environment: &Environment, name: &str, wanted: &str) -> serde_json::Value {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let vm = environment.vm(name);
        if vm["state"] == wanted {
            return vm;
        }
        assert!(std::time::Instant::now() < deadline, "{name} is {}, not {wanted}", vm["state"]);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_vm_is_made_stopped_started_killed_paused_resumed_and_deleted() {
    let environment = Environment::with_fake_vmm();
    create(&environment, "one");
    assert_eq!(environment.vm("one")["state"], "running");
    let console = environment.succeed(&["vm", "logs", "one"]);
    assert!(console.contains("fake guest: ready"), "{console}");

    environment.succeed(&["vm", "stop", "one"]);
    assert_eq!(environment.vm("one")["state"], "stopped");
    environment.succeed(&["vm", "start", "one"]);
    assert_eq!(environment.vm("one")["state"], "running");
    environment.succeed(&["vm", "kill", "one"]);
    assert_eq!(environment.vm("one")["state"], "stopped");
    environment.succeed(&["vm", "start", "one"]);

    // A guest that stands still answers nobody, and everybody once it goes on.
    let confinement = Confinement::new(Arc::new(HostCommands), &banger_testkit::programs());
    let engine = Qemu::new(Arc::new(HostCommands), Arc::new(confinement));
    let pid = u32::try_from(environment.vm("one")["vmm_pid"].as_u64().unwrap()).unwrap();
    let at = RunningVmm { directory: directory(&environment, "one"), pid };
    let mut stream = environment.connect("one", 7);
    engine.pause(&at).unwrap();
    assert!(!engine.inspect(&at).unwrap().running);
    stream.write_all(b"heard?").unwrap();
    let mut answer = [0; 6];
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    engine.resume(&at).unwrap();
    assert!(engine.inspect(&at).unwrap().running);
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"heard?");

    environment.succeed(&["vm", "rm", "--force", "--yes", "one"]);
    assert_eq!(environment.run(&["vm", "show", "one"]).code, 3);
    assert_eq!(std::fs::read_dir(environment.data().join("vms")).unwrap().count(), 0);
}

#[test]
fn a_vm_outlives_the_daemon() {
    let environment = Environment::with_fake_vmm();
    create(&environment, "one");
    let mut stream = environment.connect("one", 7);
    let before = environment.vm("one")["vmm_pid"].clone();
    environment.crash_daemon();
    stream.write_all(b"still there").unwrap();
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still there");
    let vm = environment.vm("one");
    assert_eq!((&vm["state"], &vm["vmm_pid"]), (&json!("running"), &before));
}

#[test]
fn a_guest_that_goes_down_by_itself_is_stopped() {
    let environment = Environment::with_fake_vmm();
    create(&environment, "own");
    environment.connect("own", 1).write_all(b"poweroff\n").unwrap();
    await_state(&environment, "own", "stopped");
}

#[test]
fn a_vmm_that_ends_by_itself_has_failed() {
    let environment = Environment::with_fake_vmm();
    environment.behave(&json!({ "console": ["Kernel panic - not syncing: a test"], "exit_at_boot": 0 }));
    let create = environment.run(&[&["vm", "create", "one"], &SMALL[..]].concat());
    assert_eq!(create.code, 1, "{}", create.stderr);
    assert!(create.stderr.contains("console: Kernel panic - not syncing: a test"), "{}", create.stderr);
    assert_eq!(environment.vm("one")["state"], "failed");
    let console = environment.succeed(&["vm", "logs", "one"]);
    assert!(console.contains("Kernel panic - not syncing: a test"), "{console}");

    environment.behave(&json!({}));
    environment.succeed(&["vm", "start", "one"]);
    environment.connect("one", 1).write_all(b"exit 3\n").unwrap();
    assert_eq!(await_state(&environment, "one", "failed")["reason"], "qemu exited with code 3");
}

#[test]
fn a_guest_that_does_not_shut_down_is_killed_in_the_end() {
    let environment = Environment::with_fake_vmm();
    environment.behave(&json!({ "ignore_shutdown": true }));
    create(&environment, "deaf");
    environment.succeed(&["vm", "stop", "--timeout", "1", "deaf"]);
    assert_eq!(environment.vm("deaf")["state"], "stopped");
}
