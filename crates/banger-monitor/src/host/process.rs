//! The VMM and its helpers as child processes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use banger_types::monitor::{Program, control_group};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::launch::{LARGEST_NUMBER, LaunchError, Pairs};
use super::system;

/// A program's standard streams.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) input: Stdio,
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
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
    /// Through which it is reached, if it runs as another user.
    control_group: Option<PathBuf>,
}

impl Process {
    /// Starts a program with the ends of its pairs, and nothing else that is open here.
    pub(crate) fn start(
        program: &Program,
        pairs: &mut Pairs,
        streams: Streams,
        control_group: Option<PathBuf>,
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
        command.stdin(streams.input).stdout(streams.output).stderr(streams.errors);
        spawn(command, ends)
            .map(|(child, pidfd)| Self {
                name: program.name.clone(),
                child,
                pidfd,
                status: None,
                control_group,
            })
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
        if self.status.is_some() {
            // What it may have left there has no business without it.
            self.tell_group(control_group::KILL, "1");
        }
        self.status
    }

    /// Whether it has ended and was reaped.
    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// Whether somebody has stopped it (proc(5), `/proc/PID/stat`, field 3).
    pub(crate) fn stands_still(&self) -> bool {
        if let Some(group) = &self.control_group {
            return std::fs::read_to_string(group.join(control_group::FREEZE))
                .is_ok_and(|word| word.trim() == "1");
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // The name may have blanks and brackets of its own.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Writes to a file of its control group, if it has one.
    fn tell_group(&self, file: &str, word: &str) {
        if let Some(group) = &self.control_group {
            // It may be gone, with all that was in it.
            let _ = std::fs::write(group.join(file), word);
        }
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        match signal {
            Signal::KILL => self.tell_group(control_group::KILL, "1"),
            Signal::CONT => self.tell_group(control_group::FREEZE, "0"),
            _ => {}
        }
        if !self.has_ended() {
            // Another user's does not hear of it but by its group. It may end at this moment: then there is nothing left to do.
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
