//! Which engine a VM gets, and what is said when it cannot have the one that was asked for.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_testkit::{Environment, not_run, seed};
use banger_types::ErrorKind;
use banger_types::location::variable;
use banger_types::operation::OperationStatus;
use banger_types::vm::{EngineKind, VmSetRequest, VmStopRequest};

use crate::support::{Daemon, SMALL, assert_says, processes_in, refuse, request};

/// How long a VMM that does nothing is watched.
const PROBE_LIMIT: std::time::Duration = std::time::Duration::from_secs(15);

fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["vm", "create", name, "--no-start"], &SMALL[..], more].concat()
}

/// Writes a program that answers to everything with this line.
pub(crate) fn program(at: &Path, line: &str) -> String {
    std::fs::write(at, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    at.to_str().unwrap().to_owned()
}

#[test]
fn without_firecracker_qemu_runs_vms_and_that_is_said_once() {
    let environment =
        Environment::with_fake_vmm().with_variable(variable::FIRECRACKER, "/nowhere/firecracker");
    let first = environment.run(&create("one", &[]));
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stderr.contains("no hardware virtualisation here"), "{}", first.stderr);
    assert!(
        first.stderr.contains("firecracker with KVM: the program '/nowhere/firecracker' is not installed"),
        "{}",
        first.stderr
    );
    assert_eq!(environment.vm("one")["spec"]["engine"], "qemu");
    let second = environment.run(&create("two", &[]));
    assert!(!second.stderr.contains("no hardware virtualisation here"), "{}", second.stderr);
    let status = environment.succeed(&["daemon", "status"]);
    assert!(status.contains("qemu, by emulation (firecracker with KVM: "), "{status}");
    // Nor is it said to who asks for it.
    let asked = environment.run(&create("three", &["--engine", "qemu"]));
    assert_eq!((asked.code, asked.stderr.contains("no hardware")), (0, false), "{}", asked.stderr);

    insta::assert_snapshot!(refuse(&environment, 6, &create("four", &["--engine", "firecracker"])), @"
    error: cannot make 'four'
      because: the program '/nowhere/firecracker' is not installed
      try: `banger engine install` downloads a release; BANGER_FIRECRACKER names one of your own
    ");
    assert_eq!(environment.run(&["vm", "show", "four"]).code, 3);
}

#[test]
fn a_program_that_is_no_firecracker_to_be_run_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firecracker");
    let named = program(&path, "hello");
    let environment = Environment::with_fake_vmm().with_variable(variable::FIRECRACKER, &named);
    let refused = |line: &str, reason: &str| {
        program(&path, line);
        let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
        assert!(error.contains(reason), "{error}");
    };
    refused("hello", "it does not say that it is firecracker");
    refused("Firecracker v1.12.1", "1.12.1 is older than 1.16.1");
    refused("Firecracker v2.0.0", "2.0.0 is of a generation that this banger does not know");
    std::fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
    assert!(error.contains("it does not end when it is asked for its version"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
    assert!(error.contains("is not installed"), "{error}");
}

/// A daemon whose Firecracker says nothing and does nothing: it is watched for 15 s.
fn with_mute_firecracker(test: &str) -> Option<(Daemon, tempfile::TempDir)> {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        not_run(test, "KVM is not asked where /dev/kvm cannot be opened");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firecracker");
    std::fs::write(
        &path,
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Firecracker v1.16.1'\nexec sleep 1000\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let environment = Environment::with_fake_vmm()
        .with_variable(variable::FIRECRACKER, path.to_str().unwrap())
        .with_variable(variable::NO_KVM, "");
    Some((Daemon::of(environment), directory))
}

fn assert_no_vmm_is_left(daemon: &Daemon) {
    // What guarded the VMM may still be on its way out.
    let is_vmm = |process: &PathBuf| {
        std::fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    };
    let left = processes_in(&daemon.environment.data().join("templates"));
    assert!(!left.iter().any(is_vmm), "{left:?}");
}

#[test]
fn finding_out_whether_kvm_works_ends_with_a_cancel() {
    let test = "finding_out_whether_kvm_works_ends_with_a_cancel";
    let Some((daemon, _directory)) = with_mute_firecracker(test) else { return };
    let begun =
        daemon.call(daemon.client.create_vm(&request("vm", |request| request.no_start = true))).unwrap();
    daemon.reach(&begun, "see whether KVM works");
    let ended = daemon.finish(daemon.client.cancel_operation(begun.id.as_str()));
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    assert_eq!(daemon.environment.run(&["vm", "show", "vm"]).code, 3);
    assert_no_vmm_is_left(&daemon);
}

#[test]
fn a_start_that_finds_out_whether_kvm_works_gives_way() {
    let test = "a_start_that_finds_out_whether_kvm_works_gives_way";
    let Some((daemon, _directory)) = with_mute_firecracker(test) else { return };
    daemon.create("vm", |request| (request.no_start, request.engine) = (true, Some(EngineKind::Qemu)));
    let set = VmSetRequest { engine: Some(EngineKind::Firecracker), ..VmSetRequest::default() };
    daemon.call(daemon.client.set_vm("vm", &set)).unwrap();
    let begun = daemon.call(daemon.client.start_vm("vm")).unwrap();
    daemon.reach(&begun, "see whether KVM works");
    let began = std::time::Instant::now();
    daemon.succeed(daemon.client.delete_vm("vm", true));
    assert!(began.elapsed() < PROBE_LIMIT, "it was waited for");
    let start = daemon.call(daemon.client.operation(begun.id.as_str())).unwrap();
    assert_eq!(start.status, OperationStatus::Cancelled, "{start:?}");
    assert_no_vmm_is_left(&daemon);
}

#[test]
fn a_vm_gets_another_engine_and_keeps_its_disk() {
    let environment =
        Environment::with_fake_vmm().with_variable(variable::FIRECRACKER, "/nowhere/firecracker");
    let daemon = Daemon::of(environment);
    daemon.create("vm", |_| ());
    let to = |engine: EngineKind| VmSetRequest { engine: Some(engine), ..VmSetRequest::default() };
    let running = daemon.refused(daemon.client.set_vm("vm", &to(EngineKind::Firecracker)));
    assert_says(
        &running,
        ErrorKind::Conflict,
        "its sizes, its network and its engine change while it is stopped",
    );
    daemon.succeed(daemon.client.stop_vm("vm", &VmStopRequest::default()));
    let disk = daemon.vm("vm").directory.join("disk.ext4");
    let before = std::fs::metadata(&disk).unwrap().ino();
    assert_eq!(daemon.environment.run(&["vm", "set", "vm", "--engine", "firecracker"]).code, 0);
    assert_eq!(daemon.vm("vm").spec.engine, EngineKind::Firecracker);
    insta::assert_snapshot!(refuse(&daemon.environment, 6, &["vm", "start", "vm"]), @"
    error: cannot start 'vm'
      because: the program '/nowhere/firecracker' is not installed
      try: `banger engine install` downloads a release; BANGER_FIRECRACKER names one of your own; `banger vm set vm --engine qemu` runs it all the same
    ");
    daemon.call(daemon.client.set_vm("vm", &to(EngineKind::Qemu))).unwrap();
    daemon.succeed(daemon.client.start_vm("vm"));
    assert_eq!(std::fs::metadata(&disk).unwrap().ino(), before);
}

#[test]
fn more_processors_than_an_engine_gives_are_another_engines() {
    let environment =
        Environment::with_fake_vmm().with_variable(variable::FIRECRACKER, "/nowhere/firecracker");
    // What is configured is let through, however few processors the host has.
    let configuration = environment.data().join(".config/banger");
    std::fs::create_dir_all(&configuration).unwrap();
    std::fs::write(configuration.join("config.toml"), "[vm]\nvcpus = 33\n").unwrap();
    let daemon = Daemon::of(environment);
    let many = |more: &[&'static str]| {
        let small =
            ["vm", "create", "vm", "--no-start", "--image", seed::PROBE, "--vcpus", "33", "--net", "none"];
        [&small, more].concat()
    };
    insta::assert_snapshot!(
        refuse(&daemon.environment, 2, &many(&["--engine", "firecracker"])),
        @"
    error: cannot create 'vm'
      because: firecracker gives a VM 32 virtual CPUs at most
      try: --vcpus 32, or less; or another engine with --engine
    "
    );
    let other = daemon.environment.run(&many(&[]));
    assert_eq!(other.code, 0, "{}", other.stderr);
    assert!(other.stderr.contains("firecracker gives a VM 32 virtual CPUs at most"), "{}", other.stderr);
    let set = VmSetRequest { engine: Some(EngineKind::Firecracker), ..VmSetRequest::default() };
    let error = daemon.refused(daemon.client.set_vm("vm", &set));
    assert_says(&error, ErrorKind::Usage, "firecracker gives a VM 32 virtual CPUs at most");
}
