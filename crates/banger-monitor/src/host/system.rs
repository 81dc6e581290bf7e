//! Calls of the system that neither the standard library nor rustix has.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Returns the id of the host's present boot; empty when the kernel does not tell.
pub(crate) fn boot_id() -> String {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Takes a descriptor that was inherited under a known number.
///
/// The caller must be the only one who takes it.
pub(crate) fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads a flag of the number, which may well not be open.
    #[expect(unsafe_code, reason = "a number from the environment is no descriptor that rustix knows")]
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number <= 2 || flags == -1 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, as was just seen, it is none of the standard ones, and nothing else in
    // this program uses it: this runs once, before anything is opened.
    #[expect(unsafe_code, reason = "ownership of an inherited descriptor cannot be had otherwise")]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from 3 on, apart from `keep`. To be called before anything is opened.
pub(crate) fn close_inherited(keep: Option<RawFd>) -> io::Result<()> {
    let keep = keep.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 2);
    match keep {
        None => close_range(3, u32::MAX, 0),
        Some(number) => {
            if number > 3 {
                close_range(3, number - 1, 0)?;
            }
            close_range(number + 1, u32::MAX, 0)
        }
    }
}

/// Marks every descriptor from 3 on as not to be inherited. Safe between fork and exec.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: close_range(2) takes numbers only. No descriptor that is in use is closed: see the callers.
    #[expect(unsafe_code, reason = "rustix has no close_range")]
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `number` another name of `source`, to be inherited. Safe between fork and exec.
pub(crate) fn duplicate_to(source: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2(2) takes numbers only; in the child nothing else owns `number`.
    #[expect(unsafe_code, reason = "rustix's dup2 wants an owner of the number")]
    let result = unsafe { libc::dup2(source, number) };
    if result == number { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Undoes what the spawner did to signals, and returns a descriptor that reports SIGTERM, SIGINT
/// and SIGHUP (signalfd(2)), which then do nothing else.
pub(crate) fn take_signals() -> io::Result<OwnedFd> {
    // SAFETY: plain C calls on a set that lives here; no handler is installed, so none can run.
    #[expect(unsafe_code, reason = "the standard library has no signal masks")]
    let descriptor = unsafe {
        for signal in 1..32 {
            // Rust ignores SIGPIPE on purpose. SIGKILL and SIGSTOP answer with an error, rightly.
            if signal != libc::SIGPIPE {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd has just made it.
    #[expect(unsafe_code, reason = "ownership of a new descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Gives a child the signals that programs expect: none ignored, and none blocked but SIGTERM. Safe between fork
/// and exec.
///
/// A host that goes down sends SIGTERM to every process at once (`systemd.kill(5)`): it is the monitor's to heed, which
/// asks the guest. A VMM or a helper that heeded it would take the guest's machine or its network away meanwhile.
pub(crate) fn release_signals() -> io::Result<()> {
    // SAFETY: both calls are async-signal-safe (signal-safety(7)); the set lives here.
    #[expect(unsafe_code, reason = "the standard library has no signal masks")]
    let result = unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut blocked = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut blocked);
        libc::sigaddset(&raw mut blocked, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const blocked, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the next pending signal of [`take_signals`], if there is one.
pub(crate) fn next_signal(signals: &OwnedFd) -> Option<i32> {
    // The record begins with the number, 32 bits (struct signalfd_siginfo, signalfd(2)).
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(signals, &mut record) {
        Ok(length) if length == record.len() => {
            Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))
        }
        _ => None,
    }
}
