//! Whether a VM's monitor is there, and its end when it does not answer.
//!
//! A monitor holds a lock (`flock(2)`) in the VM's directory for as long as it lives, whatever else it does: the kernel
//! lets go of it with the process. So the lock tells a monitor that is gone from one that is not listening yet, or
//! hangs.

use std::io;
use std::path::Path;
use std::time::Duration;

use banger_types::monitor::{MonitorStatus, file};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::monitor::{MonitorConnection, MonitorError, read_last_status};

/// How often a monitor that has its lock and no socket yet is looked for: it is about to listen, within milliseconds, and
/// nothing tells of that.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a process that ends may take from letting go of its directory to letting go of its locks, on a busy host.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// What is found of a monitor.
#[derive(Debug)]
pub enum MonitorPresence {
    /// There is none, and so no VMM.
    Absent,
    /// It takes connections.
    Answering(MonitorConnection),
    /// It lives and takes none.
    Mute,
}

/// Returns whether the VM in `directory` has a monitor; one that lives has `limit` to take a connection.
pub async fn monitor_presence(directory: &Path, limit: Duration) -> MonitorPresence {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Ok(connection) = MonitorConnection::open(directory) {
            return MonitorPresence::Answering(connection);
        }
        if !is_locked(directory) {
            return MonitorPresence::Absent;
        }
        if tokio::time::Instant::now() >= end {
            return MonitorPresence::Mute;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn is_locked(directory: &Path) -> bool {
    let Ok(lock) = fs_err::File::open(directory.join(file::LOCK)) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Waits until the VM in `directory` has no monitor.
pub async fn monitor_gone(directory: &Path) {
    let path = directory.join(file::LOCK);
    let wait = move || {
        let lock = fs_err::File::open(path)?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockShared))?;
        Ok::<_, io::Error>(())
    };
    // No lock file, no monitor; and a wait that is cut off is one of a daemon that ends.
    let _gone = tokio::task::spawn_blocking(wait).await;
}

/// Kills the monitor of the VM in `directory`, if it has one, and with it the VMM. Returns when it is gone.
///
/// # Errors
/// [`MonitorError::Hangs`] when it cannot be told which process it is, or that does not end within `limit`.
pub async fn kill_monitor(directory: &Path, limit: Duration) -> Result<(), MonitorError> {
    if !is_locked(directory) {
        return Ok(());
    }
    let status = read_last_status(directory).ok_or(MonitorError::Hangs)?;
    let pid = i32::try_from(status.monitor_pid).ok().and_then(Pid::from_raw).ok_or(MonitorError::Hangs)?;
    let limit = match pidfd_open(pid, PidfdFlags::empty()) {
        // Looked at after the pidfd is open: a later process of the same number works somewhere else.
        Ok(pidfd) if works_in(pid, directory) => match pidfd_send_signal(&pidfd, Signal::KILL) {
            // It may have ended by itself just now.
            Ok(()) | Err(rustix::io::Errno::SRCH) => limit,
            Err(error) => return Err(MonitorError::Connection(error.into())),
        },
        // Or be about to: a process that ends lets go of its directory first, and of its locks last.
        Ok(_) | Err(rustix::io::Errno::SRCH) => limit.min(LAST_MOMENT),
        Err(error) => return Err(MonitorError::Connection(error.into())),
    };
    tokio::time::timeout(limit, monitor_gone(directory)).await.map_err(|_| MonitorError::Hangs)
}

/// Whether the process stands in `directory`, as a monitor does for all of its life.
fn works_in(pid: Pid, directory: &Path) -> bool {
    let there = fs_err::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    let here = fs_err::canonicalize(directory);
    matches!((there, here), (Ok(there), Ok(here)) if there == here)
}

/// Returns what tells this boot of the host from others (random(4), `boot_id`); empty where that cannot be read.
pub fn boot_id() -> String {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Returns whether a monitor wrote this before the host was last started.
pub fn is_of_earlier_boot(status: &MonitorStatus) -> bool {
    let now = boot_id();
    !status.host_boot_id.is_empty() && !now.is_empty() && status.host_boot_id != now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_without_a_socket_is_a_mute_monitor_and_no_lock_none() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(60);
        assert!(matches!(monitor_presence(directory.path(), limit).await, MonitorPresence::Absent));
        let lock = std::fs::File::create(directory.path().join(file::LOCK)).unwrap();
        assert!(matches!(monitor_presence(directory.path(), limit).await, MonitorPresence::Absent));
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert!(matches!(monitor_presence(directory.path(), limit).await, MonitorPresence::Mute));
        assert!(matches!(kill_monitor(directory.path(), limit).await, Err(MonitorError::Hangs)));
        let gone = monitor_gone(directory.path());
        tokio::pin!(gone);
        assert!(tokio::time::timeout(limit, &mut gone).await.is_err());
        drop(lock);
        gone.await;
        kill_monitor(directory.path(), limit).await.unwrap();
    }

    #[tokio::test]
    async fn only_the_process_that_works_in_the_directory_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let lock_path = directory.path().join(file::LOCK);
        std::fs::write(&lock_path, "").unwrap();
        let status = |pid: u32| MonitorStatus {
            version: String::new(),
            monitor_pid: pid,
            vmm_pid: 0,
            host_boot_id: String::new(),
            started_at_ns: 0,
            phase: banger_types::monitor::MonitorPhase::Ready,
            guest: None,
            forwards: Vec::new(),
            automatic: Vec::new(),
            sockets: Vec::new(),
        };
        let write = |pid| {
            std::fs::write(directory.path().join(file::STATUS), serde_json::to_vec(&status(pid)).unwrap())
        };
        // Holds the lock like a monitor, as the one thing that it does.
        let start = |place: &Path| {
            let mut command = std::process::Command::new("flock");
            command
                .arg("-o")
                .arg(&lock_path)
                .args(["cat"])
                .current_dir(place)
                .stdin(std::process::Stdio::piped());
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        };
        let mut stranger = start(Path::new("/"));
        while !is_locked(directory.path()) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        write(stranger.id()).unwrap();
        let limit = Duration::from_secs(20);
        assert!(matches!(kill_monitor(directory.path(), limit).await, Err(MonitorError::Hangs)));
        assert!(stranger.try_wait().unwrap().is_none());
        drop(stranger.stdin.take());
        stranger.wait().unwrap();

        let mut own = start(directory.path());
        while !is_locked(directory.path()) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        write(own.id()).unwrap();
        kill_monitor(directory.path(), limit).await.unwrap();
        assert!(!is_locked(directory.path()));
        let ended = std::os::unix::process::ExitStatusExt::signal(&own.wait().unwrap());
        assert_eq!(ended, Some(Signal::KILL.as_raw()));
    }
}
