//! What a fresh child becomes before its program: whose it is, and where it stands.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};

use super::{Directory, Failure, NOT_EXECUTABLE};
use crate::user::Login;

/// Who a child becomes and where it stands; made before the fork, assumed after it.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `None` when it stays who it is.
    user: Option<(Uid, Gid, Vec<Gid>)>,
    directories: Vec<CString>,
    /// Fail when no directory can be entered.
    exactly: bool,
    complaint: Vec<u8>,
    /// Begin with the limits and the mask that a program of the image has, not with the caller's.
    afresh: bool,
}

impl Identity {
    /// Returns the identity of `login`. Without being root, one can only be who one is.
    pub(crate) fn of(login: &Login, directory: &Directory) -> Result<Self, Failure> {
        let own = rustix::process::geteuid();
        let mut identity = Self { afresh: true, ..Self::own(directory) };
        if own.is_root() {
            let groups = login.groups.iter().copied().map(Gid::from_raw).collect();
            identity.user = Some((Uid::from_raw(login.uid), Gid::from_raw(login.gid), groups));
        } else if own.as_raw() != login.uid {
            return Err(Failure::new("the agent is not root and cannot become another user"));
        }
        Ok(identity)
    }

    /// Returns the identity of root, whom the caller must be.
    pub(crate) fn of_root(directory: &Directory) -> Self {
        Self { afresh: true, ..Self::own(directory) }
    }

    /// Returns the identity of the caller, with its limits, in another place.
    pub(crate) fn own(directory: &Directory) -> Self {
        let (paths, exactly) = match directory {
            Directory::Exactly(path) => (std::slice::from_ref(path), true),
            Directory::FirstOf(paths) => (paths.as_slice(), false),
        };
        let directories =
            paths.iter().filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok()).collect();
        let shown = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        let complaint = format!("banger-guest: cannot enter the directory {shown}\n").into_bytes();
        Self { user: None, directories, exactly, complaint, afresh: false }
    }

    /// Makes the calling process, which must be a fresh child, what was prepared.
    pub(crate) fn assume(&self) -> io::Result<()> {
        if self.afresh {
            restore_limits();
            rustix::process::umask(Mode::from_raw_mode(0o022));
        }
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

/// Makes the calling process, a fresh child, the leader of a session of its own, on the terminal that is its input if there
/// is one.
pub(crate) fn begin_session(has_terminal: bool) -> io::Result<()> {
    rustix::process::setsid()?;
    heed_all_signals();
    if has_terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    Ok(())
}

/// Takes back, in a fresh child, what this process has given itself and programs must not have.
pub(crate) fn restore_limits() {
    // The agent is spared by the kernel's search for memory; its children are not. Failing would only spare them.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
    if let Some(limit) = STARTING_LIMIT.get() {
        let _ = rustix::process::setrlimit(Resource::Nofile, *limit);
    }
}

/// Signals that whoever started the agent ignores would be ignored by every program of every session: a
/// disposition of "ignore" outlives exec (signal(7)).
#[expect(unsafe_code, reason = "no safe wrapper sets a disposition")]
pub(crate) fn heed_all_signals() {
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
