//! Other processes, told apart for good.

use std::io;
use std::os::fd::OwnedFd;

use banger_core::store::ProcessIdentity;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Returns the identity of the process with this number, or `None` when there is none.
pub fn identity_of(pid: u32) -> Option<ProcessIdentity> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ProcessIdentity { pid, start_ticks: start_ticks(&stat)? })
}

/// Field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`). The second field, the program's name in
/// parentheses, may hold anything: count from its last parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
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

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(start_ticks(stat), Some(4242));
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_an_event() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let identity = identity_of(child.id()).unwrap();
        let watch = ProcessWatch::new(identity).unwrap().unwrap();
        drop(child.stdin.take());
        watch.ended().await.unwrap();
        child.wait().unwrap();
        assert!(ProcessWatch::new(identity).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_later_process_of_the_same_number_is_not_it() {
        let mut identity = identity_of(std::process::id()).unwrap();
        identity.start_ticks += 1;
        assert!(ProcessWatch::new(identity).unwrap().is_none());
    }
}
