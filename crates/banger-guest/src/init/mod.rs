//! Process 1 of a guest whose image has no systemd.
//!
//! Starts the agent and starts it anew when it dies, takes in orphans, and ends the guest in order. One thread, one
//! `signalfd`: it does nothing but react.
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

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use banger_types::guest::ShutdownAction;
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

pub(crate) use self::announce::{Announcements, announced_by_systemd, is_systemd};
use self::signals::Signals;
use crate::{log, path};

/// An agent that dies younger than this is started anew only after [`PAUSE`].
const YOUNG: Duration = Duration::from_secs(1);
/// How long a dying agent is left alone.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Runs until the machine goes down. `private` is the private disk's directory.
pub(crate) fn run(private: Option<OwnedFd>) -> ! {
    crate::boot::complete_without_systemd();
    // Without it Ctrl-Alt-Del reboots at once (reboot(2), `LINUX_REBOOT_CMD_CAD_OFF`).
    let _ = reboot(RebootCommand::CadOff);
    let action = match Signals::open() {
        Ok(signals) => {
            let mut supervisor = Supervisor { agent: None, started: Instant::now() };
            let action = supervisor.run(&signals);
            shutdown::end_processes(&signals, supervisor.agent, action);
            action
        }
        Err(error) => {
            log!("fatal: open a signalfd: {error}");
            ShutdownAction::Poweroff
        }
    };
    shutdown::end_machine(action, private)
}

struct Supervisor {
    agent: Option<Pid>,
    /// When the agent was last started.
    started: Instant,
}

impl Supervisor {
    /// Keeps the agent running until a signal says how the guest is to end.
    fn run(&mut self, signals: &Signals) -> ShutdownAction {
        self.start();
        loop {
            let due = self.agent.is_none().then(|| self.started + PAUSE);
            let signal = signals.wait(due);
            if let Some(action) = signal.and_then(signals::action) {
                return action;
            }
            if reap(|pid| self.bury(pid)) == Family::Gone {
                self.agent = None;
            }
            if self.agent.is_none() && self.started.elapsed() >= YOUNG {
                self.start();
            }
        }
    }

    fn start(&mut self) {
        self.started = Instant::now();
        let child = Command::new(path::BINARY)
            .arg("agent")
            .env_clear()
            .env("PATH", DEFAULT_PATH)
            .stdin(Stdio::null())
            .spawn();
        match child {
            Ok(child) => self.agent = i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            Err(error) => log!("cannot start the agent: {error}"),
        }
    }

    fn bury(&mut self, pid: Pid) {
        if self.agent == Some(pid) {
            log!("the agent ended; it is started anew");
            self.agent = None;
        }
    }
}

/// Takes in every process that has ended.
fn reap(mut each: impl FnMut(Pid)) -> Family {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, _))) => each(pid),
            Ok(None) => return Family::Alive,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Family::Gone,
        }
    }
}
