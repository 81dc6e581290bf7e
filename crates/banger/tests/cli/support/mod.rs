//! A world for one test: a directory, a fake daemon and a fake guest.

mod daemon;
mod guest;
mod hostile;
pub(crate) mod sample;

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

pub(crate) use banger_testkit::Terminal;
pub(crate) use daemon::{Daemon, Request};
pub(crate) use guest::{FILE_SERVER, Shown as GuestShown};
pub(crate) use hostile::Hostile;
pub(crate) use sample::{image, kernel, operation, succeeded, system, vm};

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; 128 + N after signal N.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// All that a snapshot shows of a run; spaces at the ends of lines are not seen by anybody.
impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit code: {}", self.code)?;
        let stdout = String::from_utf8_lossy(&self.stdout);
        writeln!(f, "--- stdout")?;
        stdout.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))?;
        write!(f, "--- stderr\n{}", self.stderr)
    }
}

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) daemon: Option<Arc<Daemon>>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// Returns a world whose daemon runs, and whose guests answer.
    pub(crate) fn new() -> Self {
        let mut world = Self::without_daemon();
        let entered = world.runtime.enter();
        let daemon = Daemon::start(&world.socket(), world.path());
        drop(entered);
        world.daemon = Some(daemon);
        world
    }

    /// Returns a world without a daemon, and with no program that could be started as one.
    pub(crate) fn without_daemon() -> Self {
        let directory = tempfile::Builder::new().prefix("banger-cli-").tempdir().unwrap();
        std::fs::create_dir(directory.path().join("programs")).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { directory, daemon: None, runtime }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("data/run/bangerd.sock")
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Waits until somebody watches an operation or a VM.
    pub(crate) fn watched(&self) {
        self.runtime.block_on(self.daemon().watched.notified());
    }

    /// Returns the program with an environment of its own, no terminal and no input.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banger"));
        command
            .args(arguments)
            .env_clear()
            .env("BANGER_DATA_DIR", self.path().join("data"))
            .env("BANGER_PROGRAM_DIR", self.path().join("programs"))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        self.end(self.command(arguments).spawn().unwrap())
    }

    /// Waits for a program's end, and reads all that it printed.
    pub(crate) fn end(&self, mut child: Child) -> Ended {
        let mut error = child.stderr.take();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(error) = &mut error {
                error.read_to_end(&mut text).unwrap();
            }
            text
        });
        let mut stdout = Vec::new();
        if let Some(output) = &mut child.stdout {
            output.read_to_end(&mut stdout).unwrap();
        }
        let status = child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        let stderr = String::from_utf8(reader.join().unwrap()).unwrap();
        let stderr = stderr.replace(self.path().to_str().unwrap(), "[DIR]");
        Ended { code, stdout, stderr }
    }

    /// Runs the program to its end with `input` as standard input.
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: Vec<u8>,
    ) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut pipe, &input));
        let ended = self.end(child);
        // A program that ends without reading everything is no failure here.
        let _ = writer.join().unwrap();
        ended
    }
}
