//! What is done to a VM in the course of its life, on a real one.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use banger_testkit::{Environment, is_full_run, not_run, wait_until};

use crate::guest::{BUSYBOX, EchoServer, random, small};

fn create(environment: &Environment, name: &str, more: &[&str]) {
    environment.succeed(&[&["vm", "create", name], &small(&BUSYBOX)[..], more].concat());
}

/// How far the guest's clock is from the host's, seconds.
fn clock_error(environment: &Environment, name: &str) -> f64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    // With a fraction: the time of a file that is only just made.
    let stat = "touch /tmp/now && stat -c %Y /tmp/now && stat -c %y /tmp/now";
    let said = environment.succeed(&["exec", "-u", "root", name, "--", "sh", "-c", stat]);
    let after = now();
    let seconds: f64 = said.lines().next().unwrap().parse().unwrap();
    let fraction = said.lines().nth(1).and_then(|line| line.split('.').nth(1));
    let fraction = fraction.and_then(|rest| format!("0.{}", rest.split(' ').next()?).parse::<f64>().ok());
    let guest = seconds + fraction.unwrap_or(0.5);
    if guest < before { guest - before } else { (guest - after).max(0.0) }
}

/// Waits until the guest's clock is right.
fn wait_for_clock(environment: &Environment, name: &str) {
    let is_small = |error: &str| error.parse().is_ok_and(|error: f64| error.abs() < 1.0);
    wait_until(|| clock_error(environment, name).to_string(), is_small);
}

#[test]
fn a_pause_is_no_time_for_the_guest_and_its_clock_is_right_after_it() {
    let environment = Environment::new();
    create(&environment, "still", &[]);
    let count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
    let mut counter = environment
        .banger(&["exec", "still", "--", "sh", "-c", count])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(counter.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    environment.succeed(&["vm", "pause", "still"]);
    assert_eq!(environment.vm("still")["state"], "paused");
    let refused = environment.run(&["exec", "still", "--", "true"]);
    assert_eq!(refused.code, 125);
    assert!(
        refused.stderr.contains("it is paused") && refused.stderr.contains("banger vm resume"),
        "{}",
        refused.stderr
    );
    // The daemon that resumes it is another one.
    environment.crash_daemon();
    assert_eq!(environment.vm("still")["state"], "paused");
    std::thread::sleep(Duration::from_secs(3));
    environment.succeed(&["vm", "resume", "still"]);
    assert_eq!(environment.vm("still")["state"], "running");
    let error = clock_error(&environment, "still");
    assert!(error.abs() < 1.0, "the clock is off by {error} s");
    // The open session goes on where it was.
    lines.next().unwrap().unwrap();
    counter.kill().unwrap();
    counter.wait().unwrap();

    // A paused VM stops in order: what was written is there.
    environment.succeed(&["exec", "still", "--", "sh", "-c", "echo kept > /root/file"]);
    environment.succeed(&["vm", "pause", "still"]);
    environment.succeed(&["vm", "stop", "still"]);
    environment.succeed(&["vm", "start", "still"]);
    assert_eq!(environment.succeed(&["exec", "still", "--", "cat", "/root/file"]), "kept\n");

    // And so it does when its host goes down.
    environment.succeed(&["exec", "still", "--", "sh", "-c", "echo kept too > /root/file"]);
    environment.succeed(&["vm", "pause", "still"]);
    let monitor = rustix::process::Pid::from_raw(environment.monitor_pid("still")).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::TERM).unwrap();
    environment.succeed(&["vm", "wait", "still", "--for", "stopped"]);
    assert_eq!(environment.vm("still")["reason"], "the host was going down");
    environment.succeed(&["vm", "start", "still"]);
    assert_eq!(environment.succeed(&["exec", "still", "--", "cat", "/root/file"]), "kept too\n");
}

/// Held by who sets the host's clock: every VM hears of that.
static HOST_CLOCK: Mutex<()> = Mutex::new(());

/// What a host does that wakes up, or whose clock is set: its clock jumps, here to where it is.
#[test]
fn the_clock_follows_a_host_that_slept() {
    let _clock = HOST_CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    if rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).is_err() {
        not_run("the_clock_follows_a_host_that_slept", "the host's clock may not be set");
        return;
    }
    let environment = Environment::new();
    create(&environment, "clock", &[]);
    // As after an hour of sleep, of which nobody told the guest.
    environment.succeed(&["exec", "-u", "root", "clock", "--", "/bin/probe", "set-clock", "-3600"]);
    assert!(clock_error(&environment, "clock").abs() > 3500.0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).unwrap();
    wait_for_clock(&environment, "clock");
}

/// The monitor tells the guest of the host's jumps; here it was stopped while one came.
#[test]
fn the_clock_is_right_after_the_monitor_was_stopped() {
    let _clock = HOST_CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    if rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).is_err() {
        not_run("the_clock_is_right_after_the_monitor_was_stopped", "the host's clock may not be set");
        return;
    }
    let environment = Environment::new();
    create(&environment, "held", &[]);
    let monitor = rustix::process::Pid::from_raw(environment.monitor_pid("held")).unwrap();
    environment.succeed(&["exec", "-u", "root", "held", "--", "/bin/probe", "set-clock", "-3600"]);
    rustix::process::kill_process(monitor, rustix::process::Signal::STOP).unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).unwrap();
    // What is tried is the time itself.
    std::thread::sleep(Duration::from_secs(if is_full_run() { 60 } else { 5 }));
    rustix::process::kill_process(monitor, rustix::process::Signal::CONT).unwrap();
    wait_for_clock(&environment, "held");
    assert_eq!(environment.vm("held")["state"], "running");
}

#[test]
fn a_restart_is_a_new_boot_with_the_same_disk_and_forwards() {
    let environment = Environment::new();
    create(&environment, "again", &["-p", "0:7000"]);
    environment.succeed(&["exec", "again", "--", "sh", "-c", "echo kept > /root/file"]);
    let before = environment.vm("again");
    environment.succeed(&["vm", "restart", "again"]);
    let after = environment.vm("again");
    assert_ne!(before["started_at"], after["started_at"]);
    assert_eq!(after["forwards"].as_array().unwrap().len(), 1);
    assert_eq!(environment.succeed(&["exec", "again", "--", "cat", "/root/file"]), "kept\n");

    // A forward that comes while it runs, and a name that changes.
    let server = EchoServer::inside(&environment, "again", "127.0.0.1:7001");
    let added = environment.run(&["vm", "forward", "add", "again", "0:7001", "--json"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let listen = added.json()["listen"].as_str().unwrap().to_owned();
    crate::survival::exchange(&mut std::net::TcpStream::connect(&listen).unwrap(), b"through");
    environment.succeed(&["vm", "rename", "again", "renamed"]);
    crate::survival::exchange(&mut std::net::TcpStream::connect(&listen).unwrap(), b"renamed");
    drop(server);
    environment.succeed(&["vm", "restart", "renamed"]);
    assert_eq!(environment.succeed(&["exec", "renamed", "--", "hostname"]), "renamed\n");
}

#[test]
fn files_are_copied_both_ways() {
    let environment = Environment::new();
    create(&environment, "copy", &[]);
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    std::fs::create_dir_all(tree.join("folder/deep")).unwrap();
    std::fs::write(tree.join("folder/deep/large"), random(3 << 20)).unwrap();
    std::fs::write(tree.join("a name"), "text\n").unwrap();
    std::os::unix::fs::symlink("folder/deep/large", tree.join("link")).unwrap();
    let from = tree.display().to_string();
    environment.succeed(&["vm", "cp", &from, "copy:/root/"]);
    let back = here.path().join("back").display().to_string();
    environment.succeed(&["cp", "copy:/root/tree", &back]);
    let mut compare = environment.command("diff");
    let compared = environment.outcome(compare.args(["-r", "--no-dereference", &from, &back]));
    assert_eq!((compared.code, compared.text()), (0, String::new()), "{}", compared.stderr);
    let missing = environment.run(&["cp", "copy:/root/nothing", &back]);
    assert_eq!(missing.code, 1, "{}", missing.stderr);
}

#[test]
fn logs_are_followed_to_the_end() {
    let environment = Environment::new();
    create(&environment, "log", &[]);
    let mut follower =
        environment.banger(&["vm", "logs", "-f", "-n", "0", "log"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let say = |text: &str| {
        let command = format!("echo {text} > /dev/console");
        environment.succeed(&["exec", "-u", "root", "log", "--", "sh", "-c", &command]);
    };
    // It has begun when it shows what is said; what was said before is not shown.
    say("one");
    let mut heard = lines.next().unwrap().unwrap();
    while !heard.contains("one") {
        heard = lines.next().unwrap().unwrap();
    }
    say("two");
    assert!(lines.next().unwrap().unwrap().contains("two"));
    let last = environment.succeed(&["vm", "logs", "-n", "1", "log"]);
    assert!(last.contains("two") && last.lines().count() == 1, "{last}");
    let boot = environment.succeed(&["vm", "logs", "--boot", "log"]);
    assert!(boot.contains("two"), "{boot}");
    // It ends with the VM.
    environment.succeed(&["vm", "rm", "-f", "log"]);
    assert!(follower.wait().unwrap().success());
}
