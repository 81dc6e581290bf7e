//! What this process has from its caller beside the request, and does without: a terminal, on which something could be typed that stops
//! or ends it while it keeps everybody else waiting, or has done half of something; limits; a mask of modes.

use std::os::raw::c_int;

/// What a terminal sends (`termios(3)`, `setpgid(2)`).
const SIGNALS: [c_int; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Leaves it behind, for the programs that this process starts, too.
pub(crate) fn leave() {
    // What is made here is for its owners to reach, who are told apart by more than that.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Of a group that sudo leads on a terminal of its own, a session cannot be made.
    let _ = rustix::process::setsid();
    for signal in SIGNALS {
        // SAFETY: no handler is set, and nothing of this program's depends on these signals.
        #[expect(unsafe_code, reason = "no library that is used here ignores signals")]
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    // What the caller's shell has limited is not what this is to be kept to: a file that is cut is worse than none.
    let all = rustix::process::Rlimit { current: None, maximum: None };
    for limit in [rustix::process::Resource::Fsize, rustix::process::Resource::Cpu] {
        let _ = rustix::process::setrlimit(limit, all);
    }
}
