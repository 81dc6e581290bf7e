//! Running the host's programs: the [`Commands`] port.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use banger_core::command::{CommandError, Commands, Consumer, HostCommand};
use banger_core::work::Work;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::guard::Guard;

/// Most that is kept of a command's standard error for its failure, bytes.
const STDERR_KEPT: usize = 4096;
/// Longest line of standard error that is passed to the log, bytes.
const LINE_LIMIT: u64 = 4096;
/// How long a program may take to end in order when it is cancelled.
const TERMINATION_LIMIT: Duration = Duration::from_secs(10);
/// Where programs are looked for besides `PATH`: administrators' tools are not on every user's.
const SYSTEM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Runs the host's own programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostCommands;

/// Starts a command, which is ended when the daemon is.
pub(crate) fn spawn(command: &HostCommand) -> Result<(Child, Guard), CommandError> {
    let io_error = |source| CommandError::Io { command: command.to_string(), source };
    let not_installed = || CommandError::NotInstalled { program: command.program.clone() };
    let path = HostCommands.find(&command.program).ok_or_else(not_installed)?;
    let mut process = Command::new(path);
    process
        .args(&command.arguments)
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(command.directory.as_deref().unwrap_or(Path::new("/")))
        .stdin(if command.input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that a cancel reaches everything that it starts.
        .process_group(0);
    let (guard, watch) = Guard::set(&mut process).map_err(io_error)?;
    let child = process.spawn().map_err(io_error);
    watch.release();
    let mut child = child?;
    if let Some(mut input) = child.stdin.take() {
        let fits = &command.input[..command.input.len().min(HostCommand::LONGEST_INPUT)];
        // One that does not want to hear it says so by what it does.
        input.write_all(fits).ok();
    }
    Ok((child, guard))
}

impl Commands for HostCommands {
    fn run(&self, command: &HostCommand, work: &dyn Work) -> Result<Vec<u8>, CommandError> {
        let mut output = Vec::new();
        self.stream(command, work, &mut |reader| {
            reader.read_to_end(&mut output)?;
            Ok(())
        })?;
        Ok(output)
    }

    fn stream(
        &self,
        command: &HostCommand,
        work: &dyn Work,
        consume: Consumer<'_>,
    ) -> Result<(), CommandError> {
        work.check()?;
        let (mut child, guard) = spawn(command)?;
        let io_error = |source| CommandError::Io { command: command.to_string(), source };
        let (stdout, stderr) = child
            .stdout
            .take()
            .zip(child.stderr.take())
            .ok_or_else(|| io_error(io::Error::other("its output was not opened")))?;
        let group = Arc::new(Group::of(&child));
        let ending = Arc::clone(&group);
        let cancel = work.on_cancel(Box::new(move || drop(std::thread::spawn(move || ending.end()))));
        let (consumed, saw_end, kept) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| pass_on(stderr, work));
            let mut output = Output { stdout, ended: false };
            let consumed = consume(&mut output);
            let saw_end = output.ended;
            // A consumer that stopped early must not leave the program blocked on a full pipe.
            drop(output);
            (consumed, saw_end, reader.join().unwrap_or_default())
        });
        let status = group.reap(&mut child);
        guard.dismiss();
        drop(cancel);
        let status = status.map_err(io_error)?;
        work.check()?;
        let command = command.to_string();
        match consumed {
            Ok(()) if status.success() => Ok(()),
            // What a program does whose output nobody wants any more is not the cause.
            Err(source) if status.success() || !saw_end => {
                let stderr = if status.success() { String::new() } else { kept };
                Err(CommandError::Consumer { command, stderr, source })
            }
            _ => Err(CommandError::Failed { command, status: describe(status), stderr: kept }),
        }
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            return is_executable(Path::new(program)).then(|| PathBuf::from(program));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .filter(|directory| directory.is_absolute())
            .chain(SYSTEM_DIRECTORIES.iter().map(PathBuf::from))
            .map(|directory| directory.join(program))
            .find(|candidate| is_executable(candidate))
    }
}

/// A program's standard output, and whether its end was seen.
struct Output {
    stdout: ChildStdout,
    ended: bool,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The process group of a child that has not been reaped, so that its number is still its own.
struct Group {
    leader: Mutex<Option<Pid>>,
    reaped: Condvar,
}

impl Group {
    fn of(child: &Child) -> Self {
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Self { leader: Mutex::new(leader), reaped: Condvar::new() }
    }

    fn leader(&self) -> MutexGuard<'_, Option<Pid>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the group to end, and kills what has not ended in time. Programs such as mmdebstrap have
    /// mounts and directories to take away before they end.
    fn end(&self) {
        let leader = self.leader();
        if let Some(pid) = *leader {
            // It may have ended by itself in this moment: nothing to do then.
            kill_process_group(pid, Signal::TERM).ok();
        }
        let still_there = |leader: &mut Option<Pid>| leader.is_some();
        let (leader, _) = self
            .reaped
            .wait_timeout_while(leader, TERMINATION_LIMIT, still_there)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *leader {
            kill_process_group(pid, Signal::KILL).ok();
        }
    }

    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        // Wait without reaping first: the number must stay the child's for as long as it is known.
        let pid = *self.leader();
        if let Some(pid) = pid {
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        }
        *self.leader() = None;
        self.reaped.notify_all();
        child.wait()
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Passes lines of standard error to the log and returns the end of it.
pub(crate) fn pass_on(stderr: impl Read, work: &dyn Work) -> String {
    let mut reader = BufReader::new(stderr);
    let mut kept: VecDeque<u8> = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                if !text.is_empty() {
                    work.log(text);
                }
                kept.extend(&line);
                let excess = kept.len().saturating_sub(STDERR_KEPT);
                kept.drain(..excess);
            }
        }
    }
    String::from_utf8_lossy(kept.make_contiguous()).trim().to_owned()
}
