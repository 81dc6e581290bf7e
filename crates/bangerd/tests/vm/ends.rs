//! A guest's own ends: in order, by force, and by a kernel that gives up. Each ends in the right state.

use std::time::{Duration, Instant};

use banger_testkit::Environment;

use crate::guest::{BUSYBOX, DEBIAN, Image, assert_disk_is_sound, small};
use crate::lifecycle::wait_for_state;

/// What a guest's root types, and the state that it leads to; `running` is another boot.
const ENDS: [(&str, &str); 7] = [
    ("poweroff", "stopped"),
    ("poweroff -f", "stopped"),
    ("halt", "stopped"),
    ("halt -f", "stopped"),
    ("echo c > /proc/sysrq-trigger", "failed"),
    ("reboot", "running"),
    ("reboot -f", "running"),
];

#[test]
fn a_debian_guests_own_ends() {
    try_ends(&DEBIAN);
}

#[test]
fn a_busybox_guests_own_ends() {
    try_ends(&BUSYBOX);
}

fn try_ends(image: &Image) {
    let environment = Environment::new();
    let create = [&["vm", "create", image.name, "-p", "0:7000"], &small(image)[..]].concat();
    environment.succeed(&create);
    for (command, end) in ENDS {
        if environment.vm(image.name)["state"] != "running" {
            environment.succeed(&["vm", "start", image.name]);
        }
        let before = environment.vm(image.name);
        // Where it is seen that sessions get a guest's last words, or none: both are right.
        environment.run(&["exec", "-u", "root", image.name, "--", "sh", "-c", command]);
        if end == "running" {
            rebooted(&environment, image, command, &before);
        } else {
            wait_for_state(&environment, image.name, end);
        }
        let after = environment.vm(image.name);
        if end == "failed" {
            let reason = after["reason"].as_str().unwrap();
            assert!(reason.starts_with("the guest's kernel panicked: sysrq triggered crash"), "{reason}");
        }
    }
    // Its disk has gone through all of that.
    environment.succeed(&["exec", "-u", "root", image.name, "--", "sh", "-c", "echo x > /root/x && sync"]);
    environment.succeed(&["vm", "stop", image.name]);
    assert_disk_is_sound(&environment, image.name);
}

/// Waits until the guest is up again, in another VMM, with the same forwards.
fn rebooted(environment: &Environment, image: &Image, command: &str, before: &serde_json::Value) {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let vm = environment.vm(image.name);
        if vm["state"] == "running" && vm["vmm_pid"] != before["vmm_pid"] {
            assert_eq!(vm["forwards"], before["forwards"], "{command}");
            assert_ne!(vm["started_at"], before["started_at"], "{command}");
            return;
        }
        assert!(Instant::now() < deadline, "{command}: {vm}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
