//! The end of a guest without systemd, in order: processes, then file systems, then the machine.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use banger_types::guest::ShutdownAction;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};

use super::Family;
use super::signals::{self, Signals};
use super::supervisor::{Role, Supervisor};
use crate::log;

/// How long processes may take to end after they were asked to: the service, and then all others.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of that is left for all others when the service takes everything.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// How long the kernel may take to end those that were killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process but this one. The agent hears first why, so that it can tell the host; and the service ends before the
/// others are asked to, since all get the same signal then, and it may want another.
pub(super) fn end_processes(signals: &Signals, supervisor: &mut Supervisor, action: ShutdownAction) {
    if let Some(agent) = supervisor.process(Role::Agent) {
        let _ = signals::send(agent, signals::request(action));
    }
    let end = Instant::now() + PATIENCE;
    if let Some(service) = supervisor.process(Role::Service) {
        let _ = signals::send(service, libc::SIGTERM);
        let ended = |supervisor: &Supervisor| supervisor.process(Role::Service).is_none();
        wait_until(signals, supervisor, end, |supervisor, _| ended(supervisor));
    }
    signals::send_to_all(libc::SIGTERM);
    // Who is stopped would not even notice.
    signals::send_to_all(libc::SIGCONT);
    // Every process is a child of process 1 once its parent is gone.
    let all = |_: &Supervisor, family| family == Family::Gone;
    if wait_until(signals, supervisor, end.max(Instant::now() + LEAST_PATIENCE), all) {
        return;
    }
    signals::send_to_all(libc::SIGKILL);
    if !wait_until(signals, supervisor, Instant::now() + KILL_PATIENCE, all) {
        log!("some processes do not end; going down all the same");
    }
}

/// Takes in processes until `enough` holds; returns false when `end` has come first.
fn wait_until(
    signals: &Signals,
    supervisor: &mut Supervisor,
    end: Instant,
    enough: impl Fn(&Supervisor, Family) -> bool,
) -> bool {
    loop {
        let family = supervisor.reap();
        if enough(supervisor, family) {
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
