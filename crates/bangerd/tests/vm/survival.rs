//! VMs outlive the daemon, and what it leaves half done is undone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use banger_testkit::{Environment, SmallDisk, programs, seed};

use crate::guest::{EchoServer, create, create_with_network};

#[test]
fn a_vm_does_not_notice_that_the_daemon_was_killed() {
    let environment = Environment::new();
    create_with_network(&environment, "tough", &["-p", "0:7000"]);
    let before = environment.vm("tough");
    let address = before["forwards"][0]["listen"].as_str().unwrap().to_owned();

    // An open session that echoes, and an open connection to an echo server of the guest.
    let mut session = environment
        .banger(&["exec", "tough", "--", "/bin/probe", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to_session = session.stdin.take().unwrap();
    let mut from_session = BufReader::new(session.stdout.take().unwrap());
    let mut echo = |text: &str| {
        writeln!(to_session, "{text}").unwrap();
        let mut line = String::new();
        from_session.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), text);
    };
    echo("before");
    let server = EchoServer::inside(&environment, "tough", "127.0.0.1:7000");
    let mut connection = TcpStream::connect(&address).unwrap();
    exchange(&mut connection, b"before");

    environment.crash_daemon();
    echo("without a daemon");
    exchange(&mut connection, b"without a daemon");
    // A new connection needs no daemon either.
    exchange(&mut TcpStream::connect(&address).unwrap(), b"new");

    // The next command starts the daemon; its list is true.
    let after = environment.vm("tough");
    for same in ["state", "started_at", "vmm_pid", "forwards", "id"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    echo("with another daemon");
    exchange(&mut connection, b"with another daemon");
    drop(to_session);
    assert!(session.wait().unwrap().success());
    drop(server);
    environment.succeed(&["vm", "stop", "tough"]);
}

pub(crate) fn exchange(connection: &mut TcpStream, bytes: &[u8]) {
    connection.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(answer, bytes);
}

/// As an upgrade does it: other files under the same names.
#[test]
fn a_vm_goes_on_while_every_program_of_banger_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let replace = || {
        for program in ["bangerd", "banger", "banger-monitor", "banger-filter", "banger-tap", "banger-guest"]
        {
            let partial = place.path().join("partial");
            std::fs::copy(programs().join(program), &partial).unwrap();
            std::fs::rename(partial, place.path().join(program)).unwrap();
        }
    };
    replace();
    let environment = Environment::new().with_variable("BANGER_PROGRAM_DIR", place.path().to_str().unwrap());
    create_with_network(&environment, "kept", &["-p", "0:7000"]);
    let before = environment.vm("kept");
    let server = EchoServer::inside(&environment, "kept", "127.0.0.1:7000");
    let address = before["forwards"][0]["listen"].as_str().unwrap().to_owned();
    let mut connection = TcpStream::connect(&address).unwrap();
    exchange(&mut connection, b"before");

    replace();
    environment.succeed(&["daemon", "restart"]);
    let program = std::fs::read_link(format!("/proc/{}/exe", environment.daemon_pid())).unwrap();
    assert_eq!(program, place.path().join("bangerd"));
    let after = environment.vm("kept");
    for same in ["state", "started_at", "vmm_pid", "forwards", "id"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    exchange(&mut connection, b"after");
    assert_eq!(environment.succeed(&["exec", "kept", "--", "echo", "new"]), "new\n");
    drop((connection, server));
    // Its monitor is still the old one, and starts it again with what is there now.
    environment.run(&["exec", "kept", "--", "reboot"]);
    super::lifecycle::wait_until(&environment, "kept", |vm| {
        vm["state"] == "running" && vm["vmm_pid"] != before["vmm_pid"]
    });
    assert_eq!(environment.succeed(&["exec", "kept", "--", "echo", "again"]), "again\n");
    environment.succeed(&["vm", "restart", "kept"]);
    let monitor = environment.monitor_pid("kept");
    let program = std::fs::read_link(format!("/proc/{monitor}/exe")).unwrap();
    assert_eq!(program, place.path().join("banger-monitor"));
    environment.succeed(&["vm", "stop", "kept"]);
}

#[test]
fn a_console_that_finds_no_room_does_not_stop_its_guest() {
    let test = "a_console_that_finds_no_room_does_not_stop_its_guest";
    let Some(disk) = SmallDisk::new(test, "320M") else { return };
    let environment = Environment::new();
    // The daemon's own files have their room, and the guest's disk has all that it may take.
    std::os::unix::fs::symlink(disk.path(), environment.data().join("vms")).unwrap();
    let small = ["--image", seed::BUSYBOX, "--memory", "256M", "--vcpus", "1", "--net", "none"];
    let create = [&["vm", "create", "talks", "--no-start", "--disk", "256M"], &small[..]].concat();
    environment.succeed(&create);
    let directory = environment.vm("talks")["directory"].as_str().unwrap().to_owned();
    let file = std::fs::File::options().write(true).open(format!("{directory}/disk.ext4")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 256 << 20).unwrap();
    environment.succeed(&["vm", "start", "talks"]);
    let ballast = disk.fill(0);
    // More than a pipe holds (pipe(7)): a monitor that stopped reading would stop the guest.
    let talk = "i=0; while [ $i -lt 80 ]; do i=$((i+1)); printf '%01000d\\n' $i; done > /dev/ttyS0";
    environment.succeed(&["exec", "talks", "--", "sh", "-c", talk]);
    drop(ballast);
    environment.succeed(&["exec", "talks", "--", "sh", "-c", "echo there is room again > /dev/ttyS0"]);
    environment.succeed(&["vm", "stop", "talks"]);
    let log = environment.succeed(&["vm", "logs", "talks"]);
    assert!(log.contains("there is room again"), "{}", &log[log.len().saturating_sub(2000)..]);
}

#[test]
fn what_a_killed_daemon_had_begun_is_gone_on_with_by_the_next() {
    let environment = Environment::empty();
    let pull = environment.run(&["image", "pull", "debian", "--no-wait", "--json"]);
    let operation = pull.json()["id"].as_str().unwrap().to_owned();
    // The first line of the watch says that it is under way.
    let mut watch =
        environment.banger(&["op", "watch", &operation, "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("running"), "{line}");
    environment.crash_daemon();
    watch.wait().unwrap();

    let shown = environment.run(&["op", "show", &operation, "--json"]);
    assert_eq!(shown.json()["status"], "running", "{}", shown.text());
    environment.succeed(&["op", "cancel", &operation]);
    let shown = environment.run(&["op", "show", &operation, "--json"]);
    assert_eq!(shown.json()["status"], "cancelled", "{}", shown.text());
    assert_eq!(environment.succeed(&["image", "ls", "-q"]), "");
    assert_eq!(std::fs::read_dir(environment.data().join("images")).unwrap().count(), 0);
}

#[test]
fn a_vm_that_ends_while_no_daemon_runs_is_found_ended() {
    let environment = Environment::new();
    create(&environment, "gone", &[]);
    let pid = environment.vm("gone")["vmm_pid"].as_i64().unwrap();
    environment.crash_daemon();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::event::poll(&mut [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)], None)
        .unwrap();
    super::lifecycle::wait_for_state(&environment, "gone", "failed");
    environment.succeed(&["vm", "start", "gone"]);
    assert_eq!(environment.vm("gone")["state"], "running");
}
