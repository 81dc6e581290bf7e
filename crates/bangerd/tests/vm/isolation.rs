//! What keeps a VMM from the rest of the host, read back from the host.

use banger_testkit::Environment;

use crate::guest::create;

#[test]
fn a_vmm_has_little_of_its_host() {
    let environment = Environment::new();
    create(&environment, "vm", &[]);
    let vm = environment.vm("vm");
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm["vmm_pid"])).unwrap();
    let has_no_new_privileges = status.lines().any(|line| line == "NoNewPrivs:\t1");
    assert!(has_no_new_privileges, "{status}");
    let isolation = &vm["isolation"];
    // Firecracker brings filters only as an official release does (seccompiler, musl).
    if vm["spec"]["engine"] == "qemu" {
        assert_eq!(isolation["system_calls"], true, "{status}");
    } else {
        banger_testkit::not_run(
            "a_vmm_has_little_of_its_host",
            "system calls of a Firecracker built here are not filtered",
        );
    }
    let shown = environment.succeed(&["vm", "show", "vm"]);
    if isolation["files"] == true {
        assert!(shown.contains("its own files alone"), "{shown}");
    } else {
        banger_testkit::not_run(
            "a_vmm_has_little_of_its_host",
            "its own files alone: this kernel has no Landlock",
        );
    }
    // And nothing that it needs is missing: its guest reboots, is paused, goes on, and ends.
    environment.succeed(&["vm", "restart", "vm"]);
    environment.succeed(&["vm", "pause", "vm"]);
    environment.succeed(&["vm", "resume", "vm"]);
    environment.succeed(&["exec", "vm", "--", "/bin/sh", "-c", "echo written > /root/file && sync"]);
    environment.succeed(&["vm", "stop", "vm"]);
}
