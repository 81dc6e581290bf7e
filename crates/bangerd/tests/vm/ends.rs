//! A guest's own ends: in order, by force, and by a kernel that gives up. Each ends in the right state.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
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
        let before = running(&environment, image);
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
    let before = running(&environment, image);
    if before["spec"]["engine"] == "firecracker" {
        press_ctrl_alt_del(&before);
        rebooted(&environment, image, "Ctrl-Alt-Del", &before);
    }
    // Its disk has gone through all of that.
    environment.succeed(&["exec", "-u", "root", image.name, "--", "sh", "-c", "echo x > /root/x && sync"]);
    environment.succeed(&["vm", "stop", image.name]);
    assert_disk_is_sound(&environment, image.name);
}

/// Returns the VM, which runs.
fn running(environment: &Environment, image: &Image) -> serde_json::Value {
    if environment.vm(image.name)["state"] != "running" {
        environment.succeed(&["vm", "start", image.name]);
    }
    environment.vm(image.name)
}

/// Presses the keys (Firecracker, `PUT /actions`, `SendCtrlAltDel`); no other engine has a keyboard.
fn press_ctrl_alt_del(vm: &serde_json::Value) {
    let directory = std::path::Path::new(vm["directory"].as_str().unwrap());
    let mut api = UnixStream::connect(directory.join("firecracker.sock")).unwrap();
    let body = r#"{"action_type":"SendCtrlAltDel"}"#;
    let length = body.len();
    write!(api, "PUT /actions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = [0; 12];
    api.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
}

/// Waits until the guest is up again, in another VMM, with the same forwards; for as long as banger itself waits for a boot.
fn rebooted(environment: &Environment, image: &Image, command: &str, before: &serde_json::Value) {
    let deadline = Instant::now() + Duration::from_mins(5);
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
