//! Opening a session: whether the image can, and doing it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::Interest;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::running::{self, Process};
use super::{HELLO, Request, logind};
use crate::async_file::AsyncFile;
use crate::init::{self, DEFAULT_PATH};
use crate::process::{Program, restore_limits};
use crate::user::{self, Login};

/// How long the image may take. logind waits for the user's systemd to be up, which takes two seconds on an emulated
/// processor; this is for a bus that hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// How many sessions are opened at a time: logind takes one after the other, and on a slow processor the last of many would
/// seem to hang.
static TURNS: Semaphore = Semaphore::const_new(4);
/// How long one may wait for its turn.
const TURN_LIMIT: Duration = Duration::from_mins(1);

/// Where distributions have runuser(1).
const RUNUSER: [&str; 3] = ["/usr/sbin/runuser", "/sbin/runuser", "/usr/bin/runuser"];
/// Its PAM configuration for logins (pam.d(5)).
const SERVICE: [&str; 2] = ["/etc/pam.d/runuser-l", "/usr/lib/pam.d/runuser-l"];
/// Where distributions have `pam_systemd(8)`, which asks logind for a session.
const MODULE: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu/security/pam_systemd.so",
    "/lib/x86_64-linux-gnu/security/pam_systemd.so",
    "/usr/lib/aarch64-linux-gnu/security/pam_systemd.so",
    "/usr/lib64/security/pam_systemd.so",
    "/lib64/security/pam_systemd.so",
    "/usr/lib/security/pam_systemd.so",
];

/// What opens login sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opener {
    /// The image's runuser(1), if the image has all that makes it open one.
    Image,
    /// This program, which is called as runuser(1) is.
    Program(PathBuf),
}

impl Opener {
    fn program(&self) -> Option<PathBuf> {
        let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
        match self {
            Self::Image if init::is_systemd() => {
                first(&SERVICE)?;
                first(&MODULE)?;
                first(&RUNUSER)
            }
            Self::Image => None,
            Self::Program(path) => path.exists().then(|| path.clone()),
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The guest has, or has as yet, no logind.
    #[error("logind is not running")]
    NoLogind,
    /// Too many others are being opened.
    #[error("others took longer than {} s", TURN_LIMIT.as_secs())]
    Busy,
    /// The tool could not be started.
    #[error("cannot start {path}")]
    Spawn {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The tool ended at once.
    #[error("{path} opened none: {status}")]
    Ended { path: PathBuf, status: ExitStatus },
    /// The tool took too long.
    #[error("{path} took longer than {} s", LIMIT.as_secs())]
    Late { path: PathBuf },
    /// A system call failed.
    #[error("cannot speak to it")]
    Io(#[from] io::Error),
}

/// A way to open sessions.
#[derive(Debug)]
pub(crate) struct Logins {
    program: PathBuf,
    helper: PathBuf,
    /// Whether PAM asks logind.
    logind: bool,
}

impl Logins {
    /// Returns how to open a session for `login`, if there is a way. `helper` is this program's path.
    ///
    /// PAM knows users by name, and gives them the groups that they have: whoever has no entry in `/etc/passwd`, or asked for
    /// another group, gets none.
    pub(crate) fn of(opener: &Opener, etc: &Path, helper: &Path, login: &Login) -> Option<Self> {
        let program = opener.program()?;
        let by_name = user::find(etc, login.name.to_str()?).ok()?;
        (login.has_entry && by_name == *login).then(|| Self {
            program,
            helper: helper.to_owned(),
            logind: *opener == Opener::Image,
        })
    }

    /// Opens a session, on `terminal` if there is one: logind then knows its name.
    pub(crate) async fn open(&self, login: &Login, terminal: Option<&OwnedFd>) -> Result<Open, OpenError> {
        if self.logind && !logind::wait().await {
            return Err(OpenError::NoLogind);
        }
        let turn = tokio::time::timeout(TURN_LIMIT, TURNS.acquire()).await;
        let _turn = turn.map_err(|_| OpenError::Busy)?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(io::Error::from)?;
        rustix::net::sockopt::set_socket_passcred(&ours, true).map_err(io::Error::from)?;
        let input = match terminal {
            Some(terminal) => Stdio::from(terminal.try_clone()?),
            None => Stdio::null(),
        };
        let tool = self.spawn(&login.name, input, theirs)?;
        let mut open = Open { tool, socket: AsyncFile::new(ours, Interest::READABLE)? };
        match tokio::time::timeout(LIMIT, running::receive(&open.socket)).await {
            Ok(Ok(Some(message))) if message.kind == HELLO => Ok(open),
            Ok(Ok(_)) => {
                open.kill();
                let status = open.tool.wait().await?;
                Err(OpenError::Ended { path: self.program.clone(), status })
            }
            Ok(Err(error)) => {
                open.kill();
                Err(error.into())
            }
            Err(_) => {
                open.kill();
                Err(OpenError::Late { path: self.program.clone() })
            }
        }
    }

    fn spawn(&self, user: &OsStr, input: Stdio, socket: OwnedFd) -> Result<Child, OpenError> {
        let mut command = Command::new(&self.program);
        command.arg("-l").arg("-s").arg(&self.helper).arg("--").arg(user).arg("session");
        command.arg(socket.as_raw_fd().to_string());
        // In the agent's own process session, so that a terminal that PAM opens does not become the tool's.
        command.env_clear().env("PATH", DEFAULT_PATH).stdin(input).process_group(0);
        #[expect(
            unsafe_code,
            reason = "a descriptor is handed on between fork and exec, to this child alone"
        )]
        // SAFETY: the closure makes system calls only, on memory that was allocated before the fork.
        unsafe {
            command.pre_exec(move || {
                restore_limits();
                Ok(rustix::io::fcntl_setfd(&socket, FdFlags::empty())?)
            });
        }
        command.spawn().map_err(|source| OpenError::Spawn { path: self.program.clone(), source })
    }
}

/// An open session without a program.
#[derive(Debug)]
pub(crate) struct Open {
    tool: Child,
    socket: AsyncFile,
}

impl Open {
    /// Starts the session's program on these streams.
    pub(crate) fn start(
        self,
        program: &Program,
        streams: &[OwnedFd; 3],
        has_terminal: bool,
    ) -> Result<Process, OpenError> {
        match running::send_request(&self.socket, &Request::new(program, has_terminal), streams) {
            Ok(()) => Ok(Process::new(self.tool, self.socket)),
            Err(error) => {
                self.kill();
                Err(error.into())
            }
        }
    }

    /// Ends the tool and what it has started. tokio takes it in.
    fn kill(&self) {
        let id = self.tool.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = id {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
