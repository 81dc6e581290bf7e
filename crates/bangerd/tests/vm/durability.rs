//! A guest's fsync is the host's.

use std::process::Stdio;

use banger_testkit::Environment;

use crate::guest::{assert_disk_is_sound, create};

/// Files that come and go without end, while a VMM is killed.
const BUSY: &str = "echo begun; while :; do for i in 1 2 3 4 5 6 7 8; do echo $i > /root/busy-$i; sync; done; \
                    rm /root/busy-*; done";

#[test]
fn a_guests_fsync_reaches_the_host_as_fsync() {
    if !rustix::process::geteuid().is_root() {
        banger_testkit::not_run(
            "a_guests_fsync_reaches_the_host_as_fsync",
            "only root may trace another's process",
        );
        return;
    }
    let environment = Environment::new();
    create(&environment, "sync", &[]);
    let pid = environment.vm("sync")["vmm_pid"].to_string();
    let trace = environment.data().join("trace");
    let mut strace = environment
        .command("strace")
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace)
        .args(["-p", &pid])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // strace says so when it has attached.
    let mut said = std::io::BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("attached"), "{line}");
    let write = "echo precious > /root/file && sync /root/file";
    environment.succeed(&["exec", "-u", "root", "sync", "--", "sh", "-c", write]);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(strace.id()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    strace.wait().unwrap();
    let traced = std::fs::read_to_string(trace).unwrap();
    assert!(traced.contains("sync(") && traced.contains("disk.ext4"), "{traced}");

    // And so it is there after the VMM was killed (SIGKILL) the moment it said that it was, in the midst of more.
    let mut busy = environment
        .banger(&["exec", "-u", "root", "sync", "--", "sh", "-c", BUSY])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(busy.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    environment.succeed(&["vm", "kill", "sync"]);
    busy.wait().unwrap();
    assert_disk_is_sound(&environment, "sync");
    environment.succeed(&["vm", "start", "sync"]);
    assert_eq!(environment.succeed(&["exec", "sync", "--", "cat", "/root/file"]), "precious\n");
}
