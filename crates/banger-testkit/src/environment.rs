//! A home of its own, with a daemon of its own.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use banger_types::guest::Service;
use banger_types::location::variable;
use banger_types::monitor::{self, MonitorReply, MonitorRequest};
use tempfile::TempDir;

use crate::network_host::NetworkHost;
use crate::seed;

/// Returns the directory that holds banger's programs: as `cargo xtask test` says, else that of the
/// test's own build.
pub fn programs() -> PathBuf {
    if let Some(directory) = std::env::var_os(variable::PROGRAM_DIRECTORY) {
        return PathBuf::from(directory);
    }
    // target/TRIPLE/PROFILE/deps/test
    let own = std::env::current_exe().expect("the test's own path");
    own.ancestors().nth(2).expect("a target directory").to_owned()
}

/// Where fakes are, below their own directory, and what they read.
const PROGRAMS: &str = "bin";
const DATA: &str = "share/qemu";

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code; 128 and the signal's number when a signal killed it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Outcome {
    /// Returns standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON on standard output: {error}; {self:?}"))
    }
}

/// An isolated banger. When it goes, its VMs and its daemon go with it.
#[derive(Debug)]
pub struct Environment {
    data: PathBuf,
    /// What stands before banger's programs in `PATH`.
    fakes: Option<PathBuf>,
    /// What its programs find in their environment beside the rest.
    variables: Vec<(&'static str, String)>,
    /// What `nsenter` is told, if its programs are on a host of their own.
    entrance: Option<[String; 5]>,
    _directory: Option<TempDir>,
}

impl Environment {
    /// Returns an environment that has the default kernel and the seed's images.
    pub fn new() -> Self {
        let environment = Self::empty();
        seed::plant(&environment.data);
        environment
    }

    /// Returns an environment like [`Environment::new`] whose VMs are fakes: real processes under a real daemon
    /// and real monitors, without a machine. One is up in milliseconds; see `banger-test-vmm` for what it can do.
    pub fn with_fake_vmm() -> Self {
        Self::new().faking_vmms()
    }

    /// Returns the environment, with fakes for VMs.
    #[must_use]
    pub fn faking_vmms(mut self) -> Self {
        let fakes = self.data.with_file_name("fakes");
        for directory in [PROGRAMS, DATA] {
            std::fs::create_dir_all(fakes.join(directory)).expect("make a directory of fakes");
        }
        let fakes = fakes.join(PROGRAMS);
        std::os::unix::fs::symlink(programs().join("banger-test-vmm"), fakes.join("qemu-system-x86_64"))
            .expect("link the fake VMM");
        self.fakes = Some(fakes);
        self
    }

    /// Returns an environment like [`Environment::new`] in a directory of the test's own, perhaps on another file
    /// system: the kernel and the images take no room there, but are links to the seed's.
    pub fn within(directory: &Path) -> Self {
        let data = directory.join("data");
        seed::plant_links(&data);
        Self::at(data)
    }

    /// Says what fake VMs do that start from now on: fields of `Behaviour` of `banger-test-vmm`.
    pub fn behave(&self, behaviour: &serde_json::Value) {
        let fakes = self.fakes.as_ref().expect("an environment with fakes");
        let place = fakes.with_file_name(DATA).join("fake-vmm.json");
        std::fs::write(place, behaviour.to_string()).expect("write a behaviour");
    }

    /// Connects to a TCP port of a VM's guest, through its monitor and past the daemon.
    pub fn connect(&self, vm: &str, port: u16) -> UnixStream {
        let directory = self.vm(vm)["directory"].as_str().expect("a VM's directory").to_owned();
        let directory = std::fs::File::open(directory).expect("open a VM's directory");
        // The directory may be too deep for a socket's address.
        let socket = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), monitor::file::SOCKET);
        let mut stream = UnixStream::connect(socket).expect("connect to a monitor");
        let request = MonitorRequest::Connect(Service::Tcp(port));
        let line = serde_json::to_string(&request).expect("a request") + "\n";
        stream.write_all(line.as_bytes()).expect("ask a monitor");
        let reply = read_line(&mut stream);
        let reply: MonitorReply = serde_json::from_str(&reply).expect("a monitor's reply");
        assert_eq!(reply, MonitorReply::Connected);
        stream
    }

    /// Returns an environment in which there is nothing yet.
    pub fn empty() -> Self {
        let directory =
            tempfile::Builder::new().prefix("home-").tempdir_in(seed::scratch()).expect("make a home");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("make a data directory");
        Self { data, fakes: None, variables: Vec::new(), entrance: None, _directory: Some(directory) }
    }

    /// Returns an environment whose data is in `data`, and stays.
    pub(crate) const fn at(data: PathBuf) -> Self {
        Self { data, fakes: None, variables: Vec::new(), entrance: None, _directory: None }
    }

    /// Returns the environment, with one more variable for its programs.
    #[must_use]
    pub fn with_variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Returns the environment on a host of its own, which outlives it.
    #[must_use]
    pub fn on(mut self, host: &NetworkHost) -> Self {
        self.entrance = Some(host.entrance());
        self
    }

    /// Writes the configuration file, which the next daemon reads.
    pub fn configure(&self, text: &str) {
        let directory = self.data.join(".config/banger");
        std::fs::create_dir_all(&directory).expect("make a directory of configuration");
        std::fs::write(directory.join("config.toml"), text).expect("write a configuration");
    }

    /// Returns the data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns a command that sees this environment and nothing of the user's own.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match &self.entrance {
            None => Command::new(program),
            Some(entrance) => {
                let mut enter = Command::new("/usr/bin/nsenter");
                enter.args(entrance).arg(program);
                enter
            }
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = self.fakes.iter().cloned().chain([programs()]);
        let path = std::env::join_paths(own.chain(std::env::split_paths(&path))).expect("a path of programs");
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.data)
            .env("TERM", "xterm")
            .env("LANG", "C.UTF-8")
            .env(variable::DATA_DIRECTORY, &self.data)
            .env(variable::PROGRAM_DIRECTORY, programs())
            // Hundreds of daemons would be in each other's way; those whose console is of interest say where it listens.
            .env(variable::WEB_LISTEN, "off")
            .stdin(Stdio::null());
        match (&self.fakes, std::env::var_os(variable::FIRECRACKER)) {
            // No real one beside the fakes, and no question that a fake cannot answer: it boots no kernel.
            (Some(_), _) => {
                command.env(variable::FIRECRACKER, "no-firecracker-here").env(variable::NO_KVM, "1");
            }
            (None, Some(program)) => drop(command.env(variable::FIRECRACKER, program)),
            (None, None) => {}
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Returns a `banger` command.
    pub fn banger(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(programs().join("banger"));
        let verb = arguments.iter().take(2).position(|word| ["create", "run"].contains(word));
        match (verb, engine()) {
            // Whatever would be chosen: a suite for an engine is to run on that.
            (Some(verb), Some(engine)) if self.fakes.is_none() && !arguments.contains(&"--engine") => {
                let (verb, rest) = arguments.split_at(verb + 1);
                command.args(verb).args(["--engine", &engine]).args(rest);
            }
            _ => drop(command.args(arguments)),
        }
        command
    }

    /// Runs `banger` to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.banger(arguments), &[], LIMIT)
    }

    /// Runs `banger` with this on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        outcome(&mut self.banger(arguments), input, LIMIT)
    }

    /// Runs a command to its end.
    pub fn outcome(&self, command: &mut Command) -> Outcome {
        outcome(command, &[], LIMIT)
    }

    /// Starts the daemon with a view of its own of the host's files, which a shell's `script` makes of `arguments`. That needs
    /// root.
    pub fn start_daemon_behind(&self, script: &str, arguments: &[&Path]) {
        let script = format!("{script} && exec banger daemon start");
        let mut start = self.command("unshare");
        let started = self.outcome(start.args(["--mount", "--", "sh", "-c", &script, "sh"]).args(arguments));
        assert_eq!(started.code, 0, "{}", started.stderr);
    }

    /// Runs `banger`, which must succeed, and returns what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(
            outcome.code,
            0,
            "banger {arguments:?}\n{}\n{}\n{}",
            outcome.text(),
            outcome.stderr,
            self.last_words()
        );
        outcome.text()
    }

    /// Returns what is shown of a VM.
    pub fn vm(&self, name: &str) -> serde_json::Value {
        let outcome = self.run(&["vm", "show", name, "--json"]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.json()
    }

    /// Returns the process id of a VM's monitor.
    pub fn monitor_pid(&self, vm: &str) -> i32 {
        let directory = PathBuf::from(self.vm(vm)["directory"].as_str().expect("its directory"));
        let status = std::fs::read(directory.join("status.json")).expect("its monitor's status");
        let status: monitor::MonitorStatus = serde_json::from_slice(&status).expect("a status");
        i32::try_from(status.monitor_pid).expect("a process id")
    }

    /// Returns the process id of the daemon.
    pub fn daemon_pid(&self) -> i32 {
        let status = self.run(&["daemon", "status", "--json"]);
        assert_eq!(status.code, 0, "{}", status.stderr);
        let pid = status.json()["pid"].as_i64().expect("a process id");
        i32::try_from(pid).expect("a process id")
    }

    /// Kills the daemon as a crash would, and waits until it is gone.
    pub fn crash_daemon(&self) {
        let pid = rustix::process::Pid::from_raw(self.daemon_pid()).expect("a process id");
        let pidfd =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("open a pidfd");
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).expect("kill the daemon");
        let mut ended = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut ended, None).expect("wait for the daemon's end");
    }

    /// What may explain a failure: the end of the daemon's log and of every VM's console.
    pub fn last_words(&self) -> String {
        let mut words = tail(&self.data.join("bangerd.log"));
        for vm in std::fs::read_dir(self.data.join("vms")).into_iter().flatten().flatten() {
            for log in ["serial.log", "engine.log", "monitor.log"] {
                words.extend(["--- ", log, "\n"]);
                words += &tail(&vm.path().join(log));
            }
        }
        words
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let words = self.last_words();
            std::io::stderr().write_all(words.as_bytes()).ok();
        }
        let listed = self.run(&["vm", "ls", "-q"]);
        for name in listed.text().lines() {
            self.run(&["vm", "rm", "--force", "--yes", name]);
        }
        self.run(&["daemon", "stop"]);
    }
}

/// Reads a line and not a byte more.
fn read_line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).expect("read a line");
        line.extend(byte);
    }
    String::from_utf8(line).expect("a line of text")
}

fn tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n") + "\n"
}

/// Names the engine that VMs of tests get, unless a test asks for one.
pub(crate) const ENGINE: &str = "BANGER_TEST_ENGINE";

/// Returns the engine that VMs of tests get, if that is not left to the daemon.
pub fn engine() -> Option<String> {
    std::env::var(ENGINE).ok().filter(|engine| !engine.is_empty())
}

/// How long any program of a test may run: far more than the slowest needs on a busy machine, so that
/// what hangs fails by name and does not stop all tests.
const LIMIT: Duration = Duration::from_mins(10);

/// Runs a program to its end, which may take so long.
pub(crate) fn outcome(command: &mut Command, input: &[u8], limit: Duration) -> Outcome {
    let (outcome, hung) = run(command, input, limit);
    assert!(!hung, "{command:?} did not end; it said: {}", outcome.stderr);
    outcome
}

/// Runs a program; returns nothing when it was killed because it took longer.
pub(crate) fn outcome_or_killed(command: &mut Command, limit: Duration) -> Option<Outcome> {
    let (outcome, hung) = run(command, &[], limit);
    (!hung).then_some(outcome)
}

/// Runs a program, and kills it when it takes too long.
fn run(command: &mut Command, input: &[u8], limit: Duration) -> (Outcome, bool) {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let stdin = child.stdin.take();
    let watched = pidfd_of(&child);
    let (output, hung) = std::thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            // A program that has heard enough closes its end: no failure of the test's.
            scope.spawn(move || stdin.write_all(input).ok());
        }
        let watch = scope.spawn(|| kill_if_it_hangs(&watched, limit));
        let output = child.wait_with_output().expect("wait for a program");
        (output, watch.join().expect("a watch over a program"))
    });
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (Outcome { code: code_of(output.status), stdout: output.stdout, stderr }, hung)
}

/// Waits until a program that the test has started itself has ended, and returns its exit code: 128 and the
/// signal's number when a signal killed it.
pub fn exit_code(child: &mut Child) -> i32 {
    let hung = kill_if_it_hangs(&pidfd_of(child), LIMIT);
    let status = child.wait().expect("wait for a program");
    assert!(!hung, "the program did not end");
    code_of(status)
}

pub(crate) fn pidfd_of(child: &Child) -> OwnedFd {
    let pid = rustix::process::Pid::from_child(child);
    // It has not been waited for, so the number is still its own.
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("open a pidfd")
}

/// Waits for a program's end; returns whether it came in time.
pub(crate) fn has_ended_within(program: &OwnedFd, limit: Duration) -> bool {
    let limit = rustix::time::Timespec::try_from(limit).expect("a limit");
    let mut ended = [rustix::event::PollFd::new(program, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut ended, Some(&limit)).expect("wait for a program's end") > 0
}

/// Waits for a program's end; kills it, and returns true, when that does not come.
fn kill_if_it_hangs(program: &OwnedFd, limit: Duration) -> bool {
    if has_ended_within(program, limit) {
        return false;
    }
    // It may have ended just now.
    rustix::process::pidfd_send_signal(program, rustix::process::Signal::KILL).ok();
    true
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("an exit code or a signal")
}
