//! What the daemon does with real VMs, on real Firecracker with real KVM, in a test host.

use banger_testkit::{Outcome, TestHost, Tests, User};

use crate::support::SMALL;

#[test]
fn a_daemon_on_firecracker_repairs_what_one_before_it_left_and_says_what_is_in_the_way() {
    let test = "a_daemon_on_firecracker_repairs_what_one_before_it_left_and_says_what_is_in_the_way";
    let Some(host) = TestHost::with_firecracker(test) else { return };
    host.pass_own_tests(User::Plain, Tests::These(&["faults::the_same_with_real_vms"]));
    kvm_that_cannot_be_used_is_said_with_what_to_do(&host);
}

/// The device is asked each time: what was found out about KVM before counts for nothing without it.
fn kvm_that_cannot_be_used_is_said_with_what_to_do(host: &TestHost) {
    let create = |name: &str, more: &[&str]| -> Outcome {
        let arguments = [&["vm", "create", name, "--no-start"], &SMALL[..], more].concat();
        host.banger(User::Plain, "by-hand", &arguments)
    };
    let works = create("works", &[]);
    assert_eq!(works.code, 0, "{}", works.stderr);
    let status = host.banger(User::Plain, "by-hand", &["daemon", "status"]).text();
    assert!(status.contains("firecracker, by hardware (KVM)"), "{status}");

    for (spoil, reason, fix) in [
        ("chmod 600 /dev/kvm", "you may not open /dev/kvm", "sudo usermod -aG kvm $USER"),
        ("rm /dev/kvm", "/dev/kvm is not there", "sudo modprobe kvm_amd"),
    ] {
        host.succeed(User::Sudoer, &["sudo", "sh", "-c", spoil]);
        let name = if spoil.starts_with("rm") { "missing" } else { "forbidden" };
        let emulated = create(name, &[]);
        assert_eq!(emulated.code, 0, "{}", emulated.stderr);
        assert!(emulated.stderr.contains(reason) && emulated.stderr.contains(fix), "{}", emulated.stderr);
        let refused = create("refused", &["--engine", "firecracker"]);
        assert_eq!(refused.code, 6, "{}", refused.stderr);
        assert!(refused.stderr.contains(reason) && refused.stderr.contains(fix), "{}", refused.stderr);
    }
    assert_eq!(host.banger(User::Plain, "by-hand", &["daemon", "stop"]).code, 0);
}
