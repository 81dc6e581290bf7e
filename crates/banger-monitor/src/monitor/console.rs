//! The serial console, and what follows from the kernel's last words there.
//!
//! Some VMMs end by themselves when the guest powers off or resets, but not when it halts; others stay after a power-off,
//! too. So a VMM whose guest has said its last word gets a moment, and is killed then: the guest has ended, in order
//! or not, and nothing that it still had to do is lost.
//!
//! A program of the guest can print the same words: the console of a VM inside the VM, say. Such a guest lives, so its
//! agent answers, and the words count for nothing. Where the VMM is stopped, or says that the virtual CPUs stand still, no
//! agent can: then it is seen when they go on.

use std::time::{Duration, Instant};

use banger_types::guest::GuestRequest;
use mio::Interest;
use rustix::process::Signal;

use super::{Monitor, VMM};
use crate::guest::agent::Asker;
use crate::guest::last_word::LastWord;
use crate::host::vmm::Question;

/// How long the console has to be silent before the guest is taken for ended. The processors that do not print stop
/// only after the words: until then an agent on one of them would still answer.
const SILENCE: Duration = Duration::from_millis(250);
/// How long an agent that was there may take to show that its guest lives.
const PROBE_LIMIT: Duration = Duration::from_millis(750);
/// How long the VMM may take to say whether its guest stands still.
const QUESTION_LIMIT: Duration = Duration::from_millis(500);

/// How often a VMM that stands still after its guest's last word is looked at: nothing tells when it goes on.
const LOOK: Duration = Duration::from_secs(1);

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
    /// The guest stands still. At this time, it is seen whether it does yet.
    Standing(Instant),
    /// At this time, the VMM is killed.
    Kill(Instant),
    /// Nothing: it was.
    Killed,
}

impl Farewell {
    /// Returns when there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Probe(deadline)
            | Step::Question(deadline)
            | Step::Standing(deadline)
            | Step::Kill(deadline) => Some(deadline),
            Step::Killed => None,
        }
    }

    /// The console was not silent.
    fn postpone(&mut self, now: Instant) {
        self.step = match self.step {
            Step::Probe(_) | Step::Standing(_) => Step::Probe(now + SILENCE),
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
        self.print_to_attachments(bytes);
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
        let Some(farewell) = &self.boot.farewell else { return };
        if farewell.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let step = farewell.step;
        if self.programs.vmm.stands_still() {
            if !matches!(step, Step::Standing(_)) {
                self.words.say("the VMM is stopped, so its guest's last words count for nothing yet");
            }
            return self.stand_still(now);
        }
        let next = match step {
            Step::Probe(_) if self.probe_agent() => Step::Question(now + PROBE_LIMIT),
            Step::Probe(_) | Step::Question(_) if self.question_vmm() => Step::Kill(now + QUESTION_LIMIT),
            // One that cannot be asked says nothing of its guest, which may stand still yet.
            Step::Standing(_) if self.spec.standing.is_some() => {
                if self.boot.question.is_none() {
                    self.question_vmm();
                }
                Step::Standing(now + LOOK)
            }
            Step::Standing(_) => Step::Probe(now),
            _ => return self.end_vmm(),
        };
        self.take_step(next);
    }

    /// Asks the agent whether it is there. Returns whether it could be asked.
    fn probe_agent(&mut self) -> bool {
        let asked =
            self.agent.as_mut().is_some_and(|agent| agent.ask(GuestRequest::Stats, Asker::Probe).is_ok());
        if asked {
            self.flush_channel();
        }
        asked
    }

    /// Asks the VMM whether its guest stands still. Returns whether it could be asked.
    fn question_vmm(&mut self) -> bool {
        let Some(terms) = &self.spec.standing else { return false };
        let Ok(mut question) = Question::ask(terms) else { return false };
        let registered = self.poll.registry().register(&mut question.vmm, VMM, Interest::READABLE).is_ok();
        if registered {
            self.boot.question = Some(question);
        }
        registered
    }

    fn take_step(&mut self, step: Step) {
        if let Some(farewell) = &mut self.boot.farewell {
            farewell.step = step;
        }
    }

    /// Its agent cannot answer now: it is asked when the guest goes on.
    fn stand_still(&mut self, now: Instant) {
        self.take_step(Step::Standing(now + LOOK));
    }

    /// Takes in what the VMM has answered, if it was asked.
    pub(crate) fn hear_vmm(&mut self, buffer: &mut [u8]) {
        let asked = self.boot.question.as_mut();
        let answer = asked.and_then(|question| question.answer(buffer));
        self.boot.question.take_if(|question| question.closed || answer.is_some());
        let Some(stands_still) = answer else { return };
        let Some(step) = self.boot.farewell.as_ref().map(|farewell| farewell.step) else { return };
        let now = Instant::now();
        match step {
            Step::Kill(_) | Step::Standing(_) if stands_still => self.stand_still(now),
            Step::Kill(_) => self.end_vmm(),
            // It goes on: its agent has to be asked anew.
            Step::Standing(_) => self.take_step(Step::Probe(now)),
            Step::Probe(_) | Step::Question(_) | Step::Killed => {}
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

    /// Its agent has answered: the last words were nothing but text.
    pub(crate) fn guest_is_alive(&mut self) {
        self.boot.farewell.take_if(|farewell| farewell.step != Step::Killed);
    }
}
