//! Our other roles, kept running.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use banger_types::guest::ShutdownAction;
use rustix::process::{Pid, WaitStatus};

use super::signals::{self, Signals};
use super::{DEFAULT_PATH, Family, reap};
use crate::{log, path};

/// What dies younger than this is started anew only after [`PAUSE`].
const YOUNG: Duration = Duration::from_secs(1);
/// How long what dies young is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A role of this program that process 1 keeps running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// [`crate::agent`]
    Agent,
    /// [`crate::console`]
    Console,
    /// [`crate::service`]
    Service,
}

impl Role {
    /// The first argument, by which the program knows its role.
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Console => "console",
            Self::Service => "service",
        }
    }
}

/// A role's process.
#[derive(Debug)]
struct Charge {
    role: Role,
    process: Option<Pid>,
    /// When it was last started.
    started: Option<Instant>,
    /// It has ended because there is nothing (more) to do.
    done: bool,
}

impl Charge {
    /// Returns when it is to be started, which may be `now`; `None` while it runs, and when it is done.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.process.is_some() || self.done {
            return None;
        }
        Some(match self.started {
            Some(started) if now < started + YOUNG => started + PAUSE,
            _ => now,
        })
    }

    fn start(&mut self) {
        if self.started.is_some() {
            log!("the {} has ended; it is started anew", self.role.name());
        }
        self.started = Some(Instant::now());
        let child = Command::new(path::BINARY)
            .arg(self.role.name())
            .env_clear()
            .env("PATH", DEFAULT_PATH)
            .stdin(Stdio::null())
            .spawn();
        match child {
            Ok(child) => self.process = i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            Err(error) => log!("cannot start the {}: {error}", self.role.name()),
        }
    }

    fn bury(&mut self, status: WaitStatus) {
        self.process = None;
        // The agent never ends by itself; the others do when there is no command, or no line.
        self.done = self.role != Role::Agent && status.exit_status() == Some(0);
    }
}

/// All roles' processes.
#[derive(Debug)]
pub(super) struct Supervisor(Vec<Charge>);

impl Supervisor {
    /// Returns a supervisor of roles that are not running yet.
    pub(super) fn new(roles: &[Role]) -> Self {
        let charge = |&role| Charge { role, process: None, started: None, done: false };
        Self(roles.iter().map(charge).collect())
    }

    /// Keeps everything running until a signal says how the guest is to end.
    pub(super) fn run(&mut self, signals: &Signals) -> ShutdownAction {
        loop {
            let now = Instant::now();
            for charge in self.0.iter_mut().filter(|charge| charge.due(now).is_some_and(|due| due <= now)) {
                charge.start();
            }
            let due = self.0.iter().filter_map(|charge| charge.due(now)).min();
            if let Some(action) = signals.wait(due).and_then(signals::action) {
                return action;
            }
            self.reap();
        }
    }

    /// Takes in what has ended.
    pub(super) fn reap(&mut self) -> Family {
        let family = reap(|pid, status| {
            if let Some(charge) = self.0.iter_mut().find(|charge| charge.process == Some(pid)) {
                charge.bury(status);
            }
        });
        if family == Family::Gone {
            self.0.iter_mut().for_each(|charge| charge.process = None);
        }
        family
    }

    /// Returns a role's process while it runs.
    pub(super) fn process(&self, role: Role) -> Option<Pid> {
        self.0.iter().find(|charge| charge.role == role).and_then(|charge| charge.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dies_young_is_left_alone_and_what_is_done_for_good() {
        let now = Instant::now();
        let mut charge = Charge { role: Role::Agent, process: None, started: None, done: false };
        assert_eq!(charge.due(now), Some(now), "at once");
        charge.started = Some(now);
        assert_eq!(charge.due(now + YOUNG / 2), Some(now + PAUSE));
        assert_eq!(charge.due(now + YOUNG), Some(now + YOUNG), "it was old enough");
        charge.process = Pid::from_raw(7);
        assert_eq!(charge.due(now), None);
        charge.process = None;
        charge.done = true;
        assert_eq!(charge.due(now), None);
    }
}
