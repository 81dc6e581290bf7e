//! What ends a command when the daemon was killed.
//!
//! A program such as mmdebstrap has a tree of processes below it, and heeds a signal to itself alone only
//! when its present step is over: a parent-death signal (`prctl(2)`) would leave apt at work for minutes,
//! beside the next daemon's. So each command's process group has one more member, the guard. It waits for
//! the end of a pipe whose other end the daemon alone has open, and then does to the whole group what a
//! cancel does. It is bound to no thread, and a daemon that died before the guard was there has closed
//! the pipe as well.

use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Seconds that the group may take to end in order.
const TERMINATION_SECONDS: libc::time_t = 10;

/// A command's guard. Dropped without [`Guard::dismiss`], it ends what is left of the command's group.
#[derive(Debug)]
pub(crate) struct Guard {
    alive: PipeWriter,
}

/// The guard's end, to be kept until the command was spawned.
pub(crate) struct Watch(PipeReader);

impl Guard {
    /// Gives `command` a guard. It must be the leader of a process group of its own.
    pub(crate) fn set(command: &mut Command) -> io::Result<(Self, Watch)> {
        let (watch, alive) = io::pipe()?;
        let descriptor = watch.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made, on plain numbers, and nothing is allocated.
        #[expect(unsafe_code, reason = "a process that the command does not know of has to join its group")]
        unsafe {
            command.pre_exec(move || start(descriptor));
        }
        Ok((Self { alive }, Watch(watch)))
    }

    /// Says that the command has ended in order.
    pub(crate) fn dismiss(mut self) {
        // A guard that is gone needs no word.
        self.alive.write_all(&[1]).ok();
    }
}

impl Watch {
    /// The command was spawned, or not: its guard has an end of its own.
    pub(crate) fn release(self) {
        drop(self.0);
    }
}

/// Runs in the command's process before exec. The guard is a grandchild, so that it is no child of the
/// command's, which may wait for any of its children.
fn start(alive: RawFd) -> io::Result<()> {
    match fork()? {
        0 => match fork() {
            Ok(0) => watch(alive),
            Ok(_) => exit(0),
            Err(_) => exit(1),
        },
        middle => {
            let mut status = 0;
            // SAFETY: waitpid(2) writes one number, which lives here.
            #[expect(unsafe_code, reason = "the standard library only waits for what it has spawned")]
            let waited = unsafe { libc::waitpid(middle, &raw mut status, 0) };
            if waited == middle && status == 0 { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
        }
    }
}

/// The raw call: the C library's `fork` runs handlers that may wait for locks of threads that are not here.
fn fork() -> io::Result<libc::pid_t> {
    // SAFETY: the caller only makes system calls afterwards, in either process.
    #[expect(unsafe_code, reason = "the standard library has no fork")]
    let id = unsafe { libc::syscall(libc::SYS_fork) };
    match libc::pid_t::try_from(id) {
        Ok(id) if id >= 0 => Ok(id),
        _ => Err(io::Error::last_os_error()),
    }
}

fn exit(code: libc::c_int) -> ! {
    // SAFETY: _exit(2) takes a number and runs nothing of this process.
    #[expect(unsafe_code, reason = "the standard library's exit runs handlers")]
    unsafe {
        libc::_exit(code)
    }
}

/// The guard itself.
fn watch(alive: RawFd) -> ! {
    // SAFETY: system calls on plain numbers and on values that live here. No other thread is in this process,
    // and nothing of its memory but this frame is used, so that closing every descriptor breaks nobody.
    #[expect(unsafe_code, reason = "a process without a runtime")]
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        libc::dup2(alive, 0);
        // The daemon's lock and sockets, the command's pipes, and every other guard's.
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        let mut byte = 0u8;
        let said = loop {
            let read = libc::read(0, (&raw mut byte).cast(), 1);
            if read >= 0 || *libc::__errno_location() != libc::EINTR {
                break read;
            }
        };
        if said == 0 {
            libc::kill(0, libc::SIGTERM);
            let limit = libc::timespec { tv_sec: TERMINATION_SECONDS, tv_nsec: 0 };
            libc::nanosleep(&raw const limit, std::ptr::null_mut());
            libc::kill(0, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}
