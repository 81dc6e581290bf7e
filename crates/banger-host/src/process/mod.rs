//! Other processes, told apart for good.

mod stat;
mod vmm;

use std::io;
use std::os::fd::OwnedFd;

use banger_core::process::ProcessIdentity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use self::stat::Stat;
pub use self::vmm::{HostProcesses, control_group_of};

/// Returns the identity of the process with this number, or `None` when there is none.
pub fn identity_of(pid: u32) -> Option<ProcessIdentity> {
    let start_ticks = Stat::of(format!("/proc/{pid}")).ok()?.start_ticks()?;
    Some(ProcessIdentity { pid, start_ticks })
}

/// Returns whether a process has ended, waited for by its parent or not.
pub(crate) fn has_ended(identity: ProcessIdentity) -> bool {
    let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
    identity_of(identity.pid) != Some(identity)
        || rustix::event::poll(&mut end, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A process whose end can be waited for.
#[derive(Debug)]
pub struct ProcessWatch {
    pidfd: AsyncFd<OwnedFd>,
}

impl ProcessWatch {
    /// Returns a watch on the process, or `None` when it has ended already.
    pub fn new(identity: ProcessIdentity) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after the pidfd was opened: if it is the right one now, the pidfd is its.
        if identity_of(identity.pid) != Some(identity) {
            return Ok(None);
        }
        // SAFETY: the descriptor is an `OwnedFd`, open until the `AsyncFd` that owns it is dropped.
        #[expect(unsafe_code, reason = "tokio has no safe way to wait for a descriptor")]
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        Ok(Some(Self { pidfd: pidfd? }))
    }

    /// Waits until the process has ended (`pidfd_open(2)`: a pidfd is readable then).
    pub async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(|mut guard| guard.retain_ready())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_an_event() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let identity = identity_of(child.id()).unwrap();
        let watch = ProcessWatch::new(identity).unwrap().unwrap();
        assert!(!has_ended(identity));
        drop(child.stdin.take());
        watch.ended().await.unwrap();
        assert!(has_ended(identity));
        child.wait().unwrap();
        assert!(has_ended(identity));
        assert!(ProcessWatch::new(identity).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_later_process_of_the_same_number_is_not_it() {
        let mut identity = identity_of(std::process::id()).unwrap();
        identity.start_ticks += 1;
        assert!(ProcessWatch::new(identity).unwrap().is_none());
    }
}
