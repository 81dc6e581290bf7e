//! The VMM and its helpers as child processes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use banger_types::monitor::{ChannelSource, LaunchSpec, Program};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::system;

/// Largest number under which a program can find a descriptor. Few programs need more than three.
const LARGEST_NUMBER: i32 = 255;

/// Why the programs of a launch could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("the program '{name}' has the path '{path}', which is not absolute")]
    RelativePath { name: String, path: String },
    #[error(
        "the program '{name}' wants a descriptor as number {number}; 3 to {LARGEST_NUMBER} are possible, each once"
    )]
    Number { name: String, number: i32 },
    #[error("the pair '{pair}' has {users} users, not two")]
    Pair { pair: String, users: usize },
    #[error("cannot make the socket pair '{pair}'")]
    MakePair {
        pair: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot give the programs their logs")]
    Logs {
        #[source]
        source: io::Error,
    },
    #[error("cannot remove what is in the place of the VMM's socket {path}", path = path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start '{name}' ({path})")]
    Start {
        name: String,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// The ends of the launch's socket pairs that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Pairs(BTreeMap<String, Vec<UnixStream>>);

impl Pairs {
    /// Checks the launch and makes its pairs.
    pub(crate) fn new(spec: &LaunchSpec) -> Result<Self, LaunchError> {
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for program in spec.helpers.iter().chain([&spec.vmm]) {
            check(program)?;
            for descriptor in &program.descriptors {
                *users.entry(&descriptor.pair).or_default() += 1;
            }
        }
        if let ChannelSource::Pair(pair) = &spec.channel {
            *users.entry(pair).or_default() += 1;
        }
        let mut pairs = BTreeMap::new();
        for (pair, users) in users {
            if users != 2 {
                return Err(LaunchError::Pair { pair: pair.to_owned(), users });
            }
            let (one, other) = UnixStream::pair()
                .map_err(|source| LaunchError::MakePair { pair: pair.to_owned(), source })?;
            pairs.insert(pair.to_owned(), vec![one, other]);
        }
        Ok(Self(pairs))
    }

    /// Takes one end.
    pub(crate) fn take(&mut self, pair: &str) -> Option<UnixStream> {
        self.0.get_mut(pair).and_then(Vec::pop)
    }
}

fn check(program: &Program) -> Result<(), LaunchError> {
    if !program.path.is_absolute() {
        let path = program.path.display().to_string();
        return Err(LaunchError::RelativePath { name: program.name.clone(), path });
    }
    for (index, descriptor) in program.descriptors.iter().enumerate() {
        let number = descriptor.number;
        let again = program.descriptors[..index].iter().any(|other| other.number == number);
        if again || !(3..=LARGEST_NUMBER).contains(&number) {
            return Err(LaunchError::Number { name: program.name.clone(), number });
        }
    }
    Ok(())
}

/// A child that has not been reaped, or how it ended.
#[derive(Debug)]
pub(crate) struct Process {
    /// For people.
    pub(crate) name: String,
    child: Child,
    /// Becomes readable when the child ends.
    pub(crate) pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a program with the ends of its pairs, and nothing else that is open here.
    pub(crate) fn start(
        program: &Program,
        pairs: &mut Pairs,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Self, LaunchError> {
        let ends = program
            .descriptors
            .iter()
            .filter_map(|descriptor| Some((pairs.take(&descriptor.pair)?, descriptor.number)))
            .collect();
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        spawn(command, ends)
            .map(|(child, pidfd)| Self { name: program.name.clone(), child, pidfd, status: None })
            .map_err(|source| LaunchError::Start {
                name: program.name.clone(),
                path: program.path.display().to_string(),
                source,
            })
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reaps the child if it has ended. Returns how, the first time only.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        if self.status.is_some() {
            return None;
        }
        self.status = self.child.try_wait().ok().flatten();
        self.status
    }

    /// Whether it has ended and was reaped.
    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// Whether somebody has stopped it (proc(5), `/proc/PID/stat`, field 3).
    pub(crate) fn stands_still(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // The name may have blanks and brackets of its own.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.has_ended() {
            // It may end at this moment: then there is nothing left to do.
            let _ended = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        }
    }
}

impl Drop for Process {
    /// Nobody would own it any more. It is not waited for: it may hang in the kernel.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn spawn(mut command: Command, ends: Vec<(UnixStream, RawFd)>) -> io::Result<(Child, OwnedFd)> {
    // The child moves the ends to their numbers one by one. So that none is overwritten before it
    // was moved, they begin above all numbers; and so that the pipe through which the standard
    // library reports a failed exec is not overwritten, each number is taken while it is made.
    let mut moves = Vec::with_capacity(ends.len());
    let mut keep = Vec::new();
    let placeholder = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    for (end, number) in ends {
        let high = rustix::io::fcntl_dupfd_cloexec(&end, LARGEST_NUMBER + 1)?;
        moves.push((high.as_raw_fd(), number));
        keep.push(high);
        keep.push(rustix::io::fcntl_dupfd_cloexec(&placeholder, number)?);
    }
    let monitor = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made, on plain numbers, and
    // nothing is allocated.
    #[expect(unsafe_code, reason = "there is no other way to give a child descriptors by number")]
    unsafe {
        command.pre_exec(move || prepare_child(monitor, &moves));
    }
    let mut child = command.spawn()?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd =
        id.ok_or(rustix::io::Errno::SRCH).and_then(|id| rustix::process::pidfd_open(id, PidfdFlags::empty()));
    match pidfd {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error.into())
        }
    }
}

/// Runs in the child, before exec.
fn prepare_child(monitor: Pid, moves: &[(RawFd, RawFd)]) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // If the monitor died before that call, no signal will come.
    if rustix::process::getppid() != Some(monitor) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    system::release_signals()?;
    system::close_all_on_exec()?;
    moves.iter().try_for_each(|(source, number)| system::duplicate_to(*source, *number))
}

/// Says in words how a program ended: "exited with code 1", "was killed by signal 9".
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => format!("ended with {status}"),
    }
}
