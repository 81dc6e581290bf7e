//! The VMM's end, and with it the monitor's, unless the guest reboots.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use banger_types::error::chain;
use banger_types::monitor::{EndReason, MonitorPhase, MonitorReply};
use mio::Token;
use rustix::process::Signal;

use super::Monitor;
use super::attachments::Attachment;
use super::client::State;
use super::console::{Farewell, Step};
use crate::guest::last_word::LastWord;
use crate::host::process::describe;

/// How long a helper may take to end when its VMM is gone, and with it the socket to it; and again after SIGKILL.
const HELPER_GRACE: Duration = Duration::from_secs(1);
/// How long clients may take to read what was for them.
const CLIENT_GRACE: Duration = Duration::from_secs(2);

/// The way down, once the VMM has ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The helpers have to end, and what the VMM left in pipes and sockets has to be read.
    Helpers { status: ExitStatus, deadline: Instant, killed: bool },
    /// The end is published; clients read the last of it.
    Clients { deadline: Instant },
    /// There is nothing left to do.
    Over,
}

impl Ending {
    /// Returns when the next step is taken in any case.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Helpers { deadline, .. } | Self::Clients { deadline } => Some(*deadline),
            Self::Over => None,
        }
    }
}

impl Monitor {
    /// Whether everything is done.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.ending, Some(Ending::Over))
    }

    /// Reaps children that have ended. Returns whether there were any.
    pub(crate) fn reap(&mut self) -> bool {
        if !std::mem::take(&mut self.child_ended) {
            return false;
        }
        // The VMM first: a helper may end because its VMM did.
        let vmm = self.programs.vmm.reap();
        if let Some(status) = vmm {
            self.words.say(&format!("{} {}", self.programs.vmm.name, describe(status)));
            self.vmm_ended(status);
        }
        let helpers: Vec<String> = self
            .programs
            .helpers
            .iter_mut()
            .filter_map(|helper| helper.reap().map(|status| format!("{} {}", helper.name, describe(status))))
            .collect();
        for helper in &helpers {
            self.words.say(helper);
            self.helper_ended(helper);
        }
        vmm.is_some() || !helpers.is_empty()
    }

    fn vmm_ended(&mut self, status: ExitStatus) {
        self.ending =
            Some(Ending::Helpers { status, deadline: Instant::now() + HELPER_GRACE, killed: false });
    }

    fn helper_ended(&mut self, how: &str) {
        // The guest is on its way down with the host, and gets its time.
        if self.ending.is_some() || self.host_shutdown {
            return;
        }
        self.words.say("the VMM does not outlive its helpers");
        self.boot.helper_failure.get_or_insert_with(|| how.to_owned());
        self.programs.vmm.signal(Signal::KILL);
    }

    /// Ends a VMM whose guest does not go down with the host.
    pub(crate) fn kill_for_host(&mut self) {
        self.words.say("the guest does not power off in time, so the VMM is killed");
        self.boot.killed_for_host = true;
        self.programs.vmm.signal(Signal::KILL);
    }

    /// Takes the next step of the end. `heard`: there may be more to come of what the VMM and its helpers said.
    pub(crate) fn advance_ending(&mut self, now: Instant, heard: bool) {
        match &mut self.ending {
            None | Some(Ending::Over) => {}
            Some(Ending::Helpers { status, deadline, killed }) => {
                let alive = self.programs.iter().any(|program| !program.has_ended());
                let late = now >= *deadline;
                if late && alive && !*killed {
                    for program in self.programs.iter() {
                        program.signal(Signal::KILL);
                    }
                    *killed = true;
                    *deadline = now + HELPER_GRACE;
                } else if late || (!alive && !heard) {
                    let status = *status;
                    self.conclude(status, now);
                }
            }
            Some(Ending::Clients { .. }) => self.finish_if_told(now),
        }
    }

    /// Nothing is left of the VMM: starts it again if the guest reboots, and tells everybody otherwise.
    fn conclude(&mut self, status: ExitStatus, now: Instant) {
        let mut reason = self.end_reason(status);
        if self.reboots(&reason) {
            match self.boot_again() {
                Ok(()) => {
                    self.ending = None;
                    return;
                }
                Err(error) => {
                    self.words.complain("the guest cannot be started again", &error);
                    reason.announced = None;
                    reason.message =
                        format!("the guest rebooted, but cannot be started again: {}", chain(&error));
                }
            }
        }
        self.publish_end(reason);
        self.ending = Some(Ending::Clients { deadline: now + CLIENT_GRACE });
        self.finish_if_told(now);
    }

    fn end_reason(&self, status: ExitStatus) -> EndReason {
        let announced = match &self.boot.farewell {
            // The kernel knows better than the agent.
            Some(farewell) => farewell.word.action(),
            None => self.announced(),
        };
        EndReason {
            code: status.code(),
            signal: status.signal(),
            announced,
            killed: self.boot.killed,
            host_shutdown: self.host_shutdown,
            message: self.end_message(status),
        }
    }

    fn end_message(&self, status: ExitStatus) -> String {
        let name = &self.programs.vmm.name;
        if self.boot.killed {
            return "killed on request".to_owned();
        }
        // One that ends by itself, be it a moment before it would have been killed, was not killed.
        let by_kill = status.signal() == Some(libc::SIGKILL);
        match (&self.boot.farewell, &self.boot.helper_failure) {
            (Some(Farewell { word: LastWord::Panicked(text), .. }), _) => {
                format!("the guest's kernel panicked: {text}")
            }
            (Some(Farewell { word, step: Step::Killed }), _) if by_kill => {
                let what = match word {
                    LastWord::PoweredOff => "powered off",
                    LastWord::Restarting => "rebooted",
                    LastWord::Halted | LastWord::Panicked(_) => "halted",
                };
                format!("the guest has {what}, so {name} was ended")
            }
            _ if by_kill && self.boot.killed_for_host => {
                let limit = self.shutdown_limit.as_secs();
                format!(
                    "the host goes down and the guest did not power off within {limit} s, so {name} was killed"
                )
            }
            (_, Some(helper)) if by_kill => format!("{helper}, so {name} was killed"),
            _ => format!("{name} {}", describe(status)),
        }
    }

    /// Tells everybody that the VMM has ended, and how.
    fn publish_end(&mut self, reason: EndReason) {
        self.close_forwards();
        self.board.update(|status| status.phase = MonitorPhase::Ended(reason));
        self.publish_now();
        self.tell_watchers();
        let waiting: Vec<(Token, State)> =
            self.clients.iter().map(|(token, client)| (*token, client.state)).collect();
        for (token, state) in waiting {
            match state {
                State::AwaitingEnd => self.answer(token, &MonitorReply::Done),
                State::AwaitingGuest | State::Opening(_) => {
                    self.answer(token, &MonitorReply::Failed("the VM has ended".to_owned()));
                }
                State::Idle | State::Watching { .. } | State::Attaching | State::Closing => {}
            }
        }
        for splice in self.splices.values_mut() {
            splice.guest_gone();
        }
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        for token in tokens {
            self.pump_client(token, &mut []);
        }
        self.pump_splices(&mut []);
        self.pump_attachments(&mut []);
    }

    /// Ends the loop when nobody has anything left to read, or takes too long.
    fn finish_if_told(&mut self, now: Instant) {
        let untold = self.clients.values().any(|client| client.has_output() || self.has_news_for(client))
            || self.splices.values().any(crate::guest::splice::Splice::has_output)
            || self.attachments.values().any(Attachment::has_output);
        let late = self.ending.as_ref().and_then(Ending::deadline).is_some_and(|deadline| now >= deadline);
        if !untold || late {
            self.ending = Some(Ending::Over);
        }
    }
}
