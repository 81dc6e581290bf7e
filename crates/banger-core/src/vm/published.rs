//! What is shown of a VM, as a fold over what was seen.

use banger_types::guest::ShutdownAction;
use banger_types::monitor::{EndReason, MonitorPhase};
use banger_types::vm::VmState;

/// Something that was seen to have happened to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Its disk and its directory are complete.
    Made,
    /// A monitor was asked to launch it.
    Launching,
    /// It could not be launched; nothing of it runs.
    LaunchFailed(String),
    /// Its monitor said this.
    Monitor(MonitorPhase),
    /// Somebody asked for its end.
    StopAsked,
    /// Its virtual CPUs stand still.
    Paused,
    /// They go on.
    Resumed,
    /// They stand still, for the host has no room for what the guest has written.
    OutOfSpace,
    /// Its monitor is gone without a word. A VMM never outlives its monitor.
    MonitorLost,
    /// The host went down, and with it everything that ran.
    HostWentDown,
    /// Its monitor lives and does not answer.
    MonitorMute,
    /// It is being deleted.
    DeleteAsked,
}

/// The state that is shown of a VM, with the reason and a counter of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The state.
    pub state: VmState,
    /// Why, when that needs a word.
    pub reason: Option<String>,
    /// Grows by one at each change.
    pub generation: u64,
}

impl Published {
    /// Returns what is shown of a VM that has only just been asked for.
    pub const fn new() -> Self {
        Self { state: VmState::Creating, reason: None, generation: 0 }
    }

    /// Takes an observation in. Returns whether anything that is shown has changed.
    pub fn observe(&mut self, observation: &Observation) -> bool {
        let (state, reason) = match next(self, observation) {
            Next::Same => return false,
            Next::State(state) if state == self.state => return false,
            Next::State(state) | Next::Well(state) => (state, None),
            Next::Because(state, reason) => (state, Some(reason)),
        };
        let changed = state != self.state || reason != self.reason;
        if changed {
            self.state = state;
            self.reason = reason;
            self.generation += 1;
        }
        changed
    }
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}

/// What an observation makes of a state.
enum Next {
    /// Nothing.
    Same,
    /// This state; the reason for the state before goes with it.
    State(VmState),
    /// This state, with nothing to complain of, even if it is the same state.
    Well(VmState),
    /// This state, for this reason.
    Because(VmState, String),
}

fn next(published: &Published, observation: &Observation) -> Next {
    let state = published.state;
    // Nothing brings a VM back that is being deleted.
    if state == VmState::Deleting {
        return Next::Same;
    }
    match observation {
        Observation::DeleteAsked => Next::State(VmState::Deleting),
        Observation::Made => Next::State(VmState::Stopped),
        Observation::Launching => Next::State(VmState::Starting),
        Observation::LaunchFailed(why) => Next::Because(VmState::Failed, why.clone()),
        Observation::StopAsked if state.is_alive() => Next::State(VmState::Stopping),
        Observation::Paused if state == VmState::Running => Next::State(VmState::Paused),
        Observation::Resumed if state == VmState::Paused => Next::State(VmState::Running),
        Observation::OutOfSpace if matches!(state, VmState::Running | VmState::Paused) => {
            Next::Because(VmState::Paused, OUT_OF_SPACE.to_owned())
        }
        Observation::MonitorLost | Observation::HostWentDown if state == VmState::Stopping => {
            Next::State(VmState::Stopped)
        }
        Observation::MonitorLost => failed("its monitor ended unexpectedly"),
        Observation::HostWentDown => failed("the host went down while it ran"),
        Observation::MonitorMute if state.is_alive() => Next::Because(state, MUTE.to_owned()),
        Observation::StopAsked
        | Observation::Paused
        | Observation::Resumed
        | Observation::OutOfSpace
        | Observation::MonitorMute => Next::Same,
        // Its monitor does not know why it stands still; only an end is news.
        Observation::Monitor(phase)
            if is_out_of_space(published) && !matches!(phase, MonitorPhase::Ended(_)) =>
        {
            Next::Same
        }
        Observation::Monitor(phase) => monitor_says(state, phase),
    }
}

/// Why a VM is shown in the state that it had last.
const MUTE: &str = "its monitor does not answer: this is the last that is known of it";
/// Why sessions cannot be had in a VM that runs.
const AGENT_GONE: &str = "the guest's agent is not connected";

/// Why a VM is paused that nobody has paused.
const OUT_OF_SPACE: &str = "the host's file system has no room for what it writes: make room, then resume it";

fn is_out_of_space(published: &Published) -> bool {
    published.state == VmState::Paused && published.reason.as_deref() == Some(OUT_OF_SPACE)
}

fn failed(why: &str) -> Next {
    Next::Because(VmState::Failed, why.to_owned())
}

fn monitor_says(state: VmState, phase: &MonitorPhase) -> Next {
    match phase {
        // A VM that is asked to end does not come back, and one that stands still says nothing new: its monitor
        // tells of other things, such as forwards, with the phase that it had.
        MonitorPhase::Booting | MonitorPhase::Ready | MonitorPhase::Stopping(ShutdownAction::Reboot)
            if matches!(state, VmState::Stopping | VmState::Paused) =>
        {
            Next::Well(state)
        }
        // Whoever stops the agent has not stopped the VM. A guest that boots anew has said so before.
        MonitorPhase::Booting if state == VmState::Running => Next::Because(state, AGENT_GONE.to_owned()),
        // A guest that reboots is on its way to being up.
        MonitorPhase::Booting | MonitorPhase::Stopping(ShutdownAction::Reboot) => {
            Next::Well(VmState::Starting)
        }
        MonitorPhase::Ready => Next::Well(VmState::Running),
        MonitorPhase::Stopping(ShutdownAction::Poweroff) => Next::Well(VmState::Stopping),
        // What was given up before has ended now.
        MonitorPhase::Ended(_) if !state.is_alive() => Next::Same,
        MonitorPhase::Ended(reason) => ended(state, reason),
    }
}

/// A VM that was asked to end, or that said it would, is stopped; any other end is a failure.
fn ended(state: VmState, reason: &EndReason) -> Next {
    if reason.host_shutdown {
        return Next::Because(VmState::Stopped, "the host was going down".to_owned());
    }
    let expected = state == VmState::Stopping || reason.killed || reason.announced.is_some();
    if expected { Next::Well(VmState::Stopped) } else { failed(&reason.message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(announced: Option<ShutdownAction>, killed: bool) -> Observation {
        let message = "qemu was killed by signal 11".to_owned();
        Observation::Monitor(MonitorPhase::Ended(EndReason {
            code: None,
            signal: Some(11),
            announced,
            killed,
            host_shutdown: false,
            message,
        }))
    }

    fn after(observations: &[Observation]) -> Published {
        let mut published = Published::new();
        for observation in observations {
            published.observe(observation);
        }
        published
    }

    const READY: Observation = Observation::Monitor(MonitorPhase::Ready);

    #[test]
    fn an_end_that_nobody_asked_for_is_a_failure_with_its_reason() {
        let published = after(&[Observation::Made, Observation::Launching, READY, end(None, false)]);
        assert_eq!(published.state, VmState::Failed);
        assert_eq!(published.reason.as_deref(), Some("qemu was killed by signal 11"));
    }

    #[test]
    fn a_guest_that_announces_its_end_is_stopped() {
        let announced = Some(ShutdownAction::Poweroff);
        assert_eq!(after(&[Observation::Launching, READY, end(announced, false)]).state, VmState::Stopped);
        assert_eq!(after(&[Observation::Launching, READY, end(None, true)]).state, VmState::Stopped);
        assert_eq!(
            after(&[Observation::Launching, READY, Observation::StopAsked, end(None, false)]).state,
            VmState::Stopped
        );
    }

    #[test]
    fn a_late_ready_does_not_bring_a_stopping_vm_back() {
        let published = after(&[Observation::Launching, Observation::StopAsked, READY]);
        assert_eq!(published.state, VmState::Stopping);
    }

    #[test]
    fn a_guest_that_reboots_is_starting_and_then_runs() {
        let reboot = Observation::Monitor(MonitorPhase::Stopping(ShutdownAction::Reboot));
        let booting = Observation::Monitor(MonitorPhase::Booting);
        assert_eq!(after(&[Observation::Launching, READY, reboot.clone()]).state, VmState::Starting);
        assert_eq!(
            after(&[Observation::Launching, READY, reboot.clone(), booting, READY]).state,
            VmState::Running
        );
        let asked = after(&[Observation::Launching, READY, Observation::StopAsked, reboot]);
        assert_eq!(asked.state, VmState::Stopping);
    }

    #[test]
    fn a_vm_without_room_is_paused_and_says_why_until_it_goes_on() {
        let stalled = [Observation::Launching, READY, Observation::OutOfSpace, READY];
        let published = after(&stalled);
        assert_eq!(published.state, VmState::Paused);
        assert!(published.reason.is_some_and(|reason| reason.contains("make room")));
        let resumed = after(&[&stalled[..], &[Observation::Resumed]].concat());
        assert_eq!((resumed.state, resumed.reason), (VmState::Running, None));
        assert_eq!(after(&[&stalled[..], &[end(None, true)]].concat()).state, VmState::Stopped);
        // One that is asked to end does not come back.
        let stopping = [Observation::Launching, READY, Observation::StopAsked, Observation::OutOfSpace];
        assert_eq!(after(&stopping).state, VmState::Stopping);
        let paused = [Observation::Launching, READY, Observation::Paused, Observation::OutOfSpace];
        assert!(after(&paused).reason.is_some());
    }

    #[test]
    fn a_paused_vm_stays_paused_whatever_its_monitor_repeats() {
        let paused = [Observation::Launching, READY, Observation::Paused, READY];
        assert_eq!(after(&paused).state, VmState::Paused);
        assert_eq!(after(&[&paused[..], &[Observation::Resumed]].concat()).state, VmState::Running);
        assert_eq!(after(&[&paused[..], &[end(None, false)]].concat()).state, VmState::Failed);
        assert_eq!(after(&[Observation::Launching, Observation::Paused]).state, VmState::Starting);
    }

    #[test]
    fn a_guest_whose_agent_goes_still_runs_and_is_well_when_it_is_back() {
        let booting = Observation::Monitor(MonitorPhase::Booting);
        let mut published = after(&[Observation::Launching, booting.clone(), READY, booting]);
        assert_eq!(published.state, VmState::Running);
        assert_eq!(published.reason.as_deref(), Some(AGENT_GONE));
        assert!(published.observe(&READY));
        assert_eq!(published.reason, None);
    }

    #[test]
    fn a_mute_monitor_is_said_and_forgotten_with_its_next_word() {
        let mut published = after(&[Observation::Launching, READY, Observation::MonitorMute]);
        assert_eq!((published.state, published.reason.as_deref()), (VmState::Running, Some(MUTE)));
        published.observe(&READY);
        assert_eq!(published.reason, None);
        assert_eq!(after(&[Observation::Made, Observation::MonitorMute]).reason, None);
    }

    #[test]
    fn the_hosts_end_is_told_from_a_lost_monitor() {
        let lost = after(&[Observation::Launching, READY, Observation::HostWentDown]);
        assert_eq!(lost.state, VmState::Failed);
        assert_eq!(lost.reason.as_deref(), Some("the host went down while it ran"));
        let asked =
            after(&[Observation::Launching, READY, Observation::StopAsked, Observation::HostWentDown]);
        assert_eq!(asked.state, VmState::Stopped);
    }

    #[test]
    fn nothing_brings_a_vm_back_that_is_being_deleted() {
        let published =
            after(&[Observation::Made, Observation::DeleteAsked, READY, Observation::MonitorLost]);
        assert_eq!(published.state, VmState::Deleting);
    }

    #[test]
    fn the_generation_counts_changes_and_only_changes() {
        let mut published = after(&[Observation::Made, Observation::Launching]);
        assert_eq!(published.generation, 2);
        assert!(!published.observe(&Observation::Monitor(MonitorPhase::Booting)));
        assert_eq!(published.generation, 2);
    }
}
