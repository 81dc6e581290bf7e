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
    let confines = banger_testkit::landlock_version() > 0;
    if confines || vm["spec"]["engine"] == "qemu" {
        assert_eq!(isolation["system_calls"], true, "{status}");
    }
    assert_eq!(isolation["files"], confines);
    let shown = environment.succeed(&["vm", "show", "vm"]);
    assert_eq!(shown.contains("its own files alone"), confines, "{shown}");
    if !confines {
        banger_testkit::not_run("a_vmm_has_little_of_its_host", "this kernel has no Landlock");
    }
    // And nothing that it needs is missing: its guest reboots, is paused, goes on, and ends.
    environment.succeed(&["vm", "restart", "vm"]);
    environment.succeed(&["vm", "pause", "vm"]);
    environment.succeed(&["vm", "resume", "vm"]);
    environment.succeed(&["exec", "vm", "--", "/bin/sh", "-c", "echo written > /root/file && sync"]);
    environment.succeed(&["vm", "stop", "vm"]);
}
