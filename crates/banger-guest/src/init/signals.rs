//! Signals of process 1, as a file that can be waited on (signalfd(2)).

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Instant;

use banger_types::guest::ShutdownAction;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The signal that asks process 1 for `action`; systemd(1) and our own init know the same.
pub(crate) fn request(action: ShutdownAction) -> i32 {
    match action {
        ShutdownAction::Poweroff => libc::SIGRTMIN() + 4,
        ShutdownAction::Reboot => libc::SIGRTMIN() + 5,
    }
}

/// Returns what a signal to process 1 asks for.
pub(super) fn action(signal: i32) -> Option<ShutdownAction> {
    let halt = libc::SIGRTMIN() + 3;
    match signal {
        libc::SIGUSR1 | libc::SIGUSR2 => Some(ShutdownAction::Poweroff),
        libc::SIGTERM | libc::SIGINT => Some(ShutdownAction::Reboot),
        _ if signal == halt || signal == request(ShutdownAction::Poweroff) => Some(ShutdownAction::Poweroff),
        _ if signal == request(ShutdownAction::Reboot) => Some(ShutdownAction::Reboot),
        _ => None,
    }
}

/// Sends a signal to every process but process 1 and the caller (kill(2), pid -1).
#[expect(unsafe_code, reason = "rustix does not offer kill(-1)")]
pub(super) fn send_to_all(signal: i32) {
    // SAFETY: kill takes no pointers. That nobody is left to get the signal is no error here.
    unsafe { libc::kill(-1, signal) };
}

/// Sends any signal, a real-time one included, to one process.
#[expect(unsafe_code, reason = "rustix sends real-time signals through an unsafe constructor only")]
pub(crate) fn send(process: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes no pointers.
    match unsafe { libc::kill(process.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends any signal to a process group.
#[expect(unsafe_code, reason = "rustix sends real-time signals through an unsafe constructor only")]
pub(crate) fn send_to_group(group: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes no pointers.
    match unsafe { libc::kill(-group.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets every signal through. Children inherit the mask of process 1, which blocks what it reads from its signalfd.
#[expect(unsafe_code, reason = "signal masks are not in rustix's stable API")]
pub(crate) fn unblock_all() {
    // SAFETY: `set` is initialised by sigemptyset before it is used, and all pointers are to it.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Signals that a process heeds, blocked and readable.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Returns the signals that process 1 heeds.
    pub(super) fn of_init() -> io::Result<Self> {
        let [halt, poweroff, restart] = [3, 4, 5].map(|offset| libc::SIGRTMIN() + offset);
        Self::open(&[
            libc::SIGCHLD,
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            halt,
            poweroff,
            restart,
        ])
    }

    /// Blocks the signals and opens the file. Children inherit that: see [`unblock_all`].
    #[expect(unsafe_code, reason = "signal masks and signalfd are not in rustix's stable API")]
    pub(crate) fn open(numbers: &[i32]) -> io::Result<Self> {
        // SAFETY: `set` is initialised by sigemptyset before it is used, all pointers are to it, and the descriptor
        // that signalfd returns belongs to nobody else.
        unsafe {
            let mut set = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut set);
            for number in numbers {
                libc::sigaddset(&raw mut set, *number);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                descriptor => Ok(Self(OwnedFd::from_raw_fd(descriptor))),
            }
        }
    }

    /// Waits for a signal and returns its number; `None` when `until` has come first.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Option<i32> {
        loop {
            if let Some(signal) = self.take() {
                return Some(signal);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            // An error (EINTR) or a timeout is seen by the next turn.
            let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref());
        }
    }

    /// Takes a signal that waits. The first field of `signalfd_siginfo` (128 bytes) is the number.
    fn take(&self) -> Option<i32> {
        let mut record = [0u8; 128];
        match rustix::io::read(&self.0, &mut record) {
            Ok(128) => i32::try_from(u32::from_ne_bytes(*record.first_chunk()?)).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_asks_for_is_what_init_does() {
        for wanted in [ShutdownAction::Poweroff, ShutdownAction::Reboot] {
            assert_eq!(action(request(wanted)), Some(wanted));
        }
        assert_eq!(action(libc::SIGCHLD), None);
        assert_eq!(action(libc::SIGTERM), Some(ShutdownAction::Reboot));
    }
}
