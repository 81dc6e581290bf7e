//! Steps of [`crate::images`]: OpenSSH's own programs, through `banger vm proxy`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use banger_testkit::{Outcome, Terminal, exit_code};
use banger_types::vm::SessionTarget;

use crate::guest::{Guest, random, start};
use crate::session::{check_the_agent, look_at_the_agent, try_the_window, with_agent};

/// OpenSSH as `banger ssh-config` sets it up: the VM is a host called `NAME.banger`.
struct OpenSsh<'a> {
    guest: &'a Guest,
    directory: tempfile::TempDir,
    /// The VM's name as a host.
    host: String,
    target: SessionTarget,
}

impl<'a> OpenSsh<'a> {
    fn new(guest: &'a Guest) -> Self {
        // Not in the data directory: a socket's path has 108 bytes at most (unix(7)).
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = banger_api::Client::new(guest.environment.data().join("run/bangerd.sock"));
        let target = runtime.block_on(client.session(guest.image.name)).unwrap();
        let shown = guest.environment.run(&["ssh-config", "--json"]).json();
        let host = format!("{}.banger", guest.image.name);
        let openssh = Self { guest, directory, host, target };
        // The daemon's own file, as it is; what the tests want beside it stands before it, and wins.
        let configuration = format!(
            "BatchMode yes\nExitOnForwardFailure yes\nLogLevel ERROR\nInclude {}\n",
            shown["file"].as_str().unwrap()
        );
        std::fs::write(openssh.path("config"), configuration).unwrap();
        openssh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes this the only key that the VM may have, by an option.
    fn know(&self, key: &str) -> String {
        let known = self.path("known_hosts");
        std::fs::write(&known, format!("{} {key}\n", self.host)).unwrap();
        format!("UserKnownHostsFile={}", known.display())
    }

    /// Returns one of OpenSSH's programs, not yet started.
    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.guest.environment.command(program);
        command.arg("-F").arg(self.path("config")).args(arguments);
        command
    }

    /// Runs `ssh`.
    fn ssh(&self, arguments: &[&str]) -> Outcome {
        self.guest.environment.outcome(&mut self.client("ssh", arguments))
    }

    /// Makes a key that nobody knows; returns its file.
    fn strange_key(&self) -> PathBuf {
        let path = self.path("strange");
        let mut keygen = self.guest.environment.command("ssh-keygen");
        let made =
            self.guest.environment.outcome(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path));
        assert_eq!(made.code, 0, "{}", made.stderr);
        path
    }
}

pub(crate) fn keys_are_checked(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let host = openssh.host.as_str();
    // The command may be one that no shell is there for: it is the login that counts.
    let welcome = openssh.ssh(&[host, "true"]);
    assert_ne!(welcome.code, 255, "{}", welcome.stderr);
    let strange = openssh.strange_key();

    // OpenSSH tries the configuration's identity too, so that one must not be there.
    let configuration = guest.environment.run(&["ssh-config"]).text();
    let own = format!("IdentityFile \"{}\"", openssh.target.identity_file.display());
    assert!(configuration.contains(&own), "{configuration}");
    let other = format!("IdentityFile {}", strange.display());
    std::fs::write(openssh.path("other"), configuration.replace(&own, &other)).unwrap();
    let mut denied = guest.environment.command("ssh");
    denied.arg("-F").arg(openssh.path("other")).args(["-o", "BatchMode=yes", host, "true"]);
    let denied = guest.environment.outcome(&mut denied);
    assert_eq!(denied.code, 255);
    assert!(denied.stderr.contains("Permission denied (publickey)"), "{}", denied.stderr);

    let known = openssh.know(std::fs::read_to_string(strange.with_extension("pub")).unwrap().trim_end());
    let impostor = openssh.ssh(&["-o", &known, host, "true"]);
    assert_eq!(impostor.code, 255);
    assert!(impostor.stderr.contains("Host key verification failed"), "{}", impostor.stderr);
}

pub(crate) fn a_command_line_runs(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let outcome = openssh.ssh(&[&openssh.host, "echo \"$HOME\"; echo error >&2; exit 5"]);
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
    assert_eq!(outcome.text(), format!("{}\n", guest.image.home));
    assert_eq!(outcome.stderr, "error\n");
    let user = guest.image.user.unwrap();
    let outcome = openssh.ssh(&["-l", user, &openssh.host, "id", "-un"]);
    assert_eq!(outcome.text(), format!("{user}\n"), "{}", outcome.stderr);
}

pub(crate) fn a_window_is_followed(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let mut terminal = Terminal::new(100, 30);
    let mut client = terminal.spawn(openssh.client("ssh", &[&openssh.host]));
    try_the_window(&mut terminal);
    terminal.type_keys(b"exit 7\r");
    assert_eq!(exit_code(&mut client), 7);
}

pub(crate) fn files_go_there_and_back(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let name = openssh.host.as_str();
    let bytes = random(3 << 20);
    std::fs::write(openssh.path("original"), &bytes).unwrap();
    let (original, copy) = (openssh.path("original"), openssh.path("copy"));
    let batch = format!(
        "put {original} upload\n\
         chmod 640 upload\n\
         mkdir folder\n\
         put {original} \"folder/a name\"\n\
         rename \"folder/a name\" folder/other\n\
         symlink other folder/link\n\
         ls -1 folder\n\
         ls -l upload\n\
         get upload {copy}\n\
         rm folder/link\n\
         rm folder/other\n\
         rmdir folder\n\
         -ls folder\n",
        original = original.display(),
        copy = copy.display(),
    );
    std::fs::write(openssh.path("batch"), batch).unwrap();
    let batch = openssh.path("batch").display().to_string();
    let outcome = guest.environment.outcome(&mut openssh.client("sftp", &["-b", &batch, name]));
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.text(), outcome.stderr);
    assert!(std::fs::read(&copy).unwrap() == bytes, "the file came back changed");
    let text = outcome.text();
    assert!(text.contains("\nfolder/link\n") || text.contains("\nfolder/link \n"), "{text}");
    assert!(text.contains("\nfolder/other\n") || text.contains("\nfolder/other \n"), "{text}");
    let listed = text.lines().find(|line| line.starts_with("-rw-r-----")).map(str::to_owned);
    assert!(listed.is_some_and(|line| line.contains(" 3145728 ") && line.ends_with("upload")), "{text}");
    assert!(outcome.stderr.contains("folder\" not found"), "{}", outcome.stderr);

    if guest.image.login_shell.is_some() {
        let there = guest.exec(&[], &["cat", "upload"]);
        assert!(there.stdout == bytes, "the file arrived changed");
    }
    // scp speaks the same protocol.
    let remote = format!("{name}:upload");
    let second = openssh.path("second").display().to_string();
    let outcome = guest.environment.outcome(&mut openssh.client("scp", &[&remote, &second]));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(std::fs::read(second).unwrap() == bytes, "scp brought the file changed");
}

pub(crate) fn ports_are_forwarded(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let name = openssh.host.as_str();
    let socket = |name: &str| openssh.path(name).display().to_string();
    // Forwards are there before the program: when that serves, all can be tried.
    let to_server = format!("{}:127.0.0.1:7000", socket("server"));
    let by_name = format!("{}:localhost:7000", socket("by-name"));
    let to_nobody = format!("{}:127.0.0.1:1", socket("nobody"));
    let serve = [guest.image.probe, "serve", "127.0.0.1:7000"];
    let forwards = ["-L", &to_server, "-L", &by_name, "-L", &to_nobody, name];
    let mut command = openssh.client("ssh", &[&forwards[..], &serve].concat());
    command.stdin(Stdio::piped());
    let (mut client, _output) = start(&mut command, "serving");

    let bytes = random(1 << 20);
    for path in [openssh.path("server"), openssh.path("by-name")] {
        assert!(echo(&path, &bytes) == bytes, "{} gave back other bytes", path.display());
    }
    let mut refused = UnixStream::connect(openssh.path("nobody")).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap(), 0, "nobody listens there");
    // Its standard input ends, and so does the server.
    drop(client.stdin.take());
    assert_eq!(exit_code(&mut client), 0);

    // The other way: a guest's connection reaches a server of the host's.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let back = format!("7001:127.0.0.1:{}", listener.local_addr().unwrap().port());
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut line = [0; 6];
            connection.read_exact(&mut line).unwrap();
            connection.write_all(&line).unwrap();
        });
        let outcome = openssh.ssh(&["-R", &back, name, guest.image.probe, "ask", "127.0.0.1:7001"]);
        // When nobody has come, the server must not wait for ever.
        if outcome.code != 0 {
            std::net::TcpStream::connect(listener.local_addr().unwrap()).ok();
        }
        outcome
    });
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

/// Sends bytes to an echo server while reading what comes back.
fn echo(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut reader = UnixStream::connect(socket).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        reader.read_to_end(&mut back).unwrap();
    });
    back
}

pub(crate) fn the_agent_is_forwarded(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let look = look_at_the_agent(guest);
    let line = format!("ssh -F {} -A {} '{look}'", openssh.path("config").display(), openssh.host);
    check_the_agent(guest, &with_agent(guest, &line));
}

pub(crate) fn trees_are_synchronised(guest: &Guest) {
    let openssh = OpenSsh::new(guest);
    let tree = openssh.path("tree");
    std::fs::create_dir_all(tree.join("folder/deep")).unwrap();
    std::fs::write(tree.join("folder/deep/large"), random(1 << 20)).unwrap();
    std::fs::write(tree.join("a name"), "text\n").unwrap();
    std::os::unix::fs::symlink("folder/deep/large", tree.join("link")).unwrap();

    let shell = format!("ssh -F {}", openssh.path("config").display());
    let rsync = |from: &str, to: &str| {
        let mut command = guest.environment.command("rsync");
        let outcome = guest.environment.outcome(command.args(["-a", "--delete", "-e", &shell, from, to]));
        assert_eq!(outcome.code, 0, "{from} to {to}: {}", outcome.stderr);
    };
    let (local, remote) = (format!("{}/", tree.display()), format!("{}:tree/", openssh.host));
    let back = openssh.path("back");
    let back_again = format!("{}/", back.display());
    rsync(&local, &remote);
    std::fs::remove_file(tree.join("a name")).unwrap();
    rsync(&local, &remote);
    rsync(&remote, &back_again);
    let mut compare = guest.environment.command("diff");
    let compared = guest.environment.outcome(compare.args(["-r", "--no-dereference"]).arg(&tree).arg(&back));
    assert_eq!((compared.code, compared.text()), (0, String::new()), "{}", compared.stderr);
}
