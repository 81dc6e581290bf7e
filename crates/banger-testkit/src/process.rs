//! Processes that a test has not started itself.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long an end that must come may take on a busy machine, seconds.
const LIMIT_SECONDS: i64 = 120;

/// Returns what tells of the end of the process with this number.
pub fn pidfd(number: i32) -> OwnedFd {
    let pid = Pid::from_raw(number).expect("a process id");
    pidfd_open(pid, PidfdFlags::empty()).expect("open a pidfd")
}

/// Waits for the end of a process; returns whether it came.
pub fn wait_for_end(process: &OwnedFd) -> bool {
    let limit = Timespec { tv_sec: LIMIT_SECONDS, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).expect("wait for an end")
        > 0
}
