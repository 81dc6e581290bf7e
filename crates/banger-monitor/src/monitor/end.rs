//! The VMM's end, and with it the monitor's.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use banger_types::monitor::{EndReason, MonitorPhase, MonitorReply};
use mio::Token;
use rustix::process::Signal;

use super::Monitor;
use super::client::State;
use crate::host::process::{Process, describe};

/// How long a helper may take to end after SIGTERM.
const HELPER_GRACE: Duration = Duration::from_secs(2);
/// How long clients may take to read what was for them.
const CLIENT_GRACE: Duration = Duration::from_secs(2);

/// The way down, once the VMM has ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The helpers have to end, and what the VMM left in pipes and sockets has to be read.
    Helpers { reason: EndReason, deadline: Instant, killed: bool },
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
    /// Returns the VMM.
    pub(crate) fn vmm(&self) -> &Process {
        &self.children[self.children.len() - 1]
    }

    /// Whether everything is done.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.ending, Some(Ending::Over))
    }

    /// Reaps children that have ended. Returns whether there were any.
    pub(crate) fn reap(&mut self) -> bool {
        if !std::mem::take(&mut self.child_ended) {
            return false;
        }
        let vmm = self.children.len() - 1;
        let ended: Vec<(usize, ExitStatus)> = self
            .children
            .iter_mut()
            .enumerate()
            .filter_map(|(index, child)| child.reap().map(|status| (index, status)))
            .collect();
        for (index, status) in &ended {
            self.words.say(&format!("{} {}", self.children[*index].name, describe(*status)));
            if *index == vmm {
                self.vmm_ended(*status);
            } else if self.ending.is_none() {
                let helper = format!("{} {}", self.children[*index].name, describe(*status));
                self.words.say("the VMM does not outlive its helpers");
                self.helper_failure.get_or_insert(helper);
                self.vmm().signal(Signal::KILL);
            }
        }
        !ended.is_empty()
    }

    fn vmm_ended(&mut self, status: ExitStatus) {
        let name = &self.vmm().name;
        let message = match &self.helper_failure {
            _ if self.killed => "killed on request".to_owned(),
            Some(helper) => format!("{helper}, so {name} was killed"),
            None => format!("{name} {}", describe(status)),
        };
        let reason = EndReason {
            code: status.code(),
            signal: status.signal(),
            announced: self.announced(),
            killed: self.killed,
            host_shutdown: false,
            message,
        };
        for helper in &self.children {
            helper.signal(Signal::TERM);
        }
        self.ending =
            Some(Ending::Helpers { reason, deadline: Instant::now() + HELPER_GRACE, killed: false });
    }

    /// Takes the next step of the end. `progress`: the round that was just made has moved something.
    pub(crate) fn advance_ending(&mut self, progress: bool) {
        let now = Instant::now();
        match &mut self.ending {
            None | Some(Ending::Over) => {}
            Some(Ending::Helpers { reason, deadline, killed }) => {
                let alive = self.children.iter().any(|child| !child.has_ended());
                let late = now >= *deadline;
                if late && !*killed {
                    for child in &self.children {
                        child.signal(Signal::KILL);
                    }
                    *killed = true;
                    *deadline = now + HELPER_GRACE;
                } else if late || (!alive && !progress) {
                    let reason = reason.clone();
                    self.publish_end(reason);
                    self.ending = Some(Ending::Clients { deadline: now + CLIENT_GRACE });
                    self.finish_if_told(now);
                }
            }
            Some(Ending::Clients { .. }) => self.finish_if_told(now),
        }
    }

    /// Tells everybody that the VMM has ended, and how.
    fn publish_end(&mut self, reason: EndReason) {
        self.close_forwards();
        self.board.update(|status| status.phase = MonitorPhase::Ended(reason));
        if let Err(error) = self.board.write() {
            self.words.complain("cannot write the state", &error);
        }
        self.tell_watchers();
        let waiting: Vec<(Token, State)> =
            self.clients.iter().map(|(token, client)| (*token, client.state)).collect();
        for (token, state) in waiting {
            match state {
                State::AwaitingEnd => self.answer(token, &MonitorReply::Done),
                State::AwaitingGuest | State::Opening(_) => {
                    self.answer(token, &MonitorReply::Failed("the VM has ended".to_owned()));
                }
                State::Idle | State::Watching { .. } | State::Closing => {}
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
    }

    /// Ends the loop when nobody has anything left to read, or takes too long.
    fn finish_if_told(&mut self, now: Instant) {
        let untold = self.clients.values().any(|client| client.has_output() || self.has_news_for(client))
            || self.splices.values().any(crate::guest::splice::Splice::has_output);
        let late = self.ending.as_ref().and_then(Ending::deadline).is_some_and(|deadline| now >= deadline);
        if !untold || late {
            self.ending = Some(Ending::Over);
        }
    }
}
