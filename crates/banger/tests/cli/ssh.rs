//! `banger ssh` and `banger vm proxy`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use crate::exec::world;

#[test]
fn a_command_line_is_joined_as_ssh_does() {
    let ended = world().run(["ssh", "web", "--", "ls", "-l", "a  b"]);
    assert_eq!((ended.code, ended.text()), (0, "line: ls -l a  b\n"));
}

#[test]
fn without_a_command_it_is_a_login_shell() {
    let ended = world().run_with_input(["vm", "ssh", "-u", "root", "web"], b"typed\n".to_vec());
    assert_eq!((ended.code, ended.text()), (5, "login shell of root without a terminal\ntyped\n"));
}

#[test]
fn the_agent_is_the_guests_only_when_asked() {
    let world = world();
    let socket = world.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"answer").unwrap();
        question
    });
    let mut command = world.command(["ssh", "-A", "web", "agent"]);
    let ended = world.end(command.env("SSH_AUTH_SOCK", &socket).spawn().unwrap());
    assert_eq!((ended.code, ended.text()), (0, "line: agent\nanswer"), "{ended}");
    assert_eq!(&agent.join().unwrap(), b"question");
    insta::assert_snapshot!(world.run(["ssh", "-A", "web", "agent"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    error: there is no SSH agent to forward: SSH_AUTH_SOCK is not set
      try: eval $(ssh-agent)
    ");
}

#[test]
fn the_proxy_is_a_plain_stream_to_the_server() {
    let world = world();
    let mut child = world.command(["vm", "proxy", "web"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-2.0-");
    // End of input ends the connection, and that the program.
    drop(child.stdin.take());
    let ended = world.end(child);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
