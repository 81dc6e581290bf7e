//! Which engine a VM gets, and what is said when it cannot have the one that was asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use banger_testkit::{Environment, not_run};
use banger_types::operation::OperationStatus;

use crate::support::{Daemon, SMALL, processes_in, refuse, request};

/// Names the Firecracker that is run.
pub(crate) const FIRECRACKER: &str = "BANGER_FIRECRACKER";

fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["vm", "create", name, "--no-start"], &SMALL[..], more].concat()
}

/// Writes a program that answers to everything with this line.
fn program(at: &Path, line: &str) -> String {
    std::fs::write(at, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    at.to_str().unwrap().to_owned()
}

#[test]
fn without_firecracker_qemu_runs_vms_and_that_is_said_once() {
    let environment = Environment::with_fake_vmm().with_variable(FIRECRACKER, "/nowhere/firecracker");
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
    let environment = Environment::with_fake_vmm().with_variable(FIRECRACKER, &named);
    let refused = |line: &str, reason: &str| {
        program(&path, line);
        let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
        assert!(error.contains(reason), "{error}");
    };
    refused("hello", "it does not say that it is firecracker");
    refused("Firecracker v1.12.1", "1.12.1 is older than 1.16.0");
    refused("Firecracker v2.0.0", "2.0.0 is of a generation that this banger does not know");
    std::fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
    assert!(error.contains("it does not end when it is asked for its version"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
    assert!(error.contains("is not installed"), "{error}");
}

/// A VMM that says nothing and does nothing would be watched for 15 s.
#[test]
fn finding_out_whether_kvm_works_ends_with_a_cancel() {
    let test = "finding_out_whether_kvm_works_ends_with_a_cancel";
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return not_run(test, "KVM is not asked where /dev/kvm cannot be opened");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firecracker");
    std::fs::write(
        &path,
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Firecracker v1.16.1'\nexec sleep 1000\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let environment = Environment::with_fake_vmm().with_variable(FIRECRACKER, path.to_str().unwrap());
    let daemon = Daemon::of(environment);
    let begun =
        daemon.call(daemon.client.create_vm(&request("vm", |request| request.no_start = true))).unwrap();
    daemon.reach(&begun, "see whether KVM works");
    let ended = daemon.finish(daemon.client.cancel_operation(begun.id.as_str()));
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    assert_eq!(daemon.environment.run(&["vm", "show", "vm"]).code, 3);
    // What guarded the VMM may still be on its way out.
    let is_vmm = |process: &PathBuf| {
        std::fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    };
    let left = processes_in(&daemon.environment.data().join("templates"));
    assert!(!left.iter().any(is_vmm), "{left:?}");
}
