//! `banger daemon …`, and the daemon that starts by itself.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use banger_types::location::variable;
use banger_types::system::SystemStatus;
use banger_types::{ApiError, ErrorKind};

use crate::support::{Daemon, World, system};

/// Name of the variable that says what the fake daemon is to do.
const ROLE: &str = "BANGER_TEST_ROLE";

/// Not a test but the fake `bangerd`: this very program, started by `banger` through a file whose
/// first line names it and this function. Does nothing when run as a test.
#[test]
fn acts_as_bangerd() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let number: i32 = std::env::var(variable::READY_DESCRIPTOR).unwrap().parse().unwrap();
    #[expect(unsafe_code, reason = "an inherited descriptor is only a number")]
    // SAFETY: the program that started this one says that the descriptor is open, and nothing else
    // here knows of it.
    let mut ready = unsafe { File::from_raw_fd(number) };
    let data = std::env::var_os(variable::DATA_DIRECTORY).unwrap();
    let directory = Path::new(&data).parent().unwrap().to_owned();
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("starts"))
        .unwrap()
        .write_all(b"started\n")
        .unwrap();
    let answer: Result<SystemStatus, ApiError> = match role.as_str() {
        "dies" => return,
        "refuses" => Err(ApiError::new(ErrorKind::NotPermitted, "the data directory is somebody else's")
            .because("its owner is user 7")
            .fix("set BANGER_DATA_DIR to a directory of yours")),
        _ => Ok(system(&directory, std::process::id())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = directory.join("data/run/bangerd.sock");
        let daemon = match &answer {
            Ok(_) => Some(Daemon::start(&socket, &directory)),
            Err(_) => None,
        };
        // A session of its own, so that the terminal's signals pass it by.
        assert_eq!(rustix::process::getsid(None).unwrap(), rustix::process::getpid());
        let mut line = serde_json::to_vec(&answer).unwrap();
        line.push(b'\n');
        ready.write_all(&line).unwrap();
        drop(ready);
        if let Some(daemon) = daemon {
            daemon.ended.notified().await;
            std::fs::remove_file(socket).unwrap();
        }
    });
}

/// A world whose daemon, if one was started, does not outlive a test that fails.
struct Started(World);

impl std::ops::Deref for Started {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Stops nothing if nothing runs; a test that wants to see it stop does so itself.
        drop(self.0.command(["daemon", "stop"]).status());
    }
}

/// Returns a world in which `bangerd` is the function above.
fn world() -> Started {
    let world = World::without_daemon();
    let program = world.path().join("programs/bangerd");
    // By a short path, for the kernel cuts the first line of a script.
    let interpreter = world.path().join("tests");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &interpreter).unwrap();
    std::fs::write(&program, format!("#!{} acts_as_bangerd\n", interpreter.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Started(world)
}

fn command(world: &World, role: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = world.command(arguments);
    command.env(ROLE, role);
    command
}

fn run(world: &World, role: &str, arguments: &[&str]) -> String {
    let ended = world.end(command(world, role, arguments).spawn().unwrap());
    let text = ended.to_string().replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    // Process ids are the only numbers after this word.
    let mut parts = text.split("(process ");
    let mut masked = parts.next().unwrap().to_owned();
    for part in parts {
        masked.push_str("(process [PID]");
        masked.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    masked
}

#[test]
fn a_daemon_is_started_used_and_stopped() {
    let world = world();
    insta::assert_snapshot!(run(&world, "serves", &["vm", "ls", "-q"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    started bangerd [VERSION] (process [PID])
    ");
    insta::assert_snapshot!(run(&world, "serves", &["vm", "ls", "-q"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    ");
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "start"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    bangerd [VERSION] runs already (process [PID])
    ");
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "stop"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    stopped bangerd [VERSION] (process [PID]); VMs go on
    ");
    assert!(!world.socket().exists(), "it is gone when the command returns");
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "stop"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    bangerd does not run
    ");
    assert_eq!(std::fs::read_to_string(world.path().join("starts")).unwrap(), "started\n");
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let world = world();
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "restart"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    started bangerd [VERSION] (process [PID])
    ");
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "restart"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    stopped bangerd [VERSION] (process [PID]); VMs go on
    started bangerd [VERSION] (process [PID])
    ");
    assert_eq!(std::fs::read_to_string(world.path().join("starts")).unwrap(), "started\nstarted\n");
    let ended = world.end(command(&world, "serves", &["daemon", "restart", "--json"]).spawn().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let status: SystemStatus = serde_json::from_slice(&ended.stdout).unwrap();
    assert_ne!(status.pid, std::process::id());
}

#[test]
fn clients_at_the_same_moment_start_one() {
    let world = world();
    let children: Vec<_> =
        (0..6).map(|_| command(&world, "serves", &["vm", "ls", "-q"]).spawn().unwrap()).collect();
    for child in children {
        let ended = world.end(child);
        assert_eq!(ended.code, 0, "{ended}");
    }
    assert_eq!(std::fs::read_to_string(world.path().join("starts")).unwrap(), "started\n");
}

#[test]
fn a_daemon_that_does_not_start_says_why() {
    let world = world();
    insta::assert_snapshot!(run(&world, "dies", &["vm", "ls"]), @r"
    exit code: 5
    --- stdout
    --- stderr
    error: bangerd ended before it was ready
      because: it closed the pipe to say that it is ready without a word
      try: banger daemon logs
    ");
    insta::assert_snapshot!(run(&world, "refuses", &["daemon", "start"]), @r"
    exit code: 6
    --- stdout
    --- stderr
    error: the data directory is somebody else's
      because: its owner is user 7
      try: set BANGER_DATA_DIR to a directory of yours
    ");
    assert_eq!(world.end(command(&world, "dies", &["exec", "web", "true"]).spawn().unwrap()).code, 125);
    std::fs::remove_file(world.path().join("programs/bangerd")).unwrap();
    insta::assert_snapshot!(run(&world, "serves", &["vm", "ls"]), @r"
    exit code: 6
    --- stdout
    --- stderr
    error: there is no program 'bangerd' in [DIR]/programs
      try: set BANGER_PROGRAM_DIR to the directory that has it, or unset it
    ");
}

#[test]
fn the_status_starts_nothing() {
    let world = world();
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "status"]), @r"
    exit code: 5
    --- stdout
    --- stderr
    error: bangerd does not run
      try: banger daemon start
    ");
    insta::assert_snapshot!(run(&world, "serves", &["daemon", "logs"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: bangerd has written no log to [DIR]/data/bangerd.log
      try: banger daemon start
    ");
    assert!(!world.path().join("starts").exists());
}

#[test]
fn the_status_tells_where_things_are() {
    let world = World::new();
    let ended = world.run(["daemon", "status"]);
    let text = ended.text().replace(world.path().to_str().unwrap(), "[DIR]");
    let text = text.replace(&std::process::id().to_string(), "[PID]");
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]"), @"
    Version:       [VERSION]
    Process:       [PID]
    Started:       3 minutes ago
    Socket:        [DIR]/data/run/bangerd.sock
    Data:          [DIR]/data
    Log:           [DIR]/data/bangerd.log
    Engine:        qemu, in emulation: the kernel did not boot under KVM
    Root helper:   needs a password
    VMs:           2 (1 running)
    Images:        1
    Kernels:       1
    Web console:   off
    ");
    let status: SystemStatus =
        serde_json::from_slice(&world.run(["daemon", "status", "--json"]).stdout).unwrap();
    assert_eq!(status, world.daemon().shown(|shown| shown.system.clone()));
    std::fs::write(world.path().join("data/bangerd.log"), "first\nlast\n").unwrap();
    assert_eq!(world.run(["daemon", "logs"]).text(), "first\nlast\n");
}
