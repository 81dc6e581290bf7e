//! The serial console, and what follows from the kernel's last words there.
//!
//! Some VMMs end by themselves when the guest powers off or resets, but not when it halts; others stay after a power-off,
//! too. So a VMM whose guest has said its last word gets a moment, and is killed then: the guest has ended, in order
//! or not, and nothing that it still had to do is lost.
//!
//! A program of the guest can print the same words: the console of a VM inside the VM, say. Such a guest lives, so its
//! agent answers, and the words count for nothing. Nor do they where the VMM is stopped, or says that the virtual CPUs
//! stand still: no agent answers then.

use std::time::{Duration, Instant};

use banger_types::guest::GuestRequest;
use mio::Interest;
use rustix::process::Signal;

use super::{Monitor, VMM};
use crate::guest::agent::Asker;
use crate::guest::last_word::LastWord;
use crate::guest::vmm::Question;

/// How long the console has to be silent before the guest is taken for ended. The processors that do not print stop
/// only after the words: until then an agent on one of them would still answer.
const SILENCE: Duration = Duration::from_millis(250);
/// How long an agent that was there may take to show that its guest lives.
const PROBE_LIMIT: Duration = Duration::from_millis(750);
/// How long the VMM may take to say whether its guest stands still.
const QUESTION_LIMIT: Duration = Duration::from_millis(500);

/// What the guest's kernel said last, and what follows.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(crate) word: LastWord,
    pub(crate) step: Step,
}

/// What has to be done about a [`Farewell`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// At this time, the agent is asked whether it is still there.
    Probe(Instant),
    /// At this time, the VMM is asked whether its guest stands still.
    Question(Instant),
    /// At this time, the VMM is killed.
    Kill(Instant),
    /// Nothing: it was.
    Killed,
}

impl Farewell {
    /// Returns when there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Probe(deadline) | Step::Question(deadline) | Step::Kill(deadline) => Some(deadline),
            Step::Killed => None,
        }
    }

    /// The console was not silent.
    fn postpone(&mut self, now: Instant) {
        self.step = match self.step {
            Step::Probe(_) => Step::Probe(now + SILENCE),
            Step::Question(_) | Step::Kill(_) => Step::Question(now + PROBE_LIMIT),
            Step::Killed => Step::Killed,
        };
    }
}

impl Monitor {
    /// Reads from the console. Returns whether there was anything.
    pub(crate) fn pump_console(&mut self, buffer: &mut [u8]) -> bool {
        let Some(bytes) = self.serial.pump(buffer) else { return false };
        self.boot_log.write(bytes);
        let now = Instant::now();
        if let Some(farewell) = &mut self.boot.farewell {
            farewell.postpone(now);
        }
        if let Some(word) = self.boot.listener.hear(bytes) {
            match &mut self.boot.farewell {
                // The machine may be reset after a panic, but that was not the guest's will.
                Some(farewell) if matches!(farewell.word, LastWord::Panicked(_)) => {}
                Some(farewell) => farewell.word = word,
                empty => *empty = Some(Farewell { word, step: Step::Probe(now + SILENCE) }),
            }
        }
        true
    }

    /// Takes the next step after the kernel's last word, if that is due.
    pub(crate) fn follow_farewell(&mut self, now: Instant) {
        let Some(farewell) = &mut self.boot.farewell else { return };
        if farewell.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if matches!(farewell.step, Step::Probe(_))
            && let Some(agent) = &mut self.agent
            && agent.ask(GuestRequest::Stats, Asker::Probe).is_ok()
        {
            farewell.step = Step::Question(now + PROBE_LIMIT);
            self.flush_channel();
            return;
        }
        if self.programs.vmm.stands_still() {
            self.words.say("the VMM is stopped, so its guest's last words count for nothing");
            self.guest_is_alive();
            return;
        }
        if !matches!(farewell.step, Step::Kill(_))
            && let Some(terms) = &self.spec.standing
            && let Ok(mut question) = Question::ask(terms)
            && self.poll.registry().register(&mut question.vmm, VMM, Interest::READABLE).is_ok()
        {
            farewell.step = Step::Kill(now + QUESTION_LIMIT);
            self.boot.question = Some(question);
            return;
        }
        self.end_vmm();
    }

    /// Takes in what the VMM has answered, if it was asked.
    pub(crate) fn hear_vmm(&mut self, buffer: &mut [u8]) {
        let asked = self.boot.question.as_mut();
        let Some(stands_still) = asked.and_then(|question| question.answer(buffer)) else { return };
        self.boot.question = None;
        let waiting = matches!(&self.boot.farewell, Some(Farewell { step: Step::Kill(_), .. }));
        if stands_still {
            self.guest_is_alive();
        } else if waiting {
            self.end_vmm();
        }
    }

    /// The guest is dead: its VMM follows.
    fn end_vmm(&mut self) {
        self.boot.question = None;
        if let Some(farewell) = &mut self.boot.farewell {
            farewell.step = Step::Killed;
        }
        self.words.say("the guest's kernel has ended, so the VMM is ended");
        self.programs.vmm.signal(Signal::KILL);
    }

    /// Its agent has answered, or its VMM that it stands still: the last words were nothing but text.
    pub(crate) fn guest_is_alive(&mut self) {
        self.boot.farewell.take_if(|farewell| farewell.step != Step::Killed);
    }
}
