//! The API against its own description: schemathesis makes requests of it, good ones and bad ones, and looks at the answers.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_testkit::{is_full_run, not_run, schemathesis};

use crate::support::Daemon;

/// What is not asked: it ends the daemon, or has no end itself.
const LEFT_OUT: [&str; 3] = ["shut_down", "listen", "read_vm_log"];

/// What is as it is described may be refused all the same, but not with 400: more processors than the host has, say.
const SETTINGS: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "403", "404", "409", "422"]

# The tool cannot ask for an upgrade, and is told to.
[[operations]]
include-operation-id = "attach_console"
checks.positive_data_acceptance.expected-statuses = ["404", "426"]
"#;

/// A port of loopback that leads to the daemon's socket, which is what the tool can connect to.
struct Door {
    port: u16,
}

impl Door {
    fn to(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket: PathBuf = socket.to_owned();
        // It ends with the test's program.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(daemon) = UnixStream::connect(&socket) else { return };
                std::thread::spawn(move || splice(&client, &daemon));
            }
        });
        Self { port }
    }
}

fn splice(client: &TcpStream, daemon: &UnixStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            io::copy(&mut { client }, &mut { daemon }).ok();
            daemon.shutdown(Shutdown::Write).ok();
        });
        io::copy(&mut { daemon }, &mut { client }).ok();
        client.shutdown(Shutdown::Both).ok();
    });
}

#[test]
fn every_answer_is_as_the_description_says() {
    let Some(tool) = schemathesis() else {
        not_run("schema::every_answer_is_as_the_description_says", "there is no schemathesis");
        return;
    };
    let daemon = Daemon::new();
    daemon.create("web", |_| ());
    daemon.create("idle", |request| request.no_start = true);
    let door = Door::to(daemon.client.socket());
    let address = format!("http://127.0.0.1:{}", door.port);
    let examples = if is_full_run() { "60" } else { "5" };
    let mut command = Command::new(tool);
    command.args(["run", &format!("{address}/v1/openapi.json"), "--url", &address, "--checks", "all"]);
    command.args(["--max-examples", examples, "--request-timeout", "30", "--no-color"]);
    command.args(["--generation-deterministic", "--continue-on-failure"]);
    for name in LEFT_OUT {
        command.args(["--exclude-operation-id", name]);
    }
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("schemathesis.toml"), SETTINGS).unwrap();
    let told = command.current_dir(scratch.path()).env("HOME", scratch.path()).output().unwrap();
    let report = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{report}{}", String::from_utf8_lossy(&told.stderr));
    // It is alive, and so is what it looks after.
    daemon.call(daemon.client.system()).unwrap();
    daemon.environment.succeed(&["vm", "ls"]);
    let log = std::fs::read_to_string(daemon.environment.data().join("bangerd.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
