//! Full disks: what did not fit is said and undone, what runs waits for room, and the daemon goes on.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use banger_testkit::{Environment, Outcome, SmallDisk, seed};
use banger_types::vm::VmState;

use crate::support::{Daemon, SMALL, assert_left, error, refuse};

fn create(environment: &Environment, name: &str) -> Outcome {
    environment.run(&[&["vm", "create", name, "--disk", "1G"], &SMALL[..]].concat())
}

/// Returns a text with `[ANY]` for what is different in each half-made name.
fn masked(text: &str) -> String {
    let mut parts = text.split(".partial-");
    let mut masked = parts.next().unwrap().to_owned();
    for part in parts {
        masked += ".partial-[ANY]";
        masked += part.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    }
    masked
}

#[test]
fn a_pull_that_does_not_fit_is_undone() {
    let test = "a_pull_that_does_not_fit_is_undone";
    let Some(disk) = SmallDisk::new(test, "8M") else { return };
    let environment = Environment::within(disk.path()).faking_vmms();
    environment.succeed(&["daemon", "start"]);
    let daemon = environment.daemon_pid();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(archive.reopen().unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(16 << 20);
    header.set_mode(0o644);
    builder.append_data(&mut header, "large", std::io::repeat(7).take(16 << 20)).unwrap();
    builder.finish().unwrap();
    let source = format!("tar:{}", archive.path().display());
    let pull = || refuse(&environment, 1, &["image", "pull", &source, "--name", "large"]);
    insta::assert_snapshot!(masked(&pull().replace(archive.path().to_str().unwrap(), "[TAR]")), @"
    error: cannot make the image 'large'
      because: cannot use the archive '[TAR]'
      because: cannot write the image
      because: failed to write all with offset to `[DATA]/images/.partial-[ANY]/base.ext4`: No space left on device (os error 28)
      try: make room on the file system of banger's data: `banger daemon status` says where that is
    ");
    assert_left(&environment, 0, 3, 1);
    // Nor does one fit that finds no room at all.
    let ballast = disk.fill(0);
    let said = pull();
    assert!(said.contains("try: make room"), "{said}");
    drop(ballast);
    assert_left(&environment, 0, 3, 1);
    assert_eq!(environment.daemon_pid(), daemon, "the daemon went on");
}

#[test]
fn a_vm_that_does_not_fit_is_undone_and_fits_when_there_is_room() {
    let test = "a_vm_that_does_not_fit_is_undone_and_fits_when_there_is_room";
    let Some(disk) = SmallDisk::new(test, "48M") else { return };
    let environment = Environment::within(disk.path()).faking_vmms();
    // The template of its disk, and the database's log, have their room.
    assert_eq!(create(&environment, "first").code, 0);
    let daemon = environment.daemon_pid();
    // Room for the database, and none for a disk.
    let ballast = disk.fill(64 << 10);
    insta::assert_snapshot!(masked(&error(&environment, &create(&environment, "second"))), @"
    error: cannot create 'second'
      because: cannot make its disk
      because: cannot copy the disk template
      because: failed to write all with offset to `[DATA]/vms/.partial-[ANY]/disk.ext4`: No space left on device (os error 28)
      try: make room on the file system of banger's data: `banger daemon status` says where that is
    ");
    assert_left(&environment, 1, 3, 1);
    // No room for anything.
    drop(ballast);
    let ballast = disk.fill(0);
    let refused = create(&environment, "second");
    assert!(error(&environment, &refused).contains("try: make room"), "{}", refused.stderr);
    assert_eq!(environment.succeed(&["vm", "ls", "-q"]), "first\n");
    drop(ballast);
    assert_eq!(environment.daemon_pid(), daemon, "the daemon went on");
    assert_left(&environment, 1, 3, 1);
    let created = create(&environment, "second");
    assert_eq!(created.code, 0, "{}", created.stderr);
}

#[test]
fn a_daemon_on_a_full_disk_says_so_and_vms_can_be_deleted_to_make_room() {
    let test = "a_daemon_on_a_full_disk_says_so_and_vms_can_be_deleted_to_make_room";
    let Some(disk) = SmallDisk::new(test, "48M") else { return };
    let environment = Environment::within(disk.path()).faking_vmms();
    for name in ["one", "two"] {
        assert_eq!(create(&environment, name).code, 0);
    }
    let running = environment.vm("one")["vmm_pid"].clone();
    environment.succeed(&["daemon", "stop"]);
    // As after an end in order; whether the last daemon came to it matters here.
    std::fs::remove_file(environment.data().join("banger.db-shm")).ok();
    let ballast = disk.fill(0);
    insta::assert_snapshot!(refuse(&environment, 1, &["vm", "ls"]), @"
    error: cannot open the database
      because: the file system is full: there is no room to read the database
      try: make room on the file system of [DATA]
    ");
    drop(ballast);
    assert_eq!(environment.vm("one")["vmm_pid"], running);
    let ballast = disk.fill(0);
    let refused = refuse(&environment, 1, &["vm", "pause", "one"]);
    assert!(
        refused.contains("the file system is full"),
        "it is not as full as this test wants it: {refused}"
    );
    environment.succeed(&["vm", "stop", "two"]);
    environment.succeed(&["vm", "rm", "--yes", "two"]);
    assert_eq!(environment.succeed(&["vm", "ls", "-q"]), "one\n");
    drop(ballast);
    assert_left(&environment, 1, 3, 1);
    // What was done without being remembered is not undone.
    environment.crash_daemon();
    assert_eq!(environment.succeed(&["vm", "ls", "-q"]), "one\n");
    assert_left(&environment, 1, 3, 1);
}

#[test]
fn a_prune_makes_room_on_a_full_disk() {
    let test = "a_prune_makes_room_on_a_full_disk";
    let Some(disk) = SmallDisk::new(test, "48M") else { return };
    let environment = Environment::within(disk.path()).faking_vmms();
    assert_eq!(create(&environment, "one").code, 0);
    let download = environment.data().join("downloads/half");
    std::fs::write(&download, vec![7; 1 << 20]).unwrap();
    let _ballast = disk.fill(0);
    let refused = refuse(&environment, 1, &["vm", "pause", "one"]);
    assert!(
        refused.contains("the file system is full"),
        "it is not as full as this test wants it: {refused}"
    );
    let pruned = environment.run(&["system", "prune", "--all", "--yes"]);
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    assert!(pruned.text().contains("busybox") && !download.exists(), "{}", pruned.text());
    environment.succeed(&["vm", "pause", "one"]);
}

#[test]
fn a_console_that_finds_no_room_does_not_stop_its_guest() {
    let test = "a_console_that_finds_no_room_does_not_stop_its_guest";
    let Some(disk) = SmallDisk::new(test, "48M") else { return };
    let daemon = Daemon::of(Environment::within(disk.path()).faking_vmms());
    daemon.create("talks", |_| ());
    let line = "x".repeat(1000);
    {
        let _ballast = disk.fill(0);
        // Far more than a pipe holds: a monitor that stopped reading would stop the guest.
        let mut commands = daemon.environment.connect("talks", 1);
        for _ in 0..1000 {
            commands.write_all(format!("print {line}\n").as_bytes()).unwrap();
        }
        let mut echo = daemon.environment.connect("talks", 7);
        echo.write_all(b"still there").unwrap();
        let mut answer = [0; 11];
        echo.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still there");
    }
    daemon.guest("talks", "print there is room again");
    daemon.guest("talks", "poweroff");
    daemon.wait_for("talks", VmState::Stopped);
    let log = daemon.environment.succeed(&["vm", "logs", "talks"]);
    assert!(log.contains("there is room again"), "{}", &log[log.len().saturating_sub(200)..]);
}

#[test]
fn a_vm_whose_disk_finds_no_room_is_paused_and_says_so_until_it_goes_on() {
    let daemon = Daemon::new();
    daemon.create("stalls", |_| ());
    let listened_to = |name: &str| drop(daemon.wait(name, |vm| vm.accelerator.is_some()));
    listened_to("stalls");
    daemon.guest("stalls", "stall");
    let vm = daemon.wait_for("stalls", VmState::Paused);
    let reason = "the host's file system has no room for what it writes: make room, then resume it";
    assert_eq!(vm.reason.as_deref(), Some(reason));
    let listed = daemon.environment.succeed(&["vm", "ls"]);
    assert!(listed.contains("paused"), "{listed}");
    insta::assert_snapshot!(refuse(&daemon.environment, 125, &["exec", "stalls", "--", "true"]), @"
    error: cannot open a session in 'stalls'
      because: it is paused
      because: the host's file system has no room for what it writes: make room, then resume it
      try: `banger vm resume stalls`
    ");
    // Whatever else changes meanwhile, and whichever daemon is asked.
    let forward = banger_types::monitor::Forward { listen: "127.0.0.1:0".parse().unwrap(), guest_port: 7 };
    daemon.call(daemon.client.add_forward("stalls", &forward)).unwrap();
    assert_eq!(daemon.vm("stalls").reason.as_deref(), Some(reason));
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    listened_to("stalls");
    let vm = daemon.vm("stalls");
    assert_eq!((vm.state, vm.reason.as_deref()), (VmState::Paused, Some(reason)));
    daemon.environment.succeed(&["vm", "resume", "stalls"]);
    let vm = daemon.vm("stalls");
    assert_eq!((vm.state, vm.reason), (VmState::Running, None));

    // One that stalls while nobody looks is found so.
    listened_to("stalls");
    let mut guest = daemon.environment.connect("stalls", 1);
    let mut echo = daemon.environment.connect("stalls", 7);
    daemon.environment.crash_daemon();
    guest.write_all(b"stall\n").unwrap();
    await_silence(&mut echo);
    daemon.environment.succeed(&["daemon", "start"]);
    daemon.wait("stalls", |vm| vm.state == VmState::Paused && vm.reason.as_deref() == Some(reason));
    // To stop it, it has to go on first, and that takes room: nothing of it is lost before somebody says so.
    let no_room = daemon.vm("stalls").directory.join("no-room");
    File::create(&no_room).unwrap();
    insta::assert_snapshot!(refuse(&daemon.environment, 1, &["vm", "stop", "stalls"]), @"
    error: cannot stop 'stalls'
      because: the host's file system has no room for what it writes: make room, then resume it
      try: make room and stop it again; `banger vm kill stalls` loses what it could not write
    ");
    let vm = daemon.vm("stalls");
    assert_eq!((vm.state, vm.reason.as_deref()), (VmState::Paused, Some(reason)));
    std::fs::remove_file(no_room).unwrap();
    daemon.environment.succeed(&["vm", "stop", "stalls"]);
    assert_eq!(daemon.vm("stalls").state, VmState::Stopped);
}

/// Waits until nobody echoes any more.
fn await_silence(echo: &mut std::os::unix::net::UnixStream) {
    echo.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let mut answer = [0];
    while echo.write_all(b"x").and_then(|()| echo.read_exact(&mut answer)).is_ok() {}
}

#[test]
fn a_real_vm_waits_for_room_and_loses_nothing() {
    let test = "a_real_vm_waits_for_room_and_loses_nothing";
    let Some(disk) = SmallDisk::new(test, "160M") else { return };
    // The daemon's own files have their room: only VMs have not.
    let environment = Environment::new();
    std::os::unix::fs::symlink(disk.path(), environment.data().join("vms")).unwrap();
    let daemon = Daemon::of(environment);
    let environment = &daemon.environment;
    daemon.create("work", |request| {
        request.image = Some(seed::BUSYBOX.to_owned());
        request.disk = Some(banger_types::size::Mebibytes(1024));
    });
    daemon.wait("work", |vm| vm.accelerator.is_some());
    environment.succeed(&["exec", "work", "--", "sh", "-c", "echo precious > /root/before; sync"]);
    let ballast = disk.fill(2 << 20);
    let script = "dd if=/dev/urandom of=/root/work bs=1M count=12 && sync && sha256sum /root/work";
    let working = environment.banger(&["exec", "work", "--", "sh", "-c", script]);
    let working = { working }.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let vm = daemon.wait_for("work", VmState::Paused);
    assert!(vm.reason.as_deref().is_some_and(|reason| reason.contains("make room")), "{vm:?}");
    // Without room it stands still again at once, mostly before there is an answer: then that says why.
    let resumed = environment.run(&["vm", "resume", "work"]);
    let vm = daemon.wait_for("work", VmState::Paused);
    let reason = vm.reason.unwrap();
    if resumed.code != 0 {
        let expected = format!("error: cannot resume 'work'\n  because: {reason}\n");
        assert_eq!((resumed.code, error(environment, &resumed)), (1, expected));
    }
    drop(ballast);
    environment.succeed(&["vm", "resume", "work"]);
    // The guest has noticed nothing: not even the session was lost.
    let worked = working.wait_with_output().unwrap();
    assert!(worked.status.success(), "{worked:?}");
    let digest = String::from_utf8(worked.stdout).unwrap();
    environment.succeed(&["vm", "stop", "work"]);
    check_file_system(environment, &daemon.vm("work").directory.join("disk.ext4"));
    environment.succeed(&["vm", "start", "work"]);
    assert_eq!(environment.succeed(&["exec", "work", "--", "sha256sum", "/root/work"]), digest);
    assert_eq!(environment.succeed(&["exec", "work", "--", "cat", "/root/before"]), "precious\n");
}

fn check_file_system(environment: &Environment, disk: &Path) {
    let checked = environment.outcome(environment.command("/sbin/e2fsck").arg("-fn").arg(disk));
    assert_eq!(checked.code, 0, "{}", checked.text());
}
