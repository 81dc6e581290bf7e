//! Starting a session's program as its user.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use tokio::process::Child;

use super::terminal::Terminal;
use crate::user::{Environment, Login};

/// What a shell says of a command that does not exist (POSIX, Shell Command Language, 2.8.2).
const NOT_FOUND: u32 = 127;
/// What a shell says of a command that cannot be executed (same place).
const NOT_EXECUTABLE: u32 = 126;

/// A program and everything that it starts with.
#[derive(Debug)]
pub(super) struct Program {
    /// Path, or name to be looked up in the environment's `PATH`.
    pub(super) path: OsString,
    /// Its own name as it sees it (`argv[0]`), when that is not `path`.
    pub(super) name: Option<OsString>,
    /// Arguments without its own name.
    pub(super) arguments: Vec<OsString>,
    /// Its environment, all of it.
    pub(super) environment: Environment,
    /// Where it starts.
    pub(super) directory: Directory,
}

/// Where a program starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directory {
    /// There, or not at all.
    Exactly(PathBuf),
    /// In the first of these that can be entered, else in `/`.
    FirstOf(Vec<PathBuf>),
}

/// Why there is no program running. The session then ends as if there had been one that said so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit status to report.
    pub(super) status: u32,
    /// What to say on standard error, with its newline.
    pub(super) message: String,
}

impl Failure {
    /// Returns the failure to even try.
    pub(super) fn new(what: &str) -> Self {
        Self { status: NOT_EXECUTABLE, message: format!("banger-guest: {what}\n") }
    }

    /// Returns the failure to find what to run.
    pub(super) fn not_found(what: &str) -> Self {
        Self { status: NOT_FOUND, message: format!("banger-guest: {what}\n") }
    }

    fn of_start(path: &OsStr, error: &io::Error) -> Self {
        let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        let reason = match error.raw_os_error() {
            Some(libc::ENOENT) => "not found".to_owned(),
            Some(libc::ENOEXEC) => "not a program".to_owned(),
            _ => error.to_string(),
        };
        Self { status, message: format!("banger-guest: {}: {reason}\n", path.to_string_lossy()) }
    }
}

/// A running program and our ends of its standard streams.
#[derive(Debug)]
pub(super) struct Running {
    /// The process. It leads its own session, so that its id is also its session's and its first process group's.
    pub(super) child: Child,
    /// Our ends.
    pub(super) streams: Streams,
}

/// Our ends of a program's standard streams.
#[derive(Debug)]
pub(super) enum Streams {
    /// All three are a terminal.
    Terminal(OwnedFd),
    /// One pipe each.
    Pipes {
        /// To be written.
        input: OwnedFd,
        /// To be read.
        output: OwnedFd,
        /// To be read.
        errors: OwnedFd,
    },
}

/// Starts a program as `login`, on a terminal or on pipes.
pub(super) fn start(
    program: &Program,
    login: &Login,
    terminal: Option<Terminal>,
) -> Result<Running, Failure> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env_clear().envs(program.environment.iter());
    if let Some(name) = &program.name {
        command.arg0(name);
    }
    let has_terminal = terminal.is_some();
    let streams =
        connect(&mut command, terminal).map_err(|error| Failure::new(&format!("no streams: {error}")))?;
    let child = Identity::new(login, &program.directory, has_terminal)?;
    // SAFETY: the closure makes system calls only, on memory that was allocated before the fork.
    #[expect(unsafe_code, reason = "changing the user in the right order takes code between fork and exec")]
    unsafe {
        command.pre_exec(move || child.assume());
    }
    // The command owns the program's ends of the streams until it is dropped, here.
    match tokio::process::Command::from(command).spawn() {
        Ok(child) => Ok(Running { child, streams }),
        Err(error) => Err(Failure::of_start(&program.path, &error)),
    }
}

fn connect(command: &mut Command, terminal: Option<Terminal>) -> io::Result<Streams> {
    if let Some(terminal) = terminal {
        command.stdin(terminal.slave.try_clone()?).stdout(terminal.slave.try_clone()?).stderr(terminal.slave);
        return Ok(Streams::Terminal(terminal.master));
    }
    let (their_input, input) = io::pipe()?;
    let (output, their_output) = io::pipe()?;
    let (errors, their_errors) = io::pipe()?;
    command
        .stdin(Stdio::from(their_input))
        .stdout(Stdio::from(their_output))
        .stderr(Stdio::from(their_errors));
    Ok(Streams::Pipes { input: input.into(), output: output.into(), errors: errors.into() })
}

/// Who a child becomes and where it stands; made before the fork, assumed after it.
#[derive(Debug)]
struct Identity {
    /// `None` when we are not root, and so can only be who we are.
    user: Option<(Uid, Gid, Vec<Gid>)>,
    directories: Vec<CString>,
    /// Fail when no directory can be entered.
    exactly: bool,
    complaint: Vec<u8>,
    has_terminal: bool,
    file_limit: Option<Rlimit>,
}

impl Identity {
    fn new(login: &Login, directory: &Directory, has_terminal: bool) -> Result<Self, Failure> {
        let own = rustix::process::geteuid();
        let user = if own.is_root() {
            let groups = login.groups.iter().copied().map(Gid::from_raw).collect();
            Some((Uid::from_raw(login.uid), Gid::from_raw(login.gid), groups))
        } else if own.as_raw() == login.uid {
            None
        } else {
            return Err(Failure::new("the agent is not root and cannot become another user"));
        };
        let (paths, exactly) = match directory {
            Directory::Exactly(path) => (std::slice::from_ref(path), true),
            Directory::FirstOf(paths) => (paths.as_slice(), false),
        };
        let directories: Vec<_> =
            paths.iter().filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok()).collect();
        let shown = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        let complaint = format!("banger-guest: cannot enter the directory {shown}\n").into_bytes();
        let file_limit = STARTING_LIMIT.get().copied();
        Ok(Self { user, directories, exactly, complaint, has_terminal, file_limit })
    }

    /// Makes the calling process, which must be a fresh child, what was prepared.
    fn assume(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        heed_all_signals();
        if self.has_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        // The agent is spared by the kernel's search for memory; its children are not. Failing would only spare them.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
            let _ = rustix::io::write(&file, b"0");
        }
        if let Some(limit) = &self.file_limit {
            let _ = rustix::process::setrlimit(Resource::Nofile, *limit);
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        if let Some((user, group, groups)) = &self.user {
            // In this order: each step needs the right that the last one gives up.
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_gid(*group)?;
            rustix::thread::set_thread_uid(*user)?;
        }
        // As the user, so that the user's rights count.
        let entered = self.directories.iter().any(|path| rustix::process::chdir(path.as_c_str()).is_ok());
        if entered {
            return Ok(());
        }
        if self.exactly {
            let _ = rustix::io::write(rustix::stdio::stderr(), &self.complaint);
            end(NOT_EXECUTABLE);
        }
        rustix::process::chdir(c"/").or(Ok::<(), Errno>(()))?;
        Ok(())
    }
}

/// Signals that whoever started the agent ignores would be ignored by every program of every session: a
/// disposition of "ignore" outlives exec (signal(7)).
#[expect(unsafe_code, reason = "no safe wrapper sets a disposition")]
fn heed_all_signals() {
    // The standard signals (signal(7)); those that cannot be set answer with an error and stay as they are.
    for signal in 1..=31 {
        // SAFETY: signal(2) is async-signal-safe, and SIG_DFL is no address of a handler.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Ends a child that has not become its program, without running anything of ours.
#[expect(
    unsafe_code,
    reason = "std::process::exit runs handlers, which a child between fork and exec must not"
)]
fn end(status: u32) -> ! {
    // SAFETY: _exit is async-signal-safe and takes no pointers.
    unsafe { libc::_exit(i32::try_from(status).unwrap_or(1)) }
}

/// The limit of open files that this process was started with, once it has raised its own.
static STARTING_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Raises this process's limit of open files to what it may be: a connection takes one, a session three. Sessions get the limit
/// back that this process was started with: programs that use `select(2)` rely on it.
pub(crate) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .is_ok()
    {
        let _ = STARTING_LIMIT.set(limit);
    }
}
