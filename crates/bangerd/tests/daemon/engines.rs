//! Which engine a VM gets, and what is said when it cannot have the one that was asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use banger_testkit::Environment;

use crate::support::{SMALL, refuse};

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
        first.stderr.contains("firecracker: the program '/nowhere/firecracker' is not installed"),
        "{}",
        first.stderr
    );
    assert_eq!(environment.vm("one")["spec"]["engine"], "qemu");
    let second = environment.run(&create("two", &[]));
    assert!(!second.stderr.contains("no hardware virtualisation here"), "{}", second.stderr);
    let status = environment.succeed(&["daemon", "status"]);
    assert!(status.contains("qemu, by emulation (firecracker: "), "{status}");
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
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = refuse(&environment, 6, &create("vm", &["--engine", "firecracker"]));
    assert!(error.contains("is not installed"), "{error}");
}
