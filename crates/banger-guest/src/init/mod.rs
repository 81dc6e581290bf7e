//! Process 1 of a guest whose image has no systemd.
//!
//! Starts our other roles (the agent, and the image's service) and starts them anew when they die, takes in orphans, and ends
//! the guest in order. One thread, one `signalfd`: it does nothing but react.
//!
//! | signal | means | sent by |
//! |---|---|---|
//! | `SIGRTMIN+4`, `SIGRTMIN+3` | power off | our agent (systemd's numbers, see systemd(1)) |
//! | `SIGRTMIN+5` | reboot | our agent |
//! | `SIGUSR1`, `SIGUSR2` | power off | busybox's `halt` and `poweroff` |
//! | `SIGTERM` | reboot | busybox's `reboot` |
//! | `SIGINT` | reboot | the kernel, for Ctrl-Alt-Del |

mod announce;
mod shutdown;
pub(crate) mod signals;
mod supervisor;

use std::os::fd::OwnedFd;

use banger_types::guest::ShutdownAction;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use rustix::system::{RebootCommand, reboot};

pub(crate) use self::announce::{Announcements, announced_by_systemd, is_systemd};
use self::signals::Signals;
use self::supervisor::{Role, Supervisor};
use crate::log;

/// Environment of the agent, and so of everything in the guest, where the image says nothing else.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the kernel says when process 1 asks for children and there are none.
#[derive(Debug, PartialEq, Eq)]
enum Family {
    /// Some live.
    Alive,
    /// None is left.
    Gone,
}

/// Runs until the machine goes down. `private` is the private disk's directory; `service` says whether the image's command
/// runs.
pub(crate) fn run(private: Option<OwnedFd>, service: bool) -> ! {
    crate::boot::complete_without_systemd();
    // Without it Ctrl-Alt-Del reboots at once (reboot(2), `LINUX_REBOOT_CMD_CAD_OFF`).
    let _ = reboot(RebootCommand::CadOff);
    let action = match Signals::of_init() {
        Ok(signals) => {
            let service = service.then_some(Role::Service);
            let roles: Vec<Role> = [Role::Agent, Role::Console].into_iter().chain(service).collect();
            let mut supervisor = Supervisor::new(&roles);
            let action = supervisor.run(&signals);
            shutdown::end_processes(&signals, &mut supervisor, action);
            action
        }
        Err(error) => {
            log!("fatal: open a signalfd: {error}");
            ShutdownAction::Poweroff
        }
    };
    shutdown::end_machine(action, private)
}

/// Takes in every process that has ended.
fn reap(mut each: impl FnMut(Pid, WaitStatus)) -> Family {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => each(pid, status),
            Ok(None) => return Family::Alive,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Family::Gone,
        }
    }
}
