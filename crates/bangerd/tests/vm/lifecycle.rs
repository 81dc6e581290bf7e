//! A VM from create to rm, and every request that does not fit its state.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use banger_testkit::{Environment, seed};

use crate::guest::create;

fn state(environment: &Environment, name: &str) -> String {
    environment.vm(name)["state"].as_str().unwrap().to_owned()
}

fn blocks(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_vm_is_made_stopped_started_killed_and_deleted() {
    let environment = Environment::new();
    create(&environment, "one", &[]);
    assert_eq!(state(&environment, "one"), "running");
    // The VMM's own word: it comes a moment after the guest's.
    wait_until(&environment, "one", |vm| !vm["accelerator"].is_null());
    // By emulation, only where there is nothing better.
    let verdicts = std::fs::read_to_string(environment.data().join("kvm.json")).unwrap();
    let expected = if verdicts.contains("\"usable\": true") { "kvm" } else { "tcg" };
    assert_eq!(environment.vm("one")["accelerator"], expected);

    // What a guest wrote and did not sync is on the disk after a stop in order.
    environment.succeed(&["exec", "one", "--", "sh", "-c", "echo kept > /root/file"]);
    environment.succeed(&["vm", "stop", "one"]);
    assert_eq!(state(&environment, "one"), "stopped");
    environment.succeed(&["vm", "start", "one"]);
    assert_eq!(environment.succeed(&["exec", "one", "--", "cat", "/root/file"]), "kept\n");

    let refused = environment.run(&["vm", "rm", "--yes", "one"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let refused = environment.run(&["vm", "start", "one"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    environment.succeed(&["vm", "kill", "one"]);
    assert_eq!(state(&environment, "one"), "stopped");
    let refused = environment.run(&["vm", "stop", "one"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let refused = environment.run(&["exec", "one", "--", "true"]);
    assert_eq!(refused.code, 125, "{}", refused.stderr);

    environment.succeed(&["vm", "rm", "--yes", "one"]);
    assert_eq!(environment.run(&["vm", "show", "one"]).code, 3);
    assert_eq!(std::fs::read_dir(environment.data().join("vms")).unwrap().count(), 0);
}

#[test]
fn three_vms_share_one_image_and_take_little_of_the_disk() {
    let environment = Environment::new();
    let names = ["a", "b", "c"];
    for name in names {
        create(&environment, name, &["--no-start"]);
        let directory = environment.vm(name)["directory"].as_str().unwrap().to_owned();
        let taken: u64 =
            std::fs::read_dir(directory).unwrap().flatten().map(|entry| blocks(&entry.path())).sum();
        assert!(taken <= 1 << 20, "a fresh VM takes {taken} bytes");
    }
    std::thread::scope(|scope| {
        for name in names {
            let environment = &environment;
            scope.spawn(move || environment.succeed(&["vm", "start", name]));
        }
    });
    for name in names {
        assert_eq!(environment.succeed(&["exec", name, "--", "hostname"]), format!("{name}\n"));
    }
    // One guest's changes are its own.
    environment.succeed(&["exec", "a", "--", "sh", "-c", "rm /bin/wc; echo a > /etc/passwd"]);
    environment.succeed(&["exec", "b", "--", "sh", "-c", "test -e /bin/wc && grep -q alice /etc/passwd"]);
    let in_use = environment.run(&["image", "rm", "--yes", seed::BUSYBOX]);
    assert_eq!(in_use.code, 4, "{}", in_use.stderr);
}

#[test]
fn docker_gets_a_real_file_system() {
    let environment = Environment::new();
    create(&environment, "disk", &["--disk", "1G"]);
    let mounts = environment.succeed(&["exec", "disk", "--", "cat", "/proc/mounts"]);
    for directory in ["/var/lib/docker", "/var/lib/containerd"] {
        let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(directory));
        assert!(mount.is_some_and(|mount| mount.contains(" ext4 rw")), "{directory}: {mounts}");
    }
    let disk =
        environment.data().join("vms").join(environment.vm("disk")["id"].as_str().unwrap()).join("disk.ext4");
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 1 << 30);
    let features = environment.outcome(environment.command("/sbin/dumpe2fs").arg("-h").arg(&disk));
    assert!(features.text().contains("has_journal"), "{}", features.text());
}

#[test]
fn requests_that_make_no_sense_leave_nothing_behind() {
    let environment = Environment::new();
    create(&environment, "taken", &["--no-start"]);
    let long = "a".repeat(300);
    for (arguments, code) in [
        (["vm", "create", "taken", "--no-start"].as_slice(), 4),
        (&["vm", "create", "a/b"], 2),
        (&["vm", "create", &long], 2),
        (&["vm", "create", "x", "--image", "Nowhere"], 3),
        (&["vm", "create", "x", "--image", "nowhere:a b"], 2),
        (&["vm", "create", "x", "--kernel", "nowhere"], 3),
        (&["vm", "create", "x", "--memory", "1"], 2),
        (&["vm", "create", "x", "--memory", "9T"], 2),
        (&["vm", "create", "x", "--vcpus", "0"], 2),
        (&["vm", "create", "x", "--vcpus", "4096"], 2),
        (&["vm", "create", "x", "--disk", "0"], 2),
        (&["vm", "rm", "--yes", "nobody"], 3),
        (&["vm", "start", "nobody"], 3),
        (&["image", "rm", "--yes", "nobody"], 3),
        (&["image", "pull", "tar:/nonexistent.tar"], 1),
        (&["op", "show", "000000000000"], 3),
    ] {
        let outcome = environment.run(arguments);
        assert_eq!(outcome.code, code, "banger {arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("error: "), "banger {arguments:?}: {}", outcome.stderr);
    }
    assert_eq!(environment.succeed(&["vm", "ls", "-q"]), "taken\n");
    assert_eq!(std::fs::read_dir(environment.data().join("vms")).unwrap().count(), 1);
}

#[test]
fn a_cancelled_pull_leaves_nothing_behind() {
    let environment = Environment::empty();
    let pull = environment.run(&["image", "pull", "debian", "--no-wait", "--json"]);
    assert_eq!(pull.code, 0, "{}", pull.stderr);
    let operation = pull.json()["id"].as_str().unwrap().to_owned();
    environment.succeed(&["op", "cancel", &operation]);
    let watched = environment.run(&["op", "watch", &operation]);
    assert_eq!(watched.code, 7, "{}", watched.stderr);
    assert_eq!(environment.succeed(&["image", "ls", "-q"]), "");
    assert_eq!(std::fs::read_dir(environment.data().join("images")).unwrap().count(), 0);
}

#[test]
fn a_guest_that_powers_off_is_stopped_and_one_that_dies_has_failed() {
    let environment = Environment::new();
    create(&environment, "own", &[]);
    // The session may be cut off before it has its exit status.
    environment.run(&["exec", "-u", "root", "own", "--", "poweroff"]);
    wait_for_state(&environment, "own", "stopped");

    environment.succeed(&["vm", "start", "own"]);
    let pid = environment.vm("own")["vmm_pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for_state(&environment, "own", "failed");
    let vm = environment.vm("own");
    let engine = vm["spec"]["engine"].as_str().unwrap();
    assert_eq!(vm["reason"].as_str().unwrap(), format!("{engine} was killed by signal 9"));
}

/// Waits until a VM is in a state.
pub(crate) fn wait_for_state(environment: &Environment, name: &str, wanted: &str) {
    wait_until(environment, name, |vm| vm["state"] == wanted);
}

/// Waits until a VM is as it should be, for as long as banger itself waits for a guest to boot.
pub(crate) fn wait_until(environment: &Environment, name: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(5);
    loop {
        let vm = environment.vm(name);
        if wanted(&vm) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "waited in vain for {name}: {vm}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
