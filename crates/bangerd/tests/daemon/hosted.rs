//! What the daemon does with real VMs, on real Firecracker with real KVM, in a test host.

use banger_testkit::{Outcome, TestHost, Tests, User, seed};

use crate::support::SMALL;

#[test]
fn a_daemon_on_firecracker_repairs_what_one_before_it_left_and_says_what_is_in_the_way() {
    let test = "a_daemon_on_firecracker_repairs_what_one_before_it_left_and_says_what_is_in_the_way";
    let Some(host) = TestHost::with_firecracker(test) else { return };
    // What tells the emulator's hangs from banger's.
    assert!(host.kernel_lives(), "the host's console has no signs of life");
    host.pass_own_tests(User::Plain, Tests::These(&["faults::the_same_with_real_vms"]));
    host.act_in_spite_of_the_emulator(test, |host| {
        both_engines_run_side_by_side(host);
        firecrackers_own_words_reach_the_user(host);
        a_vm_that_cannot_have_a_tap_device_gets_another_engine(host);
        kvm_that_cannot_be_used_is_said_with_what_to_do(host);
    });
}

fn a_vm_that_cannot_have_a_tap_device_gets_another_engine(host: &TestHost) {
    let banger = |arguments: &[&str]| host.banger(User::Plain, "by-hand", arguments);
    let small = ["--image", seed::PROBE, "--memory", "256M", "--vcpus", "1", "--no-start"];
    let networked = |name: &str, more: &[&str]| banger(&[&["vm", "create", name], &small[..], more].concat());
    host.succeed(User::Sudoer, &["sudo", "chmod", "600", "/dev/net/tun"]);
    // A daemon that has made one does not ask again.
    assert_eq!(banger(&["daemon", "restart"]).code, 0);
    let other = networked("networked", &[]);
    assert_eq!(other.code, 0, "{}", other.stderr);
    assert!(other.stderr.contains("VMs get qemu, by hardware (KVM)"), "{}", other.stderr);
    assert!(other.stderr.contains("/dev/net/tun: Permission denied"), "{}", other.stderr);
    assert!(other.stderr.contains("sudo modprobe tun"), "{}", other.stderr);
    assert_eq!(networked("tapped", &["--engine", "firecracker"]).code, 6);
    assert_eq!(networked("without", &["--net", "none", "--engine", "firecracker"]).code, 0);
    host.succeed(User::Sudoer, &["sudo", "chmod", "666", "/dev/net/tun"]);
    assert_eq!(networked("tapped", &["--engine", "firecracker"]).code, 0);
}

fn create(host: &TestHost, name: &str, more: &[&str]) -> Outcome {
    host.banger(User::Plain, "by-hand", &[&["vm", "create", name], &SMALL[..], more].concat())
}

fn both_engines_run_side_by_side(host: &TestHost) {
    let banger = |arguments: &[&str]| host.banger(User::Plain, "by-hand", arguments);
    for (name, engine) in [("one", "firecracker"), ("other", "qemu")] {
        let created = create(host, name, &["--engine", engine]);
        assert_eq!(created.code, 0, "{}", created.stderr);
    }
    for (name, engine) in [("one", "firecracker"), ("other", "qemu")] {
        let shown = banger(&["vm", "show", name]).text();
        assert!(shown.contains("running"), "{shown}");
        assert!(shown.contains(&format!("{engine} (hardware virtualisation)")), "{shown}");
        assert_eq!(banger(&["exec", name, "--", "/probe", "exit", "7"]).code, 7);
    }
    // One becomes the other's, with all that is on its disk.
    let succeed = |arguments: &[&str]| {
        let outcome = banger(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.stderr);
    };
    succeed(&["cp", "/etc/os-release", "one:/kept"]);
    succeed(&["vm", "stop", "one"]);
    succeed(&["vm", "set", "one", "--engine", "qemu"]);
    succeed(&["vm", "start", "one"]);
    let shown = banger(&["vm", "show", "one"]).text();
    assert!(shown.contains("qemu (hardware virtualisation)"), "{shown}");
    succeed(&["cp", "one:/kept", "/tmp/kept"]);
    host.succeed(User::Plain, &["cmp", "/etc/os-release", "/tmp/kept"]);
    succeed(&["vm", "rm", "--force", "--yes", "one", "other"]);
}

/// It refuses a drive that it may not open.
fn firecrackers_own_words_reach_the_user(host: &TestHost) {
    let banger = |arguments: &[&str]| host.banger(User::Plain, "by-hand", arguments);
    // One that has booted before has old words in its logs.
    assert_eq!(create(host, "refused", &[]).code, 0);
    assert_eq!(banger(&["vm", "stop", "refused"]).code, 0);
    let shown = banger(&["vm", "show", "refused", "--json"]).json();
    let disk = format!("{}/disk.ext4", shown["directory"].as_str().unwrap());
    host.succeed(User::Plain, &["chmod", "000", &disk]);
    let refused = banger(&["vm", "start", "refused"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("root is ready"), "{}", refused.stderr);
    assert_eq!(banger(&["vm", "rm", "--force", "--yes", "refused"]).code, 0);
}

/// The device is asked each time: what was found out about KVM before counts for nothing without it.
fn kvm_that_cannot_be_used_is_said_with_what_to_do(host: &TestHost) {
    let works = create(host, "works", &["--no-start"]);
    assert_eq!(works.code, 0, "{}", works.stderr);
    let status = host.banger(User::Plain, "by-hand", &["daemon", "status"]).text();
    assert!(status.contains("firecracker, by hardware (KVM)"), "{status}");

    for (spoil, reason, fix) in [
        ("chmod 600 /dev/kvm", "you may not open /dev/kvm", "sudo usermod -aG kvm $USER"),
        ("rm /dev/kvm", "/dev/kvm is not there", "sudo modprobe kvm_amd"),
    ] {
        host.succeed(User::Sudoer, &["sudo", "sh", "-c", spoil]);
        let name = if spoil.starts_with("rm") { "missing" } else { "forbidden" };
        let emulated = create(host, name, &["--no-start"]);
        assert_eq!(emulated.code, 0, "{}", emulated.stderr);
        assert!(emulated.stderr.contains(reason) && emulated.stderr.contains(fix), "{}", emulated.stderr);
        let refused = create(host, "refused", &["--no-start", "--engine", "firecracker"]);
        assert_eq!(refused.code, 6, "{}", refused.stderr);
        assert!(refused.stderr.contains(reason) && refused.stderr.contains(fix), "{}", refused.stderr);
    }
    assert_eq!(host.banger(User::Plain, "by-hand", &["daemon", "stop"]).code, 0);
}
