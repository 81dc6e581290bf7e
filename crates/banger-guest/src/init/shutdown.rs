//! The end of a guest without systemd, in order: processes, then file systems, then the machine.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use banger_types::guest::ShutdownAction;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::Pid;
use rustix::system::{RebootCommand, reboot};

use super::signals::{self, Signals};
use super::{Family, reap};
use crate::log;

/// How long processes may take to end after they were asked to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to end those that were killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process but this one. `agent` hears first why, so that it can tell the host.
pub(super) fn end_processes(signals: &Signals, agent: Option<Pid>, action: ShutdownAction) {
    if let Some(agent) = agent {
        let _ = signals::send(agent, signals::request(action));
    }
    signals::send_to_all(libc::SIGTERM);
    // Who is stopped would not even notice.
    signals::send_to_all(libc::SIGCONT);
    if wait_for_all(signals, PATIENCE) {
        return;
    }
    signals::send_to_all(libc::SIGKILL);
    if !wait_for_all(signals, KILL_PATIENCE) {
        log!("some processes do not end; going down all the same");
    }
}

/// Waits until no process is left. Every process is a child of process 1 once its parent is gone.
fn wait_for_all(signals: &Signals, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        if reap(|_| ()) == Family::Gone {
            return true;
        }
        if signals.wait(Some(end)).is_none() {
            return false;
        }
    }
}

/// Writes everything to disk, makes file systems read-only, and ends the machine.
pub(super) fn end_machine(action: ShutdownAction, private: Option<OwnedFd>) -> ! {
    rustix::fs::sync();
    for target in ["/var/lib/docker", "/var/lib/containerd"] {
        let _ = unmount(target, UnmountFlags::NOFOLLOW);
    }
    if let Err(error) = mount_remount("/", MountFlags::RDONLY, "") {
        log!("the root stays writable: {error}");
    }
    if let Some(private) = private
        && let Err(error) = crate::boot::make_read_only(&private)
    {
        // Nothing is lost: it was synced above, and its journal is replayed at the next boot.
        log!("the private disk stays writable: {error}");
    }
    let command = match action {
        ShutdownAction::Poweroff => RebootCommand::PowerOff,
        ShutdownAction::Reboot => RebootCommand::Restart,
    };
    if let Err(error) = reboot(command) {
        log!("fatal: the kernel does not go down: {error}");
    }
    // A process 1 that ends makes the kernel panic, which ends the VMM, too.
    std::process::abort()
}
