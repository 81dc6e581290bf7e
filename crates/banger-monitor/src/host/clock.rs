//! Jumps of the host's clock.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// A timer that never goes off, and is cancelled when the clock does not go on as it went: when it is set, and when
/// the host resumes from suspend (`TFD_TIMER_CANCEL_ON_SET`, `timerfd_create(2)`). The process sleeps until then.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    timer: OwnedFd,
}

impl ClockWatch {
    /// Begins to watch.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let watch = Self { timer: rustix::time::timerfd_create(TimerfdClockId::Realtime, flags)? };
        watch.arm()?;
        Ok(watch)
    }

    /// Returns what becomes readable at a jump.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Returns whether the clock has jumped since the last call.
    pub(crate) fn has_jumped(&self) -> io::Result<bool> {
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            Err(Errno::CANCELED) => self.arm().map(|()| true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => self.arm().map(|()| false),
        }
    }

    fn arm(&self) -> io::Result<()> {
        // Further away than any clock goes; the kernel takes it for its own latest time.
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match rustix::time::timerfd_settime(&self.timer, flags, &once) {
            // Of the timer before: this one is armed, and the jump was, or is now, seen.
            Ok(_) | Err(Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_on_has_not_jumped() {
        let watch = ClockWatch::new().unwrap();
        assert!(!watch.has_jumped().unwrap());
    }

    #[test]
    fn every_setting_of_the_clock_is_a_jump() {
        let watch = ClockWatch::new().unwrap();
        for _ in 0..3 {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            if rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).is_err() {
                banger_testkit::not_run(
                    "every_setting_of_the_clock_is_a_jump",
                    "the host's clock may not be set (CAP_SYS_TIME)",
                );
                return;
            }
            assert!(watch.has_jumped().unwrap());
        }
    }
}
