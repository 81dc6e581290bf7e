//! A guest that does its worst with what it has: nobody else is harmed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use banger_testkit::Environment;

use crate::guest::{BUSYBOX, small};

/// What a VM of these tests has, MiB.
const MEMORY: u64 = 256;
const DISK: u64 = 64;
/// What a VMM by emulation takes beside its guest's memory at most, MiB: translated code alone may be a GiB, and is some hundred
/// here.
const BESIDE: u64 = 1024;

fn create(environment: &Environment, name: &str) {
    let disk = format!("{DISK}M");
    environment.succeed(&[&["vm", "create", name, "--disk", &disk], &small(&BUSYBOX)[..]].concat());
}

/// Begins something in a guest that has no end, or whose end is the guest's.
fn begin(environment: &Environment, script: &str) {
    let script = format!("({script}) > /dev/null 2>&1 & echo begun");
    let begun = environment.run(&["exec", "-u", "root", "attacker", "--", "sh", "-c", &script]);
    assert_eq!(begun.text(), "begun\n", "{}", begun.stderr);
}

/// The other VM answers, and new ones can be made.
fn others_are_well(environment: &Environment) {
    for _ in 0..3 {
        let said =
            environment.succeed(&["exec", "other", "--", "sh", "-c", "echo well > /tmp/x && cat /tmp/x"]);
        assert_eq!(said, "well\n");
    }
    create(environment, "third");
    environment.succeed(&["vm", "rm", "--force", "--yes", "third"]);
}

/// Returns a field of `/proc/PID/status` of the attacker's VMM.
fn status(environment: &Environment, field: &str) -> u64 {
    let pid = environment.vm("attacker")["vmm_pid"].as_u64().unwrap();
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_guest_that_does_its_worst_harms_nobody_else() {
    let environment = Environment::new();
    create(&environment, "other");
    for attack in [
        // Forks without end.
        "bomb() { bomb | bomb & bomb; }; bomb",
        // All of its memory, in files and in processes.
        "mount -t tmpfs -o size=100% none /mnt; cat /dev/zero > /mnt/all & tail /dev/zero",
        // All of its disk, and of its console.
        "cat /dev/zero > /all; sync & while :; do echo nothing but lines > /dev/console; done",
    ] {
        create(&environment, "attacker");
        begin(&environment, attack);
        others_are_well(&environment);
        let vm = environment.vm("attacker");
        if vm["state"] == "running" {
            assert!(status(&environment, "VmRSS") < (MEMORY + BESIDE) << 10, "{attack}");
            assert!(status(&environment, "Threads") < 128, "{attack}");
        }
        // A disk is no larger than it may be, and no more is kept of a console than is said.
        let directory = Path::new(vm["directory"].as_str().unwrap()).to_owned();
        let files = std::fs::read_dir(&directory).unwrap().flatten();
        let taken: u64 = files.map(|file| file.metadata().map_or(0, |it| it.blocks() * 512)).sum();
        assert!(taken < (DISK + 64) << 20, "{attack}: {taken} bytes");
        // It ends like any other.
        environment.succeed(&["vm", "rm", "--force", "--yes", "attacker"]);
        others_are_well(&environment);
    }
}
